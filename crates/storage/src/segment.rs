//! Segments: immutable rows of records as JSON text, written once, read slot by slot.
//!
//! A body is `{"scope":…,"collection":…,"at":ms,"lengths":[…],"records":[["id",version,{…}],…]}`. `lengths` holds the bytes
//! of each record's text, so that a reader finds a slot without walking the others; a tombstone's fields are `null`.

use crate::row::{self, RowError, RowKind};
use landfall_protocol::codec::{Reader, ToJson, write_number};
use landfall_protocol::{CollectionName, Pair, RecordId, Scope, UnixMillis, Version};
use std::borrow::Cow;

/// Records of one segment at most, and bytes of their JSON. A segment is read whole for one record, so it is small; smaller
/// ones cost more on the way in than they save (docs/storage.md).
pub const SEGMENT_COUNT_MAX: usize = 150;
pub const SEGMENT_BYTES_MAX: usize = 20 * 1024;

/// A record or tombstone of the base, on its way into a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub id: RecordId,
    pub version: Version,
    /// JSON text of the fields; `None`: deleted.
    pub fields: Option<Box<str>>,
}

impl Held {
    /// Bytes that it takes in a segment, about.
    pub fn bytes(&self) -> usize {
        self.fields.as_ref().map_or(4, |text| text.len()) + self.id.as_str().len() + 24
    }
}

/// The row text of a segment. `records` are in the order of their run.
pub fn encode_segment(pair: &Pair, at: UnixMillis, records: &[(String, &Held)]) -> String {
    let mut texts = String::with_capacity(records.iter().map(|(_, record)| record.bytes()).sum());
    let mut lengths = String::with_capacity(records.len() * 4);
    for (at, (_, record)) in records.iter().enumerate() {
        if at > 0 {
            lengths.push(',');
            texts.push(',');
        }
        let from = texts.len();
        texts.push('[');
        record.id.write(&mut texts);
        texts.push(',');
        write_number(&mut texts, record.version.get());
        texts.push(',');
        texts.push_str(record.fields.as_deref().unwrap_or("null"));
        texts.push(']');
        write_number(&mut lengths, (texts.len() - from) as u64);
    }
    let mut row = row::begin(RowKind::Segment, texts.len() + lengths.len() + 200);
    row.push_str("{\"scope\":");
    pair.0.write(&mut row);
    row.push_str(",\"collection\":");
    pair.1.write(&mut row);
    row.push_str(",\"at\":");
    write_number(&mut row, at.get());
    row.push_str(",\"lengths\":[");
    row.push_str(&lengths);
    row.push_str("],\"records\":[");
    row.push_str(&texts);
    row.push_str("]}");
    row::end(row)
}

/// Where a record is in its segment's text.
#[derive(Clone, Copy, Debug)]
struct Slot {
    version: Version,
    /// The id with its quotes.
    id: (u32, u32),
    /// The fields; empty: deleted.
    fields: (u32, u32),
}

/// A segment in memory: its text, and where each record is.
#[derive(Clone, Debug)]
pub struct Block {
    text: Box<str>,
    slots: Vec<Slot>,
    pub pair: Pair,
    /// When its youngest record came in.
    pub at: UnixMillis,
}

impl Block {
    /// Checks a row and finds its records.
    pub fn decode(row: String) -> Result<Self, RowError> {
        let body = row::open(RowKind::Segment, &row)?.body;
        let start = row.len() - body.len();
        let mut pair = Pair(Scope::new(""), CollectionName::new(""));
        let mut at = UnixMillis(0);
        let (mut lengths, mut slots): (Vec<u32>, Vec<Slot>) = (Vec::new(), Vec::new());
        let mut reader = Reader::new(body);
        use landfall_protocol::codec::FromJson;
        let read = reader.object(&mut |key, from| match key {
            "scope" => pair.0.fill(from),
            "collection" => pair.1.fill(from),
            "at" => at.fill(from),
            "lengths" => lengths.fill(from),
            "records" => {
                slots.reserve_exact(lengths.len());
                let mut next = from.offset() + 1;
                let mut whole = true;
                for length in &lengths {
                    let end = next + *length as usize;
                    match slot(body, next, end) {
                        Some(slot) => slots.push(slot.moved(start as u32)),
                        None => whole = false,
                    }
                    next = end + 1;
                }
                // An empty list has its bracket where the first record would be.
                let end = if lengths.is_empty() { next + 1 } else { next };
                whole && from.jump(end)
            }
            _ => from.skip(),
        });
        if !read || slots.len() != lengths.len() {
            return Err(RowError::Body);
        }
        Ok(Self { text: row.into_boxed_str(), slots, pair, at })
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.text.len() + self.slots.len() * size_of::<Slot>() + 160
    }

    fn cut(&self, (from, to): (u32, u32)) -> &str {
        self.text.get(from as usize..to as usize).unwrap_or_default()
    }

    /// The id in a slot.
    pub fn id(&self, slot: usize) -> Cow<'_, str> {
        let quoted = self.slots.get(slot).map_or("\"\"", |found| self.cut(found.id));
        if quoted.as_bytes().contains(&b'\\') {
            return Cow::Owned(Reader::new(quoted).string().unwrap_or_default().into_owned());
        }
        Cow::Borrowed(quoted.get(1..quoted.len() - 1).unwrap_or_default())
    }
    pub fn version(&self, slot: usize) -> Version {
        self.slots.get(slot).map_or(Version::ZERO, |found| found.version)
    }
    /// The fields in a slot as JSON text. `None`: deleted.
    pub fn fields(&self, slot: usize) -> Option<&str> {
        let text = self.cut(self.slots.get(slot)?.fields);
        (!text.is_empty()).then_some(text)
    }
    /// The record in a slot, to be written elsewhere.
    pub fn held(&self, slot: usize) -> Held {
        let id = RecordId::new(self.id(slot).into_owned());
        Held { id, version: self.version(slot), fields: self.fields(slot).map(Into::into) }
    }
    /// The slot of an id, in a segment sorted by id.
    pub fn find(&self, id: &str) -> Option<usize> {
        let (mut low, mut high) = (0, self.slots.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.id(middle).as_ref().cmp(id) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
    }
}

impl Slot {
    fn moved(self, by: u32) -> Self {
        let add = |(from, to): (u32, u32)| if from == to { (0, 0) } else { (from + by, to + by) };
        Self { version: self.version, id: add(self.id), fields: add(self.fields) }
    }
}

/// Takes `["id",version,{…}]` apart. The checksum has been checked, so only the shape can be wrong.
fn slot(body: &str, from: usize, to: usize) -> Option<Slot> {
    let mut reader = Reader::new(body.get(from..to)?);
    let mut id = (0, 0);
    let mut version = 0;
    let mut part = 0;
    let end = to.checked_sub(from + 1)?;
    let mut fields = (0, 0);
    let read = reader.list(&mut |at| {
        part += 1;
        let start = at.offset();
        match part {
            1 => {
                let read = at.string().is_some();
                id = ((from + start) as u32, (from + at.offset()) as u32);
                read
            }
            2 => at.number().map(|number| version = number).is_some(),
            3 if at.word("null") => true,
            3 => {
                fields = ((from + start) as u32, (from + end) as u32);
                at.jump(end)
            }
            _ => false,
        }
    });
    (read && part == 3).then_some(Slot { version: Version(version), id, fields })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> Pair {
        Pair(Scope::new("user:ada"), CollectionName::new("notes"))
    }
    fn held(id: &str, version: u64, fields: Option<&str>) -> Held {
        Held { id: RecordId::new(id), version: Version(version), fields: fields.map(Into::into) }
    }

    fn encode(at: u64, records: &[Held]) -> String {
        let records: Vec<(String, &Held)> = records.iter().map(|record| (String::new(), record)).collect();
        encode_segment(&pair(), UnixMillis(at), &records)
    }

    #[test]
    fn a_segment_gives_back_what_was_put_in() {
        let records = [
            held("a", 1, Some(r#"{"n":1,"s":"]}\",["}"#)),
            held("b\"\\q", 9_007_199_254_740_991, None),
            held("ü", 3, Some("{}")),
        ];
        let block = Block::decode(encode(17, &records)).unwrap();
        assert_eq!((block.len(), block.at, &block.pair), (3, UnixMillis(17), &pair()));
        for (slot, record) in records.iter().enumerate() {
            assert_eq!(block.held(slot), *record);
            assert_eq!(block.find(record.id.as_str()), Some(slot));
        }
        assert_eq!(block.find("aa"), None);
    }

    #[test]
    fn an_empty_segment_is_one() {
        assert_eq!(Block::decode(encode(0, &[])).unwrap().len(), 0);
    }

    #[test]
    fn i3_a_segment_with_a_flipped_byte_is_none() {
        let row = encode(1, &[held("a", 1, Some("{\"x\":1}"))]);
        for at in 0..row.len() {
            let mut bytes = row.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(Block::decode(String::from_utf8(bytes).unwrap()).is_err());
        }
    }

    #[test]
    fn lengths_that_lie_make_no_segment() {
        for body in [
            r#"{"scope":"s","collection":"c","at":1,"lengths":[900],"records":[["a",1,{}]]}"#,
            r#"{"scope":"s","collection":"c","at":1,"lengths":[5],"records":[["a",1,{}]]}"#,
            r#"{"scope":"s","collection":"c","at":1,"lengths":[],"records":[["a",1,{}]]}"#,
            r#"{"scope":"s","collection":"c","at":1,"lengths":[10,10],"records":[["a",1,{}]]}"#,
        ] {
            let row = row::encode_text(RowKind::Segment, body);
            assert!(matches!(Block::decode(row), Err(RowError::Body)), "{body}");
        }
    }
}
