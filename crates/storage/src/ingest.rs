//! Pulled pages into the base: rows and cursor in one transaction (R3), staged until a cold start is whole.

use crate::edit::{BaseTxn, Editor, Old, key};
use crate::manifest::{Manifest, PairRow, Schema};
use crate::records::{Missing, Records};
use crate::segment::Held;
use landfall_protocol::{
    Change, Epoch, Json, Map, Pair, Position, PullResponse, RecordId, RecordKey, Stamp, Tombstone, UnixMillis, Version,
};

/// A page with its records as opaque text: the base never looks inside them, but for index keys.
pub type Page = PullResponse<Json>;

/// What is known of a record's version beside the base: outcomes of this client that it has not pulled yet.
pub type Known<'a> = &'a dyn Fn(&RecordKey) -> Option<Version>;

/// Pages on their way in. Kept while missed rows are read: what was found once is not looked for again.
pub struct Ingest {
    /// One page after the other, all on top of the manifest's cursor.
    pages: Vec<Page>,
    found: Map<RecordKey, Option<Old>>,
    rev: u64,
}

impl Ingest {
    pub fn new(pages: Vec<Page>) -> Self {
        Self { pages, found: Map::new(), rev: u64::MAX }
    }
    pub fn pages(&self) -> &[Page] {
        &self.pages
    }

    /// Plans the checkpoint: rows, cursor, what flips and what goes.
    pub fn plan(
        &mut self,
        records: &Records,
        schema: &Schema,
        known: Known<'_>,
        now: UnixMillis,
    ) -> Result<BaseTxn, Missing> {
        if self.rev != records.manifest.rev {
            self.found = Map::new();
            self.rev = records.manifest.rev;
        }
        let mut editor = Editor::new("checkpoint", records, schema, now);
        for pair in std::mem::take(&mut editor.txn.manifest.resync) {
            let at = editor.pair(&pair);
            editor.txn.manifest.pairs[at].cold = true;
        }
        let batch = newest(&self.pages);
        self.find(&batch, &editor.txn.manifest, records)?;
        for page in &self.pages {
            for pair in &page.access.removed {
                let Some(at) = editor.txn.manifest.pairs.iter().position(|row| row.pair == *pair) else { continue };
                editor.discard(at, false);
                editor.discard(at, true);
                editor.txn.manifest.pairs.remove(at);
                editor.txn.removed.push(pair.clone());
            }
        }
        for (pair, held) in batch {
            self.store(&mut editor, &pair, held, known)?;
        }
        for page in &self.pages {
            settle_page(&mut editor, page, now);
        }
        Ok(editor.finish())
    }

    /// Where the records of the batch are now. All that is missing is asked for together.
    fn find(&mut self, batch: &Batch, manifest: &Manifest, records: &Records) -> Result<(), Missing> {
        let mut missing = false;
        for (pair, held) in batch {
            let Some(row) = manifest.pair(pair) else { continue };
            if row.runs(row.cold).is_empty() {
                continue;
            }
            for id in held.keys() {
                let key = key(pair, id);
                if self.found.contains_key(&key) {
                    continue;
                }
                match records.find(row, row.cold, id.as_str()) {
                    Ok(found) => {
                        let old = found.map(|(at, block)| {
                            let slot = at.slot as usize;
                            Old { at, version: block.version(slot), deleted: block.fields(slot).is_none() }
                        });
                        self.found.insert(key, old);
                    }
                    Err(Missing) => missing = true,
                }
            }
        }
        if missing { Err(Missing) } else { Ok(()) }
    }

    fn store(
        &self,
        editor: &mut Editor<'_>,
        pair: &Pair,
        held: Map<RecordId, (Position, Held)>,
        known: Known<'_>,
    ) -> Result<(), Missing> {
        let at = editor.pair(pair);
        let staged = editor.txn.manifest.pairs[at].cold;
        let mut fresh = Vec::with_capacity(held.len());
        for (_, (_, record)) in held {
            let key = key(pair, &record.id);
            let old = self.found.get(&key).copied().flatten();
            if let Some(old) = old {
                editor.kill(at, staged, old.at)?;
                if !old.deleted {
                    editor.sum(at, staged).remove(&record.id, old.version);
                }
            }
            if record.fields.is_some() {
                editor.sum(at, staged).add(&record.id, record.version);
            }
            if old.map(|old| old.version).max(known(&key)) < Some(record.version) {
                editor.txn.news += 1;
            }
            if !staged {
                editor.txn.changed.push(key);
            }
            fresh.push(record);
        }
        editor.append(at, staged, fresh, 0)
    }
}

/// What a page says of the whole: epoch, cursor, positions, flips.
fn settle_page(editor: &mut Editor<'_>, page: &Page, now: UnixMillis) {
    // Positions of another epoch mean nothing here; a reset has cleared the cursor before.
    editor.txn.manifest.epoch = Some(page.epoch.clone());
    for (scope, collections) in &page.covered {
        for (collection, position) in collections {
            let at = editor.pair(&Pair(scope.clone(), collection.clone()));
            if std::mem::take(&mut editor.txn.manifest.pairs[at].cold) {
                flip(editor, at);
            }
            // Never backwards within an epoch.
            let row = &mut editor.txn.manifest.pairs[at];
            row.covered = Some(row.covered.map_or(*position, |old| old.max(*position)));
        }
    }
    editor.txn.manifest.cursor = Some(page.cursor.clone());
    if !page.has_more {
        editor.txn.manifest.last_pull = Some(now);
        // A reset forgot what the server had granted, so it cannot say what it took away since: that is what a cold start
        // has not named when it is at head.
        let is_gone = |row: &PairRow| row.cold && row.covered.is_none();
        while let Some(at) = editor.txn.manifest.pairs.iter().position(is_gone) {
            editor.discard(at, false);
            editor.discard(at, true);
            let row = editor.txn.manifest.pairs.remove(at);
            editor.txn.removed.push(row.pair);
        }
    }
}

/// The staged rows become the pair, whole, in this transaction.
fn flip(editor: &mut Editor<'_>, at: usize) {
    editor.discard(at, false);
    let next_row = editor.txn.manifest.next_row;
    let row = &mut editor.txn.manifest.pairs[at];
    row.live = std::mem::take(&mut row.staged);
    row.sum = std::mem::take(&mut row.staged_sum);
    let mut old = Vec::new();
    for index in &mut row.indexes {
        let staged = std::mem::take(&mut index.staged);
        (index.since, index.built) = (0, 0);
        if std::mem::take(&mut index.is_late) {
            // It lacks what was staged before it was declared, so all of it is built.
            index.since = next_row;
            old.extend(staged.iter().map(|run| (run.id, run.rev)));
        } else {
            index.live = staged;
        }
    }
    let pair = row.pair.clone();
    editor.txn.flipped.push(pair);
    editor.txn.manifest.old_pages.extend(old);
}

/// Plans that everything is pulled anew: another epoch, or a cursor below the server's pruning floor. What is visible
/// stays so until the cold start flips.
pub fn plan_cold(records: &Records, schema: &Schema, epoch: Option<Epoch>, now: UnixMillis) -> BaseTxn {
    let mut editor = Editor::new("reset", records, schema, now);
    editor.txn.manifest.cursor = None;
    for at in 0..editor.txn.manifest.pairs.len() {
        editor.discard(at, true);
        let row = &mut editor.txn.manifest.pairs[at];
        row.covered = None;
        row.cold = true;
        editor.txn.flipped.push(row.pair.clone());
    }
    editor.txn.manifest.resync.clear();
    if epoch.is_some() {
        editor.txn.manifest.epoch = epoch;
    }
    editor.finish()
}

/// Asks for a pair anew because its checksum did not match or a row of it is damaged; at most once an hour.
/// `None`: too soon.
pub fn plan_resync(records: &Records, schema: &Schema, pair: &Pair, now: UnixMillis) -> Option<BaseTxn> {
    let row = records.manifest.pair(pair)?;
    if row.resync_at.is_some_and(|at| now.get().saturating_sub(at.get()) < 3_600_000) {
        return None;
    }
    let mut editor = Editor::new("resync", records, schema, now);
    let at = editor.pair(pair);
    editor.txn.manifest.pairs[at].resync_at = Some(now);
    if !editor.txn.manifest.resync.contains(pair) {
        editor.txn.manifest.resync.push(pair.clone());
    }
    Some(editor.finish())
}

/// Declares indexes that the pairs lack. `None`: nothing to do.
pub fn plan_declare(records: &Records, schema: &Schema, now: UnixMillis) -> Option<BaseTxn> {
    let mut editor = Editor::new("declare", records, schema, now);
    let pairs: Vec<Pair> = records.manifest.pairs.iter().map(|row| row.pair.clone()).collect();
    for pair in &pairs {
        editor.pair(pair);
    }
    (editor.txn.manifest.pairs != records.manifest.pairs).then(|| editor.finish())
}

/// Stamps of a page, for the clock.
pub fn stamps(page: &Page) -> impl Iterator<Item = &Stamp> {
    let changes = page.changes.values().flatten().filter_map(|change| change.stamp.as_ref());
    changes.chain(page.tombstones.values().flatten().filter_map(|tombstone| tombstone.stamp.as_ref()))
}

type Batch = Map<Pair, Map<RecordId, (Position, Held)>>;

/// The newest state of each record of some pages, by pair.
fn newest(pages: &[Page]) -> Batch {
    let mut batch = Batch::new();
    // One push can change a record twice at one position: its version tells which came later.
    let mut add = |pair: Pair, position: Position, record: Held| {
        let records = batch.entry(pair).or_default();
        if records.get(&record.id).is_none_or(|(at, old)| (*at, old.version) <= (position, record.version)) {
            records.insert(record.id.clone(), (position, record));
        }
    };
    for page in pages {
        for (collection, tombstones) in &page.tombstones {
            for Tombstone { scope, id, version, position, .. } in tombstones {
                let record = Held { id: id.clone(), version: *version, fields: None };
                add(Pair(scope.clone(), collection.clone()), *position, record);
            }
        }
        for (collection, changes) in &page.changes {
            for Change { scope, id, version, position, fields, .. } in changes {
                let record = Held { id: id.clone(), version: *version, fields: Some(fields.text().into()) };
                add(Pair(scope.clone(), collection.clone()), *position, record);
            }
        }
    }
    batch
}
