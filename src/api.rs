//! Every export: convert → driver → convert. JSON text in and out; what JavaScript sees is js/wasm-module.d.ts.

use crate::driver::{Driver, stored};
use crate::host::{BrowserHost, Hooks};
use crate::idb::{self, IdbRowStore, OPEN_TIMEOUT_MS};
use crate::{convert, error, lock};
use js_sys::{Function, Promise};
use landfall_core::fixup::Choice;
use landfall_core::schedule::Trigger;
use landfall_protocol::codec::{FromJson, Reader, from_json, to_json};
use landfall_protocol::{EntryId, Listed, Object, UnixMillis};
use landfall_replica::{Host, Notice, Query, SyncError, Token, WriteOp};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;

/// Lets go of connections and locks. Called by the glue's guard (xtask/traps.mjs), once, after this instance has trapped
/// and before the facade replaces it: then nobody else would.
#[wasm_bindgen]
pub fn let_go() {
    idb::close_all();
    lock::release_all();
}

/// In a build for developers a panic says why. The shipped module is built without any code for panics: it traps.
#[cfg(debug_assertions)]
mod panics {
    use wasm_bindgen::prelude::*;

    #[wasm_bindgen]
    extern "C" {
        #[wasm_bindgen(js_namespace = console)]
        fn error(text: &str);
    }

    #[wasm_bindgen(start)]
    pub fn start() {
        std::panic::set_hook(Box::new(|info| error(&info.to_string())));
    }
}

fn parse_query(text: &str) -> Result<Query, SyncError> {
    Ok(Query::parse(text)?)
}

fn no_write() -> SyncError {
    SyncError::new("invalid_record", "This is no write: {op, collection, scope, id, fields}.")
}

/// A list of writes in one pass over its text; what is none is refused alone.
fn parse_ops(text: &str) -> Result<Vec<Result<WriteOp, SyncError>>, SyncError> {
    let mut ops = Vec::new();
    let mut reader = Reader::new(text);
    let read = reader.list(&mut |from| {
        from.peek();
        let start = from.offset();
        // By a reader of its own: one that stopped halfway does not know where it is.
        let mut own = Reader::new(&text[start..]);
        let mut op = WriteOp::blank();
        if op.fill(&mut own) {
            ops.push(Ok(op));
            return from.jump(start + own.offset());
        }
        ops.push(Err(no_write()));
        from.skip()
    });
    if read && reader.is_done() { Ok(ops) } else { Err(no_write()) }
}

type Engine = landfall_replica::Replica<BrowserHost>;
type Answer = Result<JsValue, SyncError>;

/// All exports that take their time go through here: one promise machine instead of one for each.
fn promise(work: impl Future<Output = Answer> + 'static) -> Promise {
    start_work(Box::pin(work))
}

fn start_work(work: Work) -> Promise {
    future_to_promise(async move { work.await.map_err(error::thrown) })
}

type Work = Pin<Box<dyn Future<Output = Answer>>>;

/// The answer itself where nothing has to be waited for, else a promise. What is asked of the disk is on its way when this
/// returns.
fn at_once(mut work: Work) -> Result<JsValue, JsValue> {
    // Nobody is woken by this look: the promise looks again.
    match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer.map_err(error::thrown),
        Poll::Pending => Ok(start_work(work).into()),
    }
}

/// One open database in this context.
#[wasm_bindgen]
pub struct Replica {
    driver: Rc<Driver>,
}

#[wasm_bindgen]
impl Replica {
    pub fn open(options_json: String, hooks: JsValue) -> Promise {
        promise(open(options_json, Hooks::new(&hooks), None))
    }

    /// With the options that a page stored, for a worker. `undefined`: no page has opened this database yet.
    pub fn open_stored(database: String, hooks: JsValue) -> Promise {
        promise(async move {
            let hooks = Hooks::new(&hooks);
            match stored(&database, &hooks).await? {
                Some((rows, text)) => open(text, hooks, Some(rows)).await,
                None => Ok(JsValue::UNDEFINED),
            }
        })
    }

    pub fn write(&self, ops_json: String, atomic: bool) -> Promise {
        let replica = Rc::clone(&self.driver.replica);
        promise(async move {
            let ops = parse_ops(&ops_json)?;
            drop(ops_json);
            if atomic {
                let ops = ops.into_iter().listed_ok()?;
                let written = replica.write(ops, true).await?;
                return Ok(convert::object(&[("writes", &written)]).into());
            }
            let written = replica.write_each(ops).await;
            Ok(convert::object(&[("writes", &written)]).into())
        })
    }

    pub fn get(&self, collection: String, scope: Option<String>, id: String) -> Result<JsValue, JsValue> {
        let replica = Rc::clone(&self.driver.replica);
        at_once(Box::pin(async move { Ok(replica.get(&collection, scope.as_deref(), &id).await?.into()) }))
    }

    pub fn query(&self, query_json: String) -> Result<JsValue, JsValue> {
        let replica = Rc::clone(&self.driver.replica);
        at_once(Box::pin(async move { Ok(JsValue::from_str(&replica.query_text(&query_json).await?)) }))
    }

    pub fn count(&self, query_json: String) -> Promise {
        let replica = Rc::clone(&self.driver.replica);
        promise(async move { Ok((replica.count(&parse_query(&query_json)?).await? as f64).into()) })
    }

    pub fn explain(&self, query_json: String) -> Promise {
        let replica = Rc::clone(&self.driver.replica);
        promise(async move { Ok(replica.explain(&parse_query(&query_json)?)?.into()) })
    }

    pub fn watch(&self, query_json: &str, callback: Function) -> Result<u32, JsValue> {
        let query = parse_query(query_json).map_err(error::thrown)?;
        self.driver.replica.check_query(&query).map_err(error::thrown)?;
        Ok(self.driver.watch(query, callback))
    }
    pub fn unwatch(&self, watch: u32) {
        self.driver.unwatch(watch);
    }

    pub fn status(&self) -> String {
        to_json(&self.driver.replica.status())
    }

    pub fn sync_now(&self, progress: Option<Function>) -> Promise {
        let driver = Rc::clone(&self.driver);
        promise(async move {
            if let Some(progress) = &progress {
                driver.progress.borrow_mut().push(progress.clone());
            }
            let report = driver.replica.sync_now().await;
            if let Some(progress) = progress {
                driver.progress.borrow_mut().retain(|other| *other != progress);
            }
            Ok(to_json(&report).into())
        })
    }

    /// The service worker's flush.
    pub fn flush(&self, budget_ms: f64, last_chance: bool) -> Promise {
        let driver = Rc::clone(&self.driver);
        promise(async move {
            let report = driver.replica.flush(budget_ms.max(0.0) as u64).await;
            if last_chance && report.sendable > 0 {
                driver.foreground_row(true).await;
            }
            Ok(to_json(&report).into())
        })
    }

    pub fn outbox(&self) -> Promise {
        let replica = Rc::clone(&self.driver.replica);
        promise(async move { Ok(to_json(&replica.outbox().await?).into()) })
    }
    /// The server's outcome of an entry, as JSON, once there is one.
    pub fn outcome(&self, entry: f64) -> Option<String> {
        self.driver.replica.outcome(EntryId(entry as u64))
    }
    pub fn outbox_retry(&self, entry: f64) -> Promise {
        let replica = Rc::clone(&self.driver.replica);
        promise(async move { retry(replica, entry, None).await })
    }
    pub fn outbox_edit(&self, entry: f64, fields_json: String) -> Promise {
        let replica = Rc::clone(&self.driver.replica);
        promise(async move {
            let fields = from_json(&fields_json);
            let fields = fields.ok_or_else(|| SyncError::new("invalid_record", "A record is a JSON object."))?;
            retry(replica, entry, Some(fields)).await
        })
    }
    pub fn outbox_discard(&self, entry: f64) -> Promise {
        let replica = Rc::clone(&self.driver.replica);
        promise(async move {
            let discarded = replica.discard(EntryId(entry as u64)).await?;
            Ok(convert::object(&[("discarded", &discarded)]).into())
        })
    }
    pub fn conflicts(&self) -> Promise {
        let replica = Rc::clone(&self.driver.replica);
        promise(async move { Ok(to_json(&replica.conflicts()).into()) })
    }

    /// `how`: `local`, `server`, or the fields that are to stand as JSON.
    pub fn conflict_resolve(&self, entry: f64, how: String) -> Promise {
        let replica = Rc::clone(&self.driver.replica);
        promise(async move {
            let fields: Option<Object> = from_json(&how);
            let choice = match &fields {
                Some(fields) => Choice::Merged(fields),
                None if how == "local" => Choice::Local,
                None if how == "server" => Choice::Server,
                None => {
                    return Err(SyncError::new("invalid_options", "A conflict ends as local, server or merged."));
                }
            };
            replica.resolve(EntryId(entry as u64), choice).await?;
            Ok(JsValue::UNDEFINED)
        })
    }

    pub fn set_token(&self, token: Option<String>, expires_at_ms: Option<f64>) -> Promise {
        let replica = Rc::clone(&self.driver.replica);
        promise(async move {
            let expires_at = expires_at_ms.map(|ms| UnixMillis(ms.max(0.0) as u64));
            replica.set_token(token.map(|token| Token { token, expires_at })).await?;
            Ok(JsValue::UNDEFINED)
        })
    }

    pub fn set_online(&self, online: bool) {
        self.driver.replica.trigger(if online { Trigger::Online } else { Trigger::Offline });
    }
    pub fn set_visible(&self, visible: bool) {
        self.driver.set_visible(visible);
    }
    /// The page came back from somewhere (`focus`, `pageshow`, `resume`), or is about to leave (`pagehide`, `freeze`):
    /// then it sends a stored batch once more, at most.
    pub fn wake(&self, reason: &str) {
        match reason {
            "pagehide" | "freeze" => self.driver.leave(),
            _ => self.driver.come_back(),
        }
    }

    /// `keep`: forgets the token. `wipe`: deletes the database of this user on this device.
    pub fn logout(&self, mode: String) -> Promise {
        let driver = Rc::clone(&self.driver);
        promise(async move {
            if mode == "wipe" {
                driver.replica.host.notice(&Notice::Wiped);
                driver.close().await;
                IdbRowStore::delete(&driver.replica.settings.database, OPEN_TIMEOUT_MS).await?;
            } else {
                driver.replica.set_token(None).await?;
                driver.close().await;
            }
            Ok(JsValue::UNDEFINED)
        })
    }

    pub fn inspect(&self) -> Promise {
        let replica = Rc::clone(&self.driver.replica);
        promise(async move {
            replica.read_log().await?;
            Ok(to_json(&replica.inspect()).into())
        })
    }

    pub fn close(&self) -> Promise {
        let driver = Rc::clone(&self.driver);
        promise(async move {
            driver.close().await;
            Ok(JsValue::UNDEFINED)
        })
    }
}

async fn open(text: String, hooks: Hooks, opened: Option<IdbRowStore>) -> Answer {
    let driver = Driver::open(&text, Rc::new(hooks), opened).await?;
    Ok(Replica { driver }.into())
}

async fn retry(replica: Rc<Engine>, entry: f64, edits: Option<Object>) -> Answer {
    replica.retry(EntryId(entry as u64), edits).await?;
    Ok(JsValue::UNDEFINED)
}
