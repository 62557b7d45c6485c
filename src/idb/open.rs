//! Opening, deleting, and one open connection.
//!
//! rexie declares the tables and brings a database to [`SCHEMA_VERSION`]. It hands out no raw database, so a second
//! connection, opened while rexie's is still there, carries the transactions; rexie's is closed then. The second one
//! never creates anything: a database that is not there any more is an answer, not a reason to make an empty one.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use idb::{Event as _, Request as _};
use js_sys::{Array, Object, Reflect};
use landfall_storage::{Durability, OpenError, StorageFault, StoreName};
use rexie::{ObjectStore, Rexie};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::{Event, IdbDatabase, IdbTransaction};

use super::fault::Failure;
use super::txn::Run;
use super::wait::Wait;

/// The database's own version: which tables there are. Rows carry versions of their own.
pub const SCHEMA_VERSION: u32 = 1;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = setTimeout)]
    fn set_timeout(callback: &JsValue, delay_ms: u32) -> JsValue;
    #[wasm_bindgen(js_name = clearTimeout)]
    fn clear_timeout(timer: &JsValue);

    /// web-sys has the durability option only behind an unstable flag.
    #[wasm_bindgen(js_name = IDBDatabase)]
    type DurableDatabase;
    #[wasm_bindgen(method, catch, js_name = transaction)]
    fn begin(this: &DurableDatabase, stores: &Array, mode: &str, options: &Object) -> Result<IdbTransaction, JsValue>;
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
    let _timer = Timer::start(timeout_ms, move || late.deliver(Err(ConnectError::Open(OpenError::Blocked))));
    // The attempt runs to its end whoever waits: a request future that is dropped before its event throws in the
    // page, and a connection that nobody takes any more closes when it is dropped.
    let (answer, name) = (wait.clone(), name.to_owned());
    spawn_local(async move {
        let result = attempt(&name, create).await;
        answer.deliver(result);
    });
    wait.await
}

async fn attempt(name: &str, create: bool) -> Result<Rc<Connection>, ConnectError> {
    if !create {
        return open_existing(name).await;
    }
    let schema = StoreName::ALL.into_iter().fold(Rexie::builder(name).version(SCHEMA_VERSION), |builder, store| {
        builder.add_object_store(ObjectStore::new(store.as_str()).auto_increment(store == StoreName::Log))
    });
    match schema.build().await {
        Ok(schema) => {
            let connection = open_existing(name).await;
            schema.close();
            connection
        }
        Err(rexie::Error::IdbError(error)) => Err(connect_error(name, error).await),
        Err(_) => Err(connect_error(name, idb::Error::DomExceptionNotFound).await),
    }
}

async fn open_existing(name: &str) -> Result<Rc<Connection>, ConnectError> {
    match open_raw(name, Some(SCHEMA_VERSION)).await {
        Ok(Some(db)) => Ok(Connection::new(db)),
        Ok(None) => Err(ConnectError::Missing),
        Err(error) => Err(connect_error(name, error).await),
    }
}

/// Opens a database that exists; `None` if it does not.
async fn open_raw(name: &str, version: Option<u32>) -> Result<Option<IdbDatabase>, idb::Error> {
    let mut request = idb::Factory::new()?.open(name, version)?;
    let missing = Rc::new(Cell::new(false));
    let seen = Rc::clone(&missing);
    request.on_upgrade_needed(move |event| {
        seen.set(true);
        // Aborting the upgrade undoes the creation.
        if let Some(transaction) = event.target().ok().and_then(|request| request.transaction()) {
            let _ = transaction.abort();
        }
    });
    match request.await {
        Ok(db) => Ok(Some(db.into())),
        Err(_) if missing.get() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn connect_error(name: &str, error: idb::Error) -> ConnectError {
    let failure = match &error {
        idb::Error::IndexedDbNotFound(_) => {
            let message = "IndexedDB is not available here".to_owned();
            return ConnectError::Open(OpenError::Unavailable { message });
        }
        idb::Error::DomException(error) => Failure::of(error),
        idb::Error::IndexedDbOpenFailed(error) | idb::Error::IndexedDbDeleteFailed(error) => Failure::of(error),
        _ => Failure::new("Error", "the database could not be opened"),
    };
    if failure.name != "VersionError" {
        return ConnectError::Open(failure.open_error());
    }
    // Without a version a database opens at the one it has.
    let found = match open_raw(name, None).await {
        Ok(Some(db)) => {
            let found = db.version() as u32;
            db.close();
            found
        }
        _ => SCHEMA_VERSION + 1,
    };
    ConnectError::Open(OpenError::NewerSchema { found, known: SCHEMA_VERSION })
}

/// Deletes a database, within `timeout_ms`. Other connections are asked to close; one that does not blocks.
pub(super) async fn delete(name: &str, timeout_ms: u32) -> Result<(), OpenError> {
    let wait = Wait::new();
    let late = wait.clone();
    let _timer = Timer::start(timeout_ms, move || late.deliver(Err(OpenError::Blocked)));
    let (answer, name) = (wait.clone(), name.to_owned());
    spawn_local(async move {
        let result = match Rexie::delete(&name).await {
            Ok(()) => Ok(()),
            Err(rexie::Error::IdbError(error)) => match connect_error(&name, error).await {
                ConnectError::Open(error) => Err(error),
                ConnectError::Missing => Ok(()),
            },
            Err(_) => {
                let message = "the database could not be deleted".to_owned();
                Err(OpenError::Failed { fault: StorageFault::Other, message })
            }
        };
        answer.deliver(result);
    });
    wait.await
}

/// Runs a callback once, later, unless it is dropped first.
struct Timer {
    timer: JsValue,
    _callback: Closure<dyn FnMut()>,
}

impl Timer {
    fn start(delay_ms: u32, callback: impl FnOnce() + 'static) -> Self {
        let callback = Closure::once(callback);
        Self { timer: set_timeout(callback.as_ref(), delay_ms), _callback: callback }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        clear_timeout(&self.timer);
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
    handler: Closure<dyn FnMut(Event)>,
}

impl Connection {
    fn new(db: IdbDatabase) -> Rc<Self> {
        let connection = Rc::new_cyclic(|this: &Weak<Self>| {
            let this = this.clone();
            let handler = Closure::new(move |event: Event| {
                if let Some(connection) = this.upgrade() {
                    connection.handle(&event.type_());
                }
            });
            Self { db, lost: Cell::new(false), version_change: Cell::new(false), running: RefCell::default(), handler }
        });
        let handler = Some(connection.handler.as_ref().unchecked_ref());
        connection.db.set_onversionchange(handler);
        connection.db.set_onclose(handler);
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

    /// Begins a transaction over `stores`; read-only without a durability.
    pub(super) fn begin(&self, stores: &[bool; 4], durability: Option<Durability>) -> Result<IdbTransaction, JsValue> {
        let names = Array::new();
        for store in StoreName::ALL {
            if stores[store as usize] {
                names.push(&JsValue::from_str(store.as_str()));
            }
        }
        let (mode, durability) = match durability {
            None => ("readonly", "default"),
            Some(Durability::Strict) => ("readwrite", "strict"),
            Some(Durability::Relaxed) => ("readwrite", "relaxed"),
        };
        let options = Object::new();
        Reflect::set(&options, &JsValue::from_str("durability"), &JsValue::from_str(durability))?;
        self.db.unchecked_ref::<DurableDatabase>().begin(&names, mode, &options)
    }

    pub(super) fn started(&self, run: &Rc<Run>) {
        self.running.borrow_mut().push(Rc::clone(run));
    }

    pub(super) fn ended(&self, run: &Run) {
        self.running.borrow_mut().retain(|other| !std::ptr::eq(Rc::as_ptr(other), run));
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.db.set_onversionchange(None);
        self.db.set_onclose(None);
        self.db.close();
    }
}
