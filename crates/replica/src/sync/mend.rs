//! Rows of the outbox that can't be read: looked at once more, then set aside, before anything else is sent.

use super::STALE_MAX;
use crate::Replica;
use crate::db::{CLIENT, Touched, one, set_aside_key};
use crate::host::Host;
use landfall_core::plan::SetAside;
use landfall_core::recover::{must_fork, plan_damaged};
use landfall_core::schedule::Answer;
use landfall_protocol::{AddAll, Listed};
use landfall_storage::{Key, Read, RowStore, StoreName};
use std::cell::Cell;

impl<H: Host> Replica<H> {
    /// Sets aside batches and decisions that can't be read. True: this client goes on as another one, after a pull.
    ///
    /// Without `may_fork` it does only what leaves the client as it is. A fork is for whoever is about to push, under the
    /// lock of pushing: another context may have the row whole in its memory, and be waiting for the answer.
    pub(super) async fn mend_outbox(&self, may_fork: bool) -> Result<bool, Answer> {
        for _ in 0..STALE_MAX {
            let keys = {
                let db = self.db.borrow();
                let keys = db.unreadable();
                if keys.is_empty() || (!may_fork && must_fork(&db.state, &keys)) {
                    return Ok(false);
                }
                keys
            };
            // It may have been the read that went wrong.
            let mut reads = vec![Read::one(StoreName::Meta, Key::text(CLIENT))];
            reads.add_all(keys.iter().map(|key| Read::one(StoreName::Meta, Key::text(key.clone()))));
            let found = self.host.rows().read(&reads).await.map_err(|error| self.storage_failed(error.into()))?;
            if one(&found, 0) != self.db.borrow().client_text {
                self.catch_up().await?;
                continue;
            }
            let mut damaged = Vec::new();
            for (index, key) in keys.into_iter().enumerate() {
                let row = one(&found, index + 1);
                let mut db = self.db.borrow_mut();
                let mut touched = Touched { outbox: true, ..Touched::default() };
                touched.keys(db.apply_outbox_row(&key, row.as_deref()));
                let why = db.why_unreadable(&key);
                drop(db);
                self.changed(touched);
                match (why, row) {
                    (Some("newer"), _) => {
                        self.note_error("newer_schema", "A newer version of this app has unsent changes here. Reload.");
                        return Err(Answer::Refused);
                    }
                    (Some(_), Some(row)) => {
                        let to = set_aside_key(&key, self.host.random());
                        damaged.push(SetAside { key, row, to });
                    }
                    (None, _) | (_, None) => {}
                }
            }
            return self.commit_set_aside(damaged).await;
        }
        Err(Answer::Stale)
    }

    async fn commit_set_aside(&self, damaged: Vec<SetAside>) -> Result<bool, Answer> {
        let client_id = self.new_client_id();
        let now = self.host.now();
        let before = self.db.borrow().state.client.client_id.clone();
        let is_done = Cell::new(false);
        let plan = |replica: &Self| {
            let db = replica.db.borrow();
            // Unless another context has done so meanwhile, or has written the row anew.
            let left: Vec<SetAside> =
                damaged.iter().filter(|row| db.why_unreadable(&row.key).is_some()).cloned().listed();
            is_done.set(!left.is_empty());
            (!left.is_empty()).then(|| plan_damaged(&db.state, &db.base, left, client_id.clone(), now))
        };
        self.commit(plan).await?;
        if is_done.get() {
            self.storage.borrow_mut().set_aside.add_all(damaged.into_iter().map(|row| row.to));
        }
        Ok(self.db.borrow().state.client.client_id != before)
    }
}
