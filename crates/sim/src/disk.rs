//! A context's disk: memory, watched by the model, behind a plan of faults, each call at its own pace.

use crate::exec::{Exec, Owner};
use crate::host::cursor_of;
use crate::model::{Before, Model};
use crate::rng::Rng;
use crate::world::World;
use landfall_core::rows::{ConflictRow, ParkedRow};
use landfall_replica::db::MANIFEST;
use landfall_storage::faulty::{Call, Fault, FaultPlan, FaultyRowStore};
use landfall_storage::memory::MemoryRowStore;
use landfall_storage::{
    CommitError, Committed, Key, KeyedRows, Read, ReadError, RowKind, RowOp, RowStore, StorageFault, StoreName, Txn,
    decode,
};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

/// How often a disk fails, out of 1,000 calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFaults {
    pub abort: u32,
    pub unknown_committed: u32,
    pub unknown_not_committed: u32,
    pub read: u32,
}

/// A plan that draws faults until `is_calm` is set.
pub fn plan(
    faults: DiskFaults,
    rng: Rng,
    is_calm: Rc<Cell<bool>>,
    kinds: Rc<RefCell<BTreeSet<&'static str>>>,
) -> FaultPlan {
    let plan = FaultPlan::new();
    if faults == DiskFaults::default() {
        return plan;
    }
    plan.decide_by(move |_, call| {
        if is_calm.get() {
            return Fault::None;
        }
        let draw = rng.below(1_000) as u32;
        match call {
            Call::Read(_) if draw < faults.read => {
                kinds.borrow_mut().insert("read_failed");
                Fault::ReadFails(StorageFault::ConnectionLost)
            }
            Call::Read(_) => Fault::None,
            Call::Commit(_) => {
                let faulty = [
                    (faults.abort / 2, "row_store_abort", Fault::AbortBefore(StorageFault::ConnectionLost)),
                    (faults.abort - faults.abort / 2, "quota", Fault::AbortBefore(StorageFault::Quota)),
                    (faults.unknown_committed, "connection_lost_after_commit", Fault::UnknownButCommitted),
                    (faults.unknown_not_committed, "connection_lost_before_commit", Fault::UnknownNotCommitted),
                ];
                let mut below = 0;
                for (rate, kind, fault) in faulty {
                    below += rate;
                    if draw < below {
                        kinds.borrow_mut().insert(kind);
                        return fault;
                    }
                }
                Fault::None
            }
        }
    });
    plan
}

/// Tells the model of every transaction that was written.
#[derive(Clone)]
pub struct Watched {
    pub disk: MemoryRowStore,
    pub model: Rc<RefCell<Model>>,
    pub profile: usize,
}

impl RowStore for Watched {
    async fn read(&self, reads: &[Read]) -> Result<Vec<KeyedRows>, ReadError> {
        self.disk.read(reads).await
    }
    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let mut before = Before::default();
        for op in &txn.ops {
            let key = match op {
                RowOp::Put { store: StoreName::Meta, key, .. } | RowOp::Delete { store: StoreName::Meta, key } => key,
                _ => continue,
            };
            let Key::Text(text) = key else { continue };
            let kind = text.split('/').next().unwrap_or_default();
            if matches!(kind, "parked" | "conflict")
                && let Ok(Some(row)) = self.disk.get(StoreName::Meta, key).await
            {
                if kind == "parked" {
                    before.parked.extend(decode::<ParkedRow>(RowKind::Parked, &row).ok());
                } else if matches!(op, RowOp::Delete { .. }) {
                    before.dropped.extend(decode::<ConflictRow>(RowKind::Conflict, &row).ok());
                }
            }
        }
        if txn.name == "fork" {
            let rows = self.disk.read(&[Read::prefix(StoreName::Meta, "parked/", usize::MAX)]).await;
            let rows = rows.into_iter().flatten().flatten();
            before.kept.extend(rows.filter_map(|(_, row)| decode::<ParkedRow>(RowKind::Parked, &row).ok()));
        }
        let (name, ops) = (txn.name, txn.ops.clone());
        let committed = self.disk.commit(txn).await?;
        self.model.borrow_mut().committed(self.profile, name, &ops, &committed.log_keys, &before);
        Ok(committed)
    }
}

/// One context's handle. A call to a machine that has stopped never answers: its context is gone with it.
pub struct SimRows {
    pub store: FaultyRowStore<Watched>,
    pub exec: Exec,
    pub rng: Rng,
    /// Whose it is.
    pub world: Rc<World>,
    pub profile: usize,
    pub owner: Owner,
    /// Pages that its context has not begun to store.
    pub unstored: Rc<Cell<u32>>,
    /// Calls take up to so many milliseconds; 0: only the order is a matter of chance.
    pub slow_ms: u64,
}

impl SimRows {
    async fn pace(&self) {
        if self.slow_ms > 0 && self.rng.chance(1, 4) {
            self.exec.sleep(self.rng.between(1, self.slow_ms)).await;
        } else if self.rng.chance(1, 2) {
            self.exec.step_aside().await;
        }
    }

    /// The context may die here, with what it was about to write or to hear.
    async fn survive(&self, kind: &'static str) {
        if self.world.dies(self.profile, self.owner, kind) {
            std::future::pending::<()>().await;
        }
    }

    async fn unless_stopped(&self) {
        if self.store.plan().is_down() {
            std::future::pending::<()>().await;
        }
    }
}

impl RowStore for SimRows {
    async fn read(&self, reads: &[Read]) -> Result<Vec<KeyedRows>, ReadError> {
        self.pace().await;
        let found = self.store.read(reads).await;
        self.unless_stopped().await;
        found
    }
    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        self.pace().await;
        self.survive("died_before_commit").await;
        if txn.name == "checkpoint" {
            self.unstored.set(0);
        }
        if self.world.stores_every_page() {
            let rows = txn.ops.iter().filter_map(|op| match op {
                RowOp::Put { key: Key::Text(key), row, .. } if key == MANIFEST => Some(cursor_of(row).to_owned()),
                _ => None,
            });
            self.world.profile(self.profile).cursors.borrow_mut().extend(rows);
        }
        let owner = self.owner;
        self.world.export(|record| record.committing = owner);
        let result = self.store.commit(txn).await;
        self.unless_stopped().await;
        if let Err(CommitError::Aborted { fault: StorageFault::Quota, .. }) = &result {
            self.world.kinds.borrow_mut().insert("quota");
        }
        self.survive("died_after_commit").await;
        // Between the commit and its caller's hearing of it anything may happen.
        self.pace().await;
        result
    }
}
