//! What the people who run the server see: devices, pending counts, failures, audit, conflicts; and who may see it.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

mod support;

use serde_json::{Value, json};
use support::{Answer, Device, FAR_FUTURE_SECONDS, TestServer, ask, claims, mutation, token};

fn admin_token() -> String {
    let mut claims = claims("boss", &[], FAR_FUTURE_SECONDS);
    claims["roles"] = json!(["admin"]);
    format!("Bearer {}", token(&claims))
}

async fn get(server: &TestServer, path: &str) -> Answer {
    ask(server.address, "GET", path, &[("authorization", &admin_token())], b"").await
}

async fn rows(server: &TestServer, path: &str) -> Vec<Value> {
    let answer = get(server, path).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()["rows"].as_array().unwrap().clone()
}

async fn status(device: &Device, query: &str) -> Value {
    let bearer = format!("Bearer {}", device.token);
    let path = format!("/v1/sync/status{query}");
    let answer = ask(device.address, "GET", &path, &[("authorization", &bearer)], b"").await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

/// A push whose envelope says that two entries failed.
async fn push_with_failed(device: &Device, failed_count: u64, mutations: &[String]) -> u16 {
    let body =
        device.push_body(mutations).replace("\"mutations\"", &format!("\"failed_count\":{failed_count},\"mutations\""));
    device.post("/v1/sync/push", &body).await.status
}

#[tokio::test]
async fn c4_only_the_role_admin_of_the_token_opens_the_admin_api() {
    let server = TestServer::start().await;
    let staff = format!("Bearer {}", server.device("ada", "c1").token);
    for path in ["overview", "pending", "devices", "failures", "audit", "conflicts"] {
        let path = format!("/v1/admin/{path}");
        assert_eq!(get(&server, &path).await.status, 200, "{path}");
        let refused = ask(server.address, "GET", &path, &[("authorization", &staff)], b"").await;
        assert_eq!((refused.status, refused.code().as_str()), (403, "forbidden"), "{path}");
        assert_eq!(ask(server.address, "GET", &path, &[], b"").await.status, 401, "{path}");
    }
    assert_eq!(get(&server, "/v1/admin/nothing").await.status, 404);
}

#[tokio::test]
async fn a_device_shows_when_it_synced_and_what_it_said_last_by_push_or_status() {
    let server = TestServer::start().await;
    let device = server.device("ada", "c1");
    assert_eq!(push_with_failed(&device, 2, &[device.create(1, "a", &json!({}))]).await, 200);
    let row = status(&device, "").await["devices"][0].clone();
    assert_eq!((&row["pending_count"], &row["failed_count"]), (&json!(1), &json!(2)));
    assert!(row["reported_at"].as_u64().unwrap() > 0 && row["reported_at"] == row["last_seen"]);
    // A later word on the status counts more than the push before, and is no sync.
    let asked = status(&device, "?client_id=c1&pending_count=7&failed_count=1").await["devices"][0].clone();
    assert_eq!((&asked["pending_count"], &asked["failed_count"]), (&json!(7), &json!(1)));
    assert_eq!(asked["last_seen"], row["last_seen"]);
    // And a push after that counts more again.
    let mut later = device.clone();
    later.first_push = false;
    assert_eq!(push_with_failed(&later, 0, &[]).await, 200);
    let row = status(&device, "").await["devices"][0].clone();
    assert_eq!((&row["pending_count"], row.get("failed_count")), (&json!(0), None));
}

#[tokio::test]
async fn i1_a_device_reports_for_its_own_user_only() {
    let server = TestServer::start().await;
    let (ada, grace) = (server.device("ada", "c1"), server.device("grace", "c1"));
    assert_eq!(push_with_failed(&ada, 0, &[ada.create(1, "a", &json!({}))]).await, 200);
    let seen = status(&grace, "?client_id=c1&pending_count=9&failed_count=9").await;
    assert_eq!(seen["devices"].as_array().unwrap().len(), 1);
    assert_eq!(status(&ada, "").await["devices"][0]["pending_count"], 1);
    let bearer = format!("Bearer {}", ada.token);
    let path = "/v1/sync/status?client_id=&pending_count=1";
    let bad = ask(server.address, "GET", path, &[("authorization", &bearer)], b"").await;
    assert_eq!(bad.code(), "malformed");
}

#[tokio::test]
async fn a_device_that_only_pulls_is_there_too_and_lists_are_paged() {
    let server = TestServer::start().await;
    for (user, client) in [("ada", "c1"), ("ada", "c2"), ("grace", "c1")] {
        assert_eq!(server.device(user, client).pull(None, &["movies"], 10).await.status, 200);
    }
    let ada = server.device("ada", "c2");
    assert_eq!(push_with_failed(&ada, 3, &[ada.create(1, "a", &json!({}))]).await, 200);
    let first = get(&server, "/v1/admin/devices?limit=2").await.json();
    let names = |page: &Value| {
        let rows = page["rows"].as_array().unwrap().iter();
        rows.map(|row| format!("{}/{}", row["user"].as_str().unwrap(), row["client_id"].as_str().unwrap())).collect()
    };
    let (found, next): (Vec<String>, &Value) = (names(&first), &first["next"]);
    assert_eq!(found, ["ada/c1", "ada/c2"]);
    let (user, client) = (next["after_user"].as_str().unwrap(), next["after_client"].as_str().unwrap());
    let path = format!("/v1/admin/devices?limit=2&after_user={user}&after_client={client}");
    let second = get(&server, &path).await.json();
    assert_eq!((names(&second), second.get("next")), (vec!["grace/c1".to_owned()], None));
    assert!(first["rows"][0]["last_pull"].as_u64().unwrap() > 0 && first["rows"][0]["last_push"] == 0);
    assert_eq!(first["rows"][0]["is_active"], true);
    let overview = get(&server, "/v1/admin/overview").await.json();
    assert_eq!(
        (&overview["devices"], &overview["active_devices"], &overview["pending"], &overview["failed"]),
        (&json!(3), &json!(3), &json!(1), &json!(3))
    );
    let waiting = rows(&server, "/v1/admin/pending").await;
    assert_eq!(waiting.len(), 1);
    assert_eq!(
        (&waiting[0]["user"], &waiting[0]["device_count"], &waiting[0]["pending_count"], &waiting[0]["failed_count"]),
        (&json!("ada"), &json!(2), &json!(1), &json!(3))
    );
    assert_eq!(rows(&server, "/v1/admin/devices?user=grace").await.len(), 1);
}

#[tokio::test]
async fn refusals_are_counted_by_collection_code_and_field_once_each_however_often_they_are_repeated() {
    let server = TestServer::start().await;
    let device = server.device("ada", "c1");
    let note = |seq: u64, set: &Value| {
        mutation(seq, "user:ada", "notes", &format!("n{seq}"), "create", set, &json!({"base": 0}))
    };
    let bad = [note(1, &json!({"body": 7})), note(2, &json!({})), note(3, &json!({"title": "good"}))];
    device.results(&bad).await;
    device.results(&bad).await;
    let foreign = mutation(4, "user:grace", "notes", "x", "create", &json!({"title": "t"}), &json!({"base": 0}));
    let unknown = mutation(5, "user:ada", "made-up-by-a-client", "x", "create", &json!({}), &json!({"base": 0}));
    device.results(&[foreign, unknown]).await;
    let found: Vec<(String, String, String, u64)> = rows(&server, "/v1/admin/failures")
        .await
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            (text("collection"), text("code"), text("field"), row["count"].as_u64().unwrap())
        })
        .collect();
    let row = |collection: &str, code: &str, field: &str, count| {
        (collection.to_owned(), code.to_owned(), field.to_owned(), count)
    };
    assert_eq!(
        found,
        [
            row("notes", "validation", "title", 2),
            // A name that only a client knows makes no row of its own.
            row("", "unknown_collection", "", 1),
            row("notes", "forbidden", "", 1),
            row("notes", "validation", "body", 1),
        ]
    );
    assert!(rows(&server, "/v1/admin/failures?until=1000").await.is_empty());
}

#[tokio::test]
async fn the_audit_is_paged_newest_first_and_holds_no_values() {
    let server = TestServer::start().await;
    let (ada, grace) = (server.device("ada", "c1"), server.device("grace", "c9"));
    let all: Vec<String> =
        (1..=5).map(|seq| ada.create(seq, &format!("m{seq}"), &json!({"secret": "swordfish"}))).collect();
    ada.results(&all).await;
    grace.results(&[grace.create(1, "g", &json!({}))]).await;
    let mut seqs = Vec::new();
    let mut path = "/v1/admin/audit?user=ada&limit=2".to_owned();
    loop {
        let answer = get(&server, &path).await;
        assert!(!String::from_utf8(answer.body.clone()).unwrap().contains("swordfish"));
        let page = answer.json();
        seqs.extend(page["rows"].as_array().unwrap().iter().map(|row| row["seq"].as_u64().unwrap()));
        let Some(next) = page.get("next") else { break };
        path = format!("/v1/admin/audit?user=ada&limit=2&before={next}");
    }
    assert_eq!(seqs, [5, 4, 3, 2, 1]);
    let row = rows(&server, "/v1/admin/audit?user=grace&status=applied&collection=movies").await[0].clone();
    assert_eq!((&row["client_id"], &row["record_id"], &row["op"]), (&json!("c9"), &json!("g"), &json!("create")));
    assert!(rows(&server, "/v1/admin/audit?code=validation").await.is_empty());
}

#[tokio::test]
async fn c2_what_lost_is_shown_with_its_values_to_who_decides() {
    let server = TestServer::start().await;
    let (first, second) = (server.device("ada", "c1"), server.device("ada", "c2"));
    first.results(&[first.create(1, "a", &json!({"title": "kept"}))]).await;
    second.results(&[second.create(1, "a", &json!({"title": "lost"}))]).await;
    let conflicts = get(&server, "/v1/admin/conflicts").await.json();
    let lost = &conflicts["lost"]["rows"][0];
    assert_eq!((&lost["user"], &lost["record_id"]), (&json!("ada"), &json!("a")));
    assert_eq!(lost["mutation"]["set"]["title"], "lost");
    assert_eq!(lost["outcome"]["record"]["title"], "kept");
    assert_eq!(conflicts["reviews"], json!([]));
    let none = get(&server, "/v1/admin/conflicts?user=grace").await.json();
    assert_eq!(none["lost"]["rows"], json!([]));
}
