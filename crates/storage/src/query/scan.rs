//! Walks the top level of a record's stored text in one pass, without allocation, and looks at values where they stand.
//!
//! The text was checked when it came in, so this reader believes it: of anything that is no JSON object it gives some
//! fields or none. It never panics and never reads past the end.

use landfall_protocol::Value;
use landfall_protocol::codec::Reader;
use std::cmp::Ordering;

/// The fields of a record, in the order of the text.
pub struct Top<'a> {
    text: &'a str,
    at: usize,
}

/// A field as it is written.
pub struct Field<'a> {
    /// With its quotes.
    quoted: &'a str,
    escaped: bool,
    /// The JSON text of the value.
    pub value: &'a str,
}

impl Field<'_> {
    #[inline]
    pub fn is(&self, name: &str) -> bool {
        if self.escaped {
            return Reader::new(self.quoted).string().is_some_and(|key| key == name);
        }
        // The quotes are two bytes.
        self.quoted.len() == name.len() + 2 && self.quoted.as_bytes().get(1..=name.len()) == Some(name.as_bytes())
    }
}

impl<'a> Top<'a> {
    pub fn new(text: &'a str) -> Self {
        let mut top = Self { text, at: 0 };
        // Of what is no object there is nothing to see.
        match top.blank(b' ') {
            b'{' => top.at += 1,
            _ => top.at = text.len(),
        }
        top
    }

    /// Passes over white space and `also`; the byte there, or 0 at the end.
    #[inline]
    fn blank(&mut self, also: u8) -> u8 {
        while let Some(&byte) = self.text.as_bytes().get(self.at) {
            if byte > b' ' && byte != also {
                return byte;
            }
            self.at += 1;
        }
        0
    }

    /// The next field; `None` at the end.
    #[inline]
    pub fn next_field(&mut self) -> Option<Field<'a>> {
        let bytes = self.text.as_bytes();
        if self.blank(b',') != b'"' {
            return None;
        }
        let start = self.at;
        let mut escaped = false;
        self.at += 1;
        // Names are short: byte by byte.
        loop {
            match bytes.get(self.at)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
        self.at += 1;
        let quoted = self.text.get(start..self.at)?;
        self.blank(b':');
        let start = self.at;
        self.at = value_end(bytes, start);
        // A comma here would be found again for ever.
        (self.at > start).then_some(())?;
        Some(Field { quoted, escaped, value: self.text.get(start..self.at)? })
    }
}

#[inline]
fn value_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    match bytes.get(at) {
        Some(b'"') => (string_end(bytes, at + 1) + 1).min(bytes.len()),
        Some(b'{' | b'[') => nested_end(bytes, at),
        _ => {
            while bytes.get(at).is_some_and(|&byte| byte > b' ' && byte != b',' && byte != b'}') {
                at += 1;
            }
            at
        }
    }
}

fn nested_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at + 1),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

const ONES: u64 = 0x0101_0101_0101_0101;

/// Has the high bit of the lowest byte that is `byte`; above it there may be wrong bits.
#[inline]
fn has(word: u64, byte: u8) -> u64 {
    let zero = word ^ (ONES * u64::from(byte));
    zero.wrapping_sub(ONES) & !zero & (ONES << 7)
}

/// The place of the quote that ends the string whose inside starts at `at`; eight bytes a step.
#[inline]
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    loop {
        while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
            let word = u64::from_le_bytes(*eight);
            let hit = has(word, b'"') | has(word, b'\\');
            if hit != 0 {
                at += (hit.trailing_zeros() / 8) as usize;
                break;
            }
            at += 8;
        }
        match bytes.get(at) {
            None => return bytes.len(),
            Some(b'"') => return at,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

/// A value, taken apart only as far as a comparison needs.
pub enum Seen<'a> {
    Null,
    Bool(bool),
    Number(f64),
    Text(&'a str),
    /// Strings with escapes, lists, objects, numbers that are long or have an exponent.
    Other(Value),
}

impl<'a> Seen<'a> {
    #[inline]
    pub fn of(text: &'a str) -> Self {
        match text.as_bytes() {
            b"null" => return Self::Null,
            b"true" => return Self::Bool(true),
            b"false" => return Self::Bool(false),
            [b'"', inside @ .., b'"'] if !inside.contains(&b'\\') => {
                if let Some(inside) = text.get(1..text.len() - 1) {
                    return Self::Text(inside);
                }
            }
            [b'-' | b'0'..=b'9', ..] => {
                if let Some(number) = short_number(text.as_bytes()) {
                    return Self::Number(number);
                }
            }
            _ => {}
        }
        Self::Other(Value::of(text))
    }

    /// As [`Value::rank`].
    pub fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Number(_) => 2,
            Self::Text(_) => 3,
            Self::Other(value) => value.rank(),
        }
    }

    /// As [`Value::compare`].
    #[inline]
    pub fn compare(&self, other: &Value) -> Ordering {
        match (self, other) {
            (Self::Text(a), Value::String(b)) => (*a).cmp(b.as_str()),
            (Self::Number(a), Value::Number(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            (Self::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Self::Other(a), b) => a.compare(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }

    /// The string that it is, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Other(Value::String(text)) => Some(text),
            _ => None,
        }
    }
}

/// Up to 15 digits with or without a point: whole number and power of ten are exact, so the quotient is rounded once.
#[inline]
fn short_number(text: &[u8]) -> Option<f64> {
    let (digits, negative) = match text {
        [b'-', rest @ ..] => (rest, true),
        _ => (text, false),
    };
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    let (mut whole, mut power, mut count, mut point) = (0_u64, 1_u64, 0, false);
    for byte in digits {
        match byte {
            b'0'..=b'9' => {
                whole = whole * 10 + u64::from(byte - b'0');
                count += 1;
                if point {
                    power *= 10;
                }
            }
            b'.' if !point && count > 0 => point = true,
            _ => return None,
        }
    }
    if count > 15 || (point && power == 1) {
        return None;
    }
    let size = whole as f64 / power as f64;
    Some(if negative { -size } else { size })
}

#[cfg(test)]
mod tests {
    use super::super::samples::Samples;
    use super::*;

    fn fields(text: &str) -> Vec<(&str, &str)> {
        let (mut top, mut found) = (Top::new(text), Vec::new());
        while let Some(field) = top.next_field() {
            found.push((field.quoted, field.value));
        }
        found
    }

    #[test]
    fn the_top_level_is_walked_whatever_is_nested_in_it() {
        let text = r#" { "a" : 1 , "b\"c":"x,\"}\\", "o":{"a":[2,{"a":"]"}]},"l":[] ,"e":null } "#;
        let nested = r#"{"a":[2,{"a":"]"}]}"#;
        let wanted =
            [(r#""a""#, "1"), (r#""b\"c""#, r#""x,\"}\\""#), (r#""o""#, nested), (r#""l""#, "[]"), (r#""e""#, "null")];
        assert_eq!(fields(text), wanted);
        assert_eq!(fields("{}"), []);
        assert_eq!(fields("[1]"), []);
    }

    #[test]
    fn an_escaped_name_is_the_name_that_it_stands_for() {
        let field = Top::new(r#"{"\u0061b":1}"#).next_field().unwrap();
        assert!(field.is("ab") && !field.is("a"));
    }

    #[test]
    fn what_is_seen_compares_as_the_value() {
        let mut samples = Samples::new(7);
        for _ in 0..20_000 {
            let (a, b) = (samples.json(2), samples.json(2));
            let (seen, value, other) = (Seen::of(&a), Value::of(&a), Value::of(&b));
            assert_eq!(seen.compare(&other), value.compare(&other), "{a} {b}");
            assert_eq!(seen.rank(), value.rank(), "{a}");
        }
    }
}
