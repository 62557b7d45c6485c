//! Parents and children at the server: no child without its parent, and what a delete takes along.

use super::{Model, Plain, StateAt, Verdict};
use crate::server::unique::hour_of;
use crate::world::{OnDelete, PARENT};
use landfall_protocol::{CollectionName, Mutation, Op, Pair, RecordKey, Scope};
use std::collections::BTreeSet;

/// A child that went with its parent: its record and version.
pub struct Cascaded {
    pub key: RecordKey,
    pub version: u64,
    pub stamp: String,
}

impl Model {
    /// Of tasks that are known by a key there is one for each (DESIGN section 6).
    pub(super) fn check_key(&mut self, key: &RecordKey, fields: Option<&Plain>) {
        let Some(fields) = fields.filter(|_| self.is_unique && key.collection.as_str() == "tasks") else { return };
        let own = fields.get("k").map(|key| same_key(key));
        let records = self.truth.states.get(&key.pair()).into_iter().flatten();
        let live = |states: &[StateAt]| {
            states.last().and_then(|state| state.fields.as_ref()).and_then(|it| it.get("k")).map(|key| same_key(key))
                == own
        };
        let other = records.filter(|(id, _)| **id != key.id).find(|(_, states)| live(states));
        let other = other.map(|(id, _)| id.clone());
        if own.is_none() || other.is_some() {
            self.violate("C1", || format!("{key:?} and {other:?} are both {own:?}"));
        }
    }

    /// C1: who refers to what. Called before the verdict's own effect is known here.
    pub(super) fn check_family(&mut self, verdict: &Verdict<'_>, mutation: &Mutation) {
        if self.on_delete == OnDelete::Nothing {
            return;
        }
        let code = verdict.outcome.code.as_deref().unwrap_or_default();
        if code == "has_children" {
            self.kinds.insert("has_children");
        }
        let effect = verdict.effect.as_ref().map(|(_, _, fields)| fields);
        // What a group did before it was undone is not known here.
        let alone = mutation.group.is_none();
        let is_there = |model: &Self, id: &str| {
            let key = RecordKey::new(mutation.scope.as_str(), "tasks", id);
            model.truth.states_of(&key).last().is_some_and(|state| state.fields.is_some())
        };
        let wrong = match (mutation.collection.as_str(), mutation.op, effect) {
            ("stock", _, Some(Some(fields))) => parent_of(fields)
                .filter(|id| !is_there(self, id))
                .map(|id| format!("is a child of {id}, which is not there")),
            ("stock", _, None) if code == "missing_parent" && alone => {
                let named = super::plain(&mutation.set);
                let before = self.truth.states_of(&mutation.key()).iter().rev().find_map(|state| state.fields.as_ref());
                let id = parent_of(&named).or_else(|| before.and_then(parent_of));
                id.filter(|id| is_there(self, id)).map(|id| format!("was refused for want of {id}, which is there"))
            }
            ("tasks", Op::Delete, Some(None)) => {
                let children = self.children(&mutation.scope, mutation.id.as_str());
                let gone: BTreeSet<RecordKey> = verdict.cascaded.iter().map(|it| it.key.clone()).collect();
                let wanted = if self.on_delete == OnDelete::Cascade { children.clone() } else { BTreeSet::new() };
                let fits = wanted == gone && (children.is_empty() || self.on_delete == OnDelete::Cascade);
                (!fits).then(|| format!("was deleted with {gone:?} and its children are {children:?}"))
            }
            ("tasks", Op::Delete, None) if code == "has_children" && alone => {
                let children = self.children(&mutation.scope, mutation.id.as_str());
                (children.is_empty() || self.on_delete == OnDelete::Cascade)
                    .then(|| format!("was kept for its children, which are {children:?}"))
            }
            _ => None,
        };
        if let Some(text) = wrong {
            self.violate("C1", || format!("{:?} {text}", mutation.key()));
        }
    }

    /// Live records that refer to this one.
    fn children(&self, scope: &Scope, id: &str) -> BTreeSet<RecordKey> {
        let pair = Pair(scope.clone(), CollectionName::from("stock"));
        let records = self.truth.states.get(&pair).into_iter().flatten();
        let refers = |states: &[StateAt]| {
            let fields = states.last().and_then(|state| state.fields.as_ref());
            fields.and_then(parent_of).is_some_and(|parent| parent == id)
        };
        let found = records.filter(|(_, states)| refers(states));
        found.map(|(id, _)| RecordKey { scope: scope.clone(), collection: pair.1.clone(), id: id.clone() }).collect()
    }

    /// Children that went with what this verdict deleted.
    pub(super) fn cascaded(&mut self, verdict: &Verdict<'_>, mutation: &Mutation, position: u64) {
        for child in verdict.cascaded {
            self.kinds.insert("cascade");
            let before = self.truth.states_of(&child.key).last().cloned();
            let current = before.as_ref().map_or(0, |state| state.version);
            let state = StateAt {
                position,
                version: child.version,
                fields: None,
                profile: usize::MAX,
                life: 0,
                client: verdict.client.to_owned(),
                seq: mutation.seq.get(),
                is_manager: before.is_some_and(|state| state.is_manager),
                is_indirect: true,
                stamp: child.stamp.clone(),
                is_create: false,
                entry: 0,
            };
            self.state(&child.key, state);
            if child.version <= current {
                self.violate("R5", || format!("{:?} went from version {current} to {}", child.key, child.version));
            }
        }
    }
}

/// What two keys have in common that are the same: text, or the point in time.
fn same_key(key: &str) -> String {
    hour_of(key).map_or_else(|| key.to_owned(), |hour| format!("hour {hour}"))
}

fn parent_of(fields: &Plain) -> Option<String> {
    fields.get(PARENT).map(|id| id.trim_matches('"').to_owned())
}
