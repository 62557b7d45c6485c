//! Index pages: sorted entries of one index, 16 KB of readable JSON text, read on demand.
//!
//! A body is `{"index":"name","entries":[["key","id",run,segment,slot],…]}`, ordered by key and id. Where a record is may
//! have changed since: an entry whose slot is dead is passed over, for whoever moved or replaced the record wrote another.

use crate::row::{self, RowError, RowKind};
use landfall_protocol::Listed;
use landfall_protocol::codec::{FromJson, Reader, write_number, write_string};
use std::borrow::Cow;

/// Bytes of one page: larger ones cost more on a cold read than they save.
pub const PAGE_BYTES_MAX: usize = 16 * 1024;

/// Where a record is: run, segment, slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    pub run: u64,
    pub segment: u64,
    pub slot: u32,
}

/// An entry on its way into a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub id: String,
    pub at: Location,
}

/// An entry as it is about to be written; its texts are its record's.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    pub key: &'a str,
    pub id: &'a str,
    pub at: Location,
}

impl Entry {
    pub fn line(&self) -> Line<'_> {
        Line { key: &self.key, id: &self.id, at: self.at }
    }
}

/// The row text of a page.
pub fn encode_page(index: &str, entries: &[Line<'_>]) -> String {
    let mut row = row::begin(RowKind::Page, PAGE_BYTES_MAX + 1024);
    row.push_str("{\"index\":");
    write_string(&mut row, index);
    row.push_str(",\"entries\":[");
    for (at, entry) in entries.iter().enumerate() {
        row.push_str(if at > 0 { ",[" } else { "[" });
        write_string(&mut row, entry.key);
        row.push(',');
        write_string(&mut row, entry.id);
        for number in [entry.at.run, entry.at.segment, u64::from(entry.at.slot)] {
            row.push(',');
            write_number(&mut row, number);
        }
        row.push(']');
    }
    row.push_str("]}");
    row::end(row)
}

/// Bytes that an entry takes in a page.
pub fn entry_bytes(entry: &Line<'_>) -> usize {
    entry.key.len() + entry.id.len() + 24
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    key: (u32, u32),
    id: (u32, u32),
    at: Location,
}

/// A page in memory.
#[derive(Clone, Debug)]
pub struct Page {
    text: Box<str>,
    slots: Vec<Slot>,
    /// No string in it has an escape.
    is_plain: bool,
}

impl Page {
    pub fn decode(row: String) -> Result<Self, RowError> {
        let body = row::open(RowKind::Page, &row)?.body;
        let start = row.len() - body.len();
        let mut slots = Vec::new();
        let read = Reader::new(body).object(&mut |key, from| {
            if key != "entries" {
                return from.skip();
            }
            from.list(&mut |from| {
                let mut slot = Slot { key: (0, 0), id: (0, 0), at: Location { run: 0, segment: 0, slot: 0 } };
                let mut part = 0;
                let read = from.list(&mut |from| {
                    part += 1;
                    let at = (start + from.offset()) as u32;
                    match part {
                        1 | 2 => {
                            let read = from.string().is_some();
                            let text = (at, (start + from.offset()) as u32);
                            *(if part == 1 { &mut slot.key } else { &mut slot.id }) = text;
                            read
                        }
                        3 => slot.at.run.fill(from),
                        4 => slot.at.segment.fill(from),
                        5 => slot.at.slot.fill(from),
                        _ => false,
                    }
                });
                slots.push(slot);
                read && part == 5
            })
        });
        if !read {
            return Err(RowError::Body);
        }
        slots.shrink_to_fit();
        let is_plain = !row.as_bytes().contains(&b'\\');
        Ok(Self { text: row.into_boxed_str(), slots, is_plain })
    }

    /// Of entries that no row holds, in their order.
    pub fn of(entries: &[Entry]) -> Self {
        let mut text = String::new();
        let mut put = |part: &str| {
            let from = text.len() as u32;
            write_string(&mut text, part);
            (from, text.len() as u32)
        };
        let slots =
            entries.iter().map(|entry| Slot { key: put(&entry.key), id: put(&entry.id), at: entry.at }).listed();
        let is_plain = !text.as_bytes().contains(&b'\\');
        Self { text: text.into_boxed_str(), slots, is_plain }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.text.len() + self.slots.len() * size_of::<Slot>() + 64
    }

    fn string(&self, (from, to): (u32, u32)) -> Cow<'_, str> {
        let quoted = self.text.get(from as usize..to as usize).unwrap_or("\"\"");
        if !self.is_plain && quoted.as_bytes().contains(&b'\\') {
            return Cow::Owned(Reader::new(quoted).string().unwrap_or_default().into_owned());
        }
        Cow::Borrowed(quoted.get(1..quoted.len() - 1).unwrap_or_default())
    }
    pub fn key(&self, entry: usize) -> Cow<'_, str> {
        self.slots.get(entry).map_or(Cow::Borrowed(""), |slot| self.string(slot.key))
    }
    pub fn id(&self, entry: usize) -> Cow<'_, str> {
        self.slots.get(entry).map_or(Cow::Borrowed(""), |slot| self.string(slot.id))
    }
    pub fn at(&self, entry: usize) -> Location {
        self.slots.get(entry).map_or(Location { run: 0, segment: 0, slot: 0 }, |slot| slot.at)
    }
    pub fn entry(&self, entry: usize) -> Entry {
        Entry { key: self.key(entry).into_owned(), id: self.id(entry).into_owned(), at: self.at(entry) }
    }
    /// The first entry whose key is not below `key`.
    pub fn from(&self, key: &str) -> usize {
        let (mut low, mut high) = (0, self.slots.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.key(middle).as_ref() < key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_gives_back_what_was_put_in() {
        let entry = |key: &str, id: &str, slot| Entry {
            key: key.to_owned(),
            id: id.to_owned(),
            at: Location { run: 7, segment: 9_000_000_000, slot },
        };
        let entries = [entry("a", "1", 0), entry("a", "2\"", 149), entry("b\\ü", "0", 3)];
        let lines: Vec<Line<'_>> = entries.iter().map(Entry::line).collect();
        for page in [Page::decode(encode_page("x", &lines)).unwrap(), Page::of(&entries)] {
            let read: Vec<Entry> = (0..page.len()).map(|at| page.entry(at)).collect();
            assert_eq!(read, entries);
            assert_eq!(["", "a", "aa", "b\\ü", "c"].map(|key| page.from(key)), [0, 0, 2, 2, 3]);
        }
    }
}
