//! Building a batch: which units go, in which order, on which base, in exactly which bytes.

use crate::lanes::{Coalesced, Stand, Unit, coalesce, may_join, stand};
use crate::plan::OutboxTxn;
use crate::plant::{Plant, planted};
use crate::rows::{Descriptor, InFlight, LocalEnd};
use crate::state::{Base, Config, State};
use landfall_protocol::map::sorted;
use landfall_protocol::{
    EntryId, GroupId, Json, Map, Mutation, Object, Op, RecordKey, Seq, Set, UnixMillis, Version, limits,
};

/// Plans the transaction that stores the next in-flight descriptor. `None`: nothing can be sent now.
///
/// Nothing of it may be sent before that transaction is complete (persist before send). `is_tight`: the device has no
/// room, so the batch and its outcomes must fit into what the filler row held back.
pub fn plan_batch(
    state: &State,
    base: &dyn Base,
    config: &Config,
    is_tight: bool,
    now: UnixMillis,
) -> Option<OutboxTxn> {
    let bytes_max = if is_tight { limits::BATCH_BYTES_TIGHT } else { config.batch_bytes };
    let in_flight: usize = state.descriptors.values().map(|descriptor| descriptor.mutations.len()).sum();
    if in_flight >= limits::IN_FLIGHT_MAX {
        return None;
    }
    let units = units(state, config);
    let mut txn = OutboxTxn::new("descriptor", state);
    let mut travelling = travelling(state);
    let mut descriptor = Descriptor::new(Vec::new());
    let mut bytes = 0;
    let mut changed = false;
    for unit in units {
        let mut ready: Vec<(Coalesced, Op)> = Vec::new();
        for member in unit.members {
            match member.op {
                Some(op) => ready.push((member, op)),
                None => {
                    txn.end_locally(base, now, &member.key, member.entries, LocalEnd::Cancelled);
                    changed = true;
                }
            }
        }
        let room = config.batch_count.saturating_sub(descriptor.mutations.len()).min(limits::IN_FLIGHT_MAX - in_flight);
        if planted(Plant::GroupSplit) {
            ready.truncate(room);
        }
        if ready.len() > room && !descriptor.mutations.is_empty() {
            break;
        }
        let mut built = Vec::new();
        let mut seq = txn.client.next_seq;
        for (member, op) in &ready {
            let stand = stand(state, base.epoch(), member, &travelling);
            let mutation = mutation(base, member, *op, stand, seq, unit.group.clone());
            travelling.insert(member.key.clone(), (seq, stand.base()));
            built.push(InFlight {
                seq,
                entries: member.entries.clone(),
                text: exact(&mutation),
                base: stand.base(),
                void: false,
            });
            seq = seq.next();
        }
        let size: usize = built.iter().map(|mutation| mutation.text.text().len() + 1).sum();
        if bytes + size > bytes_max && !descriptor.mutations.is_empty() {
            break;
        }
        bytes += size;
        txn.client.next_seq = seq;
        descriptor.mutations.extend(built);
        if descriptor.mutations.len() >= config.batch_count || bytes >= bytes_max {
            break;
        }
    }
    if let Some(first) = descriptor.mutations.first() {
        let row_key = State::descriptor_key(first.seq);
        if planted(Plant::RemoveBeforeSettle) {
            for mutation in &descriptor.mutations {
                if let Some(parsed) = mutation.mutation() {
                    txn.end_locally(base, now, &parsed.key(), mutation.entries.clone(), LocalEnd::Replaced);
                }
            }
        }
        txn.descriptors.insert(row_key, Some(descriptor));
        changed = true;
    }
    changed.then(|| txn.finish(state, base, now))
}

/// The exact bytes of a mutation, made once.
pub(crate) fn exact(mutation: &Mutation<Object>) -> Json {
    Json::of(mutation)
}

/// For each record, the last mutation without an outcome.
pub(crate) fn travelling(state: &State) -> Map<RecordKey, (Seq, Version)> {
    let mut travelling = Map::new();
    for descriptor in state.descriptors.values() {
        for sent in &descriptor.mutations {
            if let Some(mutation) = sent.mutation() {
                travelling.insert(mutation.key(), (sent.seq, sent.base));
            }
        }
    }
    travelling
}

fn mutation(
    base: &dyn Base,
    member: &Coalesced,
    op: Op,
    stand: Stand,
    seq: Seq,
    group: Option<GroupId>,
) -> Mutation<Object> {
    let prev = match (op, base.base(&member.key)) {
        (Op::Update, Some(record)) => {
            let set = member.set.parts();
            let mut parts = record.fields.parts();
            parts.retain(|name, _| set.contains_key(name) || member.unset.iter().any(|unset| unset == name));
            Object::from(&parts)
        }
        _ => Object::new(),
    };
    let (base, after) = match stand {
        Stand::Base(version) => (Some(version), None),
        Stand::After(seq, _) => (None, Some(seq)),
    };
    Mutation {
        seq,
        scope: member.key.scope.clone(),
        collection: member.key.collection.clone(),
        id: member.key.id.clone(),
        op,
        set: member.set.clone(),
        unset: member.unset.clone(),
        base,
        after,
        prev,
        stamp: member.stamp.clone(),
        group,
        origin: Some(member.origin),
    }
}

/// What can be sent, in sending order: higher priority first, then oldest; a lane's order and groups kept.
pub fn units(state: &State, config: &Config) -> Vec<Unit> {
    let mut taken: Set<EntryId> = state.sent.keys().copied().collect();
    let mut units: Vec<Unit> = Vec::new();
    let held = held_lanes(state);
    // By place: an entry queued again after a restored backup goes where it first was.
    let mut places: Vec<(EntryId, EntryId)> = Vec::new();
    if state.placed > 0 {
        places.extend(state.entries.iter().map(|(id, entry)| (entry.place.unwrap_or(*id), *id)));
        places = sorted(places, &|a, b| a.cmp(b));
    }
    let mut placed = places.into_iter().map(|(_, id)| id);
    let mut logged = state.entries.keys().copied();
    let order: &mut dyn Iterator<Item = EntryId> = if state.placed > 0 { &mut placed } else { &mut logged };
    // Where nothing goes before anything else, the oldest are the next batch, and the rest need not be looked at.
    let mut priorities = config.collections.values().map(|collection| collection.priority);
    let first = priorities.next();
    let enough = if priorities.all(|other| Some(other) == first) { config.batch_count } else { usize::MAX };
    let mut count = 0;
    for id in order {
        if count > enough {
            break;
        }
        if taken.contains(&id) {
            continue;
        }
        let Some(entry) = state.entries.get(&id) else { continue };
        let key = entry.key();
        if held.contains(&key) {
            continue;
        }
        let members: Vec<Coalesced> = match &entry.group {
            Some(group) => group_members(state, group, id),
            None => {
                let run = run_of(state, &key, id, &taken);
                coalesce(state, &key, &run).into_iter().collect()
            }
        };
        taken.extend(members.iter().flat_map(|member| member.entries.iter().copied()));
        if members.iter().any(|member| held.contains(&member.key)) {
            continue;
        }
        let priority = members
            .iter()
            .map(|member| config.collections.get(&member.key.collection).map_or(0, |collection| collection.priority))
            .max()
            .unwrap_or(0);
        count += members.iter().filter(|member| member.op.is_some()).count();
        units.push(Unit { group: entry.group.clone(), members, priority });
    }
    // Predecessors in a lane inherit what follows them.
    let mut lane_priority: Map<RecordKey, i32> = Map::new();
    for unit in units.iter_mut().rev() {
        for member in &unit.members {
            if let Some(priority) = lane_priority.get(&member.key) {
                unit.priority = unit.priority.max(*priority);
            }
        }
        for member in &unit.members {
            lane_priority.insert(member.key.clone(), unit.priority);
        }
    }
    sorted(units, &|a, b| b.priority.cmp(&a.priority))
}

/// Lanes that wait for a person: their unit used up its attempts (`failed`), or a create of theirs is parked.
fn held_lanes(state: &State) -> Set<RecordKey> {
    let mut held = Set::new();
    for row in state.parked.values() {
        if row.failed {
            held.extend(row.changes.iter().map(|change| change.entry.key()));
        }
    }
    // A group waits with its slowest lane, and so do the lanes behind it.
    loop {
        let mut grown = false;
        let groups: Set<&GroupId> = held
            .iter()
            .flat_map(|key| state.lanes.get(key).into_iter().flatten())
            .filter_map(|id| state.entries.get(id)?.group.as_ref())
            .collect();
        // Most of the time nothing is held; then the outbox, however long, need not be looked through.
        if groups.is_empty() {
            return held;
        }
        let keys: Vec<RecordKey> = state
            .entries
            .values()
            .filter(|entry| entry.group.as_ref().is_some_and(|group| groups.contains(group)))
            .map(crate::rows::Entry::key)
            .collect();
        for key in keys {
            grown |= held.insert(key);
        }
        if !grown {
            return held;
        }
    }
}

/// The members of a group, in the order in which they were written.
fn group_members(state: &State, group: &GroupId, first: EntryId) -> Vec<Coalesced> {
    state
        .entries
        .range(first..)
        .take_while(|(id, _)| id.log_key() <= first.log_key() + 8)
        .filter(|(_, entry)| entry.group.as_ref() == Some(group))
        .filter_map(|(id, entry)| coalesce(state, &entry.key(), &[*id]))
        .collect()
}

/// Unsent neighbours of a lane, from `first` on, that may be one mutation.
fn run_of(state: &State, key: &RecordKey, first: EntryId, taken: &Set<EntryId>) -> Vec<EntryId> {
    let Some(lane) = state.lanes.get(key) else { return Vec::new() };
    let mut run: Vec<EntryId> = Vec::new();
    for id in lane.iter().skip_while(|id| **id != first) {
        let Some(entry) = state.entries.get(id) else { break };
        if taken.contains(id) {
            break;
        }
        if let Some(before) = run.last().and_then(|last| state.entries.get(last))
            && !may_join(before, entry)
        {
            break;
        }
        run.push(*id);
    }
    run
}
