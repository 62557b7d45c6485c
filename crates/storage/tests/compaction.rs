//! What compaction promises: few runs of each level, nothing dead for long, tombstones as long as they are needed and no
//! longer, and work that is said beforehand and done in bounded steps.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

mod base;

use base::{Context, Disk, Model, Truth, check, check_no_waste, page, pair, schema};
use landfall_protocol::{Map, UnixMillis, limits};
use landfall_storage::compact::{self, FAN_IN, plan_repair};
use landfall_storage::ingest::{Ingest, plan_declare};
use landfall_storage::records::Missing;
use landfall_storage::run::RunRef;
use landfall_storage::{BaseTxn, RowId};

struct Store {
    disk: Disk,
    context: Context,
    model: Model,
    position: u64,
    now: u64,
    /// Bytes that each record has beside its number.
    filler: usize,
}

impl Store {
    fn new() -> Self {
        let disk = Disk::new();
        let context = Context::open(&disk, &schema(false, false), 8 * 1024 * 1024);
        let model = (0..3).map(|n| (pair(n), Map::new())).collect();
        Self { disk, context, model, position: 0, now: 1_000_000, filler: 300 }
    }

    /// Pulls a page with a new version of each of these notes, or their deletes.
    fn pull(&mut self, ids: impl Iterator<Item = u64>, is_delete: bool) {
        self.position += 1;
        let mut changes = Vec::new();
        for n in ids {
            let id = format!("r{n:05}");
            let truths = self.model.get_mut(&pair(0)).unwrap();
            let version = truths.get(&id).map_or(1, |truth| truth.version + 1);
            let fields = format!("{{\"n\":{n},\"filler\":\"{}\"}}", "x".repeat(self.filler));
            let truth = Truth { version, fields: (!is_delete).then_some(fields) };
            truths.insert(id.clone(), truth.clone());
            changes.push((pair(0), id, truth));
        }
        let mut ingest = Ingest::new(vec![page(changes, &self.model, self.position, false)]);
        let (schema, now) = (self.context.schema.clone(), UnixMillis(self.now));
        let txn = self.context.run(&self.disk, |records| ingest.plan(records, &schema, &|_, _| None, now));
        assert!(self.context.commit(&mut self.disk, txn));
    }

    fn step(&self) -> Option<BaseTxn> {
        let (schema, now) = (self.context.schema.clone(), UnixMillis(self.now));
        self.context.run(&self.disk, |records| -> Result<_, Missing> { compact::plan_step(records, &schema, now) })
    }

    /// Takes all steps that are due; how many.
    fn compact(&mut self) -> usize {
        for steps in 0.. {
            let step = self.step();
            let debt = compact::debt(&self.context.records);
            assert_eq!(debt > 0, step.is_some(), "{debt} steps are said to be due after {steps}");
            let Some(txn) = step else { return steps };
            assert!(self.context.commit(&mut self.disk, txn));
        }
        unreachable!("it ends")
    }

    fn runs(&self) -> Vec<RunRef> {
        self.context.records.manifest.pair(&pair(0)).map_or(Vec::new(), |row| row.live.clone())
    }

    fn check(&self) {
        check(&self.context, &self.disk, &self.model);
        check_no_waste(&self.context, &self.disk);
        let Some(row) = self.context.records.manifest.pair(&pair(0)) else { return };
        for reference in row.live.iter().chain(row.indexes.iter().flat_map(|index| &index.live)) {
            let fences = &self.context.run(&self.disk, |records| records.run(reference)).fences;
            let count: u64 = fences.iter().map(|fence| u64::from(fence.count)).sum();
            assert_eq!((reference.rows as usize, reference.live + reference.dead), (fences.len(), count));
            assert_eq!(reference.first, fences[0].first);
        }
    }
}

/// Runs of one level that overlap, at most.
fn widest(runs: &[RunRef]) -> usize {
    let beside = |run: &RunRef| {
        let with = |other: &&RunRef| other.level == run.level && other.first <= run.last && run.first <= other.last;
        runs.iter().filter(with).count()
    };
    runs.iter().map(beside).max().unwrap_or(0)
}

#[test]
fn of_each_level_there_are_fewer_runs_than_make_one_of_the_next() {
    let mut store = Store::new();
    for n in 0..FAN_IN as u64 * 10 {
        store.pull((0..5).map(|at| at * 100 + n), false);
        store.compact();
        let row = store.context.records.manifest.pair(&pair(0)).unwrap();
        assert!(widest(&row.live) < FAN_IN, "{n}: {:?}", row.live);
        for index in &row.indexes {
            let most = index.live.iter().map(|run| index.live.iter().filter(|it| it.level == run.level).count()).max();
            assert!(most.unwrap_or(0) < FAN_IN, "{n}: {}", index.name);
        }
    }
    assert!(store.runs().iter().any(|run| run.level >= 2), "{:?}", store.runs());
    store.check();
}

#[test]
fn runs_that_no_other_one_overlaps_stay_as_they_are_and_what_comes_behind_them_joins_the_last() {
    let mut store = Store::new();
    for n in (0..FAN_IN as u64 * 2).rev() {
        store.pull(n * 10..n * 10 + 5, false);
    }
    let before = store.runs();
    assert_eq!(before.len(), FAN_IN * 2);
    store.compact();
    assert_eq!(store.runs(), before);
    store.check();
    let mut store = Store::new();
    for n in 0..FAN_IN as u64 * 2 {
        store.pull(n * 10..n * 10 + 5, false);
    }
    assert_eq!(store.runs().len(), 1);
    store.check();
}

#[test]
fn r3_long_runs_are_merged_in_slices_and_each_record_stays_where_it_is_looked_for() {
    let mut store = Store::new();
    store.filler = 10;
    // Dense and thin by turns: what fits into the first slice ends at another key in each of them.
    for n in 0..FAN_IN as u64 {
        let step = if n % 2 == 0 { 1 } else { 5 };
        store.pull((0..5_000).map(|at| at * step * 8 + n), false);
    }
    let least = |runs: &[RunRef]| runs.iter().map(|run| run.rows).min().unwrap();
    let index = &store.context.records.manifest.pair(&pair(0)).unwrap().indexes[0];
    assert!(least(&store.runs()) > 8 && least(&index.live) > 8, "one slice is enough: {index:?}");
    // What was deleted before that has no entry in what it becomes.
    store.pull((0..40_000).step_by(80), true);
    let mut names = Vec::new();
    while let Some(txn) = store.step() {
        names.push(txn.name);
        assert!(store.context.commit(&mut store.disk, txn));
    }
    for name in ["compaction", "index"] {
        assert!(names.iter().filter(|it| **it == name).count() > 2, "{names:?}");
    }
    let truths = store.model.get(&pair(0)).unwrap().values().filter(|truth| truth.fields.is_some()).count();
    let index = &store.context.records.manifest.pair(&pair(0)).unwrap().indexes[0];
    assert_eq!(index.live.iter().map(|run| run.live).sum::<u64>(), truths as u64);
    store.check();
}

#[test]
fn an_index_that_lost_a_page_is_built_again_from_the_records() {
    let mut store = Store::new();
    for n in 0..3 {
        store.pull((0..100).map(|at| at * 3 + n), false);
    }
    let row = store.context.records.manifest.pair(&pair(0)).unwrap().clone();
    let at = row.indexes.iter().position(|index| index.name == "n").unwrap();
    let page = store.context.run(&store.disk, |records| records.run(&row.indexes[at].live[0])).fences[0].row;
    let (schema, now) = (store.context.schema.clone(), UnixMillis(store.now));
    let txn = plan_repair(&store.context.records, &schema, RowId::Page(page), now).unwrap();
    assert!(store.context.commit(&mut store.disk, txn));
    let is_ready = |store: &Store| store.context.records.manifest.pair(&pair(0)).unwrap().indexes[at].is_ready();
    assert!(!is_ready(&store), "nobody asks it meanwhile");
    store.compact();
    assert!(is_ready(&store));
    store.check();
}

#[test]
fn what_is_more_dead_than_live_is_written_anew() {
    let mut store = Store::new();
    store.pull(0..400, false);
    store.pull((0..400).filter(|n| n % 3 > 0), false);
    let first = store.runs()[0].clone();
    assert!(first.rows > 1 && first.dead > first.live, "{first:?}");
    assert!(store.compact() > 0);
    let wasteful = |run: &&RunRef| run.rows > 1 && run.dead > run.live;
    assert_eq!(store.runs().iter().find(wasteful), None);
    store.check();
    // As much dead as live is let be.
    let mut store = Store::new();
    store.pull(0..400, false);
    store.pull((0..400).step_by(2), false);
    assert_eq!(store.compact(), 0);
}

#[test]
fn r5_a_tombstone_stays_as_long_as_a_change_may_still_be_pulled_and_goes_then() {
    for (age, stays) in [(limits::CHANGE_LOG_MS, true), (limits::CHANGE_LOG_MS + 1, false)] {
        let mut store = Store::new();
        store.pull((0..200).step_by(10), false);
        store.pull((0..200).step_by(10), true);
        store.now += age;
        // So many runs that they are merged, with what was deleted.
        for n in 1..FAN_IN as u64 {
            store.pull((n..200).step_by(10), false);
        }
        store.compact();
        let row = store.context.records.manifest.pair(&pair(0)).unwrap().clone();
        let found = store.context.run(&store.disk, |records| records.find(&row, false, "r00050"));
        assert_eq!(found.is_some(), stays, "{age}");
    }
}

#[test]
fn an_index_that_is_declared_late_is_built_in_steps_over_all_that_was_there_and_what_comes_meanwhile() {
    let mut store = Store::new();
    for n in 0..10 {
        store.pull(n * 700..(n + 1) * 700, false);
    }
    let segments: u32 = store.runs().iter().map(|run| run.rows).sum();
    assert!(segments > 128, "{segments} segments are built in two steps");
    store.context.schema = schema(true, false);
    let (schema, now) = (store.context.schema.clone(), UnixMillis(store.now));
    let txn = plan_declare(&store.context.records, &schema, now).unwrap();
    assert!(store.context.commit(&mut store.disk, txn));
    let is_ready = |store: &Store| {
        let row = store.context.records.manifest.pair(&pair(0)).unwrap();
        row.indexes.iter().find(|index| index.name == "supplier").unwrap().is_ready()
    };
    let mut steps = 0;
    while !is_ready(&store) {
        if steps < 2 {
            store.pull((0..7_000).skip(steps).step_by(500), steps == 1);
        }
        let txn = store.step().unwrap();
        assert!(store.context.commit(&mut store.disk, txn));
        steps += 1;
    }
    assert!((3..20).contains(&steps), "{steps}");
    store.check();
    store.compact();
    store.check();
}
