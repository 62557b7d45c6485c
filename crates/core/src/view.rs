//! The view: base, plus overlays, plus undecided entries, in order.
//!
//! Rollback needs no code: an entry that ended without effect is simply no longer here (C3).

use crate::plant::{Plant, planted};
use crate::rows::{Entry, SettledMutation};
use crate::state::{Base, State};
use landfall_protocol::codec::from_json;
use landfall_protocol::{Epoch, Listed, Mutation, Object, Op, RecordKey, Version};

/// A record as it is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Server version under it.
    pub version: Version,
    pub deleted: bool,
    pub fields: Object,
}

impl Seen {
    /// The fields of a live record.
    pub fn into_fields(self) -> Option<Object> {
        (!self.deleted).then_some(self.fields)
    }
}

/// How far a record's newest change has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordState {
    Synced,
    /// Accepted by the server, not yet pulled back.
    Settled,
    Pending,
    Sending,
    Failed,
    Rejected,
}

impl RecordState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Settled => "settled",
            Self::Pending => "pending",
            Self::Sending => "sending",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
        }
    }
}

/// The server's state of a record as this client knows it: base and overlays. `None`: never heard of.
pub fn server_view(state: &State, base: &dyn Base, key: &RecordKey) -> Option<Seen> {
    let mut seen =
        base.base(key).map(|record| Seen { version: record.version, deleted: record.deleted, fields: record.fields });
    let covered = base.covered(&key.pair());
    for settled in state.settled_of(key) {
        if !same_epoch(settled.epoch, base.epoch()) || planted(Plant::OverlayFallsEarly) {
            continue;
        }
        overlay(&mut seen, settled.mutation, covered.map(|position| position.get()));
    }
    if planted(Plant::RollbackToSnapshot) {
        let rows = state.parked_by_key.get(key).into_iter().flatten().filter_map(|row| state.parked.get(row));
        let mut changes = rows.flat_map(|row| &row.changes).filter(|change| change.entry.key() == *key);
        if let (Some(seen), Some(then)) = (&mut seen, changes.find_map(|change| change.base.clone())) {
            seen.fields = then;
        }
    }
    seen
}

/// All overlays end with their epoch; before the first pull there is none to compare with.
pub fn same_epoch(settled: Option<&Epoch>, base: Option<&Epoch>) -> bool {
    settled.is_none() || base.is_none() || settled == base
}

/// Puts a settled mutation's result over the base, unless the base already covers it.
fn overlay(seen: &mut Option<Seen>, settled: &SettledMutation, covered: Option<u64>) {
    let Some(outcome) = &settled.outcome else { return };
    let (Some(position), Some(version)) = (outcome.position, outcome.version) else { return };
    if covered.is_some_and(|covered| covered >= position.get())
        || seen.as_ref().is_some_and(|seen| seen.version > version)
    {
        return;
    }
    if outcome.deleted {
        *seen = Some(Seen { version, deleted: true, fields: Object::new() });
        return;
    }
    if let Some(record) = &outcome.record {
        *seen = Some(Seen { version, deleted: false, fields: record.clone() });
        return;
    }
    // Of one without effect only what it says of the record counts.
    let text = settled.text.as_ref().filter(|_| outcome.took_effect());
    let mutation: Option<Mutation<Object>> = text.and_then(|text| from_json(text.text()));
    let Some(mutation) = mutation else { return };
    let fields = match (mutation.op, seen.take()) {
        (Op::Update, Some(seen)) if !seen.deleted => seen.fields.patched(&mutation.set, &mutation.unset),
        _ => mutation.set,
    };
    *seen = Some(Seen { version, deleted: false, fields });
}

/// What the app reads. `None`: there is no such record.
pub fn view(state: &State, base: &dyn Base, key: &RecordKey) -> Option<Seen> {
    view_with(state, base, key, &[])
}

/// The view with entries over it that are on their way into the log.
pub fn view_with(state: &State, base: &dyn Base, key: &RecordKey, more: &[&Entry]) -> Option<Seen> {
    let seen = server_view(state, base, key);
    let lane = state.lanes.get(key).map_or(&[][..], Vec::as_slice);
    let mut entries: Vec<&Entry> = lane.iter().filter_map(|id| state.entries.get(id)).listed();
    entries.extend(more);
    apply_entries(seen, &entries)
}

/// Puts undecided entries over what is there. A patch of a record that is not there shows nothing.
fn apply_entries(seen: Option<Seen>, entries: &[&Entry]) -> Option<Seen> {
    if entries.is_empty() {
        return seen;
    }
    let mut is_known = seen.is_some();
    let mut seen = seen.unwrap_or(Seen { version: Version::ZERO, deleted: true, fields: Object::new() });
    let mut from = 0;
    for (at, entry) in entries.iter().enumerate() {
        match entry.op {
            Op::Create => {
                is_known = true;
                seen.deleted = false;
                from = at;
            }
            Op::Update => {}
            Op::Delete => seen.deleted = true,
        }
    }
    seen.fields = if seen.deleted { Object::new() } else { fold(seen.fields, &entries[from..]) };
    if planted(Plant::UnknownFieldDropped) {
        seen.fields = seen.fields.patched(&Object::new(), &["x_of_later".to_owned()]);
    }
    is_known.then_some(seen)
}

/// What the fields become by these changes. Taken apart once, however many they are, and not at all for a new record.
pub fn fold(fields: Object, entries: &[&Entry]) -> Object {
    if let [only] = entries
        && (fields.is_empty() || only.op == Op::Create)
    {
        return only.set.clone();
    }
    let mut parts = fields.parts();
    for entry in entries {
        if entry.op != Op::Update {
            parts.clear();
        }
        for name in &entry.unset {
            parts.remove(name.as_str());
        }
        entry.set.put_into(&mut parts);
    }
    Object::from(&parts)
}

/// How far a record has come, worst first.
pub fn record_state(state: &State, base: &dyn Base, key: &RecordKey) -> RecordState {
    let mut worst = RecordState::Synced;
    for row in state.parked_by_key.get(key).into_iter().flatten() {
        let failed = state.parked.get(row).is_some_and(|row| row.failed);
        worst = worst.max(if failed { RecordState::Failed } else { RecordState::Rejected });
    }
    for id in state.lanes.get(key).into_iter().flatten() {
        worst = worst.max(if state.sent.contains_key(id) { RecordState::Sending } else { RecordState::Pending });
    }
    if worst == RecordState::Synced {
        let covered = base.covered(&key.pair());
        let open = state.settled_of(key).filter(|settled| same_epoch(settled.epoch, base.epoch())).any(|settled| {
            let position = settled.mutation.outcome.as_ref().and_then(|outcome| outcome.position);
            covered.is_some() && position > covered
        });
        if open {
            worst = RecordState::Settled;
        }
    }
    worst
}
