//! Room that is kept back for a full device: when the filler row is written, and who may have its room.
//!
//! What empties the outbox may: batches, outcomes, what a person decides, deletes, the token. A write of the app may not,
//! nor a pull: they would use it up and be refused all the same.

use crate::Replica;
use crate::db::Db;
use crate::host::Host;
use landfall_protocol::UnixMillis;
use landfall_storage::{CommitError, RowStore, StorageFault, Txn, filler};
use std::cell::RefCell;
use std::pin::Pin;

/// A context that was just opened has better things to do, ms.
pub(crate) const FIRST_LOOK_MS: u64 = 5_000;
/// The row is there, unless another context gives it up, ms.
const LOOK_MS: u64 = 3_600_000;
/// There was no room for it, ms.
const LOOK_AGAIN_MS: u64 = 60_000;
/// Somebody reads, ms.
const BUSY_MS: u64 = 1_000;

/// Gives the row up for what failed with `error`. True: that is worth another try.
///
/// Boxed, so that those who commit do not each hold this machine.
pub(crate) fn give_up<'a, H: Host>(host: &'a H, db: &'a RefCell<Db>, error: &CommitError) -> Trying<'a> {
    let is_full = matches!(error, CommitError::Aborted { fault: StorageFault::Quota, .. });
    Box::pin(async move {
        if is_full {
            db.borrow_mut().is_tight = true;
        }
        is_full && host.rows().commit(filler::give_up()).await.is_ok()
    })
}

type Trying<'a> = Pin<Box<dyn Future<Output = bool> + 'a>>;

impl<H: Host> Replica<H> {
    /// Commits what must be stored also on a full device, and may be written twice: of unknown fate it is written again.
    pub async fn commit_small(&self, txn: Txn) -> Result<(), CommitError> {
        let mut tries = 3;
        loop {
            let Err(error) = self.host.rows().commit(txn.clone()).await else { return Ok(()) };
            tries -= 1;
            let is_unknown = matches!(error, CommitError::Unknown { .. });
            if tries == 0 || !(is_unknown || give_up(&self.host, &self.db, &error).await) {
                return Err(error);
            }
        }
    }

    /// When nothing else is due: sees to it that the row is there. Gives when to look again, or `until` if that is sooner.
    pub(crate) async fn keep_room(&self, until: Option<UnixMillis>) -> Option<UnixMillis> {
        let bytes = self.settings.filler_bytes;
        if bytes == 0 || !self.has_written() {
            return until;
        }
        let now = self.host.now().get();
        if self.db.borrow().is_tight {
            self.room_look.set(self.room_look.get().min(now + LOOK_AGAIN_MS));
        }
        if self.room_look.get() <= now {
            let wait = if self.is_read() { BUSY_MS } else { self.fill_room(bytes).await };
            self.room_look.set(now + wait);
        }
        let look = UnixMillis(self.room_look.get());
        Some(until.map_or(look, |at| at.min(look)))
    }

    /// Writes the row if it is not there.
    async fn fill_room(&self, bytes: usize) -> u64 {
        let kept = self.host.rows().commit(filler::keep(bytes, self.host.random())).await;
        if !matches!(kept, Ok(_) | Err(CommitError::Stale { .. })) {
            return LOOK_AGAIN_MS;
        }
        self.db.borrow_mut().is_tight = false;
        LOOK_MS
    }

    /// Who only reads needs no room.
    fn has_written(&self) -> bool {
        let db = self.db.borrow();
        db.pending() > 0 || db.state.client.next_seq.get() > 1
    }
}
