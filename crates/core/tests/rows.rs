//! The rows on a device: the small codec reads and writes what serde did, so that no stored row changes.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

use landfall_core::rows::{ClientRow, ConflictRow, Descriptor, LogRow, ParkedRow, SettledRow};
use landfall_protocol::codec::{FromJson, ToJson, from_json, to_json};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Both read the same or nothing, and write the same bytes.
fn agree<T: Serialize + DeserializeOwned + ToJson + FromJson + PartialEq + Debug>(text: &str) -> bool {
    let (serde, small) = (serde_json::from_str::<T>(text).ok(), from_json::<T>(text));
    assert_eq!(serde, small, "{text}");
    let Some(value) = small else { return false };
    assert_eq!(serde_json::to_string(&value).unwrap(), to_json(&value), "{text}");
    true
}

/// The row itself, written again byte for byte, and with every byte gone or another one.
fn holds<T: Serialize + DeserializeOwned + ToJson + FromJson + PartialEq + Debug>(row: &str) {
    assert!(agree::<T>(row), "{row}");
    assert_eq!(to_json(&from_json::<T>(row).unwrap()), row);
    for at in (0..row.len()).filter(|at| row.is_char_boundary(*at) && row.is_char_boundary(at + 1)) {
        for put in ["", "\"", "0", "}", "]", ",", "n", "1.5", "\\u0041", " "] {
            agree::<T>(&format!("{}{put}{}", &row[..at], &row[at + 1..]));
            agree::<T>(&format!("{}{put}{}", &row[..at], &row[at..]));
        }
    }
    // Without each of its fields in turn.
    let serde_json::Value::Object(object) = serde_json::from_str(row).unwrap() else { return };
    for name in object.keys() {
        let mut other = object.clone();
        other.remove(name);
        agree::<T>(&serde_json::to_string(&other).unwrap());
        other.insert(name.clone(), serde_json::Value::Null);
        agree::<T>(&serde_json::to_string(&other).unwrap());
    }
}

const ENTRY: &str = r#"{"scope":"user:u","collection":"notes","id":"n1","op":"update","set":{"a":1.50,"é":"\"x"},"unset":["b"],"stamp":"0190f0a1b2c3-0001-c_1","group":"g1","on":3,"origin":256,"place":257}"#;
const BARE: &str = r#"{"scope":"user:u","collection":"notes","id":"n2","op":"delete","stamp":"s","on":0}"#;
const OUTCOME: &str = r#"{"seq":4,"status":"already_settled","scope":"user:u","position":5,"version":6,"deleted":true,"record":{"a":null},"code":"c","message":"m","fields":{"a":"b"},"by":2,"to":"author"}"#;

#[test]
fn rows_of_the_log_and_the_outbox_are_read_and_written_as_ever() {
    holds::<LogRow>(&format!(r#"{{"commit_id":"00ff","at":17,"entries":[{ENTRY},{BARE}]}}"#));
    let client = r#"{"rev":9,"client_id":"c1","user":"u","next_seq":5,"acked_through":3,"first_push":false"#;
    holds::<ClientRow>(&format!(
        r#"{client},"pull_first":true,"requeues":{{"256":1,"300":2}},"hold_until":99,"held_at":98,"recent":[[8,["desc/1","acked/2"]],[9,[]]]}}"#
    ));
    holds::<ClientRow>(&format!(r#"{client},"recent":[]}}"#));
    holds::<Descriptor>(
        r#"{"mutations":[{"seq":1,"entries":[256,257],"text":{"seq":1, "x":[1e3]},"base":0,"void":true},{"seq":2,"entries":[],"text":null,"base":7}],"attempts":2,"window":{"from":0,"to":1,"sibling_failed":true}}"#,
    );
    let key = r#"{"scope":"user:u","collection":"notes","id":"n1"}"#;
    holds::<SettledRow>(&format!(
        r#"{{"client_id":"c1","epoch":null,"at":5,"mutations":[{{"key":{key},"entries":[1],"text":[1],"base":3,"outcome":{OUTCOME},"local":"replaced"}},{{"key":{key},"entries":[],"base":0}}],"gone":[[17,"00ff"]]}}"#
    ));
    let reason = r#"{"code":"validation","message":"No.","fields":{"a":"b"}}"#;
    holds::<ParkedRow>(&format!(
        r#"{{"id":256,"at":5,"reason":{reason},"changes":[{{"entry":{ENTRY},"entries":[256],"base":{{}},"server":{{"a":1}}}},{{"entry":{BARE},"entries":[]}}],"failed":true}}"#
    ));
    holds::<ConflictRow>(&format!(
        r#"{{"seq":4,"entry":256,"at":5,"key":{key},"op":"create","set":{{}},"unset":["x"],"outcome":{OUTCOME}}}"#
    ));
}
