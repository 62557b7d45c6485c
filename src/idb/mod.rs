//! The row store over IndexedDB: in a page, in a worker and in a service worker.
//!
//! Shape: `open` makes connections, `heal` keeps one alive, `txn` runs one transaction, `fault` reads error names.
//!
//! A row is a JavaScript string, so that a person can read it in the browser's developer tools.

use landfall_protocol::Listed;
mod fault;
mod heal;
mod open;
mod txn;
pub(crate) mod wait;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use landfall_storage::{CommitError, Committed, KeyedRows, OpenError, Read, ReadError, RowStore, StorageFault, Txn};

use heal::{ATTEMPTS_MAX, Shared};
pub use open::SCHEMA_VERSION;
pub(crate) use open::close_all;

/// How long opening or deleting waits for other contexts to let go, unless the caller says otherwise.
pub const OPEN_TIMEOUT_MS: u32 = 10_000;

type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A handle on one database. Clones share its connection.
#[derive(Clone)]
pub struct IdbRowStore {
    shared: Rc<Shared>,
}

impl IdbRowStore {
    /// Opens a database, making it if there is none.
    ///
    /// Answers [`OpenError::Blocked`] after `timeout_ms`: another context holds an older version or is deleting it.
    pub async fn open(name: &str, timeout_ms: u32) -> Result<Self, OpenError> {
        Ok(Self { shared: Shared::open(name, timeout_ms).await? })
    }

    /// Opens a database that is there; `None`, and nothing made, if it is not.
    pub async fn open_existing(name: &str, timeout_ms: u32) -> Result<Option<Self>, OpenError> {
        Ok(Shared::open_existing(name, timeout_ms).await?.map(|shared| Self { shared }))
    }

    /// Deletes a database with all it holds. Other contexts' stores answer [`StorageFault::VersionChange`] from then on.
    pub async fn delete(name: &str, timeout_ms: u32) -> Result<(), OpenError> {
        open::delete(name, timeout_ms).await
    }

    /// Closes this handle and its clones. Transactions that run end by themselves; later calls fail.
    pub fn close(&self) {
        self.shared.close();
    }

    /// True once no call can succeed any more: closed here, or by another context's version change or deletion.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }
}

impl IdbRowStore {
    /// Reads on a connection, and again on a new one while the connection is what failed. Boxed, as is the commit: whoever
    /// waits for rows then holds a pointer, not this whole machine.
    fn reading<'a>(&'a self, reads: &'a [Read]) -> Waiting<'a, Result<Vec<KeyedRows>, ReadError>> {
        Box::pin(async move {
            let mut attempts = 1;
            loop {
                let error = match self.shared.connection().await {
                    Ok(connection) => match txn::read(&connection, reads).await {
                        Err(error) => {
                            if error.fault == StorageFault::ConnectionLost {
                                self.shared.discard(&connection);
                            }
                            error
                        }
                        result => return result,
                    },
                    Err(error) => error,
                };
                if error.fault != StorageFault::ConnectionLost || attempts == ATTEMPTS_MAX {
                    return Err(error);
                }
                attempts += 1;
            }
        })
    }

    fn committing(&self, txn: Txn) -> Waiting<'_, Result<Committed, CommitError>> {
        Box::pin(async move {
            let txn = Rc::new(txn);
            let mut attempts = 1;
            loop {
                let (fault, message) = match self.shared.connection().await {
                    Ok(connection) => match txn::commit(&connection, &txn).await {
                        Err(CommitError::Unknown { message }) => {
                            self.shared.discard(&connection);
                            return Err(CommitError::Unknown { message });
                        }
                        Err(CommitError::Aborted { fault: StorageFault::ConnectionLost, message }) => {
                            self.shared.discard(&connection);
                            (StorageFault::ConnectionLost, message)
                        }
                        result => return result,
                    },
                    Err(ReadError { fault, message }) => (fault, message),
                };
                if fault != StorageFault::ConnectionLost || attempts == ATTEMPTS_MAX {
                    return Err(CommitError::Aborted { fault, message });
                }
                attempts += 1;
            }
        })
    }
}

impl RowStore for IdbRowStore {
    async fn read(&self, reads: &[Read]) -> Result<Vec<KeyedRows>, ReadError> {
        if reads.iter().all(Read::is_empty) {
            return Ok(reads.iter().map(|_| Vec::new()).listed());
        }
        self.reading(reads).await
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        self.committing(txn).await
    }
}
