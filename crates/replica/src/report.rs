//! What people and apps see of the engine: status, outbox, conflicts, reports.

use crate::Replica;
use crate::db::{Committing, commit_outbox};
use crate::error::SyncError;
use crate::host::Host;
use landfall_core::fixup::{self, FixupError};
use landfall_core::plan::OutboxTxn;
use landfall_core::rows::{ConflictRow, ParkedChange, ParkedRow, Reason};
use landfall_core::schedule::{Auth, Connectivity, Trigger};
use landfall_core::settle::{Event, local_values};
use landfall_core::view;
use landfall_protocol::codec::to_json;
use landfall_protocol::map::sort;
use landfall_protocol::{
    AddAll, CollectionName, EntryId, Listed, Object, Op, RecordId, RecordKey, Scope, Seq, Stamp, UnixMillis,
};
use landfall_storage::compact;
use landfall_storage::manifest::IndexRow;
use serde::Serialize;
use std::rc::Rc;

/// What listeners hear of, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Status,
    Enqueued,
    Progress {
        phase: &'static str,
        done: u64,
        total: u64,
    },
    /// A push or pull that sent something has ended.
    Step {
        step: &'static str,
        result: &'static str,
        ms: u64,
        tally: Tally,
        code: Option<String>,
    },
    Event(Event),
}

/// What a step came to, or all steps of this context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Entries that took effect, units that were refused, values that lost.
    pub applied: u64,
    pub rejected: u64,
    pub conflicts: u64,
    /// Records that were news.
    pub pulled: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Idle,
    Pushing,
    Pulling,
}

/// How the storage is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StorageHealth {
    /// Code and words of what failed last; `None`: all well.
    pub failed: Option<(String, String)>,
    /// Rows that could not be used and were copied aside at open.
    pub set_aside: Vec<String>,
    pub persisted: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorText {
    pub code: String,
    pub message: String,
}

landfall_protocol::wire_out!(ErrorText { code: Need, message: Need });

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StorageStatus {
    pub state: &'static str,
    pub persisted: Option<bool>,
    pub quarantined: u64,
    pub message: Option<String>,
}

landfall_protocol::wire_out!(StorageStatus { state: Need, persisted: Keep, quarantined: Need, message: Keep });

/// `db.sync.status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    pub connectivity: &'static str,
    pub phase: &'static str,
    /// Entries without an outcome, sent ones included.
    pub pending: u64,
    /// Those of them that are in flight.
    pub sending: u64,
    /// Units that need a person.
    pub parked: u64,
    pub failed: u64,
    pub conflicts: u64,
    pub last_sync: Option<u64>,
    pub last_error: Option<ErrorText>,
    pub auth: &'static str,
    pub storage: StorageStatus,
    /// Nothing was ever pulled.
    pub cold: bool,
    pub next_attempt_at: Option<u64>,
    pub needs_foreground: bool,
}

landfall_protocol::wire_out!(Status {
    connectivity: Need,
    phase: Need,
    pending: Need,
    sending: Need,
    parked: Need,
    failed: Need,
    conflicts: Need,
    last_sync: Keep,
    last_error: Keep,
    auth: Need,
    storage: Need,
    cold: Need,
    next_attempt_at: Keep,
    needs_foreground: Need
});

/// What a person's word comes to: from the rows, the time and a clock for stamps to one transaction.
type Fix<'a> = &'a dyn Fn(&crate::db::Db, UnixMillis, &mut dyn FnMut() -> Stamp) -> Result<OutboxTxn, FixupError>;

/// One line of `outbox.list()`.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxItem {
    pub id: EntryId,
    pub collection: CollectionName,
    pub scope: Scope,
    pub record: RecordId,
    pub op: Op,
    pub state: &'static str,
    pub fields: Object,
    pub created_at: Option<u64>,
    pub attempts: u32,
    pub reason: Option<Reason>,
    pub base: Option<Object>,
    pub local: Option<Object>,
    pub server: Option<Object>,
    pub group: Option<String>,
}

landfall_protocol::wire_out!(OutboxItem {
    id: Need,
    collection: Need,
    scope: Need,
    record: Need,
    op: Need,
    state: Need,
    fields: Need,
    created_at: Skip,
    attempts: Need,
    reason: Skip,
    base: Skip,
    local: Skip,
    server: Skip,
    group: Skip
});

/// One line of `conflicts.list()`: what this device wanted, and what stands.
#[derive(Clone, Debug, PartialEq)]
pub struct ConflictItem {
    pub id: EntryId,
    pub collection: CollectionName,
    pub scope: Scope,
    pub record: RecordId,
    pub at: UnixMillis,
    pub status: landfall_protocol::ResultStatus,
    pub op: Op,
    pub local: Object,
    pub server: Option<Object>,
    /// The record as the change met it, where that is known.
    pub base: Option<Object>,
    /// `author`: it waits in the outbox. `review`: somebody with a role decides.
    pub to: Option<String>,
    /// `overruled`, `reviewed`: what had taken effect, or was waiting, was undone by somebody else.
    pub code: Option<String>,
    pub seq: Seq,
}

landfall_protocol::wire_out!(ConflictItem {
    id: Need,
    collection: Need,
    scope: Need,
    record: Need,
    at: Need,
    status: Need,
    op: Need,
    local: Need,
    server: Keep,
    base: Skip,
    to: Skip,
    code: Skip,
    seq: Need
});

/// `db.inspect()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    pub database: String,
    pub client_id: String,
    pub outbox_rev: u64,
    pub base_rev: u64,
    pub next_seq: u64,
    pub acked_through: u64,
    pub log_rows: usize,
    pub entries: usize,
    pub in_flight: usize,
    pub batches: usize,
    pub settled: usize,
    pub parked: usize,
    pub conflicts: usize,
    pub oldest_pending: Option<u64>,
    /// Steps of compaction that are due, about.
    pub compaction_debt: usize,
    /// Bytes of rows in memory, about; and what they may take.
    pub memory: usize,
    pub memory_budget: usize,
    pub pairs: Vec<InspectedPair>,
    pub quarantined: Vec<crate::db::Quarantined>,
    pub set_aside: Vec<String>,
}

landfall_protocol::wire_out!(Inspection {
    database: Need,
    client_id: Need,
    outbox_rev: Need,
    base_rev: Need,
    next_seq: Need,
    acked_through: Need,
    log_rows: Need,
    entries: Need,
    in_flight: Need,
    batches: Need,
    settled: Need,
    parked: Need,
    conflicts: Need,
    oldest_pending: Keep,
    compaction_debt: Need,
    memory: Need,
    memory_budget: Need,
    pairs: Need,
    quarantined: Need,
    set_aside: Need
});

/// One pair's base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedPair {
    pub scope: Scope,
    pub collection: CollectionName,
    pub covered: Option<u64>,
    pub runs: usize,
    pub segments: u64,
    pub staged: u64,
    /// Records and tombstones.
    pub records: u64,
    /// Slots whose record has moved or changed since.
    pub dead: u64,
    pub bytes: u64,
    pub indexes: Vec<InspectedIndex>,
}

landfall_protocol::wire_out!(InspectedPair {
    scope: Need,
    collection: Need,
    covered: Keep,
    runs: Need,
    segments: Need,
    staged: Need,
    records: Need,
    dead: Need,
    bytes: Need,
    indexes: Need
});

/// One index of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedIndex {
    pub name: String,
    pub ready: bool,
    pub runs: usize,
    pub pages: u64,
    pub entries: u64,
    pub bytes: u64,
}

landfall_protocol::wire_out!(InspectedIndex {
    name: Need,
    ready: Need,
    runs: Need,
    pages: Need,
    entries: Need,
    bytes: Need
});

fn inspect_index(index: &IndexRow) -> InspectedIndex {
    InspectedIndex {
        name: index.name.clone(),
        ready: index.is_ready(),
        runs: index.live.len(),
        pages: index.live.iter().map(|run| u64::from(run.rows)).sum(),
        entries: index.live.iter().map(|run| run.live).sum(),
        bytes: index.live.iter().map(|run| run.bytes).sum(),
    }
}

/// What `sync.now()` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncReport {
    pub pushed: u64,
    pub pulled: u64,
    pub rejected: u64,
    pub pending: u64,
    pub error: Option<String>,
}

landfall_protocol::wire_out!(SyncReport { pushed: Need, pulled: Need, rejected: Need, pending: Need, error: Keep });

/// What is left after a worker's flush; decides whether the browser should try again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlushReport {
    pub sendable: u64,
    pub pending: u64,
    pub parked: u64,
    pub auth_required: bool,
    pub retry_after_ms: Option<u64>,
}

landfall_protocol::wire_out!(FlushReport {
    sendable: Need,
    pending: Need,
    parked: Need,
    auth_required: Need,
    retry_after_ms: Keep
});

pub(crate) struct Counts {
    entries: usize,
    parked: usize,
    heads: u64,
    pulled: u64,
}

impl<H: Host> Replica<H> {
    pub fn status(&self) -> Status {
        let db = self.db.borrow();
        let schedule = self.schedule.borrow();
        let storage = self.storage.borrow();
        let auth = schedule.auth();
        let paused = auth == Auth::Required || schedule.is_refused();
        let failed = db.state.parked.values().filter(|row| row.failed).count() as u64;
        let storage_state = match &storage.failed {
            None if self.is_closed() => "closed",
            None => "ok",
            Some((code, _)) if code == "quota_exceeded" => "quota",
            Some((code, _)) if code == "closed" => "closed",
            Some(_) => "storage_failed",
        };
        Status {
            connectivity: match schedule.connectivity() {
                Connectivity::Online => "online",
                Connectivity::Limited => "limited",
                Connectivity::Offline => "offline",
            },
            phase: match self.phase.get() {
                Phase::Pushing => "pushing",
                Phase::Pulling => "pulling",
                Phase::Idle if paused => "paused",
                Phase::Idle => "idle",
            },
            pending: db.pending() as u64,
            sending: db.state.sent.len() as u64,
            parked: db.state.parked.len() as u64,
            failed,
            conflicts: db.conflicts.len() as u64,
            last_sync: db.base.manifest.last_pull.map(UnixMillis::get),
            last_error: self
                .last_error
                .borrow()
                .as_ref()
                .map(|(code, message)| ErrorText { code: code.clone(), message: message.clone() }),
            auth: match auth {
                Auth::Ok => "ok",
                Auth::Refreshing => "refreshing",
                Auth::Required => "auth_required",
            },
            storage: StorageStatus {
                state: storage_state,
                persisted: storage.persisted,
                quarantined: (db.quarantined.len() + storage.set_aside.len()) as u64,
                message: storage.failed.as_ref().map(|(_, message)| message.clone()),
            },
            cold: db.base.manifest.is_cold(),
            next_attempt_at: schedule.not_before().filter(|at| *at > self.host.now()).map(UnixMillis::get),
            needs_foreground: self.needs_foreground.get(),
        }
    }

    pub(crate) fn storage_said(&self, error: &SyncError) {
        self.storage.borrow_mut().failed = Some((error.code.to_owned(), error.message.clone()));
        if error.code == "closed" {
            self.close();
        }
        self.push_change(Change::Status);
    }
    pub(crate) fn storage_ok(&self) {
        if self.storage.borrow_mut().failed.take().is_some() {
            self.push_change(Change::Status);
        }
    }

    /// The worker noted that only a person opening the app would help; that is so now, until something is sent.
    pub fn set_needs_foreground(&self, needs: bool) {
        if self.needs_foreground.replace(needs) != needs {
            self.push_change(Change::Status);
        }
    }
    /// True while writes wait for their commit.
    pub fn is_writing(&self) -> bool {
        self.pumping.get()
    }
    /// The token for the live channel, if there is one that still counts.
    pub fn live_token(&self) -> Option<String> {
        let now = self.host.now();
        let token = self.token.borrow();
        let token = token.as_ref().filter(|token| token.expires_at.is_none_or(|at| at > now))?;
        Some(token.token.clone())
    }

    /// The server can't be reached now.
    pub fn is_offline(&self) -> bool {
        self.schedule.borrow().connectivity() == Connectivity::Offline
    }

    /// A picture of the database for people and bug reports: counts and sizes, no content.
    pub fn inspect(&self) -> Inspection {
        let db = self.db.borrow();
        let manifest = &db.base.manifest;
        let pairs = manifest.pairs.iter().map(|row| InspectedPair {
            scope: row.pair.0.clone(),
            collection: row.pair.1.clone(),
            covered: row.covered.map(landfall_protocol::Position::get),
            runs: row.live.len(),
            segments: row.live.iter().map(|run| u64::from(run.rows)).sum(),
            staged: row.staged.iter().map(|run| u64::from(run.rows)).sum(),
            records: row.live_count(),
            dead: row.live.iter().map(|run| run.dead).sum(),
            bytes: row.live.iter().map(|run| run.bytes).sum(),
            indexes: row.indexes.iter().map(inspect_index).listed(),
        });
        Inspection {
            database: self.settings.database.clone(),
            client_id: db.state.client.client_id.0.clone(),
            outbox_rev: db.state.client.rev,
            base_rev: manifest.rev,
            next_seq: db.state.client.next_seq.get(),
            acked_through: db.state.client.acked_through.get(),
            log_rows: db.state.log_rows.len(),
            entries: db.pending(),
            in_flight: db.state.sent.len(),
            batches: db.state.descriptors.len(),
            settled: db.state.settled.values().map(|row| row.mutations.len()).sum(),
            parked: db.state.parked.len(),
            conflicts: db.conflicts.len(),
            oldest_pending: db.state.entries.values().filter_map(|entry| entry.stamp.millis()).min(),
            compaction_debt: compact::debt(&db.base),
            memory: db.base.bytes(),
            memory_budget: db.base.budget,
            pairs: pairs.listed(),
            quarantined: db.quarantined.values().cloned().listed(),
            set_aside: self.storage.borrow().set_aside.clone(),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        let db = self.db.borrow();
        Counts {
            entries: db.pending(),
            parked: db.state.parked.len(),
            heads: self.heads.get(),
            pulled: self.tally.get().pulled,
        }
    }

    pub(crate) fn report_since(&self, before: Counts) -> SyncReport {
        let now = self.counts();
        let error = self.last_error.borrow().as_ref().map(|(code, _)| code.clone());
        let status = self.status();
        let error = match status.auth {
            "auth_required" => Some("auth_required".to_owned()),
            _ if now.heads == before.heads => error.or_else(|| Some("offline".to_owned())),
            _ => None,
        };
        SyncReport {
            pushed: before.entries.saturating_sub(now.entries) as u64,
            pulled: now.pulled - before.pulled,
            rejected: now.parked.saturating_sub(before.parked) as u64,
            pending: now.entries as u64,
            error,
        }
    }

    pub(crate) fn flush_report(&self) -> FlushReport {
        let now = self.host.now();
        let db = self.db.borrow();
        let schedule = self.schedule.borrow();
        let held =
            db.state.client.held_until(now).into_iter().chain(schedule.not_before()).max().filter(|at| *at > now);
        let auth_required = schedule.auth() == Auth::Required;
        let can_go = !auth_required && (!db.state.descriptors.is_empty() || self.sendable(&db));
        let sendable = if can_go { db.pending() as u64 } else { 0 };
        FlushReport {
            sendable,
            pending: db.pending() as u64,
            parked: db.state.parked.len() as u64,
            auth_required,
            retry_after_ms: held.map(|at| at.get() - now.get()),
        }
    }

    /// Everything that waits, oldest first: undecided entries and parked changes.
    pub async fn outbox(&self) -> Result<Vec<OutboxItem>, SyncError> {
        self.read_log().await?;
        loop {
            let items = self.waiting();
            if !self.fetch_missed().await? {
                return Ok(items);
            }
        }
    }

    fn waiting(&self) -> Vec<OutboxItem> {
        let db = self.db.borrow();
        let mut items: Vec<OutboxItem> = Vec::new();
        for (id, entry) in &db.state.entries {
            items.push(OutboxItem {
                id: entry.origin.unwrap_or(*id),
                collection: entry.collection.clone(),
                scope: entry.scope.clone(),
                record: entry.id.clone(),
                op: entry.op,
                state: if db.state.sent.contains_key(id) { "sending" } else { "pending" },
                fields: entry.set.clone(),
                created_at: entry.stamp.millis(),
                attempts: db.state.client.requeues.get(id).copied().unwrap_or(0),
                reason: None,
                base: None,
                local: None,
                server: None,
                group: entry.group.as_ref().map(|group| group.0.clone()),
            });
        }
        for row in db.state.parked.values() {
            items.add_all(parked_items(&db, row));
        }
        sort(&mut items, &|a, b| a.id.cmp(&b.id));
        items
    }

    /// The parked unit kept under this row key, as its outbox lines.
    pub async fn parked(&self, row_key: &str) -> Vec<OutboxItem> {
        loop {
            let items = {
                let db = self.db.borrow();
                db.state.parked.get(row_key).map(|row| parked_items(&db, row)).unwrap_or_default()
            };
            // What can't be read now is left out of what the listener hears; the outbox shows it later.
            if !self.fetch_missed().await.unwrap_or(false) {
                return items;
            }
        }
    }

    /// The server's outcome of an entry, as JSON. `None`: there is none yet, or it was long ago.
    pub fn outcome(&self, id: EntryId) -> Option<String> {
        let db = self.db.borrow();
        let mut mutations = db.state.settled.values().rev().flat_map(|row| &row.mutations);
        let settled = mutations.find(|mutation| mutation.entries.contains(&id))?;
        settled.outcome.as_ref().map(to_json)
    }

    /// What waits for its author, and values that lost and are kept, newest first.
    pub fn conflicts(&self) -> Vec<ConflictItem> {
        let db = self.db.borrow();
        let mut items: Vec<ConflictItem> = db.conflicts.values().map(conflict_item).listed();
        for row in db.state.parked.values().filter(|row| fixup::asks(row)) {
            items.add_all(row.changes.iter().map(|change| asked_item(row, change)));
        }
        sort(&mut items, &|a, b| (b.at, b.seq).cmp(&(a.at, a.seq)));
        items
    }
    pub fn conflict(&self, row_key: &str) -> Option<ConflictItem> {
        self.db.borrow().conflicts.get(row_key).map(conflict_item)
    }

    /// Queues a parked unit again, with corrections if given.
    pub async fn retry(self: &Rc<Self>, id: EntryId, edits: Option<Object>) -> Result<(), SyncError> {
        self.fix(&|db, now, stamp| fixup::plan_retry(&db.state, &db.base, id, edits.as_ref(), stamp, now)).await
    }

    /// Ends a conflict by this person's word.
    pub async fn resolve(self: &Rc<Self>, id: EntryId, choice: fixup::Choice<'_>) -> Result<(), SyncError> {
        self.fix(&|db, now, stamp| fixup::plan_resolve(&db.state, &db.base, &db.conflicts, id, choice, stamp, now))
            .await
    }

    /// Gives a parked unit up, with what stands on it. Returns how many entries ended.
    pub async fn discard(self: &Rc<Self>, id: EntryId) -> Result<u64, SyncError> {
        let count = std::cell::Cell::new(0);
        self.fix(&|db, now, _| {
            let (txn, ended) = fixup::plan_discard(&db.state, &db.base, id, now)?;
            count.set(ended);
            Ok(txn)
        })
        .await?;
        Ok(count.get())
    }

    async fn fix(self: &Rc<Self>, plan: Fix<'_>) -> Result<(), SyncError> {
        self.check_open()?;
        self.read_log().await?;
        let mut tries = 0;
        while tries < 8 {
            let planned = {
                let db = self.db.borrow();
                let mut clock = db.state.hlc.clone();
                let now = self.host.now();
                plan(&db, now, &mut || clock.tick(now.get(), db.state.client.client_id.as_str()))
            };
            if self.fetch_missed().await? {
                continue;
            }
            tries += 1;
            let txn = planned.map_err(|FixupError::NotParked| {
                SyncError::new("not_parked", "No change with this id waits for a person.")
            })?;
            match commit_outbox(&self.host, &self.db, txn).await {
                Committing::Done(touched) => {
                    self.changed(touched);
                    self.enqueued();
                    self.trigger(Trigger::Resolution);
                    return Ok(());
                }
                Committing::Stale => self.refresh().await?,
                Committing::Failed(error) => return Err(error.into()),
            }
        }
        Err(landfall_storage::CommitError::Stale {
            store: landfall_storage::StoreName::Meta,
            key: landfall_storage::Key::text(crate::db::CLIENT),
        }
        .into())
    }
}

fn parked_items(db: &crate::db::Db, row: &ParkedRow) -> Vec<OutboxItem> {
    row.changes
        .iter()
        .map(|change| {
            let key: RecordKey = change.entry.key();
            let now = view::server_view(&db.state, &db.base, &key).and_then(view::Seen::into_fields);
            OutboxItem {
                id: change.entry.origin.or(change.entries.first().copied()).unwrap_or(row.id),
                collection: key.collection.clone(),
                scope: key.scope.clone(),
                record: key.id.clone(),
                op: change.entry.op,
                state: if row.failed { "failed" } else { "parked" },
                fields: change.entry.set.clone(),
                created_at: change.entry.stamp.millis(),
                attempts: 0,
                reason: Some(row.reason.clone()),
                base: change.base.clone(),
                local: Some(local_values(change.base.as_ref(), &change.entry)),
                server: change.server.clone().or(now),
                group: change.entry.group.as_ref().map(|group| group.0.clone()),
            }
        })
        .listed()
}

fn conflict_item(row: &ConflictRow) -> ConflictItem {
    ConflictItem {
        id: row.entry,
        collection: row.key.collection.clone(),
        scope: row.key.scope.clone(),
        record: row.key.id.clone(),
        at: row.at,
        status: row.outcome.status,
        op: row.op,
        local: row.set.clone(),
        server: row.outcome.record.clone(),
        base: None,
        to: row.outcome.to.clone(),
        code: row.outcome.code.clone(),
        seq: row.seq,
    }
}

fn asked_item(row: &ParkedRow, change: &ParkedChange) -> ConflictItem {
    let entry = &change.entry;
    ConflictItem {
        id: entry.origin.or(change.entries.first().copied()).unwrap_or(row.id),
        collection: entry.collection.clone(),
        scope: entry.scope.clone(),
        record: entry.id.clone(),
        at: row.at,
        status: landfall_protocol::ResultStatus::Conflict,
        op: entry.op,
        local: entry.set.clone(),
        server: change.server.clone(),
        base: change.base.clone(),
        to: Some("author".to_owned()),
        code: None,
        seq: Seq::ZERO,
    }
}
