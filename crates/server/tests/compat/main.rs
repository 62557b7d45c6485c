//! The endpoints of the three documents: their own examples, what a repeat does, and what is nobody's business.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

#[path = "../support/mod.rs"]
mod support;

mod attendance;
mod grades;
mod insight;

use serde_json::{Value, json};
use support::{Answer, FAR_FUTURE_SECONDS, TestServer, ask, claims, token};

/// Somebody who sends plain requests.
pub struct Caller {
    pub bearer: String,
}

impl Caller {
    pub fn new(user: &str, roles: &[&str], scopes: &[&str]) -> Self {
        let mut claims = claims(user, scopes, FAR_FUTURE_SECONDS);
        claims["roles"] = json!(roles);
        Self { bearer: format!("Bearer {}", token(&claims)) }
    }

    /// What `curl -X POST -H 'Authorization: …' -d @body` does.
    pub async fn post(&self, server: &TestServer, path: &str, body: &Value) -> Answer {
        let headers = [("authorization", self.bearer.as_str()), ("content-type", "application/json")];
        ask(server.address, "POST", path, &headers, body.to_string().as_bytes()).await
    }

    pub async fn posted(&self, server: &TestServer, path: &str, body: &Value) -> Value {
        let answer = self.post(server, path, body).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()
    }

    pub async fn got(&self, server: &TestServer, path: &str) -> Value {
        let answer = ask(server.address, "GET", path, &[("authorization", &self.bearer)], b"").await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        answer.json()
    }
}

/// What the server holds of a scope and collection: id, version, fields; deleted ones, too.
pub async fn stored(server: &TestServer, scope: &str, collection: &str) -> Vec<Value> {
    let path = format!("/dev/records?scope={scope}&collection={collection}");
    ask(server.address, "GET", &path, &[], b"").await.json()["records"].as_array().unwrap().clone()
}

/// Names of an object, in the order of the text.
pub fn names(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn s7_each_system_has_a_limit_of_its_own_and_attendance_the_twenty_of_its_document() {
    let server = TestServer::start_in(tempfile::tempdir().unwrap(), &["--insight-rate", "1/300"]).await;
    let caller = Caller::new("ada", &["teacher", "store"], &["school:s1", "store:st1"]);
    for n in 0..20 {
        let answer = caller.post(&server, "/api/attendance/sync", &json!({"records": []})).await;
        assert_eq!((answer.status, answer.header("ratelimit-limit")), (200, Some("20")), "request {n}");
    }
    let over = caller.post(&server, "/api/attendance/sync", &json!({"records": [attendance::example()]})).await;
    assert_eq!((over.status, over.code().as_str()), (429, "rate_limited"));
    let wait: u64 = over.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=300).contains(&wait), "{wait}");
    assert!(stored(&server, "user:ada", "attendance").await.is_empty());
    assert_eq!(caller.got(&server, "/api/v1/sync/status").await["status"], "online");
    let headers = [("authorization", caller.bearer.as_str())];
    assert_eq!(ask(server.address, "GET", "/api/v1/sync/status", &headers, b"").await.status, 429);
    caller.got(&server, "/api/desktop/sync/status").await;
}

#[tokio::test]
async fn without_a_token_no_endpoint_answers_and_bodies_are_bounded() {
    let server = TestServer::start().await;
    let caller = Caller::new("ada", &["store"], &["store:st1"]);
    for path in ["/api/attendance/sync", "/api/desktop/sync/ecr-scores", "/api/v1/sync/push"] {
        let body = json!({"records": [], "device_id": "d", "changes": {}});
        let nobody = ask(server.address, "POST", path, &[], body.to_string().as_bytes()).await;
        assert_eq!((nobody.status, nobody.code().as_str()), (401, "unauthorized"), "{path}");
        let huge = json!({"records": ["x".repeat(1_200_000)], "device_id": "d", "changes": {}});
        assert_eq!(caller.post(&server, path, &huge).await.status, 413, "{path}");
        assert_eq!(caller.post(&server, path, &json!(7)).await.code(), "malformed", "{path}");
    }
    let many = json!({"records": vec![json!({}); 1001]});
    assert_eq!(caller.post(&server, "/api/attendance/sync", &many).await.code(), "too_large");
}

#[tokio::test]
async fn a_native_client_cannot_take_the_name_of_a_device_of_these_endpoints() {
    let server = TestServer::start().await;
    let device = server.device("ada", "compat:ada:device_123");
    let answer = device.push(&[device.create(1, "a", &json!({}))]).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "malformed"));
}
