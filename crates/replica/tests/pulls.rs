//! Pulls of many pages: what is asked for ahead, and what becomes of it when what it stands on is not stored.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;
mod paged;

use lab::{Lab, at_once, put};
use landfall_protocol::PullRequest;
use landfall_protocol::codec::from_json;
use landfall_replica::{Change, HttpResponse, Token};
use landfall_storage::StorageFault;
use landfall_storage::faulty::Fault;
use paged::{PAGES, Paged, cursor, page, records};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

#[test]
fn r4_pages_stored_one_by_one_and_together_give_the_same_records() {
    let stored = |pull_bytes| {
        let paged = Paged::new(pull_bytes);
        let replica = paged.open();
        paged.step(&replica);
        assert_eq!((paged.pages(), cursor(&replica).as_deref()), ((0..PAGES).collect(), Some("6")));
        let found = records(&replica);
        assert_eq!((found.len(), replica.inspect().pairs[0].records), (PAGES * 3, PAGES as u64 * 3));
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

/// Two of the longest pages are not over their own size, and over one that is a byte smaller.
#[test]
fn pages_become_one_transaction_until_they_are_over_its_size() {
    let two = page(3).len() + page(4).len();
    for (pull_bytes, transactions) in [(0, 1), (1, PAGES), (two, 2), (two - 1, 3)] {
        let paged = Paged::new(pull_bytes);
        let replica = paged.open();
        paged.step(&replica);
        assert_eq!((paged.pages().len(), paged.stored.get()), (PAGES, transactions), "{pull_bytes} bytes");
    }
}

#[test]
fn the_size_of_a_transaction_is_an_eighth_of_the_memory_from_half_a_megabyte_to_four() {
    let kib = 1024;
    for (budget, full) in [(kib, 512 * kib), (8 * kib * kib, kib * kib), (kib * kib * kib, 4 * kib * kib)] {
        let paged = Paged::new(0);
        // Of a few records, and a quarter of a megabyte each.
        let (asked, stored) = (Rc::clone(&paged.asked), Rc::clone(&paged.stored));
        paged.lab.serve(move |request| {
            let pull: PullRequest = from_json(request.body.as_deref().unwrap_or_default()).unwrap();
            let at = pull.cursor.map_or(0, |cursor| cursor.parse().unwrap());
            asked.borrow_mut().push((at, stored.get()));
            let text = page(if at == 40 { PAGES - 1 } else { 0 });
            let next = format!(r#""cursor":"{}","#, at + 1);
            Lab::answer(text.replace(r#""cursor":"1","#, &(next + &" ".repeat(256 * kib))))
        });
        let replica = paged.open();
        replica.db.borrow_mut().base.budget = budget;
        paged.step(&replica);
        let asked = paged.asked.take();
        // While those of one transaction are stored those of the next one are asked for.
        let ahead = asked.iter().filter(|(_, stored)| *stored == 0).count();
        assert_eq!(ahead, 2 * full / (256 * kib), "{budget}: {asked:?}");
    }
}

#[test]
fn what_waits_for_the_lock_of_pulling_waits_five_seconds_and_one_answer_at_most() {
    let paged = Paged::new(0);
    let replica = paged.open();
    paged.takes_ms.set(1_250);
    paged.step(&replica);
    // The fourth one comes after five seconds to the millisecond.
    assert_eq!((paged.pages(), cursor(&replica).as_deref()), (vec![0, 1, 2, 3, 4], Some("5")));
    paged.step(&replica);
    assert_eq!((paged.pages(), records(&replica).len()), (vec![5], PAGES * 3));
}

#[test]
fn r1_a_page_that_gives_or_takes_access_is_stored_by_itself() {
    for access in [r#""added":[["user:u","other"]]"#, r#""removed":[["user:u","other"]]"#] {
        for pull_bytes in [0, 1] {
            let paged = Paged::new(pull_bytes);
            let replica = paged.open();
            let granting = || {
                let text = page(2).replace(r#""cursor""#, &format!(r#""access":{{{access}}},"cursor""#));
                *paged.instead.borrow_mut() = Some((2, Lab::answer(text)));
            };
            granting();
            paged.step(&replica);
            assert_eq!((paged.pages(), cursor(&replica).as_deref()), (vec![0, 1, 2], Some("2")), "{access}");
            granting();
            paged.step(&replica);
            assert_eq!((paged.pages(), cursor(&replica).as_deref()), (vec![2], Some("3")), "{access}");
            paged.step(&replica);
            assert_eq!((paged.pages(), records(&replica).len()), (vec![3, 4, 5], PAGES * 3), "{access}");
        }
    }
}

#[test]
fn a_pull_tells_how_many_changes_came_so_far_and_how_many_records_were_news() {
    let paged = Paged::new(1);
    let replica = paged.open();
    let gone = r#"{"scope":"user:u","id":"n00","version":2,"position":5}"#;
    let text = page(1).replace(r#""tombstones":{}"#, &format!(r#""tombstones":{{"notes":[{gone}]}}"#));
    *paged.instead.borrow_mut() = Some((1, Lab::answer(text)));
    let told = || -> (Vec<u64>, Vec<u64>) {
        let told = replica.take_changes().0;
        let done = told.iter().filter_map(|change| match change {
            Change::Progress { phase: "pull", done, .. } => Some(*done),
            _ => None,
        });
        let news = told.iter().filter_map(|change| match change {
            Change::Step { step: "pull", tally, .. } => Some(tally.pulled),
            _ => None,
        });
        (done.collect(), news.collect())
    };
    paged.step(&replica);
    assert_eq!(told(), (vec![3, 7, 10, 13, 16, 19], vec![19]), "18 records, of which one went again");
    replica.trigger(landfall_core::schedule::Trigger::Poke);
    paged.step(&replica);
    assert_eq!(told(), (vec![3], vec![3]));
}

#[test]
fn i6_what_pages_on_their_way_take_is_taken_from_the_memory_of_the_base() {
    let paged = Paged::new(1);
    let replica = paged.open();
    let (watched, asked) = (Rc::downgrade(&replica), Rc::clone(&paged.asked));
    paged.lab.serve(move |request| {
        let pull: PullRequest = from_json(request.body.as_deref().unwrap_or_default()).unwrap();
        let at = pull.cursor.map_or(0, |cursor| cursor.parse().unwrap());
        let reserved = watched.upgrade().map(|replica| replica.db.borrow().base.reserved.get());
        asked.borrow_mut().push((at, reserved.unwrap()));
        Lab::answer(page(at))
    });
    paged.step(&replica);
    let bytes = |at: usize| page(at).len();
    for (at, reserved) in paged.asked.take() {
        // The page that came last, and the one that was being stored when it did: text, records and rows.
        let held = if at == 0 { 0 } else { bytes(at - 1) + if at == 1 { 0 } else { bytes(at - 2) } };
        assert_eq!(reserved, 3 * held, "when page {at} is asked for");
    }
    assert_eq!(replica.db.borrow().base.reserved.get(), 0, "nothing is on its way any more");
}
