//! Requests: JSON over fetch, compressed above a threshold, aborted after a limit.

use crate::clock;
use gloo_net::http::{Headers, Request};
use gloo_timers::callback::Timeout;
use js_sys::Uint8Array;
use landfall_protocol::limits;
use landfall_replica::{HttpRequest, HttpResponse, NetworkError};
use std::cell::Cell;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortController, ReadableWritablePair, RequestCredentials, RequestInit, Response};

#[wasm_bindgen]
extern "C" {
    /// Not in web-sys; as an object with `readable` and `writable` it is a pair to pipe through.
    #[wasm_bindgen(extends = ReadableWritablePair)]
    type CompressionStream;
    #[wasm_bindgen(constructor, catch)]
    fn new(format: &str) -> Result<CompressionStream, JsValue>;
}

/// Sends one request and reads the whole answer.
pub(crate) struct Net {
    pub(crate) url: String,
    pub(crate) cookies: bool,
    gzip_above_bytes: usize,
    /// Compression failed once: this browser has none.
    plain: Cell<bool>,
    /// The page is about to end: what begins now goes on without it.
    pub(crate) parts: Cell<bool>,
}

impl Net {
    pub(crate) fn new(url: String, cookies: bool, gzip_above_bytes: usize) -> Self {
        Self {
            url,
            cookies,
            gzip_above_bytes,
            parts: Cell::new(false),
            plain: Cell::new(js_sys::Reflect::has(&js_sys::global(), &"CompressionStream".into()) != Ok(true)),
        }
    }

    pub(crate) async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse, NetworkError> {
        let abort = AbortController::new().map_err(|_| NetworkError)?;
        let abort_after = |ms: u64| {
            let abort = abort.clone();
            Timeout::new(ms as u32, move || abort.abort())
        };
        let upload_ms = request.body.as_ref().map_or(0, |text| text.len() as u64 / limits::UPLOAD_BYTES_PER_MS);
        let started = clock::now().get() + upload_ms;
        let headers_ms = if request.method == "GET" { limits::PROBE_MS_MAX } else { limits::HEADERS_MS_MAX };
        let headers_late = abort_after(headers_ms + upload_ms);
        // An address of its own is the refresh endpoint, which lives on a cookie.
        let own = !request.path.starts_with('/');
        let url = if own { request.path.clone() } else { [self.url.as_str(), &request.path].concat() };
        // gloo's builder parses the address to add a query to it, and knows all methods; both are code that nobody needs.
        let (init, headers) = (RequestInit::new(), Headers::new());
        init.set_method(request.method);
        init.set_signal(Some(&abort.signal()));
        if own || self.cookies {
            init.set_credentials(RequestCredentials::Include);
        }
        if let Some(token) = &request.token {
            headers.set("authorization", &["Bearer ", token].concat());
        }
        if let Some(text) = request.body {
            headers.set("content-type", "application/json");
            if self.parts.get() && text.len() <= limits::KEEPALIVE_BYTES_MAX {
                // Not in web-sys.
                let _ = js_sys::Reflect::set(&init, &"keepalive".into(), &true.into());
            }
            match self.compressed(&text).await {
                Some(bytes) => {
                    headers.set("content-encoding", "gzip");
                    init.set_body(&bytes);
                }
                None => init.set_body(&text.into()),
            }
        }
        init.set_headers(&headers.into_raw());
        let sent = web_sys::Request::new_with_str_and_init(&url, &init).map_err(|_| NetworkError)?;
        let response = Request::from(sent).send().await.map_err(|_| NetworkError)?;
        drop(headers_late);
        let left = (started + limits::REQUEST_MS_MAX).saturating_sub(clock::now().get());
        let _body_late = abort_after(left.min(limits::BODY_MS_MAX));
        let body = response.text().await.map_err(|_| NetworkError)?;
        // Seconds; the date form is not used by this protocol's servers.
        let retry_after = response.headers().get("retry-after").and_then(|text| text.trim_ascii().parse::<u64>().ok());
        Ok(HttpResponse { status: response.status(), retry_after_ms: retry_after.map(|seconds| seconds * 1000), body })
    }

    async fn compressed(&self, text: &str) -> Option<Uint8Array> {
        // That takes time, and a page that is about to end has none.
        if text.len() < self.gzip_above_bytes || self.plain.get() || self.parts.get() {
            return None;
        }
        let bytes = gzip(text).await;
        self.plain.set(bytes.is_none());
        bytes
    }
}

async fn gzip(text: &str) -> Option<Uint8Array> {
    let stream = CompressionStream::new("gzip").ok()?;
    // Not by way of a blob: the browser registers each one with another process, which takes longer than the packing.
    let compressed = Response::new_with_opt_str(Some(text)).ok()?.body()?.pipe_through(&stream);
    let response = Response::new_with_opt_readable_stream(Some(&compressed)).ok()?;
    let buffer = JsFuture::from(response.array_buffer().ok()?).await.ok()?;
    Some(Uint8Array::new(&buffer))
}
