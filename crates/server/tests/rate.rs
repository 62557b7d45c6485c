//! Rate limits as a client meets them.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

mod support;

use serde_json::json;
use support::{TestServer, ask};

async fn limited(rates: &[&str]) -> TestServer {
    TestServer::start_in(tempfile::tempdir().unwrap(), rates).await
}

#[tokio::test]
async fn s7_a_push_over_the_limit_is_told_how_long_to_wait_and_has_no_effect() {
    let server = limited(&["--push-rate", "2/300"]).await;
    let device = server.device("ada", "c1");
    let first = device.push(&[device.create(1, "a", &json!({}))]).await;
    assert_eq!(
        (first.status, first.header("ratelimit-limit"), first.header("ratelimit-remaining")),
        (200, Some("2"), Some("1"))
    );
    // A refusal of the request as a whole is counted and says so, too.
    let mut fork = device.clone();
    fork.client_id = "c2".to_owned();
    fork.first_push = false;
    let refused = fork.push(&[]).await;
    assert_eq!((refused.code().as_str(), refused.header("ratelimit-remaining")), ("client_fork", Some("0")));
    let over = device.push(&[device.create(2, "b", &json!({}))]).await;
    assert_eq!((over.status, over.code().as_str()), (429, "rate_limited"));
    let wait: u64 = over.header("retry-after").unwrap().parse().unwrap();
    assert!((290..=300).contains(&wait), "{wait}");
    assert_eq!(over.header("ratelimit-reset"), Some(wait.to_string().as_str()));
    let wait_ms = over.json()["error"]["retry_after_ms"].as_u64().unwrap();
    assert_eq!(wait_ms.div_ceil(1000), wait);
    assert_eq!(device.stored().await.len(), 1);
    assert_eq!(device.count("outcomes").await, 1);
}

#[tokio::test]
async fn polls_have_a_limit_of_their_own_and_users_do_not_share_one() {
    let server = limited(&["--push-rate", "1/300", "--poll-rate", "2/300"]).await;
    let (ada, grace) = (server.device("ada", "c1"), server.device("grace", "c1"));
    assert_eq!(ada.push(&[]).await.status, 200);
    assert_eq!(ada.push(&[]).await.status, 429);
    assert_eq!(ada.pull(None, &["movies"], 10).await.status, 200);
    let bearer = format!("Bearer {}", ada.token);
    let status = |token: String| async move {
        ask(server.address, "GET", "/v1/sync/status", &[("authorization", token.as_str())], b"").await.status
    };
    assert_eq!(status(bearer.clone()).await, 200);
    assert_eq!(status(bearer).await, 429);
    assert_eq!(ada.pull(None, &["movies"], 10).await.status, 429);
    assert_eq!(grace.push(&[]).await.status, 200);
    assert_eq!(grace.pull(None, &["movies"], 10).await.status, 200);
}

#[tokio::test]
async fn who_did_not_sign_in_uses_up_nobodys_room() {
    let server = limited(&["--push-rate", "1/300"]).await;
    let device = server.device("ada", "c1");
    let mut forged = device.clone();
    forged.token.push('x');
    for _ in 0..3 {
        assert_eq!(forged.push(&[]).await.status, 401);
    }
    let answer = device.push(&[]).await;
    assert_eq!((answer.status, answer.header("ratelimit-remaining")), (200, Some("0")));
}
