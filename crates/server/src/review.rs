//! Conflicts that wait for a role: their rows in `_conflicts`, and a decision in the transaction that carries it out.

use crate::error::ServerError;
use crate::push::{Decided, Judge};
use crate::store::StoreError;
use landfall_core::authority::Stored;
use landfall_core::review::{CONFLICTS, Decision, Reviewer, decide, record_key, row, row_key};
use landfall_protocol::{Fields, Mutation, Object, Outcome, RecordKey, RejectCode, ResultStatus, Version};

type Judged<T> = Result<T, ServerError>;

/// True for a mutation of a row of conflicts.
pub fn is_decision(mutation: &Mutation) -> bool {
    mutation.collection.as_str() == CONFLICTS
}

impl Judge<'_> {
    /// Writes down what waits for `role`.
    pub(crate) fn open_review(&mut self, mutation: &Mutation, outcome: &Outcome, role: &str) -> Judged<()> {
        let key = row_key(&mutation.scope, &self.writer, mutation);
        let fields = row(mutation, outcome, role, &self.push.identity.sub, self.push.now);
        self.write_row(&key, None, fields, mutation)?;
        Ok(())
    }

    /// A reviewer's word: the row and the record change together, or neither does.
    pub(crate) fn decide_review(&mut self, mutation: &Mutation) -> Judged<Decided> {
        let (sub, roles) = (&self.push.identity.sub, &self.push.identity.roles);
        if !self.collections.may_review(&mutation.scope, roles) {
            let text = "You may not decide this.";
            return Ok(Outcome::rejected(mutation.seq, RejectCode::FORBIDDEN, text).into());
        }
        let found = self.db.record(&mutation.key())?.map(|row| row.stored);
        let about = found.as_ref().and_then(|row| record_key(row, &mutation.scope));
        let record = about.map(|key| self.db.record(&key)).transpose()?.flatten().map(|row| row.stored);
        let by = Reviewer { sub, roles, at: self.push.now };
        match decide(found.as_ref(), record.as_ref(), by, mutation) {
            Decision::Refused(outcome) => Ok(self.placed(mutation, *outcome).into()),
            Decision::Decided { row, change } => {
                let mut decided = Decided::from(Outcome::new(mutation.seq, ResultStatus::Applied));
                if let Some(change) = change {
                    decided = self.judge_allowed(&change)?;
                    if !decided.outcome.took_effect() {
                        return Ok(decided);
                    }
                }
                let shown = Object::of(&row);
                let version = self.write_row(&mutation.key(), found.as_ref(), row, mutation)?;
                let mut outcome = Outcome::new(mutation.seq, ResultStatus::Applied);
                outcome.version = Some(version);
                outcome.record = Some(shown);
                Ok(Decided { outcome: self.placed(mutation, outcome), ..decided })
            }
        }
    }

    fn write_row(
        &mut self,
        key: &RecordKey,
        before: Option<&Stored>,
        fields: Fields,
        mutation: &Mutation,
    ) -> Judged<Version> {
        let Some(run) = &mut self.run else { return Err(StoreError::Corrupt("BUG: no scope was entered").into()) };
        let floor = run.version_floor();
        let version = before.map_or(floor, |stored| stored.version.max(floor)).next();
        let stored = Stored {
            version,
            fields,
            deleted: false,
            stamp: mutation.stamp.clone(),
            client: self.push.request.client_id.clone(),
            seq: mutation.seq,
            role: String::new(),
            marks: None,
        };
        let live_before = before.map(|stored| stored.version);
        run.write(self.db, key, &stored, live_before, &self.push.identity.sub, self.push.now)?;
        Ok(version)
    }
}
