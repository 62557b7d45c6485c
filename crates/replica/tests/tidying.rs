//! Compaction: who does it, and that it ends.

#![allow(clippy::expect_used)] // A test that cannot go on says so by panicking.

mod support;

use landfall_core::schedule::Trigger;
use landfall_storage::memory::MemoryRowStore;
use std::rc::Rc;
use support::{START_MS, Server, TestReplica, filled, manifest, open, run, schema};

#[test]
fn a_run_that_nobody_needs_any_more_and_that_is_gone_does_not_keep_compaction_looking() {
    let rows = filled();
    manifest(&rows, |manifest| manifest.old_data.push((999_999, 1)));
    let replica =
        open(&rows, &Rc::new(Server::default()), START_MS, &["notes", "tasks"], schema(&[])).expect("it opens");
    while run(&replica, replica.compact()).expect("compaction") {}
    assert_eq!(replica.inspect().compaction_debt, 0);
    assert_eq!(replica.status().storage.quarantined, 0, "nothing was lost");
}

/// A page on what [`filled`] left behind, with ten runs to be swept.
fn untidy(rows: &MemoryRowStore) -> TestReplica {
    manifest(rows, |manifest| manifest.old_data.extend((0..10).map(|n| (900_000 + n, 1))));
    let server = Rc::new(Server::default());
    let page = open(rows, &server, START_MS + 10_000, &["notes", "tasks"], schema(&[])).expect("it opens");
    page.trigger(Trigger::Offline);
    page.host.wait(10_000);
    page
}

#[test]
fn compaction_is_left_to_a_worker_that_begins_in_time() {
    let rows = filled();
    let page = untidy(&rows);
    page.host.has_worker.set(true);
    run(&page, page.run_due());
    assert_eq!((page.host.asked_worker.get(), page.inspect().compaction_debt), (1, 10), "asked, and nothing done");
    let server = Rc::new(Server::default());
    let worker = open(&rows, &server, START_MS + 20_000, &["notes", "tasks"], schema(&[])).expect("it opens");
    run(&worker, worker.flush(0));
    assert_eq!(worker.inspect().compaction_debt, 0);
    assert_eq!(server.asked.borrow().len(), 0, "tidying asks nothing of the network");
    page.host.wait(1_000);
    run(&page, page.run_due());
    assert_eq!((page.host.asked_worker.get(), page.inspect().compaction_debt), (1, 0));
}

#[test]
fn a_worker_that_does_not_come_keeps_no_page_from_compacting() {
    let page = untidy(&filled());
    page.host.has_worker.set(true);
    for _ in 0..20 {
        run(&page, page.run_due());
        page.host.wait(1_000);
    }
    assert_eq!(page.inspect().compaction_debt, 0);
    assert_eq!(page.host.asked_worker.get(), 1);
}
