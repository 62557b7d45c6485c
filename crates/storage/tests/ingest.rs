//! Pages on their way into the base: what they change, what a cold start leaves alone, and what is left of what goes.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

mod base;

use base::{Context, Disk, Model, Truth, check, check_no_waste, page, pair, schema};
use landfall_protocol::{Map, Pair, RecordId, UnixMillis, Version};
use landfall_storage::ingest::{DAMAGE_MS, Ingest, Page, plan_cold, plan_declare, plan_resync};
use landfall_storage::{BaseTxn, RowId, compact};

const NOW: UnixMillis = UnixMillis(1_000_000);

struct Base {
    disk: Disk,
    context: Context,
    model: Model,
}

fn nothing() -> Model {
    (0..3).map(|n| (pair(n), Map::new())).collect()
}

impl Base {
    fn new() -> Self {
        let disk = Disk::new();
        let context = Context::open(&disk, &schema(false, false), 8 * 1024 * 1024);
        Self { disk, context, model: nothing() }
    }

    fn plan(&self, pages: Vec<Page>, known: &dyn Fn(&Pair, &RecordId) -> Option<Version>) -> BaseTxn {
        let mut ingest = Ingest::new(pages);
        self.context.run(&self.disk, |records| ingest.plan(records, &self.context.schema, known, NOW))
    }

    fn commit(&mut self, txn: BaseTxn) {
        assert!(self.context.commit(&mut self.disk, txn));
    }

    fn take(&mut self, pages: Vec<Page>) {
        let txn = self.plan(pages, &|_, _| None);
        self.commit(txn);
    }

    /// Records of a pair, which the server has from now on.
    fn records(&mut self, pair: &Pair, ids: std::ops::Range<u64>) -> Vec<(Pair, String, Truth)> {
        let mut changes = Vec::new();
        for n in ids {
            let (id, fields) = (format!("r{n:05}"), format!(r#"{{"supplier":"s{}","n":{n}}}"#, n % 7));
            let truths = self.model.get_mut(pair).unwrap();
            let version = truths.get(&id).map_or(1, |truth| truth.version + 1);
            let truth = Truth { version, fields: Some(fields) };
            truths.insert(id.clone(), truth.clone());
            changes.push((pair.clone(), id, truth));
        }
        changes
    }

    /// All steps of compaction, and everything is where it is looked for and nothing else is there.
    fn check(&mut self) {
        while let Some(txn) =
            self.context.run(&self.disk, |records| compact::plan_step(records, &self.context.schema, NOW))
        {
            self.commit(txn);
        }
        check(&self.context, &self.disk, &self.model);
        check_no_waste(&self.context, &self.disk);
    }

    fn is_known(&self, pair: &Pair) -> bool {
        self.context.records.manifest.pair(pair).is_some()
    }
}

#[test]
fn c3_of_a_page_what_is_visible_is_named_and_what_was_not_known_is_counted_as_news() {
    let mut base = Base::new();
    let changes = base.records(&pair(0), 0..3);
    let txn = base.plan(vec![page(changes, &base.model, 1, false)], &|_, _| None);
    assert_eq!((txn.changed.len(), txn.news), (0, 3), "it flips as a whole");
    base.commit(txn);
    assert!(!base.context.records.manifest.is_cold());

    let changes = base.records(&pair(0), 1..5);
    // Of one this client had written the version that comes, of another one an older one.
    let own = |_: &Pair, id: &RecordId| match id.as_str() {
        "r00003" => Some(Version(1)),
        "r00004" => Some(Version(0)),
        _ => None,
    };
    let txn = base.plan(vec![page(changes, &base.model, 2, false)], &own);
    let ids: Vec<&str> = txn.changed.iter().map(|key| key.id.as_str()).collect();
    assert_eq!((ids, txn.news), (vec!["r00001", "r00002", "r00003", "r00004"], 3));
    base.commit(txn);
    // The same again.
    let changes = ["r00001", "r00002"].map(|id| (pair(0), id.to_owned(), base.model[&pair(0)][id].clone()));
    let txn = base.plan(vec![page(changes.to_vec(), &base.model, 3, false)], &|_, _| None);
    assert_eq!((txn.changed.len(), txn.news), (2, 0));
    base.commit(txn);
    base.check();
}

#[test]
fn r3_the_base_is_cold_until_the_head_has_named_one_pair() {
    let mut base = Base::new();
    assert!(base.context.records.manifest.is_cold());
    let changes = base.records(&pair(0), 0..3);
    base.take(vec![page(changes, &nothing(), 1, true)]);
    assert!(base.context.records.manifest.is_cold(), "staged");
    let one: Model = [(pair(0), Map::new())].into_iter().collect();
    base.take(vec![page(Vec::new(), &one, 2, true), page(Vec::new(), &one, 2, false)]);
    assert!(!base.context.records.manifest.is_cold());
}

#[test]
fn r1_the_head_of_a_cold_start_takes_away_what_it_does_not_name_and_nothing_that_was_only_asked_for_anew() {
    let mut base = Base::new();
    let changes = [base.records(&pair(0), 0..30), base.records(&pair(1), 0..30)].concat();
    base.take(vec![page(changes, &base.model, 1, false)]);
    let others: Model = [(pair(1), Map::new()), (pair(2), Map::new())].into_iter().collect();

    // One pair starts anew, and the head comes before the server has come to it.
    let resync = plan_resync(&base.context.records, &base.context.schema, &pair(0), DAMAGE_MS, NOW).unwrap();
    base.commit(resync);
    base.take(vec![page(Vec::new(), &others, 2, false)]);
    assert!(base.is_known(&pair(0)), "its position stands");

    // All start anew.
    let cold = plan_cold(&base.context.records, &base.context.schema, None, NOW);
    base.commit(cold);
    // It was begun, and then taken away: both pages in one transaction.
    let begun: Vec<_> = base.model[&pair(0)].iter().map(|(id, truth)| (pair(0), id.clone(), truth.clone())).collect();
    let whole: Vec<_> = base.model[&pair(1)].iter().map(|(id, truth)| (pair(1), id.clone(), truth.clone())).collect();
    let pages = vec![page(begun, &nothing(), 3, true), page(whole, &others, 4, false)];
    let txn = base.plan(pages, &|_, _| None);
    assert_eq!((txn.removed.as_slice(), txn.flipped.len()), ([pair(0)].as_slice(), 2));
    base.commit(txn);
    base.model.get_mut(&pair(0)).unwrap().clear();
    assert!(!base.is_known(&pair(0)));
    base.check();
}

#[test]
fn runs_that_are_to_be_swept_are_found_though_others_change_meanwhile() {
    let mut base = Base::new();
    let changes = [base.records(&pair(0), 0..30), base.records(&pair(1), 0..30)].concat();
    base.take(vec![page(changes, &base.model, 1, false)]);
    // Runs of other revisions than the one that they were made with.
    for position in 2..5 {
        let changes = [base.records(&pair(0), 3..6), base.records(&pair(1), 3..6)].concat();
        base.take(vec![page(changes, &base.model, position, false)]);
    }
    let mut gone = page(Vec::new(), &nothing(), 5, true);
    gone.access.removed.push(pair(0));
    base.take(vec![gone]);
    base.model.get_mut(&pair(0)).unwrap().clear();
    assert!(base.context.records.manifest.old_data.len() > 1 && !base.is_known(&pair(0)));
    let changes = base.records(&pair(1), 3..6);
    let others: Model = [(pair(1), Map::new()), (pair(2), Map::new())].into_iter().collect();
    base.take(vec![page(changes, &others, 6, false)]);
    base.check();
}

/// What each page of a cold start is stored with: with the index that is declared late, or before it was.
#[test]
fn r3_an_index_that_is_declared_during_a_cold_start_knows_what_was_staged_before() {
    let late = |base: &mut Base| {
        base.context.schema = schema(true, false);
        let txn = plan_declare(&base.context.records, &base.context.schema, NOW).unwrap();
        base.commit(txn);
    };
    let is_late = |base: &Base| {
        let row = base.context.records.manifest.pair(&pair(0)).unwrap();
        row.index("supplier").unwrap().is_late
    };
    for begins_again in [false, true] {
        let mut base = Base::new();
        let first = base.records(&pair(0), 0..40);
        base.take(vec![page(first.clone(), &nothing(), 1, true)]);
        late(&mut base);
        assert!(is_late(&base));
        if begins_again {
            let cold = plan_cold(&base.context.records, &base.context.schema, None, NOW);
            base.commit(cold);
            assert!(!is_late(&base), "of this one it sees all");
            base.take(vec![page(first, &nothing(), 2, true)]);
        }
        let rest = base.records(&pair(0), 40..80);
        base.take(vec![page(rest, &base.model, 3, false)]);
        let row = base.context.records.manifest.pair(&pair(0)).unwrap();
        assert_eq!(row.index("supplier").unwrap().is_ready(), begins_again);
        base.check();
        let row = base.context.records.manifest.pair(&pair(0)).unwrap();
        assert!(row.index("supplier").unwrap().is_ready());
    }
}

#[test]
fn r2_an_index_by_id_that_is_declared_late_need_not_know_what_runs_are_sorted_by() {
    let mut base = Base::new();
    let changes = base.records(&pair(0), 0..40);
    base.take(vec![page(changes, &base.model, 1, false)]);
    let notes = base.context.schema.get_mut(&pair(0).1).unwrap();
    notes.cluster = vec!["supplier".to_owned()];
    let txn = plan_declare(&base.context.records, &base.context.schema, NOW).unwrap();
    base.commit(txn);
    let row = base.context.records.manifest.pair(&pair(0)).unwrap();
    assert!(row.index("id").unwrap().is_ready() && row.index("id").unwrap().live.is_empty());
    let changes = base.records(&pair(0), 20..60);
    base.take(vec![page(changes, &base.model, 2, false)]);
    base.check();

    // Nor an index of a pair of which nothing is visible yet.
    let mut base = Base::new();
    base.take(vec![page(Vec::new(), &base.model, 1, false)]);
    base.context.schema = schema(true, false);
    let txn = plan_declare(&base.context.records, &base.context.schema, NOW).unwrap();
    base.commit(txn);
    let row = base.context.records.manifest.pair(&pair(0)).unwrap();
    assert!(row.index("supplier").unwrap().is_ready());
    assert_eq!(compact::debt(&base.context.records), 0);
}

#[test]
fn r2_records_join_no_run_that_lies_in_an_order_of_fields() {
    for (cluster, sorts) in [(vec![], ["supplier", ""]), (vec!["supplier".to_owned()], ["supplier", "supplier"])] {
        let mut base = Base::new();
        let changes = base.records(&pair(1), 0..30);
        base.take(vec![page(changes, &base.model, 1, false)]);
        // Another version of the app goes on, with ids behind every key that is there.
        base.context.schema.get_mut(&pair(1).1).unwrap().cluster = cluster;
        let changes = base.records(&pair(1), 30..60);
        base.take(vec![page(changes, &base.model, 2, false)]);
        let row = base.context.records.manifest.pair(&pair(1)).unwrap();
        assert_eq!(row.live.iter().map(|run| run.sort.as_str()).collect::<Vec<_>>(), sorts);
        base.check();
    }
}

#[test]
fn i3_a_run_that_cannot_be_read_is_not_written_over_by_what_comes_behind_it() {
    let mut base = Base::new();
    let changes = base.records(&pair(0), 0..30);
    base.take(vec![page(changes, &base.model, 1, false)]);
    let run = base.context.records.manifest.pair(&pair(0)).unwrap().live[0].clone();
    for is_broken in [false, true] {
        let cold = Context::open(&base.disk, &base.context.schema, 8 * 1024 * 1024);
        if is_broken {
            cold.records.mark_broken(RowId::Run(run.id, run.rev));
        }
        let changes = (30..40).map(|n| (pair(0), format!("r{n:05}"), Truth { version: 1, fields: Some("{}".into()) }));
        let mut ingest = Ingest::new(vec![page(changes.collect(), &base.model, 2, false)]);
        let txn = cold.run(&base.disk, |records| ingest.plan(records, &cold.schema, &|_, _| None, NOW));
        let place = RowId::Run(run.id, 0).place();
        let is_written = txn.put.iter().any(|(store, key, _)| (*store, key.clone()) == place);
        assert_eq!(is_written, !is_broken);
    }
}
