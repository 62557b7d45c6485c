//! A device without room: what is small and empties the outbox goes on in the room that the filler row held.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;

use lab::{Lab, Opened, at_once, op, put, write};
use landfall_core::schedule::Trigger;
use landfall_protocol::PushRequest;
use landfall_protocol::codec::from_json;
use landfall_replica::{Token, WriteKind, WriteOp};
use landfall_storage::faulty::{Call, Fault};
use landfall_storage::{Key, Read, RowKind, RowStore, StoreName, row};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const FILLER: usize = 128 * 1024;
const PAGE: &str = r#"{"server_time":1,"epoch":"e1","changes":{},"tombstones":{},"cursor":"c",
 "covered":{"user:u":{"notes":0}},"access":{"added":[],"removed":[]},"has_more":false,"checksums":{}}"#;

fn take_all(lab: &Lab) -> Rc<Cell<usize>> {
    let taken: Rc<Cell<usize>> = Rc::default();
    let count = Rc::clone(&taken);
    lab.serve(move |request| {
        let body = request.body.clone().unwrap_or_default();
        match request.path.as_str() {
            "/pull" => Lab::answer(PAGE.to_owned()),
            "/push" => {
                let push: PushRequest = from_json(&body).unwrap();
                count.set(count.get() + push.mutations.len());
                let results = (0..push.mutations.len() as u64).map(|at| {
                    let seq = push.acked_through.get() + at + 1;
                    format!(r#"{{"seq":{seq},"status":"applied","scope":"user:u","position":{seq},"version":{seq}}}"#)
                });
                let results = results.collect::<Vec<_>>().join(",");
                Lab::answer(format!(r#"{{"server_time":1,"epoch":"e1","head":{{}},"results":[{results}]}}"#))
            }
            _ => None,
        }
    });
    taken
}

fn filler(lab: &Lab) -> Option<usize> {
    let disk = lab.disk.snapshot();
    let text = disk.row(StoreName::Idx, &Key::text("filler"))?;
    Some(row::open(RowKind::Filler, text).unwrap().body.len())
}

fn fill_up(lab: &Lab) {
    lab.plan.limit_room(&lab.disk, Some(lab.disk.row_bytes() + 50));
}

/// The context's loop, for so long.
fn run(lab: &Lab, replica: &Opened, ms: u64) {
    let until = lab.now.get() + ms;
    while lab.now.get() < until {
        at_once(replica.run_due());
        lab.now.set(lab.now.get() + 250);
    }
}

fn opened(filler_bytes: usize) -> (Lab, Opened) {
    let lab = Lab::new();
    lab.filler_bytes.set(filler_bytes);
    let replica = lab.open().unwrap();
    replica.trigger(Trigger::Offline);
    at_once(replica.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
    (lab, replica)
}

/// Back on the network, in reach of a server that takes everything. Counts what it took.
fn online(lab: &Lab, replica: &Opened) -> Rc<Cell<usize>> {
    replica.trigger(Trigger::Online);
    take_all(lab)
}

/// With some unsent notes, on a disk that has become full.
fn full(filler_bytes: usize) -> (Lab, Opened) {
    let (lab, replica) = opened(filler_bytes);
    for id in ["a", "b", "c"] {
        put(&replica, id, r#"{"x":1}"#).unwrap();
    }
    run(&lab, &replica, 6_000);
    fill_up(&lab);
    assert_eq!(put(&replica, "d", r#"{"x":1}"#).unwrap_err().code, "quota_exceeded");
    (lab, replica)
}

#[test]
fn l4_on_a_full_disk_what_waits_is_sent_and_settled_in_the_room_that_was_held_back() {
    let (lab, replica) = full(FILLER);
    assert_eq!(filler(&lab), Some(FILLER + 2));
    assert_eq!(replica.status().storage.state, "quota");
    let taken = online(&lab, &replica);
    run(&lab, &replica, 120_000);
    assert_eq!((replica.status().pending, taken.get(), filler(&lab)), (0, 3, None));
    assert_eq!(replica.status().storage.state, "ok");
    assert_eq!(lab.open().unwrap().status().pending, 0, "it is stored");
}

#[test]
fn without_a_filler_row_a_full_disk_holds_everything_back() {
    let (lab, replica) = full(0);
    let taken = online(&lab, &replica);
    run(&lab, &replica, 120_000);
    assert_eq!((replica.status().pending, taken.get()), (3, 0));
}

#[test]
fn the_filler_is_written_again_when_there_is_room_again() {
    let (lab, replica) = full(FILLER);
    online(&lab, &replica);
    run(&lab, &replica, 400_000);
    assert_eq!(filler(&lab), None, "no room yet");
    lab.plan.limit_room(&lab.disk, None);
    run(&lab, &replica, 400_000);
    assert_eq!(filler(&lab), Some(FILLER + 2));
}

#[test]
fn who_never_wrote_has_no_filler() {
    let (lab, replica) = opened(FILLER);
    online(&lab, &replica);
    run(&lab, &replica, 400_000);
    assert_eq!(filler(&lab), None);
    put(&replica, "a", r#"{"x":1}"#).unwrap();
    run(&lab, &replica, 6_000);
    assert_eq!(filler(&lab), Some(FILLER + 2));
}

#[test]
fn opening_does_not_read_the_filler() {
    let (lab, replica) = opened(FILLER);
    put(&replica, "a", r#"{"x":1}"#).unwrap();
    run(&lab, &replica, 6_000);
    assert_eq!(filler(&lab), Some(FILLER + 2));
    let asked: Rc<RefCell<Vec<Read>>> = Rc::default();
    let seen = Rc::clone(&asked);
    lab.plan.decide_by(move |_, call| {
        if let Call::Read(reads) = call {
            seen.borrow_mut().extend(reads.iter().cloned());
        }
        Fault::None
    });
    assert_eq!(lab.open().unwrap().status().pending, 1);
    let answered = at_once(lab.disk.read(&asked.borrow())).unwrap();
    let bytes: usize = answered.iter().flatten().map(|(_, row)| row.len()).sum();
    assert!(bytes > 0 && bytes < FILLER, "{bytes}");
}

#[test]
fn l1_a_batch_that_is_larger_than_the_room_held_back_goes_in_smaller_ones() {
    let (lab, replica) = opened(FILLER);
    let fields = format!(r#"{{"x":"{}"}}"#, "x".repeat(3_000));
    for at in 0..100 {
        put(&replica, &format!("n{at}"), &fields).unwrap();
    }
    run(&lab, &replica, 6_000);
    fill_up(&lab);
    let taken = online(&lab, &replica);
    run(&lab, &replica, 600_000);
    assert_eq!((replica.status().pending, taken.get()), (0, 100));
}

#[test]
fn l2_a_delete_and_a_sign_in_are_stored_on_a_full_disk() {
    let (lab, replica) = full(FILLER);
    let delete = WriteOp { op: WriteKind::Delete, fields: None, ..op("a", "{}") };
    write(&replica, vec![delete], false).unwrap();
    assert_eq!(filler(&lab), None);
    assert_eq!(lab.open().unwrap().status().pending, 4);

    let (lab, replica) = full(FILLER);
    at_once(replica.set_token(Some(Token { token: "t".repeat(200), expires_at: None }))).unwrap();
    assert_eq!(filler(&lab), None);
}
