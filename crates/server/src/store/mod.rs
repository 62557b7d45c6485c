//! What the server needs of a database, and the embedded one.
//!
//! Shape: a job is a function over a transaction. Write jobs run one at a time, in the order they were handed in, each
//! whole or not at all; the answer comes after the commit (S6). Read jobs see one state of the database.
//! A store must lock a scope's counter row before it reads anything of that scope in a write job, so that
//! the order of positions is the order of commits.

mod compat;
#[cfg(test)]
mod contract;
mod database;
mod edit;
mod operations;
mod overruled;
mod retention;
mod schema;
mod sqlite;
mod writer;

pub use compat::{Answered, CompatReads, CompatWrites};
pub use operations::{
    AuditFilter, AuditLine, DeviceReport, DeviceRow, FailureCount, HOUR_MS, LostRow, OperationReads, OperationWrites,
    SystemRecord, Totals, UserPending,
};
pub use retention::{Retention, prune};
pub use sqlite::SqliteStore;
pub use writer::{Commit, Heads, OnCommit};

use landfall_core::authority::Stored;
use landfall_protocol::{
    ClientId, CollectionName, Epoch, Fields, Json, LedgerEntry, Outcome, Overruled, Pair, Position, RecordId,
    RecordKey, RecordSum, Scope, Seq, Stamp, UnixMillis, Version,
};
use serde::Serialize;
use std::future::Future;

/// Why the store could not do a job. No job has an effect when it fails.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("sqlite: {0}")]
    Sqlite(rusqlite::Error),
    #[error("corrupt: {0}")]
    Corrupt(&'static str),
    #[error("more jobs wait than the store takes")]
    Busy,
    #[error("the disk is full")]
    NoSpace,
    #[error("the disk fails")]
    Disk,
    #[error("the store is closed")]
    Closed,
    #[error("BUG: a job of the store panicked")]
    Panicked,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::NoSpace,
            Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => Self::Busy,
            Some(rusqlite::ErrorCode::SystemIoFailure) => {
                tracing::error!(%error, "the disk failed");
                Self::Disk
            }
            _ => Self::Sqlite(error),
        }
    }
}

pub type StoreResult<T> = Result<T, StoreError>;

/// What the server keeps of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientRow {
    pub acked_through: Seq,
    /// No mutation above it was ever decided.
    pub last_seq: Seq,
    /// The device's name for people.
    pub device: String,
    /// The device cookie of the last push.
    pub device_key: String,
    pub pending_count: u64,
    pub last_seen: UnixMillis,
    pub schema_version: u32,
}

/// An outcome as it was first answered. `hash` is empty where the seq was voided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOutcome {
    pub hash: Vec<u8>,
    pub text: String,
    /// The version that its mutation stood on, for who comes after it.
    pub base: Version,
}

/// A scope's counter and floors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScopeRow {
    pub position: Position,
    /// Versions start above this.
    pub version_floor: Version,
    /// Changes up to here are gone from the log.
    pub pruned_through: Position,
}

/// A record and whose client wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRow {
    pub stored: Stored,
    /// The user of the client that wrote it; client ids are only unique by user.
    pub sub: String,
}

/// One row of the change log or of a cold scan: a record as of `position`, its fields as JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeRow {
    pub position: Position,
    pub collection: CollectionName,
    pub id: RecordId,
    pub version: Version,
    pub deleted: bool,
    pub fields: String,
    pub stamp: Stamp,
}

/// What a writer lost; operation and values as JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    pub position: Position,
    pub collection: CollectionName,
    pub id: RecordId,
    pub at: UnixMillis,
    pub op: String,
    pub code: String,
    pub fields: String,
}

/// Goes on or ends a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    On,
    End,
}

/// A change of a record, to be written with its place in the log.
#[derive(Clone, Debug)]
pub struct RecordWrite<'a> {
    pub key: &'a RecordKey,
    pub position: Position,
    /// Number of the change among those of its position.
    pub part: u32,
    pub sub: &'a str,
    pub stored: &'a Stored,
    pub at: UnixMillis,
}

/// One line of the audit: who did what, and what became of it. Never the values.
#[derive(Clone, Debug)]
pub struct AuditRow<'a> {
    pub at: UnixMillis,
    pub sub: &'a str,
    pub client: &'a ClientId,
    pub key: &'a RecordKey,
    pub op: &'static str,
    pub outcome: &'a Outcome,
}

/// A record as test controls show it.
#[derive(Clone, Debug, Serialize)]
pub struct RecordDump {
    pub collection: CollectionName,
    pub id: RecordId,
    pub version: Version,
    pub position: Position,
    pub deleted: bool,
    pub fields: Json,
    pub sub: String,
    pub client_id: ClientId,
    pub seq: Seq,
}

/// An audit row as test controls show it.
#[derive(Clone, Debug, Serialize)]
pub struct AuditDump {
    pub client_id: ClientId,
    pub seq: Seq,
    pub scope: Scope,
    pub collection: CollectionName,
    pub id: RecordId,
    pub op: String,
    pub status: String,
    pub code: Option<String>,
    pub version: Option<u64>,
    pub position: Option<u64>,
}

/// Reads of one state of the database.
pub trait Snapshot: OperationReads + CompatReads {
    fn epoch(&self) -> StoreResult<Epoch>;
    /// True when this epoch is not the first: a backup was put back once.
    fn was_restored(&self) -> StoreResult<bool>;
    fn client(&self, sub: &str, client: &ClientId) -> StoreResult<Option<ClientRow>>;
    fn clients_of(&self, sub: &str) -> StoreResult<Vec<(ClientId, ClientRow)>>;
    fn outcome(&self, sub: &str, client: &ClientId, seq: Seq) -> StoreResult<Option<StoredOutcome>>;
    /// The outcomes that are still kept, by seq.
    fn ledger(&self, sub: &str, client: &ClientId) -> StoreResult<Vec<LedgerEntry>>;
    fn scope(&self, scope: &Scope) -> StoreResult<ScopeRow>;
    fn record(&self, key: &RecordKey) -> StoreResult<Option<RecordRow>>;
    /// Walks a scope's change log above `after`, in order.
    fn changes(&self, scope: &Scope, after: Position, visit: &mut dyn FnMut(ChangeRow) -> Walk) -> StoreResult<()>;
    /// Walks the live records of a pair whose ids are greater than `after`, in the order of their ids.
    fn records(&self, pair: &Pair, after: &str, visit: &mut dyn FnMut(ChangeRow) -> Walk) -> StoreResult<()>;
    /// What a user lost in a scope above one position and up to another, but to this client itself: the newest `count_max`,
    /// in order.
    fn overruled(
        &self,
        scope: &Scope,
        user: (&str, &ClientId),
        span: (Position, Position),
        count_max: u32,
    ) -> StoreResult<Vec<Lost>>;
    fn sum(&self, pair: &Pair) -> StoreResult<RecordSum>;
    /// Records of a pair with this link, at most `count_max`, in the order of their ids.
    fn linked(&self, pair: &Pair, link: &str, count_max: usize) -> StoreResult<Vec<RecordId>>;
    /// What the links were made by; empty in a new file.
    fn links_declared(&self) -> StoreResult<String>;
    /// Walks all live records of a collection in any scope: scope, id, fields as text.
    fn each_record(&self, name: &CollectionName, visit: &mut dyn FnMut(Scope, RecordId, &str)) -> StoreResult<()>;
    /// The user of an unexpired refresh token.
    fn refresh_token(&self, hash: &[u8; 32], now: UnixMillis) -> StoreResult<Option<String>>;
    /// How far each scope's change log may be pruned: always at the end of a push transaction.
    fn prune_plan(&self, retention: &Retention, now: UnixMillis) -> StoreResult<Vec<(Scope, Position)>>;
    /// Every record of a scope, tombstones too, for tests.
    fn dump_records(&self, scope: &Scope) -> StoreResult<Vec<RecordDump>>;
    /// Everything that became of a user's mutations, for tests.
    fn dump_audit(&self, sub: &str) -> StoreResult<Vec<AuditDump>>;
    /// Rows by table, for tests and the status page.
    fn counts(&self) -> StoreResult<Vec<(String, u64)>>;
}

/// What a write job can do, all of it in one transaction.
pub trait Transaction: Snapshot + OperationWrites + CompatWrites {
    /// A point to come back to inside the job; points nest.
    fn savepoint(&self) -> StoreResult<()>;
    fn release(&self) -> StoreResult<()>;
    fn rollback(&self) -> StoreResult<()>;
    /// Locks the scope's counter row, making it if needed, and reads it.
    fn lock_scope(&self, scope: &Scope) -> StoreResult<ScopeRow>;
    fn set_position(&self, scope: &Scope, position: Position) -> StoreResult<()>;
    fn put_client(&self, sub: &str, client: &ClientId, row: &ClientRow) -> StoreResult<()>;
    fn put_outcome(
        &self,
        sub: &str,
        client: &ClientId,
        seq: Seq,
        outcome: &StoredOutcome,
        at: UnixMillis,
    ) -> StoreResult<()>;
    /// Forgets the outcomes up to `through`.
    fn prune_outcomes(&self, sub: &str, client: &ClientId, through: Seq) -> StoreResult<()>;
    /// Writes the record and its change.
    fn write_record(&self, write: &RecordWrite<'_>) -> StoreResult<()>;
    /// Replaces the links of a record: what it is found by beside its id.
    fn put_links(&self, key: &RecordKey, links: &[String]) -> StoreResult<()>;
    fn clear_links(&self) -> StoreResult<()>;
    fn set_links_declared(&self, declared: &str) -> StoreResult<()>;
    /// Moves a pair's checksum and count of live records.
    fn add_sum(&self, pair: &Pair, sum: RecordSum, live_count: i64) -> StoreResult<()>;
    fn audit(&self, row: &AuditRow<'_>) -> StoreResult<()>;
    /// Keeps what lost (C2): the mutation word for word, and the values that it overwrote.
    fn keep_conflict(&self, row: &AuditRow<'_>, mutation: &str, overwritten: &Fields) -> StoreResult<()>;
    /// Keeps what `sub` lost to the client `by`, to tell them. Of two at one place the first one counts.
    fn put_overruled(&self, sub: &str, by: (&str, &ClientId), lost: &Overruled) -> StoreResult<()>;
    fn put_refresh_token(&self, hash: &[u8; 32], sub: &str, expires_at: UnixMillis) -> StoreResult<()>;
    fn revoke_refresh_token(&self, hash: &[u8; 32]) -> StoreResult<()>;
    /// Starts a new epoch: what a server does with a restored backup. Counters and floors rise by 2³².
    fn renew_epoch(&self, epoch: &Epoch) -> StoreResult<()>;
    /// Raises the scope's pruning floor and removes some of what is below; true when there is more.
    fn prune_scope(&self, scope: &Scope, through: Position, rows_max: u32) -> StoreResult<bool>;
    /// Removes idle clients, old audit rows and expired refresh tokens; true when there is more.
    fn prune_idle(&self, retention: &Retention, now: UnixMillis, rows_max: u32) -> StoreResult<bool>;
}

/// A database that runs jobs.
pub trait Store: Clone + Send + Sync + 'static {
    /// Runs a job in a transaction of its own and answers after the commit.
    fn write<T, E, F>(&self, job: F) -> impl Future<Output = Result<T, E>> + Send
    where
        F: Fn(&dyn Transaction) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static;

    /// Runs a job on one state of the database.
    fn read<T, E, F>(&self, job: F) -> impl Future<Output = Result<T, E>> + Send
    where
        F: FnOnce(&dyn Snapshot) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static;

    /// Ends after the jobs that were handed in; later ones fail with [`StoreError::Closed`].
    fn close(&self) -> impl Future<Output = ()> + Send;
}
