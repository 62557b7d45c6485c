//! A server of some pages, told what to answer in the place of one of them.

#![allow(dead_code)] // Each test file uses its own part.
#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

use crate::lab::{Lab, Opened, at_once};
use landfall_protocol::PullRequest;
use landfall_protocol::codec::from_json;
use landfall_replica::{HttpResponse, Query, Token};
use landfall_storage::faulty::Fault;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

pub const PAGES: usize = 6;

/// Page `at` of a cold start, three records each; the last one makes all of them visible.
pub fn page(at: usize) -> String {
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
pub type Instead = (usize, Option<HttpResponse>);

/// A server of some pages.
pub struct Paged {
    pub lab: Lab,
    /// The page that each pull asked for, and the transactions of the base that were begun before it.
    pub asked: Rc<RefCell<Vec<(usize, usize)>>>,
    /// Transactions of the base that were begun.
    pub stored: Rc<Cell<usize>>,
    /// What is answered instead of a page, once.
    pub instead: Rc<RefCell<Option<Instead>>>,
    /// How long an answer takes.
    pub takes_ms: Rc<Cell<u64>>,
}

impl Paged {
    pub fn new(pull_bytes: usize) -> Self {
        let paged = Self {
            lab: Lab::new(),
            asked: Rc::default(),
            stored: Rc::default(),
            instead: Rc::default(),
            takes_ms: Rc::default(),
        };
        paged.lab.pull_bytes.set(pull_bytes);
        let (stored, count) = (Rc::clone(&paged.stored), Rc::clone(&paged.stored));
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

    pub fn open(&self) -> Opened {
        let replica = self.lab.open().unwrap();
        at_once(replica.set_token(Some(Token { token: "t".to_owned(), expires_at: None }))).unwrap();
        replica
    }

    /// The next step that pulls.
    pub fn step(&self, replica: &Opened) {
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

    pub fn pages(&self) -> Vec<usize> {
        self.asked.take().into_iter().map(|(page, _)| page).collect()
    }
}

pub fn cursor(replica: &Opened) -> Option<String> {
    replica.db.borrow().base.manifest.cursor.clone()
}

pub fn records(replica: &Opened) -> Vec<String> {
    at_once(replica.query(&Query::all("notes"))).unwrap().rows.iter().map(|row| row.text.to_string()).collect()
}
