//! Databases of every stored version, kept as fixtures, are opened and read whole; and what is written now still has the
//! bytes of the newest of them.
//!
//! A fixture is added, never edited. To add one for a new format: raise `RowKind::version` of the kinds that changed, teach
//! their decoder the old form, and run
//! `LANDFALL_WRITE_FIXTURE=N cargo test -p landfall-replica --test stored_versions` with the next free number.

#![allow(clippy::expect_used)] // A test that cannot go on says so by panicking.

mod support;

use landfall_core::lane_index::{LaneIndex, LanePage, Tail};
use landfall_core::rows::{ClientRow, ConflictRow, Descriptor, LogRow, ParkedRow, SettledRow};
use landfall_protocol::codec::{FromJson, ToJson, from_json, write_string};
use landfall_protocol::{EntryId, Json, Map};
use landfall_replica::{Query, Token, WriteKind};
use landfall_storage::memory::MemoryRowStore;
use landfall_storage::page::{Entry, Page, encode_page};
use landfall_storage::row;
use landfall_storage::run::Run;
use landfall_storage::segment::{Block, encode_segment};
use landfall_storage::{Durability, Key, Manifest, RowKind, RowStore, StoreName, Txn, decode, encode};
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use support::{START_MS, Server, TestHost, TestReplica, full, note, open, open_with, run, schema};

/// Rows by store and key, as a fixture holds them.
type Dump = Map<String, Map<String, String>>;

const FORMAT_CHANGED: &str = "format changed: bump the row version and add a fixture";

fn path(number: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/stored-{number}.json"))
}

/// All fixtures, oldest first.
fn fixtures() -> Vec<(u32, Dump)> {
    let read = |number: u32| std::fs::read_to_string(path(number)).ok().map(|text| (number, text));
    let all: Vec<(u32, String)> = (1..).map_while(read).collect();
    assert!(!all.is_empty(), "there is no fixture");
    all.into_iter().map(|(number, text)| (number, from_json(&text).expect("a fixture is JSON"))).collect()
}

fn store_of(name: &str) -> StoreName {
    StoreName::ALL.into_iter().find(|store| store.as_str() == name).expect("a store's name")
}

/// A disk with the rows of a dump.
fn disk_of(dump: &Dump) -> MemoryRowStore {
    let rows = MemoryRowStore::new();
    let mut txn = Txn::new("fixture", Durability::Strict);
    for (store, kept) in dump {
        let store = store_of(store);
        for (key, row) in kept {
            let key = match store {
                StoreName::Log | StoreName::Seg => Key::Number(key.parse().expect("a number")),
                StoreName::Meta | StoreName::Idx => Key::text(key.clone()),
            };
            txn.put(store, key, row.clone());
        }
    }
    match pin!(rows.commit(txn)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => assert!(done.is_ok()),
        Poll::Pending => panic!("memory waits for nothing"),
    }
    rows
}

fn dump_of(rows: &MemoryRowStore) -> Dump {
    let disk = rows.snapshot();
    let mut dump = Dump::new();
    for store in StoreName::ALL {
        let kept = disk.rows(store).map(|(key, row)| (key.to_string(), row.to_owned())).collect();
        dump.insert(store.as_str().to_owned(), kept);
    }
    dump
}

/// One row a line, so that a person can look at it.
fn text_of(dump: &Dump) -> String {
    let mut out = String::from("{");
    for (at, (store, rows)) in dump.iter().enumerate() {
        out.push_str(if at > 0 { ",\n" } else { "\n" });
        write_string(&mut out, store);
        out.push_str(": {");
        for (at, (key, row)) in rows.iter().enumerate() {
            out.push_str(if at > 0 { ",\n  " } else { "\n  " });
            write_string(&mut out, key);
            out.push_str(": ");
            write_string(&mut out, row);
        }
        out.push_str("\n}");
    }
    out.push_str("\n}\n");
    out
}

/// A database with a row of every kind that is written: pulled twice, compacted, sent, refused, overruled, in flight, waiting.
fn scenario() -> MemoryRowStore {
    let rows = MemoryRowStore::new();
    let server = Rc::new(Server::default());
    let replica = open(&rows, &server, START_MS, &["notes", "tasks"], schema(&[])).expect("it opens");
    full(&replica);
    sync(&replica);
    let write = |ops, atomic| run(&replica, replica.write(ops, atomic)).expect("it is stored");
    write(vec![note(WriteKind::Create, "sent", Some(r#"{"title":"Sent","list":"home"}"#))], false);
    write(vec![note(WriteKind::Create, "refused", Some(r#"{"title":""}"#))], false);
    write(vec![note(WriteKind::Update, "n001", Some(r#"{"title":"x"}"#))], false);
    write(vec![note(WriteKind::Create, "lost", Some(r#"{"title":"Mine"}"#))], false);
    sync(&replica);
    let changed: Vec<_> = (0..60)
        .map(|n| ("notes", format!("n{:03}", n * 3), format!(r#"{{"title":"Again {n}","list":"new"}}"#)))
        .collect();
    *server.page.borrow_mut() = Some(server.page(&changed, &[("notes", "n400x"), ("notes", "n002"), ("tasks", "t01")]));
    sync(&replica);
    // A batch whose answer is lost, and what came after it.
    server.is_down.set(true);
    write(
        vec![note(WriteKind::Update, "n010", Some(r#"{"title":"In flight"}"#)), note(WriteKind::Delete, "n011", None)],
        true,
    );
    sync(&replica);
    write(vec![note(WriteKind::Put, "n012", Some(r#"{"title":"Waiting"}"#))], false);
    // What waits so far is in the lane index.
    let host = TestHost::new(&rows, &server, START_MS);
    let tail = Some(Tail { rows: 1, entries: 1 });
    let second = open_with(host, &["notes", "tasks"], schema(&[]), tail).expect("it opens");
    run(&second, second.flush(0));
    write(vec![note(WriteKind::Create, "new", Some(r#"{"title":"New","deep":{"a":[{}]}}"#))], false);
    // What the shell keeps here.
    let mut txn = Txn::new("options", Durability::Relaxed);
    txn.put(
        StoreName::Meta,
        Key::text("options"),
        row::encode_text(RowKind::Schema, r#"{"name":"test","user":"ada"}"#),
    );
    txn.put(StoreName::Meta, Key::text("foreground"), encode(RowKind::Status, &true));
    run(&replica, replica.host.rows.commit(txn)).expect("stored");
    rows
}

fn sync(replica: &TestReplica) {
    run(replica, replica.sync_now());
    while run(replica, replica.compact()).expect("compaction") {}
}

#[test]
fn every_stored_version_opens_and_shows_all_it_holds() {
    for (number, dump) in fixtures() {
        let rows = disk_of(&dump);
        let server = Rc::new(Server::default());
        server.is_down.set(true);
        let replica = open(&rows, &server, START_MS + 86_400_000, &["notes", "tasks"], schema(&[])).expect("it opens");
        run(&replica, replica.warm()).expect("all rows");
        let seen = replica.inspect();
        assert!(seen.quarantined.is_empty() && seen.set_aside.is_empty(), "fixture {number}: {:?}", seen.quarantined);

        let ids = |query: &str| {
            let query = Query::parse(query).expect("a query");
            let found = run(&replica, replica.query(&query)).expect("an answer");
            found.rows.into_iter().map(|row| row.place.id).collect::<Vec<_>>()
        };
        // 400, less the deleted ones (one of them here), and what this client made.
        let notes = ids(r#"{"collection":"notes"}"#);
        assert_eq!(notes.len(), 400 - 2 + 3, "fixture {number}");
        assert!(["sent", "lost", "new"].iter().all(|id| notes.iter().any(|found| found == id)));
        assert_eq!(ids(r#"{"collection":"tasks","where":{"list":"home"}}"#).len(), 14);
        assert_eq!(ids(r#"{"collection":"notes","where":{"list":"new"}}"#).len(), 60 - 1);
        assert_eq!(ids(r#"{"collection":"notes","where":{"title":"Again 59"}}"#), ["n177"]);
        let get = |id: &str| run(&replica, replica.get("notes", None, id)).expect("an answer");
        assert_eq!(
            get("n010").as_deref(),
            Some(
                r#"{"row":{"id":"n010","list":"work","n":10,"tags":["a",null,1.5e3],"title":"In flight"},"meta":["sending",11,"user:ada"]}"#
            )
        );
        assert_eq!(get("n011"), None);
        assert_eq!(
            get("new").as_deref(),
            Some(r#"{"row":{"id":"new","title":"New","deep":{"a":[{}]}},"meta":["pending",0,"user:ada"]}"#)
        );

        let outbox = run(&replica, replica.outbox()).expect("the outbox");
        let lines: Vec<(&str, &str)> = outbox.iter().map(|item| (item.record.as_str(), item.state)).collect();
        let waiting =
            [("refused", "parked"), ("n010", "sending"), ("n011", "sending"), ("n012", "pending"), ("new", "pending")];
        assert_eq!(lines, waiting, "fixture {number}");
        let refused = outbox.first().and_then(|item| item.reason.as_ref()).expect("a reason");
        assert_eq!(refused.fields.get("title").map(String::as_str), Some("must not be empty"));
        let conflicts = replica.conflicts();
        assert_eq!(conflicts.iter().map(|row| row.record.as_str()).collect::<Vec<_>>(), ["lost"]);

        // And it goes on: the batch in flight is sent again as it was, the rest after it.
        server.is_down.set(false);
        server.position.set(10_000);
        run(&replica, replica.set_token(Some(Token { token: "fresh".to_owned(), expires_at: None }))).expect("a token");
        let report = run(&replica, replica.sync_now());
        assert_eq!((report.pending, report.error), (0, None), "fixture {number}");
        let parked = run(&replica, replica.discard(EntryId(refused_id(&outbox)))).expect("discarded");
        assert_eq!(parked, 1);
    }
}

fn refused_id(outbox: &[landfall_replica::OutboxItem]) -> u64 {
    outbox.iter().find(|item| item.state == "parked").expect("parked").id.0
}

/// The row as it would be written now. `None`: it can't be read.
fn rewritten(kind: RowKind, text: &str) -> Option<String> {
    fn again<T: FromJson + ToJson>(kind: RowKind, text: &str) -> Option<String> {
        decode::<T>(kind, text).ok().map(|value| encode(kind, &value))
    }
    match kind {
        RowKind::Log => again::<LogRow>(kind, text),
        RowKind::Client => again::<ClientRow>(kind, text),
        RowKind::Descriptor => again::<Descriptor>(kind, text),
        RowKind::Acked => again::<SettledRow>(kind, text),
        RowKind::Parked => again::<ParkedRow>(kind, text),
        RowKind::Conflict => again::<ConflictRow>(kind, text),
        RowKind::Manifest => again::<Manifest>(kind, text),
        RowKind::Run => again::<Run>(kind, text),
        RowKind::Token => again::<Token>(kind, text),
        RowKind::Status => again::<bool>(kind, text),
        RowKind::Lanes => again::<LaneIndex>(kind, text),
        RowKind::LanePage => again::<LanePage>(kind, text),
        RowKind::Schema => again::<Json>(kind, text),
        RowKind::Segment => {
            let block = Block::decode(text.to_owned()).ok()?;
            let held: Vec<_> = (0..block.len()).map(|slot| block.held(slot)).collect();
            let keyed: Vec<_> = held.iter().map(|record| (String::new(), record)).collect();
            Some(encode_segment(&block.pair, block.at, &keyed))
        }
        RowKind::Page => {
            let body: Map<String, Json> = from_json(row::open(kind, text).ok()?.body)?;
            let index: String = from_json(body.get("index")?.text())?;
            let page = Page::decode(text.to_owned()).ok()?;
            let entries: Vec<_> = (0..page.len()).map(|at| page.entry(at)).collect();
            let lines: Vec<_> = entries.iter().map(Entry::line).collect();
            Some(encode_page(&index, &lines))
        }
        // Nobody writes the first and the last; a filler holds nothing.
        RowKind::Cursor | RowKind::Filler | RowKind::Quarantine => None,
    }
}

fn kind_of(text: &str) -> (RowKind, u32) {
    let letter = text.chars().next().expect("a letter");
    let kind = RowKind::ALL.into_iter().find(|kind| kind.letter() == letter).expect("a kind");
    let version = text[1..].split(' ').next().and_then(|version| version.parse().ok()).expect("a version");
    (kind, version)
}

#[test]
fn rows_are_still_written_byte_for_byte_as_in_the_newest_fixture() {
    let fixtures = fixtures();
    let (number, dump) = fixtures.last().expect("a fixture");
    let mut kinds = Vec::new();
    for (store, rows) in dump {
        for (key, text) in rows {
            let (kind, version) = kind_of(text);
            kinds.push(kind);
            assert_eq!(version, kind.version(), "{store} {key} of fixture {number}: {FORMAT_CHANGED}");
            assert_eq!(rewritten(kind, text).as_deref(), Some(text.as_str()), "{store} {key}: {FORMAT_CHANGED}");
        }
    }
    for kind in RowKind::ALL {
        let is_written = !matches!(kind, RowKind::Cursor | RowKind::Filler | RowKind::Quarantine);
        assert_eq!(kinds.contains(&kind), is_written, "{kind:?} in fixture {number}");
    }
}

/// An older build must refuse the database as a whole rather than meet rows in it that it can't read.
#[test]
fn an_ordering_row_is_never_of_an_older_version_than_a_row_that_it_orders() {
    let outbox = [RowKind::Log, RowKind::Descriptor, RowKind::Acked, RowKind::Parked, RowKind::Conflict];
    let base = [RowKind::Run, RowKind::Segment, RowKind::Page];
    assert!(outbox.iter().all(|kind| kind.version() <= RowKind::Client.version()));
    assert!(base.iter().all(|kind| kind.version() <= RowKind::Manifest.version()));
}

#[test]
fn what_the_engine_writes_now_has_every_kind_and_the_newest_versions() {
    let dump = dump_of(&scenario());
    assert_eq!(text_of(&dump), text_of(&dump_of(&scenario())), "equal inputs give equal bytes");
    let all: Vec<&String> = dump.values().flat_map(Map::values).collect();
    for text in &all {
        let (kind, version) = kind_of(text);
        assert_eq!(version, kind.version());
        assert_eq!(rewritten(kind, text).as_ref(), Some(*text), "{kind:?} reads back as it was written");
    }
    assert_eq!(from_json::<Dump>(&text_of(&dump)), Some(dump));
}

/// Writes a fixture when it is asked to, and only under a number that none has.
#[test]
fn a_fixture_is_written_for_a_new_number_only() {
    let Ok(number) = std::env::var("LANDFALL_WRITE_FIXTURE") else {
        assert!(fixtures().iter().zip(1..).all(|((number, _), wanted)| *number == wanted));
        return;
    };
    let number: u32 = number.parse().expect("LANDFALL_WRITE_FIXTURE is a number");
    assert!(!path(number).exists(), "fixture {number} is there: fixtures are added, never edited");
    assert!(number == 1 || path(number - 1).exists(), "fixtures are numbered without gaps");
    std::fs::write(path(number), text_of(&dump_of(&scenario()))).expect("written");
}
