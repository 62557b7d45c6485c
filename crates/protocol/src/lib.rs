//! Wire types, limits and golden JSON of the Landfall sync protocol, version 1.
//!
//! Everything here is data: no clock, no randomness, no I/O. The prose that goes with it, with MUST and
//! SHOULD, is docs/protocol.md; the golden files in `golden/` pin the exact JSON of every message.
//!
//! Records stay opaque: a field's value is kept as the JSON text it arrived with ([`Json`]), so nothing
//! is lost or rounded by a detour through a number type.

pub mod codec;
mod envelope;
mod hash;
mod id;
mod json;
pub mod limits;
mod listed;
pub mod map;
mod message;
mod number;
mod object;
#[cfg(feature = "schema")]
mod schema;
mod stamp;
pub mod text;

pub use envelope::{ErrorBody, ErrorCode, ErrorEnvelope, Ledger, LedgerEntry};
pub use hash::{RecordSum, hash_text, lane_hash, record_hash};
pub use id::{
    ClientId, CollectionName, EntryId, Epoch, GroupId, Pair, Position, RecordId, RecordKey, Scope, Seq, UnixMillis,
    Version, compare as compare_text,
};
pub use json::{Fields, Json, JsonError, Value, check_depth, same_value};
pub use listed::{AddAll, Listed};
pub use map::{Map, Set};
pub use message::{
    Access, Change, ClientLiveMessage, DeviceStatus, LiveMessage, Mutation, Op, Outcome, Overruled, PullRequest,
    PullResponse, PushMutation, PushRequest, PushResponse, RejectCode, ResultMutation, ResultStatus, ServerLimits,
    StatusResponse, Tombstone,
};
pub use object::{Object, Parts};
pub use stamp::{Hlc, Stamp};

/// The protocol version that this crate speaks.
pub const PROTOCOL: u32 = 1;
