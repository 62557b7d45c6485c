//! What the client stores, as data: the intents of the log and the rows of the outbox.
//!
//! Two rows order everything that is not a blind append. Every transaction of the outbox reads, bumps and rewrites
//! [`ClientRow`]; every transaction of the base does so with the manifest ([`crate::pull::Manifest`]). A transaction
//! whose row changed under it writes nothing and starts again.

use landfall_protocol::codec::from_json;
use landfall_protocol::{
    ClientId, CollectionName, EntryId, Epoch, GroupId, Json, Map, Mutation, Object, Op, Outcome, PushMutation,
    RecordId, RecordKey, Scope, Seq, Stamp, UnixMillis, Version,
};
use serde::{Deserialize, Serialize};

fn is_false(flag: &bool) -> bool {
    !*flag
}
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// One intent: changed fields only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub scope: Scope,
    pub collection: CollectionName,
    pub id: RecordId,
    pub op: Op,
    #[serde(default, skip_serializing_if = "Object::is_empty")]
    pub set: Object,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unset: Vec<String>,
    pub stamp: Stamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupId>,
    /// Server version that the writer's view of the record stood on; 0 = "did not exist".
    pub on: Version,
    /// Of a retried entry: the id that the app knows it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<EntryId>,
    /// Of an entry queued again after a restored backup: where in its lane it belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<EntryId>,
}

impl Entry {
    pub fn key(&self) -> RecordKey {
        RecordKey { scope: self.scope.clone(), collection: self.collection.clone(), id: self.id.clone() }
    }
}

/// One commit group: what became durable together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRow {
    /// Random; finds the row again after a commit of unknown fate.
    pub commit_id: String,
    pub at: UnixMillis,
    pub entries: Vec<Entry>,
}

/// The client's side of the ledger, and the row that orders all transactions of the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRow {
    /// Grows with every transaction of the outbox.
    pub rev: u64,
    pub client_id: ClientId,
    pub user: String,
    /// The next seq to give.
    pub next_seq: Seq,
    /// All outcomes up to here are stored.
    pub acked_through: Seq,
    pub first_push: bool,
    /// Pull to head before the next push (after a fork).
    #[serde(default, skip_serializing_if = "is_false")]
    pub pull_first: bool,
    /// How often an entry was queued again by the engine itself.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub requeues: Map<EntryId, u32>,
    /// No request before this time (Retry-After), for all contexts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_until: Option<UnixMillis>,
    /// When that was said: a clock that went back since makes it void.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_at: Option<UnixMillis>,
    /// Rows touched by the last transactions, so that another context need not read them all.
    #[serde(default)]
    pub recent: Vec<(u64, Vec<String>)>,
}

impl ClientRow {
    /// No request before this time, if the clock still says when that was said.
    pub fn held_until(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.hold_until.filter(|_| self.held_at.is_none_or(|at| at <= now))
    }
}

/// One mutation with the bytes that every retry sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    pub seq: Seq,
    /// The log entries it covers, in order.
    pub entries: Vec<EntryId>,
    /// Exact bytes of the mutation.
    pub text: Json,
    /// The base it stands on, resolved where the bytes say `after`.
    pub base: Version,
    /// Given up: from now on only the void of this seq is sent.
    #[serde(default, skip_serializing_if = "is_false")]
    pub void: bool,
    /// Given up only to go again behind what a restored server lost: refused as void, its entries are queued again.
    #[serde(default, skip_serializing_if = "is_false")]
    pub again: bool,
}

impl InFlight {
    /// The mutation in the stored bytes.
    pub fn mutation(&self) -> Option<Mutation<Object>> {
        from_json(self.text.text())
    }
    /// The lowest seq of which the server must still know the outcome: of what it follows, or its own.
    pub(crate) fn needs(&self) -> Seq {
        // Few follow anything, and are worth parsing.
        let may_follow = self.text.text().as_bytes().windows(8).any(|part| part == b"\"after\":");
        let after = if may_follow { self.mutation().and_then(|mutation| mutation.after) } else { None };
        after.unwrap_or(self.seq)
    }
    /// What goes over the wire.
    pub fn wire(&self) -> Json {
        let void = self.void.then(|| Json::parse(&PushMutation::void_text(self.seq)).ok()).flatten();
        void.unwrap_or_else(|| self.text.clone())
    }
}

/// A batch with its fate open: stored before it is sent, deleted with its last outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    pub mutations: Vec<InFlight>,
    /// Answers that can be the batch's own fault.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Sends only these, to find the unit at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
}

/// A part of a batch under suspicion: mutations `from..to` by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub from: usize,
    pub to: usize,
    /// The other half failed before this one was tried.
    pub sibling_failed: bool,
}

impl Descriptor {
    pub fn new(mutations: Vec<InFlight>) -> Self {
        Self { mutations, attempts: 0, window: None }
    }
    /// What the next request carries.
    pub fn sending(&self) -> &[InFlight] {
        match self.window {
            Some(window) => self.mutations.get(window.from..window.to).unwrap_or(&self.mutations),
            None => &self.mutations,
        }
    }
}

/// How an entry ended without the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalEnd {
    /// Created and deleted before it was sent.
    Cancelled,
    Discarded,
    /// Lives on as a parked row.
    Parked,
    /// A retry took its place.
    Replaced,
}

/// A mutation with its outcome, kept for the view (overlay), the lane (base of followers) and a restored server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledMutation {
    pub key: RecordKey,
    /// The entries that ended with it. Empty when they were queued again.
    pub entries: Vec<EntryId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Json>,
    pub base: Version,
    /// Where in its lane it belonged, if not where its entries are in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<EntryId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalEnd>,
}

impl SettledMutation {
    /// Where in its lane it was. `None`: its entries go on under another seq.
    pub fn lane_place(&self) -> Option<EntryId> {
        self.place.or(self.entries.first().copied())
    }
}

/// What one transaction of the outbox decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettledRow {
    pub client_id: ClientId,
    pub epoch: Option<Epoch>,
    pub at: UnixMillis,
    pub mutations: Vec<SettledMutation>,
    /// Log rows that this transaction deleted: key and commit id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<(u64, String)>,
}

/// Why a unit waits for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub code: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, String>,
}

/// One change inside a parked unit, with the values a person compares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedChange {
    pub entry: Entry,
    /// The log entries that it stands for.
    pub entries: Vec<EntryId>,
    /// The record as the change met it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Object>,
    /// The server's record, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Object>,
}

/// A unit that needs a person: an entry, or a whole group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedRow {
    /// Public id: the first entry's (or what that one retried).
    pub id: EntryId,
    pub at: UnixMillis,
    pub reason: Reason,
    pub changes: Vec<ParkedChange>,
    /// Attempts used up rather than refused.
    #[serde(default, skip_serializing_if = "is_false")]
    pub failed: bool,
}

/// A value that lost, kept for its author (C2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictRow {
    pub seq: Seq,
    pub entry: EntryId,
    pub at: UnixMillis,
    pub key: RecordKey,
    pub op: Op,
    /// What this client wanted.
    pub set: Object,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unset: Vec<String>,
    pub outcome: Outcome,
}
