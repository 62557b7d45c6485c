//! A server that somebody runs as a library, with a rule of theirs that no schema can say.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod support;

use landfall_server::Write;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use support::TestServer;

fn hours(write: &Write<'_>) -> BTreeMap<String, String> {
    let number = |name: &str| write.fields.get(name).and_then(|value| value.text().parse::<u32>().ok()).unwrap_or(0);
    let most = if write.roles.contains("night") { 12 } else { 8 };
    match number("day") + number("evening") > most {
        true => BTreeMap::from([("evening".to_owned(), format!("makes more than {most} hours for {}", write.user))]),
        false => BTreeMap::new(),
    }
}

#[tokio::test]
async fn c3_a_rule_of_the_business_refuses_by_field_what_every_schema_allows() {
    let file = json!({"version": 1, "collections": {"shifts": {
        "scope": "s:{site}", "schema": {"properties": {"day": {"type": "integer"}}},
    }}});
    let server = TestServer::start_with_rules(tempfile::tempdir().unwrap(), &file, Arc::new(hours)).await;
    let mut ada = server.writer("ada", &["staff"]);
    let shift = |seq: u64, op: &str, set: serde_json::Value, base: u64| {
        support::mutation(seq, "s:1", "shifts", "a", op, &set, &json!({"base": base}))
    };
    let long = json!({"site": "1", "day": 6, "evening": 3});
    let refused = &ada.results(&[shift(1, "create", long.clone(), 0)]).await[0];
    assert_eq!((&refused["status"], &refused["code"]), (&json!("rejected"), &json!("validation")));
    assert_eq!(refused["fields"], json!({"evening": "makes more than 8 hours for ada"}));
    ada.first_push = false;
    // What is wrong by the schema is said first; the rule need not expect it.
    let wrong = json!({"site": "1", "day": "many", "evening": 30});
    let refused = &ada.results(&[shift(2, "create", wrong, 0)]).await[0];
    assert_eq!(refused["fields"].as_object().unwrap().keys().collect::<Vec<_>>(), ["day"]);
    // The record as it would be, not the fields that are sent.
    let fits = json!({"site": "1", "day": 6, "evening": 1});
    assert_eq!(ada.results(&[shift(3, "create", fits, 0)]).await[0]["status"], "applied");
    let refused = &ada.results(&[shift(4, "update", json!({"evening": 4}), 1)]).await[0];
    assert_eq!(refused["code"], "validation");
    let grace = server.writer("grace", &["night"]);
    assert_eq!(grace.results(&[shift(1, "update", json!({"evening": 4}), 1)]).await[0]["status"], "applied");
    assert_eq!(ada.results(&[shift(5, "delete", json!({}), 2)]).await[0]["status"], "applied");
}
