//! Rows of the outbox that can't be read: nothing whose fate is unknown goes again as if it were new.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;

use lab::{Lab, Opened, at_once, put};
use landfall_protocol::codec::from_json;
use landfall_protocol::{PushRequest, Seq};
use landfall_replica::{Change, Token};
use landfall_storage::faulty::flip_byte;
use landfall_storage::{Key, RowStore, StoreName};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const PAGE: &str = r#"{"server_time":1,"epoch":"e1","changes":{},"tombstones":{},"cursor":"c",
 "covered":{"user:u":{"notes":9}},"access":{"added":[],"removed":[]},"has_more":false,"checksums":{}}"#;

/// A server that takes every push, and answers so many.
struct Told {
    lab: Lab,
    /// Address and body of every request.
    requests: Rc<RefCell<Vec<(String, String)>>>,
    answers: Rc<Cell<usize>>,
    /// Of record `a` nothing is taken, and of `b` nothing yet.
    refuses: Rc<Cell<bool>>,
}

impl Told {
    fn new() -> Self {
        let told = Self {
            lab: Lab::new(),
            requests: Rc::default(),
            answers: Rc::new(Cell::new(usize::MAX)),
            refuses: Rc::default(),
        };
        let (requests, answers, refuses) =
            (Rc::clone(&told.requests), Rc::clone(&told.answers), Rc::clone(&told.refuses));
        told.lab.serve(move |request| {
            let body = request.body.clone().unwrap_or_default();
            requests.borrow_mut().push((request.path.clone(), body.clone()));
            match request.path.as_str() {
                "/pull" => Lab::answer(PAGE.to_owned()),
                "/push" if answers.get() > 0 => {
                    answers.set(answers.get() - 1);
                    let push: PushRequest = from_json(&body).unwrap();
                    let results = push.mutations.iter().map(|text| {
                        let sent = from_json::<landfall_protocol::Mutation<landfall_protocol::Object>>(text.text());
                        let sent = sent.unwrap();
                        if refuses.get() {
                            let code = if sent.id.as_str() == "a" { "forbidden" } else { "blocked" };
                            return format!(r#"{{"seq":{},"status":"rejected","code":"{code}"}}"#, sent.seq);
                        }
                        format!(r#"{{"seq":{},"status":"applied","version":1,"position":1}}"#, sent.seq)
                    });
                    let results = results.collect::<Vec<_>>().join(",");
                    Lab::answer(format!(r#"{{"server_time":1,"epoch":"e1","head":{{}},"results":[{results}]}}"#))
                }
                _ => None,
            }
        });
        told
    }

    fn open(&self) -> Opened {
        let replica = self.lab.open().unwrap();
        at_once(replica.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
        replica
    }

    /// A life whose only batch was sent and not answered. Answers that batch; from here on everything is answered.
    fn one_unanswered(&self) -> PushRequest {
        self.answers.set(0);
        let replica = self.open();
        put(&replica, "a", r#"{"x":1}"#).unwrap();
        self.minute(&replica);
        let sent = self.pushes().pop().unwrap();
        self.requests.borrow_mut().clear();
        self.answers.set(usize::MAX);
        sent
    }

    /// Lets a minute pass in steps.
    fn minute(&self, replica: &Opened) {
        let until = self.lab.now.get() + 60_000;
        while self.lab.now.get() < until {
            at_once(replica.step());
            self.lab.now.set(self.lab.now.get() + 250);
        }
    }

    fn pushes(&self) -> Vec<PushRequest> {
        let requests = self.requests.borrow();
        requests.iter().filter(|(path, _)| path == "/push").map(|(_, body)| from_json(body).unwrap()).collect()
    }

    /// Keys in `meta` that begin so.
    fn keys(&self, prefix: &str) -> Vec<String> {
        let disk = self.lab.disk.snapshot();
        disk.rows(StoreName::Meta).map(|(key, _)| key.to_string()).filter(|key| key.starts_with(prefix)).collect()
    }

    /// Changes a byte of the only row whose key begins so. Answers its text.
    fn flip(&self, prefix: &str) -> String {
        let keys = self.keys(prefix);
        assert_eq!(keys.len(), 1, "{keys:?}");
        let key = Key::text(keys[0].clone());
        let mut row = at_once(self.lab.disk.get(StoreName::Meta, &key)).unwrap().unwrap();
        flip_byte(&mut row);
        self.lab.disk.tamper(StoreName::Meta, key, Some(row.clone()));
        row
    }

    /// The only row that was set aside.
    fn set_aside(&self) -> String {
        let keys = self.keys("quarantine/");
        assert_eq!(keys.len(), 1, "{keys:?}");
        at_once(self.lab.disk.get(StoreName::Meta, &Key::text(keys[0].clone()))).unwrap().unwrap()
    }
}

/// What was asked before and after the pull that comes first.
fn is_pulled_first(requests: &[(String, String)]) -> bool {
    let pull = requests.iter().position(|(path, _)| path == "/pull");
    let push = requests.iter().position(|(path, _)| path == "/push");
    pull.is_some() && pull < push
}

#[test]
fn s1_what_a_damaged_batch_carried_goes_again_only_as_another_client_and_after_a_pull() {
    let told = Told::new();
    let before = told.one_unanswered();

    let damaged = told.flip("desc/");
    let again = told.open();
    assert_eq!(again.status().storage.quarantined, 1);
    told.minute(&again);
    let pushes = told.pushes();
    assert!(is_pulled_first(&told.requests.borrow()));
    assert_ne!(pushes[0].client_id, before.client_id, "its fate under the old name is not known");
    assert_eq!((pushes[0].acked_through, pushes[0].first_push), (Seq::ZERO, true));
    let sent: Vec<&str> = pushes.iter().flat_map(|push| &push.mutations).map(|text| text.text()).collect();
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0].contains(r#""seq":1,"#) && sent[0].contains(r#""base":0"#), "with its old base: {sent:?}");
    let stamp = |text: &str| text.split("\"stamp\":").nth(1).map(str::to_owned);
    assert_eq!(stamp(sent[0]), stamp(before.mutations[0].text()), "and its old stamp");

    assert_eq!(told.set_aside(), damaged, "kept word for word");
    assert!(told.keys("desc/").is_empty());
    assert_eq!(again.status().storage.quarantined, 1, "and still reported");
    assert!(again.take_changes().0.iter().any(|change| format!("{change:?}").contains("ClientFork")));
    drop(again);
    let third = told.open();
    assert_eq!((third.status().storage.quarantined, third.status().pending), (1, 0));
    let known = third.db.borrow().state.client.client_id.clone();
    put(&third, "b", "{}").unwrap();
    told.minute(&third);
    assert_eq!(told.pushes().pop().unwrap().client_id, known, "once is enough");
}

#[test]
fn s1_entries_that_a_damaged_row_had_settled_go_again_only_as_another_client() {
    let told = Told::new();
    told.lab.batch_count.set(1);
    told.answers.set(1);
    let first = told.open();
    // Two entries in one log row, of which the second has no outcome: so the row stays, and with it the first.
    lab::write(&first, ["a", "b"].map(|id| lab::op(id, r#"{"x":1}"#)).to_vec(), false).unwrap();
    told.minute(&first);
    assert_eq!(first.status().pending, 1);
    let before = told.pushes()[0].client_id.clone();
    drop(first);

    let damaged = told.flip("acked/");
    told.requests.borrow_mut().clear();
    told.answers.set(usize::MAX);
    let again = told.open();
    told.minute(&again);
    assert_eq!(told.set_aside(), damaged);
    let pushes = told.pushes();
    assert!(is_pulled_first(&told.requests.borrow()));
    assert!(pushes.iter().all(|push| push.client_id != before), "{pushes:?}");
    assert_eq!(again.status().pending, 0);
}

#[test]
fn l4_what_a_damaged_row_had_refused_waits_for_its_person_as_it_was() {
    let told = Told::new();
    told.lab.batch_count.set(1);
    told.answers.set(1);
    told.refuses.set(true);
    let first = told.open();
    // The second of them has no outcome: so their log row stays, while that of the later change of the first goes.
    lab::write(&first, ["a", "b"].map(|id| lab::op(id, r#"{"x":1}"#)).to_vec(), false).unwrap();
    put(&first, "a", r#"{"x":2}"#).unwrap();
    told.minute(&first);
    let parked = first.db.borrow().state.parked.clone();
    assert_eq!((parked.len(), first.status().pending), (1, 1));
    drop(first);

    told.flip("acked/");
    told.requests.borrow_mut().clear();
    told.answers.set(usize::MAX);
    told.refuses.set(false);
    let again = told.open();
    told.minute(&again);
    let sent: Vec<String> =
        told.pushes().iter().flat_map(|push| &push.mutations).map(|text| text.text().to_owned()).collect();
    assert!(sent.len() == 1 && sent[0].contains(r#""id":"b""#), "what was refused is not sent again: {sent:?}");
    assert_eq!(again.db.borrow().state.parked, parked, "and nothing of it is lost");
    assert_eq!(again.status().pending, 0);
    drop(again);
    assert_eq!(told.open().db.borrow().state.parked, parked);
}

#[test]
fn l4_what_its_person_made_of_a_refused_change_stays_when_the_row_of_the_first_refusal_is_damaged() {
    let told = Told::new();
    told.lab.batch_count.set(1);
    told.answers.set(1);
    told.refuses.set(true);
    let first = told.open();
    lab::write(&first, ["a", "b"].map(|id| lab::op(id, r#"{"x":1}"#)).to_vec(), false).unwrap();
    told.minute(&first);
    let refusal = told.keys("acked/");
    let parked = first.db.borrow().state.parked.values().next().unwrap().id;
    at_once(first.retry(parked, from_json(r#"{"x":2}"#))).unwrap();
    drop(first);
    // The other one of their log row waits, and with it the first refused one is still there.
    told.lab.batch_count.set(100);
    told.answers.set(2);
    let first = told.open();
    told.minute(&first);
    let parked = first.db.borrow().state.parked.clone();
    let rows: Vec<String> = parked.values().map(|row| format!("{row:?}")).collect();
    assert!(rows.len() == 1 && rows[0].contains(r#""x":2"#), "{rows:?}");
    assert_eq!(first.status().pending, 1);
    drop(first);

    told.flip(&refusal[0]);
    told.requests.borrow_mut().clear();
    told.answers.set(1);
    let again = told.open();
    told.minute(&again);
    let pushes = told.pushes();
    assert!(pushes[0].mutations.iter().all(|text| !text.text().contains(r#""id":"a""#)), "{pushes:?}");
    assert_eq!(again.db.borrow().state.parked, parked);
}

#[test]
fn i3_a_damaged_row_of_decisions_that_nothing_hangs_on_is_set_aside_and_the_client_stays() {
    let told = Told::new();
    let first = told.open();
    put(&first, "a", r#"{"x":1}"#).unwrap();
    told.minute(&first);
    let client = told.pushes()[0].client_id.clone();
    drop(first);

    let damaged = told.flip("acked/");
    told.requests.borrow_mut().clear();
    let again = told.open();
    told.minute(&again);
    assert_eq!(told.set_aside(), damaged);
    assert_eq!(again.status().storage.quarantined, 1);
    put(&again, "b", "{}").unwrap();
    told.minute(&again);
    let pushes = told.pushes();
    assert!(is_pulled_first(&told.requests.borrow()), "what the row said of the server comes back with a pull");
    assert_eq!((pushes.len(), &pushes[0].client_id), (1, &client));
    assert!(
        !again
            .take_changes()
            .0
            .iter()
            .any(|change| matches!(change, Change::Event(landfall_core::settle::Event::ClientFork)))
    );
}

#[test]
fn i3_a_byte_that_was_only_read_wrong_costs_nothing() {
    let told = Told::new();
    let before = told.one_unanswered();

    let key = Key::text(told.keys("desc/")[0].clone());
    told.lab
        .plan
        .at_call(told.lab.plan.call_count() + 1, landfall_storage::faulty::Fault::FlipByte(StoreName::Meta, key));
    let again = told.open();
    assert_eq!(again.status().storage.quarantined, 1);
    told.minute(&again);
    let pushes = told.pushes();
    assert_eq!(pushes[0].client_id, before.client_id);
    assert_eq!(pushes[0].mutations, before.mutations, "the same bytes as ever");
    assert_eq!(again.status().storage.quarantined, 0);
    assert!(told.keys("quarantine/").is_empty());
}

#[test]
fn i3_a_batch_that_a_later_version_wrote_is_left_alone_and_nothing_is_sent() {
    let told = Told::new();
    told.one_unanswered();

    let key = Key::text(told.keys("desc/")[0].clone());
    let row = at_once(told.lab.disk.get(StoreName::Meta, &key)).unwrap().unwrap().replacen("D1", "D2", 1);
    told.lab.disk.tamper(StoreName::Meta, key.clone(), Some(row.clone()));
    let again = told.open();
    told.minute(&again);
    assert!(told.pushes().is_empty());
    assert_eq!(at_once(told.lab.disk.get(StoreName::Meta, &key)).unwrap(), Some(row));
    assert_eq!(again.status().last_error.map(|error| error.code), Some("newer_schema".to_owned()));
}
