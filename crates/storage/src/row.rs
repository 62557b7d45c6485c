//! The row format: one line of text that a person can read in the browser's developer tools.
//!
//! `L1 4f6c9a0b12de3344 {"…":…}`: a letter for the kind, the format version of that kind, a space, the XXH64 of
//! everything after the second space as 16 hex digits, a space, then JSON. A row that does not hold to this is
//! quarantined by the reader (I3): kept, reported, never applied, never deleted, never read as "not there".

use landfall_protocol::codec::{FromJson, ToJson, from_json, to_json, write_hex, write_number};
use landfall_protocol::text::cut;
use xxhash_rust::xxh64::xxh64;

/// What a row holds. The letter is part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKind {
    Log,
    Segment,
    Page,
    Run,
    Manifest,
    Client,
    Cursor,
    Descriptor,
    Parked,
    Conflict,
    Acked,
    Token,
    Schema,
    Filler,
    Status,
    Quarantine,
    Lanes,
    LanePage,
}

impl RowKind {
    pub const ALL: [Self; 18] = [
        Self::Log,
        Self::Segment,
        Self::Page,
        Self::Run,
        Self::Manifest,
        Self::Client,
        Self::Cursor,
        Self::Descriptor,
        Self::Parked,
        Self::Conflict,
        Self::Acked,
        Self::Token,
        Self::Schema,
        Self::Filler,
        Self::Status,
        Self::Quarantine,
        Self::Lanes,
        Self::LanePage,
    ];
    pub fn letter(self) -> char {
        match self {
            Self::Log => 'L',
            Self::Segment => 'S',
            Self::Page => 'G',
            Self::Run => 'R',
            Self::Manifest => 'M',
            Self::Client => 'C',
            Self::Cursor => 'U',
            Self::Descriptor => 'D',
            Self::Parked => 'P',
            Self::Conflict => 'X',
            Self::Acked => 'A',
            Self::Token => 'T',
            Self::Schema => 'H',
            Self::Filler => 'F',
            Self::Status => 'I',
            Self::Quarantine => 'Q',
            Self::Lanes => 'N',
            Self::LanePage => 'E',
        }
    }
    /// Format version that this build writes.
    pub fn version(self) -> u32 {
        1
    }
}

/// A row as its parts, not yet parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    pub kind: RowKind,
    pub version: u32,
    pub body: &'a str,
}

/// Why a row can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowError {
    /// No header of this format.
    Header,
    /// The header is fine, the body's checksum is not.
    Checksum,
    /// Whole, but of another kind than its place asks for.
    Kind,
    /// Written by a later version of Landfall.
    Newer { version: u32 },
    /// Whole by its checksum, and still not what the kind needs.
    Body,
}

/// Writes a row.
pub fn encode(kind: RowKind, body: &dyn ToJson) -> String {
    encode_text(kind, &to_json(body))
}

/// Writes a row around a body that is JSON text already.
pub fn encode_text(kind: RowKind, body: &str) -> String {
    let mut row = begin(kind, body.len());
    row.push_str(body);
    end(row)
}

/// A row whose body of about `bytes` is still to be written; [`end`] completes it.
pub fn begin(kind: RowKind, bytes: usize) -> String {
    let mut row = String::with_capacity(bytes + 24);
    row.push(kind.letter());
    write_number(&mut row, u64::from(kind.version()));
    row.push_str(" 0000000000000000 ");
    row
}

/// Puts the checksum of the body into a row that [`begin`] began.
pub fn end(row: String) -> String {
    let at = row.bytes().position(|byte| byte == b' ').map_or(0, |at| at + 1);
    let mut whole = String::with_capacity(row.len());
    whole.push_str(&row[..at]);
    write_hex(&mut whole, xxh64(&row.as_bytes()[at + 17..], 0), 16);
    whole.push_str(&row[at + 16..]);
    whole
}

/// Takes a row apart and checks it.
pub fn open(kind: RowKind, row: &str) -> Result<Row<'_>, RowError> {
    let (header, rest) = cut(row, b' ').ok_or(RowError::Header)?;
    let (sum, body) = cut(rest, b' ').ok_or(RowError::Header)?;
    let mut letters = header.chars();
    let letter = letters.next().ok_or(RowError::Header)?;
    let version: u32 = letters.as_str().parse().map_err(|_| RowError::Header)?;
    if version == 0 {
        return Err(RowError::Header);
    }
    let found = RowKind::ALL.into_iter().find(|kind| kind.letter() == letter).ok_or(RowError::Header)?;
    if sum.len() != 16 || u64::from_str_radix(sum, 16).map_err(|_| RowError::Header)? != xxh64(body.as_bytes(), 0) {
        return Err(RowError::Checksum);
    }
    if found != kind {
        return Err(RowError::Kind);
    }
    if version > kind.version() {
        return Err(RowError::Newer { version });
    }
    Ok(Row { kind, version, body })
}

/// Reads a row.
pub fn decode<T: FromJson>(kind: RowKind, row: &str) -> Result<T, RowError> {
    let row = open(kind, row)?;
    from_json(row.body).ok_or(RowError::Body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_protocol::Map;

    #[test]
    fn i3_a_flipped_byte_anywhere_is_seen() {
        let row = encode(RowKind::Cursor, &Map::from([("abc".to_owned(), 17_u64)]));
        assert_eq!(decode::<Map<String, u64>>(RowKind::Cursor, &row).unwrap()["abc"], 17);
        for at in 0..row.len() {
            let mut bytes = row.clone().into_bytes();
            bytes[at] ^= 0x01;
            let torn = String::from_utf8(bytes).unwrap();
            assert!(decode::<Map<String, u64>>(RowKind::Cursor, &torn).is_err(), "{torn}");
        }
    }

    #[test]
    fn a_row_of_a_later_version_is_told_apart_from_a_broken_one() {
        let row = encode(RowKind::Log, &1_u32).replacen("L1", "L2", 1);
        assert_eq!(decode::<u32>(RowKind::Log, &row), Err(RowError::Newer { version: 2 }));
        assert_eq!(decode::<u32>(RowKind::Client, &encode(RowKind::Log, &1_u32)), Err(RowError::Kind));
    }

    #[test]
    fn letters_are_unique() {
        let mut letters: Vec<char> = RowKind::ALL.iter().map(|kind| kind.letter()).collect();
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.len(), RowKind::ALL.len());
    }
}
