//! Appending: a commit group becomes rows of the log in one blind transaction.
//!
//! A group rejects only when its rows are known to be absent (L3); of a commit of unknown fate that is found out first.

use crate::Replica;
use crate::db::{Touched, refresh};
use crate::error::SyncError;
use crate::host::{Host, Notice};
use crate::room::give_up;
use landfall_core::plan::ROW_ENTRIES_MAX;
use landfall_core::plant::{Plant, planted};
use landfall_core::rows::{Entry, LogRow, SettledRow};
use landfall_protocol::codec::hex;
use landfall_protocol::{AddAll, EntryId, Listed, Map, Op};
use landfall_storage::{
    CommitError, Committed, Durability, Key, RowKind, RowOp, RowStore, StorageFault, StoreName, Txn, decode, encode,
};

/// Bytes of one log row.
const ROW_BYTES_MAX: usize = 60 * 1024;

impl<H: Host> Replica<H> {
    /// Cuts a commit group into rows of bounded count and size.
    pub(super) fn rows_of(&self, entries: Vec<Entry>) -> Vec<LogRow> {
        let mut rows: Vec<LogRow> = Vec::new();
        let mut bytes = 0;
        for entry in entries {
            let size = entry_bytes(&entry);
            let fits =
                rows.last().is_some_and(|row| row.entries.len() < ROW_ENTRIES_MAX && bytes + size <= ROW_BYTES_MAX);
            if !fits {
                let commit_id = hex(self.host.random());
                rows.push(LogRow { commit_id, at: self.host.now(), entries: Vec::new() });
                bytes = 0;
            }
            bytes += size;
            if let Some(row) = rows.last_mut() {
                row.entries.push(entry);
            }
        }
        rows
    }

    /// Appends rows in one transaction; finds out what became of it when the connection goes away.
    pub(super) async fn append(&self, rows: Vec<LogRow>) -> Result<(Vec<EntryId>, Touched), SyncError> {
        let mut txn = Txn::new("append", if self.relaxed { Durability::Relaxed } else { Durability::Strict });
        txn.ops.add_all(rows.iter().map(|row| RowOp::Append { row: encode(RowKind::Log, row) }));
        let after = self.db.borrow().log_key;
        let mut attempts = 0;
        // Who deletes makes room, if not at once.
        let mut is_small = rows.iter().flat_map(|row| &row.entries).all(|entry| entry.op == Op::Delete);
        let log_keys = loop {
            match self.host.rows().commit(txn.clone()).await {
                Ok(Committed { log_keys }) => break log_keys,
                Err(CommitError::Aborted { fault: StorageFault::ConnectionLost, .. }) if attempts < 3 => attempts += 1,
                Err(CommitError::Unknown { message }) => {
                    if planted(Plant::UnknownIsRejected) {
                        return Err(SyncError::storage(StorageFault::ConnectionLost, &message));
                    }
                    if !planted(Plant::HealAppendsTwice) {
                        match self.find_commits(&rows, after).await {
                            Ok(Some(keys)) => break keys,
                            Ok(None) => {}
                            // Neither known to be there nor to be absent: the promise stays open until it is known.
                            Err(_) => return self.wait_for_fate(rows, after, txn).await,
                        }
                    }
                    attempts += 1;
                    if attempts > 3 {
                        return Err(SyncError::storage(StorageFault::ConnectionLost, &message));
                    }
                }
                Err(error) if std::mem::take(&mut is_small) && give_up(&self.host, &self.db, &error).await => {}
                Err(error) => return Err(error.into()),
            }
        };
        self.adopt_rows(rows, log_keys).await
    }

    /// While the storage can't be read, a commit of unknown fate is neither resolved nor rejected.
    async fn wait_for_fate(
        &self,
        rows: Vec<LogRow>,
        after: u64,
        txn: Txn,
    ) -> Result<(Vec<EntryId>, Touched), SyncError> {
        self.storage_said(&SyncError::storage(
            StorageFault::ConnectionLost,
            "the fate of the last write is not known yet",
        ));
        loop {
            self.host.pause(1_000).await;
            if self.is_closed() {
                return Err(SyncError::closed());
            }
            let keys = match self.find_commits(&rows, after).await {
                Ok(Some(keys)) => keys,
                Ok(None) => match self.host.rows().commit(txn.clone()).await {
                    Ok(Committed { log_keys }) => log_keys,
                    Err(CommitError::Unknown { .. }) => continue,
                    Err(error) => return Err(error.into()),
                },
                Err(_) => continue,
            };
            self.storage_ok();
            return self.adopt_rows(rows, keys).await;
        }
    }

    /// Takes own rows into the memory, in log order: rows that others wrote in between come first.
    async fn adopt_rows(&self, rows: Vec<LogRow>, log_keys: Vec<u64>) -> Result<(Vec<EntryId>, Touched), SyncError> {
        let mut ids = Vec::new();
        for (row, key) in rows.iter().zip(&log_keys) {
            ids.add_all((0..row.entries.len()).map(|index| EntryId::at(*key, index)));
        }
        let mut touched = Touched { outbox: true, ..Touched::default() };
        let gap = log_keys.first().is_some_and(|first| *first > self.db.borrow().log_key + 1);
        if gap {
            // Durable all the same: what can't be read now is read by the next step.
            match refresh(&self.host, &self.db).await {
                Ok(more) => touched.merge(more),
                Err(_) => self.host.wake(),
            }
        }
        let mut db = self.db.borrow_mut();
        for (row, key) in rows.into_iter().zip(&log_keys) {
            if *key > db.log_key {
                db.state.add_log_row(*key, &row.commit_id, row.entries, &mut |key| touched.key(key));
                // Over a gap that could not be read the mark does not jump, or others' rows in it were never seen.
                if *key == db.log_key + 1 {
                    db.log_key = *key;
                }
            }
        }
        if let Some(last) = log_keys.last() {
            self.host.notice(&Notice::Log { key: *last });
        }
        Ok((ids, touched))
    }

    /// Looks for commit groups of unknown fate: past the last key known before, and among the rows deleted since.
    /// `Ok(None)`: they are absent, for sure.
    async fn find_commits(&self, rows: &[LogRow], after: u64) -> Result<Option<Vec<u64>>, SyncError> {
        let mut found: Map<String, u64> = Map::new();
        let mut from = after + 1;
        loop {
            let part =
                self.host.rows().range(StoreName::Log, &Key::Number(from), &Key::Number(u64::MAX >> 11), 500).await?;
            let full = part.len() == 500;
            for (key, text) in part {
                let Key::Number(key) = key else { continue };
                from = key + 1;
                if let Ok(row) = decode::<LogRow>(RowKind::Log, &text) {
                    found.insert(row.commit_id, key);
                }
            }
            if !full {
                break;
            }
        }
        // The rows went in one transaction, so one of them speaks for all, and their keys follow each other.
        let one = rows.iter().enumerate().find_map(|(at, row)| Some((at as u64, *found.get(&row.commit_id)?)));
        if let Some((at, key)) = one {
            return Ok(Some((0..rows.len() as u64).map(|index| key - at + index).listed()));
        }
        // Another context may have sent, settled and deleted them already.
        let settled = self
            .host
            .rows()
            .range(StoreName::Meta, &Key::text("acked/"), &Key::after_prefix("acked/"), usize::MAX >> 1)
            .await?;
        let wanted = &rows.first().map(|row| row.commit_id.clone()).unwrap_or_default();
        for (_, text) in settled {
            if let Ok(row) = decode::<SettledRow>(RowKind::Acked, &text)
                && let Some((first, _)) = row.gone.iter().find(|(_, commit_id)| commit_id == wanted)
            {
                return Ok(Some((0..rows.len() as u64).map(|index| first + index).listed()));
            }
        }
        Ok(None)
    }
}

/// Bytes of an entry in the log, about.
pub(super) fn entry_bytes(entry: &Entry) -> usize {
    entry.set.text().len() + entry.unset.iter().map(|name| name.len() + 3).sum::<usize>() + 200
}
