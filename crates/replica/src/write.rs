//! Writing: from what the app asks to entries, and from entries to one blind append a commit group.
//!
//! One transaction is in flight; writes that arrive meanwhile form the next group. A write resolves when its row is
//! durable (L1) and rejects only when the row is known to be absent (L3).

use crate::Replica;
use crate::db::{Touched, refresh};
use crate::error::SyncError;
use crate::host::{Host, Notice};
use futures_channel::oneshot;
use landfall_core::plan::ROW_ENTRIES_MAX;
use landfall_core::plant::{Plant, planted};
use landfall_core::rows::{Entry, LogRow, SettledRow};
use landfall_core::schedule::Trigger;
use landfall_core::view::{self, Seen};
use landfall_protocol::codec::{Kind, ToJson, write_object};
use landfall_protocol::{
    CollectionName, EntryId, GroupId, Json, Map, Object, Op, RecordId, RecordKey, Scope, Version, check_depth, limits,
    same_value,
};
use landfall_storage::{
    CommitError, Committed, Durability, Key, RowKind, RowOp, RowStore, StorageFault, StoreName, Txn, decode, encode,
};
use std::rc::Rc;

/// What the app asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    /// The record is this, whatever was there.
    Put,
    /// As put, and refused when it is there.
    Create,
    /// These fields, of a record that is there.
    Update,
    Delete,
}

landfall_protocol::wire_names!(WriteKind { Put: "put", Create: "create", Update: "update", Delete: "delete" });

/// One write of the app. `fields` is the JSON text of an object without the id.
#[derive(Clone, Debug)]
pub struct WriteOp {
    pub op: WriteKind,
    pub collection: CollectionName,
    pub scope: Option<Scope>,
    pub id: Option<RecordId>,
    pub fields: Option<Json>,
}

landfall_protocol::wire_in!(WriteOp { op: Need, collection: Need, scope: Keep, id: Keep, fields: Keep });

/// What became of a write: where it is in the log, or that it changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub id: RecordId,
    pub scope: Scope,
    pub entry: Option<EntryId>,
}

landfall_protocol::wire_out!(Written { id: Need, scope: Need, entry: Keep });

/// The answer to one write of several that need not stand together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteAnswer {
    Done(Written),
    Refused { error: SyncError },
}

impl ToJson for WriteAnswer {
    fn write(&self, out: &mut String) {
        match self {
            Self::Done(written) => written.write(out),
            Self::Refused { error } => write_object(out, &[("error", Kind::Need)], &[error]),
        }
    }
}

/// Bytes of one log row.
const ROW_BYTES_MAX: usize = 60 * 1024;

/// Entries that wait for their commit group, and who waits for them.
pub struct Pending {
    pub entries: Vec<Rc<Entry>>,
    done: oneshot::Sender<Result<Vec<EntryId>, SyncError>>,
}

impl<H: Host> Replica<H> {
    /// Stores writes that stand for themselves: one that is refused leaves the others alone. Resolves when all that
    /// were not refused are durable.
    pub async fn write_each(self: &Rc<Self>, ops: Vec<Result<WriteOp, SyncError>>) -> Vec<WriteAnswer> {
        let mut waiting = Vec::new();
        for op in ops {
            let queued = op.and_then(|op| {
                self.check_open()?;
                self.enqueue(vec![op], false)
            });
            waiting.push(queued);
        }
        let mut answers = Vec::new();
        for queued in waiting {
            let answer = match queued {
                Ok((waiting, written)) => settle(waiting, written).await.map(|mut written| written.pop()),
                Err(error) => Err(error),
            };
            answers.push(match answer {
                Ok(Some(written)) => WriteAnswer::Done(written),
                Ok(None) => WriteAnswer::Refused { error: SyncError::closed() },
                Err(error) => WriteAnswer::Refused { error },
            });
        }
        answers
    }

    /// Stores the writes; resolves when they are durable. `atomic`: all or none, here and at the server.
    pub async fn write(self: &Rc<Self>, ops: Vec<WriteOp>, atomic: bool) -> Result<Vec<Written>, SyncError> {
        self.check_open()?;
        let (waiting, written) = self.enqueue(ops, atomic)?;
        settle(waiting, written).await
    }

    /// Turns writes into entries on the view as it is now, queued ones included. Nothing is queued if one of them is wrong.
    #[allow(clippy::type_complexity)] // Named parts would say no more.
    fn enqueue(
        self: &Rc<Self>,
        ops: Vec<WriteOp>,
        atomic: bool,
    ) -> Result<(Option<oneshot::Receiver<Result<Vec<EntryId>, SyncError>>>, Vec<Written>), SyncError> {
        let mut written = Vec::new();
        let mut entries: Vec<Entry> = Vec::new();
        let group = (atomic && ops.len() > 1).then(|| GroupId(self.uuid()));
        let mut immediate = false;
        for op in ops {
            immediate |= self.config.collections.get(&op.collection).is_some_and(|collection| collection.immediate);
            let (key, entry) = self.entry(op, &entries, group.clone())?;
            written.push(Written { id: key.id, scope: key.scope, entry: entry.as_ref().map(|_| EntryId(0)) });
            entries.extend(entry);
        }
        if group.is_some() {
            check_group(&entries)?;
        }
        let waiting_count = self.db.borrow().state.entries.len() + self.queued_count.get();
        if waiting_count + entries.len() > limits::OUTBOX_COUNT_MAX {
            return Err(SyncError::new("outbox_full", "Too many changes wait to be sent. Nothing was stored."));
        }
        if entries.is_empty() {
            return Ok((None, written));
        }
        // A group of one needs no atomicity; one that shrank to one entry neither.
        if entries.len() == 1 {
            entries[0].group = None;
        }
        let (done, waiting) = oneshot::channel();
        let entries: Vec<Rc<Entry>> = entries.into_iter().map(Rc::new).collect();
        self.queued_count.set(self.queued_count.get() + entries.len());
        for entry in &entries {
            self.queued.borrow_mut().entry(entry.key()).or_default().push(Rc::clone(entry));
        }
        self.queue.borrow_mut().push(Pending { entries, done });
        self.schedule.borrow_mut().handle(self.host.now(), Trigger::Write { immediate });
        if !self.pumping.replace(true) {
            let replica = Rc::clone(self);
            self.host.spawn(Box::pin(async move { replica.pump().await }));
        }
        Ok((Some(waiting), written))
    }

    fn entry(
        &self,
        op: WriteOp,
        earlier: &[Entry],
        group: Option<GroupId>,
    ) -> Result<(RecordKey, Option<Entry>), SyncError> {
        if !self.config.collections.contains_key(&op.collection) {
            return Err(SyncError::new(
                "unknown_collection",
                format!("No collection {} was declared at open.", op.collection),
            ));
        }
        let fields = match op.fields {
            Some(fields) => checked(fields)?,
            None => Object::new(),
        };
        let id = match op.id {
            Some(id) if id.as_str().len() > limits::ID_BYTES_MAX => {
                return Err(SyncError::new("id_too_long", "An id has at most 128 bytes."));
            }
            Some(id) if !id.as_str().is_empty() => id,
            _ => RecordId(self.uuid()),
        };
        let scope = match (op.scope, op.op) {
            (Some(scope), _) => scope,
            (None, WriteKind::Put | WriteKind::Create) => {
                self.config.scope_of(&op.collection, &fields).ok_or_else(|| {
                    SyncError::new("missing_scope_field", "A field that the record's scope is made of is missing.")
                })?
            }
            (None, WriteKind::Update | WriteKind::Delete) => self.find_scope(&op.collection, &id)?,
        };
        let key = RecordKey { scope, collection: op.collection, id };
        let now = self.host.now();
        let mut db = self.db.borrow_mut();
        let queued = self.queued.borrow();
        let queued = queued.get(&key).into_iter().flatten().map(Rc::as_ref);
        let earlier = queued.chain(earlier.iter().filter(|entry| entry.id == key.id && entry.key() == key));
        let seen = view::view_with(&db.state, &db.base, &key, &earlier.collect::<Vec<_>>());
        // Of an undecided entry a version is never known: it is the server's.
        let on = seen.as_ref().map_or(Version::ZERO, |seen| seen.version);
        let Some((op, set, unset)) = intent(op.op, seen.filter(|seen| !seen.deleted), fields)? else {
            return Ok((key, None));
        };
        let client = db.state.client.client_id.0.clone();
        let stamp = db.state.hlc.tick(now.get(), &client);
        let entry = Entry {
            scope: key.scope.clone(),
            collection: key.collection.clone(),
            id: key.id.clone(),
            op,
            set,
            unset,
            stamp,
            group,
            on,
            origin: None,
            place: None,
        };
        Ok((key, Some(entry)))
    }

    /// The scope of a record that was named without one.
    pub(crate) fn find_scope(&self, collection: &CollectionName, id: &RecordId) -> Result<Scope, SyncError> {
        let default = self.config.scope_of(collection, &Object::new());
        let mut scopes = self.scopes_with(&self.db.borrow(), collection, id);
        match (scopes.pop(), scopes.is_empty()) {
            (Some(scope), true) => Ok(scope),
            (Some(_), false) => {
                Err(SyncError::new("ambiguous_id", "Two scopes have a record with this id; name the scope."))
            }
            (None, _) => default.ok_or_else(|| SyncError::new("not_found", "There is no such record.")),
        }
    }

    /// Commits queued writes, group after group, until none is left.
    async fn pump(self: Rc<Self>) {
        loop {
            let pending = std::mem::take(&mut *self.queue.borrow_mut());
            if pending.is_empty() {
                self.pumping.set(false);
                return;
            }
            let rows = self.rows_of(&pending);
            if planted(Plant::AckBeforeComplete) {
                self.pump_without_waiting(pending, rows);
                continue;
            }
            let result = self.append(rows).await;
            self.unqueue(&pending);
            match result {
                Ok((ids, touched)) => {
                    let mut ids = ids.into_iter();
                    for Pending { entries, done } in pending {
                        let own: Vec<EntryId> = ids.by_ref().take(entries.len()).collect();
                        // The caller may be gone; the write is durable all the same.
                        let _ = done.send(Ok(own));
                    }
                    self.changed(touched);
                    self.storage_ok();
                    if self.queue.borrow().is_empty() {
                        self.enqueued();
                    }
                }
                Err(error) => {
                    // Writes behind it may stand on what was not stored: none of them is visible, all of them say so.
                    let behind = std::mem::take(&mut *self.queue.borrow_mut());
                    self.unqueue(&behind);
                    for Pending { done, .. } in pending.into_iter().chain(behind) {
                        let _ = done.send(Err(error.clone()));
                    }
                    self.storage_said(&error);
                }
            }
        }
    }

    /// What was queued is in the log now, or never will be.
    fn unqueue(&self, pending: &[Pending]) {
        let mut queued = self.queued.borrow_mut();
        for entry in pending.iter().flat_map(|pending| &pending.entries) {
            self.queued_count.set(self.queued_count.get() - 1);
            let key = entry.key();
            if let Some(entries) = queued.get_mut(&key) {
                entries.retain(|other| !Rc::ptr_eq(other, entry));
                if entries.is_empty() {
                    queued.remove(&key);
                }
            }
        }
    }

    /// Cuts a commit group into rows of bounded count and size.
    fn rows_of(&self, pending: &[Pending]) -> Vec<LogRow> {
        let mut rows: Vec<LogRow> = Vec::new();
        let mut bytes = 0;
        for entry in pending.iter().flat_map(|pending| &pending.entries) {
            let size = entry_bytes(entry);
            let fits =
                rows.last().is_some_and(|row| row.entries.len() < ROW_ENTRIES_MAX && bytes + size <= ROW_BYTES_MAX);
            if !fits {
                let commit_id = format!("{:016x}", self.host.random());
                rows.push(LogRow { commit_id, at: self.host.now(), entries: Vec::new() });
                bytes = 0;
            }
            bytes += size;
            if let Some(row) = rows.last_mut() {
                row.entries.push(Entry::clone(entry));
            }
        }
        rows
    }

    /// The planted bug: resolves first, stores later.
    fn pump_without_waiting(self: &Rc<Self>, pending: Vec<Pending>, rows: Vec<LogRow>) {
        self.unqueue(&pending);
        for Pending { entries, done } in pending {
            let _ = done.send(Ok(entries.iter().map(|_| EntryId(0)).collect()));
        }
        let replica = Rc::clone(self);
        self.host.spawn(Box::pin(async move {
            if let Ok((_, touched)) = replica.append(rows).await {
                replica.changed(touched);
            }
        }));
    }

    /// Appends rows in one transaction; finds out what became of it when the connection goes away.
    async fn append(&self, rows: Vec<LogRow>) -> Result<(Vec<EntryId>, Touched), SyncError> {
        let mut txn = Txn::new("append", if self.relaxed { Durability::Relaxed } else { Durability::Strict });
        txn.ops = rows.iter().map(|row| RowOp::Append { row: encode(RowKind::Log, row) }).collect();
        let after = self.db.borrow().log_key;
        let mut attempts = 0;
        let log_keys = loop {
            match self.host.rows().commit(txn.clone()).await {
                Ok(Committed { log_keys }) => break log_keys,
                Err(CommitError::Aborted { fault: StorageFault::ConnectionLost, .. }) if attempts < 3 => attempts += 1,
                Err(CommitError::Unknown { message }) => {
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
            ids.extend((0..row.entries.len()).map(|index| EntryId::at(*key, index)));
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
                touched.keys(db.state.add_log_row(*key, &row.commit_id, row.entries));
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
            return Ok(Some((0..rows.len() as u64).map(|index| key - at + index).collect()));
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
                return Ok(Some((0..rows.len() as u64).map(|index| first + index).collect()));
            }
        }
        Ok(None)
    }
}

/// Waits for the log positions of queued writes.
async fn settle(
    waiting: Option<oneshot::Receiver<Result<Vec<EntryId>, SyncError>>>,
    mut written: Vec<Written>,
) -> Result<Vec<Written>, SyncError> {
    let Some(waiting) = waiting else { return Ok(written) };
    let mut ids = waiting.await.unwrap_or_else(|_| Err(SyncError::closed()))?.into_iter();
    for written in written.iter_mut().filter(|written| written.entry.is_some()) {
        written.entry = ids.next();
    }
    Ok(written)
}

fn check_group(entries: &[Entry]) -> Result<(), SyncError> {
    if entries.len() > limits::GROUP_COUNT_MAX {
        return Err(SyncError::new("group_too_large", "A transaction holds at most 100 writes."));
    }
    let bytes: usize = entries.iter().map(entry_bytes).sum();
    if bytes > limits::GROUP_BYTES_MAX {
        return Err(SyncError::new("group_too_large", "A transaction holds at most 256 KB."));
    }
    if entries.windows(2).any(|pair| pair[0].scope != pair[1].scope) {
        return Err(SyncError::new("group_crosses_scopes", "All records of a transaction belong to one scope."));
    }
    Ok(())
}

/// The fields of a write, if they are an object that may be stored.
fn checked(fields: Json) -> Result<Object, SyncError> {
    if fields.text().len() > limits::RECORD_BYTES_MAX {
        return Err(SyncError::new("record_too_large", "A record has at most 256 KB of JSON."));
    }
    if check_depth(fields.text(), limits::JSON_DEPTH_MAX).is_err() {
        return Err(SyncError::new("invalid_record", "A record nests at most 64 levels and names no key twice."));
    }
    Object::from_json(fields).ok_or_else(|| SyncError::new("invalid_record", "A record is a JSON object."))
}

/// The change that the app means, as a patch of what it sees. `None`: nothing changes.
#[allow(clippy::type_complexity)]
fn intent(kind: WriteKind, seen: Option<Seen>, fields: Object) -> Result<Option<(Op, Object, Vec<String>)>, SyncError> {
    Ok(match (kind, seen) {
        (WriteKind::Put | WriteKind::Create, None) => Some((Op::Create, fields, Vec::new())),
        (WriteKind::Create, Some(_)) => {
            return Err(SyncError::new("already_exists", "A record with this id is already there."));
        }
        (WriteKind::Put | WriteKind::Update, Some(seen)) => {
            let (old, mut new) = (seen.fields.parts(), fields.parts());
            let mut unset = Vec::new();
            if kind == WriteKind::Put {
                let gone = old.keys().filter(|name| !new.contains_key(name.as_ref()));
                unset.extend(gone.map(|name| name.clone().into_owned()));
            }
            new.retain(|name, value| !old.get(name.as_ref()).is_some_and(|old| same_value(old, value)));
            (!new.is_empty() || !unset.is_empty()).then(|| (Op::Update, Object::from(&new), unset))
        }
        (WriteKind::Update, None) => return Err(SyncError::new("not_found", "There is no such record.")),
        (WriteKind::Delete, None) => None,
        (WriteKind::Delete, Some(_)) => Some((Op::Delete, Object::new(), Vec::new())),
    })
}

fn entry_bytes(entry: &Entry) -> usize {
    entry.set.text().len() + entry.unset.iter().map(|name| name.len() + 3).sum::<usize>() + 200
}
