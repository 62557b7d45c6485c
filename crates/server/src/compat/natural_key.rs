//! Ids of records that come without one: made from the fields that a record of its kind is known by.
//!
//! Where the collection declares a unique key, that is the one. Tables that do not, because native clients give their
//! records ids of their own, have theirs here.

use super::Sent;
use crate::collections::Collection;
use landfall_core::derive::KeyType::{Number, Text, Time};
use landfall_core::derive::{KeyField, KeyType, derived_id, key_text};
use landfall_protocol::{Fields, Json, RecordId, Scope};
use unicode_normalization::UnicodeNormalization;

/// What the documents know a record by.
fn documented(collection: &str) -> &'static [(&'static str, KeyType)] {
    match collection {
        "attendance" => &[("device_id", Text), ("client_timestamp", Time)],
        "student_ecr_item_scores" => &[("student_id", Text), ("ecr_item_id", Text)],
        "student_running_grades" => &[("student_id", Text), ("subject_id", Text), ("quarter", Number)],
        _ => &[],
    }
}

/// The id that the fields make, if they are all there.
pub fn derived(collection: &Collection, scope: &Scope, sent: &Sent) -> Option<RecordId> {
    let fields: Fields = sent
        .fields
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), Json::parse(&value.to_string()).ok()?)))
        .collect();
    let key = match collection.unique.first() {
        Some(declared) => declared.clone(),
        None => documented(sent.collection.as_str())
            .iter()
            .map(|(name, kind)| KeyField { name: (*name).to_owned(), kind: *kind })
            .collect(),
    };
    if key.is_empty() {
        return None;
    }
    let text = key_text(scope, &sent.collection, &key, &fields, &|text| text.nfc().collect());
    text.ok().map(|text| derived_id(&text))
}
