//! JSON objects that stay text: the fields of a record or of a change, taken apart only where a patch meets them.

use crate::codec::{FromJson, Reader, ToJson, from_json, to_json, write_string};
use crate::{Fields, Json, Map};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// A JSON object as the text it arrived with. Equal when the values are equal, not when the texts are.
#[derive(Clone, Default)]
pub struct Object(
    /// `""` is the object without fields, so that the many changes that set none cost no memory.
    Box<str>,
);

/// An object taken apart: the text of each field by name. Writing it gives the fields in the order of their names.
pub type Parts<'a> = Map<Cow<'a, str>, &'a str>;

impl Object {
    /// The object without fields.
    pub fn new() -> Self {
        Self::default()
    }
    /// A value that is an object. `None`: it is another value.
    pub fn from_json(value: Json) -> Option<Self> {
        value.text().starts_with('{').then(|| Self::from_text(value.into_text()))
    }
    /// Fields as one text.
    pub fn of(fields: &Fields) -> Self {
        Self::from_text(to_json(fields).into())
    }

    /// A text that was one when it was stored: it has a checksum since.
    pub fn stored(text: &str) -> Self {
        if text.starts_with('{') { Self::from_text(text.into()) } else { Self::new() }
    }

    fn from_text(text: Box<str>) -> Self {
        let is_empty = text[1..].trim_ascii_start().len() == 1;
        if is_empty { Self::new() } else { Self(text) }
    }

    pub fn text(&self) -> &str {
        if self.0.is_empty() { "{}" } else { &self.0 }
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All fields, each with a text of its own.
    pub fn fields(&self) -> Fields {
        from_json(self.text()).unwrap_or_default()
    }

    /// Calls `each` with the name and the text of every field, in the order of the text.
    pub fn each<'a>(&'a self, each: &mut dyn FnMut(Cow<'a, str>, &'a str)) {
        // Nothing is an object that was not read as one, so there is no error to report.
        Reader::new(self.text()).fields(&mut |name, from| from.raw().map(|text| each(name, text)).is_some());
    }

    pub fn parts(&self) -> Parts<'_> {
        let mut parts = Parts::new();
        self.put_into(&mut parts);
        parts
    }

    /// Sets these fields in an object that was taken apart.
    pub fn put_into<'a>(&'a self, parts: &mut Parts<'a>) {
        self.each(&mut |name, text| _ = parts.insert(name, text));
    }

    /// The text of one field.
    pub fn get(&self, wanted: &str) -> Option<&str> {
        let mut found = None;
        self.each(&mut |name, text| {
            if name == wanted {
                found = Some(text);
            }
        });
        found
    }

    /// The object with these fields set and those not there.
    #[must_use]
    pub fn patched(&self, set: &Self, unset: &[String]) -> Self {
        let mut parts = self.parts();
        for name in unset {
            parts.remove(name.as_str());
        }
        set.put_into(&mut parts);
        Self::from(&parts)
    }
}

impl From<&Parts<'_>> for Object {
    fn from(parts: &Parts<'_>) -> Self {
        let mut text = String::new();
        for (name, value) in parts {
            text.push(if text.is_empty() { '{' } else { ',' });
            write_string(&mut text, name);
            text.push(':');
            text.push_str(value);
        }
        if !text.is_empty() {
            text.push('}');
        }
        Self(text.into())
    }
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        crate::json::same_value(self.text(), other.text())
    }
}
impl Eq for Object {}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
impl ToJson for Object {
    fn write(&self, out: &mut String) {
        out.push_str(self.text());
    }
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}
impl FromJson for Object {
    fn blank() -> Self {
        Self::new()
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        let is_object = from.peek() == b'{';
        match from.raw() {
            Some(text) if is_object => {
                *self = Self::from_text(text.into());
                true
            }
            _ => false,
        }
    }
}
impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(self.text()).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}
impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Json::deserialize(deserializer)?;
        Self::from_json(value).ok_or_else(|| serde::de::Error::custom("an object is wanted"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Object {
        from_json(text).unwrap()
    }

    #[test]
    fn i5_an_object_keeps_the_text_it_came_with() {
        let text = r#"{"b":1.50,"a":{"y":[1 ,2],"x":12345678901234567890123}}"#;
        assert_eq!(object(text).text(), text);
        assert_eq!(to_json(&object(text)), text);
    }

    #[test]
    fn an_object_without_fields_is_blank_however_it_is_written() {
        for text in ["{}", " { } ", "{\n}"] {
            assert!(object(text).is_blank(), "{text}");
            assert_eq!(object(text).text(), "{}");
        }
        assert!(!object(r#"{"a":1}"#).is_empty());
    }

    #[test]
    fn other_values_are_no_object() {
        for text in ["1", "[]", "null", "\"{}\"", "{", "{1:2}"] {
            assert!(from_json::<Object>(text).is_none(), "{text}");
        }
        assert!(Object::from_json(Json::null()).is_none());
    }

    #[test]
    fn a_patch_sets_and_unsets_by_name_however_the_name_is_written() {
        let base = object(r#"{"z":1,"\u0061":2,"m":{"k":[1,2]}}"#);
        assert_eq!(base.get("a"), Some("2"));
        let patched = base.patched(&object(r#"{"a":3,"n\"":null}"#), &["m".to_owned(), "q".to_owned()]);
        assert_eq!(patched.text(), r#"{"a":3,"n\"":null,"z":1}"#);
        let all = ["z".to_owned(), "a".to_owned(), "m".to_owned()];
        assert!(base.patched(&Object::new(), &all).is_empty());
    }

    #[test]
    fn objects_are_equal_by_meaning() {
        assert_eq!(object(r#"{"a":1,"b":2}"#), object(r#"{ "b":2.0, "a":1 }"#));
        assert_ne!(object(r#"{"a":1}"#), object(r#"{"a":"1"}"#));
        assert_eq!(Object::of(&object(r#"{"b":1,"a":2}"#).fields()).text(), r#"{"a":2,"b":1}"#);
    }
}
