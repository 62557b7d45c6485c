//! The filler row: room that a database holds back for the day when the device has none.
//!
//! Given up, it lets what is small and must be stored go on: a batch, its outcomes, a delete. Its text is random because
//! browsers compress what they store. Chromium keeps a value of this size in a file of its own, so that the room is there
//! as soon as the row is deleted, and not when LevelDB compacts.

use landfall_protocol::codec::write_hex;
use xxhash_rust::xxh64::xxh64;

use crate::row::{RowKind, begin, end};
use crate::rowstore::{Durability, Key, StoreName, Txn};

/// In `idx`, whose rows are read one by one: a range of `meta` would read it at every open.
const KEY: &str = "filler";

/// Writes the row where there is none. Stale: it is there.
pub fn keep(bytes: usize, random: u64) -> Txn {
    let mut row = begin(RowKind::Filler, bytes + 2);
    row.push('"');
    for part in 0..bytes as u64 / 16 {
        write_hex(&mut row, xxh64(&random.to_le_bytes(), part), 16);
    }
    row.push('"');
    let mut txn = Txn::new("filler", Durability::Relaxed);
    txn.expect(StoreName::Idx, Key::text(KEY), None);
    txn.put(StoreName::Idx, Key::text(KEY), end(row));
    txn
}

/// Deletes the row, and does nothing that would need room itself.
pub fn give_up() -> Txn {
    let mut txn = Txn::new("give_up", Durability::Relaxed);
    txn.delete(StoreName::Idx, Key::text(KEY));
    txn
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row;
    use crate::rowstore::RowOp;

    #[test]
    fn i3_the_filler_is_a_row_like_any_other_and_as_large_as_it_says() {
        let txn = keep(4_096, 7);
        let RowOp::Put { row: text, .. } = &txn.ops[0] else { panic!("{txn:?}") };
        let row = row::open(RowKind::Filler, text).unwrap();
        assert_eq!(row.body.len(), 4_096 + 2);
        assert_ne!(keep(4_096, 8).ops, txn.ops, "others are others");
    }
}
