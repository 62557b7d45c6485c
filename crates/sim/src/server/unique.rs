//! Tasks that are known by a key: their id follows from it, and neither changes.

use super::push::Push;
use landfall_core::authority::Stored;
use landfall_core::derive::{KeyField, KeyType, derived_id, key_text};
use landfall_protocol::{CollectionName, Fields, Mutation, Op, Outcome, RecordId, RejectCode, Scope};

/// The field that tells tasks from each other.
pub const KEY: &str = "k";

/// The id of the task with these fields; `None`: it has no key.
pub fn id_of(scope: &Scope, fields: &Fields) -> Option<RecordId> {
    let key = [KeyField { name: KEY.to_owned(), kind: KeyType::Text }];
    key_text(scope, &CollectionName::from("tasks"), &key, fields, &str::to_owned).ok().map(|text| derived_id(&text))
}

impl Push<'_> {
    pub(super) fn key_refusal(&self, mutation: &Mutation, before: Option<&Stored>, after: &Stored) -> Option<Outcome> {
        if !self.server.is_unique || mutation.collection.as_str() != "tasks" || after.deleted {
            return None;
        }
        let refuse = |code: &str| Some(Outcome::rejected(mutation.seq, code, "It is told from others by this."));
        let before = before.filter(|before| !before.deleted);
        match (id_of(&mutation.scope, &after.fields), before) {
            (None, _) => refuse(RejectCode::VALIDATION),
            (Some(_), Some(before)) if before.fields.get(KEY) != after.fields.get(KEY) => refuse(RejectCode::IMMUTABLE),
            (Some(id), _) if mutation.op == Op::Create && id != mutation.id => refuse(RejectCode::ID_MISMATCH),
            (Some(_), _) => None,
        }
    }
}
