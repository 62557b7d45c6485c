//! Ids that follow from a record's unique key, so that two devices that make the same record make one (section 6).
//!
//! UUIDv5 over the RFC 8785 text of `[scope, collection, key…]`. The client may use it, too; whoever calls brings Unicode
//! normalization along, because a browser has its own and the tables would weigh more than the engine's log.

use crate::plant::{Plant, planted};
use crate::time::{time_nanos, utc_text};
use landfall_protocol::codec::{to_json, write_string};
use landfall_protocol::{CollectionName, Fields, RecordId, Scope, Value};
use sha1::{Digest, Sha1};

/// The namespace of all derived ids: never changes, or every derived id does.
pub const NAMESPACE: [u8; 16] =
    [0x8f, 0x1d, 0x3a, 0x56, 0x0c, 0x72, 0x4e, 0x9b, 0xa4, 0x5d, 0x61, 0x2e, 0xb7, 0x90, 0x33, 0xc8];

/// What a field of a key is, by its collection's schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// RFC 3339; the same point in time is the same key.
    Time,
    Text,
    Number,
}

/// One field of a unique key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyField {
    pub name: String,
    pub kind: KeyType,
}

/// The RFC 8785 text of a key. The error is the field that is missing or of another type.
pub fn key_text<'a>(
    scope: &Scope,
    collection: &CollectionName,
    key: &'a [KeyField],
    fields: &Fields,
    nfc: &dyn Fn(&str) -> String,
) -> Result<String, &'a str> {
    let mut text = ["[", &to_json(scope), ",", &to_json(collection)].concat();
    for field in key {
        let value = fields.get(&field.name).map(|value| Value::of(value.text()));
        let wrong = field.name.as_str();
        text.push(',');
        match (field.kind, value) {
            (KeyType::Time, Some(Value::String(time))) => {
                let nanos = if planted(Plant::DerivedIdByTimeZone) {
                    time_nanos(&[time.get(..19).unwrap_or_default(), "Z"].concat())
                } else {
                    time_nanos(&time)
                };
                write_string(&mut text, &nanos.and_then(utc_text).ok_or(wrong)?);
            }
            (KeyType::Text, Some(Value::String(value))) => write_string(&mut text, &nfc(&value)),
            (KeyType::Number, Some(Value::Number(number))) => text.push_str(&number_text(number)),
            (KeyType::Time | KeyType::Text | KeyType::Number, _) => return Err(wrong),
        }
    }
    text.push(']');
    Ok(text)
}

/// The id of the record with this key.
pub fn derived_id(key_text: &str) -> RecordId {
    let hash = Sha1::new().chain_update(NAMESPACE).chain_update(key_text).finalize();
    let mut text = String::with_capacity(36);
    for (at, byte) in hash.iter().take(16).enumerate() {
        let byte = match at {
            6 => byte & 0x0f | 0x50,
            8 => byte & 0x3f | 0x80,
            _ => *byte,
        };
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    RecordId(text)
}

/// A number as JavaScript writes it (RFC 8785 section 3.2.2.3).
fn number_text(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    // The shortest digits that read back as this number, and where the point is.
    let scientific = format!("{:e}", number.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits: String = mantissa.chars().filter(|digit| *digit != '.').collect();
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let sign = if number < 0.0 { "-" } else { "" };
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let split = |at: i32| digits.split_at(usize::try_from(at).unwrap_or(0));
    let text = match exponent {
        0..=20 if count <= exponent + 1 => [digits.as_str(), &zeros(exponent + 1 - count)].concat(),
        0..=20 => {
            let (whole, rest) = split(exponent + 1);
            [whole, ".", rest].concat()
        }
        -6..=-1 => ["0.", &zeros(-exponent - 1), digits.as_str()].concat(),
        _ => {
            let (first, rest) = split(1);
            let point = if rest.is_empty() { "" } else { "." };
            let plus = if exponent > 0 { "+" } else { "" };
            [first, point, rest, "e", plus, &exponent.to_string()].concat()
        }
    };
    [sign, &text].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(key: &[(&str, KeyType)], fields: &str) -> Result<String, String> {
        let key: Vec<KeyField> =
            key.iter().map(|(name, kind)| KeyField { name: (*name).to_owned(), kind: *kind }).collect();
        let fields: Fields = serde_json::from_str(fields).unwrap();
        // What a caller's Unicode normalization makes of these keys.
        let nfc = |text: &str| text.replace("e\u{301}", "\u{e9}");
        let text = key_text(&Scope::from("user:ada"), &CollectionName::from("notes"), &key, &fields, &nfc);
        text.map(|text| derived_id(&text).0).map_err(str::to_owned)
    }

    /// Made with another implementation (Python: `uuid.uuid5` and `json.dumps`). Never edited: these ids are in databases.
    #[test]
    fn golden_derived_ids() {
        use KeyType::{Number, Text, Time};
        let device = [("device_id", Text), ("client_timestamp", Time)];
        let one = r#"{"device_id":"d1","client_timestamp":"2026-01-31T08:00:00Z"}"#;
        let same = r#"{"client_timestamp":"2026-01-31T10:00:00.0004+02:00","device_id":"d1","other":1}"#;
        assert_eq!(id(&device, one).as_deref(), Ok("17df3148-16d4-5a06-8003-b1393974ed37"));
        assert_eq!(id(&device, same), id(&device, one));
        let composed = id(&[("name", Text)], r#"{"name":"Caf\u00e9 \"x\"\n\u0001"}"#);
        assert_eq!(composed.as_deref(), Ok("e4604ec8-5d91-5223-9889-f73e6d935d6f"));
        assert_eq!(id(&[("name", Text)], r#"{"name":"Cafe\u0301 \"x\"\n\u0001"}"#), composed);
        assert_eq!(id(&[("n", Number)], r#"{"n":1.0}"#).as_deref(), Ok("aeaf84d6-e6b9-5ec1-b8a6-c1734113e57f"));
        assert_eq!(id(&[("n", Number)], r#"{"n":1e0}"#), id(&[("n", Number)], r#"{"n":1}"#));
        assert_eq!(id(&[("n", Number)], r#"{"n":-1.5e300}"#).as_deref(), Ok("986ff4b7-6434-5740-beef-45e67c713342"));
    }

    #[test]
    fn a_key_with_a_field_missing_or_of_another_type_has_no_id() {
        let key = [("a", KeyType::Text)];
        for fields in ["{}", r#"{"a":null}"#, r#"{"a":1}"#] {
            assert_eq!(id(&key, fields), Err("a".to_owned()), "{fields}");
        }
        assert!(id(&[("a", KeyType::Time)], r#"{"a":"soon"}"#).is_err());
    }

    #[test]
    fn numbers_are_written_as_javascript_writes_them() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (100.0, "100"),
            (-12.5, "-12.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.25e21, "1.25e+21"),
            (0.000_001, "0.000001"),
            (1.5e-6, "0.0000015"),
            (1e-7, "1e-7"),
            (333_333_333.333_333_3, "333333333.3333333"),
            (9_007_199_254_740_992.0, "9007199254740992"),
        ] {
            assert_eq!(number_text(number), text);
        }
    }
}
