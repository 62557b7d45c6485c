//! Log lines of the real process, as a collector reads them.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]
#![cfg(unix)]

mod support;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use support::{FAR_FUTURE_SECONDS, SECRET, ask, claims, token};

#[tokio::test]
async fn the_documents_log_lines_are_events_with_fields_and_without_values_or_tokens() {
    let data = tempfile::tempdir().unwrap();
    let log = data.path().join("log");
    let mut child = Command::new(env!("CARGO_BIN_EXE_landfall-server"))
        .args(["--log-json", "--listen", "127.0.0.1:0", "--collections", &support::collections_file(), "--data"])
        .arg(data.path())
        .env("LANDFALL_JWT_SECRET", SECRET)
        .env_remove("RUST_LOG")
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on http://").unwrap().parse().unwrap();
    let mut claims = claims("ada", &["facility:main", "store:st1", "school:s1"], FAR_FUTURE_SECONDS);
    claims["roles"] = json!(["manager", "teacher"]);
    let token = token(&claims);
    let bearer = format!("Bearer {token}");
    let post = async |path: &str, body: Value| {
        let answer = ask(address, "POST", path, &[("authorization", &bearer)], body.to_string().as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
    };
    let shift = json!({"facilityId": "main", "clockIn": "2024-01-01T08:00:00Z", "deviceId": "d1",
        "clientTimestamp": "2024-01-01T08:00:00Z", "note": "swordfish"});
    post("/api/attendance/sync", json!({"records": [shift, {}]})).await;
    let member =
        |name: &str, device: &str| json!({"device_id": device, "changes": {"team": [{"id": "t1", "name": name}]}});
    post("/api/v1/sync/push", member("swordfish", "mac")).await;
    post("/api/v1/sync/push", member("swordfish again", "phone")).await;
    post("/api/v1/sync/pull", json!({"device_id": "mac", "tables": ["team"]})).await;
    let score = json!({"student_id": "s", "ecr_item_id": "i", "score": 5, "remark": "swordfish"});
    post("/api/desktop/sync/ecr-scores", json!([score])).await;
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    let text = std::fs::read_to_string(&log).unwrap();
    for secret in ["swordfish", token.as_str()] {
        assert!(!text.contains(secret), "{secret} was logged");
    }
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |message: &str| {
        let found = lines.iter().find(|line| line["fields"]["message"] == message);
        found.unwrap_or_else(|| panic!("no {message} in\n{text}"))
    };
    let attendance = find("Offline sync completed");
    assert_eq!(attendance["level"], "INFO");
    let counts = ["user_id", "synced", "conflicts", "errors"].map(|name| attendance["fields"][name].clone());
    assert_eq!(counts, [json!("ada"), json!(1), json!(0), json!(1)]);
    assert!(attendance["fields"]["duration_ms"].is_u64());
    let conflict = find("Conflict detected");
    let fields = ["device", "table", "record_id"].map(|name| conflict["fields"][name].clone());
    assert_eq!((&conflict["level"], fields), (&json!("WARN"), [json!("phone"), json!("team"), json!("t1")]));
    let pull = find("Sync pull");
    assert_eq!((&pull["fields"]["device"], &pull["fields"]["changes"]), (&json!("mac"), &json!(1)));
    assert_eq!(find("Desktop sync completed")["fields"]["table"], "student_ecr_item_scores");
    assert_eq!(find("Sync push")["fields"]["applied"], 1);
}
