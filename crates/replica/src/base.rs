//! The base in memory: the records of the live segments, by pair, as opaque text.

use landfall_core::pull::{Manifest, Segment, SegmentRecord};
use landfall_core::{Base, BaseRecord};
use landfall_protocol::codec::from_json;
use landfall_protocol::{Epoch, Fields, Json, Map, Pair, Position, RecordId, RecordKey, RecordSum, Set, Version};

/// A record or tombstone as pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub version: Version,
    /// `None`: deleted.
    pub fields: Option<Json>,
}

/// One pair's records and the sum over its live ones.
#[derive(Clone, Debug, Default)]
pub struct PairBase {
    pub records: Map<RecordId, Held>,
    pub sum: RecordSum,
    /// Segments that are in `records`, in order.
    loaded: Vec<u64>,
}

impl PairBase {
    fn put(&mut self, record: SegmentRecord) {
        if let Some(old) = self.records.get(&record.id)
            && old.fields.is_some()
        {
            self.sum.remove(&record.id, old.version);
        }
        if record.fields.is_some() {
            self.sum.add(&record.id, record.version);
        }
        self.records.insert(record.id, Held { version: record.version, fields: record.fields });
    }
}

/// All pairs, and the manifest that they follow.
#[derive(Clone, Debug, Default)]
pub struct MemoryBase {
    pub manifest: Manifest,
    pub pairs: Map<Pair, PairBase>,
}

impl MemoryBase {
    /// Segments that a new manifest needs and this memory lacks, by pair; pairs that must start from nothing first.
    pub fn missing(&self, manifest: &Manifest) -> Vec<(Pair, Vec<u64>)> {
        let mut missing = Vec::new();
        for row in &manifest.pairs {
            let wanted: Vec<u64> = row.live.iter().map(|segment| segment.id).collect();
            let loaded = self.pairs.get(&row.pair).map_or(&[][..], |pair| &pair.loaded);
            if wanted.len() >= loaded.len() && wanted[..loaded.len()] == *loaded {
                if wanted.len() > loaded.len() {
                    missing.push((row.pair.clone(), wanted[loaded.len()..].to_vec()));
                }
            } else {
                missing.push((row.pair.clone(), wanted));
            }
        }
        missing
    }

    /// Takes a new manifest and the segments that [`Self::missing`] named. Returns the pairs that changed.
    ///
    /// `compacted`: the records did not change, only where they are.
    pub fn adopt(&mut self, manifest: Manifest, mut segments: Map<u64, Segment>) -> Set<Pair> {
        let mut changed = Set::new();
        let known: Set<&Pair> = manifest.pairs.iter().map(|row| &row.pair).collect();
        let gone: Vec<Pair> = self.pairs.keys().filter(|pair| !known.contains(pair)).cloned().collect();
        for pair in gone {
            self.pairs.remove(&pair);
            changed.insert(pair);
        }
        for (pair, wanted) in self.missing(&manifest) {
            let live = manifest.pair(&pair).map_or(0, |row| row.live.len());
            let held = self.pairs.entry(pair.clone()).or_default();
            if wanted.len() == live {
                *held = PairBase::default();
            }
            for id in wanted {
                if let Some(segment) = segments.remove(&id) {
                    for record in segment.records {
                        held.put(record);
                    }
                }
                held.loaded.push(id);
            }
            changed.insert(pair);
        }
        for row in &manifest.pairs {
            let held = self.pairs.entry(row.pair.clone()).or_default();
            if row.live.is_empty() && !held.loaded.is_empty() {
                *held = PairBase::default();
                changed.insert(row.pair.clone());
            }
            if self.manifest.pair(&row.pair).and_then(|old| old.covered) != row.covered {
                changed.insert(row.pair.clone());
            }
        }
        self.manifest = manifest;
        changed
    }

    /// A compaction moved records without changing them: remember where they are now.
    pub fn moved(&mut self, manifest: Manifest) {
        for row in &manifest.pairs {
            if let Some(held) = self.pairs.get_mut(&row.pair) {
                held.loaded = row.live.iter().map(|segment| segment.id).collect();
            }
        }
        self.manifest = manifest;
    }

    pub fn held(&self, key: &RecordKey) -> Option<&Held> {
        self.pairs.get(&key.pair())?.records.get(&key.id)
    }
}

impl Base for MemoryBase {
    fn base(&self, key: &RecordKey) -> Option<BaseRecord> {
        let held = self.held(key)?;
        let fields: Fields = match &held.fields {
            Some(text) => from_json(text.text()).unwrap_or_default(),
            None => Fields::new(),
        };
        Some(BaseRecord { version: held.version, deleted: held.fields.is_none(), fields })
    }
    fn covered(&self, pair: &Pair) -> Option<Position> {
        self.manifest.pair(pair)?.covered
    }
    fn epoch(&self) -> Option<&Epoch> {
        self.manifest.epoch.as_ref()
    }
}
