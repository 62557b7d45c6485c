//! What the server counts, in the text form of Prometheus (OpenMetrics 1.0) at `/metrics`.
//!
//! Numbers only: no user, record, device or scope is ever a label. Who may read them: this machine, or who shows the
//! token of `--metrics-token`.

use crate::error::ServerError;
use crate::rate::Kind;
use crate::routes::{App, Shared};
use crate::store::{Commit, Store};
use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use axum::routing::get;
use http_body_util::BodyExt;
use landfall_protocol::PushResponse;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use serde::Deserialize;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];

/// All counters of the process. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    requests: Family<Labels<2>, Counter>,
    request_seconds: Family<Labels<1>, Histogram, fn() -> Histogram>,
    results: Family<Labels<2>, Counter>,
    compat_records: Family<Labels<2>, Counter>,
    rate_limited: Family<Labels<1>, Counter>,
    commit_seconds: Histogram,
    commit_jobs: Histogram,
    received: Counter,
    sent: Counter,
    sockets: Gauge,
    pending: Gauge,
    failed: Gauge,
    devices: Gauge,
}

/// From 0.1 ms to 13 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 2.0, 18))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut all = Self {
            registry: Arc::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            results: Family::default(),
            compat_records: Family::default(),
            rate_limited: Family::default(),
            commit_seconds: seconds(),
            commit_jobs: Histogram::new(exponential_buckets(1.0, 2.0, 10)),
            received: Counter::default(),
            sent: Counter::default(),
            sockets: Gauge::default(),
            pending: Gauge::default(),
            failed: Gauge::default(),
            devices: Gauge::default(),
        };
        let mut registry = Registry::with_prefix("landfall");
        registry.register("requests", "Answers by endpoint and status", all.requests.clone());
        let help = "Time from a request's head to its answer's head, by endpoint";
        registry.register_with_unit("request", help, Unit::Seconds, all.request_seconds.clone());
        let help = "Answers to mutations, repeats among them, by status and reject code";
        registry.register("push_results", help, all.results.clone());
        let help = "Records of the compatible endpoints by system and what became of them";
        registry.register("compat_records", help, all.compat_records.clone());
        registry.register("rate_limited", "Requests that were told to wait, by kind", all.rate_limited.clone());
        registry.register_with_unit("commit", "Time of a COMMIT", Unit::Seconds, all.commit_seconds.clone());
        registry.register("commit_jobs", "Jobs that one COMMIT made durable", all.commit_jobs.clone());
        registry.register_with_unit("received", "Bodies of requests", Unit::Bytes, all.received.clone());
        registry.register_with_unit("sent", "Bodies of answers, as sent", Unit::Bytes, all.sent.clone());
        registry.register("live_sockets", "Open live channels", all.sockets.clone());
        registry.register("reported_pending", "Entries that devices last reported as waiting", all.pending.clone());
        registry.register("reported_failed", "Entries that devices last reported as failed", all.failed.clone());
        registry.register("active_devices", "Devices that synced within the last 15 minutes", all.devices.clone());
        all.registry = Arc::new(registry);
        all
    }
}

/// As much of a result as is counted.
#[derive(Deserialize)]
struct Answered<'a> {
    status: &'a str,
    #[serde(default)]
    code: Option<Cow<'a, str>>,
}

impl Metrics {
    pub fn answered(&self, path: &str, status: u16, duration: Duration) {
        let endpoint = ("endpoint", Cow::Borrowed(endpoint(path)));
        let labels = [endpoint.clone(), ("status", status.to_string().into())];
        self.requests.get_or_create(&labels).inc();
        self.request_seconds.get_or_create(&[endpoint]).observe(duration.as_secs_f64());
    }

    pub fn pushed(&self, answer: &PushResponse) {
        for result in &answer.results {
            if let Ok(result) = serde_json::from_str::<Answered<'_>>(result.text()) {
                let code = result.code.unwrap_or_default().into_owned();
                let labels = [("status", result.status.to_owned().into()), ("code", code.into())];
                self.results.get_or_create(&labels).inc();
            }
        }
    }

    /// `outcome` is `synced`, `conflicts` or `errors`, in the words of the documents.
    pub fn compat(&self, system: &'static str, outcome: &'static str, count: usize) {
        if let Ok(count @ 1..) = u64::try_from(count) {
            self.compat_records.get_or_create(&[("system", system.into()), ("outcome", outcome.into())]).inc_by(count);
        }
    }

    pub fn limited(&self, kind: Kind) {
        self.rate_limited.get_or_create(&[("kind", kind.name().into())]).inc();
    }

    pub fn committed(&self, commit: &Commit) {
        self.commit_seconds.observe(commit.duration.as_secs_f64());
        self.commit_jobs.observe(f64::from(u32::try_from(commit.job_count).unwrap_or(u32::MAX)));
    }

    /// Counts a socket until the guard is dropped.
    pub fn socket(&self) -> impl Drop + Send + use<> {
        struct Guard(Gauge);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.dec();
            }
        }
        self.sockets.inc();
        Guard(self.sockets.clone())
    }

    pub fn count_received(&self, body: Body) -> Body {
        counted(body, &self.received)
    }
    pub fn count_sent(&self, body: Body) -> Body {
        counted(body, &self.sent)
    }
}

/// A body whose length is known is counted at once and stays as it is: its length becomes a header.
fn counted(body: Body, counter: &Counter) -> Body {
    if let Some(exact) = body.size_hint().exact() {
        counter.inc_by(exact);
        return body;
    }
    let counter = counter.clone();
    Body::new(body.map_frame(move |frame| {
        if let Some(data) = frame.data_ref() {
            counter.inc_by(u64::try_from(data.len()).unwrap_or(u64::MAX));
        }
        frame
    }))
}

/// A few names, so that nobody who asks for odd paths makes new series.
fn endpoint(path: &str) -> &'static str {
    const KNOWN: [&str; 10] = [
        "/v1/sync/push",
        "/v1/sync/pull",
        "/v1/sync/status",
        "/v1/sync/live",
        "/api/attendance/sync",
        "/api/desktop/sync/ecr-scores",
        "/api/desktop/sync/running-grades",
        "/api/desktop/sync/status",
        "/api/v1/sync/pull",
        "/api/v1/sync/push",
    ];
    let known = KNOWN.into_iter().find(|known| *known == path);
    known.unwrap_or(match path {
        "/api/v1/sync/status" => "/api/v1/sync/status",
        _ if path.starts_with("/auth/") => "/auth",
        _ if path.starts_with("/v1/admin/") => "/v1/admin",
        _ => "other",
    })
}

pub fn router() -> Router<Shared> {
    Router::new().route("/metrics", get(show))
}

async fn show(
    State(app): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, ServerError> {
    if !app.may_read_metrics(&headers, peer) {
        return Err(ServerError::NotFound);
    }
    let metrics = app.service.metrics();
    let active_since = crate::devices::active_since(crate::service::now());
    let totals = app.service.store().read::<_, ServerError, _>(move |db| Ok(db.totals(active_since)?)).await?;
    let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    metrics.pending.set(gauge(totals.pending));
    metrics.failed.set(gauge(totals.failed));
    metrics.devices.set(gauge(totals.active_devices));
    let mut text = String::new();
    // Writing into a string does not fail.
    encode(&mut text, &metrics.registry).unwrap_or_default();
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text))
}

impl App {
    fn may_read_metrics(&self, headers: &HeaderMap, peer: SocketAddr) -> bool {
        let Some(token) = &self.metrics_token else { return peer.ip().is_loopback() };
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        // Hashes are compared: how long that takes says nothing about the token.
        shown
            .and_then(|shown| shown.strip_prefix("Bearer "))
            .is_some_and(|shown| landfall_protocol::hash_text(shown) == landfall_protocol::hash_text(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_paths_make_no_series_of_their_own() {
        assert_eq!(endpoint("/v1/sync/push"), "/v1/sync/push");
        assert_eq!(endpoint("/auth/login"), "/auth");
        assert_eq!(endpoint("/v1/sync/push/../../x"), "other");
    }
}
