//! Ids of records that come without one: made from the fields that a record of its kind is known by, as those of a declared
//! unique key are ([`landfall_core::derive`]). Whoever sends the record, and however often, it is the same one.

use super::Sent;
use crate::links::text_of;
use landfall_core::derive::{KeyField, KeyType, derived_id};
use landfall_protocol::{Fields, Json, RecordId, Scope};
use serde_json::Value;

/// The natural key of a table, if it has one. `None` of a type: a whole number, or a text such as `Q1`.
fn key_of(collection: &str) -> &'static [(&'static str, Option<KeyType>)] {
    match collection {
        "attendance" => &[("device_id", Some(KeyType::Text)), ("client_timestamp", Some(KeyType::Time))],
        "student_ecr_item_scores" => &[("student_id", Some(KeyType::Text)), ("ecr_item_id", Some(KeyType::Text))],
        "student_running_grades" => {
            &[("student_id", Some(KeyType::Text)), ("subject_id", Some(KeyType::Text)), ("quarter", None)]
        }
        _ => &[],
    }
}

/// The id that the fields make, if they are all there.
pub fn derived(scope: &Scope, sent: &Sent) -> Option<RecordId> {
    let key: Vec<KeyField> = key_of(sent.collection.as_str())
        .iter()
        .map(|(name, kind)| {
            let is_number = sent.fields.get(*name).is_some_and(Value::is_u64);
            let kind = kind.unwrap_or(if is_number { KeyType::Number } else { KeyType::Text });
            KeyField { name: (*name).to_owned(), kind }
        })
        .collect();
    if key.is_empty() {
        return None;
    }
    let field = |name: &str| Some((name.to_owned(), Json::parse(&sent.fields.get(name)?.to_string()).ok()?));
    let fields: Fields = key.iter().filter_map(|part| field(&part.name)).collect();
    text_of(scope, &sent.collection, &key, &fields).ok().map(|text| derived_id(&text))
}
