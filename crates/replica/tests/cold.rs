//! A long outbox that is not read at open: what is seen of it, and that nothing of it is missed.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;

use lab::{Lab, Opened, at_once, op, put, write};
use landfall_core::lane_index::Tail;
use landfall_protocol::codec::from_json;
use landfall_protocol::{Mutation, Object, PushRequest};
use landfall_replica::{Query, Token, WriteKind, WriteOp};
use landfall_storage::faulty::{Call, Fault};
use landfall_storage::{Key, StorageFault, StoreName};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const SMALL: Tail = Tail { rows: 3, entries: 5 };

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ (z >> 27)) % end
    }
}

fn with_tail(tail: Tail) -> Lab {
    let lab = Lab::new();
    lab.tail.set(Some(tail));
    lab
}

/// What a worker does when there is nothing to send: here a step of the lane index, if one is due.
fn tidy(replica: &Opened) {
    at_once(replica.flush(0));
}

fn lane_rows(lab: &Lab) -> (bool, Vec<Key>) {
    let disk = lab.disk.snapshot();
    let pages = disk.rows(StoreName::Idx).map(|(key, _)| key.clone()).filter(|key| key.name().starts_with("lanes/"));
    (disk.row(StoreName::Meta, &Key::text("lanes")).is_some(), pages.collect())
}

fn get(replica: &Opened, id: &str) -> Option<String> {
    at_once(replica.get("notes", None, id)).unwrap()
}

/// A server that applies what it is sent, while `is_up`.
fn serve(lab: &Lab) -> Rc<Cell<bool>> {
    let is_up = Rc::new(Cell::new(true));
    let (up, position) = (Rc::clone(&is_up), Cell::new(0));
    lab.serve(move |request| {
        if request.path != "/push" || !up.get() {
            return None;
        }
        let push: PushRequest = from_json(request.body.as_ref().unwrap()).unwrap();
        let mut results = Vec::new();
        for text in &push.mutations {
            let mutation: Mutation<Object> = from_json(text.text()).unwrap();
            position.set(position.get() + 1);
            let (seq, at) = (mutation.seq, position.get());
            results.push(format!(r#"{{"seq":{seq},"status":"applied","version":{at},"position":{at}}}"#));
        }
        let results = results.join(",");
        Lab::answer(format!(r#"{{"server_time":1,"epoch":"e1","head":{{}},"results":[{results}]}}"#))
    });
    is_up
}

fn sign_in(replica: &Opened) {
    at_once(replica.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
}

#[test]
fn l5_of_thousands_of_unsent_changes_opening_reads_none_and_a_look_at_a_record_reads_its_own() {
    let lab = Lab::new();
    let first = lab.open().unwrap();
    for at in 0..300 {
        let row = (0..10).map(|of| op(&format!("n{}", at * 10 + of), &format!(r#"{{"x":{at}}}"#))).collect();
        write(&first, row, false).unwrap();
    }
    put(&first, "n17", r#"{"x":"changed"}"#).unwrap();
    tidy(&first);
    drop(first);

    let rows = Rc::new(Cell::new(0));
    let seen = Rc::clone(&rows);
    lab.plan.decide_by(move |_, call| {
        if let Call::Read(reads) = call {
            seen.set(seen.get() + reads.iter().filter(|read| read.store() == StoreName::Log).count());
        }
        Default::default()
    });
    let again = lab.open().unwrap();
    assert_eq!(again.db.borrow().state.entries.len(), 0, "nothing of the log is in memory");
    assert_eq!(again.status().pending, 3_001, "and how much waits is known all the same");
    let asked = rows.get();
    assert!(get(&again, "n17").unwrap().contains(r#""x":"changed""#));
    assert!(get(&again, "n17").unwrap().contains("pending"));
    assert_eq!(rows.get() - asked, 2, "one row of the log for each change of the record, once");
    assert_eq!(get(&again, "n5000"), None);
    assert_eq!(rows.get() - asked, 2, "and none for a record without changes");
    let found = at_once(again.query(&Query::all("notes"))).unwrap();
    assert_eq!(found.rows.len(), 3_000, "a query has all of the log read");
    assert_eq!(again.db.borrow().state.entries.len(), 3_001);
}

#[test]
fn l5_a_change_of_a_record_whose_lane_is_on_disk_stands_on_it() {
    let lab = with_tail(SMALL);
    let first = lab.open().unwrap();
    for id in ["a", "b", "c", "d"] {
        put(&first, id, r#"{"x":1,"y":1}"#).unwrap();
    }
    tidy(&first);
    let cold = lab.open().unwrap();
    assert_eq!(cold.db.borrow().state.entries.len(), 0);
    let one = |op: WriteKind, id: &str, fields: &str| WriteOp { op, ..lab::op(id, fields) };
    write(&cold, vec![one(WriteKind::Update, "a", r#"{"x":2}"#)], false).unwrap();
    write(&cold, vec![one(WriteKind::Delete, "b", "{}")], false).unwrap();
    let refused = write(&cold, vec![one(WriteKind::Create, "c", "{}")], false);
    assert_eq!(refused.unwrap_err().code, "already_exists");
    let refused = write(&cold, vec![one(WriteKind::Update, "e", "{}")], false);
    assert_eq!(refused.unwrap_err().code, "not_found");
    put(&cold, "d", r#"{"x":1,"y":1}"#).unwrap();
    assert_eq!(cold.status().pending, 6, "what changes nothing is no entry");
    assert!(get(&cold, "a").unwrap().contains(r#""x":2,"y":1"#));
    assert_eq!(get(&cold, "b"), None);
}

/// One that has read nothing, and one that has read all, side by side on what several contexts write, send and index.
#[test]
fn l5_a_context_that_has_not_read_the_log_shows_what_one_that_has_shows() {
    let mut has_index = 0;
    for seed in 0..40 {
        let mut random = Random(seed);
        let lab = with_tail(Tail { rows: 2 + random.below(6) as usize, entries: 4 + random.below(20) as usize });
        lab.batch_count.set(1 + random.below(8) as usize);
        let is_up = serve(&lab);
        let mut contexts = vec![lab.open().unwrap()];
        sign_in(&contexts[0]);
        for step in 0..60 {
            if random.below(4) == 0 {
                contexts.push(lab.open().unwrap());
            }
            if contexts.len() > 3 {
                contexts.remove(random.below(3) as usize);
            }
            let context = Rc::clone(&contexts[random.below(contexts.len() as u64) as usize]);
            match random.below(10) {
                0..5 => {
                    let count = 1 + random.below(4);
                    let ops = (0..count)
                        .map(|_| {
                            let kinds = [WriteKind::Put, WriteKind::Put, WriteKind::Delete];
                            let id = format!("n{}", random.below(25));
                            let fields = format!(r#"{{"x":{},"y{}":{step}}}"#, random.below(4), random.below(3));
                            WriteOp { op: kinds[random.below(3) as usize], ..op(&id, &fields) }
                        })
                        .collect();
                    write(&context, ops, random.below(3) == 0).unwrap();
                }
                5..7 => tidy(&context),
                7 => {
                    is_up.set(random.below(3) > 0);
                    at_once(context.refresh()).unwrap();
                    for _ in 0..random.below(3) {
                        at_once(context.step());
                    }
                    lab.now.set(lab.now.get() + 120_000);
                }
                _ => at_once(context.refresh()).unwrap(),
            }
            let (cold, whole) = (lab.open().unwrap(), lab.open().unwrap());
            has_index += usize::from(lane_rows(&lab).0);
            let waiting = at_once(whole.outbox()).unwrap();
            assert_eq!(cold.status().pending, whole.status().pending, "seed {seed} step {step}");
            for _ in 0..6 {
                let id = format!("n{}", random.below(26));
                assert_eq!(get(&cold, &id), get(&whole, &id), "seed {seed} step {step}: {id}");
            }
            assert_eq!(cold.status().pending, whole.status().pending, "seed {seed} step {step}");
            assert_eq!(at_once(cold.outbox()).unwrap(), waiting, "seed {seed} step {step}");
        }
    }
    assert!(has_index > 40 * 20, "{has_index}");
}

#[test]
fn l5_what_another_context_settles_meanwhile_does_not_come_back() {
    let lab = with_tail(SMALL);
    serve(&lab);
    let first = lab.open().unwrap();
    sign_in(&first);
    for at in 0..30 {
        put(&first, &format!("n{at}"), r#"{"x":1}"#).unwrap();
    }
    tidy(&first);
    let cold = lab.open().unwrap();
    assert!(get(&cold, "n3").unwrap().contains("pending"));
    // Between two reads of the one that is cold the other sends everything.
    let (other, is_done) = (Rc::clone(&first), Cell::new(false));
    lab.plan.decide_by(move |_, call| {
        if matches!(call, Call::Read(reads) if reads.iter().any(|read| read.store() == StoreName::Log))
            && !is_done.replace(true)
        {
            at_once(other.run_due());
        }
        Default::default()
    });
    assert!(!get(&cold, "n4").unwrap().contains("pending"), "sent before it was read");
    lab.plan.decide_by(|_, _| Default::default());
    assert!(at_once(cold.outbox()).unwrap().is_empty());
    assert_eq!(cold.status().pending, 0);
    assert!(!get(&cold, "n3").unwrap().contains("pending"));
}

#[test]
fn when_everything_is_sent_nothing_of_the_index_is_left() {
    let lab = with_tail(SMALL);
    serve(&lab);
    let replica = lab.open().unwrap();
    sign_in(&replica);
    for at in 0..40 {
        put(&replica, &format!("n{at}"), "{}").unwrap();
        tidy(&replica);
    }
    let (has_row, pages) = lane_rows(&lab);
    assert!(has_row);
    assert!(pages.len() <= 6, "runs are joined as they grow: {pages:?}");
    at_once(replica.run_due());
    assert_eq!(lane_rows(&lab), (false, Vec::new()));
}

#[test]
fn i3_a_page_or_the_row_of_the_index_that_is_damaged_or_lost_is_said_and_the_log_is_read() {
    for (what, is_lost) in [("page", false), ("page", true), ("row", false), ("row", true)] {
        let lab = with_tail(SMALL);
        let first = lab.open().unwrap();
        for at in 0..10 {
            put(&first, &format!("n{at}"), r#"{"x":1}"#).unwrap();
        }
        tidy(&first);
        drop(first);
        let (_, pages) = lane_rows(&lab);
        let (store, key) =
            if what == "page" { (StoreName::Idx, pages[0].clone()) } else { (StoreName::Meta, Key::text("lanes")) };
        let text = lab.disk.snapshot().row(store, &key).unwrap().to_owned();
        lab.disk.tamper(store, key.clone(), (!is_lost).then(|| text.replace("0", "1")));
        let again = lab.open().unwrap();
        assert!(get(&again, "n3").unwrap().contains("pending"));
        assert_eq!(at_once(again.outbox()).unwrap().len(), 10);
        let said = again.status().storage.quarantined;
        assert_eq!(said > 0, !is_lost, "{what}: a row that is not there may never have been");
        // The next step makes it anew, and keeps what was broken.
        put(&again, "n10", "{}").unwrap();
        put(&again, "n11", "{}").unwrap();
        put(&again, "n12", "{}").unwrap();
        tidy(&again);
        if !is_lost {
            let kept = lab.disk.snapshot();
            let broken = text.replace("0", "1");
            let stores = [StoreName::Meta, StoreName::Idx];
            assert!(stores.iter().any(|store| kept.rows(*store).any(|(_, row)| *row == *broken)), "{what}");
            assert!(again.status().storage.quarantined > 0, "{what}: and it is still said");
        }
        let third = lab.open().unwrap();
        assert!(get(&third, "n3").unwrap().contains("pending"));
        assert_eq!(third.db.borrow().state.entries.len(), 1, "{what}: found by the index again");
    }
}

#[test]
fn l1_a_step_of_the_index_that_fails_in_any_way_costs_nothing() {
    let faults = [
        Fault::AbortBefore(StorageFault::Other),
        Fault::AbortBefore(StorageFault::Quota),
        Fault::UnknownButCommitted,
        Fault::UnknownNotCommitted,
    ];
    for fault in faults {
        let lab = with_tail(SMALL);
        let replica = lab.open().unwrap();
        for at in 0..20 {
            put(&replica, &format!("n{at}"), r#"{"x":1}"#).unwrap();
            lab.plan.on_txn("lanes", fault.clone());
            tidy(&replica);
        }
        for context in [lab.open().unwrap(), replica] {
            assert_eq!(context.status().pending, 20);
            assert!((0..20).all(|at| get(&context, &format!("n{at}")).is_some()));
        }
    }
}

/// Full rows are read a few at a time, and rows of one entry many at a time.
#[test]
fn i6_the_log_is_read_in_slices() {
    let lab = Lab::new();
    let first = lab.open().unwrap();
    for at in 0..60 {
        let row = (0..150).map(|of| op(&format!("m{}", at * 150 + of), "{}")).collect();
        write(&first, row, false).unwrap();
    }
    for at in 0..5_000 {
        put(&first, &format!("n{at}"), "{}").unwrap();
    }
    tidy(&first);
    let again = lab.open().unwrap();
    let sizes = Rc::new(RefCell::new(Vec::new()));
    let (seen, watched) = (Rc::clone(&sizes), Rc::downgrade(&again));
    lab.plan.decide_by(move |_, _| {
        seen.borrow_mut().extend(watched.upgrade().map(|replica| replica.db.borrow().state.entries.len()));
        Default::default()
    });
    at_once(again.outbox()).unwrap();
    assert_eq!(again.db.borrow().state.entries.len(), 14_000);
    let most = sizes.borrow().windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(most <= 16 * 150, "{most}");
    assert!(sizes.borrow().len() > 6, "{:?}", sizes.borrow());
}
