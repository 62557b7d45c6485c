//! The one thread that writes, with group commit.
//!
//! Jobs that queued up while the disk was busy run in one SQLite transaction, each in a savepoint of its own, and
//! are answered after its COMMIT. A job that fails rolls back its own savepoint and leaves the others alone.

use super::database::Db;
use super::{StoreError, StoreResult};
use landfall_protocol::{Position, Scope};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Jobs that may wait; above it a push is answered 503.
const QUEUE_MAX: usize = 4096;
/// Jobs in one commit.
const GROUP_MAX: usize = 512;
/// A commit group is closed after this long even if jobs keep coming: it bounds the wait of the first.
const GROUP_TIME_MAX: Duration = Duration::from_millis(10);

/// Where each scope's counter stands after a commit.
pub type Heads = BTreeMap<Scope, Position>;
/// A commit that is on the disk.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Of the scopes that it changed.
    pub heads: Heads,
    pub job_count: usize,
    /// How long the disk took.
    pub duration: Duration,
}

/// Called on the writer thread after each commit; must not block.
pub type OnCommit = Arc<dyn Fn(&Commit) + Send + Sync>;

/// How the commit of a job's group ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Committed,
    NoSpace,
    /// Another process holds the file.
    Busy,
    /// The disk did not write or sync. What was written is undone; should a crash bring it back whole from the log of SQLite, its
    /// repeat finds the outcome.
    Disk,
    Failed,
}

impl Fate {
    /// What a job came to that would answer `value`.
    pub(super) fn of<T>(self, value: T) -> StoreResult<T> {
        match self {
            Self::Committed => Ok(value),
            Self::NoSpace => Err(StoreError::NoSpace),
            Self::Busy => Err(StoreError::Busy),
            Self::Disk => Err(StoreError::Disk),
            Self::Failed => Err(StoreError::Corrupt("the commit failed")),
        }
    }
}

/// Answers a job once its commit's fate is known.
pub(super) type Answer = Box<dyn FnOnce(Fate) + Send>;
/// Runs in the transaction; tells whether its changes are to stay, and how to answer. Without a transaction it must not
/// run: each of its statements would be a commit of its own.
pub(super) type Job = Box<dyn FnOnce(Option<&Db<'_>>) -> (bool, Answer) + Send>;

/// Handle of the writer thread.
pub(super) struct Writer {
    queue: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(connection: Connection, on_commit: OnCommit) -> StoreResult<Self> {
        let (sender, receiver) = sync_channel(QUEUE_MAX);
        let thread = std::thread::Builder::new()
            .name("landfall-writer".to_owned())
            .spawn(move || work(&connection, &receiver, &on_commit))
            .map_err(|_| StoreError::Closed)?;
        Ok(Self { queue: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn send(&self, job: Job) -> StoreResult<()> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        match queue.as_ref().map(|sender| sender.try_send(job)) {
            Some(Ok(())) => Ok(()),
            Some(Err(TrySendError::Full(_))) => Err(StoreError::Busy),
            Some(Err(TrySendError::Disconnected(_))) | None => Err(StoreError::Closed),
        }
    }

    /// Lets the queued jobs finish and waits for the thread.
    pub(super) fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("BUG: the writer thread panicked");
        }
    }
}

fn work(connection: &Connection, queue: &Receiver<Job>, on_commit: &OnCommit) {
    while let Ok(first) = queue.recv() {
        let (heads, answers, fate, duration) = commit_group(connection, first, queue);
        if fate == Fate::Committed {
            on_commit(&Commit { heads, job_count: answers.len(), duration });
        }
        for answer in answers {
            answer(fate);
        }
    }
    if let Err(error) = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
        tracing::warn!(%error, "the last checkpoint failed; the next start repeats it");
    }
}

fn commit_group(connection: &Connection, first: Job, queue: &Receiver<Job>) -> (Heads, Vec<Answer>, Fate, Duration) {
    let (mut heads, mut answers) = (Heads::new(), Vec::new());
    let begun = connection.execute_batch("BEGIN IMMEDIATE");
    let mut fate = begun.map_or_else(|error| fate_of(&error), |()| Fate::Committed);
    let start = Instant::now();
    let mut next = Some(first);
    while let Some(job) = next {
        answers.push(run(connection, job, &mut heads, &mut fate));
        let more = answers.len() < GROUP_MAX && start.elapsed() < GROUP_TIME_MAX;
        next = if more { queue.try_recv().ok() } else { None };
    }
    let committing = Instant::now();
    if fate == Fate::Committed
        && let Err(error) = connection.execute_batch("COMMIT")
    {
        fate = fate_of(&error);
    }
    let duration = committing.elapsed();
    if !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        tracing::error!(%error, "rollback failed");
    }
    (heads, answers, fate, duration)
}

/// Runs one job in its savepoint. When SQLite itself gave up the whole transaction, the group is lost, and what comes after
/// in it is only answered.
fn run(connection: &Connection, job: Job, heads: &mut Heads, fate: &mut Fate) -> Answer {
    let db = Db::new(connection);
    if *fate == Fate::Committed
        && let Err(error) = db.savepoint_inner()
    {
        *fate = fate_of(&error);
    }
    let open = (*fate == Fate::Committed).then_some(&db);
    let outcome = catch_unwind(AssertUnwindSafe(|| job(open)));
    let (keep, answer) = outcome.unwrap_or_else(|_| {
        // The job's own channel is dropped with it: its caller sees `Panicked`.
        tracing::error!("BUG: a job of the store panicked");
        (false, Box::new(|_| ()))
    });
    if *fate == Fate::Committed {
        let settled = if connection.is_autocommit() {
            Err(None)
        } else if keep {
            db.unwind_to(1, true).map_err(Some)
        } else {
            db.unwind_to(1, false).map_err(Some)
        };
        match settled {
            Ok(()) if keep => heads.extend(db.heads()),
            Ok(()) => (),
            Err(error) => *fate = error.as_ref().map_or(Fate::NoSpace, fate_of),
        }
    }
    answer
}

fn fate_of(error: &rusqlite::Error) -> Fate {
    tracing::error!(%error, "a commit group failed");
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => Fate::NoSpace,
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => Fate::Busy,
        Some(rusqlite::ErrorCode::SystemIoFailure) => Fate::Disk,
        _ => Fate::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    /// A job that inserts a row if it may, and tells its fate.
    fn insert(fates: &Sender<Fate>) -> Job {
        let fates = fates.clone();
        Box::new(move |db| {
            if let Some(db) = db {
                db.execute("INSERT INTO t VALUES (1)", []).unwrap();
            }
            (true, Box::new(move |fate| fates.send(fate).unwrap()))
        })
    }

    #[test]
    fn s7_what_comes_behind_a_transaction_that_sqlite_gave_up_has_no_effect() {
        let directory = tempfile::tempdir().unwrap();
        let connection = Connection::open(directory.path().join("t.db")).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (n)").unwrap();
        let writer = Writer::start(connection, Arc::new(|_| ())).unwrap();
        let ((go, wait), (fates, told)) = (channel::<()>(), channel());
        writer.send(insert(&fates)).unwrap();
        assert_eq!(told.recv().unwrap(), Fate::Committed);
        // One group: the second job waits in the queue when the first loses the transaction, as on a full disk.
        let first = fates.clone();
        let lose: Job = Box::new(move |db| {
            wait.recv().unwrap();
            db.unwrap().execute("ROLLBACK", []).unwrap();
            (true, Box::new(move |fate| first.send(fate).unwrap()))
        });
        writer.send(lose).unwrap();
        writer.send(insert(&fates)).unwrap();
        go.send(()).unwrap();
        assert_eq!([told.recv().unwrap(), told.recv().unwrap()], [Fate::NoSpace; 2]);
        writer.send(insert(&fates)).unwrap();
        assert_eq!(told.recv().unwrap(), Fate::Committed);
        writer.close();
        let reader = Connection::open(directory.path().join("t.db")).unwrap();
        let count: u32 = reader.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 2, "what was answered as failed is there");
    }

    #[test]
    fn s7_while_another_process_holds_the_file_nothing_has_an_effect() {
        let directory = tempfile::tempdir().unwrap();
        let other = Connection::open(directory.path().join("t.db")).unwrap();
        other.execute_batch("CREATE TABLE t (n); BEGIN EXCLUSIVE").unwrap();
        let connection = Connection::open(directory.path().join("t.db")).unwrap();
        connection.busy_timeout(Duration::ZERO).unwrap();
        let writer = Writer::start(connection, Arc::new(|_| ())).unwrap();
        let (fates, told) = channel();
        let ran = Arc::new(Mutex::new(false));
        let mark = Arc::clone(&ran);
        let job: Job = Box::new(move |db| {
            *mark.lock().unwrap() = db.is_some();
            (true, Box::new(move |fate| fates.send(fate).unwrap()))
        });
        writer.send(job).unwrap();
        assert_eq!(told.recv().unwrap(), Fate::Busy);
        assert!(!*ran.lock().unwrap(), "a job ran without a transaction");
        writer.close();
    }
}
