//! The disk as the engine sees it: four tables of text rows, and transactions that may refuse.

use landfall_protocol::codec::to_json;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// The four tables, in the order in which a back end creates them.
///
/// The order is a measured choice: on LevelDB a range read past the end of an empty log walks the next
/// store's deleted rows, so the store after `log` must be one whose rows are few (docs/storage.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoreName {
    /// Commit groups, append-only. Keys are numbers given by the store, growing, never reused.
    Log,
    /// Small rows by name: manifest, client, cursor, descriptors, overlays, parked.
    Meta,
    /// Index pages by name.
    Idx,
    /// Segments of records. Keys are numbers given by the engine from the manifest's counter.
    Seg,
}

impl StoreName {
    pub const ALL: [Self; 4] = [Self::Log, Self::Meta, Self::Idx, Self::Seg];
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Meta => "meta",
            Self::Idx => "idx",
            Self::Seg => "seg",
        }
    }
}

/// Key of a row: a number in `log` and `seg`, a text in `meta` and `idx`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Number(u64),
    Text(String),
}

impl Key {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
    /// After every key with this prefix in code-unit order (keys are ASCII).
    pub fn after_prefix(prefix: &str) -> Self {
        Self::Text([prefix, "\u{ffff}"].concat())
    }
    /// As a text, whatever it is.
    pub fn name(&self) -> String {
        match self {
            Self::Number(number) => to_json(number),
            Self::Text(text) => text.clone(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => n.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// One question of a read transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The row under a key: one row, or none.
    One { store: StoreName, key: Key },
    /// The first `limit` rows in `from..=to`, in key order.
    Range { store: StoreName, from: Key, to: Key, limit: usize },
}

impl Read {
    pub fn one(store: StoreName, key: Key) -> Self {
        Self::One { store, key }
    }
    /// All rows of a store with text keys whose key starts with `prefix`.
    pub fn prefix(store: StoreName, prefix: &str, limit: usize) -> Self {
        Self::Range { store, from: Key::text(prefix), to: Key::after_prefix(prefix), limit }
    }
    pub fn store(&self) -> StoreName {
        match self {
            Self::One { store, .. } | Self::Range { store, .. } => *store,
        }
    }
    /// True if no row can answer it: bounds the wrong way round, or no room for a row.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Range { from, to, limit, .. } if from > to || *limit == 0)
    }
}

/// Rows by key, in key order: the answer to one [`Read`].
pub type KeyedRows = Vec<(Key, String)>;

/// How sure a transaction must be before it reports success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On the medium: log, descriptor and settle.
    Strict,
    /// With the operating system: pulled pages, which can be pulled again.
    Relaxed,
}

/// A row that the transaction was computed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    pub store: StoreName,
    pub key: Key,
    /// The row's exact text, or `None` for "no such row".
    pub row: Option<String>,
}

/// One write of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowOp {
    /// Adds a row to `log` under the next key.
    Append {
        row: String,
    },
    Put {
        store: StoreName,
        key: Key,
        row: String,
    },
    Delete {
        store: StoreName,
        key: Key,
    },
    /// Deletes all keys in `from..=to`.
    DeleteRange {
        store: StoreName,
        from: Key,
        to: Key,
    },
}

/// The writes of a transaction, in order. Copies of it share them, since a commit that may have to be tried again keeps one and
/// the rows of a pull are megabytes; so nothing is added once there is a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ops(Rc<Vec<RowOp>>);

impl Deref for Ops {
    type Target = Vec<RowOp>;
    fn deref(&self) -> &Vec<RowOp> {
        &self.0
    }
}
impl DerefMut for Ops {
    fn deref_mut(&mut self) -> &mut Vec<RowOp> {
        match Rc::get_mut(&mut self.0) {
            Some(ops) => ops,
            None => unreachable!("BUG: a transaction that was copied is changed"),
        }
    }
}

impl<'a> IntoIterator for &'a Ops {
    type Item = &'a RowOp;
    type IntoIter = std::slice::Iter<'a, RowOp>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// A transaction: all of it or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// Every transaction has a name: faults are injected and failures reported by it.
    pub name: &'static str,
    pub durability: Durability,
    pub expects: Vec<Expect>,
    pub ops: Ops,
}

impl Txn {
    pub fn new(name: &'static str, durability: Durability) -> Self {
        Self { name, durability, expects: Vec::new(), ops: Ops::default() }
    }
    pub fn expect(&mut self, store: StoreName, key: Key, row: Option<String>) {
        self.expects.push(Expect { store, key, row });
    }
    pub fn put(&mut self, store: StoreName, key: Key, row: String) {
        self.ops.push(RowOp::Put { store, key, row });
    }
    pub fn delete(&mut self, store: StoreName, key: Key) {
        self.ops.push(RowOp::Delete { store, key });
    }
}

/// What a committed transaction says: the log keys given to its appends, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    pub log_keys: Vec<u64>,
}

/// What failed underneath.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageFault {
    /// The connection is gone (closed, lost after backgrounding, backing store error). Reopening may help.
    ConnectionLost,
    /// No room left.
    Quota,
    /// Another context asked for a version change or deletion; this connection is closed for good.
    VersionChange,
    /// Anything else the browser said.
    Other,
}

/// Why a transaction did not report success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitError {
    /// An expected row was different; nothing was written.
    Stale { store: StoreName, key: Key },
    /// Nothing was written, for sure.
    Aborted { fault: StorageFault, message: String },
    /// The connection went away after the commit was asked for: written or not, nobody said.
    Unknown { message: String },
}

/// Why a read did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    pub fault: StorageFault,
    pub message: String,
}

/// Why a database could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Its format is newer than this build. Nothing was touched.
    NewerSchema {
        found: u32,
        known: u32,
    },
    /// Another context holds an older version open and does not let go.
    Blocked,
    /// IndexedDB is not there (private mode of some browsers).
    Unavailable {
        message: String,
    },
    Failed {
        fault: StorageFault,
        message: String,
    },
}

/// The disk. Single-threaded: futures need not be `Send`.
///
/// Contract (checked by [`crate::contract`] for every implementation):
/// - `commit` compares every `expects` inside the same transaction that writes; it is all or nothing.
/// - A log key is greater than every log key given before, deleted ones included.
/// - All reads of one `read` see one state, whatever other contexts commit meanwhile.
/// - A range answers in key order, bounds included, at most `limit` rows; bounds the wrong way round hold nothing.
/// - After `Ok` from a strict commit the rows survive any crash.
/// - After a lost connection the next call opens a new one by itself.
#[allow(async_fn_in_trait)] // One thread by design: wasm has no other, and the simulator wants none.
pub trait RowStore {
    /// Answers every question from one state: one list of rows per [`Read`], in the order asked.
    async fn read(&self, reads: &[Read]) -> Result<Vec<KeyedRows>, ReadError>;

    /// One row by itself. Rows that belong together are read together, by [`RowStore::read`].
    async fn get(&self, store: StoreName, key: &Key) -> Result<Option<String>, ReadError> {
        let found = self.read(&[Read::one(store, key.clone())]).await?;
        Ok(found.into_iter().flatten().next().map(|(_, row)| row))
    }

    /// One range by itself.
    async fn range(&self, store: StoreName, from: &Key, to: &Key, limit: usize) -> Result<KeyedRows, ReadError> {
        let read = Read::Range { store, from: from.clone(), to: to.clone(), limit };
        Ok(self.read(&[read]).await?.pop().unwrap_or_default())
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError>;
}
