//! The embedded store: SQLite with one writer thread and a few readers.

use super::database::Db;
use super::writer::{Fate, OnCommit, Writer};
use super::{Snapshot, Store, StoreError, StoreResult, Transaction, schema};
use rusqlite::Connection;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// Connections that read. More would only wait for the same disk.
const READERS: usize = 4;

/// A SQLite file with its writer thread and readers. Clones share them.
#[derive(Clone)]
pub struct SqliteStore {
    shared: Arc<Shared>,
}

struct Shared {
    writer: Writer,
    readers: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl SqliteStore {
    /// Opens or creates `file`. `new_epoch` is the epoch of a new file.
    pub fn open(file: &Path, new_epoch: &str, on_commit: OnCommit) -> StoreResult<Self> {
        let mut connection = Connection::open(file)?;
        schema::tune(&connection)?;
        schema::prepare(&mut connection, new_epoch)?;
        let mut readers = Vec::with_capacity(READERS);
        for _ in 0..READERS {
            let reader = Connection::open(file)?;
            schema::tune(&reader)?;
            reader.pragma_update(None, "query_only", true)?;
            readers.push(reader);
        }
        let writer = Writer::start(connection, on_commit)?;
        let shared = Shared { writer, readers: Mutex::new(readers), permits: Semaphore::new(READERS) };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Store for SqliteStore {
    async fn write<T, E, F>(&self, job: F) -> Result<T, E>
    where
        F: Fn(&dyn Transaction) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.shared.writer.send(Box::new(move |db| {
            let result = db.map(|db| job(db));
            let keep = matches!(result, Some(Ok(_)));
            let answer = move |fate: Fate| {
                let result = match result {
                    Some(result) => result.and_then(|value| fate.of(value).map_err(E::from)),
                    None => Err(fate.of(()).err().unwrap_or(StoreError::Closed).into()),
                };
                // The caller may have hung up; the job's effect stays.
                drop(sender.send(result));
            };
            (keep, Box::new(answer))
        }))?;
        receiver.await.unwrap_or_else(|_| Err(StoreError::Panicked.into()))
    }

    async fn read<T, E, F>(&self, job: F) -> Result<T, E>
    where
        F: FnOnce(&dyn Snapshot) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let _permit = self.shared.permits.acquire().await.map_err(|_| StoreError::Closed)?;
        let work = tokio::task::spawn_blocking(move || {
            let taken = shared.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = taken.ok_or(StoreError::Closed)?;
            let result = read_job(&connection, job);
            shared.readers.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            result
        });
        work.await.unwrap_or_else(|_| Err(StoreError::Panicked.into()))
    }

    async fn close(&self) {
        let shared = Arc::clone(&self.shared);
        if tokio::task::spawn_blocking(move || shared.writer.close()).await.is_err() {
            tracing::error!("BUG: closing the store panicked");
        }
    }
}

fn read_job<T, E, F>(connection: &Connection, job: F) -> Result<T, E>
where
    F: FnOnce(&dyn Snapshot) -> Result<T, E>,
    E: From<StoreError>,
{
    connection.execute_batch("BEGIN").map_err(StoreError::from)?;
    // A panic must not take the connection out of the pool.
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(&Db::new(connection))));
    // SQLite ends the transaction itself where the disk fails; the job's own error is the one to tell.
    if !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK").map_err(StoreError::from)?;
    }
    result.unwrap_or_else(|_| Err(StoreError::Panicked.into()))
}
