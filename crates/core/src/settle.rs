//! Settling: from the server's results to one transaction that ends entries, parks them or queues them again.
//!
//! Invariant (L4): an entry leaves the outbox only here or by its author's word, and always in the transaction that
//! stores why.

use crate::batch::add_batches;
use crate::plan::OutboxTxn;
use crate::plant::{Plant, planted};
use crate::rows::{
    ConflictRow, Descriptor, Entry, InFlight, LocalEnd, ParkedChange, ParkedRow, Reason, SettledMutation,
};
use crate::state::{Base, Config, State};
use crate::{retry, view};
use landfall_protocol::{
    EntryId, Epoch, GroupId, Listed, Map, Mutation, Object, Op, Outcome, RecordKey, RejectCode, ResultStatus, Seq, Set,
    UnixMillis,
};

/// How often the engine itself queues an entry again before a person must look.
pub const REQUEUES_MAX: u32 = 5;

/// What a step tells the people who listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Applied {
        entries: Vec<EntryId>,
    },
    /// A value lost; it is kept under this row key.
    Conflict {
        row: String,
    },
    /// A unit waits for a person; it is kept under this row key.
    Parked {
        row: String,
    },
    ClientFork,
    /// A restored server lost these; they are queued again.
    Requeued {
        count: u64,
    },
}

/// What to do with an answered push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettlePlan {
    Commit {
        txn: Box<OutboxTxn>,
        events: Vec<Event>,
    },
    /// The server knows these seqs otherwise: this profile was cloned or rolled back.
    Fork,
    /// The answer does not fit the request. Counts as a fault of the server.
    Malformed,
}

/// Plans the settle of one answered push. `sent` are the mutations that went, in order. Where nothing had to be parked or
/// queued again, the batches that follow are stored in the same transaction, if `next` says how they are built.
#[allow(clippy::too_many_arguments)] // One answer, and what it is judged by.
pub fn plan_settle(
    state: &State,
    base: &dyn Base,
    row_key: &str,
    sent: &[InFlight],
    results: &[Outcome],
    epoch: &Epoch,
    next: Option<&Config>,
    now: UnixMillis,
) -> SettlePlan {
    if results.len() != sent.len() || sent.iter().zip(results).any(|(sent, result)| sent.seq != result.seq) {
        return SettlePlan::Malformed;
    }
    let Some(descriptor) = state.descriptors.get(row_key) else {
        // Another context settled it meanwhile; what it stored stands.
        return SettlePlan::Commit { txn: Box::new(OutboxTxn::new("settle", state)), events: Vec::new() };
    };
    // The same seq with other bytes is another mutation: of a client that forked meanwhile.
    let same = |mutation: &&InFlight| sent.iter().any(|sent| sent.seq == mutation.seq && sent.text == mutation.text);
    let open: Set<Seq> = descriptor.mutations.iter().filter(same).map(|mutation| mutation.seq).collect();
    let is_strange = |result: &Outcome| {
        open.contains(&result.seq)
            && matches!(result.status, ResultStatus::AlreadySettled | ResultStatus::KeyReused)
            && !planted(Plant::AlreadySettledIsOutcome)
    };
    let mut settle = Settle {
        state,
        base,
        now,
        txn: OutboxTxn::new("settle", state),
        events: Vec::new(),
        applied: Vec::new(),
        gone_creates: Map::new(),
        parked_entries: Set::new(),
        is_plain: true,
    };
    settle.txn.client.first_push = false;
    let mut strange: Set<Seq> = Set::new();
    let mut index = 0;
    while index < sent.len() {
        if !open.contains(&sent[index].seq) {
            index += 1;
            continue;
        }
        let group = group_of(state, &sent[index]);
        let end = match &group {
            Some(_) => index + sent[index..].iter().take_while(|other| group_of(state, other) == group).count(),
            None => index + 1,
        };
        // What another copy of this client was told of has no outcome here.
        if results[index..end].iter().any(is_strange) {
            strange.extend(sent[index..end].iter().map(|mutation| mutation.seq));
        } else {
            settle.unit(&sent[index..end], &results[index..end]);
        }
        index = end;
    }
    // What has an outcome is settled first, or it would be applied twice; the rest is asked once more.
    if !strange.is_empty() && strange.len() == open.len() {
        return SettlePlan::Fork;
    }
    settle.follow_parked_creates();
    settle.txn.settled_row(base, now).epoch = Some(epoch.clone());
    let done: Set<Seq> = sent.iter().map(|mutation| mutation.seq).filter(|seq| !strange.contains(seq)).collect();
    let left: Vec<InFlight> =
        descriptor.mutations.iter().filter(|mutation| !done.contains(&mutation.seq)).cloned().listed();
    let mut through = state.settled_through(&done);
    if planted(Plant::AckBeyondSettled) {
        through = through.max(Seq(state.client.next_seq.get() + 1));
    }
    settle.txn.client.acked_through = through.max(state.client.acked_through);
    // One unit alone starts anew; more of them are still under suspicion.
    let suspects = descriptor.window.is_some() && retry::unit_ends(&left).len() > 1;
    let attempts = if suspects { retry::WHOLE_ATTEMPTS - 1 } else { 0 };
    let rest = (!left.is_empty()).then_some(Descriptor { mutations: left, attempts, window: None });
    settle.is_plain &= rest.is_none();
    settle.txn.descriptors.insert(row_key.to_owned(), rest);
    if let Some(config) = next.filter(|_| settle.is_plain) {
        add_batches(&mut settle.txn, state, base, config, false, now);
    }
    if !settle.applied.is_empty() {
        let entries = std::mem::take(&mut settle.applied);
        settle.events.insert(0, Event::Applied { entries });
    }
    let events = settle.events;
    SettlePlan::Commit { txn: Box::new(settle.txn.finish(state, base, now)), events }
}

struct Settle<'a> {
    state: &'a State,
    base: &'a dyn Base,
    now: UnixMillis,
    txn: OutboxTxn,
    events: Vec<Event>,
    applied: Vec<EntryId>,
    /// Records whose create was parked in this step.
    gone_creates: Map<RecordKey, Seq>,
    parked_entries: Set<EntryId>,
    /// Every mutation has come to its end.
    is_plain: bool,
}

impl Settle<'_> {
    /// One unit: a mutation, or all members of a group.
    fn unit(&mut self, sent: &[InFlight], results: &[Outcome]) {
        let refused = |code: &str| results.iter().any(|result| result.code.as_deref() == Some(code));
        let is_stale = refused(RejectCode::STALE);
        let is_given_up_for_order = refused(RejectCode::VOID) && sent.iter().any(|mutation| mutation.again);
        let requeue =
            is_stale || is_given_up_for_order || refused(RejectCode::BLOCKED) || refused(RejectCode::MISSING_PARENT);
        let park = results.iter().any(|result| match result.status {
            ResultStatus::Rejected => true,
            ResultStatus::Conflict => !is_for_review(result),
            ResultStatus::Applied
            | ResultStatus::Merged
            | ResultStatus::Superseded
            | ResultStatus::Recreated
            | ResultStatus::AlreadySettled
            | ResultStatus::KeyReused => false,
        });
        // On what somebody else wrote meanwhile it goes once, and only if no field of it is touched by that.
        let tries = if is_stale { 1 } else { REQUEUES_MAX };
        let used_up = sent
            .iter()
            .flat_map(|mutation| &mutation.entries)
            .any(|id| self.state.client.requeues.get(id).copied().unwrap_or(0) >= tries)
            || (is_stale && !sent.iter().zip(results).all(|(sent, result)| rebases(sent, result)));
        self.is_plain &= !requeue && !park;
        if requeue && !used_up {
            self.requeue(sent, results);
        } else if park {
            self.park(sent, results);
        } else {
            for (mutation, result) in sent.iter().zip(results) {
                self.end(mutation, result);
            }
        }
    }

    /// The seq is settled; its entries go again under a new one.
    fn requeue(&mut self, sent: &[InFlight], results: &[Outcome]) {
        for (mutation, result) in sent.iter().zip(results) {
            // Its parent is on the way, or gone: what the server has is known after a pull.
            self.txn.client.pull_first |= result.code.as_deref() == Some(RejectCode::MISSING_PARENT);
            for id in &mutation.entries {
                *self.txn.client.requeues.entry(*id).or_insert(0) += 1;
            }
            self.record(mutation, result, Vec::new());
        }
    }

    /// A final outcome other than a refusal.
    fn end(&mut self, sent: &InFlight, result: &Outcome) {
        let may_have_lost =
            matches!(result.status, ResultStatus::Superseded | ResultStatus::Conflict | ResultStatus::Merged);
        if may_have_lost
            && !planted(Plant::LoserNotKept)
            && let Some(mutation) = sent.mutation()
            && (!result.took_effect() || !holds(result, &mutation))
        {
            let row = State::conflict_key(&self.state.client.client_id, sent.seq);
            let conflict = ConflictRow {
                seq: sent.seq,
                entry: mutation.origin.or(sent.entries.first().copied()).unwrap_or_default(),
                at: self.now,
                key: mutation.key(),
                op: mutation.op,
                set: mutation.set,
                unset: mutation.unset,
                outcome: result.clone(),
            };
            self.txn.conflicts.insert(row.clone(), Some(conflict));
            self.events.push(Event::Conflict { row });
        }
        if result.took_effect() {
            self.applied.extend(&sent.entries);
        }
        self.record(sent, result, sent.entries.clone());
    }

    fn record(&mut self, sent: &InFlight, result: &Outcome, entries: Vec<EntryId>) {
        let entry = entry_of(self.state, sent);
        let Some(key) = entry.map(Entry::key).or_else(|| Some(sent.mutation()?.key())) else { return };
        let place = entry.filter(|_| !entries.is_empty()).and_then(|entry| entry.place);
        let settled = SettledMutation {
            key,
            entries,
            text: Some(sent.text.clone()),
            base: sent.base,
            place,
            outcome: Some(result.clone()),
            local: None,
        };
        self.txn.settled_row(self.base, self.now).mutations.push(settled);
    }

    /// Refused: rolled back in the view, kept as one unit with its reason.
    fn park(&mut self, sent: &[InFlight], results: &[Outcome]) {
        let cause = results
            .iter()
            .find(|result| {
                result.status != ResultStatus::Superseded
                    && result.code.as_deref() != Some(RejectCode::GROUP_REFUSED)
                    && !result.took_effect()
            })
            .unwrap_or(&results[0]);
        let changes: Vec<ParkedChange> = sent
            .iter()
            .zip(results)
            .filter_map(|(mutation, result)| self.parked_change(&mutation.mutation()?, &mutation.entries, result))
            .listed();
        for (mutation, result) in sent.iter().zip(results) {
            if mutation.mutation().is_some_and(|mutation| mutation.op == Op::Create)
                && let Some(parsed) = mutation.mutation()
            {
                self.gone_creates.insert(parsed.key(), mutation.seq);
            }
            let ended = if planted(Plant::RejectedStaysVisible) { Vec::new() } else { mutation.entries.clone() };
            self.parked_entries.extend(&mutation.entries);
            self.record(mutation, result, ended);
        }
        // Voided: the server had failed on it again and again, and now it never will apply it.
        let failed = cause.code.as_deref() == Some(RejectCode::VOID);
        self.park_row(reason(cause), changes, failed);
    }

    fn parked_change(
        &self,
        mutation: &Mutation<Object>,
        entries: &[EntryId],
        result: &Outcome,
    ) -> Option<ParkedChange> {
        let first = entries.first()?;
        let on = self.state.entries.get(first).map_or(landfall_protocol::Version::ZERO, |entry| entry.on);
        let key = mutation.key();
        Some(ParkedChange {
            entry: Entry {
                scope: key.scope.clone(),
                collection: key.collection.clone(),
                id: key.id.clone(),
                op: mutation.op,
                set: mutation.set.clone(),
                unset: mutation.unset.clone(),
                stamp: mutation.stamp.clone(),
                group: mutation.group.clone(),
                on,
                origin: mutation.origin,
                place: None,
            },
            entries: entries.to_vec(),
            base: view::server_view(self.state, self.base, &key).and_then(view::Seen::into_fields),
            server: result.record.clone(),
        })
    }

    fn park_row(&mut self, reason: Reason, changes: Vec<ParkedChange>, failed: bool) {
        let Some(first) = changes.first() else { return };
        let id = first.entry.origin.or(first.entries.first().copied()).unwrap_or_default();
        let row = State::parked_key(id);
        self.txn.parked.insert(row.clone(), Some(ParkedRow { id, at: self.now, reason, changes, failed }));
        self.events.push(Event::Parked { row });
    }

    /// What stands on a parked create can't go on: it parks behind it as `blocked`, with its whole groups.
    fn follow_parked_creates(&mut self) {
        let mut queue: Vec<(RecordKey, Seq)> = self.gone_creates.clone().into_iter().listed();
        let mut seen: Set<EntryId> = self.parked_entries.clone();
        while let Some((key, by)) = queue.pop() {
            if view::server_view(self.state, self.base, &key).is_some_and(|seen| !seen.deleted) {
                continue;
            }
            let lane = self.state.lanes.get(&key).cloned().unwrap_or_default();
            for id in lane {
                if seen.contains(&id) || self.state.sent.contains_key(&id) {
                    continue;
                }
                let Some(entry) = self.state.entries.get(&id) else { continue };
                let members: Vec<(EntryId, Entry)> = match &entry.group {
                    None => vec![(id, entry.clone())],
                    Some(group) => {
                        let same = |(_, other): &(&EntryId, &Entry)| other.group.as_ref() == Some(group);
                        self.state.entries.iter().filter(same).map(|(id, entry)| (*id, entry.clone())).listed()
                    }
                };
                let mut changes = Vec::new();
                for (member, entry) in members {
                    if !seen.insert(member) {
                        continue;
                    }
                    let member_key = entry.key();
                    if entry.op == Op::Create {
                        queue.push((member_key.clone(), by));
                    }
                    self.txn.end_locally(self.base, self.now, &member_key, vec![member], LocalEnd::Parked);
                    changes.push(ParkedChange { entry, entries: vec![member], base: None, server: None });
                }
                let reason = Reason {
                    code: RejectCode::BLOCKED.to_owned(),
                    message: "It builds on a record that was not accepted.".to_owned(),
                    fields: Map::new(),
                };
                self.park_row(reason, changes, false);
            }
        }
    }
}

/// The first entry that a mutation was made of. It knows record and group, so the stored bytes need not be read.
fn entry_of<'a>(state: &'a State, sent: &InFlight) -> Option<&'a Entry> {
    state.entries.get(sent.entries.first()?)
}

/// The group of a mutation; from its bytes if the log row can't be read.
fn group_of(state: &State, sent: &InFlight) -> Option<GroupId> {
    match entry_of(state, sent) {
        Some(entry) => entry.group.clone(),
        None => sent.mutation()?.group,
    }
}

/// Somebody with a role decides; for the client its change has come to an end.
fn is_for_review(outcome: &Outcome) -> bool {
    outcome.to.as_deref() == Some("review")
}

/// The record shows everything that the mutation asked for.
fn holds(outcome: &Outcome, mutation: &Mutation<Object>) -> bool {
    outcome.record.as_ref().is_none_or(|record| *record == record.patched(&mutation.set, &mutation.unset))
}

/// Nobody else touched the fields of a change that was refused as stale: it can go again, on what is there now.
fn rebases(sent: &InFlight, outcome: &Outcome) -> bool {
    if outcome.code.as_deref() != Some(RejectCode::STALE) {
        return true;
    }
    // Without values of before nothing is known of what has changed.
    let (Some(record), Some(mutation)) = (&outcome.record, sent.mutation()) else { return false };
    let mut is_same = mutation.op == Op::Update && !mutation.prev.is_empty();
    let mut compare = |name: &str| {
        is_same &= match (mutation.prev.get(name), record.get(name)) {
            (Some(before), Some(now)) => landfall_protocol::same_value(before, now),
            (before, now) => before == now,
        };
    };
    mutation.set.each(&mut |name, _| compare(&name));
    mutation.unset.iter().for_each(|name| compare(name));
    is_same
}

fn reason(outcome: &Outcome) -> Reason {
    if outcome.code.as_deref() == Some(RejectCode::VOID) {
        return Reason {
            code: "failed".to_owned(),
            message: "The server failed on this change again and again. It is kept; try again later.".to_owned(),
            fields: Map::new(),
        };
    }
    let conflict = outcome.status == ResultStatus::Conflict;
    let code =
        outcome.code.clone().unwrap_or_else(|| if conflict { "conflict".to_owned() } else { "rejected".to_owned() });
    let message = outcome.message.clone().unwrap_or_else(|| "The server did not accept this change.".to_owned());
    Reason { code, message, fields: outcome.fields.clone() }
}

/// Plans that these seqs are given up: from now on their void is sent, and its outcome decides (docs/protocol.md).
pub fn plan_void(state: &State, base: &dyn Base, row_key: &str, seqs: &Set<Seq>, now: UnixMillis) -> OutboxTxn {
    let mut txn = OutboxTxn::new("void", state);
    if let Some(descriptor) = state.descriptors.get(row_key) {
        let mut descriptor = descriptor.clone();
        for mutation in descriptor.mutations.iter_mut().filter(|mutation| seqs.contains(&mutation.seq)) {
            mutation.void = true;
        }
        descriptor.attempts = 0;
        descriptor.window = None;
        txn.descriptors.insert(row_key.to_owned(), Some(descriptor));
    }
    txn.finish(state, base, now)
}

/// Values of a patch over what is there, for a person.
pub fn local_values(base: Option<&Object>, change: &Entry) -> Object {
    match (change.op, base) {
        (Op::Update | Op::Delete, Some(base)) => base.patched(&change.set, &change.unset),
        (Op::Create, _) | (_, None) => change.set.clone(),
    }
}
