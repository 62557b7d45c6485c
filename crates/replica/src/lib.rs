//! Carries the engine's plans out: rows in, rows out, requests in between. It decides nothing.
//!
//! One [`Replica`] is one context (a tab, a worker, a service worker) on one user's database. Several of them share
//! the rows; each keeps a memory that follows from the rows, catches up before every step, and commits only plans whose
//! ordering row did not change meanwhile. Locks save work, they never keep order.
//!
//! No borrow is held across an `await`.

pub mod base;
pub mod db;
pub mod error;
pub mod host;
mod live_query;
mod query;
mod report;
mod sync;
mod write;

pub use error::{CODES, SyncError};
pub use host::{Host, HttpRequest, HttpResponse, LockWait, NetworkError, Notice, Task, Token};
pub use live_query::LiveQuery;
pub use query::{Condition, Order, Query, Row, Rows};
pub use report::{Change, FlushReport, OutboxItem, Status, SyncReport};
pub use write::{WriteAnswer, WriteKind, WriteOp, Written};

use db::{CLIENT, Db, MANIFEST, Touched, refresh};
use landfall_core::rows::ClientRow;
use landfall_core::schedule::{Intervals, Schedule, Trigger};
use landfall_core::{Config, State};
use landfall_protocol::{ClientId, UnixMillis};
use landfall_storage::{
    CommitError, Durability, Key, Manifest, RowId, RowKind, RowStore, Schema, StoreName, Txn, decode, encode,
};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// Prefix of rows that could not be used and were copied here.
const QUARANTINE: &str = "quarantine/";

/// How long opening waits for those who keep changing what it reads.
const LOAD_LOCK_MS: u64 = 10_000;

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
    /// Waits for locks instead of leaving the work to their holder (the service worker).
    pub patient: bool,
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
    pub(crate) token_known: Cell<bool>,
    pub(crate) phase: Cell<report::Phase>,
    pub(crate) last_error: RefCell<Option<(String, String)>>,
    pub(crate) storage: RefCell<report::StorageHealth>,
    changes: RefCell<VecDeque<Change>>,
    pub(crate) touched: RefCell<Touched>,
    closed: Cell<bool>,
    /// Failed units are to be tried once more.
    pub(crate) rearm: Cell<bool>,
    /// Records that came in by pulls and were news to this context.
    pub(crate) pulled_count: Cell<u64>,
    /// How often this context has pulled everything there was.
    pub(crate) heads: Cell<u64>,
    /// Requests of this context that are under way.
    pub(crate) running: Cell<u32>,
    pub(crate) needs_foreground: Cell<bool>,
    /// Rows of the base that turned out to be damaged and are not dealt with yet.
    pub(crate) damaged: RefCell<Vec<RowId>>,
}

impl<H: Host> Replica<H> {
    /// Opens a database: reads its rows, or writes the first one.
    pub async fn open(host: H, config: Config, settings: Settings) -> Result<Rc<Self>, SyncError> {
        let now = host.now();
        let first = first_client(&host, &config.user);
        let mut db = Db::new(first.clone());
        if settings.memory_bytes > 0 {
            db.base.budget = settings.memory_bytes;
        }
        let db = RefCell::new(db);
        let intervals =
            Intervals { debounce: config.push_debounce_ms, push: config.push_every_ms, pull: config.pull_every_ms };
        let relaxed = settings.relaxed;
        let replica = Rc::new(Self {
            host,
            config,
            settings,
            db,
            schedule: RefCell::new(Schedule::new(intervals, true, now)),
            queue: RefCell::new(Vec::new()),
            pumping: Cell::new(false),
            relaxed,
            token: RefCell::new(None),
            sent_token: RefCell::new(None),
            token_known: Cell::new(false),
            phase: Cell::new(report::Phase::Idle),
            last_error: RefCell::new(None),
            storage: RefCell::new(report::StorageHealth::default()),
            changes: RefCell::new(VecDeque::new()),
            touched: RefCell::new(Touched::default()),
            closed: Cell::new(false),
            rearm: Cell::new(true),
            pulled_count: Cell::new(0),
            heads: Cell::new(0),
            running: Cell::new(0),
            needs_foreground: Cell::new(false),
            damaged: RefCell::default(),
        });
        replica.ensure_rows(first).await?;
        // Also what an earlier life of this context set aside: nobody may have heard of it then.
        let (from, to) = (Key::text(QUARANTINE), Key::after_prefix(QUARANTINE));
        let set_aside = replica.host.rows().range(StoreName::Meta, &from, &to, 1_000).await?;
        replica.storage.borrow_mut().set_aside = set_aside.into_iter().map(|(key, _)| key.to_string()).collect();
        replica.load().await?;
        Ok(replica)
    }

    /// The first read of all rows. Without it there is no view: an empty one would look like everything was lost.
    ///
    /// A worker that settles one batch after the other changes the ordering row during every read of many rows; after
    /// some tries this context takes the locks under which others settle and pull.
    async fn load(&self) -> Result<(), SyncError> {
        let mut held = Vec::new();
        loop {
            let touched = refresh(&self.host, &self.db).await?;
            self.changed(touched);
            if self.db.borrow().client_text.is_some() {
                return Ok(());
            }
            if held.is_empty() {
                for work in ["push", "pull"] {
                    let name = format!("{}:{work}", self.settings.database);
                    held.extend(self.host.lock(&name, LockWait::Millis(LOAD_LOCK_MS)).await);
                }
            }
        }
    }

    /// The two ordering rows: made when they are not there, set aside when they can't be read.
    async fn ensure_rows(&self, first: ClientRow) -> Result<(), SyncError> {
        for _ in 0..8 {
            let rows = self.host.rows();
            let client = rows.get(StoreName::Meta, &Key::text(CLIENT)).await?;
            let manifest = rows.get(StoreName::Meta, &Key::text(MANIFEST)).await?;
            let client_fine = client.as_deref().is_some_and(|text| decode::<ClientRow>(RowKind::Client, text).is_ok());
            let manifest_fine =
                manifest.as_deref().is_none_or(|text| decode::<Manifest>(RowKind::Manifest, text).is_ok());
            if client_fine && manifest_fine {
                return Ok(());
            }
            let mut txn = Txn::new("open", Durability::Strict);
            if !client_fine {
                txn.expect(StoreName::Meta, Key::text(CLIENT), client.clone());
                if let Some(broken) = client {
                    newer(&broken, RowKind::Client)?;
                    // Kept for whoever mends it. Going on as a new client is the rule for a profile that lost its place.
                    let key = format!("{QUARANTINE}client/{:016x}", self.host.random());
                    txn.put(StoreName::Meta, Key::text(key), broken);
                    for (key, _) in
                        rows.range(StoreName::Meta, &Key::text("desc/"), &Key::after_prefix("desc/"), 10_000).await?
                    {
                        txn.delete(StoreName::Meta, key);
                    }
                }
                txn.put(StoreName::Meta, Key::text(CLIENT), encode(RowKind::Client, &first));
            }
            if !manifest_fine && let Some(broken) = manifest {
                newer(&broken, RowKind::Manifest)?;
                txn.expect(StoreName::Meta, Key::text(MANIFEST), Some(broken.clone()));
                let key = format!("{QUARANTINE}manifest/{:016x}", self.host.random());
                txn.put(StoreName::Meta, Key::text(key), broken);
                // Rows that only the broken one named stay where they are; new ones get other numbers.
                let fresh = Manifest { next_row: self.host.now().get() << 8, ..Manifest::default() };
                txn.put(StoreName::Meta, Key::text(MANIFEST), encode(RowKind::Manifest, &fresh));
            }
            match rows.commit(txn).await {
                Ok(_) | Err(CommitError::Stale { .. } | CommitError::Unknown { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(SyncError::new("storage_failed", "The database could not be set up."))
    }

    /// Catches up with the other contexts.
    pub async fn refresh(&self) -> Result<(), SyncError> {
        let touched = refresh(&self.host, &self.db).await?;
        self.changed(touched);
        Ok(())
    }

    /// Reads what the last computation missed. False: nothing, so its result stands.
    pub(crate) async fn fetch_missed(&self) -> Result<bool, SyncError> {
        let missing = self.db.borrow().base.missing();
        if missing.is_empty() {
            return Ok(false);
        }
        let fetched = db::fetch(&self.host, &self.db, missing).await?;
        self.changed(fetched.touched);
        if !fetched.damaged.is_empty() {
            self.damaged.borrow_mut().extend(fetched.damaged);
            self.push_change(Change::Status);
            self.trigger(Trigger::Remote);
        }
        Ok(true)
    }

    /// Reads every row of the base into memory, as far as the budget goes.
    pub async fn warm(&self) -> Result<(), SyncError> {
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
        if matches!(trigger, Trigger::Start | Trigger::Online | Trigger::Login) {
            self.rearm.set(true);
        }
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
        if changes.back() != Some(&change) {
            changes.push_back(change);
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
        (self.changes.borrow_mut().drain(..).collect(), std::mem::take(&mut *self.touched.borrow_mut()))
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
        ClientId(format!("c{:016x}", self.host.random()))
    }
}

fn newer(text: &str, kind: RowKind) -> Result<(), SyncError> {
    match landfall_storage::row::open(kind, text) {
        Err(landfall_storage::RowError::Newer { version }) => {
            Err(landfall_storage::OpenError::NewerSchema { found: version, known: kind.version() }.into())
        }
        _ => Ok(()),
    }
}

fn first_client<H: Host>(host: &H, user: &str) -> ClientRow {
    State::first_client(ClientId(format!("c{:016x}", host.random())), user)
}

/// A UUIDv7 as text.
pub fn uuid_v7(now: UnixMillis, a: u64, b: u64) -> String {
    let ms = now.get() & 0xffff_ffff_ffff;
    format!(
        "{:08x}-{:04x}-7{:03x}-{:04x}-{:012x}",
        ms >> 16,
        ms & 0xffff,
        a & 0xfff,
        0x8000 | ((a >> 12) & 0x3fff),
        b & 0xffff_ffff_ffff
    )
}
