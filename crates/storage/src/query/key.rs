//! Text keys of index entries: the byte order of keys is the order of the values, component by component.
//!
//! A component begins with the rank of its value as a digit (`0` null … `5` object, the order of
//! [`Value::rank`](landfall_protocol::Value::rank)) and tells its own end, so components stand side by side:
//!
//! | value | component |
//! |---|---|
//! | null, or a missing field | `0` |
//! | false, true | `1f`, `1t` |
//! | number | `2`, the bits of the double made sortable in digits of 6 bits without the zeros at the end, blank |
//! | string | `3`, its bytes, blank; a byte up to `!` is `!` and that byte + `0` |
//! | list | `4`, its elements, blank |
//! | object | `5`, its names (as strings) and values by turns in the order of the names, blank |
//!
//! A blank sorts before all that can stand in its place, so what is shorter comes first. All kinds are ordered in full:
//! equal keys mean equal values. -0 is 0. Keys are ascending; a descending order reads them backwards.

use super::condition::Condition;
use super::scan::{Seen, Top};
use landfall_protocol::Value;

/// Keys from `lower` up to and without `upper`. Empty when `lower >= upper`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    pub lower: String,
    pub upper: String,
}

/// In the order of their bytes, and none of them needs an escape in JSON.
const DIGITS: &[u8; 64] = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";

const END: char = ' ';

/// Appends the component of a value.
pub fn push_component(out: &mut String, value: &Value) {
    out.push(char::from(b'0' + value.rank()));
    match value {
        Value::Null => {}
        Value::Bool(truth) => out.push(if *truth { 't' } else { 'f' }),
        Value::Number(number) => push_number(out, *number),
        Value::String(text) => push_string(out, text),
        Value::List(items) => {
            items.iter().for_each(|item| push_component(out, item));
            out.push(END);
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                out.push('3');
                push_string(out, name);
                push_component(out, value);
            }
            out.push(END);
        }
    }
}

/// Appends the component of a value that is seen in its text.
fn push_seen(out: &mut String, seen: &Seen<'_>) {
    match seen {
        Seen::Other(value) => push_component(out, value),
        Seen::Null => out.push('0'),
        Seen::Bool(truth) => out.push_str(if *truth { "1t" } else { "1f" }),
        Seen::Number(number) => {
            out.push('2');
            push_number(out, *number);
        }
        Seen::Text(text) => {
            out.push('3');
            push_string(out, text);
        }
    }
}

fn push_number(out: &mut String, number: f64) {
    let bits = if number == 0.0 { 0 } else { number.to_bits() };
    // Negative numbers: the larger the bits, the smaller the number.
    let mut rest = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    while rest != 0 {
        out.push(char::from(DIGITS[(rest >> 58) as usize]));
        rest <<= 6;
    }
    out.push(END);
}

fn push_string(out: &mut String, text: &str) {
    push_escaped(out, text);
    out.push(END);
}

fn push_escaped(out: &mut String, text: &str) {
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte <= b'!' {
            out.push_str(&text[plain..at]);
            out.push('!');
            out.push(char::from(byte + b'0'));
            plain = at + 1;
        }
    }
    out.push_str(&text[plain..]);
}

/// Appends the key of a record: the components of the named fields. `fields_text` is its JSON object without the id,
/// which goes by the name `id`.
pub fn key_of(id: &str, fields_text: &str, names: &[String], out: &mut String) {
    if let [name] = names {
        return push_field(out, name, id, fields_text);
    }
    let mut values: Vec<&str> = vec![""; names.len()];
    let mut left = names.iter().filter(|name| *name != "id").count();
    let mut top = Top::new(fields_text);
    while left > 0
        && let Some(field) = top.next_field()
    {
        for (name, value) in names.iter().zip(&mut values) {
            if value.is_empty() && name != "id" && field.is(name) {
                *value = field.value;
                left -= 1;
            }
        }
    }
    for (name, value) in names.iter().zip(values) {
        push_found(out, name, id, value);
    }
}

/// Appends the component of one field of a record.
pub fn push_field(out: &mut String, name: &str, id: &str, fields_text: &str) {
    let mut value = "";
    let mut top = Top::new(fields_text);
    while name != "id"
        && value.is_empty()
        && let Some(field) = top.next_field()
    {
        if field.is(name) {
            value = field.value;
        }
    }
    push_found(out, name, id, value);
}

fn push_found(out: &mut String, name: &str, id: &str, value: &str) {
    match (name, value) {
        ("id", _) => push_seen(out, &Seen::Text(id)),
        (_, "") => out.push('0'),
        _ => push_seen(out, &Seen::of(value)),
    }
}

/// The bytes that the first `count` components of a key take: what entries of one run have in common.
pub fn prefix_len(key: &str, count: usize) -> usize {
    let bytes = key.as_bytes();
    let text_end =
        |at: usize| bytes.iter().skip(at).position(|byte| *byte == b' ').map_or(bytes.len(), |end| at + end + 1);
    let (mut at, mut depth, mut left) = (0, 0_usize, count);
    while left > 0
        && let Some(byte) = bytes.get(at)
    {
        at += 1;
        match byte {
            b'1' => at += 1,
            b'2' | b'3' => at = text_end(at),
            b'4' | b'5' => depth += 1,
            b' ' => depth = depth.saturating_sub(1),
            _ => {}
        }
        left -= usize::from(depth == 0);
    }
    at.min(bytes.len())
}

/// The least text that is above all texts with this beginning. Of the empty one: above all keys.
pub fn successor(beginning: &str) -> String {
    let mut text = beginning.to_owned();
    while let Some(last) = text.pop() {
        // Behind U+D7FF the surrogates are left out, which is what the range of characters does.
        if let Some(next) = (last..=char::MAX).nth(1) {
            text.push(next);
            return text;
        }
    }
    String::from("6")
}

impl Range {
    /// All keys with this beginning.
    pub fn within(beginning: &str) -> Self {
        Self { lower: beginning.to_owned(), upper: successor(beginning) }
    }

    /// The keys that begin with `prefix` and go on with a component inside the limits of a condition (`gt`, `gte`, `lt`,
    /// `lte` and `prefix`; its other parts are not looked at).
    pub fn of(prefix: &str, condition: &Condition) -> Self {
        let mut range = Self::within(prefix);
        let limits = [
            (&condition.gt, true, true),
            (&condition.gte, true, false),
            (&condition.lt, false, false),
            (&condition.lte, false, true),
        ];
        for (limit, is_lower, above) in limits {
            let Some(value) = limit else { continue };
            let mut key = prefix.to_owned();
            key.push(char::from(b'0' + value.rank()));
            range.narrow(Self::within(&key));
            key.truncate(prefix.len());
            push_component(&mut key, value);
            let key = if above { successor(&key) } else { key };
            if is_lower { range.raise(key) } else { range.cut(key) }
        }
        if let Some(text) = &condition.prefix {
            let mut key = prefix.to_owned();
            key.push('3');
            push_escaped(&mut key, text);
            range.narrow(Self::within(&key));
        }
        range
    }

    /// Leaves out what is not in the other range.
    pub fn narrow(&mut self, other: Self) {
        self.raise(other.lower);
        self.cut(other.upper);
    }

    /// Leaves out what is below `lower`.
    pub fn raise(&mut self, lower: String) {
        if lower > self.lower {
            self.lower = lower;
        }
    }

    /// Leaves out `upper` and what is above it.
    pub fn cut(&mut self, upper: String) {
        if upper < self.upper {
            self.upper = upper;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.lower >= self.upper
    }

    pub fn contains(&self, key: &str) -> bool {
        self.lower.as_str() <= key && key < self.upper.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::Samples;
    use super::*;
    use landfall_protocol::Map;
    use landfall_protocol::codec::from_json;
    use std::cmp::Ordering;

    fn key(values: &[Value]) -> String {
        let mut key = String::new();
        values.iter().for_each(|value| push_component(&mut key, value));
        key
    }

    #[test]
    fn keys_are_in_the_order_of_the_values_component_by_component() {
        let mut samples = Samples::new(3);
        let mut equal = 0;
        for _ in 0..50_000 {
            let count = 1 + samples.below(3);
            let mut values = || (0..count).map(|_| Value::of(&samples.json(3))).collect::<Vec<Value>>();
            let (a, b) = (values(), values());
            let wanted = a.iter().zip(&b).map(|(a, b)| a.compare(b)).fold(Ordering::Equal, Ordering::then);
            assert_eq!(key(&a).cmp(&key(&b)), wanted, "{a:?} {b:?}");
            equal += usize::from(wanted.is_eq());
        }
        assert!(equal > 100, "{equal}");
    }

    #[test]
    fn numbers_of_all_sizes_are_in_order() {
        let sorted = [
            f64::NEG_INFINITY,
            -1e300,
            -2.0,
            -1.0,
            -5e-324,
            0.0,
            5e-324,
            0.1,
            1.0,
            1.5,
            2.0,
            1e15,
            1e300,
            f64::INFINITY,
        ];
        for pair in sorted.windows(2) {
            assert!(key(&[Value::Number(pair[0])]) < key(&[Value::Number(pair[1])]), "{pair:?}");
        }
        assert_eq!(key(&[Value::Number(-0.0)]), key(&[Value::Number(0.0)]));
    }

    #[test]
    fn the_key_of_a_record_is_that_of_its_values() {
        let mut samples = Samples::new(5);
        let names: Vec<String> = ["b", "id", "a"].map(String::from).to_vec();
        for _ in 0..5_000 {
            let (id, text) = (samples.string(), samples.object(&["a", "x", "b", "id"], 2));
            let fields: Map<String, Value> = from_json(&text).unwrap();
            let of = |name: &str| fields.get(name).cloned().unwrap_or(Value::Null);
            let mut found = String::new();
            key_of(&id, &text, &names, &mut found);
            assert_eq!(found, key(&[of("b"), Value::String(id.clone()), of("a")]), "{text}");
            found.clear();
            key_of(&id, &text, &names[..1], &mut found);
            assert_eq!(found, key(&[of("b")]));
        }
    }

    #[test]
    fn a_range_holds_the_keys_whose_values_hold() {
        let mut samples = Samples::new(9);
        let mut inside = 0;
        for _ in 0..30_000 {
            let mut condition = Condition::default();
            let mut value = || Some(Value::of(&samples.json(1)));
            let (a, b) = (value(), value());
            match samples.below(6) {
                0 => condition.gt = a,
                1 => condition.gte = a,
                2 => condition.lt = a,
                3 => condition.lte = a,
                4 => (condition.gt, condition.lte) = (a, b),
                _ => condition.prefix = Some(samples.string()),
            }
            let first = Value::of(&samples.json(1));
            let range = Range::of(&key(std::slice::from_ref(&first)), &condition);
            let value = Value::of(&samples.json(1));
            let holds = condition.holds(&value);
            let mut whole = key(&[first, value, Value::Bool(true)]);
            assert_eq!(range.contains(&whole), holds, "{whole} {condition:?} {range:?}");
            whole.insert(0, '6');
            assert!(!range.contains(&whole));
            inside += usize::from(holds);
        }
        assert!(inside > 1_000, "{inside}");
    }

    #[test]
    fn the_components_of_a_key_can_be_told_apart() {
        let mut samples = Samples::new(15);
        for _ in 0..5_000 {
            let values: Vec<Value> = (0..4).map(|_| Value::of(&samples.json(3))).collect();
            for count in 0..=4 {
                assert_eq!(prefix_len(&key(&values), count), key(&values[..count]).len(), "{values:?}");
            }
        }
        assert_eq!(prefix_len("3abc", 1), 4);
        assert_eq!(prefix_len("1", 9), 1);
    }
}
