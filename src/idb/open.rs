//! Opening, deleting, and one open connection.
//!
//! rexie deletes; it does not open, because it hands out no raw database (and so no durability), would delete tables
//! it does not know, says nothing while it is blocked, and its builder is 15 KB of the compressed module.
//!
//! Only `open` creates. A connection that is lost is opened again without: a database that is not there any more is
//! an answer, not a reason to make an empty one.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use gloo_timers::callback::Timeout;
use js_sys::{Array, Object, Reflect};
use landfall_storage::{Durability, OpenError, StoreName};
use rexie::Rexie;
use wasm_bindgen::prelude::*;
use web_sys::{IdbDatabase, IdbFactory, IdbOpenDbRequest, IdbTransaction};

use super::fault::Failure;
use super::txn::Run;
use super::wait::Wait;
use crate::task::{Handler, handler, spawn};

/// The database's own version: which tables there are. Rows carry versions of their own.
pub const SCHEMA_VERSION: u32 = 1;

#[wasm_bindgen]
extern "C" {
    /// Only Chromium has it.
    #[wasm_bindgen(thread_local_v2, js_namespace = navigator, js_name = userAgentData)]
    static USER_AGENT_DATA: JsValue;

    /// web-sys has the durability option only behind an unstable flag.
    #[wasm_bindgen(js_name = IDBDatabase)]
    type DurableDatabase;
    #[wasm_bindgen(method, catch, js_name = transaction)]
    fn begin(this: &DurableDatabase, stores: &Array, mode: &str, options: &JsValue) -> Result<IdbTransaction, JsValue>;
}

/// Why a connection was not made.
#[derive(Clone)]
pub(super) enum ConnectError {
    Open(OpenError),
    /// There is no such database (any more).
    Missing,
}

/// Opens a connection within `timeout_ms`; with `create`, makes or upgrades the database first.
pub(super) async fn connect(name: &str, timeout_ms: u32, create: bool) -> Result<Rc<Connection>, ConnectError> {
    let wait = Wait::new();
    let late = wait.clone();
    let _timer = Timeout::new(timeout_ms, move || late.deliver(Err(ConnectError::Open(OpenError::Blocked))));
    // The attempt runs to its end whoever waits: a request future that is dropped before its event throws in the
    // page, and a connection that nobody takes any more closes when it is dropped.
    let (answer, name) = (wait.clone(), name.to_owned());
    spawn(async move {
        let result = attempt(&name, create).await;
        answer.deliver(result);
    });
    wait.await
}

async fn attempt(name: &str, create: bool) -> Result<Rc<Connection>, ConnectError> {
    match request(name, Some(SCHEMA_VERSION), create).await {
        Ok(Some(db)) => Ok(Connection::new(db)),
        Ok(None) => Err(ConnectError::Missing),
        Err(failure) if failure.name == "VersionError" => {
            // Without a version a database opens at the one it has.
            let found = match request(name, None, false).await {
                Ok(Some(db)) => {
                    let found = db.version() as u32;
                    db.close();
                    found
                }
                Ok(None) | Err(_) => SCHEMA_VERSION + 1,
            };
            Err(ConnectError::Open(OpenError::NewerSchema { found, known: SCHEMA_VERSION }))
        }
        Err(failure) => Err(ConnectError::Open(failure.open_error())),
    }
}

/// One open request to its end; `None` if there is no such database and `create` is not set.
async fn request(name: &str, version: Option<u32>, create: bool) -> Result<Option<IdbDatabase>, Failure> {
    let factory = Reflect::get(&js_sys::global(), &JsValue::from_str("indexedDB")).unwrap_or_default();
    if !factory.is_object() {
        return Err(Failure::new("SecurityError", "IndexedDB is not available here"));
    }
    let factory: &IdbFactory = factory.unchecked_ref();
    let request = match version {
        Some(version) => factory.open_with_u32(name, version),
        None => factory.open(name),
    };
    let request = request.map_err(|error| Failure::of(&error))?;
    let wait = Wait::new();
    let (answer, opened, mut missing) = (wait.clone(), request.clone(), false);
    let handler = handler(move |event| match event.type_().as_str() {
        "upgradeneeded" => {
            missing = !create;
            if !create || create_tables(&opened).is_err() {
                // Undoes the creation of the database too; `error` follows.
                let _ = opened.transaction().map(|transaction| transaction.abort());
            }
        }
        "success" => answer.deliver(opened.result().map(|db| Some(db.unchecked_into())).map_err(|e| Failure::of(&e))),
        _ if missing => answer.deliver(Ok(None)),
        _ => answer.deliver(Err(Failure::of(&opened.error().ok().flatten().into()))),
    });
    let function = Some(handler.as_ref().unchecked_ref());
    request.set_onupgradeneeded(function);
    request.set_onsuccess(function);
    request.set_onerror(function);
    wait.await
}

/// Makes the tables of version 1: all of them, since no other version was ever released.
fn create_tables(request: &IdbOpenDbRequest) -> Result<(), JsValue> {
    let db: IdbDatabase = request.result()?.unchecked_into();
    for store in StoreName::ALL {
        let options = Object::new();
        Reflect::set(&options, &JsValue::from_str("autoIncrement"), &(store == StoreName::Log).into())?;
        db.create_object_store_with_optional_parameters(store.as_str(), options.unchecked_ref())?;
    }
    Ok(())
}

/// Deletes a database, within `timeout_ms`. Other connections are asked to close; one that does not blocks.
pub(super) async fn delete(name: &str, timeout_ms: u32) -> Result<(), OpenError> {
    let wait = Wait::new();
    let late = wait.clone();
    let _timer = Timeout::new(timeout_ms, move || late.deliver(Err(OpenError::Blocked)));
    let (answer, name) = (wait.clone(), name.to_owned());
    spawn(async move {
        let result = Rexie::delete(&name).await.map_err(|error| {
            let failure = match error {
                rexie::Error::IdbError(idb::Error::DomException(error)) => Failure::of(&error),
                rexie::Error::IdbError(idb::Error::IndexedDbDeleteFailed(error)) => Failure::of(&error),
                _ => Failure::new("SecurityError", "IndexedDB is not available here"),
            };
            failure.open_error()
        });
        answer.deliver(result);
    });
    wait.await
}

thread_local! {
    /// Every connection of this instance, for the one moment when it must let go of all of them.
    static OPEN: RefCell<Vec<Weak<Connection>>> = const { RefCell::new(Vec::new()) };
}

/// Closes every connection of this instance, which is about to be replaced after a trap.
pub(crate) fn close_all() {
    // The trap may have come from inside a borrow; then the page's own end closes them.
    let open = OPEN.with(|open| open.try_borrow().map(|open| open.clone()).unwrap_or_default());
    for connection in open.iter().filter_map(Weak::upgrade) {
        connection.db.close();
    }
}

/// One open connection and the transactions running on it. Closes when the last holder lets go.
pub(super) struct Connection {
    db: IdbDatabase,
    /// Closed under us; a new connection may help.
    lost: Cell<bool>,
    /// Closed because another context asked for it; final.
    version_change: Cell<bool>,
    running: RefCell<Vec<Rc<Run>>>,
    /// The last read that was answered, which may take more requests, and how many it has carried.
    pub(super) answered: RefCell<Option<(IdbTransaction, u32)>>,
    strict: Object,
    relaxed: Object,
    /// `commit()` may be called while writes are under way.
    pub(super) commits_early: bool,
    handler: Handler,
}

impl Connection {
    fn new(db: IdbDatabase) -> Rc<Self> {
        let connection = Rc::new_cyclic(|this: &Weak<Self>| {
            let this = this.clone();
            let handler = handler(move |event| {
                if let Some(connection) = this.upgrade() {
                    connection.handle(&event.type_());
                }
            });
            Self {
                db,
                lost: Cell::new(false),
                version_change: Cell::new(false),
                running: RefCell::default(),
                answered: RefCell::default(),
                strict: durability("strict"),
                relaxed: durability("relaxed"),
                commits_early: commits_early(),
                handler,
            }
        });
        let handler = Some(connection.handler.as_ref().unchecked_ref());
        connection.db.set_onversionchange(handler);
        connection.db.set_onclose(handler);
        OPEN.with(|open| {
            let mut open = open.borrow_mut();
            open.retain(|other| other.strong_count() > 0);
            open.push(Rc::downgrade(&connection));
        });
        connection
    }

    fn handle(&self, event: &str) {
        if event == "versionchange" {
            // Running transactions still end by themselves; new ones are refused.
            self.version_change.set(true);
            self.db.close();
        } else {
            self.lose();
        }
    }

    /// Marks the connection as unusable and ends what still waits for it.
    pub(super) fn lose(&self) {
        self.lost.set(true);
        for run in self.running.take() {
            run.lost();
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.get()
    }

    pub(super) fn is_version_change(&self) -> bool {
        self.version_change.get()
    }

    /// Begins a transaction over `stores`; read-only without a durability. Its name goes among the options, which browsers
    /// pass over: whoever watches the page, as our tests do, tells transactions apart by it.
    pub(super) fn begin(
        &self,
        stores: &[bool; 4],
        write: Option<(Durability, &str)>,
    ) -> Result<IdbTransaction, JsValue> {
        let names = Array::new();
        for store in StoreName::ALL {
            if stores[store as usize] {
                names.push(&JsValue::from_str(store.as_str()));
            }
        }
        let db: &DurableDatabase = self.db.unchecked_ref();
        let Some((durability, name)) = write else { return db.begin(&names, "readonly", &JsValue::UNDEFINED) };
        let options = match durability {
            Durability::Strict => &self.strict,
            Durability::Relaxed => &self.relaxed,
        };
        Reflect::set(options, &JsValue::from_str("name"), &JsValue::from_str(name))?;
        db.begin(&names, "readwrite", options)
    }

    pub(super) fn started(&self, run: &Rc<Run>) {
        self.running.borrow_mut().push(Rc::clone(run));
    }

    pub(super) fn ended(&self, run: &Run) {
        self.running.borrow_mut().retain(|other| !std::ptr::eq(Rc::as_ptr(other), run));
    }
}

/// True in Chromium, which is known to abort when a write fails after `commit()`. Firefox (153) then leaves out that write
/// and commits the others, which tears a transaction on a full device; there it ends by itself when all have succeeded.
fn commits_early() -> bool {
    USER_AGENT_DATA.with(JsValue::is_object)
}

fn durability(durability: &str) -> Object {
    let options = Object::new();
    // Setting a property of a fresh object cannot fail.
    let _ = Reflect::set(&options, &JsValue::from_str("durability"), &JsValue::from_str(durability));
    options
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.db.set_onversionchange(None);
        self.db.set_onclose(None);
        self.db.close();
    }
}
