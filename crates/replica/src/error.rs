//! Errors that reach the app: a code, words, and whether trying again can help.

use landfall_protocol::Map;
use landfall_protocol::codec::to_json;
use landfall_storage::query::QueryError;
use landfall_storage::{CommitError, OpenError, ReadError, StorageFault};
use serde::Serialize;

/// What went wrong, for the app. The codes are listed in docs/errors.md and in js/errors.ts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SyncError {
    pub code: &'static str,
    pub message: String,
    pub retryable: bool,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub details: Map<&'static str, String>,
}

landfall_protocol::wire_out!(SyncError { code: Need, message: Need, retryable: Need, details: Skip });

/// All codes that Rust gives. A test compares them with the TypeScript list.
pub const CODES: [&str; 20] = [
    "invalid_options",
    "invalid_record",
    "id_too_long",
    "record_too_large",
    "unknown_collection",
    "not_found",
    "already_exists",
    "ambiguous_id",
    "missing_scope_field",
    "group_too_large",
    "group_crosses_scopes",
    "outbox_full",
    "lane_full",
    "not_parked",
    "storage_failed",
    "quota_exceeded",
    "newer_schema",
    "blocked",
    "unavailable",
    "closed",
];

impl SyncError {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        debug_assert!(CODES.contains(&code), "BUG: unlisted code {code}");
        Self { code, message: message.into(), retryable: false, details: Map::new() }
    }
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.details.insert(name, value.into());
        self
    }
    fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }
    pub fn closed() -> Self {
        Self::new("closed", "This database handle is closed.")
    }
    pub fn storage(fault: StorageFault, message: &str) -> Self {
        match fault {
            StorageFault::Quota => {
                Self::new("quota_exceeded", "The device has no room left for this write. Nothing was stored.")
                    .retryable()
            }
            StorageFault::VersionChange => {
                Self::new("closed", "A newer version of this app has opened the database. Reload the page.")
            }
            StorageFault::ConnectionLost | StorageFault::Other => {
                Self::new("storage_failed", ["The browser's storage did not answer: ", message].concat()).retryable()
            }
        }
    }
}

impl From<ReadError> for SyncError {
    fn from(error: ReadError) -> Self {
        Self::storage(error.fault, &error.message)
    }
}

impl From<CommitError> for SyncError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Stale { .. } => {
                Self::new("storage_failed", "Another tab was faster, again and again.").retryable()
            }
            CommitError::Aborted { fault, message } => Self::storage(fault, &message),
            CommitError::Unknown { message } => Self::storage(StorageFault::ConnectionLost, &message),
        }
    }
}

impl From<QueryError> for SyncError {
    fn from(error: QueryError) -> Self {
        Self::new("invalid_options", error.message())
    }
}

impl From<OpenError> for SyncError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NewerSchema { found, known } => Self::new(
                "newer_schema",
                "The stored data was written by a newer version of this app. Reload to update; nothing was changed.",
            )
            .with("found", to_json(&found))
            .with("known", to_json(&known)),
            OpenError::Blocked => {
                Self::new("blocked", "Another tab holds an older version of the database open. Close it and try again.")
                    .retryable()
            }
            OpenError::Unavailable { message } => {
                Self::new("unavailable", ["This browser offers no IndexedDB here: ", &message].concat())
            }
            OpenError::Failed { fault, message } => Self::storage(fault, &message),
        }
    }
}
