//! `POST /api/desktop/sync/ecr-scores`, `POST /api/desktop/sync/running-grades`, `GET /api/desktop/sync/status`.

use crate::support::{TestServer, ask};
use crate::{Caller, names, stored};
use serde_json::{Value, json};

const SCORES: &str = "/api/desktop/sync/ecr-scores";
const GRADES: &str = "/api/desktop/sync/running-grades";
const STATUS: &str = "/api/desktop/sync/status";

fn teacher() -> Caller {
    Caller::new("tess", &["teacher"], &["school:s1"])
}

fn score(id: &str, score: u64, updated_at: &str) -> Value {
    json!({"id": id, "student_id": "st1", "ecr_item_id": id, "score": score, "updated_at": updated_at})
}

#[tokio::test]
async fn an_array_of_scores_is_answered_with_the_servers_records_and_timestamps() {
    let server = TestServer::start().await;
    let records = json!([score("a", 7, "2025-01-01T08:00:00Z"), score("b", 9, "2025-01-01T08:00:01Z")]);
    let answer = teacher().posted(&server, SCORES, &records).await;
    assert_eq!(names(&answer), ["conflicts", "errors", "last_sync_timestamp", "success", "synced"]);
    assert_eq!((&answer["success"], &answer["conflicts"], &answer["errors"]), (&json!(true), &json!([]), &json!([])));
    assert_eq!(
        answer["synced"][0],
        json!({
            "id": "a", "school_id": "s1", "student_id": "st1", "ecr_item_id": "a", "score": 7,
            "updated_at": "2025-01-01T08:00:00.000Z", "synced_at": answer["last_sync_timestamp"],
        })
    );
    // The server's own words sent back change nothing.
    let again = teacher().posted(&server, SCORES, &answer["synced"]).await;
    assert_eq!(again["synced"].as_array().unwrap().len(), 2);
    assert!(stored(&server, "school:s1", "student_ecr_item_scores").await.iter().all(|row| row["version"] == 1));
}

#[tokio::test]
async fn s1_the_same_grades_twice_have_one_effect_and_ids_are_made_where_they_are_missing() {
    let server = TestServer::start().await;
    let grade = json!({"student_id": "st1", "subject_id": "math", "quarter": 2, "grade": 91.5,
        "updated_at": "2025-01-01T08:00:00Z"});
    let body = json!({"records": [grade]});
    let first = teacher().posted(&server, GRADES, &body).await;
    let second = teacher().posted(&server, GRADES, &body).await;
    assert_eq!(first["synced"][0]["id"], second["synced"][0]["id"]);
    let rows = stored(&server, "school:s1", "student_running_grades").await;
    assert_eq!((rows.len(), &rows[0]["version"], &rows[0]["fields"]["grade"]), (1, &json!(1), &json!(91.5)));
}

#[tokio::test]
async fn i4_the_newest_change_wins_and_a_clock_from_the_future_wins_for_a_minute_at_most() {
    let server = TestServer::start().await;
    let sync = async |value: u64, updated_at: &str| {
        teacher().posted(&server, SCORES, &json!([score("a", value, updated_at)])).await
    };
    sync(5, "2025-01-01T08:00:00Z").await;
    let newer = sync(6, "2025-01-01T09:00:00Z").await;
    assert_eq!((&newer["synced"][0]["score"], &newer["conflicts"]), (&json!(6), &json!([])));
    let older = sync(4, "2025-01-01T08:30:00Z").await;
    assert_eq!(older["synced"], json!([]));
    let conflict = &older["conflicts"][0];
    assert_eq!((&conflict["table_name"], &conflict["record_id"]), (&json!("student_ecr_item_scores"), &json!("a")));
    assert_eq!((&conflict["local"]["score"], &conflict["server"]["score"]), (&json!(4), &json!(6)));
    let wild = sync(1, "2999-01-01T00:00:00Z").await;
    let updated_at = wild["synced"][0]["updated_at"].as_str().unwrap();
    let now = wild["last_sync_timestamp"].as_str().unwrap();
    assert!(updated_at > now && updated_at[..4] == now[..4], "{updated_at} at {now}");
    // What lost is kept and shown with the status (C2).
    let status = teacher().got(&server, STATUS).await;
    assert_eq!(names(&status), ["conflicts", "last_sync_timestamp"]);
    assert_eq!(status["last_sync_timestamp"], now);
    assert_eq!(
        (&status["conflicts"][0]["local"]["score"], &status["conflicts"][0]["server"]["score"]),
        (&json!(4), &json!(6))
    );
}

#[tokio::test]
async fn an_older_running_grade_is_a_conflict_for_its_author_with_both_values_and_nothing_is_written() {
    let server = TestServer::start().await;
    let sync = async |grade: u64, updated_at: &str| {
        let record =
            json!({"student_id": "st1", "subject_id": "math", "quarter": 2, "grade": grade, "updated_at": updated_at});
        teacher().posted(&server, GRADES, &json!([record])).await
    };
    sync(80, "2025-01-01T09:00:00Z").await;
    let older = sync(90, "2025-01-01T08:00:00Z").await;
    let values = |conflict: &Value| (conflict["local"]["grade"].clone(), conflict["server"]["grade"].clone());
    assert_eq!((&older["synced"], values(&older["conflicts"][0])), (&json!([]), (json!(90), json!(80))));
    assert_eq!(stored(&server, "school:s1", "student_running_grades").await[0]["fields"]["grade"], 80);
    let status = teacher().got(&server, STATUS).await;
    assert_eq!(values(&status["conflicts"][0]), (json!(90), json!(80)));
}

#[tokio::test]
async fn a_deleted_score_is_sent_as_deleted_at_and_stays_deleted_when_that_is_repeated() {
    let server = TestServer::start().await;
    let caller = teacher();
    caller.posted(&server, SCORES, &json!([score("a", 5, "2025-01-01T08:00:00Z")])).await;
    let mut gone = score("a", 5, "2025-01-01T09:00:00Z");
    gone["deleted_at"] = json!("2025-01-01T09:00:00Z");
    for _ in 0..2 {
        let answer = caller.posted(&server, SCORES, &json!([gone])).await;
        assert_eq!(answer["synced"][0]["deleted_at"], "2025-01-01T09:00:00.000Z", "{answer}");
    }
    // The first write, sent again late, does not bring it back (R5).
    let late = caller.posted(&server, SCORES, &json!([score("a", 5, "2025-01-01T08:00:00Z")])).await;
    assert_eq!((late["synced"].clone(), &late["conflicts"][0]["record_id"]), (json!([]), &json!("a")));
    assert_eq!(stored(&server, "school:s1", "student_ecr_item_scores").await[0]["deleted"], true);
}

#[tokio::test]
async fn invalid_grades_say_why_and_the_others_are_stored() {
    let server = TestServer::start().await;
    let good = score("b", 9, "2025-01-01T08:00:00Z");
    let bad = json!({"id": "a", "student_id": "st1", "ecr_item_id": "a", "score": -1});
    let nameless = json!({"student_id": "st1", "score": 1});
    let answer = teacher().posted(&server, SCORES, &json!([bad, nameless, good])).await;
    assert_eq!(answer["synced"].as_array().unwrap().len(), 1);
    let errors = answer["errors"].as_array().unwrap();
    assert_eq!(
        (&errors[0]["id"], &errors[0]["code"], names(&errors[0]["fields"])),
        (&json!("a"), &json!("validation"), vec!["score"])
    );
    assert_eq!((&errors[1]["id"], &errors[1]["code"]), (&Value::Null, &json!("malformed")));
    assert!(!errors[1]["message"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn i1_another_school_and_another_role_answer_as_what_is_not_there() {
    let server = TestServer::start().await;
    let there = Caller::new("olga", &["teacher"], &["school:s2"]);
    there.posted(&server, SCORES, &json!([score("a", 5, "2025-01-01T08:00:00Z")])).await;
    let of = |school: &str| {
        let mut record = score("a", 1, "2026-01-01T08:00:00Z");
        record["school_id"] = json!(school);
        json!([record])
    };
    let foreign = teacher().posted(&server, SCORES, &of("s2")).await["errors"].clone();
    let missing = teacher().posted(&server, SCORES, &of("s9")).await["errors"].clone();
    assert_eq!(foreign, missing);
    assert_eq!((&foreign[0]["code"], foreign[0].get("fields")), (&json!("forbidden"), None));
    let cashier = Caller::new("carl", &["cashier"], &["school:s2"]);
    let (known, unknown) =
        (json!([score("a", 1, "2026-01-01T08:00:00Z")]), json!([score("z", 1, "2026-01-01T08:00:00Z")]));
    let known = cashier.posted(&server, SCORES, &known).await["errors"][0].clone();
    let unknown = cashier.posted(&server, SCORES, &unknown).await["errors"][0].clone();
    assert_eq!((&known["code"], &known["message"]), (&unknown["code"], &unknown["message"]));
    assert_eq!(known["code"], "forbidden");
    assert_eq!(stored(&server, "school:s2", "student_ecr_item_scores").await[0]["fields"]["score"], 5);
}

#[tokio::test]
async fn the_status_of_a_device_is_its_own() {
    let server = TestServer::start().await;
    let caller = teacher();
    assert_eq!(caller.got(&server, STATUS).await["last_sync_timestamp"], Value::Null);
    caller.posted(&server, SCORES, &json!([score("a", 5, "2025-01-01T08:00:00Z")])).await;
    assert!(caller.got(&server, STATUS).await["last_sync_timestamp"].is_string());
    let headers = [("authorization", caller.bearer.as_str()), ("x-device-id", "another")];
    let other = ask(server.address, "GET", STATUS, &headers, b"").await.json();
    assert_eq!(other["last_sync_timestamp"], Value::Null);
}
