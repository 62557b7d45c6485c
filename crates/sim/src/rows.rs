//! A disk at rest: every row that the manifest names is there once, can be read and holds what it should, and no other
//! row of the base is left.

use crate::world::World;
use landfall_core::lane_index::{LaneIndex, LanePage, hash_of, page_of, pages, rows_of};
use landfall_core::rows::{ClientRow, ConflictRow, Descriptor, Entry, LogRow, ParkedRow, SettledRow};
use landfall_protocol::EntryId;
use landfall_storage::memory::Disk;
use landfall_storage::page::Page;
use landfall_storage::run::{Fence, Run, RunRef};
use landfall_storage::segment::Block;
use landfall_storage::{Key, Manifest, RowId, RowKind, StoreName, decode};
use std::collections::BTreeSet;

/// Looks at all rows of a profile's disk. Where a byte was flipped nothing can be said.
pub fn check(world: &World, profile: usize) {
    let mut model = world.model.borrow_mut();
    if model.profiles[profile].is_torn {
        return;
    }
    let disk = world.profile(profile).disk.snapshot();
    let undecided: Vec<(u64, Entry)> =
        model.profiles[profile].undecided().map(|(id, entry)| (*id, entry.clone())).collect();
    let wrong = outbox(&disk).or_else(|| lanes(&disk, &undecided)).or_else(|| base(&disk));
    if let Some(text) = wrong {
        model.violate("I3", || format!("the disk of profile {profile}: {text}"));
    }
}

/// The first row of log and outbox that can't be read.
fn outbox(disk: &Disk) -> Option<String> {
    for (key, row) in disk.rows(StoreName::Log) {
        if decode::<LogRow>(RowKind::Log, row).is_err() {
            return Some(format!("log row {key} can't be read"));
        }
    }
    for (key, row) in disk.rows(StoreName::Meta) {
        let key = key.to_string();
        let is_fine = match key.split('/').next().unwrap_or_default() {
            "client" => decode::<ClientRow>(RowKind::Client, row).is_ok(),
            "manifest" => decode::<Manifest>(RowKind::Manifest, row).is_ok(),
            "desc" => decode::<Descriptor>(RowKind::Descriptor, row).is_ok(),
            "acked" => decode::<SettledRow>(RowKind::Acked, row).is_ok(),
            "parked" => decode::<ParkedRow>(RowKind::Parked, row).is_ok(),
            "conflict" => decode::<ConflictRow>(RowKind::Conflict, row).is_ok(),
            _ => true,
        };
        if !is_fine {
            return Some(format!("row {key} can't be read"));
        }
    }
    None
}

fn lane_index(disk: &Disk) -> Option<LaneIndex> {
    decode(RowKind::Lanes, disk.row(StoreName::Meta, &Key::text("lanes"))?).ok()
}

/// What is wrong with the lane index, if something is: each page is there, and every undecided entry that it is of is found.
fn lanes(disk: &Disk, undecided: &[(u64, Entry)]) -> Option<String> {
    let index = lane_index(disk)?;
    let page = |key: &str| {
        let row = disk.row(StoreName::Idx, &Key::text(key))?;
        decode::<LanePage>(RowKind::LanePage, row).ok()
    };
    if let Some(key) = index.runs.iter().copied().flat_map(pages).find(|key| page(key).is_none()) {
        return Some(format!("page {key} is not there or can't be read"));
    }
    for (id, entry) in undecided {
        let row = EntryId(*id).log_key();
        let hash = hash_of(&entry.collection, &entry.id);
        let mut found = index.runs.iter().filter_map(|run| page(&page_of(*run, hash)));
        if row <= index.through && !found.any(|page| rows_of(&page, hash).any(|other| other == row)) {
            return Some(format!("entry {id} of {:?} is not in the lane index", entry.key()));
        }
    }
    None
}

/// What is wrong with the rows of the base, if something is. Pages of the lane index are in the same store.
fn base(disk: &Disk) -> Option<String> {
    let row = disk.row(StoreName::Meta, &Key::text("manifest"))?;
    let manifest = decode::<Manifest>(RowKind::Manifest, row).ok()?;
    let pages = lane_index(disk).into_iter().flat_map(|index| index.runs).flat_map(pages);
    let mut named: Named = pages.map(|key| (StoreName::Idx, Key::text(key))).collect();
    let data = manifest.pairs.iter().flat_map(|pair| pair.live.iter().chain(&pair.staged));
    let data = data.map(place).chain(manifest.old_data.iter().map(|(id, rev)| (*id, *rev, true)));
    for (id, rev, has_rows) in data {
        if let Some(wrong) = run(disk, &mut named, id, rev, has_rows, &segment) {
            return Some(wrong);
        }
    }
    let indexes = manifest.pairs.iter().flat_map(|pair| &pair.indexes);
    let pages = indexes.flat_map(|index| {
        let output = index.merging.iter().map(|merging| &merging.output);
        index.live.iter().chain(&index.staged).chain(output)
    });
    let pages = pages.map(place).chain(manifest.old_pages.iter().map(|(id, rev)| (*id, *rev, true)));
    for (id, rev, has_rows) in pages {
        if let Some(wrong) = run(disk, &mut named, id, rev, has_rows, &page) {
            return Some(wrong);
        }
    }
    for store in [StoreName::Seg, StoreName::Idx] {
        for (key, _) in disk.rows(store) {
            if !named.contains(&(store, key.clone())) && *key != Key::text("filler") {
                return Some(format!("{}/{key} is named by nobody", store.as_str()));
            }
        }
    }
    None
}

/// Id, revision, and whether it has a row yet: the output of a merge that has moved nothing has none.
fn place(reference: &RunRef) -> (u64, u64, bool) {
    (reference.id, reference.rev, reference.rows > 0)
}

type Named = BTreeSet<(StoreName, Key)>;

/// What is wrong with one run, if something is. Notes the places of its rows.
fn run(
    disk: &Disk,
    named: &mut Named,
    id: u64,
    rev: u64,
    has_rows: bool,
    row_of: &dyn Fn(&Disk, &Fence) -> (RowId, bool),
) -> Option<String> {
    let (store, key) = RowId::Run(id, rev).place();
    let Some(text) = disk.row(store, &key) else {
        return has_rows.then(|| format!("run {id} is not there"));
    };
    let run = match decode::<Run>(RowKind::Run, text) {
        Ok(run) if run.rev == rev => run,
        Ok(run) => return Some(format!("run {id} is at revision {} and should be at {rev}", run.rev)),
        Err(error) => return Some(format!("run {id}: {error:?}")),
    };
    if !named.insert((store, key)) {
        return Some(format!("run {id} is named twice"));
    }
    for fence in &run.fences {
        let (row, is_fine) = row_of(disk, fence);
        if !is_fine {
            return Some(format!("{row:?} of run {id} is not there or is not what its fence says: {fence:?}"));
        }
        if !named.insert(row.place()) {
            return Some(format!("{row:?} is named twice"));
        }
    }
    None
}

fn segment(disk: &Disk, fence: &Fence) -> (RowId, bool) {
    let id = RowId::Segment(fence.row);
    let (store, key) = id.place();
    let block = disk.row(store, &key).and_then(|row| Block::decode(row.to_owned()).ok());
    (id, block.is_some_and(|block| block.len() == fence.count as usize))
}

fn page(disk: &Disk, fence: &Fence) -> (RowId, bool) {
    let id = RowId::Page(fence.row);
    let (store, key) = id.place();
    let page = disk.row(store, &key).and_then(|row| Page::decode(row.to_owned()).ok());
    (id, page.is_some_and(|page| page.len() == fence.count as usize && page.key(0) == fence.first))
}
