//! Opaque JSON values: the text of a field, compared by meaning, never rewritten.

use crate::codec::{FromJson, Reader, ToJson, from_json, to_json};
use crate::number::number;
use crate::{Map, Set};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

/// The fields of a record or of a change, by name.
pub type Fields = Map<String, Json>;

/// One JSON value as the text it arrived with. Equal when the values are equal, not when the texts are.
#[derive(Clone)]
pub struct Json(Box<str>);

/// Why a text is no acceptable JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonError {
    Malformed,
    TooDeep,
    DuplicateKey,
}

impl Json {
    /// Checks and takes a JSON text (surrounding white space is dropped).
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        from_json(text).ok_or(JsonError::Malformed)
    }
    /// A value as its text.
    pub fn of(value: &dyn ToJson) -> Self {
        Self(to_json(value).into())
    }
    pub fn null() -> Self {
        Self("null".into())
    }
    pub fn string(text: &str) -> Self {
        Self::of(&text)
    }
    pub fn number(n: u64) -> Self {
        Self::of(&n)
    }
    pub fn text(&self) -> &str {
        &self.0
    }
    pub fn into_text(self) -> Box<str> {
        self.0
    }
    /// The value if it is a string.
    pub fn as_string(&self) -> Option<String> {
        from_json(self.text())
    }
    pub fn value(&self) -> serde_json::Value {
        serde_json::from_str(self.text()).unwrap_or(serde_json::Value::Null)
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        same_value(self.text(), other.text())
    }
}
impl Eq for Json {}

/// True when two JSON texts mean the same value.
pub fn same_value(a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    let (first, other) = (a.as_bytes().first(), b.as_bytes().first());
    // Values of different kinds.
    if first != other && !(is_number_start(first) && is_number_start(other)) {
        return false;
    }
    Value::of(a) == Value::of(b)
}

fn is_number_start(byte: Option<&u8>) -> bool {
    matches!(byte, Some(b'-' | b'0'..=b'9'))
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
impl ToJson for Json {
    fn write(&self, out: &mut String) {
        out.push_str(self.text());
    }
}
impl FromJson for Json {
    fn blank() -> Self {
        Self::null()
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        from.raw().map(|text| self.0 = text.into()).is_some()
    }
}
impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(self.text()).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}
impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|raw| Self(raw.get().into()))
    }
}
impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        Self(value.to_string().into())
    }
}

/// A JSON value taken apart, to be compared. Numbers are what JavaScript makes of them (RFC 8785 section 3.2.2.3):
/// `1`, `1.0` and `1e0` are one value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(f64),
    String(String),
    List(Vec<Value>),
    Object(Map<String, Value>),
}

impl Value {
    /// Of a text that is no JSON, or nests too deep to be looked at: null.
    pub fn of(text: &str) -> Self {
        from_json(text).unwrap_or(Self::Null)
    }

    /// Null, booleans, numbers, strings, lists, objects: the order of values of different kinds.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Number(_) => 2,
            Self::String(_) => 3,
            Self::List(_) => 4,
            Self::Object(_) => 5,
        }
    }

    /// A total order: by kind, then by value; of two objects the first field that differs decides.
    pub fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::List(a), Self::List(b)) => {
                let differ = a.iter().zip(b).map(|(a, b)| a.compare(b)).find(|way| way.is_ne());
                differ.unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            (Self::Object(a), Self::Object(b)) => {
                let fields = a.iter().zip(b).map(|((a, x), (b, y))| a.cmp(b).then_with(|| x.compare(y)));
                fields.into_iter().find(|way| way.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl FromJson for Value {
    fn blank() -> Self {
        Self::Null
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        match from.peek() {
            b'n' => from.word("null"),
            b't' | b'f' => {
                let mut truth = false;
                let read = truth.fill(from);
                *self = Self::Bool(truth);
                read
            }
            b'"' => from.string().map(|text| *self = Self::String(text.into_owned())).is_some(),
            b'[' => {
                let mut items = Vec::new();
                let read = items.fill(from);
                *self = Self::List(items);
                read
            }
            b'{' => {
                let mut fields = Map::new();
                let read = fields.fill(from);
                *self = Self::Object(fields);
                read
            }
            _ => from.raw().map(|text| *self = Self::Number(number(text))).is_some(),
        }
    }
}

/// Walks a JSON text once: nesting at most `depth_max`, no object with the same key twice.
///
/// Meant for texts from outside, before anything else reads them; serde's own limit is deeper and it
/// lets the last of two equal keys win in silence.
pub fn check_depth(text: &str, depth_max: usize) -> Result<(), JsonError> {
    let bytes = text.as_bytes();
    // For each object that is open the keys that it has so far.
    let mut open: Vec<Option<Set<Cow<'_, str>>>> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'{' | b'[' => {
                if open.len() == depth_max {
                    return Err(JsonError::TooDeep);
                }
                open.push((bytes[at] == b'{').then(Set::new));
                at += 1;
            }
            b'}' | b']' => {
                open.pop();
                at += 1;
            }
            b'"' => {
                let start = at + 1;
                at = start;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
                let mut next = at;
                while next < bytes.len() && bytes[next].is_ascii_whitespace() {
                    next += 1;
                }
                if bytes.get(next) == Some(&b':')
                    && let Some(Some(keys)) = open.last_mut()
                    && !keys
                        .insert(unescaped(text.get(start.saturating_sub(1)..at.min(bytes.len())).unwrap_or_default()))
                {
                    return Err(JsonError::DuplicateKey);
                }
            }
            _ => at += 1,
        }
    }
    Ok(())
}

/// A key as it reads: `\u0061` and `a` are the same one.
fn unescaped(quoted: &str) -> Cow<'_, str> {
    Reader::new(quoted).string().unwrap_or(Cow::Borrowed(quoted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_equal_by_meaning() {
        let eq = |a: &str, b: &str| Json::parse(a).unwrap() == Json::parse(b).unwrap();
        assert!(eq("1", "1.0") && eq("1e2", "100") && eq(r#"{"a":1,"b":[2]}"#, r#"{ "b":[2.0],"a":1 }"#));
        assert!(eq(r#""\u0041""#, r#""A""#));
        assert!(!eq("1", "\"1\"") && !eq("null", "0") && !eq("[1,2]", "[2,1]"));
    }

    #[test]
    fn i5_a_number_keeps_the_text_it_came_with() {
        let fields: Fields = serde_json::from_str(r#"{"n":12345678901234567890123}"#).unwrap();
        assert_eq!(serde_json::to_string(&fields).unwrap(), r#"{"n":12345678901234567890123}"#);
    }

    #[test]
    fn depth_and_duplicate_keys_are_seen_before_parsing() {
        assert_eq!(check_depth(&"[".repeat(65), 64), Err(JsonError::TooDeep));
        assert_eq!(check_depth(r#"{"a":1,"b":{"a":2},"a":3}"#, 64), Err(JsonError::DuplicateKey));
        assert_eq!(check_depth(r#"{"a":1,"\u0061":2}"#, 64), Err(JsonError::DuplicateKey));
        assert_eq!(check_depth(r#"{"a":"{[\"a\":","b":["a","a"]}"#, 64), Ok(()));
    }
}
