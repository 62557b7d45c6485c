//! Conflicts that wait for a role: their rows in `_conflicts`, a decision in the transaction that carries it out, and what
//! becomes of the row in the end.

use crate::error::ServerError;
use crate::push::{Decided, Judge};
use crate::run::Run;
use crate::store::{Retention, Store, StoreError, StoreResult, Transaction};
use landfall_core::authority::{Loss, Stored};
use landfall_core::review::{CONFLICTS, Decision, Reviewer, decide, is_over, losses, record_key, row, row_key};
use landfall_protocol::{
    ClientId, CollectionName, Fields, Mutation, Object, Outcome, RecordId, RecordKey, RejectCode, ResultStatus, Scope,
    Seq, UnixMillis, Version,
};
use std::collections::BTreeMap;

type Judged<T> = Result<T, ServerError>;

/// Rows that end in one write job. They share a position, and a page of a pull holds them all.
const END_COUNT_MAX: usize = 200;

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
        let record = about.as_ref().map(|key| self.db.record(key)).transpose()?.flatten();
        let (record, last_sub) = record.map(|row| (row.stored, row.sub)).unzip();
        let by = Reviewer { sub, roles, at: self.push.now };
        match decide(found.as_ref(), record.as_ref(), by, mutation) {
            Decision::Refused(outcome) => Ok(self.placed(mutation, *outcome).into()),
            Decision::Decided { row, change } => {
                let known = record.as_ref().zip(last_sub.as_deref());
                let losses = found.as_ref().map(|row| losses(row, known, change.as_deref())).unwrap_or_default();
                let mut decided = Decided::from(Outcome::new(mutation.seq, ResultStatus::Applied));
                if let Some(change) = change {
                    decided = self.judge_allowed(&change)?;
                    if !decided.outcome.took_effect() {
                        return Ok(decided);
                    }
                }
                let shown = Object::of(&row);
                let version = self.write_row(&mutation.key(), found.as_ref(), row, mutation)?;
                for Loss { writer, op, fields } in losses {
                    let writer = writer.filter(|writer| *writer != self.push.identity.sub);
                    if let Some((key, writer)) = about.as_ref().zip(writer) {
                        self.tell(&writer, key, op, fields, "reviewed")?;
                    }
                }
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

/// Ends the rows that were decided longer ago than such things are kept: tombstones, which replicas pull like any other.
pub async fn end_decided<S: Store>(store: &S, retention: &Retention, now: UnixMillis) -> StoreResult<()> {
    let kept = retention.clone();
    let over = store.read::<_, StoreError, _>(move |db| {
        let mut over: BTreeMap<Scope, Vec<RecordId>> = BTreeMap::new();
        db.each_record(&CollectionName::from(CONFLICTS), &mut |scope, id, text| {
            // One that can't be read is not known to be decided.
            let fields: Fields = serde_json::from_str(text).unwrap_or_default();
            if is_over(&fields, kept.decided_since(&scope, now)) {
                over.entry(scope).or_default().push(id);
            }
        })?;
        Ok(over)
    });
    for (scope, ids) in over.await? {
        for ids in ids.chunks(END_COUNT_MAX) {
            let (scope, ids) = (scope.clone(), ids.to_vec());
            store.write::<_, StoreError, _>(move |db| end_rows(db, &scope, &ids, now)).await?;
        }
    }
    Ok(())
}

/// No row comes back from its decision, so what was over when it was looked for still is.
fn end_rows(db: &dyn Transaction, scope: &Scope, ids: &[RecordId], now: UnixMillis) -> StoreResult<()> {
    let mut run = Run::start(db, scope)?;
    for id in ids {
        let key = RecordKey { scope: scope.clone(), collection: CollectionName::from(CONFLICTS), id: id.clone() };
        let Some(before) = db.record(&key)?.map(|row| row.stored).filter(|stored| !stored.deleted) else { continue };
        let stored = Stored {
            version: before.version.max(run.version_floor()).next(),
            fields: Fields::new(),
            deleted: true,
            // Nobody's mutation.
            client: ClientId::default(),
            seq: Seq::ZERO,
            ..before
        };
        run.write(db, &key, &stored, Some(before.version), "", now)?;
    }
    run.end(db)?;
    Ok(())
}
