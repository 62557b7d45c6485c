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
    Failed,
}

impl Fate {
    pub(super) fn check(self) -> StoreResult<()> {
        match self {
            Self::Committed => Ok(()),
            Self::NoSpace => Err(StoreError::NoSpace),
            Self::Failed => Err(StoreError::Corrupt("the commit failed")),
        }
    }
}

/// Answers a job once its commit's fate is known.
pub(super) type Answer = Box<dyn FnOnce(Fate) + Send>;
/// Runs in the transaction; tells whether its changes are to stay, and how to answer.
pub(super) type Job = Box<dyn FnOnce(&Db<'_>) -> (bool, Answer) + Send>;

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

/// Runs one job in its savepoint. When SQLite itself gave up the whole transaction, the group is lost.
fn run(connection: &Connection, job: Job, heads: &mut Heads, fate: &mut Fate) -> Answer {
    let db = Db::new(connection);
    if *fate == Fate::Committed
        && let Err(error) = db.savepoint_inner()
    {
        *fate = fate_of(&error);
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| job(&db)));
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
        _ => Fate::Failed,
    }
}
