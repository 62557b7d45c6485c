//! Counters as a scraper reads them, and log lines as a collector does.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

mod support;

use serde_json::json;
use support::{TestServer, ask, mutation};

async fn scrape(server: &TestServer) -> String {
    let answer = ask(server.address, "GET", "/metrics", &[], b"").await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    String::from_utf8(answer.body).unwrap()
}

/// The value of a series.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

#[tokio::test]
async fn what_happened_is_counted_by_outcome_and_endpoint() {
    let server = TestServer::start_in(tempfile::tempdir().unwrap(), &["--poll-rate", "1/300"]).await;
    let device = server.device("ada", "c1");
    let bad = mutation(2, "user:ada", "notes", "n", "create", &json!({}), &json!({"base": 0}));
    device
        .results(&[device.create(1, "a", &json!({"secret": "swordfish"})), bad, device.create(3, "b", &json!({}))])
        .await;
    assert_eq!(device.pull(None, &["movies"], 10).await.status, 200);
    assert_eq!(device.pull(None, &["movies"], 10).await.status, 429);
    let text = scrape(&server).await;
    let is = |series: &str, expected: f64| assert_eq!(value(&text, series), expected, "{series}\n{text}");
    is("landfall_push_results_total{status=\"applied\",code=\"\"}", 2.0);
    is("landfall_push_results_total{status=\"rejected\",code=\"validation\"}", 1.0);
    is("landfall_requests_total{endpoint=\"/v1/sync/push\",status=\"200\"}", 1.0);
    is("landfall_requests_total{endpoint=\"/v1/sync/pull\",status=\"429\"}", 1.0);
    is("landfall_rate_limited_total{kind=\"poll\"}", 1.0);
    is("landfall_request_seconds_count{endpoint=\"/v1/sync/push\"}", 1.0);
    is("landfall_reported_pending", 3.0);
    is("landfall_active_devices", 1.0);
    is("landfall_live_sockets", 0.0);
    assert!(value(&text, "landfall_commit_seconds_count") >= 1.0);
    assert!(value(&text, "landfall_commit_jobs_sum") >= value(&text, "landfall_commit_jobs_count"));
    let body = device.push_body(&[device.create(1, "a", &json!({"secret": "swordfish"}))]);
    assert!(value(&text, "landfall_received_bytes_total") > body.len() as f64);
    assert!(value(&text, "landfall_sent_bytes_total") > 100.0);
    assert!(text.ends_with("# EOF\n"));
    for word in ["ada", "swordfish", "c1", "user:"] {
        assert!(!text.contains(word), "{word} is in the metrics");
    }
}

#[tokio::test]
async fn an_open_socket_is_counted_while_it_is_open() {
    let server = TestServer::start().await;
    let (mut socket, _) =
        tokio_tungstenite::connect_async(format!("ws://{}/v1/sync/live", server.address)).await.unwrap();
    let told = json!({"type": "auth", "token": server.device("ada", "c1").token, "user": "ada"}).to_string();
    use futures_util::{SinkExt, StreamExt};
    socket.send(tokio_tungstenite::tungstenite::Message::text(told)).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().to_string().contains("ready"));
    assert_eq!(value(&scrape(&server).await, "landfall_live_sockets"), 1.0);
}

#[tokio::test]
async fn with_a_token_the_metrics_are_for_who_shows_it() {
    let server = TestServer::start_in(tempfile::tempdir().unwrap(), &["--metrics-token", "let me see"]).await;
    for shown in ["", "Bearer let me", "Bearer let me see!", "let me see"] {
        let refused = ask(server.address, "GET", "/metrics", &[("authorization", shown)], b"").await;
        assert_eq!(refused.status, 404, "{shown}");
    }
    let headers = [("authorization", "Bearer let me see")];
    assert_eq!(ask(server.address, "GET", "/metrics", &headers, b"").await.status, 200);
}
