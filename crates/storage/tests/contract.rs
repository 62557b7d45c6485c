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
use landfall_storage::{CommitError, Committed, KeyedRows, Read, ReadError, RowStore, Txn};

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
    assert_eq!(machine.disks.borrow().len(), 22);
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

/// Answers one read after the other, each in a state of its own.
struct OneByOne(MemoryRowStore);

impl RowStore for OneByOne {
    async fn read(&self, reads: &[Read]) -> Result<Vec<KeyedRows>, ReadError> {
        let mut answers = Vec::new();
        for read in reads {
            answers.extend(self.0.read(std::slice::from_ref(read)).await?);
            let mut waited = false;
            std::future::poll_fn(
                |_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending },
            )
            .await;
        }
        Ok(answers)
    }
    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        self.0.commit(txn).await
    }
}

#[test]
#[should_panic(expected = "several_reads_of_one_call_see_one_state_while_another_context_commits")]
fn a_store_that_reads_in_several_states_is_named_with_the_word_it_broke() {
    let machine = Machine::default();
    let mut suite = pin!(contract::all(async |name: &str| OneByOne(machine.disk(name))));
    while suite.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {}
}
