//! Whose values were undone by somebody who had not seen them, and whether they are told (C2).

use super::{Model, Plain, StateAt, Verdict};
use landfall_core::review::CONFLICTS;
use landfall_protocol::{Mutation, RecordKey};
use landfall_storage::{RowKind, decode};
use std::collections::BTreeMap;

impl Model {
    /// Before an effect: what it takes away of what its writer had not seen.
    pub(super) fn losses(
        &mut self,
        verdict: &Verdict<'_>,
        mutation: &Mutation,
        stands: u64,
        position: u64,
        fields: Option<&Plain>,
    ) {
        let key = mutation.key();
        let states = self.truth.known_of(&key);
        let is_lost = |state: &StateAt| state.version > stands && state.client != verdict.client && !state.is_indirect;
        let Some(last) = states.last().filter(|last| last.version > stands && key.collection.as_str() != CONFLICTS)
        else {
            return;
        };
        let mut losers: Vec<usize> = Vec::new();
        if last.fields.is_none() {
            losers.extend(is_lost(last).then_some(last.profile));
        } else {
            // Who made each field what it is.
            let mut makers: BTreeMap<&String, &StateAt> = BTreeMap::new();
            let mut before = &Plain::new();
            let none = Plain::new();
            let mut was_deleted = false;
            for state in states {
                let Some(after) = &state.fields else {
                    was_deleted = true;
                    continue;
                };
                if was_deleted && state.is_create {
                    // Made anew: nothing of its former life.
                    before = &none;
                    makers.clear();
                }
                was_deleted = false;
                let names = after.keys().chain(before.keys());
                makers.extend(names.filter(|name| after.get(*name) != before.get(*name)).map(|name| (name, state)));
                before = after;
            }
            let there = last.fields.as_ref().unwrap_or(&none);
            // A field that was cleared is cleared, too, in a record that is gone.
            let value = |fields: &Plain, name: &String| fields.get(name).filter(|value| *value != "null").cloned();
            let gone = |name: &String| value(fields.unwrap_or(&none), name) != value(there, name);
            losers.extend(
                makers.iter().filter(|(name, maker)| gone(name) && is_lost(maker)).map(|(_, maker)| maker.profile),
            );
        }
        for profile in losers.into_iter().filter(|profile| *profile != usize::MAX) {
            let user = self.profiles[profile].user.clone();
            self.truth.losses.insert((user, key.clone(), position, verdict.profile));
        }
    }

    /// A cursor that leads over a loss is stored no sooner than the row that tells it.
    pub(super) fn cursor_stored(&mut self, profile: usize, row: &str) {
        let known = &self.profiles[profile];
        let row_of = |key: &RecordKey, position: u64| {
            format!("conflict/~{position:016}/{}/{}/{}", key.scope, key.collection, key.id.as_str())
        };
        // Mostly nobody has anything to be told, and the row need not be taken apart.
        let is_open = |(user, key, position, by): &(String, RecordKey, u64, usize)| {
            *user == known.user && *by != profile && !known.told.contains(&row_of(key, *position))
        };
        if !self.truth.losses.iter().any(is_open) {
            return;
        }
        let manifest = decode::<landfall_storage::Manifest>(RowKind::Manifest, row).ok();
        let Some(cursor) = manifest.and_then(|manifest| manifest.cursor) else { return };
        let Ok(cursor) = serde_json::from_str::<serde_json::Value>(&cursor) else { return };
        let leads_over = |(_, key, position, _): &&(String, RecordKey, u64, usize)| {
            let scope = &cursor["scopes"][key.scope.as_str()];
            scope["position"].as_u64().is_some_and(|through| *position <= through)
                && !scope["pairs"][key.collection.as_str()].is_null()
        };
        let untold = self.truth.losses.iter().filter(|loss| is_open(loss)).find(leads_over).cloned();
        if let Some((user, key, position, _)) = untold.filter(|_| !known.is_tainted && !known.is_torn) {
            self.violate("C2", || format!("{user} lost {key:?} at {position} and is not told"));
        }
    }
}
