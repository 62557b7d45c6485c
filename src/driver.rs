//! Runs one replica in this context: its loop, its listeners, and what it tells JavaScript.

use crate::channel::Channel;
use crate::convert;
use crate::host::{BrowserHost, Hooks};
use crate::idb::{IdbRowStore, OPEN_TIMEOUT_MS};
use crate::live::Live;
use crate::lock::{self, Locks};
use crate::net::Net;
use crate::options::Options;
use crate::task::spawn;
use crate::timer::Signal;
use js_sys::Function;
use landfall_core::schedule::Trigger;
use landfall_core::settle::Event;
use landfall_protocol::codec::{ToJson, from_json};
use landfall_protocol::{Map, limits};
use landfall_replica::db::Touched;
use landfall_replica::{Change, Host, LiveQuery, Query, Replica, SyncError};
use landfall_storage::{CommitError, Durability, Key, RowKind, RowStore, StorageFault, StoreName, Txn, row};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

const OPTIONS: &str = "options";
const FOREGROUND: &str = "foreground";

/// How often, and for how long each time, the first sync waits while the page reads.
const READ_FIRST_LOOKS: u32 = 5;
const READ_FIRST_MS: u64 = 20;

struct Watch {
    callback: Function,
    /// `None` while it is being brought up to date.
    live: Option<LiveQuery>,
    /// What changed since.
    due: Touched,
}

/// One replica with its loop and listeners.
pub(crate) struct Driver {
    pub(crate) replica: Rc<Replica<BrowserHost>>,
    watches: RefCell<Map<u32, Watch>>,
    next_watch: Cell<u32>,
    draining: Cell<bool>,
    pub(crate) progress: RefCell<Vec<Function>>,
    live: Option<Rc<Live>>,
    visible: Cell<bool>,
}

/// A database that a page has opened before, and the options that it stored; `None` if there is none, or if it was opened with
/// a transport and this context has none.
pub(crate) async fn stored(database: &str, hooks: &Hooks) -> Result<Option<(IdbRowStore, String)>, SyncError> {
    let Some(rows) = IdbRowStore::open_existing(database, OPEN_TIMEOUT_MS).await? else { return Ok(None) };
    let row = rows.get(StoreName::Meta, &Key::text(OPTIONS)).await?;
    let opened = row.as_deref().and_then(|row| row::open(RowKind::Schema, row).ok());
    match opened.map(|row| row.body.to_owned()) {
        Some(text) if hooks.transport.is_some() || !parse_options(&text)?.url.is_empty() => Ok(Some((rows, text))),
        _ => {
            rows.close();
            Ok(None)
        }
    }
}

impl Driver {
    /// Opens a database for a page, or for a worker, which hands in the rows that it has opened ([`stored`]).
    pub(crate) async fn open(text: &str, hooks: Rc<Hooks>, opened: Option<IdbRowStore>) -> Result<Rc<Self>, SyncError> {
        let options = &parse_options(text)?;
        let database = options.database();
        let worker = opened.is_some();
        let rows = match opened {
            Some(rows) => rows,
            None => IdbRowStore::open(&database, OPEN_TIMEOUT_MS).await?,
        };
        let settings = options.settings(worker);
        let host = BrowserHost {
            rows,
            net: Net::new(
                options.url.clone(),
                settings.cookie_auth,
                options.gzip_above_bytes.unwrap_or(limits::GZIP_ABOVE_BYTES),
            ),
            hooks,
            locks: Locks::default(),
            channel: RefCell::new(None),
            signal: Rc::new(Signal::default()),
            on_changed: RefCell::new(None),
        };
        let also: &[&str] = if worker { &[] } else { &[OPTIONS, FOREGROUND] };
        let (replica, kept) = Replica::open_with(host, options.config(), settings, also).await?;
        let live = if worker { None } else { Live::new(&options.url, &options.user).map(Rc::new) };
        let driver = Rc::new(Self {
            replica,
            watches: RefCell::default(),
            next_watch: Cell::new(1),
            draining: Cell::new(false),
            progress: RefCell::default(),
            live,
            visible: Cell::new(true),
        });
        if let Some(options) = kept.first() {
            driver.store_options(options.as_deref(), text).await?;
        }
        driver.listen(&database);
        if !worker {
            let noted = matches!(&kept[..], [_, Some(_)]);
            driver.replica.set_needs_foreground(noted);
            let running = Rc::clone(&driver);
            spawn(async move {
                running.let_read().await;
                running.replica.preload().await;
                if noted {
                    running.foreground_row(false).await;
                }
                running.run().await;
            });
        }
        Ok(driver)
    }

    /// Keeps the options for the worker, if they are not the ones that it has. One that is missing them does not sync.
    async fn store_options(&self, kept: Option<&str>, text: &str) -> Result<(), SyncError> {
        let row = row::encode_text(RowKind::Schema, text);
        if kept == Some(&row) {
            return Ok(());
        }
        let mut txn = Txn::new("options", Durability::Relaxed);
        txn.put(StoreName::Meta, Key::text(OPTIONS), row);
        match self.replica.commit_small(txn).await {
            // A page on a full device works without; the worker goes on with the options that it has.
            Err(CommitError::Aborted { fault: StorageFault::Quota, .. }) => Ok(()),
            result => Ok(result?),
        }
    }

    fn listen(self: &Rc<Self>, database: &str) {
        let this = Rc::downgrade(self);
        *self.replica.host.on_changed.borrow_mut() = Some(Rc::new(move || {
            if let Some(driver) = this.upgrade()
                && !driver.draining.replace(true)
            {
                spawn(async move { driver.drain().await });
            }
        }));
        let this = Rc::downgrade(self);
        let channel = Channel::open(database, move |notice| {
            if let Some(driver) = this.upgrade() {
                spawn(async move { driver.replica.noticed(&notice).await });
            }
        });
        *self.replica.host.channel.borrow_mut() = Some(channel);
    }

    /// What the page asks for when it opens is answered before the first sync begins. A page without records waits for that,
    /// unless it has a long outbox to look into.
    async fn let_read(&self) {
        for _ in 0..READ_FIRST_LOOKS {
            if self.replica.db.borrow().base.manifest.is_cold() && !self.replica.is_cold() {
                return;
            }
            self.replica.host.pause(READ_FIRST_MS).await;
            if !self.replica.is_read() {
                return;
            }
        }
    }

    /// The loop of a page: do what is due, then wait for a time or a wake.
    async fn run(self: Rc<Self>) {
        let signal = Rc::clone(&self.replica.host.signal);
        while !self.replica.is_closed() {
            let until = self.replica.run_due().await;
            self.live();
            let wait = until.map(|at| at.get().saturating_sub(self.replica.host.now().get()).max(1));
            signal.wait(wait).await;
        }
        self.shut();
    }

    /// The live channel, while the page is visible and signed in. On a line that is dead it would not say so: when requests
    /// go unanswered it is closed, and opened anew when one is answered, which begins with a pull.
    fn live(self: &Rc<Self>) {
        let Some(live) = &self.live else { return };
        if !self.visible.get() || self.replica.is_closed() || self.replica.is_offline() {
            live.close();
            return;
        }
        let Some(token) = self.replica.live_token() else { return };
        let this = Rc::downgrade(self);
        let poked = move || {
            if let Some(driver) = this.upgrade() {
                driver.replica.trigger(Trigger::Poke);
            }
        };
        let signal = Rc::clone(&self.replica.host.signal);
        live.ensure(&token, poked, move || signal.raise());
    }

    pub(crate) fn set_visible(self: &Rc<Self>, visible: bool) {
        if self.visible.replace(visible) != visible {
            if visible {
                self.replica.trigger(Trigger::Foreground);
                let this = Rc::clone(self);
                spawn(async move {
                    // Notices sent while the page was frozen are lost; the rows are not. A failure shows in the status.
                    let _ = this.replica.refresh().await;
                });
            } else {
                self.live();
            }
        }
    }

    /// The page may end or stand still from now on: what it was sending goes once more, in a request that outlives it. It
    /// holds nobody up, and nothing else throws it out of the back/forward cache.
    pub(crate) fn leave(self: &Rc<Self>) {
        // Chromium says `pagehide` and then `freeze`: once is enough.
        if !self.replica.host.net.parts.replace(true) {
            let replica = Rc::clone(&self.replica);
            spawn(async move { replica.part().await });
        }
        self.set_visible(false);
        lock::release_all();
        if let Some(channel) = &*self.replica.host.channel.borrow() {
            channel.close();
        }
    }

    /// The page goes on, or somebody looks at it. What was not heard meanwhile is in the rows.
    pub(crate) fn come_back(&self) {
        self.replica.host.net.parts.set(false);
        if let Some(channel) = &*self.replica.host.channel.borrow() {
            channel.listen();
        }
        self.replica.trigger(Trigger::Foreground);
    }

    fn shut(&self) {
        if let Some(live) = &self.live {
            live.close();
        }
        if let Some(channel) = self.replica.host.channel.borrow_mut().take() {
            channel.close();
        }
        self.replica.host.rows.close();
    }

    pub(crate) async fn close(&self) {
        // Whoever opens it next has less to read. Writes that hang are not waited for: closing is what ends them.
        if !self.replica.is_writing() {
            let _ = self.replica.index_lanes().await;
        }
        self.replica.close();
        while self.replica.is_writing() {
            self.replica.host.pause(1).await;
        }
        self.shut();
        self.watches.borrow_mut().clear();
    }

    // ---- listeners ----

    pub(crate) fn watch(self: &Rc<Self>, query: Query, callback: Function) -> u32 {
        let id = self.next_watch.get();
        self.next_watch.set(id + 1);
        // Of a new one all is due.
        let mut due = Touched::default();
        due.whole.insert(query.collection.clone());
        self.watches.borrow_mut().insert(id, Watch { callback, live: Some(LiveQuery::new(query)), due });
        let this = Rc::clone(self);
        spawn(async move { this.update(id).await });
        id
    }

    pub(crate) fn unwatch(&self, id: u32) {
        self.watches.borrow_mut().remove(&id);
    }

    /// Brings one live query up to date and tells its listener.
    async fn update(&self, id: u32) {
        loop {
            let (mut live, due) = {
                let mut watches = self.watches.borrow_mut();
                let Some(watch) = watches.get_mut(&id) else { return };
                if watch.due.whole.is_empty() && watch.due.records.is_empty() {
                    return;
                }
                // Whoever has it looks again when it is done.
                let Some(live) = watch.live.take() else { return };
                (live, std::mem::take(&mut watch.due))
            };
            let result = self.replica.live_changed(&mut live, &due).await;
            let told = {
                let mut watches = self.watches.borrow_mut();
                let Some(watch) = watches.get_mut(&id) else { return };
                let told = result.is_ok().then(|| live.news()).flatten();
                if result.is_err() {
                    // Asked again with the next change; what is wrong shows in the status.
                    watch.due.whole.insert(live.query.collection.clone());
                }
                watch.live = Some(live);
                told.map(|text| (watch.callback.clone(), text))
            };
            if let Some((callback, text)) = told {
                convert::tell(&callback, &text);
            }
            if result.is_err() {
                return;
            }
        }
    }

    /// Live queries whose answer may have changed.
    async fn update_all(&self, touched: &Touched) {
        let mut ids = Vec::new();
        for (id, due) in self.affected(touched) {
            if let Some(watch) = self.watches.borrow_mut().get_mut(&id) {
                watch.due.merge(due);
                ids.push(id);
            }
        }
        for id in ids {
            self.update(id).await;
        }
    }

    /// Which part of a change each live query must know.
    fn affected(&self, touched: &Touched) -> Vec<(u32, Touched)> {
        let mut affected = Vec::new();
        for (id, watch) in self.watches.borrow().iter() {
            let due = Touched { whole: touched.whole.clone(), records: touched.records.clone(), ..Touched::default() };
            let concerns = watch.live.as_ref().is_none_or(|live| touched.collections.contains(&live.query.collection));
            if concerns {
                affected.push((*id, due));
            }
        }
        affected
    }

    /// Tells JavaScript what happened since the last time, until nothing is left to tell.
    async fn drain(&self) {
        loop {
            let (changes, touched) = self.replica.take_changes();
            if changes.is_empty() && touched.is_empty() {
                self.draining.set(false);
                return;
            }
            self.tell(changes, touched).await;
        }
    }

    async fn tell(&self, changes: Vec<Change>, touched: Touched) {
        let hooks = Rc::clone(&self.replica.host.hooks);
        let mut status = touched.outbox;
        for change in changes {
            match change {
                Change::Status => status = true,
                Change::Enqueued => hooks.event("{\"type\":\"enqueued\"}"),
                Change::Progress { phase, done, total } => {
                    let fields: [(&str, &dyn ToJson); 4] =
                        [("type", &"progress"), ("phase", &phase), ("done", &done), ("total", &total)];
                    let text = convert::object(&fields);
                    for listener in self.progress.borrow().iter() {
                        convert::tell(listener, &text);
                    }
                    hooks.event(&text);
                }
                Change::Step { step, result, ms, tally, code } => hooks.event(&convert::object(&[
                    ("type", &"step"),
                    ("step", &step),
                    ("result", &result),
                    ("ms", &ms),
                    ("applied", &tally.applied),
                    ("rejected", &tally.rejected),
                    ("conflicts", &tally.conflicts),
                    ("pulled", &tally.pulled),
                    ("code", &code),
                ])),
                Change::Event(event) => self.event(&event).await,
            }
        }
        if !touched.collections.is_empty() {
            self.update_all(&touched).await;
            hooks.event(&convert::object(&[("type", &"change"), ("collections", &touched.collections)]));
        }
        if status {
            hooks.event(&convert::object(&[("type", &"status"), ("status", &self.replica.status())]));
        }
    }

    async fn event(&self, event: &Event) {
        let hooks = &self.replica.host.hooks;
        match event {
            Event::Applied { entries } => hooks.event(&convert::object(&[("type", &"applied"), ("entries", entries)])),
            Event::Conflict { row } => {
                if let Some(conflict) = self.replica.conflict(row) {
                    hooks.event(&convert::object(&[("type", &"conflict"), ("conflict", &conflict)]));
                }
            }
            Event::Parked { row } => {
                for entry in self.replica.parked(row).await {
                    hooks.event(&convert::object(&[("type", &"rejected"), ("entry", &entry)]));
                }
            }
            Event::ClientFork => hooks.event("{\"type\":\"storage\",\"code\":\"client_fork\"}"),
            Event::Requeued { count } => {
                hooks.event(&convert::object(&[("type", &"storage"), ("code", &"requeued"), ("count", count)]));
            }
        }
    }

    // ---- the worker's last word ----

    /// Notes that only a person opening the app will help, or takes that note away.
    pub(crate) async fn foreground_row(&self, set: bool) {
        let key = Key::text(FOREGROUND);
        let mut txn = Txn::new("foreground", Durability::Relaxed);
        if set {
            txn.put(StoreName::Meta, key, landfall_storage::encode(RowKind::Status, &true));
        } else {
            txn.delete(StoreName::Meta, key);
        }
        // A note that is lost is a note that is late: the page syncs when it opens, with or without it.
        let _ = self.replica.host.rows.commit(txn).await;
    }
}

fn parse_options(text: &str) -> Result<Options, SyncError> {
    from_json(text).ok_or_else(|| SyncError::new("invalid_options", "open(): these options can't be read."))
}
