//! Opaque JSON values: the text of a field, compared by meaning, never rewritten.

use crate::Map;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The fields of a record or of a change, by name.
pub type Fields = Map<String, Json>;

/// One JSON value as the text it arrived with. Equal when the values are equal, not when the texts are.
#[derive(Clone)]
pub struct Json(Box<RawValue>);

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
        serde_json::from_str::<Box<RawValue>>(text).map(Self).map_err(|_| JsonError::Malformed)
    }
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned())
    }
    pub fn string(text: &str) -> Self {
        // A string always serializes.
        match serde_json::value::to_raw_value(text) {
            Ok(raw) => Self(raw),
            Err(_) => Self::null(),
        }
    }
    pub fn number(n: u64) -> Self {
        match serde_json::value::to_raw_value(&n) {
            Ok(raw) => Self(raw),
            Err(_) => Self::null(),
        }
    }
    pub fn text(&self) -> &str {
        self.0.get()
    }
    /// The value if it is a string.
    pub fn as_string(&self) -> Option<String> {
        serde_json::from_str(self.text()).ok()
    }
    pub fn value(&self) -> serde_json::Value {
        serde_json::from_str(self.text()).unwrap_or(serde_json::Value::Null)
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        if self.text() == other.text() {
            return true;
        }
        let (a, b) = (self.text().as_bytes(), other.text().as_bytes());
        // Texts without an escape, a number or nesting that differ are different values.
        if a.first() != b.first() && !(is_number_start(a.first()) && is_number_start(b.first())) {
            return false;
        }
        same(&self.value(), &other.value())
    }
}
impl Eq for Json {}

fn is_number_start(byte: Option<&u8>) -> bool {
    matches!(byte, Some(b'-' | b'0'..=b'9'))
}

/// JSON equality with numbers compared as JavaScript has them (RFC 8785 section 3.2.2.3): `1`, `1.0` and `1e0` are one value.
fn same(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (a, b) {
        (Number(x), Number(y)) => x == y || x.as_f64() == y.as_f64(),
        (Array(x), Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y)),
        (Object(x), Object(y)) => x.len() == y.len() && x.iter().all(|(key, x)| y.get(key).is_some_and(|y| same(x, y))),
        _ => a == b,
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}
impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self)
    }
}
impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        match serde_json::value::to_raw_value(&value) {
            Ok(raw) => Self(raw),
            Err(_) => Self::null(),
        }
    }
}

/// Walks a JSON text once: nesting at most `depth_max`, no object with the same key twice.
///
/// Meant for texts from outside, before anything else reads them; serde's own limit is deeper and it
/// lets the last of two equal keys win in silence.
pub fn check_depth(text: &str, depth_max: usize) -> Result<(), JsonError> {
    let bytes = text.as_bytes();
    let mut open: Vec<Option<Vec<Cow<'_, [u8]>>>> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'{' | b'[' => {
                if open.len() == depth_max {
                    return Err(JsonError::TooDeep);
                }
                open.push((bytes[at] == b'{').then(Vec::new));
                at += 1;
            }
            b'}' | b']' => {
                if let Some(Some(mut keys)) = open.pop() {
                    keys.sort_unstable();
                    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
                        return Err(JsonError::DuplicateKey);
                    }
                }
                at += 1;
            }
            b'"' => {
                let start = at + 1;
                at = start;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                let end = at.min(bytes.len());
                at += 1;
                let mut next = at;
                while next < bytes.len() && bytes[next].is_ascii_whitespace() {
                    next += 1;
                }
                if bytes.get(next) == Some(&b':')
                    && let Some(Some(keys)) = open.last_mut()
                {
                    keys.push(unescaped(&bytes[start.min(end)..end]));
                }
            }
            _ => at += 1,
        }
    }
    Ok(())
}

/// A key as it reads: `\u0061` and `a` are the same one.
fn unescaped(key: &[u8]) -> Cow<'_, [u8]> {
    if !key.contains(&b'\\') {
        return Cow::Borrowed(key);
    }
    let quoted = [b"\"", key, b"\""].concat();
    match serde_json::from_slice::<String>(&quoted) {
        Ok(text) => Cow::Owned(text.into_bytes()),
        Err(_) => Cow::Borrowed(key),
    }
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
