//! Commits of which nobody said whether they were stored, while another context stores something much like them.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;

use lab::{Lab, Opened, at_once, put};
use landfall_core::batch::plan_batch;
use landfall_core::plan::OutboxTxn;
use landfall_protocol::codec::from_json;
use landfall_protocol::{Json, PushRequest};
use landfall_replica::db::{Committing, commit_outbox};
use landfall_replica::{Host, Token};
use landfall_storage::faulty::Fault;

/// Page and worker with faults of their own, each with everything in memory that is on their disk.
fn two(lab: &Lab) -> (Opened, Lab, Opened) {
    let page = lab.open().unwrap();
    put(&page, "a", r#"{"x":1}"#).unwrap();
    let other = lab.beside();
    let worker = other.open().unwrap();
    at_once(page.refresh()).unwrap();
    (page, other, worker)
}

fn next_commit(lab: &Lab, fault: Fault) {
    lab.plan.at_call(lab.plan.call_count() + 1, fault);
}

fn batch(replica: &Opened) -> OutboxTxn {
    let db = replica.db.borrow();
    plan_batch(&db.state, &db.base, &replica.config, false, replica.host.now()).unwrap()
}

#[test]
fn s1_a_lost_batch_is_not_taken_for_stored_because_another_context_gave_the_same_seqs_to_other_bytes() {
    let lab = Lab::new();
    let (page, other, worker) = two(&lab);
    assert!(matches!(at_once(commit_outbox(&page.host, &page.db, batch(&page))), Committing::Done(_)));
    // The worker has less in memory, and so its bytes differ.
    let mut lost = batch(&worker);
    let (key, mut row) = lost.descriptors.iter().next().map(|(key, row)| (key.clone(), row.clone())).unwrap();
    let text = &mut row.as_mut().unwrap().mutations[0].text;
    *text = Json::parse(&text.text().replace(r#""base":0"#, r#""base":1"#)).unwrap();
    lost.descriptors.insert(key, row);
    next_commit(&other, Fault::UnknownNotCommitted);
    assert_eq!(at_once(commit_outbox(&worker.host, &worker.db, lost)), Committing::Stale);
    at_once(worker.refresh()).unwrap();
    assert_eq!(worker.db.borrow().state.descriptors, page.db.borrow().state.descriptors);
}

#[test]
fn s1_a_batch_whose_commit_was_stored_and_not_heard_of_is_known_as_stored() {
    let lab = Lab::new();
    let (page, _, worker) = two(&lab);
    next_commit(&lab, Fault::UnknownButCommitted);
    assert!(matches!(at_once(commit_outbox(&page.host, &page.db, batch(&page))), Committing::Done(_)));
    at_once(worker.refresh()).unwrap();
    assert_eq!(worker.db.borrow().state.descriptors, page.db.borrow().state.descriptors);
}

#[test]
fn l1_a_lost_edit_is_not_taken_for_stored_because_another_context_edited_the_same_change() {
    let lab = Lab::new();
    lab.serve(|request| {
        let push: PushRequest = from_json(request.body.as_ref().filter(|_| request.path == "/push")?)?;
        assert_eq!(push.mutations.len(), 1);
        let refused = r#"{"seq":1,"status":"rejected","code":"validation"}"#;
        Lab::answer(format!(r#"{{"server_time":1,"epoch":"e1","head":{{}},"results":[{refused}]}}"#))
    });
    let (page, other, worker) = two(&lab);
    at_once(page.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
    while page.db.borrow().state.parked.is_empty() {
        at_once(page.step());
        lab.now.set(lab.now.get() + 250);
    }
    at_once(worker.refresh()).unwrap();
    let id = page.db.borrow().state.parked.values().next().unwrap().id;
    at_once(page.retry(id, from_json(r#"{"x":2}"#))).unwrap();
    next_commit(&other, Fault::UnknownNotCommitted);
    let told = at_once(worker.retry(id, from_json(r#"{"x":3}"#)));
    let stored: Vec<String> =
        page.db.borrow().state.entries.values().map(|entry| entry.set.text().to_owned()).collect();
    assert_eq!(stored, [r#"{"x":2}"#]);
    assert!(told.is_err(), "an edit that is nowhere was acknowledged");
}
