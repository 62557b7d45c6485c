//! One pair of records, pulled and compacted step by step, with what its server has.

use super::{Context, Disk, Model, Truth, check, check_no_waste, page, pair, schema};
use landfall_protocol::{Map, Pair, UnixMillis};
use landfall_storage::BaseTxn;
use landfall_storage::compact;
use landfall_storage::ingest::{Ingest, Page};
use landfall_storage::manifest::PairRow;
use landfall_storage::records::Missing;
use landfall_storage::run::{RUN_ROWS_MAX, RunRef};

pub struct Store {
    pub disk: Disk,
    pub context: Context,
    pub model: Model,
    pub position: u64,
    pub now: u64,
    /// Bytes that each record has beside its number.
    pub filler: usize,
    /// What `n` is of the record of a number.
    pub n: fn(u64) -> u64,
}

impl Store {
    pub fn new() -> Self {
        let disk = Disk::new();
        let context = Context::open(&disk, &schema(false, false), 8 * 1024 * 1024);
        let model = (0..3).map(|n| (pair(n), Map::new())).collect();
        Self { disk, context, model, position: 0, now: 1_000_000, filler: 300, n: |number| number }
    }

    /// The same, to go on with in another way.
    pub fn again(&self) -> Self {
        let context = Context::open(&self.disk, &self.context.schema, self.context.records.budget);
        let (disk, model) = (self.disk.clone(), self.model.clone());
        Self { disk, context, model, ..*self }
    }

    /// Pulls a page with a new version of each of these notes, or their deletes.
    pub fn pull(&mut self, ids: impl Iterator<Item = u64>, is_delete: bool) {
        self.position += 1;
        let mut changes = Vec::new();
        for number in ids {
            let (id, n) = (format!("r{number:05}"), (self.n)(number));
            let truths = self.model.get_mut(&pair(0)).unwrap();
            let version = truths.get(&id).map_or(1, |truth| truth.version + 1);
            let fields = format!("{{\"n\":{n},\"filler\":\"{}\"}}", "x".repeat(self.filler));
            let truth = Truth { version, fields: (!is_delete).then_some(fields) };
            truths.insert(id.clone(), truth.clone());
            changes.push((pair(0), id, truth));
        }
        self.take(changes);
    }

    /// Pulls a page with these changes, to the head.
    pub fn take(&mut self, changes: Vec<(Pair, String, Truth)>) {
        self.store(page(changes, &self.model, self.position, false));
    }

    /// Pulls a page that takes the pair away.
    pub fn lose(&mut self) {
        let mut lost = page(Vec::new(), &Model::new(), self.position, false);
        lost.access.removed.push(pair(0));
        self.store(lost);
    }

    fn store(&mut self, page: Page) {
        let mut ingest = Ingest::new(vec![page]);
        let (schema, now) = (self.context.schema.clone(), UnixMillis(self.now));
        let txn = self.context.run(&self.disk, |records| ingest.plan(records, &schema, &|_, _| None, now));
        self.commit(txn);
    }

    pub fn commit(&mut self, txn: BaseTxn) {
        assert!(self.context.commit(&mut self.disk, txn));
    }

    pub fn step(&self) -> Option<BaseTxn> {
        let (schema, now) = (self.context.schema.clone(), UnixMillis(self.now));
        self.context.run(&self.disk, |records| -> Result<_, Missing> { compact::plan_step(records, &schema, now) })
    }

    /// Takes all steps that are due; how many.
    pub fn compact(&mut self) -> usize {
        for steps in 0.. {
            let step = self.step();
            let debt = compact::debt(&self.context.records);
            assert_eq!(debt > 0, step.is_some(), "{debt} steps are said to be due after {steps}");
            let Some(txn) = step else { return steps };
            self.commit(txn);
        }
        unreachable!("it ends")
    }

    pub fn row(&self) -> PairRow {
        self.context.records.manifest.pair(&pair(0)).unwrap().clone()
    }

    pub fn runs(&self) -> Vec<RunRef> {
        self.row().live
    }

    pub fn check(&self) {
        check(&self.context, &self.disk, &self.model);
        check_no_waste(&self.context, &self.disk);
        let row = self.row();
        for reference in row.live.iter().chain(row.indexes.iter().flat_map(|index| &index.live)) {
            let fences = &self.context.run(&self.disk, |records| records.run(reference)).fences;
            let count: u64 = fences.iter().map(|fence| u64::from(fence.count)).sum();
            assert_eq!((reference.rows as usize, reference.live + reference.dead), (fences.len(), count));
            // Segments that are empty are gone, so a data run may begin behind the key that it is said to.
            let is_index = row.live.iter().all(|run| run.id != reference.id);
            assert!(reference.first <= fences[0].first);
            assert!(reference.first == fences[0].first || !is_index && reference.dead > 0, "{reference:?}");
            assert_eq!(reference.bytes, fences.iter().map(|fence| u64::from(fence.bytes)).sum::<u64>());
        }
        for reference in &row.live {
            assert!(reference.rows as usize <= RUN_ROWS_MAX, "its own row would be too long: {reference:?}");
        }
    }
}
