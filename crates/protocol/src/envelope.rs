//! The error envelope of every answer that is not 2xx.

use crate::{Epoch, Json, Map, Seq};
use serde::{Deserialize, Serialize};

/// `{"error":{…}}`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorEnvelope {
    pub error: ErrorBody,
}

crate::wire!(ErrorEnvelope { error: Need });

/// What went wrong with a request as a whole. The cause goes to the server's log, not here.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// One of [`ErrorCode`]'s names.
    pub code: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// Of `reset_required` on a push: what this server knows of the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Ledger>,
    /// Of `reset_required`: the epoch to go on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
}

crate::wire!(ErrorBody {
    code: Need,
    message: Need,
    fields: Skip,
    retry_after_ms: Skip,
    request_id: Skip,
    ledger: Skip,
    epoch: Skip
});

/// A client's ledger at the server: everything up to `acked_through`, and the outcomes above it.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// False when the server never met this client.
    pub known: bool,
    pub acked_through: Seq,
    pub entries: Vec<LedgerEntry>,
}

crate::wire!(Ledger { known: Need, acked_through: Need, entries: Need });

/// One outcome that the server still keeps.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    pub seq: Seq,
    #[cfg_attr(feature = "schema", schemars(with = "crate::Outcome"))]
    pub outcome: Json,
}

crate::wire!(LedgerEntry { seq: Need, outcome: Need });

/// Codes of the envelope and the HTTP status that carries them. docs/errors.md is written from this list.
pub struct ErrorCode;

impl ErrorCode {
    pub const MALFORMED: &'static str = "malformed";
    pub const UNSUPPORTED_PROTOCOL: &'static str = "unsupported_protocol";
    pub const UNAUTHORIZED: &'static str = "unauthorized";
    pub const TOKEN_EXPIRED: &'static str = "token_expired";
    pub const WRONG_USER: &'static str = "wrong_user";
    pub const FORBIDDEN: &'static str = "forbidden";
    pub const NOT_FOUND: &'static str = "not_found";
    pub const TOO_LARGE: &'static str = "too_large";
    pub const UNSUPPORTED_ENCODING: &'static str = "unsupported_encoding";
    pub const CLIENT_FORK: &'static str = "client_fork";
    pub const RESET_REQUIRED: &'static str = "reset_required";
    pub const RATE_LIMITED: &'static str = "rate_limited";
    pub const TIMEOUT: &'static str = "timeout";
    pub const UNAVAILABLE: &'static str = "unavailable";
    pub const INTERNAL: &'static str = "internal";
    /// (code, HTTP status)
    pub const ALL: [(&'static str, u16); 15] = [
        (Self::MALFORMED, 400),
        (Self::UNAUTHORIZED, 401),
        (Self::TOKEN_EXPIRED, 401),
        (Self::WRONG_USER, 403),
        (Self::FORBIDDEN, 403),
        (Self::NOT_FOUND, 404),
        (Self::TIMEOUT, 408),
        (Self::CLIENT_FORK, 409),
        (Self::RESET_REQUIRED, 409),
        (Self::TOO_LARGE, 413),
        (Self::UNSUPPORTED_ENCODING, 415),
        (Self::UNSUPPORTED_PROTOCOL, 426),
        (Self::RATE_LIMITED, 429),
        (Self::INTERNAL, 500),
        (Self::UNAVAILABLE, 503),
    ];
}
