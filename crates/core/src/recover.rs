//! When the server knows this client otherwise than the client knows itself: fork, epoch reset, and rows of the outbox
//! that can't be read.
//!
//! Neither ever drops the outbox (R6).

use crate::plan::{OutboxTxn, SetAside};
use crate::plant::{Plant, planted};
use crate::rows::{Entry, InFlight, LocalEnd, ParkedChange, ParkedRow, Reason};
use crate::settle::Event;
use crate::state::{Base, State};
use landfall_protocol::codec::from_json;
use landfall_protocol::{
    AddAll, ClientId, EntryId, Epoch, GroupId, Ledger, Listed, Map, Mutation, Object, Pair, RecordKey, RejectCode, Seq,
    Set, UnixMillis,
};

/// Prefix of the keys of batches.
const BATCHES: &str = "desc/";

/// A cloned or rolled-back profile goes on under a new client id: everything undecided becomes unsent again, with its
/// original stamp; its base follows from its lane as always. The next push waits for a pull to head.
pub fn plan_fork(state: &State, base: &dyn Base, client_id: ClientId, now: UnixMillis) -> (OutboxTxn, Vec<Event>) {
    let mut txn = OutboxTxn::new("fork", state);
    fork_into(&mut txn, state, client_id);
    (txn.finish(state, base, now), vec![Event::ClientFork])
}

/// True if going on without these rows would send something whose fate is unknown as if it were new.
///
/// Of a batch that is always so: its seqs would never get an outcome. A row of decisions is missed only where an entry
/// waits, which may be one that it had ended; which ones it had ended nobody can tell.
pub fn must_fork(state: &State, damaged: &[String]) -> bool {
    damaged.iter().any(|key| key.starts_with(BATCHES)) || state.entries.keys().any(|id| !state.sent.contains_key(id))
}

/// Rows of batches and decisions that can't be read are set aside. This client has lost its place then, as a rolled-back
/// profile has, and goes on as that does, where [`must_fork`] says so. Else only what the rows knew of the server's
/// state is missing, and comes back with a pull.
pub fn plan_damaged(
    state: &State,
    base: &dyn Base,
    damaged: Vec<SetAside>,
    client_id: ClientId,
    now: UnixMillis,
) -> (OutboxTxn, Vec<Event>) {
    let keys: Vec<String> = damaged.iter().map(|row| row.key.clone()).listed();
    let forks = must_fork(state, &keys);
    let mut txn = OutboxTxn::new(if forks { "fork" } else { "set_aside" }, state);
    txn.set_aside = damaged;
    txn.client.pull_first = true;
    if forks {
        fork_into(&mut txn, state, client_id);
        // What waits for its person or was tried again had ended, and is named by what it became (L4).
        let mut ended: Set<EntryId> = state.entries.values().filter_map(|entry| entry.origin).collect();
        for change in state.parked.values().flat_map(|row| &row.changes) {
            ended.extend(change.entries.iter().copied().chain(change.entry.origin));
        }
        for id in &ended {
            if let Some(entry) = state.entries.get(id) {
                txn.end_locally(base, now, &entry.key(), vec![*id], LocalEnd::Parked);
            }
        }
    }
    (txn.finish(state, base, now), if forks { vec![Event::ClientFork] } else { Vec::new() })
}

fn fork_into(txn: &mut OutboxTxn, state: &State, client_id: ClientId) {
    txn.client.client_id = client_id;
    txn.client.next_seq = Seq(1);
    txn.client.acked_through = Seq::ZERO;
    txn.client.first_push = true;
    txn.client.pull_first = true;
    for row_key in state.descriptors.keys() {
        txn.descriptors.insert(row_key.clone(), None);
    }
}

/// The server came back from a backup under another epoch. Acknowledged mutations that it lost and this client still
/// holds are queued again, with their old base and stamp and in their old place; the outbox stays as it is.
pub fn plan_reset(
    state: &State,
    base: &dyn Base,
    ledger: &Ledger,
    epoch: &Epoch,
    client_id: ClientId,
    now: UnixMillis,
) -> (OutboxTxn, Vec<Event>) {
    let mut txn = OutboxTxn::new("reset", state);
    let known: Set<Seq> = ledger.entries.iter().map(|entry| entry.seq).collect();
    let mut lost: Vec<Entry> = Vec::new();
    for (row_key, row) in &state.settled {
        if row.client_id != state.client.client_id || row.epoch.as_ref() == Some(epoch) {
            continue;
        }
        let mut rewritten = row.clone();
        for (index, settled) in row.mutations.iter().enumerate() {
            let Some(outcome) = settled.outcome.as_ref().filter(|outcome| outcome.took_effect()) else { continue };
            if outcome.seq <= ledger.acked_through || known.contains(&outcome.seq) {
                continue;
            }
            let parsed: Option<Mutation<Object>> = settled.text.as_ref().and_then(|text| from_json(text.text()));
            let Some(mutation) = parsed else { continue };
            lost.push(Entry {
                scope: mutation.scope.clone(),
                collection: mutation.collection.clone(),
                id: mutation.id.clone(),
                op: mutation.op,
                set: mutation.set.clone(),
                unset: mutation.unset.clone(),
                stamp: mutation.stamp.clone(),
                group: mutation.group.clone(),
                on: settled.base,
                origin: mutation.origin,
                // Not where the app first knew it: a retried entry stood where it was retried.
                place: settled.lane_place(),
            });
            // Without its bytes it can't be queued a second time, should this step be repeated.
            rewritten.mutations[index].text = None;
            txn.settled.insert(row_key.clone(), Some(rewritten.clone()));
        }
    }
    let count = lost.len() as u64;
    let keys: Set<RecordKey> = lost.iter().map(Entry::key).collect();
    txn.append.add_all(by_group(lost));
    if planted(Plant::ResetDropsOutbox) {
        let all: Vec<(RecordKey, EntryId)> = state.entries.iter().map(|(id, entry)| (entry.key(), *id)).listed();
        for (key, id) in all {
            txn.end_locally(base, now, &key, vec![id], LocalEnd::Discarded);
        }
    }
    if ledger.known {
        txn.client.pull_first = true;
        // Its word on what is in flight may be lost with the rest; the same bytes are simply sent again. Not so what stands
        // behind something lost: it may go again only behind that (S4), unless the server has decided it.
        for (row_key, descriptor) in &state.descriptors {
            let mut behind: Set<GroupId> = Set::new();
            let is_behind = |mutation: &Mutation<Object>| keys.contains(&mutation.key());
            let parsed: Vec<Option<Mutation<Object>>> = descriptor.mutations.iter().map(InFlight::mutation).listed();
            behind.extend(
                parsed.iter().flatten().filter(|mutation| is_behind(mutation)).filter_map(|it| it.group.clone()),
            );
            let mut changed = descriptor.clone();
            for (sent, mutation) in changed.mutations.iter_mut().zip(&parsed) {
                let Some(mutation) = mutation else { continue };
                let goes = is_behind(mutation) || mutation.group.as_ref().is_some_and(|group| behind.contains(group));
                sent.again |= goes && !sent.void;
                sent.void |= goes;
            }
            if changed != *descriptor {
                txn.descriptors.insert(row_key.clone(), Some(changed));
            }
        }
        txn.client.acked_through = state.client.acked_through.min(ledger.acked_through);
    } else {
        fork_into(&mut txn, state, client_id);
    }
    let mut events = Vec::new();
    if count > 0 {
        events.push(Event::Requeued { count });
    }
    (txn.finish(state, base, now), events)
}

/// The server, which came back from a backup, is asked by a client that could name no epoch, and tells its own. Nothing was
/// acknowledged under any, so nothing can be lost. The client stays who it is: another context, which has pulled and so knows
/// the epoch, may be sending the same bytes at this moment (S1). An answer from before the restore is not taken any more.
pub fn plan_named(state: &State, base: &dyn Base, now: UnixMillis) -> (OutboxTxn, Vec<Event>) {
    let mut txn = OutboxTxn::new("reset", state);
    txn.client.pull_first = true;
    (txn.finish(state, base, now), Vec::new())
}

/// Entries of one group stay in one log row; the others go together.
fn by_group(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut rows: Vec<Vec<Entry>> = Vec::new();
    for entry in entries {
        let fits = rows.last().is_some_and(|row| {
            row.len() < 100
                && row
                    .last()
                    .is_some_and(|last| last.group.is_none() && entry.group.is_none() || last.group == entry.group)
        });
        match rows.last_mut() {
            Some(row) if fits => row.push(entry),
            _ => rows.push(vec![entry]),
        }
    }
    rows
}

/// A (scope, collection) was taken away: what waits for it without a seq parks as `no_access`, with local values only.
pub fn plan_no_access(
    state: &State,
    base: &dyn Base,
    pairs: &[Pair],
    now: UnixMillis,
) -> Option<(OutboxTxn, Vec<Event>)> {
    let mut txn = OutboxTxn::new("no_access", state);
    let mut events = Vec::new();
    let unsent = || state.entries.iter().filter(|(id, _)| !state.sent.contains_key(id));
    let is_lost = |entry: &Entry| pairs.iter().any(|pair| pair.0 == entry.scope && pair.1 == entry.collection);
    // A group goes with any of its entries.
    let mut groups: Map<&GroupId, usize> = Map::new();
    for (_, entry) in unsent().filter(|(_, entry)| is_lost(entry)) {
        if let Some(group) = &entry.group {
            groups.insert(group, usize::MAX);
        }
    }
    let mut units: Vec<Vec<(EntryId, &Entry)>> = Vec::new();
    for (id, entry) in unsent() {
        let known = entry.group.as_ref().and_then(|group| groups.get_mut(group));
        match known {
            Some(at) if *at < units.len() => units[*at].push((*id, entry)),
            Some(at) => {
                *at = units.len();
                units.push(vec![(*id, entry)]);
            }
            None if is_lost(entry) => units.push(vec![(*id, entry)]),
            None => {}
        }
    }
    for unit in units {
        let id = unit.first().map(|(id, entry)| entry.origin.unwrap_or(*id)).unwrap_or_default();
        let mut changes = Vec::new();
        for (entry_id, entry) in unit {
            txn.end_locally(base, now, &entry.key(), vec![entry_id], LocalEnd::Parked);
            changes.push(ParkedChange { entry: entry.clone(), entries: vec![entry_id], base: None, server: None });
        }
        let reason = Reason {
            code: RejectCode::NO_ACCESS.to_owned(),
            message: "You no longer have access to this data. Your change is kept on this device.".to_owned(),
            fields: Map::new(),
        };
        let row = State::parked_key(id);
        if !planted(Plant::NoAccessDropsOutbox) {
            txn.parked.insert(row.clone(), Some(ParkedRow { id, at: now, reason, changes, failed: false }));
        }
        events.push(Event::Parked { row });
    }
    (!events.is_empty()).then(|| (txn.finish(state, base, now), events))
}
