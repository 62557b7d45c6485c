//! The log-structured record store: rows, their format, and what must be true of the disk under them.
//!
//! Pure: no clock, no randomness, no browser. A [`RowStore`] is the disk: memory here, a faulty disk for tests
//! (feature `testing`), IndexedDB in the shell. One contract suite ([`contract`]) holds all of them to the same words.
//!
//! Invariant: **only a log append is blind.** Every other transaction names the rows it was computed from
//! ([`Txn::expects`]) and writes nothing if one of them changed; that, not any lock, makes two flushers harmless.

#[cfg(feature = "testing")]
pub mod contract;
#[cfg(feature = "testing")]
pub mod faulty;
pub mod memory;
pub mod query;
pub mod row;
pub mod rowstore;

pub use row::{Row, RowError, RowKind, decode, encode};
pub use rowstore::{
    CommitError, Committed, Durability, Expect, Key, OpenError, ReadError, RowOp, RowStore, StorageFault, StoreName,
    Txn,
};
