//! One browser profile: the entries that are durable on its disk, and what became of them.

use super::{Model, said};
use crate::world::PARENT;
use landfall_core::rows::Entry;
use landfall_protocol::{Mutation, Object, Op, Pair, Scope};
use std::collections::{BTreeMap, BTreeSet};

/// One browser profile's side: goes back with a rolled-back disk.
#[derive(Clone, Debug, Default)]
pub struct ProfileModel {
    pub user: String,
    pub durable: BTreeMap<u64, Entry>,
    pub(super) commits: BTreeSet<String>,
    pub(super) rows: BTreeMap<u64, usize>,
    /// Which row ended an entry, and when (see [`Model::tick`]).
    pub decided: BTreeMap<u64, (String, u64)>,
    /// Which entries travel in these exact bytes.
    pub(super) sent: BTreeMap<String, Vec<u64>>,
    pub(super) descriptors: BTreeMap<String, Vec<u64>>,
    /// Outcomes that a settle stored: the entries that it ended.
    pub(super) stored: BTreeMap<(String, u64), (bool, Vec<u64>)>,
    /// Given up so that what a restored server lost goes before them.
    pub(super) again: BTreeSet<u64>,
    /// Writes whose promise resolved, and when.
    pub acked: BTreeMap<u64, u64>,
    /// Values of writes whose promise rejected: must never be seen.
    pub rejected: BTreeSet<String>,
    /// Cloned or rolled back: what is its own cannot be told any more.
    pub is_tainted: bool,
    /// How often it was rolled back: what it was before is another copy of it.
    pub life: u32,
    /// Where a scope stood when its user lost access to it: a pull since then takes away what was known of all up to there.
    pub(super) hidden: BTreeMap<Scope, u64>,
    /// Its clock went ahead by more than a day.
    pub has_leapt: bool,
    /// Answers to its pushes that a batch may be blamed for, and how many of them it was blamed for (S7).
    pub(super) faulty_answers: u64,
    pub(super) counted: u64,
    /// The browser has taken its database.
    pub is_evicted: bool,
    /// A byte of its disk was changed.
    pub is_torn: bool,
    /// Rows that say what was lost, by key; also those that its person has ended.
    pub(super) told: BTreeSet<String>,
    /// Client ids that it had, in order.
    pub(super) clients: Vec<String>,
    /// Last (manifest rev, epoch, covered) seen.
    pub seen_base: Option<(u64, Option<String>, BTreeMap<Pair, u64>)>,
}

impl ProfileModel {
    pub fn undecided(&self) -> impl Iterator<Item = (&u64, &Entry)> {
        self.durable.iter().filter(|(id, _)| !self.decided.contains_key(id))
    }

    /// Where an entry stands in the order of writing: what a restored server lost, where it first stood.
    pub(super) fn place(&self, id: u64) -> u64 {
        self.durable.get(&id).and_then(|entry| entry.place).map_or(id, |place| place.get())
    }

    /// The create of what this mutation refers to, written before it, and neither decided nor `earlier` in its batch.
    pub(super) fn parent_left(&self, mutation: &Mutation<Object>, first: u64, earlier: &BTreeSet<u64>) -> Option<u64> {
        let parent = said(&mutation.set).remove(PARENT)?;
        let makes = |entry: &Entry| {
            let parent = parent.trim_matches('"');
            entry.op == Op::Create && entry.collection.0 == "tasks" && entry.id.as_str() == parent
        };
        let place = self.place(first);
        let left = |id: u64| !self.decided.contains_key(&id) && !earlier.contains(&id) && self.place(id) < place;
        self.durable.iter().find(|(id, entry)| makes(entry) && left(**id)).map(|(id, _)| *id)
    }
}

impl Model {
    /// A user may see no more of a scope, which is at this position.
    pub fn revoked(&mut self, user: &str, scope: &Scope, head: u64) {
        for profile in self.profiles.iter_mut().filter(|profile| profile.user == user) {
            profile.hidden.insert(scope.clone(), head);
        }
    }

    /// A write's promise resolved with this entry.
    pub fn acknowledged(&mut self, profile: usize, entry: u64) {
        let tick = self.tick();
        let known = &mut self.profiles[profile];
        if !known.durable.contains_key(&entry) {
            self.violate("L1", || format!("entry {entry} was acknowledged and is not stored"));
            return;
        }
        known.acked.insert(entry, tick);
    }

    /// A write's promise rejected; these values are its own.
    pub fn refused(&mut self, profile: usize, values: impl Iterator<Item = String>) {
        for value in values {
            let known = &mut self.profiles[profile];
            let is_stored = |entry: &Entry| said(&entry.set).values().any(|stored| *stored == value);
            let stored = known.durable.iter().find(|(_, entry)| is_stored(entry)).map(|(id, _)| *id);
            known.rejected.insert(value.clone());
            if let Some(id) = stored {
                self.violate("L3", || format!("the write of {value} was refused and is stored as entry {id}"));
            }
        }
    }

    /// The disk lost what relaxed transactions wrote: what of the log is still there says what is durable.
    pub fn power_cut(&mut self, profile: usize, log_keys: &BTreeSet<u64>, acked_keys: &BTreeSet<String>) {
        let known = &mut self.profiles[profile];
        known.seen_base = None;
        known.decided.retain(|_, (key, _)| acked_keys.contains(key));
        let gone: Vec<u64> = known
            .durable
            .keys()
            .filter(|id| !log_keys.contains(&(*id / landfall_protocol::EntryId::PER_ROW)))
            .filter(|id| !known.decided.contains_key(id))
            .copied()
            .collect();
        for id in gone {
            known.durable.remove(&id);
            known.acked.remove(&id);
        }
    }
}
