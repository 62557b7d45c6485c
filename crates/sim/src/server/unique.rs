//! Tasks that are known by a key: their id follows from it, and neither changes.

use super::push::Push;
use landfall_core::authority::Stored;
use landfall_core::derive::{KeyField, KeyType, derived_id, key_text};
use landfall_protocol::{CollectionName, Fields, Mutation, Op, Outcome, RecordId, RejectCode, Scope};

/// The field that tells tasks from each other.
pub const KEY: &str = "k";

/// The hour of a key that is a time, in UTC. Read without the engine's help.
pub fn hour_of(text: &str) -> Option<i64> {
    let text = text.trim_matches('"');
    let hour: i64 = text.get(11..13)?.parse().ok()?;
    let zone: i64 = text.get(19..22)?.parse().ok()?;
    Some(hour - zone)
}

/// The key of a record as a device in this zone writes it.
pub fn time_text(record: u64, zone: u64) -> String {
    format!("2024-02-29T{:02}:00:00+{zone:02}:00", 8 + record % 8 + zone)
}

/// The id of the task with these fields; `None`: it has no key.
pub fn id_of(scope: &Scope, fields: &Fields) -> Option<RecordId> {
    let is_time = fields.get(KEY).is_some_and(|key| key.text().starts_with("\"2"));
    let kind = if is_time { KeyType::Time } else { KeyType::Text };
    let key = [KeyField { name: KEY.to_owned(), kind }];
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
            // The same point in time is the same key, whatever zone it is written in.
            (Some(id), Some(before)) if Some(&id) != id_of(&mutation.scope, &before.fields).as_ref() => {
                refuse(RejectCode::IMMUTABLE)
            }
            (Some(id), _) if mutation.op == Op::Create && id != mutation.id => refuse(RejectCode::ID_MISMATCH),
            (Some(_), _) => None,
        }
    }
}
