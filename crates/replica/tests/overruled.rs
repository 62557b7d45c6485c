//! What somebody undid without having seen it, as its author hears of it (C2).

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;

use lab::{Lab, Opened, at_once, put};
use landfall_core::fixup::Choice;
use landfall_core::schedule::Trigger;
use landfall_core::settle::Event;
use landfall_replica::{Change, HttpRequest, HttpResponse, Token};
use landfall_storage::StorageFault;
use landfall_storage::faulty::{Call, Fault};
use std::cell::Cell;
use std::rc::Rc;

/// The record is there, and then somebody else's value and what this user lost to it.
fn page(request: &HttpRequest) -> Option<HttpResponse> {
    if request.path != "/pull" {
        return None;
    }
    let asked = request.body.as_ref().unwrap();
    let (n, cursor, overruled) = match asked.contains("\"cursor\":\"") {
        false => (1, "one", ""),
        true => (
            2,
            "two",
            r#","overruled":[{"scope":"user:u","collection":"notes","id":"a","position":2,"at":5,"op":"update",
                "code":"overruled","fields":{"n":7},"record":{"n":2}}]"#,
        ),
    };
    Lab::answer(format!(
        r#"{{"server_time":1,"epoch":"e1","changes":{{"notes":[
            {{"scope":"user:u","id":"a","version":{n},"position":{n},"fields":{{"n":{n}}}}}]}},"tombstones":{{}},
            "cursor":"{cursor}","covered":{{"user:u":{{"notes":{n}}}}},"has_more":false{overruled}}}"#
    ))
}

fn events(replica: &Opened) -> usize {
    let told = replica.take_changes().0.into_iter();
    told.filter(|change| matches!(change, Change::Event(Event::Conflict { .. }))).count()
}

fn pull(lab: &Lab, replica: &Opened) {
    replica.trigger(Trigger::Poke);
    for _ in 0..20 {
        at_once(replica.step());
        lab.now.set(lab.now.get() + 250);
    }
}

fn open(lab: &Lab) -> Opened {
    let replica = lab.open().unwrap();
    at_once(replica.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
    replica
}

#[test]
fn c2_what_somebody_undid_is_told_once_in_every_context_and_can_be_written_again() {
    let lab = Lab::new();
    lab.serve(page);
    let (replica, other) = (open(&lab), lab.open().unwrap());
    pull(&lab, &replica);
    assert_eq!((events(&replica), replica.conflicts().len()), (0, 0));
    pull(&lab, &replica);
    assert_eq!(events(&replica), 1);
    let conflicts = replica.conflicts();
    assert_eq!(conflicts.len(), 1, "a page that is pulled again says the same");
    let told = &conflicts[0];
    assert_eq!((told.code.as_deref(), told.at.get()), (Some("overruled"), 5));
    assert_eq!((told.local.get("n"), told.server.as_ref().unwrap().get("n")), (Some("7"), Some("2")));
    at_once(other.refresh()).unwrap();
    assert_eq!((events(&other), other.conflicts()), (1, conflicts.clone()));
    pull(&lab, &replica);
    assert_eq!((events(&replica), replica.conflicts().len()), (0, 1), "once");

    at_once(replica.resolve(told.id, Choice::Local)).unwrap();
    assert!(replica.conflicts().is_empty());
    assert!(at_once(replica.get("notes", None, "a")).unwrap().unwrap().contains("\"n\":7"));
    assert_eq!(replica.status().pending, 1);
}

#[test]
fn c2_a_page_that_could_not_be_stored_tells_it_again_and_only_once() {
    let lab = Lab::new();
    lab.serve(page);
    let replica = open(&lab);
    pull(&lab, &replica);
    let is_failing = Rc::new(Cell::new(true));
    let failing = Rc::clone(&is_failing);
    lab.plan.decide_by(move |_, call| match call {
        Call::Commit(txn) if txn.name == "checkpoint" && failing.get() => Fault::AbortBefore(StorageFault::Quota),
        _ => Fault::None,
    });
    pull(&lab, &replica);
    assert_eq!((events(&replica), replica.conflicts().len()), (1, 1), "it is told, whatever becomes of the page");
    is_failing.set(false);
    lab.now.set(lab.now.get() + 600_000);
    pull(&lab, &replica);
    assert!(at_once(replica.get("notes", None, "a")).unwrap().unwrap().contains("\"n\":2"));
    assert_eq!((events(&replica), replica.conflicts().len()), (0, 1));
    put(&replica, "b", "{}").unwrap();
}
