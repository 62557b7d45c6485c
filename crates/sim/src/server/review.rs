//! Conflicts that wait for a role, and people with that role who decide some of them, now and then one a second time.

use super::push::{Effect, Push};
use crate::model::plain;
use crate::policy::MANAGER;
use crate::world::OnDelete;
use landfall_core::authority::{Situation, Stored, decide as judge};
use landfall_core::policy::Policy;
use landfall_core::review::{CONFLICTS, Decision, Reviewer, decide, record_key, row, row_key};
use landfall_protocol::{
    ClientId, CollectionName, Fields, Json, Mutation, Object, Op, Outcome, Position, RecordKey, ResultStatus, Scope,
    Seq, Stamp, UnixMillis, Version,
};
use std::collections::BTreeSet;

impl Push<'_> {
    pub(super) fn open_review(&mut self, mutation: &Mutation, outcome: &Outcome, role: &str) {
        let writer = format!("{} {}", self.client.0, self.client.1);
        let key = row_key(&mutation.scope, &writer, mutation);
        let fields = row(mutation, outcome, role, &self.client.0, UnixMillis(self.now));
        let position = self.take_position();
        self.write_row(&key, fields, &mutation.stamp, position);
    }

    fn write_row(&mut self, key: &RecordKey, fields: Fields, stamp: &Stamp, position: u64) {
        let version = self.stored(key).map_or(Version::ZERO, |stored| stored.version).next();
        let (client, stamp) = (ClientId::from("review"), stamp.clone());
        let stored =
            Stored { version, fields, deleted: false, stamp, client, seq: Seq::ZERO, role: String::new(), marks: None };
        self.server.model.borrow_mut().row_written(key, position, &stored);
        self.write(key, &stored, position);
    }

    /// Somebody with the role decides on a device of his: row and record change together, or neither does.
    pub(super) fn judge_decision(&mut self, mutation: &Mutation) -> (Outcome, Effect) {
        let row = self.stored(&mutation.key());
        let about = row.as_ref().and_then(|row| record_key(row, &mutation.scope));
        let record = about.as_ref().and_then(|about| self.stored(about));
        let roles = if self.is_manager(mutation) { BTreeSet::from([MANAGER.to_owned()]) } else { BTreeSet::new() };
        let user = self.client.0.clone();
        let by = Reviewer { sub: &user, roles: &roles, at: UnixMillis(self.now) };
        let (after, change) = match decide(row.as_ref(), record.as_ref(), by, mutation) {
            Decision::Refused(outcome) => return (self.placed(mutation, *outcome), None),
            Decision::Decided { row, change } => (row, change),
        };
        let mut written = None;
        if let (Some(about), Some(change)) = (about.as_ref(), &change) {
            let verdict = self.with_situation(change, record.as_ref(), None, |situation| judge(situation, change));
            if let Some(effect) = verdict.effect {
                let refused = self.family_refusal(change, record.as_ref(), &effect.stored);
                if let Some(refused) = refused.or_else(|| self.key_refusal(change, record.as_ref(), &effect.stored)) {
                    return (self.placed(mutation, refused), None);
                }
                let position = self.take_position();
                self.cascade(change, &effect.stored, position);
                self.write(about, &effect.stored, position);
                let fields = (!effect.stored.deleted).then(|| plain(&effect.stored.fields));
                written = Some((position, effect.stored.version.get(), fields, effect.stored.stamp.0));
            }
        }
        let position = self.take_position();
        let floor = self.server.data.scopes.get(&mutation.scope).map_or(0, |scope| scope.version_floor);
        let (client, stamp) = (self.client.1.clone(), mutation.stamp.clone());
        let version = row.map_or(Version::ZERO, |row| row.version).max(Version(floor)).next();
        let mut outcome = Outcome::new(mutation.seq, ResultStatus::Applied);
        (outcome.version, outcome.record) = (Some(version), Some(Object::of(&after)));
        let outcome = self.placed(mutation, outcome);
        if let Some(about) = &about {
            let (stamp, by) = (written.as_ref().map_or("", |it| &it.3), (client.as_str(), mutation.seq.get()));
            let effect = written.as_ref().map(|(position, version, fields, _)| (*position, *version, fields.clone()));
            self.server.model.borrow_mut().reviewed(mutation.id.as_str(), about, effect, stamp, by);
        }
        let (seq, role, fields) = (mutation.seq, String::new(), after);
        let stored = Stored { version, fields, deleted: false, stamp, client, seq, role, marks: None };
        (outcome, Some((mutation.key(), stored, position)))
    }

    /// Somebody looks at what waits, in a transaction of its own after this push.
    pub(super) fn review_some(&mut self) {
        let Some(rng) = self.server.reviews.clone() else { return };
        let is_row = |name: &CollectionName| name.as_str() == CONFLICTS;
        let rows: Vec<(Scope, RecordKey)> = self
            .server
            .data
            .scopes
            .iter()
            .flat_map(|(scope, data)| {
                let rows = data.records.iter().filter(|(name, _)| is_row(name));
                rows.flat_map(move |(name, rows)| rows.keys().map(move |id| (scope, name, id)))
            })
            .map(|(scope, collection, id)| {
                let key = RecordKey { scope: scope.clone(), collection: collection.clone(), id: id.clone() };
                (scope.clone(), key)
            })
            .collect();
        // No chance is drawn where nothing waits: other histories stay what they were.
        if rows.is_empty() || !rng.chance(1, 3) {
            return;
        }
        let Some((scope, key)) = rows.get(rng.index(rows.len())) else { return };
        let said = *["local", "server", "merged"].get(rng.index(3)).unwrap_or(&"server");
        self.decide_one(scope, key, said);
    }

    fn decide_one(&mut self, scope: &Scope, key: &RecordKey, said: &str) {
        let row = self.stored(key);
        let Some(about) = row.as_ref().and_then(|row| record_key(row, scope)) else { return };
        let record = self.stored(&about);
        let mut set = Fields::new();
        set.insert("decision".to_owned(), Json::string(said));
        let merged = Json::parse(r#"{"a":"reviewed"}"#).unwrap_or_else(|_| Json::null());
        set.insert("merged".to_owned(), merged);
        let stamp = Stamp::new(self.now, 0, "review");
        let mutation = Mutation {
            seq: Seq(1),
            scope: scope.clone(),
            collection: key.collection.clone(),
            id: key.id.clone(),
            op: Op::Update,
            set,
            unset: Vec::new(),
            base: Some(Version(1)),
            after: None,
            prev: Fields::new(),
            stamp: stamp.clone(),
            group: None,
            origin: None,
        };
        let roles = BTreeSet::from([MANAGER.to_owned()]);
        let by = Reviewer { sub: "boss", roles: &roles, at: UnixMillis(self.now) };
        let Decision::Decided { row: after, change } = decide(row.as_ref(), record.as_ref(), by, &mutation) else {
            return;
        };
        let data = self.server.data.scopes.entry(scope.clone()).or_default();
        let (position, floor) = (data.position + 1, data.version_floor);
        let mut effect = None;
        if let Some(change) = change {
            let standard = Policy::default();
            let verdict = judge(
                &Situation {
                    policy: self.server.policies.get(&about.collection).unwrap_or(&standard),
                    stored: record.as_ref(),
                    version_floor: Version(floor),
                    client: &ClientId::from("review"),
                    writer: "boss review",
                    roles: &roles,
                    after: None,
                    after_base: Version::ZERO,
                    position: Position(position),
                    stamp: &stamp,
                },
                &change,
            );
            if let Some(written) = verdict.effect {
                let stored = written.stored;
                // What may not be, or would take others along, stays undecided.
                let takes_others = stored.deleted && !self.children(&change).is_empty();
                let keeps_rules = self.server.on_delete == OnDelete::Nothing
                    || (!takes_others && self.family_refusal(&change, record.as_ref(), &stored).is_none());
                if !keeps_rules {
                    return;
                }
                self.write(&about, &stored, position);
                let fields = (!stored.deleted).then(|| plain(&stored.fields));
                effect = Some((position, stored.version.get(), fields, stored.stamp.0));
            }
        }
        self.server.data.scopes.entry(scope.clone()).or_default().position = position;
        self.write_row(key, after, &stamp, position);
        let written = effect.as_ref().map(|(position, version, fields, _)| (*position, *version, fields.clone()));
        let stamp = effect.map_or_else(String::new, |(.., stamp)| stamp);
        self.server.model.borrow_mut().reviewed(key.id.as_str(), &about, written, &stamp, ("review", 0));
    }
}
