//! Every export: convert → driver → convert. JSON text in and out; what JavaScript sees is js/wasm-module.d.ts.

use crate::driver::{Driver, parse_options, stored_options};
use crate::host::Hooks;
use crate::idb::{self, IdbRowStore, OPEN_TIMEOUT_MS};
use crate::{convert, error, lock};
use js_sys::Function;
use landfall_core::schedule::Trigger;
use landfall_protocol::codec::{from_json, to_json};
use landfall_protocol::{EntryId, Fields, Json, UnixMillis};
use landfall_replica::{Host, Notice, Query, SyncError, Token, WriteOp};
use std::cell::RefCell;
use std::rc::Rc;
use wasm_bindgen::prelude::*;

thread_local! {
    /// Who hears of a panic. The instance is dead after it; the facade opens a fresh one.
    static LISTENERS: RefCell<Vec<std::rc::Weak<Hooks>>> = const { RefCell::new(Vec::new()) };
}

#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|info| {
        let text = convert::object(&[("type", &"panic"), ("message", &info.to_string())]);
        // Before the listeners: they replace this instance, and then nobody would let go of what it holds.
        idb::close_all();
        lock::release_all();
        let listeners = LISTENERS.with(|listeners| listeners.try_borrow().map(|all| all.clone()).unwrap_or_default());
        for hooks in listeners.iter().filter_map(std::rc::Weak::upgrade) {
            hooks.event(&text);
        }
    }));
}

fn listener(hooks: &JsValue) -> Rc<Hooks> {
    let hooks = Rc::new(Hooks::new(hooks));
    LISTENERS.with(|listeners| {
        let mut listeners = listeners.borrow_mut();
        listeners.retain(|hooks| hooks.strong_count() > 0);
        listeners.push(Rc::downgrade(&hooks));
    });
    hooks
}

fn no_write() -> SyncError {
    SyncError::new("invalid_record", "This is no write: {op, collection, scope, id, fields}.")
}

/// One open database in this context.
#[wasm_bindgen]
pub struct Replica {
    driver: Rc<Driver>,
}

#[wasm_bindgen]
impl Replica {
    pub async fn open(options_json: String, hooks: JsValue) -> Result<Replica, JsValue> {
        let options = parse_options(&options_json)?;
        let driver = Driver::open(&options, &options_json, listener(&hooks), false).await.map_err(error::thrown)?;
        Ok(Self { driver })
    }

    /// With the options that a page stored, for a worker. `undefined`: no page has opened this database yet.
    pub async fn open_stored(database: String, hooks: JsValue) -> Result<Option<Replica>, JsValue> {
        let Some(text) = stored_options(&database).await.map_err(error::thrown)? else { return Ok(None) };
        let options = parse_options(&text)?;
        let driver = Driver::open(&options, &text, listener(&hooks), true).await.map_err(error::thrown)?;
        Ok(Some(Self { driver }))
    }

    pub async fn write(&self, ops_json: String, atomic: bool) -> Result<String, JsValue> {
        let replica = Rc::clone(&self.driver.replica);
        let texts: Vec<Json> = from_json(&ops_json).ok_or_else(|| error::thrown(no_write()))?;
        let ops = texts.iter().map(|text| from_json::<WriteOp>(text.text()).ok_or_else(no_write));
        if atomic {
            let ops: Vec<WriteOp> = ops.collect::<Result<_, _>>().map_err(error::thrown)?;
            let written = replica.write(ops, true).await.map_err(error::thrown)?;
            return Ok(convert::object(&[("writes", &written)]));
        }
        Ok(convert::object(&[("writes", &replica.write_each(ops.collect()).await)]))
    }

    pub async fn get(&self, collection: String, scope: Option<String>, id: String) -> Result<Option<String>, JsValue> {
        self.driver.replica.get(&collection, scope.as_deref(), &id).map_err(error::thrown)
    }

    pub async fn query(&self, query_json: String) -> Result<String, JsValue> {
        let query = Query::parse(&query_json).map_err(error::thrown)?;
        Ok(self.driver.replica.query(&query).map_err(error::thrown)?.to_json())
    }

    pub fn watch(&self, query_json: &str, callback: Function) -> Result<u32, JsValue> {
        let query = Query::parse(query_json).map_err(error::thrown)?;
        self.driver.replica.query(&query).map_err(error::thrown)?;
        Ok(self.driver.watch(query, callback))
    }
    pub fn unwatch(&self, watch: u32) {
        self.driver.unwatch(watch);
    }

    pub fn status(&self) -> JsValue {
        convert::plain(&self.driver.replica.status())
    }

    pub async fn sync_now(&self, progress: Option<Function>) -> Result<String, JsValue> {
        let driver = Rc::clone(&self.driver);
        if let Some(progress) = &progress {
            driver.progress.borrow_mut().push(progress.clone());
        }
        let report = driver.replica.sync_now().await;
        if let Some(progress) = progress {
            driver.progress.borrow_mut().retain(|other| *other != progress);
        }
        Ok(to_json(&report))
    }

    /// The service worker's flush.
    pub async fn flush(&self, budget_ms: f64, last_chance: bool) -> Result<String, JsValue> {
        let driver = Rc::clone(&self.driver);
        let report = driver.replica.flush(budget_ms.max(0.0) as u64).await;
        if last_chance && report.sendable > 0 {
            driver.foreground_row(Some(true)).await;
        }
        Ok(to_json(&report))
    }

    pub async fn outbox(&self) -> String {
        to_json(&self.driver.replica.outbox())
    }
    pub async fn outbox_retry(&self, entry: f64) -> Result<(), JsValue> {
        let replica = Rc::clone(&self.driver.replica);
        replica.retry(EntryId(entry as u64), None).await.map_err(error::thrown)
    }
    pub async fn outbox_edit(&self, entry: f64, fields_json: String) -> Result<(), JsValue> {
        let replica = Rc::clone(&self.driver.replica);
        let fields: Fields = from_json(&fields_json)
            .ok_or_else(|| error::thrown(SyncError::new("invalid_record", "A record is a JSON object.")))?;
        replica.retry(EntryId(entry as u64), Some(fields)).await.map_err(error::thrown)
    }
    pub async fn outbox_discard(&self, entry: f64) -> Result<String, JsValue> {
        let replica = Rc::clone(&self.driver.replica);
        let discarded = replica.discard(EntryId(entry as u64)).await.map_err(error::thrown)?;
        Ok(convert::object(&[("discarded", &discarded)]))
    }
    pub async fn conflicts(&self) -> String {
        to_json(&self.driver.replica.conflicts())
    }

    pub async fn set_token(&self, token: Option<String>, expires_at_ms: Option<f64>) -> Result<(), JsValue> {
        let replica = Rc::clone(&self.driver.replica);
        let token =
            token.map(|token| Token { token, expires_at: expires_at_ms.map(|ms| UnixMillis(ms.max(0.0) as u64)) });
        replica.set_token(token).await.map_err(error::thrown)
    }

    pub fn set_online(&self, online: bool) {
        self.driver.replica.trigger(if online { Trigger::Online } else { Trigger::Offline });
    }
    pub fn set_visible(&self, visible: bool) {
        self.driver.set_visible(visible);
    }
    /// The page came back from somewhere (`focus`, `pageshow`, `resume`), or is about to leave (`pagehide`, `freeze`):
    /// then nothing new is begun.
    pub fn wake(&self, reason: &str) {
        match reason {
            "pagehide" | "freeze" => self.driver.set_visible(false),
            _ => self.driver.replica.trigger(Trigger::Foreground),
        }
    }

    /// `keep`: forgets the token. `wipe`: deletes the database of this user on this device.
    pub async fn logout(&self, mode: String) -> Result<(), JsValue> {
        let driver = Rc::clone(&self.driver);
        if mode == "wipe" {
            driver.replica.host.notice(&Notice::Wiped);
            driver.close().await;
            let name = driver.replica.settings.database.clone();
            return IdbRowStore::delete(&name, OPEN_TIMEOUT_MS).await.map_err(|error| error::thrown(error.into()));
        }
        driver.replica.set_token(None).await.map_err(error::thrown)?;
        driver.close().await;
        Ok(())
    }

    pub async fn inspect(&self) -> String {
        to_json(&self.driver.replica.inspect())
    }

    pub async fn close(&self) {
        let driver = Rc::clone(&self.driver);
        driver.close().await;
    }
}
