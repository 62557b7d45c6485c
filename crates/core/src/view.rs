//! The view: base, plus overlays, plus undecided entries, in order.
//!
//! Rollback needs no code: an entry that ended without effect is simply no longer here (C3).

use crate::authority::apply_patch;
use crate::plant::{Plant, planted};
use crate::rows::{Entry, SettledMutation};
use crate::state::{Base, State};
use landfall_protocol::codec::from_json;
use landfall_protocol::{Epoch, Fields, Mutation, Op, RecordKey, ResultStatus, Version};

/// A record as it is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Server version under it.
    pub version: Version,
    pub deleted: bool,
    pub fields: Fields,
}

impl Seen {
    /// The fields of a live record.
    pub fn into_fields(self) -> Option<Fields> {
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
    match outcome.status {
        ResultStatus::Applied | ResultStatus::Merged | ResultStatus::Recreated | ResultStatus::Superseded => {}
        ResultStatus::Conflict | ResultStatus::Rejected | ResultStatus::AlreadySettled | ResultStatus::KeyReused => {
            return;
        }
    }
    if outcome.deleted {
        *seen = Some(Seen { version, deleted: true, fields: Fields::new() });
        return;
    }
    if let Some(record) = &outcome.record {
        *seen = Some(Seen { version, deleted: false, fields: record.clone() });
        return;
    }
    let mutation: Option<Mutation> = settled.text.as_ref().and_then(|text| from_json(text.text()));
    let Some(mutation) = mutation else { return };
    let mut fields = match (mutation.op, seen.take()) {
        (Op::Update, Some(seen)) if !seen.deleted => seen.fields,
        _ => Fields::new(),
    };
    apply_patch(&mut fields, &mutation.set, &mutation.unset);
    *seen = Some(Seen { version, deleted: false, fields });
}

/// What the app reads. `None`: there is no such record.
pub fn view(state: &State, base: &dyn Base, key: &RecordKey) -> Option<Seen> {
    let mut seen = server_view(state, base, key);
    for id in state.lanes.get(key).into_iter().flatten() {
        if let Some(entry) = state.entries.get(id) {
            apply_entry(&mut seen, entry);
        }
    }
    seen
}

/// Puts one undecided entry over what is there. A patch of a record that is not there shows nothing.
pub fn apply_entry(seen: &mut Option<Seen>, entry: &Entry) {
    let version = seen.as_ref().map_or(Version::ZERO, |seen| seen.version);
    match entry.op {
        Op::Create => *seen = Some(Seen { version, deleted: false, fields: entry.set.clone() }),
        Op::Update => {
            if let Some(seen) = seen.as_mut().filter(|seen| !seen.deleted) {
                apply_patch(&mut seen.fields, &entry.set, &entry.unset);
            }
        }
        Op::Delete => {
            if seen.is_some() {
                *seen = Some(Seen { version, deleted: true, fields: Fields::new() });
            }
        }
    }
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
