//! `POST /api/v1/sync/pull`, `POST /api/v1/sync/push`, `GET /api/v1/sync/status`.

use crate::support::TestServer;
use crate::{Caller, names, stored};
use serde_json::{Value, json};

const PULL: &str = "/api/v1/sync/pull";
const PUSH: &str = "/api/v1/sync/push";
const STATUS: &str = "/api/v1/sync/status";

fn manager() -> Caller {
    Caller::new("mia", &["manager"], &["store:st1"])
}
fn staff() -> Caller {
    Caller::new("sam", &["store"], &["store:st1"])
}

fn form(title: &str) -> Value {
    json!({"id": "uuid-1", "title": title, "updated_at": "2025-12-18T10:45:00Z"})
}
fn submission(status: &str, updated_at: &str) -> Value {
    json!({"id": "uuid-2", "form_id": "uuid-1", "status": status, "updated_at": updated_at})
}

async fn push(server: &TestServer, who: &Caller, device: &str, timestamp: &str, changes: Value) -> Value {
    who.posted(server, PUSH, &json!({"device_id": device, "timestamp": timestamp, "changes": changes})).await
}
async fn pull(server: &TestServer, who: &Caller, device: &str, since: Option<&str>, tables: &[&str]) -> Value {
    who.posted(server, PULL, &json!({"device_id": device, "last_sync_timestamp": since, "tables": tables})).await
}

#[tokio::test]
async fn the_documents_push_and_pull_are_answered_in_their_shapes() {
    let server = TestServer::start().await;
    let pushed = push(
        &server,
        &manager(),
        "store-manager-mac-001",
        "2025-12-18T10:30:00Z",
        json!({"forms": [form("Updated Form")]}),
    )
    .await;
    assert_eq!(names(&pushed), ["applied", "conflicts", "success", "timestamp"]);
    assert_eq!((&pushed["success"], &pushed["conflicts"]), (&json!(true), &json!([])));
    let stored_form =
        json!({"id": "uuid-1", "title": "Updated Form", "store_id": "st1", "updated_at": "2025-12-18T10:45:00.000Z"});
    assert_eq!(pushed["applied"], json!({"forms": [stored_form]}));
    let body = submission("completed", "2025-12-18T10:50:00Z");
    let answers = json!([{"id": "ans1", "submission_id": "uuid-2", "field_id": "f1", "value": true}]);
    let changes = json!({"submissions": [body], "submission_answers": answers});
    push(&server, &staff(), "store-iphone-001", "2025-12-18T11:00:00Z", changes).await;
    let tables = ["forms", "submissions", "team", "kpi_data"];
    let pulled = pull(&server, &staff(), "store-iphone-001", Some("2025-12-18T10:30:00Z"), &tables).await;
    assert_eq!(names(&pulled), ["changes", "conflicts", "success", "timestamp"]);
    assert_eq!((&pulled["success"], &pulled["conflicts"]), (&json!(true), &Value::Null));
    assert_eq!(names(&pulled["changes"]), ["forms", "kpi_data", "submissions", "team"]);
    assert_eq!(pulled["changes"]["forms"], json!([stored_form]));
    assert_eq!(
        (&pulled["changes"]["submissions"][0]["status"], &pulled["changes"]["team"]),
        (&json!("completed"), &json!([]))
    );
}

#[tokio::test]
async fn r2_a_pull_goes_on_where_the_timestamp_was_issued_and_timestamps_strictly_increase() {
    let server = TestServer::start().await;
    let (mia, sam) = (manager(), staff());
    push(&server, &mia, "mac", "2025-12-18T10:30:00Z", json!({"forms": [form("One")]})).await;
    let first = pull(&server, &sam, "phone", None, &["forms"]).await;
    let t1 = first["timestamp"].as_str().unwrap().to_owned();
    assert_eq!(first["changes"]["forms"].as_array().unwrap().len(), 1);
    let nothing = pull(&server, &sam, "phone", Some(&t1), &["forms"]).await;
    assert_eq!(nothing["changes"]["forms"], json!([]));
    let t2 = nothing["timestamp"].as_str().unwrap().to_owned();
    assert!(t2 > t1, "{t2} is not later than {t1}");
    let mut second = form("Two");
    second["id"] = json!("uuid-9");
    push(&server, &mia, "mac", &t1, json!({"forms": [second]})).await;
    // The answer to `t2` may have been lost: the older timestamp still says what came after it.
    for since in [&t1, &t2] {
        let pulled = pull(&server, &sam, "phone", Some(since), &["forms"]).await;
        let ids: Vec<&Value> = pulled["changes"]["forms"].as_array().unwrap().iter().map(|form| &form["id"]).collect();
        assert_eq!(ids, ["uuid-9"]);
    }
    // A timestamp that was not issued to this device covers nothing, whatever time it says.
    for (device, since) in [("phone", "2999-01-01T00:00:00Z"), ("tablet", t2.as_str())] {
        let pulled = pull(&server, &sam, device, Some(since), &["forms"]).await;
        assert_eq!(pulled["changes"]["forms"].as_array().unwrap().len(), 2, "{device}");
    }
}

#[tokio::test]
async fn a_device_that_pushes_and_pushes_keeps_what_it_pulled_and_every_timestamp_is_later_than_the_one_before() {
    let server = TestServer::start().await;
    let (mia, sam) = (manager(), staff());
    push(&server, &mia, "mac", "2025-12-18T10:30:00Z", json!({"forms": [form("One")]})).await;
    let pulled = pull(&server, &sam, "phone", None, &["forms", "submissions"]).await;
    let since = pulled["timestamp"].as_str().unwrap().to_owned();
    let mut last = since.clone();
    for n in 0..20 {
        // Half of them know when they pulled, half say the time of their own clock.
        let timestamp = if n % 2 == 0 { since.as_str() } else { "2025-12-18T11:00:00Z" };
        let row = json!({"id": format!("s{n}"), "form_id": "uuid-1", "status": "new"});
        let pushed = push(&server, &sam, "phone", timestamp, json!({"submissions": [row]})).await;
        let at = pushed["timestamp"].as_str().unwrap().to_owned();
        assert!(at > last, "{at} is not later than {last}");
        last = at;
    }
    let pulled = pull(&server, &sam, "phone", Some(&since), &["forms", "submissions"]).await;
    let counts = ["forms", "submissions"].map(|table| pulled["changes"][table].as_array().unwrap().len());
    assert_eq!(counts, [0, 20]);
}

#[tokio::test]
async fn r5_deletes_travel_as_deleted_at_also_to_a_device_whose_timestamp_is_not_known() {
    let server = TestServer::start().await;
    let (mia, sam) = (manager(), staff());
    push(&server, &mia, "mac", "2025-12-18T10:30:00Z", json!({"forms": [form("One")]})).await;
    let since = pull(&server, &sam, "phone", None, &["forms"]).await["timestamp"].as_str().unwrap().to_owned();
    let mut gone = form("One");
    gone["deleted_at"] = json!("2025-12-18T10:46:00Z");
    gone["updated_at"] = json!("2025-12-18T10:46:00Z");
    let answer = push(&server, &mia, "mac", "2025-12-18T10:30:00Z", json!({"forms": [gone]})).await;
    assert_eq!(answer["applied"]["forms"][0]["deleted_at"], "2025-12-18T10:46:00.000Z");
    for since in [since.as_str(), "2020-01-01T00:00:00Z"] {
        let pulled = pull(&server, &sam, "phone", Some(since), &["forms"]).await;
        let expected = json!([{"id": "uuid-1", "deleted_at": "2025-12-18T10:46:00.000Z", "updated_at": "2025-12-18T10:46:00.000Z"}]);
        assert_eq!(pulled["changes"]["forms"], expected, "{since}");
    }
    assert_eq!(pull(&server, &sam, "fresh", None, &["forms"]).await["changes"]["forms"], json!([]));
}

#[tokio::test]
async fn s1_the_same_push_twice_has_one_effect_and_the_same_answer() {
    let server = TestServer::start().await;
    let changes = json!({"submissions": [submission("completed", "2025-12-18T10:50:00Z")]});
    let first = push(&server, &staff(), "phone", "2025-12-18T11:00:00Z", changes.clone()).await;
    let second = push(&server, &staff(), "phone", "2025-12-18T11:00:00Z", changes.clone()).await;
    assert_eq!((&first["applied"], &first["conflicts"]), (&second["applied"], &second["conflicts"]));
    // Another device that holds the same values has no conflict either.
    let other = push(&server, &staff(), "tablet", "2025-12-18T11:00:00Z", changes).await;
    assert_eq!(other["applied"], first["applied"]);
    assert_eq!(stored(&server, "store:st1", "submissions").await[0]["version"], 1);
}

#[tokio::test]
async fn a_conflict_needs_a_change_that_the_device_has_not_seen_and_other_values() {
    let server = TestServer::start().await;
    let mia = manager();
    let at = |minute: u32| format!("2025-12-18T10:{minute:02}:00Z");
    let one = json!({"team": [{"id": "t1", "name": "Ann", "updated_at": at(10)}]});
    push(&server, &mia, "mac", &at(0), one).await;
    let seen = pull(&server, &mia, "laptop", None, &["team"]).await["timestamp"].as_str().unwrap().to_owned();
    // Seen by its cursor: an edit, though its clock is behind.
    let rename = |name: &str, minute: u32| json!({"team": [{"id": "t1", "name": name, "updated_at": at(minute)}]});
    let edit = push(&server, &mia, "laptop", &seen, rename("Anna", 5)).await;
    assert_eq!((&edit["applied"]["team"][0]["name"], &edit["conflicts"]), (&json!("Anna"), &json!([])));
    // Its own next edit stands on its own last one, without a pull in between.
    let next = push(&server, &mia, "laptop", &seen, rename("Anna K.", 30)).await;
    assert_eq!(next["applied"]["team"][0]["name"], "Anna K.");
    // The first device has not seen either.
    let stranger = push(&server, &mia, "mac", &at(0), rename("Annie", 40)).await;
    assert_eq!(names(&stranger["conflicts"][0]), ["client_data", "record_id", "server_data", "table"]);
    let conflict = &stranger["conflicts"][0];
    assert_eq!((&conflict["table"], &conflict["record_id"]), (&json!("team"), &json!("t1")));
    assert_eq!(
        (&conflict["client_data"]["name"], &conflict["server_data"]["name"]),
        (&json!("Annie"), &json!("Anna K."))
    );
    assert_eq!(stranger["applied"], json!({}));
    // A copy of its own earlier edit that comes late does not undo the later one.
    push(&server, &mia, "laptop", &seen, rename("Anna", 5)).await;
    assert_eq!(stored(&server, "store:st1", "team").await[0]["fields"]["name"], "Anna K.");
}

#[tokio::test]
async fn of_submissions_the_latest_wins_whoever_sends_it_and_a_late_copy_undoes_nothing() {
    let server = TestServer::start().await;
    let sam = staff();
    let send = async |device: &str, status: &str, minute: u32| {
        let row = submission(status, &format!("2025-12-18T10:{minute:02}:00Z"));
        push(&server, &sam, device, "2025-12-18T10:00:00Z", json!({"submissions": [row]})).await
    };
    send("phone", "in_progress", 10).await;
    assert_eq!(send("tablet", "completed", 20).await["applied"]["submissions"][0]["status"], "completed");
    let older = send("laptop", "draft", 15).await;
    assert_eq!((&older["applied"], &older["conflicts"][0]["server_data"]["status"]), (&json!({}), &json!("completed")));
    // Its own earlier word, sent again late: not a newer one because it comes from the same device.
    let late = send("tablet", "in_progress", 12).await;
    assert_eq!(late["conflicts"][0]["client_data"]["status"], "in_progress");
    assert_eq!(stored(&server, "store:st1", "submissions").await[0]["fields"]["status"], "completed");
}

#[tokio::test]
async fn more_than_five_thousand_records_come_in_several_answers_and_all_of_them_once() {
    let server = TestServer::start().await;
    let sam = staff();
    for part in 0..6 {
        let rows: Vec<Value> =
            (0..900).map(|n| json!({"id": format!("s{part}-{n:03}"), "form_id": "f", "status": "new"})).collect();
        push(&server, &sam, "loader", "2025-12-18T10:00:00Z", json!({"submissions": rows})).await;
    }
    let (mut since, mut seen, mut answers) = (None::<String>, std::collections::BTreeSet::new(), 0);
    loop {
        let pulled = pull(&server, &sam, "phone", since.as_deref(), &["submissions"]).await;
        let rows = pulled["changes"]["submissions"].as_array().unwrap();
        answers += 1;
        seen.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        since = pulled["timestamp"].as_str().map(str::to_owned);
        if pulled.get("has_more").is_none() {
            break;
        }
        assert!(rows.len() >= 5_000, "{}", rows.len());
    }
    assert_eq!((answers, seen.len()), (2, 5_400));
}

#[tokio::test]
async fn i1_another_store_and_another_role_answer_as_what_is_not_there() {
    let server = TestServer::start().await;
    let (mia, sam) = (manager(), staff());
    push(&server, &mia, "mac", "2025-12-18T10:30:00Z", json!({"form_templates": [{"id": "t", "title": "T"}]})).await;
    // A table that the role may not read is as absent as one that does not exist, or of another system.
    let pulled = pull(&server, &sam, "phone", None, &["form_templates", "attendance", "nothing", "forms"]).await;
    assert_eq!(names(&pulled["changes"]), ["forms"]);
    let error = |answer: &Value| {
        let error = &answer["errors"][0];
        (error["code"].clone(), error["message"].clone())
    };
    let of = |table: &str, id: &str| json!({ table: [{"id": id, "title": "mine"}] });
    let known = push(&server, &sam, "phone", "2025-12-18T10:30:00Z", of("form_templates", "t")).await;
    let unknown = push(&server, &sam, "phone", "2025-12-18T10:30:00Z", of("form_templates", "u")).await;
    assert_eq!((error(&known), &known["applied"]), (error(&unknown), &json!({})));
    let stranger = Caller::new("zoe", &["manager"], &["store:st2"]);
    let foreign = json!({"forms": [{"id": "uuid-1", "store_id": "st1", "title": "taken"}]});
    let missing = json!({"forms": [{"id": "uuid-1", "store_id": "st9", "title": "taken"}]});
    let foreign = push(&server, &stranger, "d", "2025-12-18T10:30:00Z", foreign).await;
    let missing = push(&server, &stranger, "d", "2025-12-18T10:30:00Z", missing).await;
    assert_eq!(error(&foreign), error(&missing));
    assert_eq!(names(&pull(&server, &stranger, "d", None, &["forms"]).await["changes"]), ["forms"]);
    let other = push(&server, &sam, "phone", "2025-12-18T10:30:00Z", of("attendance", "x")).await;
    let none = push(&server, &sam, "phone", "2025-12-18T10:30:00Z", of("nothing", "x")).await;
    assert_eq!(error(&other), error(&none));
}

#[tokio::test]
async fn the_status_names_the_devices_of_the_store_and_the_tables_of_the_role() {
    let server = TestServer::start().await;
    let (mia, sam) = (manager(), staff());
    pull(&server, &mia, "store-manager-mac", None, &["forms"]).await;
    push(&server, &sam, "store-iphone-001", "2025-12-18T10:30:00Z", json!({})).await;
    let elsewhere = Caller::new("zoe", &["manager"], &["store:st2"]);
    pull(&server, &elsewhere, "far-away", None, &["forms"]).await;
    let status = sam.got(&server, STATUS).await;
    assert_eq!(names(&status), ["active_devices", "last_sync", "status", "tables", "timestamp", "version"]);
    assert_eq!(
        (&status["status"], &status["version"], &status["active_devices"]),
        (&json!("online"), &json!("1.0.0"), &json!(2))
    );
    assert_eq!(names(&status["last_sync"]), ["store-iphone-001", "store-manager-mac"]);
    assert!(status["last_sync"]["store-manager-mac"].as_str().unwrap().ends_with('Z'));
    let tables = |status: &Value| status["tables"].as_array().unwrap().len();
    assert_eq!((tables(&status), tables(&mia.got(&server, STATUS).await)), (7, 9));
}
