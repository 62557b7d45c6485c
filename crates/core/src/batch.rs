//! Building a batch: which units go, in which order, on which base, in exactly which bytes.

use crate::lanes::{Coalesced, Stand, stand};
use crate::order::free_units;
use crate::plan::OutboxTxn;
use crate::plant::{Plant, planted};
use crate::rows::{Descriptor, InFlight, LocalEnd};
use crate::state::{Base, Config, State};
use landfall_protocol::{
    AddAll, EntryId, GroupId, Json, Listed, Map, Mutation, Object, Op, RecordKey, Seq, Set, UnixMillis, Version, limits,
};

/// How many batches are stored at once: one that is under way, and the next one, which then goes without a wait.
const OPEN_MAX: usize = 2;

/// Plans the transaction that stores the next in-flight descriptors. `None`: nothing can be sent now.
///
/// Nothing of it may be sent before that transaction is complete (persist before send). `is_tight`: the device has no
/// room, so there is one batch, and it and its outcomes must fit into what the filler row held back.
pub fn plan_batch(
    state: &State,
    base: &dyn Base,
    config: &Config,
    is_tight: bool,
    now: UnixMillis,
) -> Option<OutboxTxn> {
    let mut txn = OutboxTxn::new("descriptor", state);
    add_batches(&mut txn, state, base, config, is_tight, now).then(|| txn.finish(state, base, now))
}

/// Adds to a transaction the batches that follow what it settles. False: there is nothing to add.
///
/// A batch that another one goes before is stored only when it is full, so that late writes can still join their lanes.
/// What it holds is what it would hold if its predecessor had been answered: nothing of a lane that still travels.
pub(crate) fn add_batches(
    txn: &mut OutboxTxn,
    state: &State,
    base: &dyn Base,
    config: &Config,
    is_tight: bool,
    now: UnixMillis,
) -> bool {
    if planted(Plant::PoisonBlocksQueue) && !state.parked.is_empty() {
        return false;
    }
    let (open_max, bytes_max) = if is_tight { (1, limits::BATCH_BYTES_TIGHT) } else { (OPEN_MAX, config.batch_bytes) };
    let ends = |key: &String| txn.descriptors.get(key).is_some_and(Option::is_none);
    let left = state.descriptors.iter().filter(|(key, _)| !ends(key)).map(|(_, descriptor)| descriptor);
    let mut counts: Vec<usize> = left.map(|descriptor| descriptor.mutations.len()).listed();
    // What this transaction has taken so far, beside what is under way.
    let mut taken: Set<EntryId> = Set::new();
    while counts.len() < open_max {
        let in_flight: usize = counts.iter().sum();
        let Some(batch) = next_batch(txn.client.next_seq, state, base, config, bytes_max, in_flight, &taken) else {
            break;
        };
        if !counts.is_empty() && !batch.is_full {
            break;
        }
        for (key, entries) in batch.cancelled {
            taken.extend(&entries);
            txn.end_locally(base, now, &key, entries, LocalEnd::Cancelled);
        }
        let Some(first) = batch.descriptor.mutations.first() else { break };
        for mutation in &batch.descriptor.mutations {
            taken.extend(&mutation.entries);
        }
        if planted(Plant::RemoveBeforeSettle) {
            for mutation in &batch.descriptor.mutations {
                if let Some(parsed) = mutation.mutation() {
                    txn.end_locally(base, now, &parsed.key(), mutation.entries.clone(), LocalEnd::Replaced);
                }
            }
        }
        counts.push(batch.descriptor.mutations.len());
        txn.client.next_seq = batch.next_seq;
        txn.descriptors.insert(State::descriptor_key(first.seq), Some(batch.descriptor));
    }
    !taken.is_empty()
}

struct Batch {
    descriptor: Descriptor,
    next_seq: Seq,
    /// Created and deleted before it was sent: ended with the batch that it would have gone with.
    cancelled: Vec<(RecordKey, Vec<EntryId>)>,
    is_full: bool,
}

/// The next batch behind those that are stored and what is `taken`. `None`: no room, or it must wait for their outcomes.
fn next_batch(
    next_seq: Seq,
    state: &State,
    base: &dyn Base,
    config: &Config,
    bytes_max: usize,
    in_flight: usize,
    taken: &Set<EntryId>,
) -> Option<Batch> {
    if in_flight >= limits::IN_FLIGHT_MAX || state.sent.keys().any(|id| !state.entries.contains_key(id)) {
        // Of an entry whose log row can't be read the lane is not known.
        return None;
    }
    let units = free_units(state, base, config, taken.clone());
    // For each record with more to come, the last mutation of this batch.
    let mut before: Map<RecordKey, (Seq, Version)> = Map::new();
    let mut batch = Batch { descriptor: Descriptor::new(Vec::new()), next_seq, cancelled: Vec::new(), is_full: false };
    let mut bytes = 0;
    for unit in units {
        let mut ready: Vec<(Coalesced, Op, bool)> = Vec::new();
        for member in unit.members {
            let lane = state.lanes.get(&member.key).map_or(&[][..], Vec::as_slice);
            let has_others = lane.len() > member.entries.len();
            if has_others && lane.iter().any(|id| state.sent.contains_key(id) || taken.contains(id)) {
                return None;
            }
            match member.op {
                Some(op) => ready.push((member, op, has_others)),
                None => batch.cancelled.push((member.key, member.entries)),
            }
        }
        let mutations = &mut batch.descriptor.mutations;
        let room = config.batch_count.min(limits::IN_FLIGHT_MAX - in_flight).saturating_sub(mutations.len());
        if planted(Plant::GroupSplit) {
            ready.truncate(room);
        }
        if ready.len() > room && !mutations.is_empty() {
            batch.is_full = true;
            break;
        }
        let mut built = Vec::new();
        let mut seq = batch.next_seq;
        for (mut member, op, has_others) in ready {
            let stand = stand(state, base.epoch(), &member, &before);
            if has_others {
                before.insert(member.key.clone(), (seq, stand.base()));
            }
            let entries = std::mem::take(&mut member.entries);
            let mutation = mutation(base, member, op, stand, seq, unit.group.clone());
            built.push(InFlight {
                seq,
                entries,
                text: exact(&mutation),
                base: stand.base(),
                void: false,
                again: false,
            });
            seq = seq.next();
        }
        let size: usize = built.iter().map(|mutation| mutation.text.text().len() + 1).sum();
        batch.is_full = bytes + size > bytes_max && !mutations.is_empty();
        if batch.is_full {
            break;
        }
        bytes += size;
        batch.next_seq = seq;
        mutations.add_all(built);
        batch.is_full = mutations.len() >= config.batch_count || bytes >= bytes_max;
        if batch.is_full {
            break;
        }
    }
    Some(batch)
}

/// The exact bytes of a mutation, made once.
pub(crate) fn exact(mutation: &Mutation<Object>) -> Json {
    Json::of(mutation)
}

fn mutation(
    base: &dyn Base,
    member: Coalesced,
    op: Op,
    stand: Stand,
    seq: Seq,
    group: Option<GroupId>,
) -> Mutation<Object> {
    // The base is asked for nothing else: what is not in memory has to be read for it.
    let before = if op == Op::Update { base.base(&member.key) } else { None };
    // A pull since then has other values.
    let before = before.filter(|record| record.version == stand.base());
    let prev = match before {
        Some(record) => {
            let set = member.set.parts();
            let mut parts = record.fields.parts();
            parts.retain(|name, _| set.contains_key(name) || member.unset.iter().any(|unset| unset == name));
            Object::from(&parts)
        }
        None => Object::new(),
    };
    let (base, after) = match stand {
        Stand::Base(version) => (Some(version), None),
        Stand::After(seq, _) => (None, Some(seq)),
    };
    Mutation {
        seq,
        scope: member.key.scope,
        collection: member.key.collection,
        id: member.key.id,
        op,
        set: member.set,
        unset: member.unset,
        base,
        after,
        prev,
        stamp: member.stamp,
        group,
        origin: Some(member.origin),
    }
}
