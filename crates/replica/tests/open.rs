//! Opening: what it asks of the disk.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;

use lab::{Lab, at_once, put};
use landfall_replica::Token;
use landfall_storage::faulty::{Call, Fault};
use landfall_storage::{Key, RowStore, StoreName};
use std::cell::RefCell;
use std::rc::Rc;

/// Notes every call from now on.
fn watch(lab: &Lab) -> Rc<RefCell<Vec<String>>> {
    let calls = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&calls);
    lab.plan.decide_by(move |_, call| {
        seen.borrow_mut().push(match call {
            Call::Read(_) => "read".to_owned(),
            Call::Commit(txn) => txn.name.to_owned(),
        });
        Default::default()
    });
    calls
}

#[test]
fn an_existing_database_opens_with_one_read_and_no_write() {
    let lab = Lab::new();
    let first = lab.open().unwrap();
    at_once(first.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
    for id in ["a", "b"] {
        put(&first, id, r#"{"x":1}"#).unwrap();
    }
    drop(first);

    let calls = watch(&lab);
    let (again, also) = lab.open_with(&["client", "nothing"]).unwrap();
    assert_eq!(*calls.borrow(), ["read"]);
    assert_eq!(again.db.borrow().state.entries.len(), 2, "and everything is there");
    assert_eq!(again.live_token().as_deref(), Some("t"));
    let stored = at_once(lab.disk.get(StoreName::Meta, &Key::text("client"))).unwrap();
    assert_eq!(also, [stored, None], "rows that the caller asked for come with it");
}

#[test]
fn a_new_database_opens_with_two_reads_and_one_write() {
    let lab = Lab::new();
    let calls = watch(&lab);
    lab.open().unwrap();
    assert_eq!(*calls.borrow(), ["read", "open", "read"]);
}

#[test]
fn an_outbox_longer_than_one_read_opens_whole() {
    let lab = Lab::new();
    let first = lab.open().unwrap();
    for at in 0..2_100 {
        put(&first, &format!("n{at}"), "{}").unwrap();
    }
    let calls = watch(&lab);
    let again = lab.open().unwrap();
    assert_eq!(again.db.borrow().state.entries.len(), 2_100);
    assert_eq!(calls.borrow().len(), 4, "a first look, two of the log, and whether anything changed meanwhile");
}

/// What stands by itself may be written twice: of unknown fate it is.
#[test]
fn a_sign_in_whose_commit_is_of_unknown_fate_is_stored() {
    for fault in [Fault::UnknownButCommitted, Fault::UnknownNotCommitted] {
        let lab = Lab::new();
        let replica = lab.open().unwrap();
        lab.plan.on_txn("token", fault);
        at_once(replica.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
        assert_eq!(lab.open().unwrap().live_token().as_deref(), Some("t"));
    }
}
