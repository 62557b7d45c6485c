//! A row store in memory: the reference for the contract, and the disk of a simulated client.
//!
//! A [`Disk`] is one database of one browser profile; a [`MemoryRowStore`] is one context's handle on it, and
//! clones share it. Equal calls give equal disks, byte for byte.
//!
//! The disk knows what a power cut takes: everything since the last strict transaction that wrote something,
//! the log's key counter included (a real key generator is stored beside its rows and falls back with them).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::rowstore::{
    CommitError, Committed, Durability, Expect, Key, KeyedRows, Read, ReadError, RowOp, RowStore, StoreName, Txn,
};

/// One database: four tables and the log's key counter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    tables: [BTreeMap<Key, String>; 4],
    last_log_key: u64,
    /// How to take back what no strict transaction has flushed yet, newest last.
    unflushed: Vec<Undo>,
}

/// The state before one write of a relaxed transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Undo {
    store: StoreName,
    key: Key,
    row: Option<String>,
    last_log_key: u64,
}

impl Disk {
    /// True if no table holds a row.
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(BTreeMap::is_empty)
    }

    /// Evicts the database: rows, counter and all, as a browser short of room does.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes back everything since the last strict transaction, as a power cut does.
    pub fn power_cut(&mut self) {
        while let Some(undo) = self.unflushed.pop() {
            self.last_log_key = undo.last_log_key;
            match undo.row {
                Some(row) => self.tables[undo.store as usize].insert(undo.key, row),
                None => self.tables[undo.store as usize].remove(&undo.key),
            };
        }
    }

    pub fn row(&self, store: StoreName, key: &Key) -> Option<&str> {
        self.tables[store as usize].get(key).map(String::as_str)
    }

    /// All rows of a table in key order.
    pub fn rows(&self, store: StoreName) -> impl Iterator<Item = (&Key, &str)> {
        self.tables[store as usize].iter().map(|(key, row)| (key, row.as_str()))
    }

    /// Bytes of all rows, without keys.
    pub fn row_bytes(&self) -> usize {
        self.tables.iter().flat_map(BTreeMap::values).map(String::len).sum()
    }

    /// Changes the medium itself, past every transaction: a flipped byte, a torn or a vanished row.
    pub fn tamper(&mut self, store: StoreName, key: Key, row: Option<String>) {
        match row {
            Some(row) => self.tables[store as usize].insert(key, row),
            None => self.tables[store as usize].remove(&key),
        };
    }

    fn range(&self, store: StoreName, from: &Key, to: &Key) -> impl Iterator<Item = (&Key, &String)> {
        // A map's own range panics on bounds the wrong way round; such a range is simply empty.
        let to = if from <= to { Some(to) } else { None };
        to.into_iter().flat_map(move |to| self.tables[store as usize].range(from..=to))
    }

    fn answer(&self, read: &Read) -> KeyedRows {
        match read {
            Read::One { store, key } => {
                self.row(*store, key).map(|row| (key.clone(), row.to_owned())).into_iter().collect()
            }
            Read::Range { store, from, to, limit } => {
                self.range(*store, from, to).take(*limit).map(|(key, row)| (key.clone(), row.clone())).collect()
            }
        }
    }

    fn commit(&mut self, txn: Txn) -> Result<Committed, CommitError> {
        for Expect { store, key, row } in txn.expects {
            if self.row(store, &key) != row.as_deref() {
                return Err(CommitError::Stale { store, key });
            }
        }
        let mut committed = Committed::default();
        let flushes = txn.durability == Durability::Strict && !txn.ops.is_empty();
        for op in txn.ops.iter().cloned() {
            match op {
                RowOp::Append { row } => {
                    let key = self.last_log_key + 1;
                    committed.log_keys.push(key);
                    self.write(StoreName::Log, Key::Number(key), Some(row));
                }
                RowOp::Put { store, key, row } => self.write(store, key, Some(row)),
                RowOp::Delete { store, key } => self.write(store, key, None),
                RowOp::DeleteRange { store, from, to } => {
                    let keys: Vec<Key> = self.range(store, &from, &to).map(|(key, _)| key.clone()).collect();
                    for key in keys {
                        self.write(store, key, None);
                    }
                }
            }
        }
        if flushes {
            self.unflushed.clear();
        }
        Ok(committed)
    }

    fn write(&mut self, store: StoreName, key: Key, row: Option<String>) {
        let last_log_key = self.last_log_key;
        // An explicit key in the log moves the counter too, as IndexedDB's key generator does.
        if let (StoreName::Log, Key::Number(number), Some(_)) = (store, &key, &row) {
            self.last_log_key = last_log_key.max(*number);
        }
        let table = &mut self.tables[store as usize];
        let before = match row {
            Some(row) => table.insert(key.clone(), row),
            None => table.remove(&key),
        };
        self.unflushed.push(Undo { store, key, row: before, last_log_key });
    }
}

/// A context's handle on a [`Disk`].
#[derive(Clone, Debug, Default)]
pub struct MemoryRowStore {
    disk: Rc<RefCell<Disk>>,
}

impl MemoryRowStore {
    /// A new, empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// A handle on a disk with this content (a profile that was copied).
    pub fn with_disk(disk: Disk) -> Self {
        Self { disk: Rc::new(RefCell::new(disk)) }
    }

    /// The disk as it is now. Restoring it later rolls the profile back; giving it to [`Self::with_disk`] clones it.
    pub fn snapshot(&self) -> Disk {
        self.disk.borrow().clone()
    }

    /// Puts the disk back to a snapshot, for every handle.
    pub fn restore(&self, snapshot: Disk) {
        *self.disk.borrow_mut() = snapshot;
    }

    pub fn is_empty(&self) -> bool {
        self.disk.borrow().is_empty()
    }

    /// See [`Disk::row_bytes`].
    pub fn row_bytes(&self) -> usize {
        self.disk.borrow().row_bytes()
    }

    /// See [`Disk::clear`].
    pub fn clear(&self) {
        self.disk.borrow_mut().clear();
    }

    /// See [`Disk::power_cut`].
    pub fn power_cut(&self) {
        self.disk.borrow_mut().power_cut();
    }

    /// See [`Disk::tamper`].
    pub fn tamper(&self, store: StoreName, key: Key, row: Option<String>) {
        self.disk.borrow_mut().tamper(store, key, row);
    }
}

impl RowStore for MemoryRowStore {
    async fn read(&self, reads: &[Read]) -> Result<Vec<KeyedRows>, ReadError> {
        let disk = self.disk.borrow();
        Ok(reads.iter().map(|read| disk.answer(read)).collect())
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        self.disk.borrow_mut().commit(txn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(disk: &mut Disk, durability: Durability, row: &str) -> u64 {
        let mut txn = Txn::new("append", durability);
        txn.ops.push(RowOp::Append { row: row.to_owned() });
        disk.commit(txn).unwrap().log_keys[0]
    }

    #[test]
    fn l1_a_power_cut_takes_relaxed_transactions_only_back_to_the_last_strict_one() {
        let mut disk = Disk::default();
        append(&mut disk, Durability::Relaxed, "a");
        append(&mut disk, Durability::Strict, "b");
        let flushed = disk.clone();
        append(&mut disk, Durability::Relaxed, "c");
        let mut txn = Txn::new("rewrite", Durability::Relaxed);
        txn.put(StoreName::Log, Key::Number(1), "A".to_owned());
        txn.delete(StoreName::Log, Key::Number(2));
        disk.commit(txn).unwrap();
        disk.power_cut();
        assert_eq!(disk, flushed);
        assert_eq!(disk.rows(StoreName::Log).map(|(_, row)| row).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn an_empty_strict_transaction_flushes_nothing() {
        let mut disk = Disk::default();
        append(&mut disk, Durability::Relaxed, "a");
        disk.commit(Txn::new("empty", Durability::Strict)).unwrap();
        disk.power_cut();
        assert!(disk.is_empty());
    }

    #[test]
    fn a_snapshot_rolls_rows_and_counter_back_and_a_cleared_disk_starts_anew() {
        let store = MemoryRowStore::new();
        append(&mut store.disk.borrow_mut(), Durability::Strict, "a");
        let snapshot = store.snapshot();
        assert_eq!(append(&mut store.disk.borrow_mut(), Durability::Strict, "b"), 2);
        store.restore(snapshot);
        assert_eq!(append(&mut store.disk.borrow_mut(), Durability::Strict, "c"), 2);
        assert!(!store.is_empty());
        store.clear();
        assert!(store.is_empty());
        assert_eq!(append(&mut store.disk.borrow_mut(), Durability::Strict, "d"), 1);
    }
}
