//! The manifest: which runs make up each pair's records and indexes, how far they reach, and what is still to be done.
//!
//! One row, small whatever the data: runs have rows of their own. Every transaction of the base reads it, raises `rev`
//! and rewrites it; that orders pulls, flips and compaction of all contexts.

use crate::run::RunRef;
use landfall_protocol::text::split;
use landfall_protocol::{CollectionName, Epoch, Listed, Map, Pair, Position, RecordSum, UnixMillis};

/// What an app declares of a collection's storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// Fields of each index, in order.
    pub indexes: Vec<Vec<String>>,
    /// Records that agree in these fields lie together; empty: sorted by id.
    pub cluster: Vec<String>,
}

/// Declarations by collection.
pub type Schema = Map<CollectionName, Declared>;

/// The index that finds a record by its id where runs are not sorted by it.
pub const PRIMARY: &str = "id";

/// Some runs of one index being made into one; invisible until it is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merging {
    pub inputs: Vec<u64>,
    pub output: RunRef,
    /// Key and id of the last entry that was looked at.
    pub key: String,
    pub id: String,
}

landfall_protocol::wire!(Merging { inputs: Need, output: Need, key: Need, id: Need });

/// One index of one pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexRow {
    /// Its fields, joined by commas.
    pub name: String,
    pub live: Vec<RunRef>,
    pub staged: Vec<RunRef>,
    /// Segments below this id were there before the index was declared.
    pub since: u64,
    /// Of those, the ones below this id are indexed.
    pub built: u64,
    /// The cold start that is under way began before it was declared.
    pub is_late: bool,
    pub merging: Option<Merging>,
}

landfall_protocol::wire!(IndexRow {
    name: Need,
    live: Need,
    staged: Skip,
    since: Need,
    built: Need,
    is_late: Skip,
    merging: Skip
});

impl IndexRow {
    /// True when it knows every record of the pair.
    pub fn is_ready(&self) -> bool {
        self.built >= self.since
    }
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        split(&self.name, b',')
    }
}

/// The base of one (scope, collection).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairRow {
    pub pair: Pair,
    /// How far it reaches; `None` while it is staged for the first time.
    pub covered: Option<Position>,
    pub live: Vec<RunRef>,
    /// A cold start that is not visible yet.
    pub staged: Vec<RunRef>,
    /// Started cold again; its rows are staged until the flip.
    pub cold: bool,
    /// When a mismatch of its checksum last started it cold.
    pub resync_at: Option<UnixMillis>,
    /// Over the live records of `live`, and of `staged`.
    pub sum: RecordSum,
    pub staged_sum: RecordSum,
    pub indexes: Vec<IndexRow>,
    /// Runs whose records move into another one, which is named last.
    pub moving: Vec<u64>,
}

landfall_protocol::wire!(PairRow {
    pair: Need,
    covered: Skip,
    live: Need,
    staged: Skip,
    cold: Skip,
    resync_at: Skip,
    sum: Need,
    staged_sum: Keep,
    indexes: Skip,
    moving: Skip
});

impl PairRow {
    pub fn new(pair: Pair) -> Self {
        Self {
            pair,
            covered: None,
            live: Vec::new(),
            staged: Vec::new(),
            cold: true,
            resync_at: None,
            sum: RecordSum::default(),
            staged_sum: RecordSum::default(),
            indexes: Vec::new(),
            moving: Vec::new(),
        }
    }
    /// Its records: the visible ones, or those of a cold start.
    pub fn runs(&self, staged: bool) -> &Vec<RunRef> {
        if staged { &self.staged } else { &self.live }
    }
    pub fn index(&self, name: &str) -> Option<&IndexRow> {
        self.indexes.iter().find(|index| index.name == name)
    }
    /// Live records and tombstones.
    pub fn live_count(&self) -> u64 {
        self.live.iter().map(|run| run.live).sum()
    }
}

/// The row that orders all transactions of the base.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Grows with every transaction of the base.
    pub rev: u64,
    pub epoch: Option<Epoch>,
    pub cursor: Option<String>,
    pub pairs: Vec<PairRow>,
    /// Segments, pages and runs share one counter; numbers are never reused.
    pub next_row: u64,
    /// The log up to here is folded into the view (0 while only server state is folded).
    pub folded_through: u64,
    pub last_pull: Option<UnixMillis>,
    /// Pairs to ask for anew.
    pub resync: Vec<Pair>,
    /// Runs of data and of indexes that nobody needs any more, id and revision; compaction deletes their rows.
    pub old_data: Vec<(u64, u64)>,
    pub old_pages: Vec<(u64, u64)>,
}

landfall_protocol::wire!(Manifest {
    rev: Need,
    epoch: Keep,
    cursor: Keep,
    pairs: Need,
    next_row: Need,
    folded_through: Keep,
    last_pull: Skip,
    resync: Skip,
    old_data: Skip,
    old_pages: Skip
});

impl Manifest {
    pub fn pair(&self, pair: &Pair) -> Option<&PairRow> {
        self.pairs.iter().find(|row| row.pair == *pair)
    }
    /// The row of a pair, made if there is none: a pair that was never heard of starts cold.
    pub(crate) fn pair_mut(&mut self, pair: &Pair, schema: &Schema) -> &mut PairRow {
        let at = match self.pairs.iter().position(|row| row.pair == *pair) {
            Some(at) => at,
            None => {
                self.pairs.push(PairRow::new(pair.clone()));
                self.pairs.len() - 1
            }
        };
        let next_row = self.next_row;
        let row = &mut self.pairs[at];
        declare(row, schema, next_row);
        row
    }
    pub(crate) fn next_row(&mut self) -> u64 {
        let id = self.next_row;
        self.next_row += 1;
        id
    }
    /// True until the first cold start has become visible.
    pub fn is_cold(&self) -> bool {
        self.pairs.iter().all(|row| row.covered.is_none())
    }
}

/// Indexes that are declared and not there yet. What only another version of the app declared stays: its tab may be open.
pub(crate) fn lacking(row: &PairRow, schema: &Schema) -> Vec<String> {
    let Some(declared) = schema.get(&row.pair.1) else { return Vec::new() };
    let mut names: Vec<String> = declared.indexes.iter().map(|fields| fields.join(",")).listed();
    // The id is found without one, or by the one below.
    names.retain(|name| name != PRIMARY);
    if !declared.cluster.is_empty() {
        names.push(PRIMARY.to_owned());
    }
    names.retain(|name| row.index(name).is_none() && !name.is_empty());
    names.dedup();
    names
}

fn declare(row: &mut PairRow, schema: &Schema, next_row: u64) {
    for name in lacking(row, schema) {
        let (live, staged) = (Vec::new(), Vec::new());
        // Of runs sorted by id the primary index need not know.
        let since = if name == PRIMARY || row.live.is_empty() { 0 } else { next_row };
        let is_late = name != PRIMARY && !row.staged.is_empty();
        row.indexes.push(IndexRow { name, live, staged, since, built: 0, is_late, merging: None });
    }
}
