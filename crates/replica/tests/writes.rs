//! Writes that are asked for in one turn: what each stands on, and what becomes of it when nothing can be stored.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod alone;

use alone::Alone;
use landfall_protocol::Json;
use landfall_replica::{SyncError, WriteAnswer, WriteKind, WriteOp, Written};
use landfall_storage::StorageFault;
use landfall_storage::faulty::{Fault, FaultPlan, FaultyRowStore};
use landfall_storage::memory::MemoryRowStore;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

type Rows = FaultyRowStore<MemoryRowStore>;
type Said = Result<Vec<Written>, SyncError>;

fn open() -> (Alone<Rows>, FaultPlan) {
    let plan = FaultPlan::new();
    (Alone::open(FaultyRowStore::over(MemoryRowStore::new(), plan.clone())), plan)
}

fn op(op: WriteKind, collection: &str, id: &str, fields: &str) -> WriteOp {
    let fields = Some(Json::parse(fields).unwrap());
    WriteOp { op, collection: collection.into(), scope: None, id: Some(id.into()), fields }
}
fn put(id: &str, fields: &str) -> WriteOp {
    op(WriteKind::Put, "notes", id, fields)
}

/// Asks for all of these in one turn; what each call was told.
fn ask(alone: &Alone<Rows>, calls: Vec<Vec<WriteOp>>) -> Vec<Said> {
    let mut calls: Vec<Pin<Box<dyn Future<Output = Said>>>> = calls
        .into_iter()
        .map(|ops| {
            let replica = std::rc::Rc::clone(&alone.replica);
            Box::pin(async move { replica.write(ops, true).await }) as Pin<Box<dyn Future<Output = Said>>>
        })
        .collect();
    let mut said: Vec<Option<Said>> = calls.iter().map(|_| None).collect();
    alone.run(poll_fn(move |context| {
        for (call, said) in calls.iter_mut().zip(&mut said).filter(|(_, said)| said.is_none()) {
            if let Poll::Ready(word) = call.as_mut().poll(context) {
                *said = Some(word);
            }
        }
        if said.iter().all(Option::is_some) {
            return Poll::Ready(said.iter_mut().filter_map(Option::take).collect());
        }
        Poll::Pending
    }))
}

fn code(said: &Said) -> &'static str {
    said.as_ref().err().map_or("stored", |error| error.code)
}

/// What a call gives that has nothing to wait for.
fn done<T>(call: impl Future<Output = T>) -> T {
    let mut call = std::pin::pin!(call);
    match call.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it waits"),
    }
}

fn shown(alone: &Alone<Rows>, id: &str) -> Option<String> {
    let text = done(alone.replica.get("notes", None, id)).unwrap()?;
    Some(text[text.find("{\"id\"").unwrap()..text.find(",\"meta\"").unwrap()].to_owned())
}

#[test]
fn l5_a_write_right_behind_another_of_its_record_stands_on_it() {
    let (alone, _) = open();
    let said = ask(
        &alone,
        vec![
            vec![put("a", r#"{"x":1,"y":1}"#)],
            vec![put("a", r#"{"y":1,"x":1.0}"#)],
            vec![op(WriteKind::Update, "notes", "a", r#"{"y":2}"#)],
            vec![op(WriteKind::Create, "notes", "a", "{}")],
        ],
    );
    let entries: Vec<_> = said.iter().flatten().map(|written| written[0].entry.map(|id| id.index())).collect();
    assert_eq!(entries, [Some(0), None, Some(1)], "the second put says what is there");
    assert_eq!(code(&said[3]), "already_exists");
    assert_eq!(shown(&alone, "a").unwrap(), r#"{"id":"a","x":1,"y":2}"#);
}

#[test]
fn l3_what_stands_on_a_write_that_was_not_stored_is_refused_with_it_and_nothing_else_is() {
    let (alone, plan) = open();
    plan.on_txn("append", Fault::AbortBefore(StorageFault::Quota));
    let said = ask(
        &alone,
        vec![
            vec![put("a", r#"{"x":1}"#)],
            vec![put("a", r#"{"x":1}"#)],
            vec![op(WriteKind::Create, "notes", "a", "{}")],
            vec![op(WriteKind::Update, "notes", "b", "{}")],
            vec![op(WriteKind::Delete, "notes", "b", "{}")],
        ],
    );
    let codes: Vec<_> = said.iter().map(code).collect();
    assert_eq!(codes, ["quota_exceeded", "quota_exceeded", "quota_exceeded", "not_found", "stored"]);
    assert_eq!(shown(&alone, "a"), None);
    assert_eq!(code(&ask(&alone, vec![vec![put("a", r#"{"x":2}"#)]])[0]), "stored");
    assert_eq!(shown(&alone, "a").unwrap(), r#"{"id":"a","x":2}"#);
}

#[test]
fn l2_a_transaction_with_a_wrong_write_leaves_nothing_for_later_writes_to_stand_on() {
    let (alone, _) = open();
    let said = ask(
        &alone,
        vec![
            vec![put("a", r#"{"x":1}"#)],
            vec![put("a", r#"{"x":2}"#), put("c", "{}"), op(WriteKind::Update, "notes", "b", "{}")],
            vec![put("a", r#"{"x":1}"#)],
            vec![put("c", r#"{"z":1}"#), put("a", r#"{"x":3}"#)],
        ],
    );
    let codes: Vec<_> = said.iter().map(code).collect();
    assert_eq!(codes, ["stored", "not_found", "stored", "stored"]);
    assert_eq!(said[2].as_ref().unwrap()[0].entry, None, "it is what the first put made it");
    assert_eq!(shown(&alone, "a").unwrap(), r#"{"id":"a","x":3}"#);
    assert_eq!(shown(&alone, "c").unwrap(), r#"{"id":"c","z":1}"#);
}

#[test]
fn an_update_without_a_scope_finds_the_record_that_was_put_right_before_it() {
    let (alone, _) = open();
    let said = ask(
        &alone,
        vec![
            vec![op(WriteKind::Put, "tasks", "t", r#"{"facility":"7"}"#)],
            vec![op(WriteKind::Update, "tasks", "t", r#"{"done":true}"#)],
            vec![op(WriteKind::Put, "tasks", "t", r#"{"facility":"8"}"#)],
            vec![op(WriteKind::Update, "tasks", "t", r#"{"done":false}"#)],
        ],
    );
    let codes: Vec<_> = said.iter().map(code).collect();
    assert_eq!(codes, ["stored", "stored", "stored", "ambiguous_id"]);
    assert_eq!(said[1].as_ref().unwrap()[0].scope.as_str(), "facility:7");
}

#[test]
fn of_writes_that_stand_for_themselves_a_refused_one_leaves_the_others_alone() {
    let (alone, _) = open();
    let refused = Err(SyncError::new("invalid_record", "This is no write."));
    let twice = put("b", r#"{"x":1,"\u0078":2}"#);
    let ops = vec![Ok(put("a", r#"{"x":1}"#)), refused, Ok(twice), Ok(put("c", "{}"))];
    let answers = alone.run(alone.replica.write_each(ops));
    let done: Vec<bool> = answers.iter().map(|answer| matches!(answer, WriteAnswer::Done(_))).collect();
    assert_eq!(done, [true, false, false, true]);
    assert!(shown(&alone, "a").is_some() && shown(&alone, "b").is_none() && shown(&alone, "c").is_some());
}
