//! A disk that fails on request: aborts, unknown fates, flipped bytes, missing rows, crashes and power cuts.
//!
//! A [`FaultPlan`] decides call by call and is shared by every store that fails together (the contexts of one
//! machine, or one context alone). Deterministic: the same plan and the same calls give the same faults.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::memory::MemoryRowStore;
use crate::rowstore::{
    CommitError, Committed, Key, KeyedRows, Read, ReadError, RowOp, RowStore, StorageFault, StoreName, Txn,
};

/// A call that the plan judges.
#[derive(Clone, Copy, Debug)]
pub enum Call<'a> {
    /// However many questions it asks: they are one transaction.
    Read(&'a [Read]),
    Commit(&'a Txn),
}

/// What happens to a call. A fault of the other kind of call (a read fault on a commit) does nothing and is not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// A commit writes nothing and says so.
    AbortBefore(StorageFault),
    /// A commit is written, and its caller is told that nobody knows.
    UnknownButCommitted,
    /// A commit is not written, and its caller is told that nobody knows.
    UnknownNotCommitted,
    /// A read does not answer.
    ReadFails(StorageFault),
    /// A read answers with one byte of this row changed.
    FlipByte(StoreName, Key),
    /// A read answers as if this row were not there.
    MissingRow(StoreName, Key),
    /// The machine stops before the call. Until [`FaultPlan::reopen`] every call answers `ConnectionLost`.
    CrashBefore,
    /// The machine stops after the call, whose caller learns nothing.
    CrashAfter,
}

type Decide = Box<dyn FnMut(u64, &Call<'_>) -> Fault>;

#[derive(Default)]
struct Plan {
    call_count: u64,
    injected_count: u64,
    is_down: bool,
    keeps_relaxed: bool,
    by_call: BTreeMap<u64, Fault>,
    by_txn: BTreeMap<&'static str, VecDeque<Fault>>,
    decide: Option<Decide>,
    disks: Vec<MemoryRowStore>,
    room: Option<(MemoryRowStore, usize)>,
}

impl Plan {
    fn out_of_room(&self, call: &Call<'_>) -> Fault {
        let (Some((disk, room)), Call::Commit(txn)) = (&self.room, call) else { return Fault::None };
        let puts = txn.ops.iter().map(|op| match op {
            RowOp::Append { row } | RowOp::Put { row, .. } => row.len(),
            RowOp::Delete { .. } | RowOp::DeleteRange { .. } => 0,
        });
        let more: usize = puts.sum();
        if more > 0 && disk.row_bytes() + more > *room { Fault::AbortBefore(StorageFault::Quota) } else { Fault::None }
    }
}

/// Decides which calls fail. Clones share the plan.
#[derive(Clone, Default)]
pub struct FaultPlan {
    plan: Rc<RefCell<Plan>>,
}

impl FaultPlan {
    /// A plan without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a fault to one call; the first call is number 1.
    pub fn at_call(&self, number: u64, fault: Fault) {
        self.plan.borrow_mut().by_call.insert(number, fault);
    }

    /// Gives a fault to the next transaction of this name, once; said again, to the one after it.
    pub fn on_txn(&self, name: &'static str, fault: Fault) {
        self.plan.borrow_mut().by_txn.entry(name).or_default().push_back(fault);
    }

    /// From now on this disk has room for so many bytes of rows; `None`: for all there are. As in Chromium, a transaction
    /// that puts anything must fit on top of what is there before it deletes, and one that only deletes always goes.
    pub fn limit_room(&self, disk: &MemoryRowStore, bytes: Option<usize>) {
        self.plan.borrow_mut().room = bytes.map(|bytes| (disk.clone(), bytes));
    }

    /// Asks `decide` about every call that no rule above speaks for. It gets the call's number.
    pub fn decide_by(&self, decide: impl FnMut(u64, &Call<'_>) -> Fault + 'static) {
        self.plan.borrow_mut().decide = Some(Box::new(decide));
    }

    /// With `true` a crash is one of the process, not of power: relaxed transactions survive it.
    pub fn keep_relaxed_on_crash(&self, keeps: bool) {
        self.plan.borrow_mut().keeps_relaxed = keeps;
    }

    /// Stops the machine now.
    pub fn crash(&self) {
        let mut plan = self.plan.borrow_mut();
        plan.is_down = true;
        if !plan.keeps_relaxed {
            plan.disks.iter().for_each(MemoryRowStore::power_cut);
        }
    }

    /// Starts the machine again, on the disk that the crash left.
    pub fn reopen(&self) {
        self.plan.borrow_mut().is_down = false;
    }

    pub fn is_down(&self) -> bool {
        self.plan.borrow().is_down
    }

    /// Calls so far, those to a stopped machine included.
    pub fn call_count(&self) -> u64 {
        self.plan.borrow().call_count
    }

    /// Faults that took effect: a test that expects some can see that it had them.
    pub fn injected_count(&self) -> u64 {
        self.plan.borrow().injected_count
    }

    /// The fault of the next call, or `None` if the machine is down.
    fn next(&self, call: &Call<'_>) -> Option<Fault> {
        let mut plan = self.plan.borrow_mut();
        plan.call_count += 1;
        if plan.is_down {
            return None;
        }
        let number = plan.call_count;
        if let Some(fault) = plan.by_call.remove(&number) {
            return Some(fault);
        }
        if let Call::Commit(txn) = call
            && let Some(fault) = plan.by_txn.get_mut(txn.name).and_then(VecDeque::pop_front)
        {
            return Some(fault);
        }
        // The closure may look at the plan, so it is called without the borrow.
        let Some(mut decide) = plan.decide.take() else { return Some(plan.out_of_room(call)) };
        drop(plan);
        let fault = decide(number, call);
        let mut plan = self.plan.borrow_mut();
        plan.decide.get_or_insert(decide);
        Some(if fault == Fault::None { plan.out_of_room(call) } else { fault })
    }

    fn injected(&self) {
        self.plan.borrow_mut().injected_count += 1;
    }
}

/// A row store with a [`FaultPlan`] before it.
#[derive(Clone)]
pub struct FaultyRowStore<R> {
    inner: R,
    plan: FaultPlan,
}

impl<R: RowStore> FaultyRowStore<R> {
    /// Wraps any store. A crash only stops it: see [`FaultyRowStore::over`] for a disk that loses what was not flushed.
    pub fn new(inner: R, plan: FaultPlan) -> Self {
        Self { inner, plan }
    }

    pub fn inner(&self) -> &R {
        &self.inner
    }

    pub fn plan(&self) -> &FaultPlan {
        &self.plan
    }

    /// The answer with one row spoiled, wherever the row is in it.
    async fn spoiled(
        &self,
        reads: &[Read],
        how: Spoil,
        store: StoreName,
        key: &Key,
    ) -> Result<Vec<KeyedRows>, ReadError> {
        let mut answers = self.inner.read(reads).await?;
        let mut is_hit = false;
        for (_, rows) in reads.iter().zip(&mut answers).filter(|(read, _)| read.store() == store) {
            let Some(found) = rows.iter().position(|(at, _)| at == key) else { continue };
            match how {
                Spoil::Flip => flip_byte(&mut rows[found].1),
                Spoil::Hide => drop(rows.remove(found)),
            }
            is_hit = true;
        }
        if is_hit {
            self.plan.injected();
        }
        Ok(answers)
    }
}

impl FaultyRowStore<MemoryRowStore> {
    /// Wraps a disk in memory; a crash takes from it what no strict transaction has flushed.
    pub fn over(disk: MemoryRowStore, plan: FaultPlan) -> Self {
        plan.plan.borrow_mut().disks.push(disk.clone());
        Self::new(disk, plan)
    }
}

impl<R: RowStore> RowStore for FaultyRowStore<R> {
    async fn read(&self, reads: &[Read]) -> Result<Vec<KeyedRows>, ReadError> {
        match self.plan.next(&Call::Read(reads)) {
            None => Err(read_error(StorageFault::ConnectionLost)),
            Some(Fault::ReadFails(fault)) => {
                self.plan.injected();
                Err(read_error(fault))
            }
            Some(Fault::FlipByte(store, key)) => self.spoiled(reads, Spoil::Flip, store, &key).await,
            Some(Fault::MissingRow(store, key)) => self.spoiled(reads, Spoil::Hide, store, &key).await,
            Some(Fault::CrashBefore | Fault::CrashAfter) => {
                self.plan.injected();
                self.plan.crash();
                Err(read_error(StorageFault::ConnectionLost))
            }
            Some(Fault::None | Fault::AbortBefore(_) | Fault::UnknownButCommitted | Fault::UnknownNotCommitted) => {
                self.inner.read(reads).await
            }
        }
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        match self.plan.next(&Call::Commit(&txn)) {
            None => Err(aborted(StorageFault::ConnectionLost)),
            Some(Fault::AbortBefore(fault)) => {
                self.plan.injected();
                Err(aborted(fault))
            }
            Some(Fault::UnknownButCommitted) => {
                self.plan.injected();
                self.inner.commit(txn).await?;
                Err(unknown())
            }
            Some(Fault::UnknownNotCommitted) => {
                self.plan.injected();
                Err(unknown())
            }
            Some(Fault::CrashBefore) => {
                self.plan.injected();
                self.plan.crash();
                Err(aborted(StorageFault::ConnectionLost))
            }
            Some(Fault::CrashAfter) => {
                self.plan.injected();
                let result = self.inner.commit(txn).await;
                self.plan.crash();
                result.and(Err(unknown()))
            }
            Some(Fault::None | Fault::ReadFails(_) | Fault::FlipByte(..) | Fault::MissingRow(..)) => {
                self.inner.commit(txn).await
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Spoil {
    Flip,
    Hide,
}

/// Changes one ASCII byte near the middle; a row without any loses its last character.
pub fn flip_byte(row: &mut String) {
    let middle = row.len() / 2;
    let after = row.bytes().skip(middle).position(|byte| byte.is_ascii()).map(|at| middle + at);
    match after.or_else(|| row.bytes().position(|byte| byte.is_ascii())) {
        Some(at) => {
            let flipped = char::from(row.as_bytes()[at] ^ 1);
            row.replace_range(at..=at, flipped.encode_utf8(&mut [0; 4]));
        }
        None => drop(row.pop()),
    }
}

fn read_error(fault: StorageFault) -> ReadError {
    ReadError { fault, message: "injected".to_owned() }
}

fn aborted(fault: StorageFault) -> CommitError {
    CommitError::Aborted { fault, message: "injected".to_owned() }
}

fn unknown() -> CommitError {
    CommitError::Unknown { message: "injected".to_owned() }
}
