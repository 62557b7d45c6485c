//! One mutation: what it stands on, what the authority says of it, and its effect in the run of its scope.

use super::{Decided, Judge, Judged};
use crate::links;
use crate::mutation::{Content, Element};
use crate::review::is_decision;
use crate::run::Run;
use crate::store::{RecordRow, StoreError};
use landfall_core::authority::{Situation, Stored, Verdict, blocked, decide};
use landfall_core::policy::Policy;
use landfall_protocol::limits::HLC_AHEAD_MS_MAX;
use landfall_protocol::{
    ClientId, Fields, Mutation, Op, Outcome, Overruled, RecordKey, RejectCode, ResultStatus, Scope, Seq, Version,
};

impl Judge<'_> {
    /// Judges one new element and writes its effect.
    pub(super) fn judge(&mut self, element: &Element) -> Judged<Decided> {
        let mutation = match &element.content {
            Content::Mutation(mutation) => mutation,
            Content::Refused { outcome, .. } => return Ok((**outcome).clone().into()),
            Content::Void => {
                let text = "It was taken back before it arrived.";
                return Ok(Outcome::rejected(element.seq, RejectCode::VOID, text).into());
            }
        };
        if let Some(outcome) = self.not_allowed(mutation) {
            return Ok(outcome.into());
        }
        self.enter(&mutation.scope)?;
        if is_decision(mutation) { self.decide_review(mutation) } else { self.judge_allowed(mutation) }
    }

    /// Judges a mutation that its user may make, and writes its effect into the run.
    pub(crate) fn judge_allowed(&mut self, mutation: &Mutation) -> Judged<Decided> {
        let found = self.db.record(&mutation.key())?;
        let last_sub = found.as_ref().map(|row| row.sub.clone()).unwrap_or_default();
        let before = found.map(|row| self.seen(row));
        let stored = before.as_ref();
        let verdict = self.with_situation(mutation, stored, |situation| decide(situation, mutation))?;
        let base = self.base_of(mutation)?;
        if let Some(role) = &verdict.reviewer {
            self.open_review(mutation, &verdict.outcome, role)?;
        }
        let Some(effect) = verdict.effect else {
            let outcome = self.placed(mutation, verdict.outcome);
            return Ok(Decided { base, ..outcome.into() });
        };
        let mut refused = self.not_valid(mutation, &effect.stored);
        if refused.is_none() && !effect.stored.deleted {
            let fields = &effect.stored.fields;
            refused = links::refusal(self.db, &self.push.identity, self.collections, mutation, stored, fields)?;
        }
        if let Some(refused) = refused {
            return Ok(self.placed(mutation, refused).into());
        }
        if effect.stored.deleted && links::is_parent(self.collections, &mutation.collection) {
            match links::cascade(self.db, self.collections, mutation)? {
                Err(refused) => return Ok(self.placed(mutation, *refused).into()),
                Ok(children) => {
                    for key in children {
                        self.delete_child(&key, &effect.stored)?;
                    }
                }
            }
        }
        let live_before = stored.filter(|stored| !stored.deleted).map(|stored| stored.version);
        self.write(&mutation.key(), &effect.stored, live_before)?;
        for loss in verdict.overruled {
            // User and client, as `writer` is put together.
            let sub =
                loss.writer.as_deref().and_then(|writer| writer.rsplit_once(' ')).map_or(last_sub.as_str(), |it| it.0);
            self.tell(sub, &mutation.key(), loss.op, loss.fields, "overruled")?;
        }
        let outcome = self.placed(mutation, verdict.outcome);
        Ok(Decided { outcome, base, overwritten: verdict.overwritten })
    }

    fn write(&mut self, key: &RecordKey, stored: &Stored, live_before: Option<Version>) -> Judged<()> {
        let Some(run) = &mut self.run else { return Err(StoreError::Corrupt("BUG: no scope was entered").into()) };
        run.write(self.db, key, stored, live_before, &self.push.identity.sub, self.push.now)?;
        let collection = self.collections.get(&key.collection);
        if let Some(collection) = collection.filter(|known| known.unique.len() > 1 || !known.references.is_empty()) {
            let links = if stored.deleted { Vec::new() } else { links::links(key, collection, &stored.fields) };
            self.db.put_links(key, &links)?;
        }
        Ok(())
    }

    /// A record that goes with its parent.
    fn delete_child(&mut self, key: &RecordKey, parent: &Stored) -> Judged<()> {
        let Some(row) = self.db.record(key)? else { return Ok(()) };
        let before = row.stored.version;
        let floor = self.run.as_ref().map(Run::version_floor).unwrap_or_default();
        let stored = Stored {
            version: before.max(floor).next(),
            deleted: true,
            stamp: parent.stamp.clone().max(row.stored.stamp.clone()),
            client: parent.client.clone(),
            seq: parent.seq,
            ..row.stored
        };
        self.write(key, &stored, Some(before))
    }

    /// Makes `scope` the scope of the current run, with its counter locked.
    pub(super) fn enter(&mut self, scope: &Scope) -> Judged<()> {
        if self.run.as_ref().is_some_and(|run| run.scope == *scope) {
            return Ok(());
        }
        self.end_run()?;
        self.run = Some(Run::start(self.db, scope)?);
        Ok(())
    }

    pub(super) fn end_run(&mut self) -> Judged<()> {
        if let Some(run) = self.run.take() {
            self.heads.insert(run.scope.clone(), run.end(self.db)?);
        }
        Ok(())
    }

    /// Asks the authority.
    pub(super) fn with_situation(
        &self,
        mutation: &Mutation,
        stored: Option<&Stored>,
        ask: impl FnOnce(&Situation<'_>) -> Verdict,
    ) -> Judged<Verdict> {
        let after = mutation.after.map(|after| self.outcome_of(after, stored)).transpose()?.flatten();
        let stamp = mutation.stamp.clamped(self.push.now.get(), HLC_AHEAD_MS_MAX);
        let run = self.run.as_ref();
        let standard = Policy::default();
        Ok(ask(&Situation {
            policy: self.collections.get(&mutation.collection).map_or(&standard, |known| &known.policy),
            stored,
            version_floor: run.map(|run| run.version_floor()).unwrap_or_default(),
            client: self.client(),
            writer: &self.writer,
            roles: &self.push.identity.roles,
            after: after.as_ref(),
            after_base: self.base_of(mutation)?,
            position: run.map(Run::next).unwrap_or_default(),
            stamp: &stamp,
        }))
    }

    /// The record now, as this push's client may know it.
    pub(super) fn stored(&self, mutation: &Mutation) -> Judged<Option<Stored>> {
        Ok(self.db.record(&mutation.key())?.map(|row| self.seen(row)))
    }

    fn seen(&self, mut row: RecordRow) -> Stored {
        if row.sub != self.sub() {
            // Another user's client may bear the same id.
            row.stored.client = ClientId::default();
        }
        row.stored
    }

    /// Has `sub` told, with the page that brings what was written last, what they lost to it (C2).
    pub(crate) fn tell(&mut self, sub: &str, key: &RecordKey, op: Op, fields: Fields, code: &str) -> Judged<()> {
        let lost = Overruled {
            scope: key.scope.clone(),
            collection: key.collection.clone(),
            id: key.id.clone(),
            position: self.run.as_ref().map(Run::current).unwrap_or_default(),
            at: self.push.now,
            op,
            code: code.to_owned(),
            fields,
            record: None,
        };
        Ok(self.db.put_overruled(sub, (self.sub(), self.client()), &lost)?)
    }

    /// The version that a mutation stands on. Behind one without effect it is what that stood on, whichever push brought it:
    /// where a batch was cut must change nothing (C1).
    pub(super) fn base_of(&self, mutation: &Mutation) -> Judged<Version> {
        let after = match (mutation.base, mutation.after) {
            (Some(base), _) => return Ok(base),
            (None, None) => return Ok(Version::ZERO),
            (None, Some(after)) => after,
        };
        let left = |outcome: &Outcome, base| match outcome.took_effect() {
            true => outcome.version.unwrap_or_default(),
            false => base,
        };
        if let Some(before) = self.decided.get(&after) {
            return Ok(left(&before.outcome, before.base));
        }
        let found = self.db.outcome(self.sub(), self.client(), after)?;
        found.map_or(Ok(Version::ZERO), |found| Ok(left(&read_outcome(&found.text)?, found.base)))
    }

    /// The refusal of a group of which a member stands on something before the group that was refused.
    pub(super) fn blocked_in(&self, members: &[Element]) -> Judged<Option<Outcome>> {
        for member in members {
            let Content::Mutation(mutation) = &member.content else { continue };
            let Some(after) = mutation.after.filter(|after| members.iter().all(|other| other.seq != *after)) else {
                continue;
            };
            let given = self.outcome_of(after, self.stored(mutation)?.as_ref())?;
            if let Some(outcome) = blocked(mutation, given.as_ref()) {
                return Ok(Some(self.placed(mutation, outcome)));
            }
        }
        Ok(None)
    }

    /// The outcome of an earlier mutation of this client, as far as it is still known.
    fn outcome_of(&self, seq: Seq, stored: Option<&Stored>) -> Judged<Option<Outcome>> {
        if let Some(decided) = self.decided.get(&seq) {
            return Ok(Some(decided.outcome.clone()));
        }
        if let Some(found) = self.db.outcome(self.sub(), self.client(), seq)? {
            return Ok(Some(read_outcome(&found.text)?));
        }
        // Acknowledged and forgotten; that it was the last to write the record is still to be seen there.
        let last = stored.filter(|stored| stored.client == *self.client() && stored.seq == seq);
        Ok(last.map(|stored| {
            let mut outcome = Outcome::new(seq, ResultStatus::Applied);
            outcome.version = Some(stored.version);
            outcome
        }))
    }
}

fn read_outcome(text: &str) -> Judged<Outcome> {
    Ok(serde_json::from_str(text).map_err(|_| StoreError::Corrupt("an outcome is no JSON"))?)
}
