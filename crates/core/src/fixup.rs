//! What a person does with a parked unit: retry it, edit it, discard it. Always the whole unit. And with a value that lost.

use crate::plan::OutboxTxn;
use crate::rows::{ConflictRow, Entry, LocalEnd, ParkedRow};
use crate::state::{Base, State};
use crate::view;
use landfall_protocol::codec::from_json;
use landfall_protocol::{
    AddAll, EntryId, Listed, Map, Mutation, Object, Op, RecordKey, RejectCode, Set, Stamp, UnixMillis, Version,
};

/// Why a fix-up can't be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FixupError {
    /// No parked unit has this id.
    NotParked,
}

/// Row key of the parked unit with this id.
fn parked_row(state: &State, id: EntryId) -> Result<(&String, &ParkedRow), FixupError> {
    let holds = |row: &ParkedRow| {
        row.id == id || row.changes.iter().any(|change| change.entry.origin == Some(id) || change.entries.contains(&id))
    };
    state.parked.iter().find(|(_, row)| holds(row)).ok_or(FixupError::NotParked)
}

/// Appends the unit's changes anew, on what the server has now, with the person's corrections: `edits` are new
/// values of fields of the change that `id` names.
pub fn plan_retry(
    state: &State,
    base: &dyn Base,
    id: EntryId,
    edits: Option<&Object>,
    stamp: &mut dyn FnMut() -> Stamp,
    now: UnixMillis,
) -> Result<OutboxTxn, FixupError> {
    plan_again(state, base, id, edits, false, stamp, now)
}

/// `is_merged`: of the change that `id` names only the edits go, over what stands.
fn plan_again(
    state: &State,
    base: &dyn Base,
    id: EntryId,
    edits: Option<&Object>,
    is_merged: bool,
    stamp: &mut dyn FnMut() -> Stamp,
    now: UnixMillis,
) -> Result<OutboxTxn, FixupError> {
    let (row_key, row) = parked_row(state, id)?;
    let mut txn = OutboxTxn::new("retry", state);
    let mut entries: Vec<Entry> = row.changes.iter().map(|change| again(state, base, change, row, stamp)).listed();
    if let Some(edits) = edits {
        let at = entries.iter().position(|entry| entry.origin == Some(id)).unwrap_or(0);
        if let Some(entry) = entries.get_mut(at) {
            if is_merged && view::server_view(state, base, &entry.key()).is_some_and(|seen| !seen.deleted) {
                (entry.op, entry.set, entry.unset) = (Op::Update, Object::new(), Vec::new());
            }
            entry.set = entry.set.patched(edits, &[]);
            if entry.op == Op::Delete {
                entry.op = Op::Update;
            }
            entry.unset.retain(|name| edits.get(name).is_none());
        }
    }
    txn.parked.insert(row_key.clone(), None);
    // Followers that were blocked by it go again behind it, in order, in the same row.
    let keys: Set<RecordKey> = entries.iter().map(Entry::key).collect();
    let was_create = row.changes.iter().any(|change| change.entry.op == Op::Create);
    if was_create || row.changes.len() > 1 {
        for (other_key, other) in &state.parked {
            let blocked = other.reason.code == RejectCode::BLOCKED;
            if other_key != row_key && blocked && other.changes.iter().any(|change| keys.contains(&change.entry.key()))
            {
                entries.add_all(other.changes.iter().map(|change| again(state, base, change, other, stamp)));
                txn.parked.insert(other_key.clone(), None);
            }
        }
    }
    txn.append.push(entries);
    Ok(txn.finish(state, base, now))
}

/// The entry that goes again. What own entries have written since stays: an update leaves their fields out, what makes the record
/// makes it with them, or changes nothing where one of them has made it.
fn again(
    state: &State,
    base: &dyn Base,
    change: &crate::rows::ParkedChange,
    row: &ParkedRow,
    stamp: &mut dyn FnMut() -> Stamp,
) -> Entry {
    let key = change.entry.key();
    let mut entry = change.entry.clone();
    let seen = view::server_view(state, base, &key);
    entry.on = seen.as_ref().map_or(Version::ZERO, |seen| seen.version);
    entry.stamp = stamp();
    entry.place = None;
    entry.origin = entry.origin.or(change.entries.first().copied()).or(Some(row.id));
    // Who was told that the record is gone and wants his change all the same makes it anew.
    if entry.op == Op::Update && asks(row) && seen.is_some_and(|seen| seen.deleted) {
        let fields = change.base.clone().unwrap_or_default();
        entry.op = Op::Create;
        entry.set = fields.patched(&entry.set, &entry.unset);
        entry.unset.clear();
    }
    let last = change.entries.last().copied().unwrap_or_default();
    let mut written_since = |op: Op, set: &Object, unset: &[String]| match (entry.op, op) {
        // What they have deleted it makes as it was.
        (_, Op::Delete) if change.entry.op == Op::Create => {
            (entry.op, entry.set) = (Op::Create, change.entry.set.clone());
        }
        (Op::Update, _) => {
            let mut names = unset.to_vec();
            set.each(&mut |name, _| names.push(name.into_owned()));
            entry.unset.retain(|name| !names.contains(name));
            entry.set = entry.set.patched(&Object::new(), &names);
        }
        (Op::Create, Op::Update) => entry.set = entry.set.patched(set, unset),
        // It was written as a whole: of this one nothing is left but what a person corrects now.
        (Op::Create, Op::Create) => (entry.op, entry.set) = (Op::Update, Object::new()),
        (Op::Create | Op::Delete, _) => {}
    };
    let applied = state.settled_of(&key).filter(|settled| {
        settled.mutation.entries.iter().any(|id| *id > last)
            && settled.mutation.outcome.as_ref().is_some_and(landfall_protocol::Outcome::took_effect)
    });
    for settled in applied {
        let text = settled.mutation.text.as_ref();
        if let Some(mutation) = text.and_then(|text| from_json::<Mutation<Object>>(text.text())) {
            written_since(mutation.op, &mutation.set, &mutation.unset);
        }
    }
    let later = state.lanes.get(&key).into_iter().flatten().filter(|id| **id > last);
    for later in later.filter_map(|id| state.entries.get(id)) {
        written_since(later.op, &later.set, &later.unset);
    }
    entry
}

/// Gives a parked unit up, and with a create what stands on it. Returns the plan and how many entries end.
pub fn plan_discard(
    state: &State,
    base: &dyn Base,
    id: EntryId,
    now: UnixMillis,
) -> Result<(OutboxTxn, u64), FixupError> {
    let (row_key, row) = parked_row(state, id)?;
    let mut txn = OutboxTxn::new("discard", state);
    txn.parked.insert(row_key.clone(), None);
    let mut count = row.changes.len() as u64;
    // What stands on a record that now will never be, with its whole groups, and what stands on those.
    let is_there = |key: &RecordKey| view::server_view(state, base, key).is_some_and(|seen| !seen.deleted);
    let creates = |changes: &[crate::rows::ParkedChange]| -> Vec<RecordKey> {
        let created = changes.iter().filter(|change| change.entry.op == Op::Create);
        created.map(|change| change.entry.key()).filter(|key| !is_there(key)).listed()
    };
    let mut queue: Vec<RecordKey> = creates(&row.changes);
    let mut seen: Set<RecordKey> = Set::new();
    let mut ends: Map<EntryId, RecordKey> = Map::new();
    while let Some(key) = queue.pop() {
        if !seen.insert(key.clone()) {
            continue;
        }
        for (other_key, other) in &state.parked {
            let follows = other.reason.code == RejectCode::BLOCKED
                && other.changes.iter().any(|change| change.entry.key() == key);
            if other_key != row_key && follows && txn.parked.insert(other_key.clone(), None) {
                count += other.changes.len() as u64;
                queue.add_all(creates(&other.changes));
            }
        }
        for id in state.lanes.get(&key).into_iter().flatten() {
            let Some(entry) = state.entries.get(id).filter(|_| !state.sent.contains_key(id)) else { continue };
            for (member, entry) in members(state, *id, entry) {
                if ends.insert(member, entry.key()) {
                    count += 1;
                    queue.add_all((entry.op == Op::Create && !is_there(&entry.key())).then(|| entry.key()));
                }
            }
        }
    }
    for (entry_id, key) in &ends {
        txn.end_locally(base, now, key, vec![*entry_id], LocalEnd::Discarded);
    }
    Ok((txn.finish(state, base, now), count))
}

/// An entry, or all of its group.
fn members<'a>(state: &'a State, id: EntryId, entry: &'a Entry) -> Vec<(EntryId, &'a Entry)> {
    match &entry.group {
        None => vec![(id, entry)],
        Some(group) => {
            let same = state.entries.iter().filter(|(_, other)| other.group.as_ref() == Some(group));
            same.map(|(id, entry)| (*id, entry)).listed()
        }
    }
}

/// A unit whose author decides between two values, rather than one that was wrong in itself.
pub fn asks(row: &ParkedRow) -> bool {
    row.reason.code == "conflict" || row.reason.code == RejectCode::STALE
}

/// What a person says of a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice<'a> {
    /// What this device wanted.
    Local,
    /// What stands.
    Server,
    /// These fields.
    Merged(&'a Object),
}

/// Ends a conflict: one that waits for its author, or values that lost and are kept.
pub fn plan_resolve(
    state: &State,
    base: &dyn Base,
    kept: &Map<String, ConflictRow>,
    id: EntryId,
    choice: Choice<'_>,
    stamp: &mut dyn FnMut() -> Stamp,
    now: UnixMillis,
) -> Result<OutboxTxn, FixupError> {
    if parked_row(state, id).is_ok_and(|(_, row)| asks(row)) {
        return match choice {
            Choice::Local => plan_retry(state, base, id, None, stamp, now),
            Choice::Server => plan_discard(state, base, id, now).map(|(txn, _)| txn),
            Choice::Merged(fields) => plan_again(state, base, id, Some(fields), true, stamp, now),
        };
    }
    let mut txn = OutboxTxn::new("resolve", state);
    let mut newest = None;
    for (row_key, row) in kept.iter().filter(|(_, row)| row.entry == id) {
        txn.conflicts.insert(row_key.clone(), None);
        newest = Some(row);
    }
    let row = newest.ok_or(FixupError::NotParked)?;
    let (op, set, unset) = match choice {
        Choice::Server => return Ok(txn.finish(state, base, now)),
        Choice::Local => (row.op, row.set.clone(), row.unset.clone()),
        Choice::Merged(fields) => (Op::Update, fields.clone(), Vec::new()),
    };
    // On what the app sees, so that it is an edit like any other.
    let seen = view::server_view(state, base, &row.key);
    let is_there = view::view(state, base, &row.key).is_some_and(|seen| !seen.deleted);
    let op = match (op, is_there) {
        (Op::Create | Op::Update, true) => Op::Update,
        (Op::Create | Op::Update, false) => Op::Create,
        (Op::Delete, _) => Op::Delete,
    };
    let key = row.key.clone();
    txn.append.push(vec![Entry {
        scope: key.scope,
        collection: key.collection,
        id: key.id,
        op,
        set,
        unset: if op == Op::Update { unset } else { Vec::new() },
        stamp: stamp(),
        group: None,
        on: seen.map_or(Version::ZERO, |seen| seen.version),
        origin: None,
        place: None,
    }]);
    Ok(txn.finish(state, base, now))
}

/// Takes a unit that failed (attempts used up) out of the parked rows and queues it again, for all such units.
pub fn failed_units(state: &State) -> Vec<EntryId> {
    state.parked.values().filter(|row| row.failed).map(|row| row.id).listed()
}
