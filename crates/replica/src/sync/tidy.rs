//! Compaction, when nothing else is due: in slices between which readers have their turn, or in a worker.

use super::READING_MS;
use crate::Replica;
use crate::host::{Host, LockWait};
use landfall_core::schedule::Answer;
use landfall_protocol::UnixMillis;
use landfall_storage::compact::{debt, plan_step};
use landfall_storage::ingest::{is_declared, plan_declare};

/// Steps of compaction in a row; between such rows other work has its turn.
const COMPACT_STEPS: usize = 2;
/// From one step to the next while somebody reads, and from opening to the first.
const TIDY_WHILE_READ_MS: u64 = 1_000;
/// So many steps are worth the start of a worker.
const WORKER_STEPS_MIN: usize = 8;
/// How long it may take to begin, before the page begins itself; and how long it is not asked again.
const WORKER_START_MS: u64 = 1_000;
const WORKER_ASK_MS: u64 = 15_000;
/// How long it goes on.
const WORKER_TIDY_MS: u64 = 10_000;
/// Between two slices, so that the context is not kept busy.
const PAUSE_MS: u64 = 10;

impl<H: Host> Replica<H> {
    /// A slice of compaction, unless another context is at it. Gives when to look again, ms from now; `None`: nothing is due.
    pub(super) async fn tidy(&self) -> Option<u64> {
        // Readers wait for nothing of it. What fails now is due again later.
        if !self.is_closed() && self.index_lanes().await.unwrap_or(false) {
            return Some(PAUSE_MS);
        }
        let steps = self.tidy_steps();
        if steps == 0 {
            return None;
        }
        let pause = if self.is_read() { READING_MS } else { PAUSE_MS };
        let now = self.host.now().get();
        // A search begins anew when its rows move. Whoever reads all the time lets a step through now and then.
        if self.reading.get() > 0 || (self.is_read() && now.abs_diff(self.tidied.get()) < TIDY_WHILE_READ_MS) {
            return Some(pause);
        }
        if steps >= WORKER_STEPS_MIN
            && now.abs_diff(self.asked_worker.get()) > WORKER_ASK_MS
            && self.host.tidies_elsewhere()
        {
            self.asked_worker.set(now);
            return Some(WORKER_START_MS);
        }
        self.tidied.set(now);
        let _lock = self.host.lock(&self.lock_name("compact"), LockWait::IfFree).await?;
        // What fails now is due again later.
        self.compact().await.unwrap_or(false).then_some(pause)
    }

    /// Steps of compaction that are due, about.
    fn tidy_steps(&self) -> usize {
        let db = self.db.borrow();
        match self.is_closed() {
            true => 0,
            false => debt(&db.base) + usize::from(!is_declared(&db.base, &self.settings.schema)),
        }
    }

    /// What a page asked a worker for: compaction until nothing is due, or for a bounded time. Nobody else takes its turn
    /// meanwhile; a page that waited for this would do it itself.
    pub(super) async fn tidy_for_pages(&self) {
        let until = UnixMillis(self.host.now().get() + WORKER_TIDY_MS);
        let _ = self.index_lanes().await;
        if self.tidy_steps() == 0 {
            return;
        }
        let Some(_lock) = self.host.lock(&self.lock_name("compact"), LockWait::IfFree).await else { return };
        while self.host.now() < until && self.tidy_steps() > 0 && self.compact().await.unwrap_or(false) {
            self.host.pause(PAUSE_MS).await;
        }
    }

    /// Some steps of compaction, if they are due. True: there are more.
    pub async fn compact(&self) -> Result<bool, Answer> {
        for _ in 0..if self.is_read() { 1 } else { COMPACT_STEPS } {
            let plan = loop {
                let plan = {
                    let base = &self.db.borrow().base;
                    let (schema, now) = (&self.settings.schema, self.host.now());
                    match plan_declare(base, schema, now) {
                        Some(plan) => Ok(Some(plan)),
                        None => plan_step(base, schema, now),
                    }
                };
                if let Ok(plan) = plan {
                    break plan;
                }
                self.missed().await?;
            };
            match plan {
                Some(plan) => self.commit_base_plan(plan).await?,
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}
