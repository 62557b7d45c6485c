//! One IndexedDB transaction from begin to its last event.
//!
//! Invariants: handlers are attached before the first request and stay until the transaction has ended, whoever has
//! stopped waiting; inside a transaction nothing is awaited but its own requests, and the whole of it runs in event
//! callbacks, so it cannot fall asleep between its reads and its writes; a commit is reported on `complete` only.
//!
//! A read of the base goes on in the transaction of the read before it where that still takes requests: until the turn of
//! its answer is over, microtasks included. What a computation missed step by step is then read in one transaction.

use landfall_protocol::Listed;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use js_sys::Array;
use landfall_storage::{CommitError, Committed, Key, KeyedRows, Read, ReadError, RowOp, StoreName, Txn};
use wasm_bindgen::prelude::*;
use web_sys::{Event, IdbKeyRange, IdbObjectStore, IdbRequest, IdbTransaction};

use super::fault::Failure;
use super::open::Connection;
use super::wait::Wait;
use crate::task::{Handler, handler};

#[wasm_bindgen]
extern "C" {
    /// web-sys calls the standard's `commit()` deprecated; it is not.
    #[wasm_bindgen(js_name = IDBTransaction)]
    type CommittingTransaction;
    #[wasm_bindgen(method, catch)]
    fn commit(this: &CommittingTransaction) -> Result<(), JsValue>;
}

/// What a transaction came to.
#[derive(Clone)]
enum End {
    Read(Vec<JsValue>),
    Committed(Committed),
}

#[derive(Clone, Copy)]
enum Phase {
    /// Nothing is written yet.
    Reading,
    /// Writes are issued, and maybe `commit()` is called.
    Writing,
    /// This expectation was wrong; `abort()` is called.
    Stale(usize),
}

/// So many reads are carried by one transaction at most: whoever wants to write waits for its end.
const ROUNDS_MAX: u32 = 8;

/// A running transaction. Its handler holds it until it has ended.
pub(super) struct Run {
    connection: Rc<Connection>,
    transaction: IdbTransaction,
    /// Reads that it has carried, this one included.
    rounds: u32,
    phase: Cell<Phase>,
    reads: RefCell<Vec<IdbRequest>>,
    /// What to write once the reads are as expected; `None` for a read.
    txn: Option<Rc<Txn>>,
    appends: RefCell<Vec<IdbRequest>>,
    /// The failure that made the transaction abort, where one was seen.
    cause: RefCell<Option<Failure>>,
    end: Wait<Result<End, CommitError>>,
    /// The one function behind all of its events.
    handler: RefCell<Option<Handler>>,
}

/// Answers all of `reads` in one transaction: every request is issued in one turn, before any is answered.
///
/// At least one of them must not be [`Read::is_empty`].
pub(super) async fn read(connection: &Rc<Connection>, reads: &[Read]) -> Result<Vec<KeyedRows>, ReadError> {
    let mut stores = [false; 4];
    for read in reads.iter().filter(|read| !read.is_empty()) {
        stores[read.store() as usize] = true;
    }
    let is_base = !stores[StoreName::Log as usize] && !stores[StoreName::Meta as usize];
    let answered = connection.answered.take().filter(|answered| is_base && answered.1 < ROUNDS_MAX);
    let asked = answered.and_then(|(transaction, rounds)| {
        let requests = ask(&mut Stores::of(&transaction), reads).ok()?;
        Some((transaction, rounds + 1, requests))
    });
    let run = match asked {
        Some((transaction, rounds, requests)) => {
            let run = Run::start(connection, transaction, None, rounds);
            run.wait_for(requests);
            run
        }
        None => {
            // What is missed next may go on in it. Whoever writes these two writes `meta` too, so with that one it waits
            // for nobody else; a look at the log alone would.
            let goes_on = is_base || stores[StoreName::Meta as usize];
            if goes_on {
                stores[StoreName::Idx as usize] = true;
                stores[StoreName::Seg as usize] = true;
            }
            let transaction = connection.begin(&stores, None).map_err(|error| Failure::of(&error).read_error())?;
            let run = Run::start(connection, transaction, None, if goes_on { 1 } else { ROUNDS_MAX });
            run.issue_reads(|stores| ask(stores, reads));
            run
        }
    };
    match run.end.clone().await {
        Ok(End::Read(values)) => Ok(answers(reads, &values)),
        Ok(End::Committed(_)) => Ok(answers(reads, &[])),
        Err(CommitError::Aborted { fault, message }) => Err(ReadError { fault, message }),
        Err(_) => Err(Failure::new("UnknownError", "the connection was lost").read_error()),
    }
}

/// Issues the requests of a read.
fn ask(stores: &mut Stores<'_>, reads: &[Read]) -> Result<Vec<IdbRequest>, JsValue> {
    let mut requests = Vec::with_capacity(reads.len());
    for read in reads.iter().filter(|read| !read.is_empty()) {
        let store = stores.get(read.store())?;
        match read {
            Read::One { key, .. } => requests.push(store.get(&key_value(key))?),
            Read::Range { from, to, limit, .. } => {
                let range = range_value(from, to)?;
                // To IndexedDB, 0 means "all": an empty read does not come here.
                let limit = u32::try_from(*limit).unwrap_or(u32::MAX);
                requests.push(store.get_all_keys_with_key_and_limit(&range, limit)?);
                requests.push(store.get_all_with_key_and_limit(&range, limit)?);
            }
        }
    }
    Ok(requests)
}

/// The results of the requests that [`read`] issues, as rows: one value of a `One`, keys and rows of a `Range`.
fn answers(reads: &[Read], values: &[JsValue]) -> Vec<KeyedRows> {
    let mut values = values.iter();
    let mut answers = Vec::with_capacity(reads.len());
    for read in reads {
        let mut rows = Vec::new();
        match read {
            Read::One { key, .. } => {
                if let Some(row) = values.next().and_then(row_text) {
                    rows.push((key.clone(), row));
                }
            }
            Read::Range { .. } if read.is_empty() => {}
            Read::Range { .. } => {
                if let (Some(keys), Some(texts)) = (values.next(), values.next()) {
                    let (keys, texts): (&Array, &Array) = (keys.unchecked_ref(), texts.unchecked_ref());
                    for (key, text) in keys.iter().zip(texts.iter()) {
                        rows.push((key_of(&key), row_text(&text).unwrap_or_default()));
                    }
                }
            }
        }
        answers.push(rows);
    }
    answers
}

/// Compares, writes and commits; nothing else ever touches the transaction.
pub(super) async fn commit(connection: &Rc<Connection>, txn: &Rc<Txn>) -> Result<Committed, CommitError> {
    let mut stores = [false; 4];
    for expect in &txn.expects {
        stores[expect.store as usize] = true;
    }
    for op in &txn.ops {
        stores[store_of(op) as usize] = true;
    }
    if stores == [false; 4] {
        return Ok(Committed::default());
    }
    let durability = if txn.ops.is_empty() { None } else { Some((txn.durability, txn.name)) };
    let transaction = connection.begin(&stores, durability).map_err(|error| aborted(&Failure::of(&error)))?;
    let run = Run::start(connection, transaction, Some(Rc::clone(txn)), 0);
    if txn.expects.is_empty() {
        run.write(txn);
    } else {
        run.issue_reads(|stores| {
            txn.expects.iter().map(|expect| stores.get(expect.store)?.get(&key_value(&expect.key))).listed_ok()
        });
    }
    match run.end.clone().await {
        Ok(End::Committed(committed)) => Ok(committed),
        Ok(End::Read(_)) => Ok(Committed::default()),
        Err(error) => Err(error),
    }
}

impl Run {
    fn start(connection: &Rc<Connection>, transaction: IdbTransaction, txn: Option<Rc<Txn>>, rounds: u32) -> Rc<Self> {
        let run = Rc::new(Self {
            connection: Rc::clone(connection),
            transaction,
            rounds,
            phase: Cell::new(Phase::Reading),
            reads: RefCell::default(),
            txn,
            appends: RefCell::default(),
            cause: RefCell::default(),
            end: Wait::new(),
            handler: RefCell::default(),
        });
        let this = Rc::clone(&run);
        let handler = handler(move |event| this.handle(&event));
        let function = Some(handler.as_ref().unchecked_ref());
        run.transaction.set_oncomplete(function);
        run.transaction.set_onabort(function);
        run.transaction.set_onerror(function);
        run.handler.replace(Some(handler));
        connection.started(&run);
        run
    }

    /// Issues all reads at once. Requests answer in order, so the last one's success speaks for all.
    fn issue_reads(&self, issue: impl FnOnce(&mut Stores<'_>) -> Result<Vec<IdbRequest>, JsValue>) {
        match issue(&mut Stores::of(&self.transaction)) {
            Ok(reads) => self.wait_for(reads),
            Err(error) => self.abort(Failure::of(&error)),
        }
    }

    fn wait_for(&self, reads: Vec<IdbRequest>) {
        if let (Some(last), Some(handler)) = (reads.last(), &*self.handler.borrow()) {
            last.set_onsuccess(Some(handler.as_ref().unchecked_ref()));
        }
        self.reads.replace(reads);
    }

    fn handle(&self, event: &Event) {
        match event.type_().as_str() {
            "success" => self.has_read(),
            "complete" => self.has_completed(),
            "error" => self.has_failed(event),
            _ => self.has_aborted(),
        }
    }

    fn has_read(&self) {
        let values = self.reads.borrow().iter().map(IdbRequest::result).listed_ok();
        let values = match values {
            Ok(values) => values,
            Err(error) => return self.abort(Failure::of(&error)),
        };
        let Some(txn) = &self.txn else {
            self.connection.answered.replace(Some((self.transaction.clone(), self.rounds)));
            return self.finish(Ok(End::Read(values)));
        };
        let stale = txn.expects.iter().zip(&values).position(|(expect, found)| row_text(found) != expect.row);
        match stale {
            Some(at) => {
                self.phase.set(Phase::Stale(at));
                let _ = self.transaction.abort();
            }
            None if txn.ops.is_empty() => self.finish(Ok(End::Committed(Committed::default()))),
            None => self.write(txn),
        }
    }

    /// Issues every write and asks for the commit where that is safe, all in one turn.
    fn write(&self, txn: &Txn) {
        let mut stores = Stores::of(&self.transaction);
        for op in &txn.ops {
            if let Err(error) = self.issue_write(&mut stores, op) {
                return self.abort(Failure::of(&error));
            }
        }
        self.phase.set(Phase::Writing);
        // Without `commit()` (or after an abort that is on its way) the transaction ends by itself.
        if self.connection.commits_early {
            let _ = self.transaction.unchecked_ref::<CommittingTransaction>().commit();
        }
    }

    fn issue_write(&self, stores: &mut Stores<'_>, op: &RowOp) -> Result<(), JsValue> {
        let store = stores.get(store_of(op))?;
        match op {
            RowOp::Append { row } => self.appends.borrow_mut().push(store.add(&JsValue::from_str(row))?),
            RowOp::Put { key, row, .. } => {
                store.put_with_key(&JsValue::from_str(row), &key_value(key))?;
            }
            RowOp::Delete { key, .. } => {
                store.delete(&key_value(key))?;
            }
            RowOp::DeleteRange { from, to, .. } if from <= to => {
                store.delete(&range_value(from, to)?)?;
            }
            RowOp::DeleteRange { .. } => {}
        }
        Ok(())
    }

    fn has_completed(&self) {
        let mut log_keys = Vec::new();
        for append in self.appends.borrow().iter() {
            // A committed append has a key; not to know it is not to know what was written.
            match append.result().ok().and_then(|key| key.as_f64()) {
                Some(key) => log_keys.push(key as u64),
                None => return self.finish(Err(CommitError::Unknown { message: "an append has no key".to_owned() })),
            }
        }
        self.finish(Ok(End::Committed(Committed { log_keys })));
    }

    /// A request failed; `abort` follows. A forced close fails every request with AbortError, which says nothing.
    fn has_failed(&self, event: &Event) {
        let Some(target) = event.target() else { return };
        let request: &IdbRequest = target.unchecked_ref();
        if let Ok(Some(error)) = request.error() {
            let failure = Failure::of(&error);
            if failure.name != "AbortError" {
                self.cause.borrow_mut().get_or_insert(failure);
            }
        }
    }

    fn has_aborted(&self) {
        let cause = self.cause.take();
        let error = match (self.phase.get(), cause, self.transaction.error()) {
            (Phase::Stale(at), ..) => self.stale(at),
            // A request that failed by itself forbids the commit, whatever came after.
            (_, Some(cause), _) => aborted(&cause),
            (Phase::Reading, None, Some(error)) => aborted(&Failure::of(&error)),
            (Phase::Reading, None, None) => aborted(&connection_lost()),
            (Phase::Writing, None, Some(error)) => {
                let failure = Failure::of(&error);
                if failure.proves_abort() {
                    aborted(&failure)
                } else {
                    CommitError::Unknown { message: failure.text() }
                }
            }
            (Phase::Writing, None, None) => CommitError::Unknown { message: connection_lost().text() },
        };
        self.finish(Err(error));
    }

    /// The connection closed and the browser may never say how this ended.
    pub(super) fn lost(&self) {
        let message = connection_lost();
        let error = match self.phase.get() {
            Phase::Stale(at) => self.stale(at),
            Phase::Reading => aborted(&message),
            Phase::Writing => CommitError::Unknown { message: message.text() },
        };
        self.finish(Err(error));
    }

    fn stale(&self, at: usize) -> CommitError {
        match self.txn.as_ref().and_then(|txn| txn.expects.get(at)) {
            Some(expect) => CommitError::Stale { store: expect.store, key: expect.key.clone() },
            None => aborted(&connection_lost()),
        }
    }

    fn abort(&self, cause: Failure) {
        self.cause.borrow_mut().get_or_insert(cause);
        // Already aborting is fine: the event comes either way.
        let _ = self.transaction.abort();
    }

    fn finish(&self, end: Result<End, CommitError>) {
        self.transaction.set_oncomplete(None);
        self.transaction.set_onabort(None);
        self.transaction.set_onerror(None);
        if let Some(last) = self.reads.borrow().last() {
            last.set_onsuccess(None);
        }
        self.end.deliver(end);
        self.connection.ended(self);
        // Last: the handler holds `self`, and may be what is running now.
        drop(self.handler.take());
    }
}

/// The transaction's object stores, each looked up once.
struct Stores<'a> {
    transaction: &'a IdbTransaction,
    known: [Option<IdbObjectStore>; 4],
}

impl<'a> Stores<'a> {
    fn of(transaction: &'a IdbTransaction) -> Self {
        Self { transaction, known: [None, None, None, None] }
    }

    fn get(&mut self, store: StoreName) -> Result<&IdbObjectStore, JsValue> {
        let known = &mut self.known[store as usize];
        match known {
            Some(store) => Ok(store),
            None => Ok(known.insert(self.transaction.object_store(store.as_str())?)),
        }
    }
}

fn aborted(failure: &Failure) -> CommitError {
    CommitError::Aborted { fault: failure.fault(), message: failure.text() }
}

fn connection_lost() -> Failure {
    Failure::new("UnknownError", "the connection was lost")
}

fn store_of(op: &RowOp) -> StoreName {
    match op {
        RowOp::Append { .. } => StoreName::Log,
        RowOp::Put { store, .. } | RowOp::Delete { store, .. } | RowOp::DeleteRange { store, .. } => *store,
    }
}

fn key_value(key: &Key) -> JsValue {
    match key {
        // Stores count from 1 and stay far below 2^53; only an open upper bound is above, where rounding is harmless.
        Key::Number(number) => JsValue::from_f64(*number as f64),
        Key::Text(text) => JsValue::from_str(text),
    }
}

fn key_of(value: &JsValue) -> Key {
    match value.as_f64() {
        Some(number) => Key::Number(number as u64),
        None => Key::Text(value.as_string().unwrap_or_default()),
    }
}

fn range_value(from: &Key, to: &Key) -> Result<JsValue, JsValue> {
    IdbKeyRange::bound(&key_value(from), &key_value(to)).map(JsValue::from)
}

/// A row's text. A value that is not text is damage, and damage must fail its checksum, not look like "no such row".
fn row_text(value: &JsValue) -> Option<String> {
    if value.is_undefined() { None } else { Some(value.as_string().unwrap_or_default()) }
}
