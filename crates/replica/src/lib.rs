//! Carries the engine's plans out: rows in, rows out, requests in between. It decides nothing.
//!
//! One [`Replica`] is one context (a tab, a worker, a service worker) on one user's database. Several of them share
//! the rows; each keeps a memory that follows from the rows, catches up before every step, and commits only plans whose
//! ordering row did not change meanwhile. Locks save work, they never keep order.
//!
//! No borrow is held across an `await`.

pub mod base;
mod cold;
pub mod db;
pub mod error;
pub mod host;
mod live_query;
mod open;
mod query;
mod report;
mod room;
mod sync;
mod write;

pub use error::{CODES, SyncError};
pub use host::{Host, HttpRequest, HttpResponse, LockWait, NetworkError, Notice, Task, Token};
pub use live_query::LiveQuery;
pub use query::{Condition, Order, Query, Row, Rows};
pub use report::{Change, FlushReport, OutboxItem, Status, SyncReport, Tally};
pub use write::{WriteAnswer, WriteKind, WriteOp, Written};

use db::{Db, Touched, refresh};
use landfall_core::Config;
use landfall_core::lane_index::Tail;
use landfall_core::plant::{Plant, planted};
use landfall_core::schedule::{Schedule, Trigger};
use landfall_protocol::codec::{hex, write_hex};
use landfall_protocol::{AddAll, ClientId, UnixMillis};
use landfall_storage::{RowId, Schema};
use std::cell::{Cell, RefCell};

/// What the app chose beside [`Config`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Name of the database; prefix of lock names.
    pub database: String,
    /// Address that gives a new access token for the refresh cookie.
    pub refresh_url: Option<String>,
    /// Requests carry cookies and no token.
    pub cookie_auth: bool,
    /// Log appends are `relaxed`.
    pub relaxed: bool,
    /// What the app declared of its collections' storage.
    pub schema: Schema,
    /// Memory for rows of the base, bytes; 0: the default.
    pub memory_bytes: usize,
    /// Pulled pages of about this size are stored in one transaction, bytes; 0: the default.
    pub pull_bytes: usize,
    /// The row that holds room back for a full device, bytes; 0: none.
    pub filler_bytes: usize,
    /// Waits for locks instead of leaving the work to their holder (the service worker).
    pub patient: bool,
    /// From how much on the lane index is worth a step; `None`: the default.
    pub tail: Option<Tail>,
}

/// One context on one user's database.
pub struct Replica<H: Host> {
    pub host: H,
    pub config: Config,
    pub settings: Settings,
    pub db: RefCell<Db>,
    pub(crate) schedule: RefCell<Schedule>,
    pub(crate) queue: RefCell<Vec<write::Call>>,
    pub(crate) pumping: Cell<bool>,
    pub(crate) relaxed: bool,
    pub(crate) token: RefCell<Option<Token>>,
    /// The token of the last request.
    pub(crate) sent_token: RefCell<Option<Token>>,
    /// When it went.
    pub(crate) asked_at: Cell<UnixMillis>,
    pub(crate) token_known: Cell<bool>,
    pub(crate) phase: Cell<report::Phase>,
    pub(crate) last_error: RefCell<Option<(String, String)>>,
    pub(crate) storage: RefCell<report::StorageHealth>,
    changes: RefCell<Vec<Change>>,
    pub(crate) touched: RefCell<Touched>,
    closed: Cell<bool>,
    /// Of all steps of this context.
    pub(crate) tally: Cell<report::Tally>,
    /// How often this context has pulled everything there was.
    pub(crate) heads: Cell<u64>,
    /// Changes to ask for in one page.
    page_limit: Cell<u32>,
    /// Requests of this context that are under way.
    pub(crate) running: Cell<u32>,
    pub(crate) needs_foreground: Cell<bool>,
    /// Rows of the base that turned out to be damaged and are not dealt with yet.
    pub(crate) damaged: RefCell<Vec<RowId>>,
    /// Queries that are being answered, and when somebody last asked for something.
    pub(crate) reading: Cell<u32>,
    pub(crate) last_read: Cell<u64>,
    /// When to look for the filler row.
    pub(crate) room_look: Cell<u64>,
    /// When this context last tidied the base, or began.
    pub(crate) tidied: Cell<u64>,
    /// When it last asked a worker to.
    pub(crate) asked_worker: Cell<u64>,
    pub(crate) kept: RefCell<query::Kept>,
}

impl<H: Host> Replica<H> {
    /// Catches up with the other contexts.
    pub async fn refresh(&self) -> Result<(), SyncError> {
        let touched = refresh(&self.host, &self.db).await?;
        self.changed(touched);
        Ok(())
    }

    /// Reads what the last computation missed. False: nothing, so its result stands.
    pub(crate) async fn fetch_missed(&self) -> Result<bool, SyncError> {
        let has_read = self.fetch_lanes().await?;
        let missing = self.db.borrow().base.missing();
        if missing.is_empty() {
            return Ok(has_read);
        }
        let fetched = db::fetch(&self.host, &self.db, missing).await?;
        self.changed(fetched.touched);
        if !fetched.damaged.is_empty() {
            self.damaged.borrow_mut().add_all(fetched.damaged);
            self.push_change(Change::Status);
            self.trigger(Trigger::Remote);
        }
        Ok(true)
    }

    /// Reads what every look at the base begins with, so that the first one need not wait for it.
    pub async fn preload(&self) {
        self.db.borrow().base.touch_runs();
        // What can't be read now is read by whoever needs it.
        let _ = self.fetch_missed().await;
    }

    /// Reads the whole log, and every row of the base into memory, as far as the budget goes.
    pub async fn warm(&self) -> Result<(), SyncError> {
        self.read_log().await?;
        loop {
            self.db.borrow().base.touch_all();
            if !self.fetch_missed().await? {
                return Ok(());
            }
        }
    }

    /// Another context said something: look at the rows.
    pub async fn noticed(&self, notice: &Notice) {
        match notice {
            Notice::Log { key } if *key <= self.db.borrow().log_key => return,
            Notice::Log { key } if planted(Plant::NoticeTrusted) => {
                self.db.borrow_mut().log_key = *key;
                return;
            }
            Notice::Base { rev } if *rev <= self.db.borrow().base.manifest.rev => return,
            Notice::Outbox { rev } if *rev <= self.db.borrow().state.client.rev => return,
            Notice::Token => {
                self.token_known.set(false);
                self.trigger(Trigger::Login);
                return;
            }
            Notice::Wiped => {
                self.close();
                return;
            }
            Notice::Log { .. } | Notice::Base { .. } | Notice::Outbox { .. } => {}
        }
        // What can't be read now is read by the next step.
        if self.refresh().await.is_ok() && matches!(notice, Notice::Log { .. } | Notice::Outbox { .. }) {
            self.trigger(Trigger::Remote);
        }
    }

    /// Something happened that makes a sync worth while, or impossible.
    pub fn trigger(&self, trigger: Trigger) {
        self.schedule.borrow_mut().handle(self.host.now(), trigger);
        self.push_change(Change::Status);
        self.host.wake();
    }

    pub(crate) fn changed(&self, mut touched: Touched) {
        if touched.is_empty() {
            return;
        }
        for event in std::mem::take(&mut touched.events) {
            self.push_change(Change::Event(event));
        }
        self.touched.borrow_mut().merge(touched);
        self.host.changed();
    }

    pub(crate) fn push_change(&self, change: Change) {
        let mut changes = self.changes.borrow_mut();
        if changes.last() != Some(&change) {
            changes.push(change);
        }
        drop(changes);
        self.host.changed();
    }

    pub(crate) fn enqueued(&self) {
        self.push_change(Change::Enqueued);
        self.host.wake();
    }

    /// What listeners should hear of, and which collections changed, since the last call.
    pub fn take_changes(&self) -> (Vec<Change>, Touched) {
        (self.changes.take(), std::mem::take(&mut *self.touched.borrow_mut()))
    }

    /// Ends this context's use of the database. Queued writes are still committed.
    pub fn close(&self) {
        self.closed.set(true);
        self.push_change(Change::Status);
        self.host.wake();
    }
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }
    pub(crate) fn check_open(&self) -> Result<(), SyncError> {
        if self.is_closed() { Err(SyncError::closed()) } else { Ok(()) }
    }

    /// A UUIDv7 (RFC 9562) of this moment.
    pub(crate) fn uuid(&self) -> String {
        uuid_v7(self.host.now(), self.host.random(), self.host.random())
    }
    pub(crate) fn new_client_id(&self) -> ClientId {
        client_id(&self.host)
    }
    /// The lock that one kind of work takes.
    pub(crate) fn lock_name(&self, work: &str) -> String {
        [&self.settings.database, ":", work].concat()
    }
}

pub(crate) fn client_id<H: Host>(host: &H) -> ClientId {
    ClientId(["c", &hex(host.random())].concat())
}

/// A UUIDv7 as text.
pub fn uuid_v7(now: UnixMillis, a: u64, b: u64) -> String {
    let mut text = String::with_capacity(36);
    let parts =
        [(now.get() >> 16, 8), (now.get(), 4), (0x7000 | (a & 0xfff), 4), (0x8000 | ((a >> 12) & 0x3fff), 4), (b, 12)];
    for (number, width) in parts {
        if !text.is_empty() {
            text.push('-');
        }
        write_hex(&mut text, number, width);
    }
    text
}
