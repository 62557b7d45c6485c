//! Limits of what one client keeps.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;

use lab::{Lab, at_once, put};
use landfall_core::State;
use landfall_core::rows::ConflictRow;
use landfall_protocol::codec::from_json;
use landfall_protocol::{
    ClientId, EntryId, Op, Outcome, PushRequest, RecordKey, ResultStatus, Seq, UnixMillis, limits,
};
use landfall_replica::Token;
use landfall_storage::{Key, RowKind, StoreName, encode};

const PAGE: &str = r#"{"server_time":1,"epoch":"e1","changes":{},"tombstones":{},"cursor":"c",
 "covered":{"user:u":{"notes":0}},"access":{"added":[],"removed":[]},"has_more":false,"checksums":{}}"#;

/// A server that has something else, whatever it is sent.
fn refuse_all(lab: &Lab) {
    lab.serve(|request| {
        let body = request.body.clone().unwrap_or_default();
        match request.path.as_str() {
            "/pull" => Lab::answer(PAGE.to_owned()),
            "/push" => {
                let push: PushRequest = from_json(&body).unwrap();
                let results = (0..push.mutations.len() as u64).map(|at| {
                    let seq = push.acked_through.get() + at + 1;
                    format!(r#"{{"seq":{seq},"status":"superseded","version":7,"position":7,"record":{{"x":0}}}}"#)
                });
                let results = results.collect::<Vec<_>>().join(",");
                Lab::answer(format!(r#"{{"server_time":1,"epoch":"e1","head":{{}},"results":[{results}]}}"#))
            }
            _ => None,
        }
    });
}

#[test]
fn c2_of_the_values_that_lost_the_newest_ten_thousand_are_kept() {
    let lab = Lab::new();
    refuse_all(&lab);
    let first = lab.open().unwrap();
    at_once(first.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
    drop(first);
    // Of a client before a fork: its seqs are high, and the oldest has the highest.
    let count = limits::CONFLICT_COUNT_MAX as u64;
    let old = ClientId::from("before");
    let key = |seq: u64| Key::text(State::conflict_key(&old, Seq(seq)));
    for at in 0..count {
        let row = ConflictRow {
            seq: Seq(count - at),
            entry: EntryId(at),
            at: UnixMillis(1_000 + at),
            key: RecordKey::new("user:u", "notes", "r"),
            op: Op::Update,
            set: Default::default(),
            unset: Vec::new(),
            outcome: Outcome::new(Seq(count - at), ResultStatus::Superseded),
        };
        lab.disk.tamper(StoreName::Meta, key(count - at), Some(encode(RowKind::Conflict, &row)));
    }
    let replica = lab.open().unwrap();
    assert_eq!(replica.status().conflicts, count);
    for id in ["a", "b"] {
        put(&replica, id, r#"{"x":1}"#).unwrap();
    }
    for _ in 0..100 {
        at_once(replica.step());
        lab.now.set(lab.now.get() + 250);
    }
    assert_eq!(replica.status().pending, 0);
    assert_eq!(replica.status().conflicts, count);
    let disk = lab.disk.snapshot();
    let kept = |key: Key| disk.row(StoreName::Meta, &key).is_some();
    assert_eq!([count, count - 1, count - 2, 1].map(|seq| kept(key(seq))), [false, false, true, true]);
    let client = replica.db.borrow().state.client.client_id.clone();
    assert!([1, 2].iter().all(|seq| kept(Key::text(State::conflict_key(&client, Seq(*seq))))), "the new ones");
    assert_eq!(lab.open().unwrap().status().conflicts, count);
}

#[test]
fn l3_a_record_with_a_thousand_unsent_changes_takes_no_more_until_some_are_sent() {
    let lab = Lab::new();
    let replica = lab.open().unwrap();
    for at in 0..limits::LANE_COUNT_MAX {
        put(&replica, "busy", &format!("{{\"x\":{at}}}")).unwrap();
    }
    let refused = put(&replica, "busy", r#"{"x":-1}"#).unwrap_err();
    assert_eq!((refused.code, &*refused.details["id"]), ("lane_full", "busy"));
    let group = [lab::op("other", "{}"), lab::op("busy", r#"{"x":-2}"#)];
    assert_eq!(lab::write(&replica, group.to_vec(), true).unwrap_err().code, "lane_full");
    assert_eq!(replica.status().pending, limits::LANE_COUNT_MAX as u64, "neither is stored, nor the rest of a group");
    put(&replica, "other", "{}").unwrap();
    // As many at once of another record, in one commit group.
    let many: Vec<_> = (0..=limits::LANE_COUNT_MAX).map(|at| lab::op("many", &format!("{{\"x\":{at}}}"))).collect();
    assert_eq!(lab::write(&replica, many.clone(), false).unwrap_err().code, "lane_full");
    lab::write(&replica, many[1..].to_vec(), false).unwrap();
    let after = at_once(replica.get("notes", None, "busy")).unwrap().unwrap();
    assert!(after.contains("\"x\":999"), "{after}");

    refuse_all(&lab);
    at_once(replica.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
    for _ in 0..100 {
        at_once(replica.step());
        lab.now.set(lab.now.get() + 250);
    }
    put(&replica, "busy", r#"{"x":-3}"#).unwrap();
}
