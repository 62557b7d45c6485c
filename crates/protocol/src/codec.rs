//! JSON for the client: the same texts as the serde derives beside it, in a tenth of the code.
//!
//! serde makes a parser for every type. Here one loop reads every object and one writes it: a type only lists its
//! fields ([`wire!`](crate::wire!)) and hands them over as `dyn` parts. Reading is one pass over the text.
//!
//! Read is what serde reads: unknown fields are passed over, a field given twice is refused, of equal keys of a map the
//! last one wins, numbers are whole. Written is what serde writes, byte for byte (`tests/codec.rs`). The server, which
//! explains to people what is wrong with a text, stays with serde.

mod fields;
mod reader;
mod types;
mod writer;

pub use reader::{Reader, whole};
pub use types::{FromKey, ToKey, fill_pair};
pub use writer::{hex, padded, write_hex, write_number, write_string};

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
