//! Runs one replica in this context: its loop, its listeners, and what it tells JavaScript.

use crate::channel::Channel;
use crate::convert;
use crate::host::{BrowserHost, Hooks};
use crate::idb::{IdbRowStore, OPEN_TIMEOUT_MS};
use crate::live::Live;
use crate::lock::Locks;
use crate::net::Net;
use crate::options::Options;
use crate::timer::Signal;
use js_sys::Function;
use landfall_core::schedule::Trigger;
use landfall_core::settle::Event;
use landfall_protocol::codec::{ToJson, from_json};
use landfall_protocol::{CollectionName, Map, Set};
use landfall_replica::{Change, Host, Query, Replica, SyncError};
use landfall_storage::{Durability, Key, RowKind, RowStore, StoreName, Txn};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;

const OPTIONS: &str = "options";
const FOREGROUND: &str = "foreground";

struct Watch {
    query: Query,
    callback: Function,
    last: String,
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

/// The options row of a database; `None` when no page has opened it yet.
pub(crate) async fn stored_options(database: &str) -> Result<Option<String>, SyncError> {
    let Some(rows) = IdbRowStore::open_existing(database, OPEN_TIMEOUT_MS).await? else { return Ok(None) };
    let row = rows.get(StoreName::Meta, &Key::text(OPTIONS)).await?;
    rows.close();
    Ok(row.and_then(|row| landfall_storage::row::open(RowKind::Schema, &row).ok().map(|row| row.body.to_owned())))
}

impl Driver {
    pub(crate) async fn open(
        options: &Options,
        text: &str,
        hooks: Rc<Hooks>,
        worker: bool,
    ) -> Result<Rc<Self>, SyncError> {
        let database = options.database();
        let rows = IdbRowStore::open(&database, OPEN_TIMEOUT_MS).await?;
        if !worker {
            store_options(&rows, text).await?;
        }
        let settings = options.settings(worker);
        let host = BrowserHost {
            rows,
            net: Net::new(options.url.clone(), settings.cookie_auth),
            hooks,
            locks: Locks::default(),
            channel: RefCell::new(None),
            signal: Rc::new(Signal::default()),
            on_changed: RefCell::new(None),
        };
        let replica = Replica::open(host, options.config(), settings).await?;
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
        driver.listen(&database);
        if !worker {
            driver.foreground_row(None).await;
            let running = Rc::clone(&driver);
            spawn_local(async move { running.run().await });
        }
        Ok(driver)
    }

    fn listen(self: &Rc<Self>, database: &str) {
        let this = Rc::downgrade(self);
        *self.replica.host.on_changed.borrow_mut() = Some(Rc::new(move || {
            if let Some(driver) = this.upgrade()
                && !driver.draining.replace(true)
            {
                spawn_local(async move { driver.drain() });
            }
        }));
        let this = Rc::downgrade(self);
        let channel = Channel::open(database, move |notice| {
            if let Some(driver) = this.upgrade() {
                spawn_local(async move { driver.replica.noticed(&notice).await });
            }
        });
        *self.replica.host.channel.borrow_mut() = Some(channel);
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

    /// The live channel, while the page is visible and signed in.
    fn live(self: &Rc<Self>) {
        let Some(live) = &self.live else { return };
        if !self.visible.get() || self.replica.is_closed() {
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
                spawn_local(async move {
                    // Notices sent while the page was frozen are lost; the rows are not. A failure shows in the status.
                    let _ = this.replica.refresh().await;
                });
            } else {
                self.live();
            }
        }
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
        self.watches.borrow_mut().insert(id, Watch { query, callback, last: String::new() });
        let this = Rc::clone(self);
        spawn_local(async move { this.answer(|watch, _| watch == id) });
        id
    }

    pub(crate) fn unwatch(&self, id: u32) {
        self.watches.borrow_mut().remove(&id);
    }

    /// Runs the queries that `due` picks, and tells those whose answer is another one than before.
    fn answer(&self, due: impl Fn(u32, &Query) -> bool) {
        let ids: Vec<u32> =
            self.watches.borrow().iter().filter(|(id, watch)| due(**id, &watch.query)).map(|(id, _)| *id).collect();
        for id in ids {
            let told = {
                let mut watches = self.watches.borrow_mut();
                let Some(watch) = watches.get_mut(&id) else { continue };
                let Ok(rows) = self.replica.query(&watch.query) else { continue };
                let text = rows.to_json();
                if text == watch.last {
                    continue;
                }
                watch.last.clone_from(&text);
                (watch.callback.clone(), text)
            };
            // A listener that throws has reported itself to its own page.
            let _ = told.0.call1(&JsValue::UNDEFINED, &JsValue::from_str(&told.1));
        }
    }

    /// Tells JavaScript what happened since the last time.
    fn drain(&self) {
        self.draining.set(false);
        let (changes, touched) = self.replica.take_changes();
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
                        let _ = listener.call1(&JsValue::UNDEFINED, &JsValue::from_str(&text));
                    }
                    hooks.event(&text);
                }
                Change::Event(event) => self.event(&event),
            }
        }
        if !touched.collections.is_empty() {
            let collections: Set<CollectionName> = touched.collections;
            self.answer(|_, query| collections.contains(&query.collection));
            hooks.event(&convert::object(&[("type", &"change"), ("collections", &collections)]));
        } else if touched.outbox {
            self.answer(|_, _| true);
        }
        if status {
            hooks.event(&convert::object(&[("type", &"status"), ("status", &self.replica.status())]));
        }
    }

    fn event(&self, event: &Event) {
        let hooks = &self.replica.host.hooks;
        match event {
            Event::Applied { entries } => hooks.event(&convert::object(&[("type", &"applied"), ("entries", entries)])),
            Event::Conflict { row } => {
                if let Some(conflict) = self.replica.conflict(row) {
                    hooks.event(&convert::object(&[("type", &"conflict"), ("conflict", &conflict)]));
                }
            }
            Event::Parked { row } => {
                for entry in self.replica.parked(row) {
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

    /// Notes that only a person opening the app will help (`Some(true)`), or reads that note and takes it away.
    pub(crate) async fn foreground_row(&self, set: Option<bool>) {
        let rows = &self.replica.host.rows;
        let key = Key::text(FOREGROUND);
        let mut txn = Txn::new("foreground", Durability::Relaxed);
        match set {
            Some(true) => txn.put(StoreName::Meta, key, landfall_storage::encode(RowKind::Status, &true)),
            Some(false) => txn.delete(StoreName::Meta, key),
            None => match rows.get(StoreName::Meta, &key).await {
                Ok(Some(_)) => {
                    self.replica.set_needs_foreground(true);
                    txn.delete(StoreName::Meta, key);
                }
                Ok(None) | Err(_) => return,
            },
        }
        // A note that is lost is a note that is late: the page syncs when it opens, with or without it.
        let _ = rows.commit(txn).await;
    }
}

async fn store_options(rows: &IdbRowStore, text: &str) -> Result<(), SyncError> {
    let key = Key::text(OPTIONS);
    let row = landfall_storage::row::encode_text(RowKind::Schema, text);
    if rows.get(StoreName::Meta, &key).await?.as_deref() == Some(&row) {
        return Ok(());
    }
    let mut txn = Txn::new("options", Durability::Relaxed);
    txn.put(StoreName::Meta, key, row);
    rows.commit(txn).await?;
    Ok(())
}

pub(crate) fn parse_options(text: &str) -> Result<Options, SyncError> {
    from_json(text).ok_or_else(|| SyncError::new("invalid_options", "open(): these options can't be read."))
}
