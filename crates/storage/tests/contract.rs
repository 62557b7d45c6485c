//! The contract, held by the stores that need no browser.
#![cfg(feature = "testing")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use landfall_storage::contract;
use landfall_storage::faulty::{FaultPlan, FaultyRowStore};
use landfall_storage::memory::MemoryRowStore;

/// Memory never waits, so one poll is the whole run.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("BUG: a store in memory waits"),
    }
}

/// The disks of one machine, by name.
#[derive(Default)]
struct Machine {
    disks: RefCell<BTreeMap<String, MemoryRowStore>>,
}

impl Machine {
    fn disk(&self, name: &str) -> MemoryRowStore {
        self.disks.borrow_mut().entry(name.to_owned()).or_default().clone()
    }
}

#[test]
fn memory_keeps_the_contract() {
    let machine = Machine::default();
    block_on(contract::all(async |name: &str| machine.disk(name)));
    assert_eq!(machine.disks.borrow().len(), 21);
}

#[test]
fn a_faulty_disk_without_faults_keeps_the_contract() {
    let machine = Machine::default();
    let plan = FaultPlan::new();
    block_on(contract::all(async |name: &str| FaultyRowStore::over(machine.disk(name), plan.clone())));
    assert!(plan.call_count() > 100);
    assert_eq!(plan.injected_count(), 0);
}

#[test]
#[should_panic(expected = "a_row_reads_back_as_it_was_written_and_a_missing_row_is_none")]
fn a_store_that_forgets_is_named_with_the_word_it_broke() {
    use landfall_storage::faulty::Fault;
    use landfall_storage::{Key, StoreName};
    let plan = FaultPlan::new();
    plan.decide_by(|_, _| Fault::MissingRow(StoreName::Meta, Key::text("a")));
    block_on(contract::all(async |_: &str| FaultyRowStore::new(MemoryRowStore::new(), plan.clone())));
}
