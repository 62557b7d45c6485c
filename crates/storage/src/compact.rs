//! Compaction: many small runs become few, dead slots and pages go, indexes that were declared late are built.
//!
//! In steps, each one transaction of bounded size that leaves a whole state behind: whoever reads in between, or opens
//! after a crash, sees every record once. Runs are merged eight of a level, so a record is rewritten once for every
//! factor of eight that the pair grows by (docs/storage.md states the write amplification).

use crate::edit::{BaseTxn, Editor, entries_of, in_order, names};
use crate::ingest::{DAMAGE_MS, plan_resync};
use crate::manifest::{IndexRow, Merging, PRIMARY, PairRow, Schema};
use crate::page::{Entry, Line, Location};
use crate::query::key::key_of;
use crate::records::{Missing, Records, RowId, page_key, run_key};
use crate::rowstore::{Key, StoreName};
use crate::run::{RUN_PAGES_MAX, RUN_ROWS_MAX, Run, RunRef};
use crate::segment::Held;
use landfall_protocol::{AddAll, Listed, UnixMillis, limits, map};

/// Runs of one level before they become one of the next.
pub const FAN_IN: usize = 8;
/// Rows of each input that one step looks at.
const STEP_ROWS: usize = 8;
/// Segments that one step adds to an index that was declared late.
const BUILD_ROWS: usize = 64;

/// The next step, if one is due.
pub fn plan_step(records: &Records, schema: &Schema, now: UnixMillis) -> Result<Option<BaseTxn>, Missing> {
    if let Some(txn) = delete_old(records, schema, now)? {
        return Ok(Some(txn));
    }
    for at in 0..records.manifest.pairs.len() {
        let row = &records.manifest.pairs[at];
        if let Some((inputs, level)) = movable(row) {
            return move_slice(records, schema, now, at, inputs, level);
        }
        for index in 0..row.indexes.len() {
            let found = &row.indexes[index];
            if !found.is_ready() {
                return build_slice(records, schema, now, at, index).map(Some);
            }
            if found.merging.is_some() || mergeable(found).is_some() {
                return merge_slice(records, schema, now, at, index).map(Some);
            }
        }
    }
    Ok(None)
}

/// Steps that are due, about: what `inspect()` shows as debt.
pub fn debt(records: &Records) -> usize {
    let manifest = &records.manifest;
    let mut steps = manifest.old_data.len() + manifest.old_pages.len();
    for row in &manifest.pairs {
        if let Some((inputs, _)) = movable(row) {
            let rows: usize = row.live.iter().filter(|run| inputs.contains(&run.id)).map(|run| run.rows as usize).sum();
            steps += rows.div_ceil(STEP_ROWS);
        }
        for index in &row.indexes {
            let inputs = match &index.merging {
                Some(merging) => merging.inputs.clone(),
                None => mergeable(index).map(|(inputs, _)| inputs).unwrap_or_default(),
            };
            let rows: usize =
                index.live.iter().filter(|run| inputs.contains(&run.id)).map(|run| run.rows as usize).sum();
            steps += rows.div_ceil(STEP_ROWS) + usize::from(!index.is_ready());
        }
    }
    steps
}

/// Deletes the rows of one run that is not used any more.
fn delete_old(records: &Records, schema: &Schema, now: UnixMillis) -> Result<Option<BaseTxn>, Missing> {
    let manifest = &records.manifest;
    let is_data = !manifest.old_data.is_empty();
    let Some((id, rev)) = manifest.old_data.last().or(manifest.old_pages.last()).copied() else { return Ok(None) };
    let reference = RunRef { id, rev, ..blank_run(0) };
    let run = records.run(&reference)?;
    let mut editor = Editor::new("sweep", records, schema, now);
    for fence in &run.fences {
        let place =
            if is_data { (StoreName::Seg, Key::Number(fence.row)) } else { (StoreName::Idx, page_key(fence.row)) };
        editor.txn.delete.push(place);
    }
    editor.txn.delete.push((StoreName::Idx, run_key(id)));
    if is_data {
        editor.txn.manifest.old_data.pop()
    } else {
        editor.txn.manifest.old_pages.pop()
    };
    Ok(Some(editor.finish()))
}

fn blank_run(level: u32) -> RunRef {
    let (first, last, sort) = (String::new(), String::new(), String::new());
    RunRef { id: 0, rev: 0, level, rows: 0, live: 0, dead: 0, bytes: 0, first, last, sort }
}

/// Runs of one level and order that should become one; the level of the result.
fn group<'a>(runs: impl Iterator<Item = &'a RunRef>) -> Option<(Vec<u64>, u32)> {
    let mut levels: Vec<(u32, &str, Vec<u64>)> = Vec::new();
    for run in runs {
        match levels.iter_mut().find(|(level, sort, _)| *level == run.level && *sort == run.sort) {
            Some((_, _, ids)) => ids.push(run.id),
            None => levels.push((run.level, &run.sort, vec![run.id])),
        }
    }
    let (level, _, mut ids) = levels.into_iter().filter(|(_, _, ids)| ids.len() >= FAN_IN).min()?;
    ids.truncate(FAN_IN);
    Some((ids, level + 1))
}

/// Data runs whose records move, and the level of the run that they move into.
fn movable(row: &PairRow) -> Option<(Vec<u64>, u32)> {
    if let Some((_, inputs)) = row.moving.split_last() {
        let level = row.live.iter().filter(|run| inputs.contains(&run.id)).map(|run| run.level + 1).max();
        return Some((inputs.to_vec(), level.unwrap_or(1)));
    }
    // A run that no other one overlaps gains nothing by a merge.
    let overlaps = |run: &&RunRef| {
        let with = |other: &RunRef| {
            other.id != run.id
                && other.level == run.level
                && other.sort == run.sort
                && other.first <= run.last
                && run.first <= other.last
        };
        row.live.iter().any(with)
    };
    if let Some(found) = group(row.live.iter().filter(overlaps)) {
        return Some(found);
    }
    // More dead than live, and more than a segment's worth.
    let wasteful = |run: &&RunRef| run.rows > 1 && run.dead > run.live;
    row.live.iter().find(wasteful).map(|run| (vec![run.id], run.level))
}

/// Index runs to be merged.
fn mergeable(index: &IndexRow) -> Option<(Vec<u64>, u32)> {
    let (inputs, level) = group(index.live.iter())?;
    let rows: usize = index.live.iter().filter(|run| inputs.contains(&run.id)).map(|run| run.rows as usize).sum();
    (rows <= RUN_PAGES_MAX).then_some((inputs, level))
}

/// Moves the smallest records of some runs into one.
fn move_slice(
    records: &Records,
    schema: &Schema,
    now: UnixMillis,
    pair: usize,
    inputs: Vec<u64>,
    level: u32,
) -> Result<Option<BaseTxn>, Missing> {
    let row = &records.manifest.pairs[pair];
    let mut editor = Editor::new("compaction", records, schema, now);
    let sort = row.live.iter().find(|run| inputs.contains(&run.id)).map_or(String::new(), |run| run.sort.clone());
    let fields = names(&sort);
    let mut found: Vec<(String, Held, Location, UnixMillis)> = Vec::new();
    let mut bound: Option<(String, String)> = None;
    let mut missing = false;
    let output = row.moving.last();
    for reference in row.live.iter().filter(|run| inputs.contains(&run.id) || Some(&run.id) == output) {
        let Ok(run) = records.sound(reference) else {
            missing = true;
            continue;
        };
        // What can't be read is never folded away: its pair is pulled anew, and goes as a whole then.
        let Some(run) = run else { return Ok(None) };
        if Some(&reference.id) == output {
            continue;
        }
        let mut last = None;
        for fence in run.fences.iter().take(STEP_ROWS) {
            let Ok(block) = records.block(fence.row) else {
                missing = true;
                continue;
            };
            let Some(block) = block else { return Ok(None) };
            for slot in (0..block.len()).filter(|slot| !fence.dead.has(*slot)) {
                let at = Location { run: reference.id, segment: fence.row, slot: slot as u32 };
                let record = block.held(slot);
                let mut key = String::new();
                match sort.is_empty() {
                    true => key.push_str(record.id.as_str()),
                    false => key_of(record.id.as_str(), record.fields.as_deref().unwrap_or("{}"), &fields, &mut key),
                }
                last = Some((key.clone(), record.id.0.clone()));
                found.push((key, record, at, block.at));
            }
        }
        if run.fences.len() > STEP_ROWS
            && let Some(last) = last
            && bound.as_ref().is_none_or(|bound| last < *bound)
        {
            bound = Some(last);
        }
    }
    if missing {
        return Err(Missing);
    }
    let is_in = |(key, record, ..): &(String, Held, Location, UnixMillis)| {
        bound.as_ref().is_none_or(|(last, id)| (key.as_str(), record.id.as_str()) <= (last.as_str(), id.as_str()))
    };
    let mut moved: Vec<(String, &Held)> = Vec::new();
    // Records that are merged are as young as the youngest of them: a tombstone is never dropped too early.
    let mut youngest = UnixMillis(0);
    for (key, record, at, since) in found.iter().filter(|found| is_in(found)) {
        editor.kill(pair, false, *at)?;
        youngest = youngest.max(*since);
        let is_over = record.fields.is_none() && since.get() + limits::CHANGE_LOG_MS < now.get();
        if !is_over {
            moved.push((key.clone(), record));
        }
    }
    let moved = in_order(moved);
    let output = output_of(&mut editor, pair);
    editor.append_to(pair, false, &sort, &moved, &[], level, youngest, Some(output))?;
    let row = &mut editor.txn.manifest.pairs[pair];
    let mut left: Vec<u64> = row.live.iter().map(|run| run.id).filter(|id| inputs.contains(id)).listed();
    if !left.is_empty() {
        left.push(output);
    }
    row.moving = left;
    Ok(Some(editor.finish()))
}

/// The run that records move into: the one begun before, unless it is full.
fn output_of(editor: &mut Editor<'_>, pair: usize) -> u64 {
    let row = &editor.txn.manifest.pairs[pair];
    let begun = row.moving.last().copied();
    let is_full =
        |id: u64| row.live.iter().any(|run| run.id == id && run.rows as usize + FAN_IN * STEP_ROWS > RUN_ROWS_MAX);
    match begun {
        Some(id) if !is_full(id) => id,
        _ => editor.txn.manifest.next_row(),
    }
}

/// Puts the smallest entries of some index runs behind the others of their new run; swaps the runs when that is whole.
fn merge_slice(
    records: &Records,
    schema: &Schema,
    now: UnixMillis,
    pair: usize,
    index: usize,
) -> Result<BaseTxn, Missing> {
    let row = &records.manifest.pairs[pair];
    let mut editor = Editor::new("index", records, schema, now);
    let mut merging = match row.indexes[index].merging.clone() {
        Some(merging) => merging,
        None => {
            let (inputs, level) = mergeable(&row.indexes[index]).unwrap_or_default();
            let output = RunRef { id: editor.txn.manifest.next_row(), ..blank_run(level) };
            Merging { inputs, output, key: String::new(), id: String::new() }
        }
    };
    let mut found: Vec<Entry> = Vec::new();
    let mut bound: Option<(String, String)> = None;
    let mut missing = false;
    let is_begun = row.indexes[index].merging.is_some();
    for reference in row.indexes[index].live.iter().filter(|run| merging.inputs.contains(&run.id)) {
        let Ok(run) = records.sound(reference) else {
            missing = true;
            continue;
        };
        let Some(run) = run else { return Ok(rebuild(editor, pair, index)) };
        let from = if is_begun { run.row_from(&merging.key) } else { 0 };
        let mut last = None;
        let mut taken = 0;
        let mut rest = run.fences.iter().skip(from);
        for fence in &mut rest {
            let Ok(page) = records.page(fence.row) else {
                missing = true;
                break;
            };
            // Entries of a page that can't be read are lost: the index is made anew.
            let Some(page) = page else { return Ok(rebuild(editor, pair, index)) };
            let before = found.len();
            for at in 0..page.len() {
                if is_begun
                    && (page.key(at).as_ref(), page.id(at).as_ref()) <= (merging.key.as_str(), merging.id.as_str())
                {
                    continue;
                }
                found.push(page.entry(at));
            }
            if let Some(entry) = found.get(before..).and_then(<[Entry]>::last) {
                last = Some((entry.key.clone(), entry.id.clone()));
                taken += 1;
            }
            if taken == STEP_ROWS {
                break;
            }
        }
        if rest.next().is_some()
            && let Some(last) = last
            && bound.as_ref().is_none_or(|bound| last < *bound)
        {
            bound = Some(last);
        }
    }
    if missing {
        return Err(Missing);
    }
    map::sort(&mut found, &|a, b| a.key.cmp(&b.key).then_with(|| a.id.cmp(&b.id)));
    let is_over = bound.is_none();
    if let Some((key, id)) = bound {
        found.truncate(found.partition_point(|entry| (&entry.key, &entry.id) <= (&key, &id)));
        (merging.key, merging.id) = (key, id);
    }
    let mut kept: Vec<Entry> = Vec::with_capacity(found.len());
    for entry in found {
        let again = kept.last().is_some_and(|last| (&last.key, &last.id) == (&entry.key, &entry.id));
        if !again && records.is_live(&row.live, entry.at)? {
            kept.push(entry);
        }
    }
    let mut run = match merging.output.rows {
        0 => Run::default(),
        _ => Run::clone(&*records.run(&merging.output)?),
    };
    if merging.output.rows == 0
        && let Some(first) = kept.first()
    {
        merging.output.first.clone_from(&first.key);
    }
    let name = row.indexes[index].name.clone();
    let lines: Vec<Line<'_>> = kept.iter().map(Entry::line).listed();
    let fences = editor.pages(&name, &lines, &mut merging.output);
    run.fences.add_all(fences);
    let id = merging.output.id;
    let found = &mut editor.txn.manifest.pairs[pair].indexes[index];
    if is_over {
        let old: Vec<(u64, u64)> =
            found.live.iter().filter(|run| merging.inputs.contains(&run.id)).map(|run| (run.id, run.rev)).listed();
        found.live.retain(|run| !merging.inputs.contains(&run.id));
        if merging.output.rows > 0 {
            found.live.push(merging.output);
        }
        found.merging = None;
        editor.txn.manifest.old_pages.add_all(old);
    } else {
        found.merging = Some(merging);
    }
    if !run.fences.is_empty() {
        editor.edit_run(id, run);
    }
    Ok(editor.finish())
}

/// Forgets an index that lost entries, and begins to build it again.
fn rebuild(mut editor: Editor<'_>, pair: usize, index: usize) -> BaseTxn {
    let next_row = editor.txn.manifest.next_row;
    let found = &mut editor.txn.manifest.pairs[pair].indexes[index];
    let mut old = std::mem::take(&mut found.live);
    old.add_all(found.merging.take().map(|merging| merging.output));
    (found.since, found.built) = (next_row, 0);
    editor.txn.manifest.old_pages.add_all(old.iter().filter(|run| run.rows > 0).map(|run| (run.id, run.rev)));
    editor.finish()
}

/// Plans that what a damaged row of the base lost comes back: an index is built again from the records, records are
/// pulled again. `None`: nothing can be done, or now is too soon.
pub fn plan_repair(records: &Records, schema: &Schema, damaged: RowId, now: UnixMillis) -> Option<BaseTxn> {
    let (row, index) = records.owner(damaged)?;
    let pair = row.pair.clone();
    let at = records.manifest.pairs.iter().position(|row| row.pair == pair)?;
    match index {
        // The primary index is the only way to its records.
        Some(name) if name != PRIMARY => {
            let index = row.indexes.iter().position(|index| index.name == name)?;
            Some(rebuild(Editor::new("repair", records, schema, now), at, index))
        }
        _ => plan_resync(records, schema, &pair, DAMAGE_MS, now),
    }
}

/// Adds the records of some segments to an index that was declared when they were there already.
fn build_slice(
    records: &Records,
    schema: &Schema,
    now: UnixMillis,
    pair: usize,
    index: usize,
) -> Result<BaseTxn, Missing> {
    let row = &records.manifest.pairs[pair];
    let found = &row.indexes[index];
    let mut missing = false;
    let mut waiting: Vec<(u64, u64, usize)> = Vec::new();
    let mut runs = Vec::new();
    for reference in &row.live {
        let Ok(run) = records.run(reference) else {
            missing = true;
            continue;
        };
        for (at, fence) in run.fences.iter().enumerate() {
            if fence.row >= found.built && fence.row < found.since {
                waiting.push((fence.row, reference.id, at));
            }
        }
        runs.push((reference.id, run));
    }
    if missing {
        return Err(Missing);
    }
    map::sort(&mut waiting, &Ord::cmp);
    let is_last = waiting.len() <= BUILD_ROWS;
    waiting.truncate(BUILD_ROWS);
    let mut entries = Vec::new();
    for (segment, run_id, at) in &waiting {
        let Some((_, run)) = runs.iter().find(|(id, _)| id == run_id) else { continue };
        let Ok(block) = records.block(*segment) else {
            missing = true;
            continue;
        };
        let Some(block) = block else { continue };
        let dead = &run.fences[*at].dead;
        let found = entries_of(&found.name, &block, *run_id, *segment);
        entries.add_all(found.into_iter().filter(|entry| !dead.has(entry.at.slot as usize)));
    }
    if missing {
        return Err(Missing);
    }
    let mut editor = Editor::new("index", records, schema, now);
    editor.add_entries(pair, false, index, entries.iter().map(Entry::line).listed());
    let since = found.since;
    let built = match waiting.last() {
        Some((segment, ..)) if !is_last => segment + 1,
        _ => since,
    };
    editor.txn.manifest.pairs[pair].indexes[index].built = built;
    Ok(editor.finish())
}
