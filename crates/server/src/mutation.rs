//! One element of a push as it arrived: its bytes, their hash, and what they say.

use crate::error::ServerError;
use landfall_protocol::limits::{ID_BYTES_MAX, NUMBER_MAX, RECORD_BYTES_MAX};
use landfall_protocol::{Fields, GroupId, Json, Mutation, Outcome, PushMutation, RejectCode, Seq, hash_text};
use serde::Deserialize;
use serde_json::Value;

/// Names that JavaScript gives a meaning of its own: no record may carry them (the client refuses them, too).
const KEYS_REFUSED: [&str; 3] = ["__proto__", "constructor", "prototype"];

/// What an element says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Mutation(Box<Mutation>),
    Void,
    /// It has a seq, so it gets an outcome: this one.
    Refused {
        group: Option<GroupId>,
        outcome: Box<Outcome>,
    },
}

/// One element of `mutations`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    pub seq: Seq,
    pub hash: [u8; 32],
    pub text: Json,
    pub content: Content,
}

/// As much as is needed to answer an element that is no mutation.
#[derive(Deserialize)]
struct Probe {
    seq: Seq,
    #[serde(default)]
    group: Option<Value>,
}

impl Element {
    /// Reads an element. Only one without a usable seq spoils the whole request.
    pub fn read(text: &Json) -> Result<Self, ServerError> {
        let probe: Probe = serde_json::from_str(text.text())
            .map_err(|_| ServerError::Malformed("a mutation has no seq that can be read".to_owned()))?;
        let seq = probe.seq;
        if seq == Seq::ZERO || seq.get() > NUMBER_MAX {
            return Err(ServerError::Malformed("a seq must be between 1 and 2^53-1".to_owned()));
        }
        let content = match PushMutation::parse(text.text()) {
            Ok(PushMutation::Void(_)) => Content::Void,
            Ok(PushMutation::Mutation(mutation)) => match refusal(&mutation) {
                None => Content::Mutation(mutation),
                Some(outcome) => Content::Refused { group: mutation.group.clone(), outcome: Box::new(outcome) },
            },
            Err(reason) => {
                let group = probe.group.as_ref().and_then(Value::as_str).map(GroupId::from);
                let outcome = Outcome::rejected(seq, RejectCode::MALFORMED, reason);
                Content::Refused { group, outcome: Box::new(outcome) }
            }
        };
        Ok(Self { seq, hash: hash_text(text.text()), text: text.clone(), content })
    }

    pub fn group(&self) -> Option<&GroupId> {
        match &self.content {
            Content::Mutation(mutation) => mutation.group.as_ref(),
            Content::Refused { group, .. } => group.as_ref(),
            Content::Void => None,
        }
    }
}

/// What is wrong with a mutation whatever the server's state is.
fn refusal(mutation: &Mutation) -> Option<Outcome> {
    let refuse = |code: &str, message: &str| Some(Outcome::rejected(mutation.seq, code, message));
    let malformed = |message: &str| refuse(RejectCode::MALFORMED, message);
    if mutation.id.as_str().is_empty() || mutation.id.as_str().len() > ID_BYTES_MAX {
        return malformed("An id must have between 1 and 128 bytes.");
    }
    if mutation.base.is_some_and(|base| base.get() > NUMBER_MAX) {
        return malformed("A base must be at most 2^53-1.");
    }
    if mutation.after.is_some_and(|after| after >= mutation.seq) {
        return malformed("A mutation can only stand on an earlier one.");
    }
    if !mutation.stamp.is_valid() {
        return malformed("The stamp cannot be read.");
    }
    if mutation.set.len() + mutation.unset.len() > 0 && mutation.op == landfall_protocol::Op::Delete {
        return malformed("A delete sets and unsets nothing.");
    }
    if record_bytes(&mutation.set) > RECORD_BYTES_MAX {
        return refuse(RejectCode::TOO_LARGE, "The record is larger than 256 KB.");
    }
    for (name, value) in &mutation.set {
        let Ok(value) = serde_json::from_str::<Value>(value.text()) else {
            return malformed("A value is no text or number that other devices could read.");
        };
        if is_refused(name) || holds_refused_key(&value) {
            return malformed("A record must not use __proto__, constructor or prototype as a name.");
        }
    }
    None
}

/// Size of a record as JSON text.
pub fn record_bytes(fields: &Fields) -> usize {
    // Braces; and for each field two quotes, a colon and a comma.
    2 + fields.iter().map(|(name, value)| name.len() + value.text().len() + 4).sum::<usize>()
}

fn is_refused(name: &str) -> bool {
    KEYS_REFUSED.contains(&name)
}

fn holds_refused_key(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(name, value)| is_refused(name) || holds_refused_key(value)),
        Value::Array(values) => values.iter().any(holds_refused_key),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Element, ServerError> {
        Element::read(&Json::parse(text).unwrap())
    }
    fn mutation(set: &str) -> String {
        format!(
            r#"{{"seq":3,"scope":"user:a","collection":"notes","id":"n","op":"create","set":{set},"base":0,"stamp":"0190f0a1b2c3-0001-c","group":"g"}}"#
        )
    }

    #[test]
    fn an_element_without_a_seq_spoils_the_request_and_one_with_a_seq_only_itself() {
        assert!(read(r#"{"op":"create"}"#).is_err());
        assert!(read(r#"{"seq":0,"void":true}"#).is_err());
        assert!(read(r#"{"seq":-1,"void":true}"#).is_err());
        assert_eq!(read(r#"{"seq":1,"void":true}"#).unwrap().content, Content::Void);
        let element = read(r#"{"seq":4,"group":"g","op":"explode"}"#).unwrap();
        assert_eq!(element.group(), Some(&GroupId::from("g")));
        assert!(matches!(element.content, Content::Refused { .. }));
    }

    #[test]
    fn values_that_no_device_could_read_back_are_refused() {
        assert!(matches!(read(&mutation(r#"{"title":"x"}"#)).unwrap().content, Content::Mutation(_)));
        for set in [r#"{"title":"\ud800"}"#, r#"{"a":{"__proto__":1}}"#, r#"{"a":[{"constructor":1}]}"#] {
            assert!(matches!(read(&mutation(set)).unwrap().content, Content::Refused { .. }), "{set}");
        }
    }

    #[test]
    fn the_size_of_a_record_counts_names_and_values() {
        let fields: Fields = serde_json::from_str(r#"{"a":1,"b":"xy"}"#).unwrap();
        let exact = serde_json::to_string(&fields).unwrap().len();
        assert!(record_bytes(&fields) >= exact && record_bytes(&fields) <= exact + 2);
    }
}
