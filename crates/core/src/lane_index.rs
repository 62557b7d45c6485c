//! The lane index: in which log rows the undecided entries of a record are, so that a context may look at a record before it
//! has read the whole log.
//!
//! The log is the truth and the index only says where to look. What it names may be gone or decided by now, and a row that it
//! names for one record may be another's: both cost a look and change nothing. So it is written by itself, after the log rows
//! that it is of, and a context that finds it missing, broken or changed reads the log.
//!
//! Invariant: every undecided entry in a log row up to `through` is found by the hash of its record in one of the runs.

use crate::plant::{Plant, planted};
use crate::state::State;
use landfall_protocol::codec::padded;
use landfall_protocol::map::sort;
use landfall_protocol::{CollectionName, EntryId, Listed, Pair, RecordId, Stamp, lane_hash};

/// The row that names the runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneIndex {
    /// The last log row that it is of.
    pub through: u64,
    /// The outbox as it was then: `rev` of the client row, and how many entries up to `through` were undecided.
    pub rev: u64,
    pub undecided: u64,
    /// The clock: no stamp up to `through` is later.
    pub stamp: Stamp,
    /// Where these entries' records are.
    pub pairs: Vec<Pair>,
    /// Each over a stretch of the log, oldest first.
    pub runs: Vec<LaneRun>,
    /// Entries in the runs, the decided ones too.
    pub held: u64,
}

landfall_protocol::wire!(LaneIndex {
    through: Need,
    rev: Need,
    undecided: Need,
    stamp: Need,
    pairs: Need,
    runs: Need,
    held: Need
});

/// A table from the hashes of records to log rows, cut into pages by the upper bits of the hash: the last log row that it is
/// of, which names it, times 32, plus how many bits.
pub type LaneRun = u64;

/// A page: a hash and a log row by turns, in order.
pub type LanePage = Vec<u64>;

/// Entries of one page, about 16 KB of text.
const PAGE_ENTRIES: usize = 800;
/// So many runs are made into one: a look at a record reads a page of each.
pub const RUNS_MAX: usize = 8;

/// The key of the page of a run with a hash.
pub fn page_of(run: LaneRun, hash: u64) -> String {
    page(run, number(run, hash))
}

/// The keys of all pages of a run. Each is there, also one without entries: a page that is missing was lost, or its run went.
pub fn pages(run: LaneRun) -> impl Iterator<Item = String> {
    (0..1 << (run % 32)).map(move |number| page(run, number))
}

fn number(run: LaneRun, hash: u64) -> u64 {
    hash << (run % 32) >> 32
}

fn page(run: LaneRun, number: u64) -> String {
    ["lanes/", &padded(run, 16), "/", &padded(number, 6)].concat()
}

/// The log rows that a page names for a hash.
pub fn rows_of(page: &[u64], hash: u64) -> impl Iterator<Item = u64> {
    page.chunks_exact(2).filter(move |pair| pair[0] == hash).map(|pair| pair[1])
}

/// The hash of a record, of 32 bits, the same in all scopes.
pub fn hash_of(collection: &CollectionName, id: &RecordId) -> u64 {
    u64::from(lane_hash(collection.as_str(), id.as_str()))
}

/// From when on entries that are not in the index are worth a transaction: so many log rows, or so many entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    pub rows: usize,
    pub entries: usize,
}

impl Tail {
    pub const DEFAULT: Self = Self { rows: 256, entries: 2_000 };
}

/// What a step of the index wants written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneStep {
    /// `None`: nothing is undecided that it was of.
    pub index: Option<LaneIndex>,
    pub put: Vec<(String, LanePage)>,
    /// Runs whose pages go.
    pub gone: Vec<LaneRun>,
}

/// The next step, of a context that has read the log through `log_key`. `is_broken`: a page can't be used. `None`: the index
/// is as it should be.
pub fn plan_lanes(
    state: &State,
    log_key: u64,
    known: Option<&LaneIndex>,
    is_broken: bool,
    tail: Tail,
) -> Option<LaneStep> {
    let through = known.map_or(0, |known| known.through);
    let (mut rows, mut entries) = (0, 0);
    for (_, (_, count)) in state.log_rows.range(through + 1..) {
        rows += 1;
        entries += count;
    }
    let is_long = rows >= tail.rows || entries >= tail.entries;
    let behind = state.entries.range(EntryId::at(through + 1, 0)..).count();
    let undecided = (state.entries.len() - behind) as u64;
    let mut gone = known.map_or(Vec::new(), |known| known.runs.clone());
    if undecided == 0 && !is_long {
        return known.map(|_| LaneStep { index: None, put: Vec::new(), gone });
    }
    let held = known.map_or(0, |known| known.held);
    // What has ended since leaves the rest far apart.
    let is_thin = undecided * 4 < held && held > tail.entries as u64;
    let is_whole = gone.is_empty() || is_thin || (is_long && (is_broken || gone.len() >= RUNS_MAX));
    // A broken page keeps its key, so its run is made anew when the log has grown, under another one.
    let is_current = known.is_some_and(|known| known.undecided == undecided) && !is_whole;
    if !is_long && (is_broken || is_current) {
        return None;
    }
    let mut index = LaneIndex {
        through: if is_long || is_whole { log_key } else { through },
        rev: state.client.rev,
        undecided: if is_long || is_whole { state.entries.len() as u64 } else { undecided },
        stamp: state.hlc.stamp(state.client.client_id.as_str()),
        pairs: known.filter(|_| !is_whole).map_or(Vec::new(), |known| known.pairs.clone()),
        runs: if is_whole { Vec::new() } else { std::mem::take(&mut gone) },
        held: if is_whole { 0 } else { held },
    };
    // Behind this row is what the new run is of.
    let from = if is_whole && !planted(Plant::LaneIndexForgets) { 0 } else { through };
    let mut added: Vec<(u64, u64)> = Vec::new();
    for (id, entry) in state.entries.range(EntryId::at(from + 1, 0)..) {
        let row = id.log_key();
        if row > index.through {
            break;
        }
        if index.pairs.iter().rev().all(|pair| pair.1 != entry.collection || pair.0 != entry.scope) {
            index.pairs.push(Pair(entry.scope.clone(), entry.collection.clone()));
        }
        added.push((hash_of(&entry.collection, &entry.id), row));
    }
    let mut put = Vec::new();
    if index.through > from {
        let bits = added.len().div_ceil(PAGE_ENTRIES).next_power_of_two().trailing_zeros();
        let run = index.through * 32 + u64::from(bits);
        put = pages(run).map(|key| (key, LanePage::new())).listed();
        sort(&mut added, &|a, b| a.cmp(b));
        for (hash, row) in added {
            if let Some((_, page)) = put.get_mut(number(run, hash) as usize)
                && !page.ends_with(&[hash, row])
            {
                page.push(hash);
                page.push(row);
                index.held += 1;
            }
        }
        // Made anew over the same rows it may be the run that it takes the place of.
        gone.retain(|old| *old != run);
        index.runs.push(run);
    }
    Some(LaneStep { index: Some(index), put, gone })
}
