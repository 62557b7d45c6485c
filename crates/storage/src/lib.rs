//! The log-structured record store: rows, their format, and what must be true of the disk under them.
//!
//! Pure: no clock, no randomness, no browser. A [`RowStore`] is the disk: memory here, a faulty disk for tests
//! (feature `testing`), IndexedDB in the shell. One contract suite ([`contract`]) holds all of them to the same words.
//!
//! Invariant: **only a log append is blind.** Every other transaction names the rows it was computed from
//! ([`Txn::expects`]) and writes nothing if one of them changed; that, not any lock, makes two flushers harmless.

pub mod compact;
#[cfg(feature = "testing")]
pub mod contract;
mod edit;
#[cfg(feature = "testing")]
pub mod faulty;
pub mod filler;
pub mod ingest;
pub mod manifest;
pub mod memory;
pub mod page;
pub mod query;
pub mod records;
pub mod row;
pub mod rowstore;
pub mod run;
pub mod search;
pub mod segment;

pub use edit::BaseTxn;
pub use manifest::{Declared, Manifest, PairRow, Schema};
pub use records::{Missing, Records, RowId};
pub use row::{Row, RowError, RowKind, decode, encode};
pub use rowstore::{
    CommitError, Committed, Durability, Expect, Key, KeyedRows, OpenError, Read, ReadError, RowOp, RowStore,
    StorageFault, StoreName, Txn,
};
