//! Editing the base: one transaction's runs, segments and index pages, and the manifest that names them.

use crate::manifest::{Manifest, PRIMARY, Schema};
use crate::page::{Entry, Line, Location, PAGE_BYTES_MAX, encode_page, entry_bytes};
use crate::query::key::key_of;
use crate::records::{Missing, Records, page_key, run_key};
use crate::row::{RowKind, encode};
use crate::rowstore::{Key, StoreName};
use crate::run::{Dead, Fence, RUN_ROWS_MAX, Run, RunRef};
use crate::segment::{Block, Held, SEGMENT_BYTES_MAX, SEGMENT_COUNT_MAX, encode_segment};
use landfall_protocol::text::split;
use landfall_protocol::{
    AddAll, Listed, Map, Pair, RecordId, RecordKey, RecordSum, UnixMillis, Version, compare_text, map,
};

/// One transaction of the base. It commits only if the manifest row is still at `manifest.rev − 1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseTxn {
    pub name: &'static str,
    pub manifest: Manifest,
    /// Rows as they are stored.
    pub put: Vec<(StoreName, Key, String)>,
    pub delete: Vec<(StoreName, Key)>,
    /// The runs among them, for memory.
    pub runs: Vec<(u64, Run)>,
    /// Pairs that this client may not read any more.
    pub removed: Vec<Pair>,
    /// Pairs whose records became others as a whole.
    pub flipped: Vec<Pair>,
    /// Records that became others.
    pub changed: Vec<RecordKey>,
    /// Records that were news to this client.
    pub news: u64,
}

impl BaseTxn {
    pub(crate) fn new(name: &'static str, before: &Manifest) -> Self {
        let mut manifest = before.clone();
        manifest.rev += 1;
        Self {
            name,
            manifest,
            put: Vec::new(),
            delete: Vec::new(),
            runs: Vec::new(),
            removed: Vec::new(),
            flipped: Vec::new(),
            changed: Vec::new(),
            news: 0,
        }
    }
}

/// A record that a newer one takes the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Old {
    pub at: Location,
    pub version: Version,
    pub deleted: bool,
}

/// A transaction in the making.
pub(crate) struct Editor<'a> {
    pub records: &'a Records,
    pub schema: &'a Schema,
    pub txn: BaseTxn,
    pub now: UnixMillis,
    /// Runs that change, by id.
    edited: Map<u64, Run>,
}

impl<'a> Editor<'a> {
    pub fn new(name: &'static str, records: &'a Records, schema: &'a Schema, now: UnixMillis) -> Self {
        Self { records, schema, txn: BaseTxn::new(name, &records.manifest), now, edited: Map::new() }
    }

    /// The place of a pair in the manifest, made if it was not there.
    pub fn pair(&mut self, pair: &Pair) -> usize {
        self.txn.manifest.pair_mut(pair, self.schema);
        self.txn.manifest.pairs.iter().position(|row| row.pair == *pair).unwrap_or_default()
    }

    fn runs(&mut self, pair: usize, staged: bool) -> &mut Vec<RunRef> {
        let row = &mut self.txn.manifest.pairs[pair];
        if staged { &mut row.staged } else { &mut row.live }
    }
    pub fn sum(&mut self, pair: usize, staged: bool) -> &mut RecordSum {
        let row = &mut self.txn.manifest.pairs[pair];
        if staged { &mut row.staged_sum } else { &mut row.sum }
    }

    /// A run as it is after the edits so far.
    fn edit(&mut self, reference: &RunRef) -> Result<&mut Run, Missing> {
        if !self.edited.contains_key(&reference.id) {
            let run = self.records.run(reference)?;
            self.edited.insert(reference.id, Run::clone(&run));
        }
        self.edited.get_mut(&reference.id).ok_or(Missing)
    }

    /// Makes a slot dead. A segment without a live slot goes, and a run without a segment.
    pub fn kill(&mut self, pair: usize, staged: bool, at: Location) -> Result<(), Missing> {
        let Some(index) = self.runs(pair, staged).iter().position(|run| run.id == at.run) else { return Ok(()) };
        if !self.edited.contains_key(&at.run) {
            let reference = self.runs(pair, staged)[index].clone();
            self.edit(&reference)?;
        }
        let Some(run) = self.edited.get_mut(&at.run) else { return Err(Missing) };
        let Some(place) = run.fence_of(at.segment) else { return Ok(()) };
        let fence = &mut run.fences[place];
        if !fence.dead.add(at.slot as usize) {
            return Ok(());
        }
        let is_empty = fence.live() == 0;
        let count = u64::from(fence.count);
        let bytes = u64::from(fence.bytes);
        if is_empty {
            run.fences.remove(place);
        }
        let is_over = run.fences.is_empty();
        if is_empty {
            self.txn.delete.push((StoreName::Seg, Key::Number(at.segment)));
        }
        if is_over {
            self.runs(pair, staged).remove(index);
            self.edited.remove(&at.run);
            self.txn.delete.push((StoreName::Idx, run_key(at.run)));
        } else {
            let reference = &mut self.runs(pair, staged)[index];
            reference.live -= 1;
            reference.dead += 1;
            if is_empty {
                reference.dead = reference.dead.saturating_sub(count);
                reference.rows -= 1;
                reference.bytes = reference.bytes.saturating_sub(bytes);
            }
        }
        Ok(())
    }

    /// Adds records (sorted by id, none of them there any more) as segments, and their index entries.
    pub fn append(&mut self, pair: usize, staged: bool, records: &[Held], level: u32) -> Result<(), Missing> {
        let cluster = self.schema.get(&self.txn.manifest.pairs[pair].pair.1).map(|declared| &declared.cluster);
        let sort = cluster.map_or(String::new(), |fields| fields.join(","));
        let sorted = sorted_by(records, &sort);
        self.append_to(pair, staged, &sort, &sorted, records, level, self.now, None)
    }

    /// As [`Self::append`], for records that are in the order of `sort`; into the run `into` if there is one. `by_id`: the
    /// same records where they lie in the order of their ids, else nothing.
    #[allow(clippy::too_many_arguments)] // One call each from a pull and from compaction.
    pub fn append_to(
        &mut self,
        pair: usize,
        staged: bool,
        sort: &str,
        records: &[(String, &Held)],
        by_id: &[Held],
        level: u32,
        at: UnixMillis,
        into: Option<u64>,
    ) -> Result<(), Missing> {
        let (Some((first, _)), Some((last, _))) = (records.first(), records.last()) else { return Ok(()) };
        let (first, last) = (first.clone(), last.clone());
        let of = self.txn.manifest.pairs[pair].pair.clone();
        let live = records.len() as u64;
        // Cut into segments.
        let mut fences: Vec<Fence> = Vec::new();
        let mut places: Vec<(u64, u32)> = Vec::with_capacity(records.len());
        let mut rest = records;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |(_, record): &&(String, &Held)| {
                bytes += record.bytes();
                bytes <= SEGMENT_BYTES_MAX
            };
            let count = rest.iter().take(SEGMENT_COUNT_MAX).take_while(fits).count().max(1);
            let (chunk, behind) = rest.split_at(count);
            let fence = self.segment(&of, at, chunk);
            places.add_all((0..count as u32).map(|slot| (fence.row, slot)));
            fences.push(fence);
            rest = behind;
        }

        let run = self.place_run(pair, staged, sort, &first, fences.len(), into)?;
        let total: u64 = fences.iter().map(|fence| u64::from(fence.bytes)).sum();
        let rows = fences.len() as u32;
        match run {
            Some(reference) => {
                self.edit(&reference)?.fences.add_all(fences);
                if let Some(known) = self.runs(pair, staged).iter_mut().find(|run| run.id == reference.id) {
                    known.live += live;
                    known.rows += rows;
                    known.bytes += total;
                    known.last = last;
                }
                self.index(pair, staged, reference.id, &places, records, by_id);
            }
            None => {
                let id = into.unwrap_or_else(|| self.txn.manifest.next_row());
                self.edited.insert(id, Run { rev: 0, fences });
                let sort = sort.to_owned();
                let reference = RunRef { id, rev: 0, level, rows, live, dead: 0, bytes: total, first, last, sort };
                self.runs(pair, staged).push(reference);
                self.index(pair, staged, id, &places, records, by_id);
            }
        }
        Ok(())
    }

    fn segment(&mut self, pair: &Pair, at: UnixMillis, records: &[(String, &Held)]) -> Fence {
        let row = self.txn.manifest.next_row();
        let text = encode_segment(pair, at, records);
        let first = records.first().map_or(String::new(), |(key, _)| key.clone());
        let fence = Fence { row, count: records.len() as u32, bytes: text.len() as u32, first, dead: Dead::default() };
        self.txn.put.push((StoreName::Seg, Key::Number(row), text));
        fence
    }

    /// The run that takes more rows: the one asked for, or the last one if all of its keys are smaller.
    fn place_run(
        &mut self,
        pair: usize,
        staged: bool,
        sort: &str,
        first: &str,
        rows: usize,
        into: Option<u64>,
    ) -> Result<Option<RunRef>, Missing> {
        let moving = self.txn.manifest.pairs[pair].moving.clone();
        let runs = self.runs(pair, staged);
        let found = match into {
            Some(id) => runs.iter().find(|run| run.id == id).cloned(),
            None => runs
                .iter()
                .rev()
                .find(|run| run.sort == sort && sort.is_empty() && run.last.as_str() < first)
                .filter(|run| run.rows as usize + rows <= RUN_ROWS_MAX && !moving.contains(&run.id))
                .cloned(),
        };
        // One that can't be read must not be written over.
        match found {
            Some(run) => Ok(self.records.sound(&run)?.map(|_| run)),
            None => Ok(None),
        }
    }

    /// Adds the entries of new records to every index of the pair. A tombstone has none but the primary one.
    fn index(
        &mut self,
        pair: usize,
        staged: bool,
        run: u64,
        places: &[(u64, u32)],
        records: &[(String, &Held)],
        by_id: &[Held],
    ) {
        let own = self.runs(pair, staged).iter().find(|known| known.id == run);
        let sort = own.map_or(String::new(), |known| known.sort.clone());
        for at in 0..self.txn.manifest.pairs[pair].indexes.len() {
            let name = self.txn.manifest.pairs[pair].indexes[at].name.clone();
            if name == PRIMARY && sort.is_empty() {
                continue;
            }
            // Records that lie along the index have its keys already.
            let keys = if name == sort || name == PRIMARY { Vec::new() } else { keys_of(&name, records) };
            let mut lines = Vec::with_capacity(records.len());
            for (number, ((segment, slot), (place, record))) in places.iter().zip(records).enumerate() {
                let at = Location { run, segment: *segment, slot: *slot };
                let id = record.id.as_str();
                match (name == PRIMARY, &record.fields) {
                    // Each to its place: sorting them anew is a tenth of a first download.
                    (true, _) if !by_id.is_empty() => {
                        while lines.len() < by_id.len() {
                            lines.push(Line { key: "", id: "", at });
                        }
                        let from = std::ptr::from_ref(*record).addr() - by_id.as_ptr().addr();
                        if let Some(line) = lines.get_mut(from / size_of::<Held>()) {
                            line.key = id;
                            line.at = at;
                        }
                    }
                    (true, _) => lines.push(Line { key: id, id: "", at }),
                    (false, Some(_)) => lines.push(Line { key: keys.get(number).unwrap_or(place), id, at }),
                    (false, None) => {}
                }
            }
            self.add_entries(pair, staged, at, lines);
        }
    }

    /// Adds entries to an index as a new run.
    pub fn add_entries(&mut self, pair: usize, staged: bool, index: usize, mut entries: Vec<Line<'_>>) {
        let order = |a: &Line<'_>, b: &Line<'_>| compare_text(a.key, b.key).then_with(|| compare_text(a.id, b.id));
        if !entries.is_sorted_by(|a, b| order(a, b).is_le()) {
            map::sort(&mut entries, &order);
        }
        let Some(first) = entries.first() else { return };
        let name = self.txn.manifest.pairs[pair].indexes[index].name.clone();
        let id = self.txn.manifest.next_row();
        let mut reference = RunRef {
            id,
            rev: 0,
            level: 0,
            rows: 0,
            live: 0,
            dead: 0,
            bytes: 0,
            first: first.key.to_owned(),
            last: String::new(),
            sort: String::new(),
        };
        let fences = self.pages(&name, &entries, &mut reference);
        self.edited.insert(id, Run { rev: 0, fences });
        let row = &mut self.txn.manifest.pairs[pair].indexes[index];
        if staged { &mut row.staged } else { &mut row.live }.push(reference);
    }

    /// Writes sorted entries as pages and counts them in `run`.
    pub fn pages(&mut self, name: &str, entries: &[Line<'_>], run: &mut RunRef) -> Vec<Fence> {
        let mut fences = Vec::new();
        let mut rest = entries;
        while let Some(first) = rest.first() {
            let mut bytes = 0;
            let fits = |entry: &&Line<'_>| {
                bytes += entry_bytes(entry);
                bytes <= PAGE_BYTES_MAX
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (page, behind) = rest.split_at(count);
            let text = encode_page(name, page);
            let row = self.txn.manifest.next_row();
            let first = first.key.to_owned();
            fences.push(Fence { row, count: count as u32, bytes: text.len() as u32, first, dead: Dead::default() });
            run.rows += 1;
            run.live += count as u64;
            run.bytes += text.len() as u64;
            self.txn.put.push((StoreName::Idx, page_key(row), text));
            rest = behind;
        }
        if let Some(last) = entries.last() {
            run.last = last.key.to_owned();
        }
        fences
    }

    /// Changes a run whose reference is kept elsewhere than among the visible ones.
    pub fn edit_run(&mut self, id: u64, run: Run) {
        self.edited.insert(id, run);
    }

    /// All runs of a pair, visible or staged, are to be deleted.
    pub fn discard(&mut self, pair: usize, staged: bool) {
        let row = &mut self.txn.manifest.pairs[pair];
        let data = std::mem::take(if staged { &mut row.staged } else { &mut row.live });
        let mut pages = Vec::new();
        for index in &mut row.indexes {
            pages.append(if staged { &mut index.staged } else { &mut index.live });
            if !staged && let Some(merging) = index.merging.take() {
                pages.push(merging.output);
            }
            index.is_late &= !staged;
        }
        if staged {
            row.staged_sum = RecordSum::default();
        } else {
            row.sum = RecordSum::default();
            row.moving.clear();
        }
        self.txn.manifest.old_data.add_all(data.iter().map(|run| (run.id, run.rev)));
        self.txn.manifest.old_pages.add_all(pages.iter().filter(|run| run.rows > 0).map(|run| (run.id, run.rev)));
    }

    /// The finished transaction: changed runs get this revision.
    pub fn finish(mut self) -> BaseTxn {
        let rev = self.txn.manifest.rev;
        for (id, mut run) in std::mem::take(&mut self.edited) {
            run.rev = rev;
            for row in &mut self.txn.manifest.pairs {
                let lists = row.indexes.iter_mut().flat_map(|index| [&mut index.live, &mut index.staged]);
                for reference in lists.chain([&mut row.live, &mut row.staged]).flatten() {
                    if reference.id == id {
                        reference.rev = rev;
                    }
                }
                let outputs = row.indexes.iter_mut().filter_map(|index| index.merging.as_mut());
                for merging in outputs.filter(|merging| merging.output.id == id) {
                    merging.output.rev = rev;
                }
            }
            let old = self.txn.manifest.old_data.iter_mut().chain(&mut self.txn.manifest.old_pages);
            old.filter(|(old, _)| *old == id).for_each(|(_, old)| *old = rev);
            self.txn.put.push((StoreName::Idx, run_key(id), encode(RowKind::Run, &run)));
            self.txn.runs.push((id, run));
        }
        self.txn
    }
}

/// Records with their key in the order of `sort`, in that order.
pub(crate) fn sorted_by<'a>(records: &'a [Held], sort: &str) -> Vec<(String, &'a Held)> {
    let fields = names(sort);
    let mut keyed = Vec::with_capacity(records.len());
    for record in records {
        let mut key = String::new();
        if sort.is_empty() {
            key.push_str(record.id.as_str());
        } else {
            key_of(record.id.as_str(), record.fields.as_deref().unwrap_or("{}"), &fields, &mut key);
        }
        keyed.push((key, record));
    }
    in_order(keyed)
}

/// Records in the order of their keys, those with equal ones in the order of their ids.
pub(crate) fn in_order(mut keyed: Vec<(String, &Held)>) -> Vec<(String, &Held)> {
    map::sort(&mut keyed, &|a, b| compare_text(&a.0, &b.0).then_with(|| compare_text(&a.1.id.0, &b.1.id.0)));
    keyed
}

/// The keys of records in an index that they don't lie along; nothing of a tombstone, whose key nobody asks for.
fn keys_of(name: &str, records: &[(String, &Held)]) -> Vec<String> {
    let fields = names(name);
    let mut keys = Vec::with_capacity(records.len());
    for (_, record) in records {
        let mut key = String::new();
        if let Some(text) = &record.fields {
            key_of(record.id.as_str(), text, &fields, &mut key);
        }
        keys.push(key);
    }
    keys
}

/// What an index says of the records of a segment, dead ones too; nothing of a tombstone, unless it finds records by id.
pub(crate) fn entries_of(index: &str, block: &Block, run: u64, segment: u64) -> Vec<Entry> {
    let fields = names(index);
    let mut entries = Vec::with_capacity(block.len());
    for slot in 0..block.len() {
        let at = Location { run, segment, slot: slot as u32 };
        let (id, mut key) = (block.id(slot).into_owned(), String::new());
        if index == PRIMARY {
            entries.push(Entry { key: id, id: key, at });
        } else if let Some(text) = block.fields(slot) {
            key_of(&id, text, &fields, &mut key);
            entries.push(Entry { key, id, at });
        }
    }
    entries
}

/// The fields of an index.
pub(crate) fn names(joined: &str) -> Vec<String> {
    split(joined, b',').map(str::to_owned).listed()
}

/// A record by its parts.
pub(crate) fn key(pair: &Pair, id: &RecordId) -> RecordKey {
    RecordKey { scope: pair.0.clone(), collection: pair.1.clone(), id: id.clone() }
}
