//! JSON for the client: the same texts as the serde derives beside it, in a tenth of the code.
//!
//! serde makes a parser for every type. Here one loop reads every object and one writes it: a type only lists its
//! fields ([`wire!`](crate::wire!)) and hands them over as `dyn` parts. Reading is one pass over the text.
//!
//! Read is what serde reads: unknown fields are passed over, a field given twice is refused, of equal keys of a map the
//! last one wins, numbers are whole. Written is what serde writes, byte for byte (`tests/codec.rs`). The server, which
//! explains to people what is wrong with a text, stays with serde.

use crate::{Map, Set};
use std::borrow::Cow;

/// Can be written as JSON.
pub trait ToJson {
    fn write(&self, out: &mut String);
    /// True for what a field of kind `Skip` leaves out.
    fn is_blank(&self) -> bool {
        false
    }
}

/// Can be read from JSON.
pub trait FromJson {
    /// What to read into.
    fn blank() -> Self
    where
        Self: Sized;
    /// Takes the value that comes next. False: it is none of this type, and `self` is anything.
    fn fill(&mut self, from: &mut Reader<'_>) -> bool;
}

/// The JSON text of a value.
pub fn to_json<T: ToJson + ?Sized>(value: &T) -> String {
    // Room for a small record, so that most texts need not grow.
    let mut out = String::with_capacity(256);
    value.write(&mut out);
    out
}

/// Reads a whole text. `None`: it is no JSON, or none of this type.
pub fn from_json<T: FromJson>(text: &str) -> Option<T> {
    let mut value = T::blank();
    fill_all(&mut value, text).then_some(value)
}

fn fill_all(value: &mut dyn FromJson, text: &str) -> bool {
    let mut reader = Reader::new(text);
    value.fill(&mut reader) && reader.is_done()
}

/// The next field of a list as [`wire!`](crate::wire!) makes it, `seq!base?unset~`: its name, the mark behind it, and
/// the list from the next one on.
///
/// A mark says how the field is read and written: `!` must be there; `?` may be missing, is always written; `~` may be
/// missing, is left out when blank. One text for all: a table of names is three numbers for each.
fn field(list: &str) -> Option<(&str, u8, &str)> {
    let end = list.bytes().position(|byte| !byte.is_ascii_alphabetic() && byte != b'_')?;
    Some((list.get(..end)?, *list.as_bytes().get(end)?, list.get(end + 1..)?))
}

/// Walks a JSON text.
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

/// Nesting of lists and objects that are taken apart; each level is a few frames of the stack.
const DEPTH_MAX: usize = 127;

impl<'a> Reader<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    fn byte(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    /// How many bytes are read.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// Goes on at a byte that the caller knows. False: behind the end.
    pub fn jump(&mut self, to: usize) -> bool {
        self.at = to;
        to <= self.text.len()
    }

    /// The next byte that is no white space.
    pub fn peek(&mut self) -> u8 {
        while matches!(self.byte(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
        self.byte()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == byte;
        self.at += usize::from(there);
        there
    }

    /// True at the end of the text.
    pub fn is_done(&mut self) -> bool {
        self.peek();
        self.at == self.text.len()
    }

    /// One of the three words.
    pub fn word(&mut self, word: &str) -> bool {
        self.peek();
        let there = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += if there { word.len() } else { 0 };
        there
    }

    /// Calls `each` at every element of a list.
    pub fn list(&mut self, each: &mut dyn FnMut(&mut Self) -> bool) -> bool {
        self.parts(b'[', b']', each)
    }

    /// Calls `each` with every key of an object, at its value.
    pub fn object(&mut self, each: &mut dyn FnMut(&str, &mut Self) -> bool) -> bool {
        self.fields(&mut |key, from| each(&key, from))
    }

    /// As [`Self::object`], with keys that live as long as the text.
    pub fn fields(&mut self, each: &mut dyn FnMut(Cow<'a, str>, &mut Self) -> bool) -> bool {
        self.parts(b'{', b'}', &mut |from| {
            let Some(key) = from.string() else { return false };
            from.eat(b':') && each(key, from)
        })
    }

    fn parts(&mut self, open: u8, close: u8, each: &mut dyn FnMut(&mut Self) -> bool) -> bool {
        if self.depth == DEPTH_MAX || !self.eat(open) {
            return false;
        }
        if self.eat(close) {
            return true;
        }
        self.depth += 1;
        while each(self) {
            if !self.eat(b',') {
                self.depth -= 1;
                return self.eat(close);
            }
        }
        false
    }

    /// A string without its escapes.
    pub fn string(&mut self) -> Option<Cow<'a, str>> {
        if !self.eat(b'"') {
            return None;
        }
        let mut start = self.at;
        let mut owned = String::new();
        loop {
            match self.byte() {
                b'"' => break,
                b'\\' => {
                    owned.push_str(self.text.get(start..self.at)?);
                    owned.push(self.escape()?);
                    start = self.at;
                }
                0..=0x1f => return None,
                _ => self.at += plain_len(&self.text.as_bytes()[self.at..]),
            }
        }
        let rest = self.text.get(start..self.at)?;
        self.at += 1;
        if owned.is_empty() {
            return Some(Cow::Borrowed(rest));
        }
        owned.push_str(rest);
        Some(Cow::Owned(owned))
    }

    fn escape(&mut self) -> Option<char> {
        self.at += 2;
        Some(match self.text.as_bytes().get(self.at - 1)? {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let mut code = self.hex()?;
                if (0xd800..0xdc00).contains(&code) {
                    // The first half of a pair; the second must follow.
                    if self.byte() != b'\\' || self.text.as_bytes().get(self.at + 1) != Some(&b'u') {
                        return None;
                    }
                    self.at += 2;
                    let low = self.hex()?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return None;
                    }
                    code = 0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                }
                char::from_u32(code)?
            }
            byte @ (b'"' | b'\\' | b'/') => char::from(*byte),
            _ => return None,
        })
    }

    fn hex(&mut self) -> Option<u32> {
        let mut code = 0;
        for _ in 0..4 {
            code = code * 16 + char::from(self.byte()).to_digit(16)?;
            self.at += 1;
        }
        Some(code)
    }

    /// The text of the value that comes next, checked.
    pub fn raw(&mut self) -> Option<&'a str> {
        self.peek();
        let start = self.at;
        if self.skip() { self.text.get(start..self.at) } else { None }
    }

    /// Passes over any value. Nesting costs a byte a level, no stack.
    pub fn skip(&mut self) -> bool {
        let mut open: Vec<u8> = Vec::new();
        loop {
            let byte = self.peek();
            let ended = match byte {
                b'{' | b'[' => {
                    self.at += 1;
                    // In ASCII a closing bracket is two after its opening one.
                    open.push(byte + 2);
                    self.eat(byte + 2)
                }
                b'"' => self.skip_string(),
                b't' => self.word("true"),
                b'f' => self.word("false"),
                b'n' => self.word("null"),
                _ => self.skip_number(),
            };
            let opened = matches!(byte, b'{' | b'[');
            if opened && ended {
                open.pop();
            } else if !opened && !ended {
                return false;
            }
            if !opened || ended {
                // A value has ended, and with it maybe what it is in.
                loop {
                    match open.last() {
                        None => return true,
                        Some(close) if self.peek() == *close => {
                            self.at += 1;
                            open.pop();
                        }
                        Some(_) if self.eat(b',') => break,
                        Some(_) => return false,
                    }
                }
            }
            if open.last() == Some(&b'}') && !(self.peek() == b'"' && self.skip_string() && self.eat(b':')) {
                return false;
            }
        }
    }

    /// As serde's raw values: escapes are well formed, whatever they stand for.
    fn skip_string(&mut self) -> bool {
        self.at += 1;
        loop {
            match self.byte() {
                b'"' => {
                    self.at += 1;
                    return true;
                }
                b'\\' => {
                    self.at += 2;
                    match self.text.as_bytes().get(self.at - 1) {
                        Some(b'u') => {
                            if self.hex().is_none() {
                                return false;
                            }
                        }
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                        _ => return false,
                    }
                }
                0..=0x1f => return false,
                _ => self.at += plain_len(&self.text.as_bytes()[self.at..]),
            }
        }
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.byte().is_ascii_digit() {
            self.at += 1;
        }
        self.at - start
    }

    fn skip_number(&mut self) -> bool {
        self.at += usize::from(self.byte() == b'-');
        let zero = self.byte() == b'0';
        let count = self.digits();
        if count == 0 || (zero && count > 1) {
            return false;
        }
        if self.byte() == b'.' {
            self.at += 1;
            if self.digits() == 0 {
                return false;
            }
        }
        if matches!(self.byte(), b'e' | b'E') {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), b'+' | b'-'));
            return self.digits() > 0;
        }
        true
    }

    /// A whole number that is written as one.
    pub fn number(&mut self) -> Option<u64> {
        self.peek();
        let (start, mut number) = (self.at, 0_u64);
        while self.byte().is_ascii_digit() {
            number = number.wrapping_mul(10).wrapping_add(u64::from(self.byte() - b'0'));
            self.at += 1;
        }
        let zeros = self.text.as_bytes().get(start) == Some(&b'0');
        // So many digits fit for sure.
        if matches!((self.at - start, zeros), (1, _) | (2..=19, false)) && !matches!(self.byte(), b'.' | b'e' | b'E') {
            return Some(number);
        }
        self.at = start;
        whole(self.raw()?)
    }
}

/// A whole number that is written as one: no sign, fraction, exponent or leading zero.
pub fn whole(text: &str) -> Option<u64> {
    if text.is_empty() || (text.starts_with('0') && text.len() > 1) {
        return None;
    }
    text.bytes().try_fold(0_u64, |number, byte| {
        let digit = char::from(byte).to_digit(10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Reads an object into the parts that `fields` names, in the same order.
pub fn fill_object(from: &mut Reader<'_>, fields: &str, parts: &mut [&mut dyn FromJson]) -> bool {
    let mut seen = 0_u32;
    let (mut rest, mut at) = (fields, 0);
    let read = from.object(&mut |key, from| {
        // As a rule they come in this order: each is looked for from the last one on, then from the first on.
        for _ in 0..2 {
            while let Some((name, _, next)) = field(rest) {
                (rest, at) = (next, at + 1);
                if name == key {
                    let first = seen & (1 << at) == 0;
                    seen |= 1 << at;
                    return first && parts.get_mut(at - 1).is_some_and(|part| part.fill(from));
                }
            }
            (rest, at) = (fields, 0);
        }
        from.skip()
    });
    (rest, at) = (fields, 0);
    while let Some((_, mark, next)) = field(rest) {
        (rest, at) = (next, at + 1);
        if mark == b'!' && seen & (1 << at) == 0 {
            return false;
        }
    }
    read
}

/// Writes an object of the parts that `fields` names, in the same order.
pub fn write_object(out: &mut String, fields: &str, parts: &[&dyn ToJson]) {
    let mut mark = '{';
    let mut rest = fields;
    for part in parts {
        let Some((name, kind, next)) = field(rest) else { break };
        rest = next;
        if kind != b'~' || !part.is_blank() {
            out.push(mark);
            mark = ',';
            write_string(out, name);
            out.push(':');
            part.write(out);
        }
    }
    if mark == '{' {
        out.push(mark);
    }
    out.push('}');
}

/// Writes a string with its quotes.
pub fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    loop {
        let at = plain_len(rest.as_bytes());
        out.push_str(&rest[..at]);
        let Some(byte) = rest.as_bytes().get(at).copied() else { break };
        out.push('\\');
        match byte {
            8 => out.push('b'),
            9 => out.push('t'),
            10 => out.push('n'),
            12 => out.push('f'),
            13 => out.push('r'),
            b'"' | b'\\' => out.push(char::from(byte)),
            _ => {
                out.push_str("u00");
                write_hex(out, u64::from(byte), 2);
            }
        }
        rest = &rest[at + 1..];
    }
    out.push('"');
}

const ONES: u64 = 0x0101_0101_0101_0101;

/// How many bytes come before the first that a JSON string can't hold as it is; eight a step.
fn plain_len(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*eight);
        // Of each the high bit of the lowest byte that it is about; above that there may be wrong bits.
        let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
        let hit = below(word, 0x20) | below(word ^ (ONES * 0x22), 1) | below(word ^ (ONES * 0x5c), 1);
        match hit & (ONES << 7) {
            0 => at += 8,
            hit => return at + (hit.trailing_zeros() / 8) as usize,
        }
    }
    let rest = &bytes[at..];
    at + rest.iter().position(|byte| matches!(byte, 0..=0x1f | b'"' | b'\\')).unwrap_or(rest.len())
}

/// Writes a number in decimal.
pub fn write_number(out: &mut String, number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    digits[at..].iter().for_each(|digit| out.push(char::from(*digit)));
}

/// Writes the last `width` hex digits of a number.
pub fn write_hex(out: &mut String, number: u64, width: u32) {
    for place in (0..width).rev() {
        let digit = (number >> (place * 4)) & 15;
        out.push(char::from(b"0123456789abcdef"[digit as usize]));
    }
}

/// The number in decimal, with zeros in front up to `width`.
pub fn padded(number: u64, width: usize) -> String {
    let mut digits = String::new();
    write_number(&mut digits, number);
    let mut text = String::new();
    for _ in digits.len()..width {
        text.push('0');
    }
    text.push_str(&digits);
    text
}

/// The number in 16 hex digits.
pub fn hex(number: u64) -> String {
    let mut digits = String::new();
    write_hex(&mut digits, number, 16);
    digits
}

/// Lists the fields of a struct for both ways: `wire!(Token { token: Need, expires_at: Keep });`
///
/// `Need`: must be there. `Keep`: may be missing, is always written. `Skip`: may be missing, is left out when blank.
/// A name in front is the name in JSON: `"type" kind: Need`.
#[macro_export]
macro_rules! wire {
    ($type:ty { $($fields:tt)* }) => {
        $crate::wire_in!($type { $($fields)* });
        $crate::wire_out!($type { $($fields)* });
    };
}

/// Lists the fields of a struct that is only read.
#[macro_export]
macro_rules! wire_in {
    ($type:ty { $($($name:literal)? $field:ident: $kind:ident),* $(,)? }) => {
        impl $crate::codec::FromJson for $type {
            fn blank() -> Self {
                Self { $($field: $crate::codec::FromJson::blank()),* }
            }
            fn fill(&mut self, from: &mut $crate::codec::Reader<'_>) -> bool {
                const FIELDS: &str = concat!($($crate::wire_name!($($name)? $field), $crate::wire_mark!($kind)),*);
                $crate::codec::fill_object(from, FIELDS, &mut [$(&mut self.$field),*])
            }
        }
    };
}

/// Lists the fields of a struct that is only written.
#[macro_export]
macro_rules! wire_out {
    ($type:ty { $($($name:literal)? $field:ident: $kind:ident),* $(,)? }) => {
        impl $crate::codec::ToJson for $type {
            fn write(&self, out: &mut String) {
                const FIELDS: &str = concat!($($crate::wire_name!($($name)? $field), $crate::wire_mark!($kind)),*);
                $crate::codec::write_object(out, FIELDS, &[$(&self.$field),*]);
            }
        }
    };
}

/// The name of a field in JSON.
#[doc(hidden)]
#[macro_export]
macro_rules! wire_name {
    ($name:literal $field:ident) => {
        $name
    };
    ($field:ident) => {
        stringify!($field)
    };
}

/// How a field is read and written, as [`fill_object`] has it.
#[doc(hidden)]
#[macro_export]
macro_rules! wire_mark {
    (Need) => {
        "!"
    };
    (Keep) => {
        "?"
    };
    (Skip) => {
        "~"
    };
}

/// Lists the names of an enum without data: `wire_names!(Op { Create: "create", … });`
#[macro_export]
macro_rules! wire_names {
    ($type:ident { $first:ident: $first_name:literal $(, $variant:ident: $name:literal)* $(,)? }) => {
        impl $crate::codec::ToJson for $type {
            fn write(&self, out: &mut String) {
                $crate::codec::write_string(out, match self {
                    Self::$first => $first_name,
                    $(Self::$variant => $name,)*
                });
            }
        }
        impl $crate::codec::FromJson for $type {
            fn blank() -> Self {
                Self::$first
            }
            fn fill(&mut self, from: &mut $crate::codec::Reader<'_>) -> bool {
                const NAMES: &[(&str, $type)] = &[($first_name, $type::$first) $(, ($name, $type::$variant))*];
                let Some(name) = from.string() else { return false };
                let found = NAMES.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| *self = *value).is_some()
            }
        }
    };
}

impl<T: ToJson + ?Sized> ToJson for &T {
    fn write(&self, out: &mut String) {
        (**self).write(out);
    }
    fn is_blank(&self) -> bool {
        (**self).is_blank()
    }
}
impl ToJson for str {
    fn write(&self, out: &mut String) {
        write_string(out, self);
    }
}
impl ToJson for String {
    fn write(&self, out: &mut String) {
        write_string(out, self);
    }
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}
impl FromJson for String {
    fn blank() -> Self {
        Self::new()
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        from.string().map(|text| *self = text.into_owned()).is_some()
    }
}

impl ToJson for bool {
    fn write(&self, out: &mut String) {
        out.push_str(if *self { "true" } else { "false" });
    }
    fn is_blank(&self) -> bool {
        !*self
    }
}
impl FromJson for bool {
    fn blank() -> Self {
        false
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        *self = from.word("true");
        *self || from.word("false")
    }
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl ToJson for $type {
            fn write(&self, out: &mut String) {
                write_number(out, *self as u64);
            }
            fn is_blank(&self) -> bool {
                *self == 0
            }
        }
        impl FromJson for $type {
            fn blank() -> Self {
                0
            }
            fn fill(&mut self, from: &mut Reader<'_>) -> bool {
                from.number().and_then(|number| number.try_into().ok()).map(|number| *self = number).is_some()
            }
        }
    )*};
}
numbers!(u64, u32, usize);

impl FromJson for i32 {
    fn blank() -> Self {
        0
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        let Some(text) = from.raw() else { return false };
        let (size, sign) = match text.strip_prefix('-') {
            Some(size) if size != "0" => (size, -1),
            _ => (text, 1),
        };
        let number = whole(size).and_then(|number| i64::try_from(number).ok());
        number.and_then(|number| i32::try_from(number * sign).ok()).map(|number| *self = number).is_some()
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn write(&self, out: &mut String) {
        match self {
            Some(value) => value.write(out),
            None => out.push_str("null"),
        }
    }
    fn is_blank(&self) -> bool {
        self.is_none()
    }
}
impl<T: FromJson> FromJson for Option<T> {
    fn blank() -> Self {
        None
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        if from.word("null") {
            *self = None;
            return true;
        }
        self.insert(T::blank()).fill(from)
    }
}

fn write_list<'a, T: ToJson + 'a>(out: &mut String, items: impl Iterator<Item = &'a T>) {
    let mut mark = '[';
    for item in items {
        out.push(mark);
        mark = ',';
        item.write(out);
    }
    if mark == '[' {
        out.push(mark);
    }
    out.push(']');
}

impl<T: ToJson> ToJson for Vec<T> {
    fn write(&self, out: &mut String) {
        write_list(out, self.iter());
    }
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}
impl<T: FromJson> FromJson for Vec<T> {
    fn blank() -> Self {
        Self::new()
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        from.list(&mut |from| {
            let mut item = T::blank();
            let read = item.fill(from);
            self.push(item);
            read
        })
    }
}
impl<T: ToJson> ToJson for Set<T> {
    fn write(&self, out: &mut String) {
        write_list(out, self.iter());
    }
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

impl<A: ToJson, B: ToJson> ToJson for (A, B) {
    fn write(&self, out: &mut String) {
        out.push('[');
        self.0.write(out);
        out.push(',');
        self.1.write(out);
        out.push(']');
    }
}
impl<A: FromJson, B: FromJson> FromJson for (A, B) {
    fn blank() -> Self {
        (A::blank(), B::blank())
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        fill_pair(from, &mut self.0, &mut self.1)
    }
}

/// A list of two.
pub fn fill_pair(from: &mut Reader<'_>, first: &mut dyn FromJson, second: &mut dyn FromJson) -> bool {
    let mut count = 0;
    let read = from.list(&mut |from| {
        count += 1;
        match count {
            1 => first.fill(from),
            2 => second.fill(from),
            _ => false,
        }
    });
    read && count == 2
}

/// Can be read from a key of a JSON object.
pub trait FromKey: Ord + Sized {
    fn from_key(text: &str) -> Option<Self>;
}

/// Can be written as a key of a JSON object.
pub trait ToKey {
    /// Writes the key with its quotes.
    fn write_key(&self, out: &mut String);
}

impl FromKey for String {
    fn from_key(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}
impl ToKey for String {
    fn write_key(&self, out: &mut String) {
        write_string(out, self);
    }
}
impl ToKey for &str {
    fn write_key(&self, out: &mut String) {
        write_string(out, self);
    }
}

impl<K: ToKey, V: ToJson> ToJson for Map<K, V> {
    fn write(&self, out: &mut String) {
        let mut mark = '{';
        for (key, value) in self {
            out.push(mark);
            mark = ',';
            key.write_key(out);
            out.push(':');
            value.write(out);
        }
        if mark == '{' {
            out.push(mark);
        }
        out.push('}');
    }
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}
impl<K: FromKey, V: FromJson> FromJson for Map<K, V> {
    fn blank() -> Self {
        Self::new()
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        from.object(&mut |key, from| {
            let Some(key) = K::from_key(key) else { return false };
            let mut value = V::blank();
            let read = value.fill(from);
            self.insert(key, value);
            read
        })
    }
}
