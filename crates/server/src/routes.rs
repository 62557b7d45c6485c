//! The HTTP side: which path does what, and what every answer carries.
//!
//! A push is checked in this order: size and encoding, JSON, protocol, token, user; then the service judges it.

use crate::admin;
use crate::auth::{Identity, Tokens};
use crate::body::read_json;
use crate::compat;
use crate::decide;
use crate::dev::{self, Faults};
use crate::error::{Refusal, ServerError};
use crate::live::{Hub, Live};
use crate::metrics;
use crate::openapi;
use crate::rate::{Allowance, Kind, Limiter};
use crate::service::Service;
use crate::session::{self, check_origin, device_of, with_cookie};
use crate::site;
use crate::store::{DeviceReport, SqliteStore};
use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use landfall_protocol::{ClientId, PROTOCOL, PullRequest, PushRequest};
use serde::Deserialize;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::sync::watch;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};

/// Answers smaller than this are not worth compressing, bytes.
const GZIP_ABOVE_BYTES: u64 = 1024;
/// A client says one short message on the live channel.
const LIVE_MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// What the handlers share.
pub struct App {
    pub service: Service<SqliteStore>,
    pub tokens: Arc<Tokens>,
    pub hub: Arc<Hub>,
    pub dev: bool,
    pub faults: Mutex<Faults>,
    pub limiter: Limiter,
    /// Without one, metrics are for this machine only.
    pub metrics_token: Option<String>,
    pub closing: watch::Receiver<bool>,
}

pub type Shared = Arc<App>;

/// All routes; `www` is the directory of the web app.
pub fn router(app: App, www: Option<&Path>) -> Router {
    let app: Shared = Arc::new(app);
    let mut routes = Router::new()
        .route("/v1/sync/push", post(push))
        .route("/v1/sync/pull", post(pull))
        .route("/v1/sync/status", get(status))
        .route("/v1/sync/live", get(live))
        .route("/v1/{*rest}", get(nothing).post(nothing))
        .route("/healthz", get(health))
        .merge(session::router())
        .merge(admin::router(&app))
        .merge(decide::router())
        .merge(metrics::router())
        .merge(compat::router())
        .merge(openapi::router());
    if app.dev {
        routes = routes.merge(dev::router());
    }
    let routes = routes.method_not_allowed_fallback(nothing).layer(from_fn(no_store));
    let routes = match www {
        Some(directory) => {
            let files = Router::new().fallback_service(site::files(directory)).layer(from_fn(site::cache_rules));
            routes.fallback_service(files)
        }
        None => routes.fallback(nothing),
    };
    routes
        .layer(
            CompressionLayer::new()
                .quality(CompressionLevel::Fastest)
                .gzip(true)
                .compress_when(SizeAbove::new(GZIP_ABOVE_BYTES).and(NotForContentType::IMAGES)),
        )
        .layer(from_fn(site::security_headers))
        .layer(from_fn_with_state(app.clone(), trace))
        .with_state(app)
}

/// Gives the request its id, counts it, writes the log line, and words the error if there was one.
async fn trace(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let metrics = app.service.metrics();
    let request = request.map(|body| metrics.count_received(body));
    let request_id = session::random_hex(8).unwrap_or_default();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let start = Instant::now();
    let mut response = next.run(request).await;
    let duration = start.elapsed();
    let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let status = response.status().as_u16();
    metrics.answered(&path, status, duration);
    if let Some(Refusal(error)) = response.extensions_mut().remove::<Refusal>() {
        let headers = std::mem::take(response.headers_mut());
        response = error.answer(&request_id);
        for (name, value) in headers.into_iter().filter_map(|(name, value)| Some((name?, value))) {
            if name != header::CONTENT_LENGTH && name != header::CONTENT_TYPE {
                response.headers_mut().append(name, value);
            }
        }
        if let ServerError::Store(cause) = &*error {
            tracing::error!(request_id, %method, path, status, duration_us, %cause, "failed");
        } else {
            tracing::info!(request_id, %method, path, status, duration_us, code = error.code(), "refused");
        }
    } else {
        tracing::debug!(request_id, %method, path, status, duration_us, "answered");
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
    }
    response.map(|body| metrics.count_sent(body))
}

async fn no_store(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl App {
    pub(crate) fn identify(&self, headers: &HeaderMap) -> Result<Identity, ServerError> {
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (scheme, token) = value.and_then(|value| value.split_once(' ')).ok_or(ServerError::Unauthorized)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(ServerError::Unauthorized);
        }
        self.tokens.verify(token.trim())
    }

    /// Who asks, if there is room for one more request of this kind.
    pub(crate) fn admit(&self, headers: &HeaderMap, kind: Kind) -> Result<Admitted, ServerError> {
        let identity = self.identify(headers)?;
        let allowance = self.limiter.take(kind, &identity.sub).inspect_err(|_| self.service.metrics().limited(kind))?;
        Ok(Admitted { identity, allowance })
    }
}

/// A user whose request was counted.
pub(crate) struct Admitted {
    pub(crate) identity: Identity,
    pub(crate) allowance: Option<Allowance>,
}

/// Says on an answer, also on a refusal, how much room the user has left.
pub(crate) fn with_allowance<T: IntoResponse>(
    allowance: Option<Allowance>,
    answer: Result<T, ServerError>,
) -> Response {
    let mut response = answer.into_response();
    if let Some(allowance) = allowance {
        allowance.write(&mut response);
    }
    response
}

fn check_protocol(protocol: u32) -> Result<(), ServerError> {
    if protocol == PROTOCOL { Ok(()) } else { Err(ServerError::UnsupportedProtocol(PROTOCOL)) }
}

async fn push(State(app): State<Shared>, headers: HeaderMap, body: Body) -> Result<Response, ServerError> {
    let request: PushRequest = read_json(&headers, body).await?;
    if let Some(fault) = app.take_fault() {
        return Err(fault);
    }
    check_protocol(request.protocol)?;
    let Admitted { identity, allowance } = app.admit(&headers, Kind::Push)?;
    let (device_key, cookie) = app.device(&headers)?;
    let answer = app.service.push(identity, request, device_key).await.map(Json);
    let is_pushed = answer.is_ok();
    let answer = with_allowance(allowance, answer);
    Ok(match cookie {
        Some(cookie) if is_pushed => with_cookie(answer, &cookie),
        Some(_) | None => answer,
    })
}

async fn pull(State(app): State<Shared>, headers: HeaderMap, body: Body) -> Result<Response, ServerError> {
    let request: PullRequest = read_json(&headers, body).await?;
    check_protocol(request.protocol)?;
    let Admitted { identity, allowance } = app.admit(&headers, Kind::Poll)?;
    Ok(with_allowance(allowance, app.service.pull(identity, request).await.map(Json)))
}

/// What a client may say of itself when it asks for the status.
#[derive(Deserialize)]
struct StatusAsked {
    client_id: Option<ClientId>,
    #[serde(default)]
    pending_count: u64,
    #[serde(default)]
    failed_count: u64,
}

async fn status(
    State(app): State<Shared>,
    Query(asked): Query<StatusAsked>,
    headers: HeaderMap,
) -> Result<Response, ServerError> {
    let Admitted { identity, allowance } = app.admit(&headers, Kind::Poll)?;
    let answer = async {
        if let Some(client) = asked.client_id {
            let report = DeviceReport { pending_count: asked.pending_count, failed_count: asked.failed_count };
            app.service.report(&identity, client, report).await?;
        }
        app.service.status(identity, device_of(&headers)).await
    };
    Ok(with_allowance(allowance, answer.await.map(Json)))
}

async fn live(
    State(app): State<Shared>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ServerError> {
    check_origin(&headers)?;
    let socket_count = app.service.metrics().clone();
    let live = Live {
        service: app.service.clone(),
        tokens: Arc::clone(&app.tokens),
        hub: Arc::clone(&app.hub),
        closing: app.closing.clone(),
    };
    Ok(upgrade.max_message_size(LIVE_MESSAGE_BYTES_MAX).read_buffer_size(4 * 1024).write_buffer_size(0).on_upgrade(
        move |socket| async move {
            let _counted = socket_count.socket();
            live.serve(socket).await;
        },
    ))
}

async fn health() -> &'static str {
    "ok"
}

async fn nothing() -> ServerError {
    ServerError::NotFound
}
