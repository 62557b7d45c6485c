//! Reading request bodies: bounded before and after decompression, and checked before they are parsed.

use crate::error::ServerError;
use axum::body::Body;
use axum::http::{HeaderMap, header};
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt;
use landfall_protocol::limits::{BODY_BYTES_MAX, JSON_DEPTH_MAX};
use landfall_protocol::{JsonError, check_depth};
use serde::de::DeserializeOwned;
use std::io::Read;
use std::time::Duration;

/// A body that takes longer to arrive is given up.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);
/// How much of an oversized body is read on, so that the peer gets to read the answer.
const DRAIN_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Levels of a push above a record: the request, its list of mutations, the mutation.
const ENVELOPE_DEPTH: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
}

/// Reads a JSON body.
pub async fn read_json<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, ServerError> {
    let encoding = encoding(headers)?;
    let raw = tokio::time::timeout(BODY_TIME_MAX, collect(body)).await.map_err(|_| ServerError::Timeout)??;
    let bytes = match encoding {
        Encoding::Identity => raw,
        Encoding::Gzip => inflate(&raw)?,
    };
    parse(&bytes)
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, ServerError> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(Encoding::Identity),
        (Some(value), None) if value.as_bytes().eq_ignore_ascii_case(b"gzip") => Ok(Encoding::Gzip),
        (Some(value), None) if value.as_bytes().eq_ignore_ascii_case(b"identity") => Ok(Encoding::Identity),
        (Some(_), _) => Err(ServerError::UnsupportedEncoding),
    }
}

async fn collect(mut body: Body) -> Result<Vec<u8>, ServerError> {
    let mut bytes = Vec::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ServerError::Malformed("the body ended early".to_owned()))?;
        let Some(data) = frame.data_ref() else { continue };
        length += data.len();
        if length <= BODY_BYTES_MAX {
            bytes.extend_from_slice(data);
        } else if length > DRAIN_BYTES_MAX {
            break;
        }
    }
    if length > BODY_BYTES_MAX { Err(too_large()) } else { Ok(bytes) }
}

/// Stops at the limit, whatever a small body would become.
fn inflate(raw: &[u8]) -> Result<Vec<u8>, ServerError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(BODY_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    MultiGzDecoder::new(raw)
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|_| ServerError::Malformed("the body is no gzip".to_owned()))?;
    if bytes.len() > BODY_BYTES_MAX { Err(too_large()) } else { Ok(bytes) }
}

fn too_large() -> ServerError {
    ServerError::TooLarge(format!("a body has at most {BODY_BYTES_MAX} bytes, unpacked"))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ServerError> {
    let malformed = |reason: &str| ServerError::Malformed(reason.to_owned());
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("the body is no UTF-8"))?;
    check_depth(text, JSON_DEPTH_MAX + ENVELOPE_DEPTH).map_err(|error| match error {
        JsonError::TooDeep => malformed("the JSON is nested too deep"),
        JsonError::DuplicateKey => malformed("an object has the same key twice"),
        JsonError::Malformed => malformed("the body is no JSON"),
    })?;
    serde_json::from_str(text).map_err(|error| ServerError::Malformed(format!("the body cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }
    fn headers(encoding: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_ENCODING, encoding.parse().unwrap())])
    }
    async fn code(headers: HeaderMap, body: Vec<u8>) -> &'static str {
        match read_json::<serde_json::Value>(&headers, Body::from(body)).await {
            Ok(_) => "ok",
            Err(error) => error.code(),
        }
    }

    #[tokio::test]
    async fn bad_bodies_are_refused_by_name() {
        assert_eq!(code(headers("gzip"), gzip(b"{\"a\":1}")).await, "ok");
        assert_eq!(code(headers("identity"), b"[]".to_vec()).await, "ok");
        assert_eq!(code(headers("br"), b"{}".to_vec()).await, "unsupported_encoding");
        assert_eq!(code(headers("gzip"), b"{}".to_vec()).await, "malformed");
        assert_eq!(code(HeaderMap::new(), b"{\"a\":1,\"a\":2}".to_vec()).await, "malformed");
        assert_eq!(code(HeaderMap::new(), b"{\"a\":1".to_vec()).await, "malformed");
        assert_eq!(code(HeaderMap::new(), vec![0xff]).await, "malformed");
        let deep = |levels: usize| [vec![b'['; levels], vec![b']'; levels]].concat();
        assert_eq!(code(HeaderMap::new(), deep(JSON_DEPTH_MAX + 3)).await, "ok");
        assert_eq!(code(HeaderMap::new(), deep(JSON_DEPTH_MAX + 4)).await, "malformed");
        assert_eq!(code(HeaderMap::new(), vec![b' '; BODY_BYTES_MAX + 1]).await, "too_large");
    }

    #[tokio::test]
    async fn a_gzip_bomb_is_refused_at_the_limit() {
        let bomb = gzip(&vec![b' '; 64 * 1024 * 1024]);
        assert!(bomb.len() < BODY_BYTES_MAX / 8);
        assert_eq!(code(headers("gzip"), bomb).await, "too_large");
    }
}
