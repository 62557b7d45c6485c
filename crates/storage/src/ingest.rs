//! Pulled pages into the base: rows and cursor in one transaction (R3), staged until a cold start is whole.

use crate::edit::{BaseTxn, Editor, Old, key};
use crate::manifest::{Manifest, PairRow, Schema, lacking};
use crate::records::{Missing, Records};
use crate::segment::Held;
use landfall_protocol::{
    AddAll, Change, CollectionName, Epoch, Json, Listed, Pair, Position, PullResponse, RecordId, Scope, Stamp,
    Tombstone, UnixMillis, Version,
};

/// A page with its records as opaque text: the base never looks inside them, but for index keys.
pub type Page = PullResponse<Json>;

/// What is known of a record's version beside the base: outcomes of this client that it has not pulled yet.
pub type Known<'a> = &'a dyn Fn(&Pair, &RecordId) -> Option<Version>;

/// Pages on their way in. Kept while missed rows are read: what was found once is not looked for again.
pub struct Ingest {
    /// One page after the other, all on top of the manifest's cursor.
    pages: Vec<Page>,
    /// The newest state of each of their records, by pair, in id order.
    batch: Batch,
    /// Where records were found, by pair and place in the batch.
    found: Vec<Vec<Place>>,
    rev: u64,
}

/// Where a record of the batch is now.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Not looked for yet.
    Open,
    Nowhere,
    At(Old),
}

impl Ingest {
    pub fn new(mut pages: Vec<Page>) -> Self {
        let batch = newest(&mut pages);
        Self { pages, batch, found: Vec::new(), rev: u64::MAX }
    }
    /// The pages, without their records.
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
            self.found = self.batch.iter().map(|(_, held)| vec![Place::Open; held.len()]).listed();
            self.rev = records.manifest.rev;
        }
        let mut editor = Editor::new("checkpoint", records, schema, now);
        for pair in std::mem::take(&mut editor.txn.manifest.resync) {
            let at = editor.pair(&pair);
            editor.txn.manifest.pairs[at].cold = true;
        }
        self.find(&editor.txn.manifest, records)?;
        for page in &self.pages {
            for pair in &page.access.removed {
                let Some(at) = editor.txn.manifest.pairs.iter().position(|row| row.pair == *pair) else { continue };
                editor.discard(at, false);
                editor.discard(at, true);
                editor.txn.manifest.pairs.remove(at);
                editor.txn.removed.push(pair.clone());
            }
        }
        for ((pair, held), found) in self.batch.iter().zip(&self.found) {
            store(&mut editor, pair, held, found, known)?;
        }
        for page in &self.pages {
            settle_page(&mut editor, page, now);
        }
        Ok(editor.finish())
    }

    /// Where the records of the batch are now. All that is missing is asked for together.
    fn find(&mut self, manifest: &Manifest, records: &Records) -> Result<(), Missing> {
        let mut missing = false;
        for ((pair, held), found) in self.batch.iter().zip(&mut self.found) {
            let Some(row) = manifest.pair(pair) else {
                found.fill(Place::Nowhere);
                continue;
            };
            for (record, place) in held.iter().zip(found) {
                if !matches!(place, Place::Open) {
                    continue;
                }
                match records.find(row, row.cold, record.id.as_str()) {
                    Ok(Some((at, block))) => {
                        let slot = at.slot as usize;
                        let (version, deleted) = (block.version(slot), block.fields(slot).is_none());
                        *place = Place::At(Old { at, version, deleted });
                    }
                    Ok(None) => *place = Place::Nowhere,
                    Err(Missing) => missing = true,
                }
            }
        }
        if missing { Err(Missing) } else { Ok(()) }
    }
}

fn store(
    editor: &mut Editor<'_>,
    pair: &Pair,
    held: &[Held],
    found: &[Place],
    known: Known<'_>,
) -> Result<(), Missing> {
    let at = editor.pair(pair);
    let staged = editor.txn.manifest.pairs[at].cold;
    for (record, place) in held.iter().zip(found) {
        let mut own = known(pair, &record.id);
        if let Place::At(old) = place {
            editor.kill(at, staged, old.at)?;
            if !old.deleted {
                editor.sum(at, staged).remove(&record.id, old.version);
            }
            own = own.max(Some(old.version));
        }
        if record.fields.is_some() {
            editor.sum(at, staged).add(&record.id, record.version);
        }
        editor.txn.news += u64::from(own < Some(record.version));
        if !staged {
            editor.txn.changed.push(key(pair, &record.id));
        }
    }
    editor.append(at, staged, held, 0)
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
            old.add_all(staged.iter().map(|run| (run.id, run.rev)));
        } else {
            index.live = staged;
        }
    }
    let pair = row.pair.clone();
    editor.txn.flipped.push(pair);
    editor.txn.manifest.old_pages.add_all(old);
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

/// Between two cold starts of a pair because its checksum did not match: a second one so soon would not help.
pub const MISMATCH_MS: u64 = 3_600_000;
/// The same because a row of it is damaged: each time it is another row, so this only keeps a failing disk from being busy.
pub const DAMAGE_MS: u64 = 10_000;

/// Asks for a pair anew, if it did not start anew less than `wait_ms` ago. `None`: too soon.
pub fn plan_resync(records: &Records, schema: &Schema, pair: &Pair, wait_ms: u64, now: UnixMillis) -> Option<BaseTxn> {
    let row = records.manifest.pair(pair)?;
    if row.resync_at.is_some_and(|at| now.get().abs_diff(at.get()) < wait_ms) {
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

/// True when every pair has the indexes that are declared for it.
pub fn is_declared(records: &Records, schema: &Schema) -> bool {
    records.manifest.pairs.iter().all(|row| lacking(row, schema).is_empty())
}

/// Declares indexes that the pairs lack; compaction builds them. `None`: nothing to do.
pub fn plan_declare(records: &Records, schema: &Schema, now: UnixMillis) -> Option<BaseTxn> {
    if is_declared(records, schema) {
        return None;
    }
    let mut editor = Editor::new("declare", records, schema, now);
    for row in &records.manifest.pairs {
        editor.pair(&row.pair);
    }
    Some(editor.finish())
}

/// Stamps of a page, for the clock.
pub fn stamps(page: &Page) -> impl Iterator<Item = &Stamp> {
    let changes = page.changes.values().flatten().filter_map(|change| change.stamp.as_ref());
    changes.chain(page.tombstones.values().flatten().filter_map(|tombstone| tombstone.stamp.as_ref()))
}

type Batch = Vec<(Pair, Vec<Held>)>;

/// Takes the records out of some pages: the newest state of each, by pair, in id order.
fn newest(pages: &mut [Page]) -> Batch {
    let mut parts: Vec<(Pair, Vec<(Position, Held)>)> = Vec::new();
    let mut last = 0;
    let mut add = |scope: Scope, collection: &CollectionName, position: Position, record: Held| {
        let is_it = |part: &(Pair, Vec<(Position, Held)>)| part.0.0 == scope && part.0.1 == *collection;
        // Most records are of the pair that the one before was of.
        if !parts.get(last).is_some_and(is_it) {
            last = parts.iter().position(is_it).unwrap_or(parts.len());
        }
        if last == parts.len() {
            parts.push((Pair(scope, collection.clone()), Vec::new()));
        }
        parts[last].1.push((position, record));
    };
    for page in pages {
        for (collection, tombstones) in std::mem::take(&mut page.tombstones) {
            for Tombstone { scope, id, version, position, .. } in tombstones {
                add(scope, &collection, position, Held { id, version, fields: None });
            }
        }
        for (collection, changes) in std::mem::take(&mut page.changes) {
            for Change { scope, id, version, position, fields, .. } in changes {
                add(scope, &collection, position, Held { id, version, fields: Some(fields.into_text()) });
            }
        }
    }
    let mut batch = Batch::new();
    for (pair, mut records) in parts {
        // One push can change a record twice at one position: its version tells which came later.
        let place =
            |a: &(Position, Held), b: &(Position, Held)| (&a.1.id, a.0, a.1.version).cmp(&(&b.1.id, b.0, b.1.version));
        if !records.is_sorted_by(|a, b| place(a, b).is_le()) {
            records.sort_by(place);
        }
        let mut newest: Vec<Held> = Vec::with_capacity(records.len());
        for (_, record) in records {
            match newest.last_mut() {
                Some(last) if last.id == record.id => *last = record,
                _ => newest.push(record),
            }
        }
        batch.push((pair, newest));
    }
    batch
}
