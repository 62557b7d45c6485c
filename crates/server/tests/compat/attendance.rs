//! `POST /api/attendance/sync`.

use crate::support::TestServer;
use crate::{Caller, names, stored};
use serde_json::{Value, json};

const PATH: &str = "/api/attendance/sync";

/// The document's request, with a facility that exists.
pub fn example() -> Value {
    json!({
        "facilityId": "main",
        "clockIn": "2024-01-01T08:00:00Z",
        "clockOut": "2024-01-01T17:00:00Z",
        "clockInLatitude": -1.9536,
        "clockInLongitude": 30.0606,
        "deviceId": "device_123",
        "clientTimestamp": "2024-01-01T08:00:00Z",
        "syncVersion": 1,
        "conflictResolutionStrategy": "server_wins"
    })
}

fn with(changes: &Value) -> Value {
    let mut record = example();
    for (name, value) in changes.as_object().unwrap() {
        record[name] = value.clone();
    }
    record
}

fn ada() -> Caller {
    Caller::new("ada", &["staff"], &["facility:main"])
}

async fn sync(server: &TestServer, caller: &Caller, records: &[Value]) -> Value {
    caller.posted(server, PATH, &json!({"records": records})).await
}

#[tokio::test]
async fn the_documents_example_is_stored_and_answered_in_its_shape() {
    let server = TestServer::start().await;
    let answer = sync(&server, &ada(), &[example()]).await;
    assert_eq!(names(&answer), ["conflicts", "data", "errors", "success", "synced", "timestamp"]);
    assert_eq!(
        (&answer["success"], &answer["synced"], &answer["conflicts"], &answer["errors"]),
        (&json!(true), &json!(1), &json!(0), &json!(0))
    );
    // The id is made of the natural key: whoever asks, and whenever.
    let id = answer["data"]["synced"][0]["id"].clone();
    assert_eq!(answer["data"], json!({"synced": [{"id": id, "action": "created"}], "conflicts": [], "errors": []}));
    assert_eq!(id, "1f00ac57-b181-536b-b4cb-2cefa96d4209");
    let rows = stored(&server, "user:ada", "attendance").await;
    assert_eq!(
        rows[0]["fields"],
        json!({
            "facility_id": "main", "clock_in": "2024-01-01T08:00:00Z", "clock_out": "2024-01-01T17:00:00Z",
            "latitude": -1.9536, "longitude": 30.0606, "device_id": "device_123",
            "client_timestamp": "2024-01-01T08:00:00Z", "conflict_resolution_strategy": "server_wins"
        })
    );
    assert_eq!((&rows[0]["id"], &rows[0]["client_id"]), (&id, &json!("compat:ada:device_123")));
}

#[tokio::test]
async fn s1_the_same_request_twice_has_one_effect() {
    let server = TestServer::start().await;
    // The same moment written differently is the same record, too.
    let again = with(&json!({"clientTimestamp": "2024-01-01T10:00:00.000+02:00"}));
    let first = sync(&server, &ada(), &[example()]).await;
    let second = sync(&server, &ada(), &[example()]).await;
    assert_eq!(second["synced"], 1);
    assert_eq!(second["data"]["synced"][0]["id"], first["data"]["synced"][0]["id"]);
    assert_eq!(stored(&server, "user:ada", "attendance").await[0]["version"], 1);
    let third = sync(&server, &ada(), &[again]).await;
    assert_eq!(third["data"]["synced"][0]["id"], first["data"]["synced"][0]["id"]);
    assert_eq!(stored(&server, "user:ada", "attendance").await.len(), 1);
}

#[tokio::test]
async fn a_shift_that_ends_later_is_an_update_on_the_version_that_was_seen() {
    let server = TestServer::start().await;
    sync(&server, &ada(), &[with(&json!({"clockOut": null}))]).await;
    let ended = sync(&server, &ada(), &[example()]).await;
    assert_eq!(ended["data"]["synced"][0]["action"], "updated");
    let rows = stored(&server, "user:ada", "attendance").await;
    assert_eq!((&rows[0]["version"], &rows[0]["fields"]["clock_out"]), (&json!(2), &json!("2024-01-01T17:00:00Z")));
}

#[tokio::test]
async fn another_version_and_another_clock_in_are_conflicts_and_the_server_keeps_its_record() {
    let server = TestServer::start().await;
    sync(&server, &ada(), &[example()]).await;
    let late = with(&json!({"syncVersion": 7, "clockOut": "2024-01-01T18:00:00Z"}));
    let moved = with(&json!({"clockIn": "2024-01-01T08:01:01Z"}));
    let answer = sync(&server, &ada(), &[late.clone(), moved]).await;
    assert_eq!((&answer["conflicts"], &answer["synced"]), (&json!(2), &json!(0)));
    let conflict = &answer["data"]["conflicts"][0];
    assert_eq!((&conflict["status"], &conflict["clientRecord"]), (&json!("server_wins"), &late));
    assert_eq!(
        (&conflict["serverRecord"]["clockOut"], &conflict["serverRecord"]["syncVersion"]),
        (&json!("2024-01-01T17:00:00Z"), &json!(1))
    );
    // A minute is no difference.
    let near = with(&json!({"clockIn": "2024-01-01T08:01:00Z"}));
    assert_eq!(sync(&server, &ada(), &[near]).await["synced"], 1);
    // And who sends what is there already has no conflict, whatever version they say.
    let same = with(&json!({"syncVersion": 9, "clockIn": "2024-01-01T08:01:00Z"}));
    assert_eq!(sync(&server, &ada(), &[same]).await["synced"], 1);
    assert_eq!(stored(&server, "user:ada", "attendance").await[0]["fields"]["clock_out"], "2024-01-01T17:00:00Z");
}

#[tokio::test]
async fn a_record_that_says_client_wins_does_and_one_that_says_manual_waits_for_an_admin() {
    let server = TestServer::start().await;
    sync(&server, &ada(), &[example()]).await;
    let correction = |strategy: &str, clock_out: &str| {
        with(&json!({"syncVersion": 7, "clockOut": clock_out, "conflictResolutionStrategy": strategy}))
    };
    let taken = sync(&server, &ada(), &[correction("client_wins", "2024-01-01T18:00:00Z")]).await;
    assert_eq!((&taken["synced"], &taken["data"]["synced"][0]["action"]), (&json!(1), &json!("updated")));
    let row = stored(&server, "user:ada", "attendance").await[0].clone();
    assert_eq!((&row["version"], &row["fields"]["clock_out"]), (&json!(2), &json!("2024-01-01T18:00:00Z")));
    let waits = sync(&server, &ada(), &[correction("manual", "2024-01-01T19:00:00Z")]).await;
    assert_eq!((&waits["conflicts"], &waits["data"]["conflicts"][0]["status"]), (&json!(1), &json!("pending_review")));
    assert_eq!(waits["data"]["conflicts"][0]["serverRecord"]["clockOut"], "2024-01-01T18:00:00Z");
    let admin = Caller::new("root-demo", &["admin"], &[]);
    let reviews = admin.got(&server, "/v1/admin/conflicts").await["reviews"].clone();
    assert_eq!((&reviews[0]["scope"], &reviews[0]["fields"]["status"]), (&json!("user:ada"), &json!("pending")));
    assert_eq!(reviews[0]["fields"]["set"]["clock_out"], "2024-01-01T19:00:00Z");
    // The decision: by the role, once, and row and record together. The admin need not be in the facility.
    let decision = |decision: &str| json!({"scope": "user:ada", "id": reviews[0]["id"], "decision": decision});
    let path = "/v1/admin/conflicts/decide";
    assert_eq!(ada().post(&server, path, &decision("local")).await.code(), "forbidden");
    assert_eq!(admin.posted(&server, path, &decision("maybe")).await["code"], "validation");
    let decided = admin.posted(&server, path, &decision("local")).await;
    assert_eq!(decided["status"], "applied", "{decided}");
    let row = stored(&server, "user:ada", "attendance").await[0].clone();
    assert_eq!((&row["version"], &row["fields"]["clock_out"]), (&json!(3), &json!("2024-01-01T19:00:00Z")));
    assert_eq!(row["client_id"], "review:root-demo");
    assert_eq!(admin.posted(&server, path, &decision("server")).await["code"], "already_decided");
    let nothing = json!({"scope": "user:ada", "id": "none", "decision": "local"});
    assert_eq!(admin.posted(&server, path, &nothing).await["code"], "gone");
}

#[tokio::test]
async fn a_record_that_cannot_be_stored_says_why_and_the_others_are() {
    let server = TestServer::start().await;
    let records = [
        with(&json!({"deviceId": null})),
        with(&json!({"clientTimestamp": "soon"})),
        with(&json!({"clientTimestamp": "2999-01-01T00:00:00Z"})),
        with(&json!({"clockInLatitude": 91})),
        with(&json!({"conflictResolutionStrategy": "mine"})),
        with(&json!({"clockOut": "2024-01-01T07:00:00Z"})),
        example(),
    ];
    let answer = sync(&server, &ada(), &records).await;
    assert_eq!((&answer["errors"], &answer["synced"]), (&json!(6), &json!(1)));
    let errors = answer["data"]["errors"].as_array().unwrap();
    let fields: Vec<Vec<&str>> = errors.iter().map(|error| names(&error["fields"])).collect();
    assert_eq!(
        fields,
        [
            ["deviceId"],
            ["clientTimestamp"],
            ["clientTimestamp"],
            ["clockInLatitude"],
            ["conflictResolutionStrategy"],
            ["clockOut"]
        ]
    );
    assert_eq!((&errors[5]["index"], &errors[5]["code"]), (&json!(5), &json!("validation")));
    assert_eq!(errors[3]["deviceId"], "device_123");
    assert_eq!(errors[2]["code"], "not_future");
}

#[tokio::test]
async fn i1_a_facility_that_is_not_ones_own_answers_as_one_that_is_not_there() {
    let server = TestServer::start().await;
    let north = Caller::new("linus", &["staff"], &["facility:north"]);
    assert_eq!(sync(&server, &north, &[with(&json!({"facilityId": "north"}))]).await["synced"], 1);
    let refusal = |facility: &str| {
        let record = with(&json!({"facilityId": facility}));
        let server = &server;
        async move {
            let answer = sync(server, &ada(), &[record]).await;
            assert_eq!(answer["synced"], 0);
            answer["data"]["errors"][0].clone()
        }
    };
    let (foreign, missing) = (refusal("north").await, refusal("nowhere").await);
    assert_eq!(foreign, missing);
    assert_eq!(names(&foreign["fields"]), ["facilityId"]);
    assert!(stored(&server, "user:ada", "attendance").await.is_empty());
    // The same rule holds for who speaks the native protocol.
    let device = server.device("ada", "c1");
    let set = json!({"facility_id": "north", "clock_in": "2024-01-01T08:00:00Z"});
    let native = crate::support::mutation(1, "user:ada", "attendance", "x", "create", &set, &json!({"base": 0}));
    let result = device.results(&[native]).await[0].clone();
    assert_eq!((&result["code"], names(&result["fields"])), (&json!("validation"), vec!["facility_id"]));
}

#[tokio::test]
async fn i1_the_same_shift_of_two_people_is_two_records() {
    let server = TestServer::start().await;
    let grace = Caller::new("grace", &["staff"], &["facility:main"]);
    let mine = sync(&server, &ada(), &[example()]).await["data"]["synced"][0].clone();
    let theirs = sync(&server, &grace, &[example()]).await["data"]["synced"][0].clone();
    assert_eq!((&mine["action"], &theirs["action"]), (&json!("created"), &json!("created")));
    assert_ne!(mine["id"], theirs["id"]);
}
