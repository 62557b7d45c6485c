//! The row store over real IndexedDB: the contract of every row store, and what only a browser can do to it.
//!
//! The browser's part is played by the browser: where a test needs a failure it cannot order, it makes IndexedDB
//! itself fail (a key that exists, an abort, a closed connection) from JavaScript.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, its helpers too")]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use js_sys::{Array, Function, Promise};
use landfall::idb::{IdbRowStore, OPEN_TIMEOUT_MS, SCHEMA_VERSION};
use landfall_storage::{
    CommitError, Committed, Durability, Key, OpenError, Read, ReadError, RowKind, RowOp, RowStore, StorageFault,
    StoreName, Txn, contract, decode,
};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use wasm_bindgen_test::wasm_bindgen_test;

#[wasm_bindgen_test]
async fn indexeddb_keeps_the_contract() {
    contract::all(open).await;
}

#[wasm_bindgen_test]
async fn l1_name_and_durability_reach_the_browser_and_writes_are_committed_explicitly_where_that_is_safe() {
    let store = open("durability").await;
    let spy = Patch::new(
        "const { transaction } = IDBDatabase.prototype, { commit } = IDBTransaction.prototype;
         globalThis.seen = [];
         IDBDatabase.prototype.transaction = function (...args) {
           const begun = transaction.apply(this, args);
           seen.push([args[2]?.name ?? 'read', begun.mode, begun.durability, ...begun.objectStoreNames].join(' '));
           return begun;
         };
         IDBTransaction.prototype.commit = function () { seen.push('commit'); return commit.call(this); };
         return () => {
           IDBDatabase.prototype.transaction = transaction;
           IDBTransaction.prototype.commit = commit;
         };",
    );
    append(&store, Durability::Strict, "a").await.unwrap();
    append(&store, Durability::Relaxed, "b").await.unwrap();
    store.get(StoreName::Log, &Key::Number(1)).await.unwrap();
    let mut settle = Txn::new("settle", Durability::Strict);
    settle.expect(StoreName::Meta, Key::text("cursor"), None);
    settle.put(StoreName::Seg, Key::Number(1), "row".to_owned());
    store.commit(settle).await.unwrap();
    drop(spy);
    let seen: Vec<String> = Array::from(&js("return seen")).iter().filter_map(|entry| entry.as_string()).collect();
    let mut expected = vec![
        "append readwrite strict log",
        "commit",
        "append readwrite relaxed log",
        "commit",
        "read readonly default log",
        "settle readwrite strict meta seg",
        "commit",
    ];
    if js("return !navigator.userAgentData").is_truthy() {
        // Firefox would commit a part: see the test of a request that fails.
        expected.retain(|entry| *entry != "commit");
    }
    assert_eq!(seen, expected);
}

#[wasm_bindgen_test]
async fn what_is_read_of_the_base_in_the_turn_of_an_answer_is_read_in_its_transaction_eight_times_at_most() {
    let store = open("rounds").await;
    let spy = Patch::new(
        "const { transaction } = IDBDatabase.prototype;
         globalThis.seen = [];
         IDBDatabase.prototype.transaction = function (...args) {
           const begun = transaction.apply(this, args);
           seen.push([...begun.objectStoreNames].join(' '));
           return begun;
         };
         return () => IDBDatabase.prototype.transaction = transaction;",
    );
    let base = [Read::one(StoreName::Idx, Key::text("run/1")), Read::one(StoreName::Seg, Key::Number(1))];
    store.get(StoreName::Meta, &Key::text("manifest")).await.unwrap();
    for _ in 1..8 {
        store.read(&base).await.unwrap();
    }
    store.read(&base).await.unwrap();
    // The next turn: the transaction takes no more requests.
    js_async("await new Promise(done => setTimeout(done))").await;
    store.read(&base).await.unwrap();
    // What orders others is always asked anew.
    store.get(StoreName::Meta, &Key::text("manifest")).await.unwrap();
    drop(spy);
    let seen: Vec<String> = Array::from(&js("return seen")).iter().filter_map(|entry| entry.as_string()).collect();
    assert_eq!(seen, ["idx meta seg", "idx seg", "idx seg", "idx meta seg"]);
}

#[wasm_bindgen_test]
async fn tables_are_made_in_their_order_and_rows_are_readable_strings() {
    let store = open("schema").await;
    append(&store, Durability::Strict, "L1 0 {}").await.unwrap();
    let seen = js_async(
        "const db = await new Promise(done => { const r = indexedDB.open('schema'); r.onsuccess = () => done(r.result); });
         const row = await new Promise(done => {
           const r = db.transaction('log').objectStore('log').get(1); r.onsuccess = () => done(r.result); });
         const log = db.transaction('log').objectStore('log');
         const found = [db.version, log.autoIncrement, log.keyPath, typeof row, row, ...db.objectStoreNames].join();
         db.close();
         return found;",
    )
    .await;
    assert_eq!(seen.as_string().unwrap(), "1,true,,string,L1 0 {},idx,log,meta,seg");
    assert_eq!(SCHEMA_VERSION, 1);
}

#[wasm_bindgen_test]
async fn l3_a_request_that_fails_aborts_the_whole_transaction_and_says_so() {
    let store = open("abort").await;
    append(&store, Durability::Strict, "first").await.unwrap();
    let collision = Patch::new(
        "const { add } = IDBObjectStore.prototype;
         IDBObjectStore.prototype.add = function (row) { return add.call(this, row, 1); };
         return () => { IDBObjectStore.prototype.add = add; };",
    );
    let result = store.commit(two_puts_and_an_append()).await;
    drop(collision);
    let Err(CommitError::Aborted { fault: StorageFault::Other, message }) = result else { panic!("{result:?}") };
    assert!(message.starts_with("ConstraintError: "), "{message}");
    assert_only_the_first_row_is_there(&store).await;
}

#[wasm_bindgen_test]
async fn l3_a_full_disk_aborts_the_whole_transaction_and_is_called_quota() {
    let store = open("quota").await;
    append(&store, Durability::Strict, "first").await.unwrap();
    let full = Patch::new(
        "const { put } = IDBObjectStore.prototype;
         IDBObjectStore.prototype.put = function (row, key) {
           if (key === 'b') throw new DOMException('full', 'QuotaExceededError');
           return put.call(this, row, key);
         };
         return () => { IDBObjectStore.prototype.put = put; };",
    );
    let result = store.commit(two_puts_and_an_append()).await;
    drop(full);
    let message = "QuotaExceededError: full".to_owned();
    assert_eq!(result, Err(CommitError::Aborted { fault: StorageFault::Quota, message }));
    assert_only_the_first_row_is_there(&store).await;
}

#[wasm_bindgen_test]
async fn l1_a_connection_lost_after_commit_was_asked_for_is_an_unknown_fate_and_the_next_call_heals() {
    let store = open("unknown").await;
    append(&store, Durability::Strict, "first").await.unwrap();
    // An abort with neither a cause nor our wish is what a forced close looks like.
    let lost = Patch::new(
        "const { commit } = IDBTransaction.prototype, { add } = IDBObjectStore.prototype;
         IDBTransaction.prototype.commit = function () { this.abort(); };
         // When all writes are issued, where no commit is asked for.
         if (!navigator.userAgentData) IDBObjectStore.prototype.add = function (row) {
           queueMicrotask(() => this.transaction.abort());
           return add.call(this, row);
         };
         return () => { IDBTransaction.prototype.commit = commit; IDBObjectStore.prototype.add = add; };",
    );
    let result = store.commit(two_puts_and_an_append()).await;
    drop(lost);
    assert!(matches!(result, Err(CommitError::Unknown { .. })), "{result:?}");
    assert_only_the_first_row_is_there(&store).await;
    assert!(!store.is_closed());
}

#[wasm_bindgen_test]
async fn a_connection_lost_before_anything_was_written_is_retried_three_times_and_then_reported() {
    let store = open("lost").await;
    for (failures, expected) in [(2, true), (3, false)] {
        let spy = Patch::new(&format!(
            "const {{ transaction }} = IDBDatabase.prototype;
             let left = {failures};
             IDBDatabase.prototype.transaction = function (...args) {{
               if (left-- > 0) throw new DOMException('Internal error opening backing store', 'UnknownError');
               return transaction.apply(this, args);
             }};
             return () => {{ IDBDatabase.prototype.transaction = transaction; }};"
        ));
        let result = append(&store, Durability::Strict, "row").await;
        drop(spy);
        match result {
            Ok(committed) => assert!(expected, "{committed:?}"),
            Err(CommitError::Aborted { fault, .. }) => {
                assert!(!expected);
                assert_eq!(fault, StorageFault::ConnectionLost);
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(log(&store).await, ["row"]);
}

#[wasm_bindgen_test]
async fn a_connection_closed_from_outside_is_opened_again_and_loses_nothing() {
    let store = open("healed").await;
    let capture = Patch::capture();
    append(&store, Durability::Strict, "first").await.unwrap();
    js("captured.close()");
    assert_eq!(log(&store).await, ["first"]);
    js("captured.close()");
    assert_eq!(append(&store, Durability::Strict, "second").await.unwrap().log_keys, [2]);
    drop(capture);
    assert_eq!(log(&store).await, ["first", "second"]);
}

#[wasm_bindgen_test]
async fn a_close_event_heals_too() {
    let store = open("close-event").await;
    let capture = Patch::capture();
    append(&store, Durability::Strict, "first").await.unwrap();
    js("captured.dispatchEvent(new Event('close'))");
    let before = js("return captured");
    assert_eq!(log(&store).await, ["first"]);
    assert!(before != js("return captured"), "the lost connection is still in use");
    drop(capture);
}

#[wasm_bindgen_test]
async fn a_deletion_elsewhere_closes_the_store_which_says_so_and_makes_no_new_database() {
    let store = open("deleted").await;
    append(&store, Durability::Strict, "first").await.unwrap();
    IdbRowStore::delete("deleted", OPEN_TIMEOUT_MS).await.unwrap();
    assert!(store.is_closed());
    let read = store.get(StoreName::Log, &Key::Number(1)).await;
    assert!(matches!(read, Err(ReadError { fault: StorageFault::VersionChange, .. })), "{read:?}");
    let write = append(&store, Durability::Strict, "second").await;
    assert!(matches!(write, Err(CommitError::Aborted { fault: StorageFault::VersionChange, .. })), "{write:?}");
    assert!(!exists("deleted").await);
    let store = open("deleted").await;
    assert_eq!(append(&store, Durability::Strict, "new life").await.unwrap().log_keys, [1]);
}

#[wasm_bindgen_test]
async fn l1_a_database_that_vanished_while_the_connection_was_lost_is_never_replaced_by_an_empty_one() {
    let store = open("vanished").await;
    let capture = Patch::capture();
    append(&store, Durability::Strict, "first").await.unwrap();
    js("captured.close()");
    drop(capture);
    IdbRowStore::delete("vanished", OPEN_TIMEOUT_MS).await.unwrap();
    let write = append(&store, Durability::Strict, "second").await;
    assert!(matches!(write, Err(CommitError::Aborted { fault: StorageFault::VersionChange, .. })), "{write:?}");
    assert!(store.is_closed());
    assert!(!exists("vanished").await);
}

#[wasm_bindgen_test]
async fn a_newer_schema_is_a_clear_error_and_stays_as_it_is() {
    js_async(
        "const db = await new Promise(done => {
           const r = indexedDB.open('newer', 7);
           r.onupgradeneeded = () => { r.result.createObjectStore('future').put('kept', 'key'); };
           r.onsuccess = () => done(r.result);
         });
         db.close();",
    )
    .await;
    let error = IdbRowStore::open("newer", OPEN_TIMEOUT_MS).await.err();
    assert_eq!(error, Some(OpenError::NewerSchema { found: 7, known: SCHEMA_VERSION }));
    let kept = js_async(
        "const db = await new Promise(done => { const r = indexedDB.open('newer'); r.onsuccess = () => done(r.result); });
         const row = await new Promise(done => {
           const r = db.transaction('future').objectStore('future').get('key'); r.onsuccess = () => done(r.result); });
         const found = [db.version, row, ...db.objectStoreNames].join();
         db.close();
         return found;",
    )
    .await;
    assert_eq!(kept.as_string().unwrap(), "7,kept,future");
}

#[wasm_bindgen_test]
async fn a_context_that_does_not_let_go_blocks_within_the_time_allowed_and_no_longer() {
    js_async(
        "globalThis.holder = await new Promise(done => {
           const r = indexedDB.open('blocked', 1);
           r.onsuccess = () => done(r.result);
         });",
    )
    .await;
    assert_eq!(IdbRowStore::delete("blocked", 30).await, Err(OpenError::Blocked));
    assert_eq!(IdbRowStore::open("blocked", 30).await.err(), Some(OpenError::Blocked));
    js("holder.close()");
    let store = open("blocked").await;
    assert_eq!(append(&store, Durability::Strict, "first").await.unwrap().log_keys, [1]);
}

#[wasm_bindgen_test]
async fn without_indexeddb_opening_answers_unavailable() {
    let gone = Patch::new(
        "const own = Object.getOwnPropertyDescriptor(globalThis, 'indexedDB');
         Object.defineProperty(globalThis, 'indexedDB', { value: undefined, configurable: true });
         return () => {
           if (own) Object.defineProperty(globalThis, 'indexedDB', own);
           else delete globalThis.indexedDB;
         };",
    );
    let error = IdbRowStore::open("unavailable", OPEN_TIMEOUT_MS).await.err();
    drop(gone);
    assert!(matches!(error, Some(OpenError::Unavailable { .. })), "{error:?}");
}

#[wasm_bindgen_test]
async fn i3_values_that_are_no_rows_are_readable_and_never_look_like_missing_rows() {
    let store = open("damaged").await;
    append(&store, Durability::Strict, "first").await.unwrap();
    js_async(
        "const db = await new Promise(done => { const r = indexedDB.open('damaged'); r.onsuccess = () => done(r.result); });
         await new Promise(done => {
           const t = db.transaction('meta', 'readwrite');
           t.objectStore('meta').put({ some: 'object' }, 'object');
           t.objectStore('meta').put('M1 \\ud800 {}', 'surrogate');
           t.oncomplete = done;
         });
         db.close();",
    )
    .await;
    for (key, text) in [("object", ""), ("surrogate", "M1 \u{fffd} {}")] {
        let row = store.get(StoreName::Meta, &Key::text(key)).await.unwrap();
        assert_eq!(row.as_deref(), Some(text));
        assert!(decode::<u32>(RowKind::Manifest, text).is_err());
    }
    let all = store.range(StoreName::Meta, &Key::text(""), &Key::text("z"), 9).await.unwrap();
    assert_eq!(all.len(), 2);
}

#[wasm_bindgen_test]
async fn l1_a_commit_whose_caller_stopped_waiting_is_carried_to_its_end() {
    let store = open("dropped").await;
    let mut expecting = Txn::new("append", Durability::Strict);
    expecting.expect(StoreName::Meta, Key::text("cursor"), None);
    expecting.ops.push(RowOp::Append { row: "first".to_owned() });
    {
        let commit = pin!(store.commit(expecting));
        assert!(commit.poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let read = pin!(store.get(StoreName::Log, &Key::Number(1)));
        assert!(read.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    append(&store, Durability::Strict, "second").await.unwrap();
    assert_eq!(log(&store).await, ["first", "second"]);
}

#[wasm_bindgen_test]
async fn a_closed_store_refuses_calls_and_leaves_others_alone() {
    let one = open("closed").await;
    let two = open("closed").await;
    append(&one, Durability::Strict, "first").await.unwrap();
    let clone = one.clone();
    one.close();
    one.close();
    assert!(clone.is_closed());
    let read = clone.get(StoreName::Log, &Key::Number(1)).await;
    assert!(matches!(read, Err(ReadError { fault: StorageFault::Other, .. })), "{read:?}");
    assert_eq!(log(&two).await, ["first"]);
}

async fn open(name: &str) -> IdbRowStore {
    match IdbRowStore::open(name, OPEN_TIMEOUT_MS).await {
        Ok(store) => store,
        Err(error) => panic!("{name} did not open: {error:?}"),
    }
}

async fn append(store: &IdbRowStore, durability: Durability, row: &str) -> Result<Committed, CommitError> {
    let mut txn = Txn::new("append", durability);
    txn.ops.push(RowOp::Append { row: row.to_owned() });
    store.commit(txn).await
}

async fn log(store: &IdbRowStore) -> Vec<String> {
    let rows = store.range(StoreName::Log, &Key::Number(0), &Key::Number(u64::MAX), 100).await.unwrap();
    rows.into_iter().map(|(_, row)| row).collect()
}

fn two_puts_and_an_append() -> Txn {
    let mut txn = Txn::new("settle", Durability::Strict);
    txn.put(StoreName::Meta, Key::text("a"), "1".to_owned());
    txn.ops.push(RowOp::Append { row: "second".to_owned() });
    txn.put(StoreName::Meta, Key::text("b"), "1".to_owned());
    txn
}

async fn assert_only_the_first_row_is_there(store: &IdbRowStore) {
    assert_eq!(log(store).await, ["first"]);
    assert_eq!(store.range(StoreName::Meta, &Key::text(""), &Key::text("z"), 9).await.unwrap(), []);
}

/// WebKitGTK lists a database whose making was undone, too: at version 0, as whoever opens it next will find it.
async fn exists(name: &str) -> bool {
    let list = "return (await indexedDB.databases()).filter(({ version }) => version > 0).map(({ name }) => name)";
    let names = js_async(list).await;
    Array::from(&names).includes(&JsValue::from_str(name), 0)
}

/// Runs JavaScript as a function's body.
fn js(body: &str) -> JsValue {
    Function::new_no_args(body).call0(&JsValue::UNDEFINED).unwrap()
}

/// Runs JavaScript as an async function's body.
async fn js_async(body: &str) -> JsValue {
    let promise: Promise = js(&format!("return (async () => {{ {body} }})()")).unchecked_into();
    JsFuture::from(promise).await.unwrap()
}

/// A change to IndexedDB's own objects, undone when dropped. The script returns how to undo it.
struct Patch {
    undo: Function,
}

impl Patch {
    fn new(script: &str) -> Self {
        Self { undo: js(script).unchecked_into() }
    }

    /// Keeps the connection of the last transaction in `captured`.
    fn capture() -> Self {
        Self::new(
            "const { transaction } = IDBDatabase.prototype;
             IDBDatabase.prototype.transaction = function (...args) {
               globalThis.captured = this;
               return transaction.apply(this, args);
             };
             return () => { IDBDatabase.prototype.transaction = transaction; };",
        )
    }
}

impl Drop for Patch {
    fn drop(&mut self) {
        self.undo.call0(&JsValue::UNDEFINED).unwrap();
    }
}
