//! What the server has done, effect by effect, and the verdicts that it gave.

use super::{Model, Plain};
use landfall_protocol::{Outcome, Pair, RecordId, RecordKey, Scope};
use std::collections::{BTreeMap, BTreeSet};

/// A record after one effect.
#[derive(Clone, Debug)]
pub struct StateAt {
    pub position: u64,
    pub version: u64,
    /// `None`: deleted.
    pub fields: Option<Plain>,
    pub profile: usize,
    /// [`ProfileModel::life`](super::ProfileModel::life) of that profile.
    pub(super) life: u32,
    pub client: String,
    pub seq: u64,
    /// Its writer had the role.
    pub is_manager: bool,
    /// It went with its parent, or came by somebody's decision.
    pub is_indirect: bool,
    /// The server's clock for it: clamped, and after what was there.
    pub stamp: String,
    pub is_create: bool,
    /// Place in the log of the newest entry that it carries.
    pub(super) entry: u64,
}

/// A verdict as the server gave it first.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) answer: String,
    pub(super) outcome: Outcome,
    pub(super) sent: String,
    /// The version that the mutation stood on, through its predecessors.
    pub(super) stands: u64,
}

/// The server's side: goes back with a restored backup.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    pub states: BTreeMap<Pair, BTreeMap<RecordId, Vec<StateAt>>>,
    pub(super) given: BTreeMap<(String, u64), Given>,
    /// (profile, entry as its author knows it) of every effect.
    pub(super) effected: BTreeSet<(usize, u64)>,
    /// Who lost something to an effect that had not seen it: user, record, position, and the profile that did it.
    pub(super) losses: BTreeSet<(String, RecordKey, u64, usize)>,
    /// Of each record, the states of lives that the server has forgotten.
    pub(super) forgotten: BTreeMap<RecordKey, usize>,
    /// Conflicts that somebody with a role has decided.
    pub(super) reviewed: BTreeSet<String>,
}

impl Truth {
    pub fn states_of(&self, key: &RecordKey) -> &[StateAt] {
        self.states.get(&key.pair()).and_then(|records| records.get(&key.id)).map_or(&[], Vec::as_slice)
    }
}

impl Truth {
    /// The states that the server still knows something of.
    pub(super) fn known_of(&self, key: &RecordKey) -> &[StateAt] {
        let from = self.forgotten.get(key).copied().unwrap_or(0);
        self.states_of(key).get(from..).unwrap_or(&[])
    }
}

pub fn at(states: &[StateAt], position: u64) -> Option<&StateAt> {
    states.iter().rev().find(|state| state.position <= position)
}

impl Model {
    /// The server has written something.
    pub(super) fn state(&mut self, key: &RecordKey, state: StateAt) {
        let epoch = format!("e{}", self.restores + 1);
        if let Some(record) = &mut self.record {
            record.effect(epoch, key, &state);
        }
        self.truth.states.entry(key.pair()).or_default().entry(key.id.clone()).or_default().push(state);
    }

    /// The server knows nothing of these any more.
    pub fn forgotten(&mut self, keys: Vec<RecordKey>) {
        for key in keys {
            let count = self.truth.states_of(&key).len();
            self.truth.forgotten.insert(key, count);
        }
    }

    /// The head of each scope, by what took effect.
    pub fn shown(&self, scope: &Scope) -> u64 {
        let states = self.truth.states.iter().filter(|(pair, _)| pair.0 == *scope);
        states.flat_map(|(_, records)| records.values().flatten()).map(|state| state.position).max().unwrap_or(0)
    }
}
