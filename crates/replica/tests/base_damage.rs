//! Rows of the base that can't be read: their records come back, and what is found meanwhile is not forgotten.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;

use lab::{Lab, Opened, at_once};
use landfall_protocol::PullRequest;
use landfall_protocol::codec::from_json;
use landfall_replica::Token;
use landfall_storage::faulty::flip_byte;
use landfall_storage::ingest::DAMAGE_MS;
use landfall_storage::{Key, RowStore, StoreName};
use std::cell::Cell;
use std::rc::Rc;

/// A server of one record, and how often it was asked for anew.
fn serve(lab: &Lab) -> Rc<Cell<usize>> {
    let resyncs = Rc::new(Cell::new(0));
    let count = Rc::clone(&resyncs);
    lab.serve(move |request| {
        let Some(pull) = from_json::<PullRequest>(request.body.as_deref().unwrap_or_default()) else {
            return Lab::answer("{}".to_owned());
        };
        count.set(count.get() + pull.resync.len());
        let record = match pull.cursor.is_none() || !pull.resync.is_empty() {
            true => r#"{"scope":"user:u","id":"a","version":1,"position":1,"fields":{"n":1}}"#,
            false => "",
        };
        Lab::answer(format!(
            r#"{{"server_time":1,"epoch":"e1","changes":{{"notes":[{record}]}},"tombstones":{{}},"cursor":"c",
            "covered":{{"user:u":{{"notes":1}}}},"has_more":false}}"#
        ))
    });
    resyncs
}

fn open(lab: &Lab) -> Opened {
    let replica = lab.open().unwrap();
    at_once(replica.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
    replica
}

fn steps(lab: &Lab, replica: &Opened, count: u64) {
    for _ in 0..count {
        at_once(replica.step());
        lab.now.set(lab.now.get() + 10);
    }
}

/// Changes a byte of the newest segment.
fn damage(lab: &Lab) {
    let disk = lab.disk.snapshot();
    let keys: Vec<Key> = disk.rows(StoreName::Seg).map(|(key, _)| key.clone()).collect();
    let key = keys.last().unwrap().clone();
    let mut row = at_once(lab.disk.get(StoreName::Seg, &key)).unwrap().unwrap();
    flip_byte(&mut row);
    lab.disk.tamper(StoreName::Seg, key, Some(row));
}

fn get(replica: &Opened) -> Option<String> {
    at_once(replica.get("notes", None, "a")).unwrap()
}

fn last_error(replica: &Opened) -> Option<String> {
    replica.status().last_error.map(|error| error.code)
}

#[test]
fn i3_what_is_damaged_too_soon_after_it_came_back_is_said_and_comes_back_when_it_is_time() {
    let lab = Lab::new();
    let resyncs = serve(&lab);
    steps(&lab, &open(&lab), 5);
    damage(&lab);
    let replica = open(&lab);
    assert_eq!((get(&replica), resyncs.get()), (None, 0));
    steps(&lab, &replica, 5);
    assert_eq!((get(&replica).is_some(), resyncs.get(), last_error(&replica)), (true, 1, None));
    drop(replica);

    damage(&lab);
    let replica = open(&lab);
    assert_eq!(get(&replica), None);
    steps(&lab, &replica, 5);
    assert_eq!((resyncs.get(), last_error(&replica).as_deref()), (1, Some("checksum")));
    // Nobody looks at it again until then.
    lab.now.set(lab.now.get() + DAMAGE_MS);
    steps(&lab, &replica, 5);
    assert_eq!((get(&replica).is_some(), resyncs.get(), last_error(&replica)), (true, 2, None));
}

#[test]
fn i3_what_another_context_has_brought_back_meanwhile_is_no_error_and_not_asked_for_again() {
    let lab = Lab::new();
    let resyncs = serve(&lab);
    steps(&lab, &open(&lab), 5);
    damage(&lab);
    let (slow, other) = (open(&lab), open(&lab));
    assert_eq!((get(&slow), get(&other)), (None, None), "both have found it");
    steps(&lab, &other, 5);
    assert_eq!((get(&other).is_some(), resyncs.get()), (true, 1));
    steps(&lab, &slow, 5);
    lab.now.set(lab.now.get() + DAMAGE_MS);
    steps(&lab, &slow, 5);
    assert_eq!((get(&slow).is_some(), resyncs.get(), last_error(&slow)), (true, 1, None));
}
