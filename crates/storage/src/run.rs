//! Runs: sorted sequences of segments or index pages, each with the first key of every row (its fence).
//!
//! The rows are immutable; the run's own row is not: it grows at its end, loses rows that are empty, and of data it
//! says which slots are dead, because a newer row has their record. The manifest names a run by id and revision, so a
//! reader notices at once when the run that it knows is not the current one.

use landfall_protocol::codec::{FromJson, Reader, ToJson, write_hex, write_number, write_string};

/// Rows of one run at most: keeps the run's row under 64 KB.
pub const RUN_ROWS_MAX: usize = 600;
/// The same for pages, whose keys are shorter.
pub const RUN_PAGES_MAX: usize = 1_000;

/// Which slots of a segment are dead. JSON: hex digits, four slots each, the first slot lowest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dead(Vec<u8>);

impl Dead {
    pub fn has(&self, slot: usize) -> bool {
        self.0.get(slot / 8).is_some_and(|byte| byte & (1 << (slot % 8)) != 0)
    }
    /// False: it was dead before.
    pub fn add(&mut self, slot: usize) -> bool {
        if self.0.len() <= slot / 8 {
            self.0.resize(slot / 8 + 1, 0);
        }
        let fresh = !self.has(slot);
        self.0[slot / 8] |= 1 << (slot % 8);
        fresh
    }
    pub fn count(&self) -> usize {
        self.0.iter().map(|byte| byte.count_ones() as usize).sum()
    }
}

impl ToJson for Dead {
    fn write(&self, out: &mut String) {
        out.push('"');
        for byte in &self.0 {
            write_hex(out, u64::from(byte & 15), 1);
            write_hex(out, u64::from(byte >> 4), 1);
        }
        out.push('"');
    }
}
impl FromJson for Dead {
    fn blank() -> Self {
        Self::default()
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        let Some(text) = from.string() else { return false };
        for (at, digit) in text.bytes().enumerate() {
            let Some(digit) = char::from(digit).to_digit(16) else { return false };
            match at % 2 {
                0 => self.0.push(digit as u8),
                _ => self.0[at / 2] |= (digit as u8) << 4,
            }
        }
        true
    }
}

/// One row of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// Segment or page id.
    pub row: u64,
    /// Records or entries in it, dead ones included.
    pub count: u32,
    pub bytes: u32,
    /// Its first key: the id, or an index key.
    pub first: String,
    pub dead: Dead,
}

impl Fence {
    pub fn live(&self) -> usize {
        self.count as usize - self.dead.count().min(self.count as usize)
    }
}

impl ToJson for Fence {
    fn write(&self, out: &mut String) {
        out.push('[');
        for number in [self.row, u64::from(self.count), u64::from(self.bytes)] {
            write_number(out, number);
            out.push(',');
        }
        write_string(out, &self.first);
        out.push(',');
        self.dead.write(out);
        out.push(']');
    }
}
impl FromJson for Fence {
    fn blank() -> Self {
        Self { row: 0, count: 0, bytes: 0, first: String::new(), dead: Dead::default() }
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        let mut part = 0;
        let read = from.list(&mut |from| {
            part += 1;
            match part {
                1 => self.row.fill(from),
                2 => self.count.fill(from),
                3 => self.bytes.fill(from),
                4 => self.first.fill(from),
                5 => self.dead.fill(from),
                _ => false,
            }
        });
        read && part == 5
    }
}

/// A run's own row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    pub rev: u64,
    pub fences: Vec<Fence>,
}

landfall_protocol::wire!(Run { rev: Need, fences: Need });

impl Run {
    /// The row in which a key is if it is here: the last one that does not begin after it.
    pub fn row_of(&self, key: &str) -> Option<usize> {
        self.fences.partition_point(|fence| fence.first.as_str() <= key).checked_sub(1)
    }
    /// The first row in which a key not below `key` can be.
    pub fn row_from(&self, key: &str) -> usize {
        // Equal keys may begin at the end of the row before.
        self.fences.partition_point(|fence| fence.first.as_str() < key).saturating_sub(1)
    }
    pub fn fence_of(&self, row: u64) -> Option<usize> {
        // Rows get their numbers in the order in which they are written.
        self.fences.binary_search_by_key(&row, |fence| fence.row).ok()
    }
    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        self.fences.iter().map(|fence| fence.first.len() + fence.dead.0.len() + 96).sum()
    }
}

/// A run as the manifest names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRef {
    pub id: u64,
    pub rev: u64,
    /// How often its content was merged.
    pub level: u32,
    pub rows: u32,
    /// Records that are not dead; of an index all entries.
    pub live: u64,
    pub dead: u64,
    pub bytes: u64,
    pub first: String,
    pub last: String,
    /// Fields that its records are sorted by, joined by commas; empty: the id.
    pub sort: String,
}

landfall_protocol::wire!(RunRef {
    id: Need,
    rev: Need,
    level: Need,
    rows: Need,
    live: Need,
    dead: Skip,
    bytes: Need,
    first: Need,
    last: Need,
    sort: Skip
});

impl RunRef {
    /// True if a key can be in it.
    pub fn spans(&self, key: &str) -> bool {
        self.first.as_str() <= key && key <= self.last.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_protocol::codec::{from_json, to_json};

    #[test]
    fn dead_slots_survive_their_text() {
        let mut dead = Dead::default();
        for slot in [0, 7, 8, 149] {
            assert!(dead.add(slot));
            assert!(!dead.add(slot));
        }
        // Two digits for eight slots, and none behind the byte of the last one that is dead.
        assert_eq!(to_json(&dead).trim_matches('"').len(), 2 * (149 / 8 + 1));
        let read: Dead = from_json(&to_json(&dead)).unwrap();
        assert_eq!((read.count(), read == dead), (4, true));
        assert!((0..150).all(|slot| read.has(slot) == [0, 7, 8, 149].contains(&slot)));
    }

    #[test]
    fn a_key_is_looked_for_in_the_row_that_can_have_it() {
        let fence =
            |row, first: &str| Fence { row, count: 1, bytes: 1, first: first.to_owned(), dead: Dead::default() };
        let run = Run { rev: 1, fences: vec![fence(1, "b"), fence(2, "d"), fence(3, "d"), fence(4, "f")] };
        assert_eq!(
            ["a", "b", "c", "d", "e", "g"].map(|key| run.row_of(key)),
            [None, Some(0), Some(0), Some(2), Some(2), Some(3)]
        );
        assert_eq!(["a", "b", "c", "d", "e", "g"].map(|key| run.row_from(key)), [0, 0, 0, 0, 2, 3]);
        let text = to_json(&run);
        assert_eq!(from_json::<Run>(&text), Some(run));
    }

    #[test]
    fn i3_a_fence_or_a_slot_mask_that_is_not_whole_is_none() {
        let whole = r#"[7,3,90,"a","1"]"#;
        let fence = from_json::<Fence>(whole).unwrap();
        assert_eq!((to_json(&fence).as_str(), fence.live()), (r#"[7,3,90,"a","10"]"#, 2));
        for text in
            ["[]", "[7]", r#"[7,3,90,"a"]"#, r#"[7,3,90,"a","1",0]"#, r#"[7,3,90,"a","1g"]"#, r#"[7,3,90,1,"1"]"#]
        {
            assert_eq!(from_json::<Fence>(text), None, "{text}");
        }
    }
}
