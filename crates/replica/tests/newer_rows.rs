//! Rows that a later version of Landfall wrote: reported as such, never applied, never overwritten, never deleted.

#![allow(clippy::expect_used)] // A test that cannot go on says so by panicking.

mod support;

use landfall_replica::WriteKind;
use landfall_storage::memory::MemoryRowStore;
use landfall_storage::{Key, StoreName};
use std::rc::Rc;
use support::{START_MS, Server, TestReplica, full, note, open, run, schema};

/// The row as a later version would have written it; its checksum is over the body and so still holds.
fn newer(row: &str) -> String {
    let (header, rest) = row.split_once(' ').expect("a header");
    format!("{}2 {rest}", &header[..1])
}

fn sync(replica: &TestReplica) {
    run(replica, replica.sync_now());
    while run(replica, replica.compact()).expect("compaction") {}
}

/// A database of two collections at rest, and its server.
fn database() -> (MemoryRowStore, Rc<Server>) {
    let rows = MemoryRowStore::new();
    let server = Rc::new(Server::default());
    let replica = open(&rows, &server, START_MS, &["notes", "tasks"], schema(&[])).expect("it opens");
    full(&replica);
    sync(&replica);
    (rows, server)
}

#[test]
fn i3_a_segment_a_page_or_a_run_of_a_later_version_is_reported_and_outlives_pulls_and_compaction() {
    let (rows, _) = database();
    let clean = rows.snapshot();
    let places: Vec<(StoreName, Key, String)> = [StoreName::Idx, StoreName::Seg]
        .into_iter()
        .flat_map(|store| clean.rows(store).map(move |(key, row)| (store, key.clone(), newer(row))))
        .collect();
    assert!(places.len() > 8, "runs, pages and segments of both collections");
    for (store, key, row) in places {
        // Found when everything is read, or only when a pull comes upon it.
        outlives(store, &key, &row, true);
        outlives(store, &key, &row, false);
    }
}

fn outlives(store: StoreName, key: &Key, row: &str, warm: bool) {
    let (rows, server) = database();
    rows.tamper(store, key.clone(), Some(row.to_owned()));
    let replica = open(&rows, &server, START_MS + 86_400_000, &["notes", "tasks"], schema(&[])).expect("it opens");
    let place = (store.as_str(), key.to_string());
    let is_reported = || {
        let seen = replica.inspect().quarantined;
        seen.iter().any(|row| (row.store, row.key.as_str(), row.why) == (place.0, place.1.as_str(), "newer"))
    };
    if warm {
        run(&replica, replica.warm()).expect("what can be read");
        assert!(is_reported(), "{place:?}");
    }
    // Every record changes, goes or comes, more than once; what was damaged is asked for again meanwhile.
    for round in 0..12 {
        let changed: Vec<_> = (0..400)
            .filter(|n| n % 7 != round % 7)
            .map(|n| ("notes", format!("n{n:03}"), format!(r#"{{"title":"Round {round}","list":"l{n}"}}"#)))
            .chain((0..40).map(|n| ("tasks", format!("t{n:02}"), format!(r#"{{"list":"{round}"}}"#))))
            .collect();
        *server.page.borrow_mut() = Some(server.page(&changed, &[]));
        sync(&replica);
        assert!(rows.snapshot().row(store, key) == Some(row), "{place:?} is as it was after {round}");
    }
    assert!(is_reported(), "{place:?}");
}

#[test]
fn i3_rows_of_the_outbox_of_a_later_version_are_reported_and_kept() {
    let (rows, server) = database();
    let replica = open(&rows, &server, START_MS + 1_000, &["notes", "tasks"], schema(&[])).expect("it opens");
    run(&replica, replica.write(vec![note(WriteKind::Create, "refused", Some("{}"))], false)).expect("stored");
    run(&replica, replica.write(vec![note(WriteKind::Create, "lost", Some("{}"))], false)).expect("stored");
    sync(&replica);
    server.is_down.set(true);
    run(&replica, replica.write(vec![note(WriteKind::Create, "waiting", Some("{}"))], false)).expect("stored");
    let disk = rows.snapshot();
    let mut places: Vec<(StoreName, Key, String)> = disk
        .rows(StoreName::Meta)
        .filter(|(key, _)| ["parked/", "conflict/"].iter().any(|prefix| key.to_string().starts_with(prefix)))
        .map(|(key, row)| (StoreName::Meta, key.clone(), newer(row)))
        .collect();
    places.extend(disk.rows(StoreName::Log).map(|(key, row)| (StoreName::Log, key.clone(), newer(row))));
    assert_eq!(places.len(), 3);
    for (store, key, row) in &places {
        rows.tamper(*store, key.clone(), Some(row.clone()));
    }
    server.is_down.set(false);
    let replica = open(&rows, &server, START_MS + 2_000, &["notes", "tasks"], schema(&[])).expect("it opens");
    sync(&replica);
    assert_eq!(replica.inspect().quarantined.iter().filter(|row| row.why == "newer").count(), 3);
    for (store, key, row) in places {
        assert_eq!(rows.snapshot().row(store, &key), Some(row.as_str()));
    }
}

#[test]
fn l1_an_ordering_row_of_a_later_version_refuses_the_whole_database_and_changes_nothing() {
    for name in ["client", "manifest"] {
        let (rows, server) = database();
        let key = Key::text(name);
        let row = rows.snapshot().row(StoreName::Meta, &key).map(newer);
        rows.tamper(StoreName::Meta, key, row);
        let before = rows.snapshot();
        let refused = open(&rows, &server, START_MS + 1_000, &["notes", "tasks"], schema(&[])).err().expect("refused");
        assert_eq!(refused.code, "newer_schema");
        assert!(rows.snapshot() == before, "{name}: nothing was written");
    }
}
