//! Reading request bodies: bounded in size, before and after decompression, and in time, and checked before they are parsed.

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
use tokio::time::{Instant, timeout_at};

/// A body of which nothing comes for this long is given up. One that keeps coming over a slow line may take longer.
const STILL_TIME_MAX: Duration = Duration::from_secs(30);
/// The rate below which a line is too slow, bytes a second: what a phone has at the edge of its network.
const RATE_MIN: usize = 4 * 1024;
/// The time of the largest body at that rate, with one pause. It bounds what somebody who sends byte by byte can hold.
const BODY_TIME_MAX: Duration = STILL_TIME_MAX.saturating_add(Duration::from_secs((BODY_BYTES_MAX / RATE_MIN) as u64));
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
    let raw = collect(body).await?;
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
    let end = Instant::now() + BODY_TIME_MAX;
    loop {
        let frame = match timeout_at(end.min(Instant::now() + STILL_TIME_MAX), body.frame()).await {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(_) if length > BODY_BYTES_MAX => break,
            Err(_) => return Err(ServerError::Timeout),
        };
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

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

    /// Sends `count` bytes of a body of 100 over a real socket, one each time `pause` has passed, then nothing more. What it
    /// was answered, and when. The clock stands still unless everybody waits for it.
    async fn trickle(count: usize, pause: Duration) -> (String, Duration) {
        let read = |headers: HeaderMap, body: Body| async move {
            read_json::<serde_json::Value>(&headers, body).await.map_or_else(|error| error.code(), |_| "ok")
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = axum::Router::new().route("/", axum::routing::post(read));
        let server = tokio::spawn(axum::serve(listener, routes).into_future());
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let start = Instant::now();
        let head = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 100\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let sender = tokio::spawn(async move {
            for at in 0..count {
                tokio::time::sleep(pause).await;
                let byte = if at == 99 { b"1" } else { b" " };
                // Who was given up cannot send on.
                if writer.write_all(byte).await.is_err() {
                    break;
                }
            }
            // Dropped, it would end the body.
            writer
        });
        let mut answer = String::new();
        reader.read_to_string(&mut answer).await.unwrap();
        let took = start.elapsed();
        sender.abort();
        server.abort();
        (answer.rsplit("\r\n").next().unwrap().to_owned(), took)
    }

    #[tokio::test(start_paused = true)]
    async fn s7_a_slow_body_that_keeps_coming_is_read_to_its_end() {
        let (answer, took) = trickle(100, Duration::from_secs(2)).await;
        assert_eq!(answer, "ok");
        assert!(took >= Duration::from_secs(200), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn s7_a_body_that_stops_is_given_up_30_s_after_its_last_byte() {
        let (answer, took) = trickle(3, Duration::from_secs(20)).await;
        assert_eq!((answer.as_str(), took.as_secs()), ("timeout", 60 + 30));
    }

    #[tokio::test(start_paused = true)]
    async fn s7_a_body_that_never_ends_is_given_up_when_its_size_has_no_more_time() {
        let (answer, took) = trickle(99, Duration::from_secs(29)).await;
        assert_eq!((answer.as_str(), took.as_secs()), ("timeout", BODY_TIME_MAX.as_secs()));
        assert_eq!(BODY_TIME_MAX.as_secs(), 30 + 272);
    }
}
