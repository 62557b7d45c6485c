//! Reading while others write: what is asked takes several reads, and everything may change between two of them.

#![allow(clippy::expect_used)] // A test that cannot go on says so by panicking.

mod alone;
mod support;

use alone::Alone;
use landfall_protocol::codec::from_json;
use landfall_protocol::{CollectionName, Json, Map, UnixMillis};
use landfall_replica::{LiveQuery, Query, SyncError, WriteKind};
use landfall_storage::faulty::flip_byte;
use landfall_storage::memory::MemoryRowStore;
use landfall_storage::{CommitError, Committed, Durability, KeyedRows, Read, ReadError, RowStore, StoreName, Txn};
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use support::{START_MS, Server, filled, full, manifest, note, open, run, schema};

/// Rows whose every read takes one turn.
struct Slow(MemoryRowStore);

/// Pending once.
struct Turn(bool);

impl Future for Turn {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl RowStore for Slow {
    async fn read(&self, reads: &[Read]) -> Result<Vec<KeyedRows>, ReadError> {
        Turn(false).await;
        self.0.read(reads).await
    }
    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        self.0.commit(txn).await
    }
}

/// What two questions have come to when each was looked at so many times, in turns; each time one read is answered.
fn after<A, B>(
    turns: usize,
    mut one: Pin<&mut impl Future<Output = Result<A, SyncError>>>,
    mut other: Pin<&mut impl Future<Output = Result<B, SyncError>>>,
) -> (Option<A>, Option<B>) {
    let mut context = Context::from_waker(Waker::noop());
    let (mut first, mut second) = (None, None);
    for _ in 0..turns {
        if first.is_none()
            && let Poll::Ready(answer) = one.as_mut().poll(&mut context)
        {
            first = Some(answer.expect("an answer"));
        }
        if second.is_none()
            && let Poll::Ready(answer) = other.as_mut().poll(&mut context)
        {
            second = Some(answer.expect("an answer"));
        }
    }
    (first, second)
}

#[test]
fn l5_a_write_between_two_reads_of_a_query_shows_its_record_once() {
    let disk = filled();
    let queries = [
        r#"{"collection":"notes"}"#,
        r#"{"collection":"notes","where":{"n":{"gte":0}},"orderBy":[["n","desc"]]}"#,
        r#"{"collection":"notes","where":{"list":"home"},"orderBy":"title"}"#,
        r#"{"collection":"notes","where":{"id":{"in":["n000","n003","n399"]}}}"#,
    ];
    for text in queries {
        for turns in 0..12 {
            let alone = Alone::open(Slow(MemoryRowStore::with_disk(disk.snapshot())));
            let query = Query::parse(text).expect("a query");
            let mut counting = pin!(alone.replica.count(&query));
            let mut asking = pin!(alone.replica.query(&query));
            let (found, count) = after(turns, asking.as_mut(), counting.as_mut());
            let is_early = found.is_none();
            let writes = ["n000", "n003", "n399"].map(|id| note(WriteKind::Update, id, Some(r#"{"mine":true}"#)));
            alone.run(alone.replica.write(writes.into(), false)).expect("stored");
            let found = found.unwrap_or_else(|| alone.run(asking).expect("an answer"));
            let count = count.unwrap_or_else(|| alone.run(counting).expect("an answer"));
            let mut ids: Vec<String> = found.rows.iter().map(|row| row.place.id.clone()).collect();
            let all = ids.len();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), all, "{text} after {turns} reads has a record twice");
            assert_eq!(count as usize, all, "{text} after {turns} reads counts otherwise");
            let mine = found.rows.iter().filter(|row| row.text.contains("mine")).count();
            let wanted = ["n000", "n003", "n399"].iter().filter(|id| ids.contains(&(**id).to_owned())).count();
            assert!(!is_early || mine == wanted, "{text} after {turns} reads shows {mine} of {wanted} own writes");
        }
    }
}

#[test]
fn c3_a_change_that_goes_between_two_reads_of_a_query_shows_its_record_as_it_was() {
    let disk = filled();
    let queries = [
        r#"{"collection":"notes"}"#,
        r#"{"collection":"notes","where":{"n":{"gte":0}},"orderBy":[["n","desc"]]}"#,
        r#"{"collection":"notes","where":{"id":{"in":["n000","n003"]}}}"#,
    ];
    for (text, turns) in queries.into_iter().flat_map(|text| (0..12).map(move |turns| (text, turns))) {
        let alone = Alone::open(Slow(MemoryRowStore::with_disk(disk.snapshot())));
        let query = Query::parse(text).expect("a query");
        let change = note(WriteKind::Update, "n000", Some(r#"{"mine":true}"#));
        alone.run(alone.replica.write(vec![change], false)).expect("stored");
        let log_key = alone.replica.db.borrow().log_key;
        let mut asking = pin!(alone.replica.query(&query));
        let mut counting = pin!(alone.replica.count(&query));
        let (found, count) = after(turns, asking.as_mut(), counting.as_mut());
        let is_early = found.is_none();
        alone.replica.db.borrow_mut().state.drop_log_row(log_key);
        let found = found.unwrap_or_else(|| alone.run(asking).expect("an answer"));
        let count = count.unwrap_or_else(|| alone.run(counting).expect("an answer"));
        let shown: Vec<&str> =
            found.rows.iter().filter(|row| row.place.id == "n000").map(|row| row.text.as_ref()).collect();
        assert_eq!(shown.len(), 1, "{text} after {turns} reads: {shown:?}");
        assert_eq!(shown[0].contains("mine"), !is_early, "{text} after {turns} reads");
        assert_eq!(count as usize, found.rows.len(), "{text} after {turns} reads counts otherwise");
    }
}

#[test]
fn l5_an_answer_is_given_again_until_a_write_here_or_elsewhere_or_the_base_changes() {
    let disk = filled();
    let rows = MemoryRowStore::with_disk(disk.snapshot());
    let alone = Alone::open(rows.clone());
    let text = r#"{"collection":"notes","where":{"list":"home"},"orderBy":"title"}"#;
    let answer = || alone.run(alone.replica.query_text(text)).expect("an answer");
    let fresh = || {
        let query = Query::parse(text).expect("a query");
        alone.run(alone.replica.query(&query)).expect("an answer").to_json()
    };
    let first = answer();
    assert!(Rc::ptr_eq(&first, &answer()), "nothing is computed for it");
    for at in 0..10 {
        let other = format!(r#"{{"collection":"notes","limit":{at}}}"#);
        alone.run(alone.replica.query_text(&other)).expect("an answer");
    }
    assert!(!Rc::ptr_eq(&first, &answer()), "not all are kept");
    let write = |id: &str| vec![note(WriteKind::Put, id, Some(r#"{"list":"home","title":"mine"}"#))];
    alone.run(alone.replica.write(write("new"), false)).expect("stored");
    let own = answer();
    assert!(*own != *first && *own == *fresh(), "a write of this context");
    let other = Alone::open(rows.clone());
    other.run(other.replica.write(write("newer"), false)).expect("stored");
    alone.run(alone.replica.refresh()).expect("read");
    let both = answer();
    assert!(*both != *own && *both == *fresh(), "a write of another one");
    manifest(&rows, |_| {});
    alone.run(alone.replica.refresh()).expect("read");
    assert!(!Rc::ptr_eq(&both, &answer()), "rows of the base may have moved");
}

#[test]
fn r4_what_another_context_pulled_anew_is_looked_at_again_even_when_sum_and_position_are_as_before() {
    let rows = filled();
    let replica =
        open(&rows, &Rc::new(Server::default()), START_MS, &["notes", "tasks"], schema(&[])).expect("it opens");
    drop(replica.take_changes());
    manifest(&rows, |manifest| manifest.pairs[0].resync_at = Some(UnixMillis(START_MS)));
    run(&replica, replica.refresh()).expect("read");
    let (_, touched) = replica.take_changes();
    assert!(touched.whole.contains(&CollectionName::from("notes")));
}

/// What a listener holds: the texts of the records, spliced as js/query.ts does.
fn splice(shown: &mut Vec<String>, news: &str) {
    let parts: Map<String, Json> = from_json(news).expect("JSON");
    let rows: Vec<Json> = from_json(parts["rows"].text()).expect("rows");
    let rows = rows.into_iter().map(|row| row.text().to_owned());
    match from_json::<usize>(parts["start"].text()) {
        None => *shown = rows.collect(),
        Some(start) => {
            let gone: usize = from_json(parts["gone"].text()).expect("a number");
            shown.splice(start..start + gone, rows);
        }
    }
}

#[test]
fn r4_a_live_query_that_is_kept_up_to_date_shows_what_a_fresh_one_does() {
    let rows = filled();
    let replica =
        open(&rows, &Rc::new(Server::default()), START_MS, &["notes", "tasks"], schema(&[])).expect("it opens");
    let queries = [
        r#"{"collection":"notes"}"#,
        r#"{"collection":"notes","orderBy":"title","limit":20}"#,
        r#"{"collection":"notes","where":{"list":"home"},"orderBy":[["n","desc"]],"limit":5,"offset":3}"#,
        r#"{"collection":"notes","where":{"n":{"gte":100,"lt":120}},"limit":30}"#,
        r#"{"collection":"notes","orderBy":"n","limit":0}"#,
    ];
    let mut live: Vec<(LiveQuery, Vec<String>)> =
        queries.iter().map(|text| (LiveQuery::new(Query::parse(text).expect("a query")), Vec::new())).collect();
    for (query, shown) in &mut live {
        run(&replica, replica.live_ask(query)).expect("an answer");
        splice(shown, &query.news().expect("the first answer"));
    }
    let mut random = 7_u64;
    let mut below = |limit: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % limit
    };
    for step in 0..120 {
        drop(replica.take_changes());
        let mut writes = Vec::new();
        // Now and then so many that the reserve is used up.
        for _ in 0..if below(20) == 0 { 90 } else { 1 + below(4) } {
            let id = format!("n{:03}", below(420));
            let fields = format!(
                r#"{{"title":"Note {}","list":"{}","n":{}}}"#,
                below(500),
                ["home", "work"][below(2) as usize],
                below(400)
            );
            writes.push(match below(4) {
                0 => note(WriteKind::Delete, &id, None),
                _ => note(WriteKind::Put, &id, Some(&fields)),
            });
        }
        run(&replica, replica.write(writes, false)).expect("stored");
        let (_, touched) = replica.take_changes();
        for (query, shown) in &mut live {
            run(&replica, replica.live_changed(query, &touched)).expect("an answer");
            if let Some(news) = query.news() {
                splice(shown, &news);
            }
            let fresh = run(&replica, replica.query(&query.query)).expect("an answer");
            let fresh: Vec<String> = fresh.rows.iter().map(|row| row.text.to_string()).collect();
            assert!(*shown == fresh, "step {step}, {:?}: {} shown, {} there", query.query, shown.len(), fresh.len());
        }
    }
}

#[test]
fn r1_a_damaged_segment_is_pulled_anew_also_when_another_context_changes_its_run_meanwhile() {
    let rows = MemoryRowStore::new();
    let server = Rc::new(Server::default());
    let opened = || open(&rows, &server, START_MS, &["notes", "tasks"], schema(&[])).expect("it opens");
    let first = opened();
    full(&first);
    run(&first, first.sync_now());
    first.close();
    let (key, mut text) = {
        let disk = rows.snapshot();
        let (key, text) = disk.rows(StoreName::Seg).next().expect("a segment");
        (key.clone(), text.to_owned())
    };
    flip_byte(&mut text);
    let mut txn = Txn::new("test", Durability::Relaxed);
    txn.put(StoreName::Seg, key, text);
    let mut commit = pin!(rows.commit(txn));
    assert!(commit.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    let page = opened();
    let all = Query::parse(r#"{"collection":"notes"}"#).expect("a query");
    run(&page, page.query(&all)).expect("the rest");
    assert_eq!(page.status().storage.quarantined, 1);
    // Another context pulls: the run of the damaged row is another one now, and this context has not read it.
    let other = opened();
    let news = [("notes", "zz".to_owned(), r#"{"title":"New","list":"home"}"#.to_owned())];
    let answer = server.page(&news, &[]);
    *server.page.borrow_mut() = Some(answer);
    run(&other, other.sync_now());
    run(&page, page.refresh()).expect("read");
    run(&page, page.step());
    assert!(page.db.borrow().base.manifest.pairs.iter().any(|row| row.resync_at.is_some()), "asked for again");
}
