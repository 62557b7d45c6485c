//! Pulls of many pages: what is asked for ahead, and what becomes of it when what it stands on is not stored.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;

use lab::{Lab, Opened, at_once, put};
use landfall_protocol::PullRequest;
use landfall_protocol::codec::from_json;
use landfall_replica::{HttpResponse, Query, Token};
use landfall_storage::StorageFault;
use landfall_storage::faulty::Fault;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const PAGES: usize = 6;

/// Page `at` of a cold start, three records each; the last one makes all of them visible.
fn page(at: usize) -> String {
    let record = |n: usize| {
        let id = at * 3 + n;
        format!(r#"{{"scope":"user:u","id":"n{id:02}","version":1,"position":{},"fields":{{"n":{id}}}}}"#, id + 1)
    };
    let is_last = at + 1 == PAGES;
    let covered = if is_last { format!(r#""user:u":{{"notes":{}}}"#, PAGES * 3) } else { String::new() };
    format!(
        r#"{{"server_time":1,"epoch":"e1","changes":{{"notes":[{},{},{}]}},"tombstones":{{}},"cursor":"{}","covered":{{{covered}}},"has_more":{}}}"#,
        record(0),
        record(1),
        record(2),
        at + 1,
        !is_last,
    )
}

/// A page, and the answer in its place; `None`: it is lost.
type Instead = (usize, Option<HttpResponse>);

/// A server of some pages.
struct Paged {
    lab: Lab,
    /// The page that each pull asked for, and the transactions of the base that were begun before it.
    asked: Rc<RefCell<Vec<(usize, usize)>>>,
    /// What is answered instead of a page, once.
    instead: Rc<RefCell<Option<Instead>>>,
    /// How long an answer takes.
    takes_ms: Rc<Cell<u64>>,
}

impl Paged {
    fn new(pull_bytes: usize) -> Self {
        let paged = Self { lab: Lab::new(), asked: Rc::default(), instead: Rc::default(), takes_ms: Rc::default() };
        paged.lab.pull_bytes.set(pull_bytes);
        let stored = Rc::new(Cell::new(0));
        let count = Rc::clone(&stored);
        paged.lab.plan.decide_by(move |_, call| {
            if matches!(call, landfall_storage::faulty::Call::Commit(txn) if txn.name == "checkpoint") {
                count.set(count.get() + 1);
            }
            Fault::None
        });
        let (asked, instead) = (Rc::clone(&paged.asked), Rc::clone(&paged.instead));
        let (now, takes_ms, mut seq) = (Rc::clone(&paged.lab.now), Rc::clone(&paged.takes_ms), 0);
        paged.lab.serve(move |request| {
            now.set(now.get() + takes_ms.get());
            if request.path != "/pull" {
                seq += 1;
                let result = format!(r#"{{"seq":{seq},"status":"applied","version":{seq},"position":{}}}"#, 98 + seq);
                return Lab::answer(format!(r#"{{"server_time":1,"epoch":"e1","head":{{}},"results":[{result}]}}"#));
            }
            let pull: PullRequest = from_json(request.body.as_deref().unwrap_or_default()).unwrap();
            let at = pull.cursor.map_or(0, |cursor| cursor.parse().unwrap());
            asked.borrow_mut().push((at, stored.get()));
            let mut instead = instead.borrow_mut();
            match instead.take_if(|(page, _)| *page == at) {
                Some((_, answer)) => answer,
                None if at < PAGES => Lab::answer(page(at)),
                None => Lab::answer(page(PAGES - 1).replace("n1", "m")),
            }
        });
        paged
    }

    fn open(&self) -> Opened {
        let replica = self.lab.open().unwrap();
        at_once(replica.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
        replica
    }

    /// The next step that pulls.
    fn step(&self, replica: &Opened) {
        let before = self.asked.borrow().len();
        for _ in 0..100 {
            at_once(replica.step());
            if self.asked.borrow().len() > before {
                return;
            }
            self.lab.now.set(self.lab.now.get() + 1_000);
        }
        panic!("nothing is pulled");
    }

    fn pages(&self) -> Vec<usize> {
        self.asked.take().into_iter().map(|(page, _)| page).collect()
    }
}

fn cursor(replica: &Opened) -> Option<String> {
    replica.db.borrow().base.manifest.cursor.clone()
}

fn records(replica: &Opened) -> Vec<String> {
    at_once(replica.query(&Query::all("notes"))).unwrap().rows.iter().map(|row| row.text.to_string()).collect()
}

#[test]
fn r4_pages_stored_one_by_one_and_together_give_the_same_records() {
    let stored = |pull_bytes| {
        let paged = Paged::new(pull_bytes);
        let replica = paged.open();
        paged.step(&replica);
        assert_eq!((paged.pages(), cursor(&replica).as_deref()), ((0..PAGES).collect(), Some("6")));
        let found = records(&replica);
        assert_eq!(found.len(), PAGES * 3);
        (found, replica.db.borrow().base.manifest.pairs[0].sum)
    };
    assert_eq!(stored(1), stored(0));
    assert_eq!(stored(700), stored(0));
}

#[test]
fn a_page_that_a_slow_line_does_not_bring_in_time_is_asked_for_smaller_and_pages_grow_again() {
    let lab = Lab::new();
    let limits = Rc::new(RefCell::new(Vec::new()));
    let (asked, now) = (Rc::clone(&limits), Rc::clone(&lab.now));
    lab.serve(move |request| {
        if request.path != "/pull" {
            return Lab::answer("{}".to_owned());
        }
        let pull: PullRequest = from_json(request.body.as_deref().unwrap_or_default()).unwrap();
        asked.borrow_mut().push(pull.limit);
        if pull.limit > 100 && asked.borrow().len() < 4 {
            now.set(now.get() + 40_000);
            return None;
        }
        let at = pull.cursor.map_or(0, |cursor| cursor.parse().unwrap());
        Lab::answer(page(at.min(PAGES - 1)))
    });
    let replica = lab.open().unwrap();
    at_once(replica.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
    for _ in 0..200 {
        at_once(replica.step());
        lab.now.set(lab.now.get() + 1_000);
    }
    assert_eq!(limits.borrow()[..7], [1_000, 250, 62, 124, 248, 496, 992], "{limits:?}");
    assert_eq!(records(&replica).len(), PAGES * 3);
}

#[test]
fn a_line_that_is_simply_down_does_not_make_pages_smaller() {
    let paged = Paged::new(0);
    let replica = paged.open();
    *paged.instead.borrow_mut() = Some((0, None));
    paged.step(&replica);
    assert_eq!(replica.db.borrow().base.manifest.cursor, None);
    let limits = Rc::new(Cell::new(0));
    let seen = Rc::clone(&limits);
    paged.lab.serve(move |request| {
        if request.path != "/pull" {
            return Lab::answer("{}".to_owned());
        }
        let pull: PullRequest = from_json(request.body.as_deref().unwrap_or_default()).unwrap();
        seen.set(pull.limit);
        Lab::answer(page(PAGES - 1))
    });
    paged.lab.now.set(paged.lab.now.get() + 600_000);
    for _ in 0..20 {
        at_once(replica.step());
        paged.lab.now.set(paged.lab.now.get() + 1_000);
    }
    assert_eq!(limits.get(), 1_000);
}

#[test]
fn the_next_page_is_asked_for_before_the_one_before_it_is_stored() {
    let paged = Paged::new(1);
    let replica = paged.open();
    paged.step(&replica);
    let ahead: Vec<(usize, usize)> = (0..PAGES).map(|page| (page, page.saturating_sub(1))).collect();
    assert_eq!(*paged.asked.borrow(), ahead, "(page, transactions before it was asked for)");
}

#[test]
fn r3_what_was_asked_for_ahead_is_thrown_away_when_what_it_stands_on_is_not_stored() {
    let paged = Paged::new(1);
    let replica = paged.open();
    let fails = || Fault::AbortBefore(StorageFault::Other);
    paged.lab.plan.on_txn("checkpoint", fails());
    paged.step(&replica);
    assert_eq!((paged.pages(), cursor(&replica)), (vec![0, 1], None), "page 1 came ahead in vain");
    paged.lab.plan.on_txn("checkpoint", Fault::None);
    paged.lab.plan.on_txn("checkpoint", fails());
    paged.step(&replica);
    assert_eq!((paged.pages(), cursor(&replica).as_deref()), (vec![0, 1, 2], Some("1")));
    paged.step(&replica);
    assert_eq!((paged.pages(), records(&replica).len()), ((1..PAGES).collect(), PAGES * 3));
}

#[test]
fn r6_a_reset_or_a_refusal_ahead_leaves_what_is_stored_and_is_asked_for_again() {
    let refused = |status, code| {
        let body = format!(r#"{{"error":{{"code":"{code}","message":"","epoch":"e2"}}}}"#);
        Some(HttpResponse { status, retry_after_ms: None, body })
    };
    let answers = [refused(409, "reset_required"), refused(503, "busy"), Lab::answer("half a pa".to_owned()), None];
    for answer in answers {
        let paged = Paged::new(1);
        let replica = paged.open();
        *paged.instead.borrow_mut() = Some((3, answer.clone()));
        paged.step(&replica);
        assert_eq!((paged.pages(), cursor(&replica).as_deref()), (vec![0, 1, 2, 3], Some("3")), "{answer:?}");
        paged.step(&replica);
        assert_eq!((paged.pages(), records(&replica).len()), ((3..PAGES).collect(), PAGES * 3), "{answer:?}");
    }
}

#[test]
fn a_page_of_another_epoch_than_the_one_before_it_is_not_stored_with_it() {
    for pull_bytes in [1, 0] {
        let paged = Paged::new(pull_bytes);
        let replica = paged.open();
        *paged.instead.borrow_mut() = Some((2, Lab::answer(page(2).replace("e1", "e2"))));
        paged.step(&replica);
        assert_eq!((paged.pages(), cursor(&replica).as_deref()), (vec![0, 1, 2], Some("2")));
        assert_eq!(replica.db.borrow().base.manifest.epoch.as_ref().unwrap().0, "e1");
    }
}

#[test]
fn what_waits_to_be_sent_does_not_wait_for_the_last_page() {
    let paged = Paged::new(1);
    let replica = paged.open();
    put(&replica, "own", "{}").unwrap();
    at_once(replica.step());
    assert_eq!(replica.status().pending, 0, "sent");
    // Sent a quarter of a second from now, that is, in the middle of the pull.
    put(&replica, "own", r#"{"a":1}"#).unwrap();
    paged.takes_ms.set(100);
    paged.step(&replica);
    assert_eq!((paged.pages(), cursor(&replica).as_deref()), (vec![0, 1, 2], Some("3")));
    at_once(replica.step());
    assert_eq!((paged.pages(), replica.status().pending), (vec![], 0));
}
