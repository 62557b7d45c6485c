//! Pulling: from a page to one transaction that stores its rows and its cursor together (R3).
//!
//! The base is a list of segments for each pair, newest last; a later row of a record shadows an earlier one. Pulls,
//! flips and compaction are the only writers of it, and all of them are ordered by the manifest row.

use crate::plant::{Plant, planted};
use landfall_protocol::{
    Change, CollectionName, Epoch, Json, Map, Pair, Position, PullResponse as Response, RecordId, Scope, Set, Stamp,
    Tombstone, UnixMillis, Version,
};
use serde::{Deserialize, Serialize};

/// A page with its records as opaque text: the base never looks inside them.
pub type Page = Response<Json>;

/// Records of one segment at most, and bytes of its JSON: under 64 KB, above which Chromium moves a value to a file.
pub const SEGMENT_COUNT_MAX: usize = 150;
pub const SEGMENT_BYTES_MAX: usize = 56 * 1024;
/// Small segments of a pair before they are merged.
pub const SMALL_SEGMENTS_MAX: usize = 16;

/// A record or tombstone of the base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRecord {
    pub id: RecordId,
    pub version: Version,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<Json>,
}

landfall_protocol::wire!(SegmentRecord { id: Need, version: Need, fields: Skip });

/// One immutable row of the base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    pub scope: Scope,
    pub collection: CollectionName,
    pub records: Vec<SegmentRecord>,
}

landfall_protocol::wire!(Segment { scope: Need, collection: Need, records: Need });

/// Where a segment is and how full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRef {
    pub id: u64,
    pub count: u32,
    pub bytes: u32,
}

landfall_protocol::wire!(SegmentRef { id: Need, count: Need, bytes: Need });

impl SegmentRef {
    fn is_small(&self) -> bool {
        (self.count as usize) < SEGMENT_COUNT_MAX / 2 && (self.bytes as usize) < SEGMENT_BYTES_MAX / 2
    }
}

/// The base of one (scope, collection).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairRow {
    pub pair: Pair,
    /// How far it reaches; `None` while it is staged for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covered: Option<Position>,
    pub live: Vec<SegmentRef>,
    /// A cold start that is not visible yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub staged: Vec<SegmentRef>,
    /// Started cold again; its rows are staged until the flip.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cold: bool,
    /// When a mismatch of its checksum last started it cold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resync_at: Option<UnixMillis>,
}

landfall_protocol::wire!(PairRow { pair: Need, covered: Skip, live: Need, staged: Skip, cold: Skip, resync_at: Skip });

/// The row that orders all transactions of the base.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Grows with every transaction of the base.
    pub rev: u64,
    pub epoch: Option<Epoch>,
    pub cursor: Option<String>,
    pub pairs: Vec<PairRow>,
    /// Segment ids are never reused.
    pub next_segment: u64,
    /// The log up to here is folded into the view (0 while the first compaction folds server state only).
    #[serde(default)]
    pub folded_through: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_pull: Option<UnixMillis>,
    /// Pairs to ask for anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resync: Vec<Pair>,
}

landfall_protocol::wire!(Manifest {
    rev: Need,
    epoch: Keep,
    cursor: Keep,
    pairs: Need,
    next_segment: Need,
    folded_through: Keep,
    last_pull: Skip,
    resync: Skip
});

impl Manifest {
    pub fn pair(&self, pair: &Pair) -> Option<&PairRow> {
        self.pairs.iter().find(|row| row.pair == *pair)
    }
    fn pair_mut(&mut self, pair: &Pair) -> &mut PairRow {
        let at = match self.pairs.iter().position(|row| row.pair == *pair) {
            Some(at) => at,
            None => {
                self.pairs.push(PairRow {
                    pair: pair.clone(),
                    covered: None,
                    live: Vec::new(),
                    staged: Vec::new(),
                    cold: true,
                    resync_at: None,
                });
                self.pairs.len() - 1
            }
        };
        &mut self.pairs[at]
    }
    /// True until the first cold start has become visible.
    pub fn is_cold(&self) -> bool {
        self.pairs.iter().all(|row| row.covered.is_none())
    }
}

/// One transaction of the base. It commits only if the manifest row is still at `manifest.rev − 1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseTxn {
    pub name: &'static str,
    pub manifest: Manifest,
    pub put: Vec<(u64, Segment)>,
    pub delete: Vec<u64>,
    /// Pairs that this client may not read any more.
    pub removed: Vec<Pair>,
}

/// Plans the checkpoint of one page: its rows, its cursor, what flips and what goes.
pub fn plan_page(manifest: &Manifest, response: &Page, now: UnixMillis) -> BaseTxn {
    let mut txn = BaseTxn {
        name: "checkpoint",
        manifest: manifest.clone(),
        put: Vec::new(),
        delete: Vec::new(),
        removed: response.access.removed.clone(),
    };
    txn.manifest.rev += 1;
    if manifest.epoch.as_ref() != Some(&response.epoch) {
        // Positions of another epoch mean nothing here; a reset has cleared the cursor before.
        txn.manifest.epoch = Some(response.epoch.clone());
    }
    for pair in &response.access.removed {
        let Some(at) = txn.manifest.pairs.iter().position(|row| row.pair == *pair) else { continue };
        let row = txn.manifest.pairs.remove(at);
        txn.delete.extend(row.live.iter().chain(&row.staged).map(|segment| segment.id));
    }
    let mut covered: Map<Pair, Position> = Map::new();
    for (scope, collections) in &response.covered {
        for (collection, position) in collections {
            covered.insert(Pair(scope.clone(), collection.clone()), *position);
        }
    }
    for pair in std::mem::take(&mut txn.manifest.resync) {
        txn.manifest.pair_mut(&pair).cold = true;
    }
    for (pair, records) in by_pair(response) {
        let segments = pack(&pair, records);
        for segment in segments {
            let id = txn.manifest.next_segment;
            txn.manifest.next_segment += 1;
            let reference = SegmentRef {
                id,
                count: segment.records.len() as u32,
                bytes: segment.records.iter().map(record_bytes).sum::<usize>() as u32,
            };
            let row = txn.manifest.pair_mut(&pair);
            // A cold pair is staged until `covered` names it, and its old rows stay visible.
            if row.cold {
                row.staged.push(reference)
            } else {
                row.live.push(reference)
            }
            if !planted(Plant::CursorBeforeRows) {
                txn.put.push((id, segment));
            }
        }
    }
    for (pair, position) in &covered {
        let row = txn.manifest.pair_mut(pair);
        if std::mem::take(&mut row.cold) {
            // The flip: the staged rows become the pair, whole, in this transaction.
            txn.delete.extend(row.live.iter().map(|segment| segment.id));
            row.live = std::mem::take(&mut row.staged);
        }
        // Never backwards within an epoch.
        row.covered = Some(row.covered.map_or(*position, |old| old.max(*position)));
    }
    txn.manifest.cursor = Some(response.cursor.clone());
    if !response.has_more {
        txn.manifest.last_pull = Some(now);
        // A reset forgot what the server had granted, so it cannot say what it took away since: that is what a cold start
        // has not named when it is at head.
        let is_gone = |row: &PairRow| row.cold && row.covered.is_none();
        for row in txn.manifest.pairs.iter().filter(|row| is_gone(row)) {
            txn.delete.extend(row.live.iter().chain(&row.staged).map(|segment| segment.id));
            txn.removed.push(row.pair.clone());
        }
        txn.manifest.pairs.retain(|row| !is_gone(row));
    }
    txn
}

/// Plans that everything is pulled anew: another epoch, or a cursor below the server's pruning floor. What is visible
/// stays so until the cold start flips.
pub fn plan_cold(manifest: &Manifest, epoch: Option<Epoch>) -> BaseTxn {
    let mut manifest = manifest.clone();
    manifest.rev += 1;
    manifest.cursor = None;
    let mut delete = Vec::new();
    for row in &mut manifest.pairs {
        delete.extend(row.staged.drain(..).map(|segment| segment.id));
        row.covered = None;
        row.cold = true;
    }
    manifest.resync.clear();
    if epoch.is_some() {
        manifest.epoch = epoch;
    }
    BaseTxn { name: "reset", manifest, put: Vec::new(), delete, removed: Vec::new() }
}

/// Asks for a pair anew because its checksum did not match; at most once an hour. `None`: too soon.
pub fn plan_resync(manifest: &Manifest, pair: &Pair, now: UnixMillis) -> Option<BaseTxn> {
    let row = manifest.pair(pair)?;
    if row.resync_at.is_some_and(|at| now.get().saturating_sub(at.get()) < 3_600_000) {
        return None;
    }
    let mut manifest = manifest.clone();
    manifest.rev += 1;
    manifest.pair_mut(pair).resync_at = Some(now);
    if !manifest.resync.contains(pair) {
        manifest.resync.push(pair.clone());
    }
    Some(BaseTxn { name: "resync", manifest, put: Vec::new(), delete: Vec::new(), removed: Vec::new() })
}

/// The segments that a compaction step would merge: the tail of a pair from its first small segment on.
pub fn compactable(manifest: &Manifest) -> Option<(Pair, Vec<SegmentRef>)> {
    manifest.pairs.iter().find_map(|row| {
        let small = row.live.iter().filter(|segment| segment.is_small()).count();
        let from = row.live.iter().position(SegmentRef::is_small)?;
        (small > SMALL_SEGMENTS_MAX).then(|| (row.pair.clone(), row.live[from..].to_vec()))
    })
}

/// Plans one compaction step: `inputs` (oldest first, as [`compactable`] named them) become few full segments.
pub fn plan_compaction(manifest: &Manifest, pair: &Pair, inputs: &[(SegmentRef, Segment)]) -> BaseTxn {
    let mut newest: Map<RecordId, SegmentRecord> = Map::new();
    for (_, segment) in inputs {
        for record in &segment.records {
            newest.insert(record.id.clone(), record.clone());
        }
    }
    let mut txn = BaseTxn {
        name: "compaction",
        manifest: manifest.clone(),
        put: Vec::new(),
        delete: Vec::new(),
        removed: Vec::new(),
    };
    txn.manifest.rev += 1;
    let gone: Set<u64> = inputs.iter().map(|(reference, _)| reference.id).collect();
    txn.delete.extend(&gone);
    let mut fresh = Vec::new();
    for segment in pack(pair, newest.into_values().collect()) {
        let id = txn.manifest.next_segment;
        txn.manifest.next_segment += 1;
        let bytes = segment.records.iter().map(record_bytes).sum::<usize>() as u32;
        fresh.push(SegmentRef { id, count: segment.records.len() as u32, bytes });
        txn.put.push((id, segment));
    }
    let row = txn.manifest.pair_mut(pair);
    row.live.retain(|segment| !gone.contains(&segment.id));
    row.live.extend(fresh);
    txn
}

/// The newest state of each record of a page, by pair, in id order.
fn by_pair(response: &Page) -> Map<Pair, Vec<SegmentRecord>> {
    // One push can change a record twice at one position: its version tells which came later.
    let mut newest: Map<Pair, Map<RecordId, (Position, SegmentRecord)>> = Map::new();
    let mut add = |pair: Pair, position: Position, record: SegmentRecord| {
        let records = newest.entry(pair).or_default();
        if records.get(&record.id).is_none_or(|(at, old)| (*at, old.version) <= (position, record.version)) {
            records.insert(record.id.clone(), (position, record));
        }
    };
    for (collection, tombstones) in &response.tombstones {
        for Tombstone { scope, id, version, position, .. } in tombstones {
            let record = SegmentRecord { id: id.clone(), version: *version, fields: None };
            add(Pair(scope.clone(), collection.clone()), *position, record);
        }
    }
    for (collection, changes) in &response.changes {
        for Change { scope, id, version, position, fields, .. } in changes {
            let record = SegmentRecord { id: id.clone(), version: *version, fields: Some(fields.clone()) };
            add(Pair(scope.clone(), collection.clone()), *position, record);
        }
    }
    newest
        .into_iter()
        .map(|(pair, records)| (pair, records.into_values().map(|(_, record)| record).collect()))
        .collect()
}

/// Stamps of a page, for the clock.
pub fn stamps(response: &Page) -> impl Iterator<Item = &Stamp> {
    let changes = response.changes.values().flatten().filter_map(|change| change.stamp.as_ref());
    changes.chain(response.tombstones.values().flatten().filter_map(|tombstone| tombstone.stamp.as_ref()))
}

fn record_bytes(record: &SegmentRecord) -> usize {
    record.fields.as_ref().map_or(0, |fields| fields.text().len()) + record.id.as_str().len() + 40
}

/// Cuts records into rows of bounded count and size; a record over the size has a row of its own.
fn pack(pair: &Pair, records: Vec<SegmentRecord>) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut bytes = 0;
    for record in records {
        let size = record_bytes(&record);
        let fits = segments
            .last()
            .is_some_and(|segment| segment.records.len() < SEGMENT_COUNT_MAX && bytes + size <= SEGMENT_BYTES_MAX);
        if !fits {
            segments.push(Segment { scope: pair.0.clone(), collection: pair.1.clone(), records: Vec::new() });
            bytes = 0;
        }
        bytes += size;
        if let Some(segment) = segments.last_mut() {
            segment.records.push(record);
        }
    }
    segments
}
