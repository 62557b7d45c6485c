//! The faulty disk does to its caller what its plan says, and nothing else.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, its helpers too")]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use landfall_storage::faulty::{Call, Fault, FaultPlan, FaultyRowStore};
use landfall_storage::memory::MemoryRowStore;
use landfall_storage::{
    CommitError, Committed, Durability, Key, RowError, RowKind, RowOp, RowStore, StorageFault, StoreName, Txn, decode,
    encode,
};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("BUG: a store in memory waits"),
    }
}

fn disk() -> (FaultyRowStore<MemoryRowStore>, FaultPlan) {
    let plan = FaultPlan::new();
    (FaultyRowStore::over(MemoryRowStore::new(), plan.clone()), plan)
}

fn append(store: &impl RowStore, name: &'static str, durability: Durability) -> Result<Committed, CommitError> {
    let mut txn = Txn::new(name, durability);
    txn.ops.push(RowOp::Append { row: name.to_owned() });
    block_on(store.commit(txn))
}

fn log(store: &impl RowStore) -> Vec<String> {
    let rows = block_on(store.range(StoreName::Log, &Key::Number(0), &Key::Number(u64::MAX), 100)).unwrap();
    rows.into_iter().map(|(_, row)| row).collect()
}

fn is_unknown(result: &Result<Committed, CommitError>) -> bool {
    matches!(result, Err(CommitError::Unknown { .. }))
}

fn is_aborted(result: &Result<Committed, CommitError>, expected: StorageFault) -> bool {
    matches!(result, Err(CommitError::Aborted { fault, .. }) if *fault == expected)
}

#[test]
fn faults_by_transaction_name_hit_the_next_transaction_of_that_name_once() {
    let (store, plan) = disk();
    plan.on_txn("settle", Fault::AbortBefore(StorageFault::Quota));
    plan.on_txn("settle", Fault::UnknownButCommitted);
    plan.on_txn("settle", Fault::UnknownNotCommitted);
    assert!(append(&store, "append", Durability::Strict).is_ok());
    assert!(is_aborted(&append(&store, "settle", Durability::Strict), StorageFault::Quota));
    assert_eq!(log(&store), ["append"]);
    assert!(is_unknown(&append(&store, "settle", Durability::Strict)));
    assert_eq!(log(&store), ["append", "settle"]);
    assert!(is_unknown(&append(&store, "settle", Durability::Strict)));
    assert_eq!(log(&store), ["append", "settle"]);
    assert!(append(&store, "settle", Durability::Strict).is_ok());
    assert_eq!(plan.injected_count(), 3);
}

#[test]
fn faults_by_count_hit_that_call_and_a_closure_sees_every_other() {
    let (store, plan) = disk();
    plan.at_call(2, Fault::ReadFails(StorageFault::Other));
    plan.decide_by(|number, call| match call {
        Call::Commit(txn) if number > 3 && txn.name == "pull" => Fault::AbortBefore(StorageFault::ConnectionLost),
        _ => Fault::None,
    });
    assert!(append(&store, "pull", Durability::Relaxed).is_ok());
    let read = block_on(store.get(StoreName::Log, &Key::Number(1)));
    assert_eq!(read.unwrap_err().fault, StorageFault::Other);
    assert_eq!(block_on(store.get(StoreName::Log, &Key::Number(1))).unwrap().as_deref(), Some("pull"));
    assert!(is_aborted(&append(&store, "pull", Durability::Relaxed), StorageFault::ConnectionLost));
    assert_eq!((plan.call_count(), plan.injected_count()), (4, 2));
}

#[test]
fn i3_a_flipped_byte_fails_the_checksum_and_a_missing_row_is_missing_for_that_read_only() {
    let (store, plan) = disk();
    let row = encode(RowKind::Cursor, &"position 17");
    let mut txn = Txn::new("pull", Durability::Relaxed);
    txn.put(StoreName::Meta, Key::text("cursor"), row.clone());
    txn.put(StoreName::Meta, Key::text("other"), row.clone());
    block_on(store.commit(txn)).unwrap();
    let all = || block_on(store.range(StoreName::Meta, &Key::text(""), &Key::text("z"), 9)).unwrap();

    plan.at_call(2, Fault::FlipByte(StoreName::Meta, Key::text("cursor")));
    plan.at_call(3, Fault::MissingRow(StoreName::Meta, Key::text("cursor")));
    plan.at_call(4, Fault::FlipByte(StoreName::Meta, Key::text("cursor")));
    let flipped = all();
    assert_eq!(decode::<String>(RowKind::Cursor, &flipped[0].1), Err(RowError::Checksum));
    assert_eq!(flipped[1].1, row);
    assert_eq!(all().len(), 1);
    let got = block_on(store.get(StoreName::Meta, &Key::text("cursor"))).unwrap().unwrap();
    assert_eq!(got, flipped[0].1);
    assert_eq!(all()[0].1, row);
    assert_eq!(plan.injected_count(), 3);
}

#[test]
fn a_flipped_byte_changes_any_row_that_has_one() {
    for before in ["a", "ab", "é", "éa", "aé", "日本語", "日x本語"] {
        let mut after = before.to_owned();
        landfall_storage::faulty::flip_byte(&mut after);
        assert_ne!(after, before);
    }
}

#[test]
fn a_fault_that_does_not_fit_its_call_does_nothing_and_is_not_counted() {
    let (store, plan) = disk();
    plan.at_call(1, Fault::ReadFails(StorageFault::Other));
    plan.at_call(2, Fault::UnknownNotCommitted);
    assert!(append(&store, "append", Durability::Strict).is_ok());
    assert_eq!(log(&store), ["append"]);
    assert_eq!(plan.injected_count(), 0);
}

#[test]
fn l1_a_crash_loses_relaxed_transactions_after_the_last_strict_one_and_stops_every_context() {
    let memory = MemoryRowStore::new();
    let plan = FaultPlan::new();
    let tab = FaultyRowStore::over(memory.clone(), plan.clone());
    let worker = FaultyRowStore::over(memory, plan.clone());
    append(&tab, "relaxed 1", Durability::Relaxed).unwrap();
    append(&tab, "strict 2", Durability::Strict).unwrap();
    append(&worker, "relaxed 3", Durability::Relaxed).unwrap();
    plan.on_txn("relaxed 4", Fault::CrashAfter);
    assert!(is_unknown(&append(&tab, "relaxed 4", Durability::Relaxed)));

    assert!(plan.is_down());
    assert!(is_aborted(&append(&worker, "dead", Durability::Strict), StorageFault::ConnectionLost));
    let read = block_on(worker.get(StoreName::Log, &Key::Number(1)));
    assert_eq!(read.unwrap_err().fault, StorageFault::ConnectionLost);

    plan.reopen();
    assert_eq!(log(&worker), ["relaxed 1", "strict 2"]);
}

#[test]
fn l1_a_crash_after_a_strict_commit_keeps_it_and_a_crash_before_writes_nothing() {
    let (store, plan) = disk();
    plan.on_txn("kept", Fault::CrashAfter);
    plan.on_txn("never", Fault::CrashBefore);
    append(&store, "relaxed", Durability::Relaxed).unwrap();
    assert!(is_unknown(&append(&store, "kept", Durability::Strict)));
    plan.reopen();
    assert!(is_aborted(&append(&store, "never", Durability::Strict), StorageFault::ConnectionLost));
    plan.reopen();
    assert_eq!(log(&store), ["relaxed", "kept"]);
}

#[test]
fn a_crash_of_the_process_alone_loses_nothing() {
    let (store, plan) = disk();
    plan.keep_relaxed_on_crash(true);
    append(&store, "relaxed", Durability::Relaxed).unwrap();
    plan.crash();
    plan.reopen();
    assert_eq!(log(&store), ["relaxed"]);
}

#[test]
fn a_stale_transaction_is_stale_also_under_a_crash() {
    let (store, plan) = disk();
    let mut txn = Txn::new("settle", Durability::Strict);
    txn.expect(StoreName::Meta, Key::text("a"), Some("x".to_owned()));
    plan.on_txn("settle", Fault::UnknownButCommitted);
    let stale = CommitError::Stale { store: StoreName::Meta, key: Key::text("a") };
    assert_eq!(block_on(store.commit(txn)), Err(stale));
}
