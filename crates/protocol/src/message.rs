//! The messages: push, pull, status and the live channel (docs/protocol.md).

use crate::codec::{ToJson, from_json, to_json, write_object};
use crate::{
    ClientId, CollectionName, EntryId, Epoch, Fields, GroupId, Json, Map, Object, Pair, Position, RecordId, RecordKey,
    RecordSum, Scope, Seq, Stamp, UnixMillis, Version, limits,
};
use serde::{Deserialize, Serialize};

fn is_false(flag: &bool) -> bool {
    !*flag
}
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What a mutation does to its record.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    Create,
    Update,
    Delete,
}

crate::wire_names!(Op { Create: "create", Update: "update", Delete: "delete" });

/// What is sent: one or more coalesced entries of one record under a wire `seq`.
///
/// Shape: a create carries all fields in `set`; an update the changed ones in `set` and the removed ones in
/// `unset`; a delete neither. Exactly one of `base` and `after` is given. `F` is how the reader holds fields: taken
/// apart, or as one opaque text.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Mutation", bound = "F: Default + schemars::JsonSchema"))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "F: Default + Deserialize<'de>"))]
pub struct Mutation<F: ToJson = Fields> {
    pub seq: Seq,
    pub scope: Scope,
    pub collection: CollectionName,
    pub id: RecordId,
    pub op: Op,
    #[serde(default, skip_serializing_if = "ToJson::is_blank")]
    pub set: F,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unset: Vec<String>,
    /// The server version that the newest view under this mutation stood on; 0 = "did not exist".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Version>,
    /// Instead of a base: the mutation of this client and record that goes just before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Seq>,
    /// Base values of the touched fields. Shown and kept for review, never an input of the verdict.
    #[serde(default, skip_serializing_if = "ToJson::is_blank")]
    pub prev: F,
    pub stamp: Stamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupId>,
    /// The log entry that a person would know this by (the newest covered entry, or what it retries).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<EntryId>,
}

crate::wire!(Mutation<Object> {
    seq: Need,
    scope: Need,
    collection: Need,
    id: Need,
    op: Need,
    set: Skip,
    unset: Skip,
    base: Skip,
    after: Skip,
    prev: Skip,
    stamp: Need,
    group: Skip,
    origin: Skip
});

impl<F: ToJson> Mutation<F> {
    pub fn key(&self) -> RecordKey {
        RecordKey { scope: self.scope.clone(), collection: self.collection.clone(), id: self.id.clone() }
    }
}

/// One element of a push: a mutation, or the word that its seq will never be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushMutation {
    Mutation(Box<Mutation>),
    /// `{"seq":n,"void":true}`: answer the stored outcome, else store `rejected(void)`.
    Void(Seq),
}

impl PushMutation {
    pub fn void_text(seq: Seq) -> String {
        ["{\"seq\":", &to_json(&seq), ",\"void\":true}"].concat()
    }
    /// Reads one element of `mutations`. Errors say what is wrong with it, for a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Probe {
            seq: Seq,
            #[serde(default)]
            void: bool,
        }
        let probe: Probe = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if probe.void {
            return Ok(Self::Void(probe.seq));
        }
        let mutation: Mutation = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if mutation.base.is_some() == mutation.after.is_some() {
            return Err("exactly one of base and after is needed".to_owned());
        }
        Ok(Self::Mutation(Box::new(mutation)))
    }
    pub fn seq(&self) -> Seq {
        match self {
            Self::Mutation(mutation) => mutation.seq,
            Self::Void(seq) => *seq,
        }
    }
}

/// `POST /v1/sync/push`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushRequest {
    pub protocol: u32,
    pub user: String,
    pub client_id: ClientId,
    /// True until a push of this client was answered: the only time an unknown client is welcome.
    pub first_push: bool,
    /// The epoch of the client's cursor; null before the first answer.
    pub epoch: Option<Epoch>,
    /// A name of the device for people.
    #[serde(default)]
    pub device: String,
    #[serde(default)]
    pub schema_version: u32,
    /// All outcomes up to here are stored at the client.
    pub acked_through: Seq,
    /// Entries that wait at the client, this push included.
    #[serde(default)]
    pub pending_count: u64,
    /// Entries and groups at the client that wait for a person.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_count: u64,
    /// Exact bytes of each [`PushMutation`]; their SHA-256 is what S3 compares.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<PushMutation>"))]
    pub mutations: Vec<Json>,
}

crate::wire!(PushRequest {
    protocol: Need,
    user: Need,
    client_id: Need,
    first_push: Need,
    epoch: Keep,
    device: Keep,
    schema_version: Keep,
    acked_through: Need,
    pending_count: Keep,
    failed_count: Skip,
    mutations: Need
});

/// The server's word on one mutation: what became of it.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultStatus {
    Applied,
    Merged,
    /// The server's value stays; the sent one lost and is kept for its author (C2).
    Superseded,
    Recreated,
    /// A person must decide; `to` says who.
    Conflict,
    Rejected,
    /// No outcome: the seq was acknowledged before, its outcome is gone.
    AlreadySettled,
    /// No outcome: the seq is known with other bytes (S3).
    KeyReused,
}

crate::wire_names!(ResultStatus {
    Applied: "applied",
    Merged: "merged",
    Superseded: "superseded",
    Recreated: "recreated",
    Conflict: "conflict",
    Rejected: "rejected",
    AlreadySettled: "already_settled",
    KeyReused: "key_reused",
});

/// Final outcome of a mutation, or (for the last two statuses) why there is none.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub seq: Seq,
    pub status: ResultStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Where the scope's counter stood when it was decided; a pull that covers it shows its effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Version of the record after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// The record does not exist (any more) after it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub deleted: bool,
    /// The record after it, unless that is what the mutation makes of its base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Object>,
    /// Of a rejection: one of [`RejectCode`]'s names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Of a rejection: words for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Of a rejection: words by field.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, String>,
    /// Of `blocked` and `group_refused`: the mutation it failed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Seq>,
    /// Of a conflict: `author` or `review`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

crate::wire!(Outcome {
    seq: Need,
    status: Need,
    scope: Skip,
    position: Skip,
    version: Skip,
    deleted: Skip,
    record: Skip,
    code: Skip,
    message: Skip,
    fields: Skip,
    by: Skip,
    to: Skip
});

/// The name the rest of the code uses for one element of `results`.
pub type ResultMutation = Outcome;

impl Outcome {
    pub fn new(seq: Seq, status: ResultStatus) -> Self {
        Self {
            seq,
            status,
            scope: None,
            position: None,
            version: None,
            deleted: false,
            record: None,
            code: None,
            message: None,
            fields: Map::new(),
            by: None,
            to: None,
        }
    }
    pub fn rejected(seq: Seq, code: &str, message: impl Into<String>) -> Self {
        Self { code: Some(code.to_owned()), message: Some(message.into()), ..Self::new(seq, ResultStatus::Rejected) }
    }
    /// True when the record holds the mutation's effect.
    pub fn took_effect(&self) -> bool {
        matches!(self.status, ResultStatus::Applied | ResultStatus::Merged | ResultStatus::Recreated)
    }
}

/// Codes of rejected mutations. The list is open: a client keeps a code that it does not know and shows its message.
pub struct RejectCode;

impl RejectCode {
    pub const VALIDATION: &'static str = "validation";
    pub const FORBIDDEN: &'static str = "forbidden";
    pub const UNKNOWN_COLLECTION: &'static str = "unknown_collection";
    pub const TOO_LARGE: &'static str = "too_large";
    pub const MALFORMED: &'static str = "malformed";
    pub const BLOCKED: &'static str = "blocked";
    pub const GROUP_REFUSED: &'static str = "group_refused";
    pub const MISSING_PARENT: &'static str = "missing_parent";
    pub const HAS_CHILDREN: &'static str = "has_children";
    pub const STALE: &'static str = "stale";
    pub const GONE: &'static str = "gone";
    pub const DUPLICATE: &'static str = "duplicate";
    pub const ID_MISMATCH: &'static str = "id_mismatch";
    pub const IMMUTABLE: &'static str = "immutable";
    /// A time that lies ahead where the collection allows none.
    pub const NOT_FUTURE: &'static str = "not_future";
    /// Of a conflict that waited for a role: another one of it was first.
    pub const ALREADY_DECIDED: &'static str = "already_decided";
    pub const VOID: &'static str = "void";
    /// Given by the client itself, never by a server.
    pub const NO_ACCESS: &'static str = "no_access";
    pub const ALL: [&'static str; 18] = [
        Self::VALIDATION,
        Self::FORBIDDEN,
        Self::UNKNOWN_COLLECTION,
        Self::TOO_LARGE,
        Self::MALFORMED,
        Self::BLOCKED,
        Self::GROUP_REFUSED,
        Self::MISSING_PARENT,
        Self::HAS_CHILDREN,
        Self::STALE,
        Self::GONE,
        Self::DUPLICATE,
        Self::ID_MISMATCH,
        Self::IMMUTABLE,
        Self::NOT_FUTURE,
        Self::ALREADY_DECIDED,
        Self::VOID,
        Self::NO_ACCESS,
    ];
}

/// `200` of a push: one result per mutation, in the order of the request.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushResponse {
    pub server_time: UnixMillis,
    pub epoch: Epoch,
    /// Where each touched scope's counter stands now.
    pub head: Map<Scope, Position>,
    #[cfg_attr(feature = "schema", schemars(with = "Vec<Outcome>"))]
    pub results: Vec<Json>,
}

crate::wire!(PushResponse { server_time: Need, epoch: Need, head: Need, results: Need });

/// `POST /v1/sync/pull`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequest {
    pub protocol: u32,
    pub user: String,
    pub client_id: ClientId,
    /// What the last page returned; null starts cold.
    pub cursor: Option<String>,
    /// The collections that this client keeps.
    pub collections: Vec<CollectionName>,
    /// Changes wanted at most; soft by one push transaction.
    pub limit: u32,
    /// Pairs to start cold again (their checksum did not match).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resync: Vec<Pair>,
}

crate::wire!(PullRequest {
    protocol: Need,
    user: Need,
    client_id: Need,
    cursor: Keep,
    collections: Need,
    limit: Need,
    resync: Skip
});

/// A live record as of its version. `F` is how the reader holds its fields: parsed, or as one opaque text.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Change"))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change<F = Fields> {
    pub scope: Scope,
    pub id: RecordId,
    pub version: Version,
    pub position: Position,
    pub fields: F,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
}

crate::wire!(Change<Json> { scope: Need, id: Need, version: Need, position: Need, fields: Need, stamp: Skip });

/// A record that was deleted.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    pub scope: Scope,
    pub id: RecordId,
    pub version: Version,
    pub position: Position,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
}

crate::wire!(Tombstone { scope: Need, id: Need, version: Need, position: Need, stamp: Skip });

/// Pairs that came and went since the cursor was given.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    #[serde(default)]
    pub added: Vec<Pair>,
    #[serde(default)]
    pub removed: Vec<Pair>,
}

crate::wire!(Access { added: Keep, removed: Keep });

/// `200` of a pull: takes the replica from one server state to a later one.
///
/// A pair with changes here that `covered` does not name is staged: kept apart, not shown. It flips, whole, with the
/// first page whose `covered` names it.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "PullResponse"))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullResponse<F = Fields> {
    pub server_time: UnixMillis,
    pub epoch: Epoch,
    pub changes: Map<CollectionName, Vec<Change<F>>>,
    pub tombstones: Map<CollectionName, Vec<Tombstone>>,
    pub cursor: String,
    pub covered: Map<Scope, Map<CollectionName, Position>>,
    #[serde(default)]
    pub access: Access,
    pub has_more: bool,
    /// At head only: sum over the live records of each covered pair.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub checksums: Map<Scope, Map<CollectionName, RecordSum>>,
    /// What this user lost in the positions that this page leads over.
    #[serde(default = "Vec::<Overruled<F>>::new", skip_serializing_if = "Vec::is_empty")]
    pub overruled: Vec<Overruled<F>>,
}

crate::wire!(PullResponse<Json> { server_time: Need, epoch: Need, changes: Need, tombstones: Need, cursor: Need, covered: Need, access: Keep, has_more: Need, checksums: Skip, overruled: Skip });

/// What its author had written, and somebody undid without having seen it (C2).
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "Overruled"))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overruled<F = Fields> {
    pub scope: Scope,
    pub collection: CollectionName,
    pub id: RecordId,
    /// Where the change stands that undid it.
    pub position: Position,
    pub at: UnixMillis,
    /// What was undone: a delete, or values.
    pub op: Op,
    /// `overruled`: by somebody's change. `reviewed`: by the decision of the role that was asked.
    pub code: String,
    /// The values; null for one that had been taken out.
    pub fields: F,
    /// The record as it stands; none: it is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<F>,
}

crate::wire!(Overruled<Json> { scope: Need, collection: Need, id: Need, position: Need, at: Need, op: Need, code: Need, fields: Need, record: Skip });

/// `GET /v1/sync/status`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusResponse {
    pub server_time: UnixMillis,
    pub protocol_min: u32,
    pub protocol_max: u32,
    pub epoch: Epoch,
    pub user: String,
    pub scopes: Map<Scope, Position>,
    pub devices: Vec<DeviceStatus>,
    /// The first servers did not announce any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ServerLimits>,
}

/// What a server takes, in the units of the names: for clients that are not built with [`crate::limits`].
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerLimits {
    pub record_bytes: usize,
    pub id_bytes: usize,
    pub json_depth: usize,
    pub batch_count: usize,
    pub batch_bytes: usize,
    pub group_count: usize,
    pub group_bytes: usize,
    pub page_count: usize,
    pub page_bytes: usize,
    pub scope_count: usize,
    pub stamp_ahead_ms: u64,
}

impl ServerLimits {
    /// Those of this version.
    pub const OWN: Self = Self {
        record_bytes: limits::RECORD_BYTES_MAX,
        id_bytes: limits::ID_BYTES_MAX,
        json_depth: limits::JSON_DEPTH_MAX,
        batch_count: limits::BATCH_COUNT_MAX,
        batch_bytes: limits::BATCH_BYTES_MAX,
        group_count: limits::GROUP_COUNT_MAX,
        group_bytes: limits::GROUP_BYTES_MAX,
        page_count: limits::PAGE_COUNT_MAX,
        page_bytes: limits::PAGE_BYTES_MAX,
        scope_count: limits::SCOPES_MAX,
        stamp_ahead_ms: limits::HLC_AHEAD_MS_MAX,
    };
}

/// What a device last reported.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStatus {
    pub client_id: ClientId,
    pub device: String,
    /// When it pushed or pulled last.
    pub last_seen: UnixMillis,
    /// When it said how much waits there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported_at: Option<UnixMillis>,
    pub pending_count: u64,
    /// Entries and groups there that wait for a person.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed_count: u64,
    /// The request came with this device's cookie: what it last reported, even when its storage was evicted.
    #[serde(default, skip_serializing_if = "is_false")]
    pub this_device: bool,
}

/// What a client says on `GET /v1/sync/live` (WebSocket): first of all its token.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientLiveMessage {
    Auth { token: String, user: String },
}

impl ToJson for ClientLiveMessage {
    fn write(&self, out: &mut String) {
        let Self::Auth { token, user } = self;
        write_object(out, "type!token!user!", &[&"auth", token, user]);
    }
}

/// What the server says on the live channel. Data-free: a poke only says where a scope is now.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LiveMessage {
    Ready,
    Poke { scope: Scope, position: Position },
    Bye { code: String },
}

/// A live message before its type is looked at.
struct LiveText {
    kind: String,
    scope: Option<Scope>,
    position: Option<Position>,
    code: Option<String>,
}
crate::wire_in!(LiveText { "type" kind: Need, scope: Keep, position: Keep, code: Keep });

impl LiveMessage {
    /// Reads what the server said. `None`: a later version of the protocol may know it.
    pub fn parse(text: &str) -> Option<Self> {
        let LiveText { kind, scope, position, code } = from_json(text)?;
        match kind.as_str() {
            "ready" => Some(Self::Ready),
            "poke" => Some(Self::Poke { scope: scope?, position: position? }),
            "bye" => Some(Self::Bye { code: code? }),
            _ => None,
        }
    }
}
