//! What the authority is not asked about: permission, size, schema, scope template and times.

use super::Judge;
use crate::collections::Collection;
use crate::mutation::record_bytes;
use crate::review::is_decision;
use crate::rules::Write;
use landfall_core::authority::Stored;
use landfall_core::policy::nanos;
use landfall_protocol::limits::{NOT_FUTURE_MS, RECORD_BYTES_MAX};
use landfall_protocol::{Mutation, Op, Outcome, RejectCode};

impl Judge<'_> {
    /// Permission: "not yours" and "not there" are one answer.
    pub(super) fn not_allowed(&self, mutation: &Mutation) -> Option<Outcome> {
        let refuse = |code: &str, message: &str| Some(Outcome::rejected(mutation.seq, code, message));
        if !self.push.identity.holds(&mutation.scope) {
            return refuse(RejectCode::FORBIDDEN, "You have no access to this.");
        }
        if is_decision(mutation) {
            return None;
        }
        let Some(collection) = self.collections.get(&mutation.collection) else {
            return refuse(RejectCode::UNKNOWN_COLLECTION, "The server does not know this collection.");
        };
        if !collection.template.fits(&mutation.scope) || !collection.may_write(&self.push.identity.roles) {
            return refuse(RejectCode::FORBIDDEN, "You may not write this collection here.");
        }
        None
    }

    /// Size, schema and scope template of what would be stored.
    pub(super) fn not_valid(&self, mutation: &Mutation, stored: &Stored) -> Option<Outcome> {
        if mutation.op == Op::Delete {
            return None;
        }
        let collection = self.collections.get(&mutation.collection)?;
        if record_bytes(&stored.fields) > RECORD_BYTES_MAX {
            return Some(Outcome::rejected(mutation.seq, RejectCode::TOO_LARGE, "The record is larger than 256 KB."));
        }
        if let Some(outcome) = self.in_future(mutation, collection) {
            return Some(outcome);
        }
        let (code, message, fields) = match collection.template.mismatches(&mutation.scope, &stored.fields) {
            wrong if !wrong.is_empty() && mutation.op == Op::Update => {
                (RejectCode::IMMUTABLE, "These values say whose the record is and cannot change.", wrong)
            }
            wrong if !wrong.is_empty() => (RejectCode::VALIDATION, "Some values are not valid.", wrong),
            _ => {
                let identity = &self.push.identity;
                let mut wrong = collection.refusals(&stored.fields, &identity.scopes);
                if wrong.is_empty() {
                    wrong = self.collections.broken_rules(&Write {
                        user: &identity.sub,
                        roles: &identity.roles,
                        scope: &mutation.scope,
                        collection: &mutation.collection,
                        id: &mutation.id,
                        fields: &stored.fields,
                    });
                }
                (RejectCode::VALIDATION, "Some values are not valid.", wrong)
            }
        };
        (!fields.is_empty())
            .then(|| Outcome { fields: fields.into_iter().collect(), ..Outcome::rejected(mutation.seq, code, message) })
    }

    /// Only declared fields are refused for their time, and only when this mutation says it.
    fn in_future(&self, mutation: &Mutation, collection: &Collection) -> Option<Outcome> {
        let limit = i128::from(self.push.now.get() + NOT_FUTURE_MS) * 1_000_000;
        let text = "This time lies in the future. Is the clock of the device right?";
        let mut outcome = Outcome::rejected(mutation.seq, RejectCode::NOT_FUTURE, text);
        for name in &collection.not_future {
            if mutation.set.get(name).and_then(nanos).is_some_and(|time| time > limit) {
                outcome.fields.insert(name.clone(), "lies in the future".to_owned());
            }
        }
        (!outcome.fields.is_empty()).then_some(outcome)
    }
}
