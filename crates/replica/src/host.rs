//! What the replica needs of the world: rows, a network, a clock, locks, a channel to the other contexts.
//!
//! The browser shell and the simulator each implement [`Host`]; everything above it is the same code in both.

use landfall_protocol::UnixMillis;
use landfall_protocol::codec::{from_json, to_json};
use landfall_storage::RowStore;
use serde::Serialize;
use std::future::Future;
use std::pin::Pin;

/// A request to the app's own server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    pub method: &'static str,
    /// Below the sync address (`/push`), or an address of its own (`auth.refresh.url`).
    pub path: String,
    pub token: Option<String>,
    /// JSON.
    pub body: Option<String>,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    pub status: u16,
    pub retry_after_ms: Option<u64>,
    pub body: String,
}

/// No whole answer: refused, timed out, cut off. Whether the server saw the request is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkError;

/// An access token and when it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Token {
    pub token: String,
    pub expires_at: Option<UnixMillis>,
}

landfall_protocol::wire!(Token { token: Need, expires_at: Keep });

/// What one context tells the others. Nobody trusts it: a reader looks at the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The log reaches this far.
    Log {
        key: u64,
    },
    Outbox {
        rev: u64,
    },
    Base {
        rev: u64,
    },
    Token,
    /// The database is about to be deleted.
    Wiped,
}

/// A notice as text.
struct NoticeText {
    kind: String,
    key: Option<u64>,
    rev: Option<u64>,
}

landfall_protocol::wire!(NoticeText { "type" kind: Need, key: Skip, rev: Skip });

impl Notice {
    pub fn to_text(&self) -> String {
        let (kind, key, rev) = match self {
            Self::Log { key } => ("log", Some(*key), None),
            Self::Outbox { rev } => ("outbox", None, Some(*rev)),
            Self::Base { rev } => ("base", None, Some(*rev)),
            Self::Token => ("token", None, None),
            Self::Wiped => ("wiped", None, None),
        };
        to_json(&NoticeText { kind: kind.to_owned(), key, rev })
    }
    /// `None`: a later version of the app may know it.
    pub fn parse(text: &str) -> Option<Self> {
        let NoticeText { kind, key, rev } = from_json(text)?;
        match kind.as_str() {
            "log" => Some(Self::Log { key: key? }),
            "outbox" => Some(Self::Outbox { rev: rev? }),
            "base" => Some(Self::Base { rev: rev? }),
            "token" => Some(Self::Token),
            "wiped" => Some(Self::Wiped),
            _ => None,
        }
    }
}

/// How long to wait for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockWait {
    IfFree,
    Millis(u64),
}

/// A task that outlives its caller.
pub type Task = Pin<Box<dyn Future<Output = ()>>>;

/// The world, for one context.
#[allow(async_fn_in_trait)] // One thread by design, as in `RowStore`.
pub trait Host: 'static {
    type Rows: RowStore;
    /// Held until dropped. Locks only save work; the rows' expectations keep the order.
    type Lock;

    fn rows(&self) -> &Self::Rows;
    fn now(&self) -> UnixMillis;
    fn random(&self) -> u64;
    /// At most [`landfall_protocol::limits::REQUEST_MS_MAX`] long.
    async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse, NetworkError>;
    async fn lock(&self, name: &str, wait: LockWait) -> Option<Self::Lock>;
    fn notice(&self, notice: &Notice);
    async fn pause(&self, ms: u64);
    /// Asks the app for a token (pages only).
    async fn ask_token(&self) -> Option<Token>;
    fn spawn(&self, task: Task);
    /// Something changed that people may be looking at: see [`crate::Replica::take_changes`].
    fn changed(&self);
    /// Asks another context that nobody looks at to compact. False: there is none.
    fn tidies_elsewhere(&self) -> bool {
        false
    }
    /// Lets the context's loop look again now instead of at the time it was told.
    fn wake(&self);
}
