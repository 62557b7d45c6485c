//! An app that declares more than it did: indexes are built in the background, collections are pulled.

#![allow(clippy::expect_used)] // A test that cannot go on says so by panicking.

mod support;

use landfall_protocol::CollectionName;
use landfall_replica::{Query, WriteKind};
use landfall_storage::memory::MemoryRowStore;
use std::rc::Rc;
use support::{START_MS, Server, TestReplica, full, note, open, run, schema};

fn ids(replica: &TestReplica, query: &str) -> Vec<String> {
    let query = Query::parse(query).expect("a query");
    let found = run(replica, replica.query(&query)).expect("an answer");
    found.rows.into_iter().map(|row| row.place.id).collect()
}

fn plan(replica: &TestReplica, query: &str) -> String {
    replica.explain(&Query::parse(query).expect("a query")).expect("a plan")
}

#[test]
fn an_index_declared_later_is_built_in_the_background_and_queries_are_right_all_the_while() {
    let rows = MemoryRowStore::new();
    let server = Rc::new(Server::default());
    let replica = open(&rows, &server, START_MS, &["notes", "tasks"], schema(&[])).expect("it opens");
    full(&replica);
    run(&replica, replica.sync_now());
    replica.close();

    let replica = open(&rows, &server, START_MS + 60_000, &["notes", "tasks"], schema(&["n"])).expect("it opens");
    let query = r#"{"collection":"notes","where":{"n":{"gte":100,"lt":110}},"orderBy":"n"}"#;
    let expected: Vec<String> = (100..110).map(|n| format!("n{n:03}")).collect();
    assert_eq!(ids(&replica, query), expected);
    assert!(plan(&replica, query).contains(r#""access":"scan""#), "there is no index yet");
    run(&replica, replica.write(vec![note(WriteKind::Update, "n300", Some(r#"{"n":104.5}"#))], false)).expect("stored");
    let mut with_own = expected.clone();
    with_own.insert(5, "n300".to_owned());
    assert_eq!(ids(&replica, query), with_own, "half built or not");
    // More comes in before it is whole.
    let more = [("notes", "n400".to_owned(), r#"{"title":"New","n":104.2}"#.to_owned())];
    *server.page.borrow_mut() = Some(server.page(&more, &[("notes", "n109")]));
    run(&replica, replica.sync_now());
    with_own.insert(5, "n400".to_owned());
    with_own.retain(|id| id != "n109");
    assert_eq!(ids(&replica, query), with_own);
    while run(&replica, replica.compact()).expect("compaction") {}
    let index = replica.inspect().pairs.into_iter().flat_map(|pair| pair.indexes).find(|index| index.name == "n");
    assert!(index.is_some_and(|index| index.ready && index.entries >= 400));
    assert!(plan(&replica, query).contains(r#""index":"n""#), "and now it is used");
    assert_eq!(ids(&replica, query), with_own);
    // An app of the former version, in another tab, does not take it away.
    let old = open(&rows, &server, START_MS + 61_000, &["notes", "tasks"], schema(&[])).expect("it opens");
    assert_eq!(ids(&old, query), with_own);
    run(&old, old.sync_now());
    assert!(plan(&old, query).contains(r#""index":"n""#));
}

#[test]
fn r2_a_collection_declared_later_is_pulled_whole_and_what_was_unsent_stays() {
    let rows = MemoryRowStore::new();
    let server = Rc::new(Server::default());
    let replica = open(&rows, &server, START_MS, &["notes"], schema(&[])).expect("it opens");
    server.leave_out("tasks");
    full(&replica);
    run(&replica, replica.sync_now());
    assert_eq!(*server.asked.borrow(), [CollectionName::from("notes")]);
    server.is_down.set(true);
    run(&replica, replica.write(vec![note(WriteKind::Update, "n001", Some(r#"{"title":"Mine"}"#))], false))
        .expect("stored");
    assert_eq!(
        run(&replica, replica.count(&Query::all("tasks"))).err().map(|error| error.code),
        Some("unknown_collection")
    );
    replica.close();

    let replica = open(&rows, &server, START_MS + 60_000, &["notes", "tasks"], schema(&[])).expect("it opens");
    assert_eq!(ids(&replica, r#"{"collection":"tasks"}"#), Vec::<String>::new(), "known, and nothing is there yet");
    assert_eq!(ids(&replica, r#"{"collection":"notes","where":{"title":"Mine"}}"#), ["n001"]);
    server.is_down.set(false);
    server.let_in();
    run(&replica, replica.sync_now());
    assert_eq!(*server.asked.borrow(), [CollectionName::from("notes"), CollectionName::from("tasks")]);
    assert_eq!(ids(&replica, r#"{"collection":"tasks"}"#).len(), 40);
    assert_eq!(ids(&replica, r#"{"collection":"tasks","where":{"list":"home"}}"#).len(), 14);
    assert_eq!(ids(&replica, r#"{"collection":"notes"}"#).len(), 400);
    assert!(run(&replica, replica.outbox()).expect("the outbox").is_empty(), "sent as it was");
}
