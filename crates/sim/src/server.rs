//! A server in memory with the real authority: ledger, change log, pages, epochs. It speaks JSON over [`HttpRequest`].
//!
//! Independent of crates/server: the same protocol, written a second time.

mod family;
mod pull;
mod push;
mod review;
pub mod unique;

use crate::model::Model;
use crate::policy::{MANAGER, MANAGER_USER};
use crate::rng::Rng;
use crate::world::{Guard, OnDelete, SHARED};
use landfall_core::authority::Stored;
use landfall_core::plant::{Plant, planted};
use landfall_core::policy::Policy;
use landfall_core::review::CONFLICTS;
use landfall_protocol::{
    ClientId, CollectionName, Epoch, ErrorBody, ErrorCode, ErrorEnvelope, Json, Ledger, LedgerEntry, Map, Overruled,
    Pair, RecordId, RecordKey, RecordSum, Scope, Seq, StatusResponse, UnixMillis, Version,
};
use landfall_replica::{HttpRequest, HttpResponse, Token};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Who sends a request, by its token: nothing that a body says of its sender counts (C4).
struct Caller {
    user: String,
    is_manager: bool,
    token: String,
}

/// `notes` live in a user's scope, everything else in a shared one.
fn is_at_home(name: &CollectionName, scope: &Scope) -> bool {
    (name.as_str() == "notes") == scope.as_str().starts_with("user:")
}

/// What a restored backup adds to every counter (docs/protocol.md).
const EPOCH_STEP: u64 = 1 << 32;

#[derive(Clone, Debug)]
struct LogRow {
    position: u64,
    /// The server's clock then.
    at: u64,
    key: RecordKey,
    stored: Stored,
}

#[derive(Clone, Debug, Default)]
struct ScopeData {
    position: u64,
    version_floor: u64,
    pruned_through: u64,
    records: BTreeMap<CollectionName, BTreeMap<RecordId, (u64, Stored)>>,
    log: Vec<LogRow>,
    sums: BTreeMap<CollectionName, RecordSum>,
    /// What users lost: who, to which client, what.
    overruled: Vec<(String, ClientId, Overruled)>,
}

#[derive(Clone, Debug, Default)]
struct ClientLedger {
    acked_through: u64,
    /// Sent text (empty for a void) and answer.
    outcomes: BTreeMap<u64, (String, Json)>,
    /// Where each of them stood, for who comes after it.
    bases: BTreeMap<Seq, Version>,
}

#[derive(Clone, Debug)]
struct Data {
    epoch: u64,
    scopes: BTreeMap<Scope, ScopeData>,
    clients: BTreeMap<(String, ClientId), ClientLedger>,
}

/// Where a crash falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CrashAt {
    BeforeCommit,
    /// Between two scopes of one push.
    Between,
    AfterCommit,
}

pub struct Server {
    data: Data,
    backup: Option<(Data, crate::model::Truth)>,
    epochs: u64,
    model: Rc<RefCell<Model>>,
    /// Scopes that each user may read and write.
    pub grants: BTreeMap<String, BTreeSet<Scope>>,
    /// Users whose tokens say from now on that they have the role.
    pub managers: BTreeSet<String>,
    pub guard: Guard,
    pub on_delete: OnDelete,
    /// Tasks are known by their field `k`.
    pub is_unique: bool,
    pub collections: BTreeSet<CollectionName>,
    pub policies: BTreeMap<CollectionName, Policy>,
    /// Chance of those who decide conflicts; `None`: nobody does.
    pub reviews: Option<Rng>,
    pub page_limit: usize,
    /// Tokens of an older generation are refused.
    pub generation: BTreeMap<String, u64>,
    pub refresh_fails: BTreeSet<String>,
    pub token_ms: Option<u64>,
    /// The next push ends so, and the server is down until then.
    pub crash: Option<(CrashAt, u64)>,
    pub down_until: u64,
    /// A restored backup raises scopes that it does not know, too. In histories of the first generation it did not.
    pub raises_all: bool,
    /// The planted bug: what was answered before it was written.
    unflushed: Option<Data>,
    /// What its clock lacks to the true time, ms.
    pub behind_ms: u64,
    /// (until, status, Retry-After)
    pub burst: Option<(u64, u16, Option<u64>)>,
    /// Largest body that is taken, bytes.
    pub body_bytes_max: usize,
}

/// What an accepted push moved.
pub type Moved = Vec<(Scope, u64)>;

impl Server {
    pub fn new(model: Rc<RefCell<Model>>) -> Self {
        Self {
            data: Data { epoch: 1, scopes: BTreeMap::new(), clients: BTreeMap::new() },
            backup: None,
            epochs: 1,
            model,
            grants: BTreeMap::new(),
            managers: BTreeSet::from([MANAGER_USER.to_owned()]),
            guard: Guard::Nothing,
            on_delete: OnDelete::Nothing,
            is_unique: false,
            collections: BTreeSet::new(),
            policies: BTreeMap::new(),
            reviews: None,
            page_limit: 100,
            generation: BTreeMap::new(),
            refresh_fails: BTreeSet::new(),
            token_ms: None,
            crash: None,
            down_until: 0,
            behind_ms: 0,
            unflushed: None,
            raises_all: false,
            burst: None,
            body_bytes_max: usize::MAX,
        }
    }

    pub fn epoch(&self) -> Epoch {
        Epoch(format!("e{}", self.data.epoch))
    }

    pub fn backup(&mut self) {
        self.backup = Some((self.data.clone(), self.model.borrow().truth.clone()));
    }

    /// Goes back to the last backup, as another epoch. False: there is none.
    pub fn restore(&mut self) -> bool {
        let Some((data, truth)) = self.backup.clone() else { return false };
        self.data = data;
        if self.raises_all {
            // Scopes that the backup does not know begin above what the former epoch gave out, as the others do.
            let all: Vec<Scope> = self.grants.values().flatten().cloned().chain([Scope::from(SHARED)]).collect();
            for scope in all {
                self.data.scopes.entry(scope).or_default();
            }
        }
        self.epochs += 1;
        self.data.epoch = self.epochs;
        for scope in self.data.scopes.values_mut() {
            scope.position += EPOCH_STEP * (self.epochs - 1);
            scope.version_floor += EPOCH_STEP * (self.epochs - 1);
            // Positions of the log stay; cursors of this epoch begin above them.
        }
        self.model.borrow_mut().restored(truth);
        true
    }

    /// Forgets the change log up to a distance from the head.
    pub fn prune(&mut self, keep: u64) {
        for scope in self.data.scopes.values_mut() {
            let through = scope.position.saturating_sub(keep).max(scope.pruned_through);
            scope.pruned_through = through;
            scope.log.retain(|row| row.position > through);
        }
    }

    /// Cleans up: nothing tells of deleted records any more, and whoever has not heard of them begins from nothing. False:
    /// there were none.
    pub fn forget(&mut self) -> bool {
        let mut forgotten = Vec::new();
        for (scope, data) in &mut self.data.scopes {
            let floor = &mut data.version_floor;
            for (name, records) in &mut data.records {
                records.retain(|id, (_, stored)| {
                    if stored.deleted && planted(Plant::CleanUpKeepsFloor) {
                        // The planted bug: a version may be given a second time.
                    } else if stored.deleted {
                        *floor = (*floor).max(stored.version.get());
                    }
                    if stored.deleted {
                        let (scope, collection, id) = (scope.clone(), name.clone(), id.clone());
                        forgotten.push(RecordKey { scope, collection, id });
                    }
                    !stored.deleted
                });
            }
            let through = data.position;
            if planted(Plant::TombstoneDroppedEarly) {
                data.log.retain(|row| !row.stored.deleted);
            } else {
                data.pruned_through = data.pruned_through.max(through);
                data.log.retain(|row| row.position > through);
            }
        }
        let is_any = !forgotten.is_empty();
        self.model.borrow_mut().forgotten(forgotten);
        is_any
    }

    /// Where its records are not what its verdicts made of them (S6).
    pub fn lost(&self, truth: &crate::model::Truth) -> Option<String> {
        truth
            .states
            .iter()
            .flat_map(|(pair, records)| records.iter().map(move |(id, states)| (pair, id, states)))
            .find_map(|(pair, id, states)| {
                let last = states.last()?;
                let found = self.data.scopes.get(&pair.0).and_then(|data| data.records.get(&pair.1)?.get(id));
                let live = found.map(|(_, stored)| stored).filter(|stored| !stored.deleted);
                let found = live.map(|stored| (stored.version.get(), crate::model::plain(&stored.fields)));
                let expected = last.fields.clone().map(|fields| (last.version, fields));
                (found != expected).then(|| format!("{pair:?} {id} should be {expected:?} and is {found:?}"))
            })
    }

    pub fn head(&self, scope: &Scope) -> u64 {
        self.data.scopes.get(scope).map_or(0, |data| data.position)
    }

    /// Live records of a pair with their versions.
    pub fn sum(&self, pair: &Pair) -> RecordSum {
        self.data.scopes.get(&pair.0).and_then(|data| data.sums.get(&pair.1)).copied().unwrap_or_default()
    }

    /// Answers a request. `None`: the server is down, or went down.
    pub fn handle(&mut self, now: u64, profile: usize, request: &HttpRequest) -> Option<(HttpResponse, Moved)> {
        if now < self.down_until {
            return None;
        }
        if let Some((until, status, retry_after_ms)) = self.burst {
            if now < until {
                let code = match status {
                    429 => ErrorCode::RATE_LIMITED,
                    503 => ErrorCode::UNAVAILABLE,
                    _ => ErrorCode::INTERNAL,
                };
                let mut response = error(status, code);
                response.retry_after_ms = retry_after_ms;
                return Some((response, Moved::new()));
            }
            self.burst = None;
        }
        let now = now.saturating_sub(self.behind_ms);
        if request.path == "/auth/refresh" {
            return Some((self.refresh(now, request), Moved::new()));
        }
        let caller = match self.caller(now, request) {
            Ok(caller) => caller,
            Err(response) => return Some((response, Moved::new())),
        };
        let body = request.body.as_deref().unwrap_or_default();
        match request.path.as_str() {
            "/push" if body.len() > self.body_bytes_max => Some((error(413, ErrorCode::TOO_LARGE), Moved::new())),
            "/push" => self.push(now, profile, &caller, body),
            "/pull" => Some((self.pull(now, &caller, body), Moved::new())),
            "/status" => {
                let status = StatusResponse {
                    server_time: UnixMillis(now),
                    protocol_min: 1,
                    protocol_max: 1,
                    epoch: self.epoch(),
                    user: caller.user,
                    scopes: Map::new(),
                    devices: Vec::new(),
                    limits: None,
                };
                Some((ok(&status), Moved::new()))
            }
            _ => Some((error(404, ErrorCode::NOT_FOUND), Moved::new())),
        }
    }

    /// A token as a sign-in gives it.
    pub fn token(&self, now: u64, user: &str) -> Token {
        self.token_at(now.saturating_sub(self.behind_ms), user)
    }

    /// The same by the server's own clock.
    fn token_at(&self, now: u64, user: &str) -> Token {
        let expires_at = self.token_ms.map(|ms| UnixMillis(now + ms));
        let generation = self.generation.get(user).copied().unwrap_or(0);
        let until = expires_at.map_or(u64::MAX, |at| at.get());
        let is_manager = self.managers.contains(user);
        let token = format!("{user}/{generation}/{until}/{}", if is_manager { MANAGER } else { "" });
        self.model.borrow_mut().issued(&token, is_manager);
        Token { token, expires_at }
    }

    fn refresh(&self, now: u64, request: &HttpRequest) -> HttpResponse {
        #[derive(Deserialize)]
        struct Asked {
            user: String,
        }
        let asked: Option<Asked> = request.body.as_deref().and_then(|body| serde_json::from_str(body).ok());
        match asked {
            Some(Asked { user }) if !self.refresh_fails.contains(&user) => ok(&self.token_at(now, &user)),
            _ => error(401, ErrorCode::UNAUTHORIZED),
        }
    }

    fn caller(&self, now: u64, request: &HttpRequest) -> Result<Caller, HttpResponse> {
        let token = request.token.as_deref().unwrap_or_default();
        let mut parts = token.split('/');
        let user = parts.next().unwrap_or_default();
        let generation: u64 = parts.next().and_then(|text| text.parse().ok()).unwrap_or(0);
        let expires_at: u64 = parts.next().and_then(|text| text.parse().ok()).unwrap_or(0);
        if !self.grants.contains_key(user) || generation < self.generation.get(user).copied().unwrap_or(0) {
            return Err(error(401, ErrorCode::UNAUTHORIZED));
        }
        if expires_at <= now {
            return Err(error(401, ErrorCode::TOKEN_EXPIRED));
        }
        let is_manager = parts.next() == Some(MANAGER);
        Ok(Caller { user: user.to_owned(), is_manager, token: token.to_owned() })
    }

    fn may(&self, user: &str, scope: &Scope) -> bool {
        self.grants.get(user).is_some_and(|scopes| scopes.contains(scope))
    }

    /// Which pairs a user may read, by the role.
    pub fn readable(&self, name: &CollectionName, scope: &Scope, is_manager: bool) -> bool {
        let is_open = self.guard != Guard::Read || name.as_str() != "stock" || is_manager;
        let is_open = is_open && (name.as_str() != CONFLICTS || is_manager);
        self.collections.contains(name) && is_open && is_at_home(name, scope)
    }

    fn heads(&self) -> BTreeMap<Scope, u64> {
        self.data.scopes.iter().map(|(scope, data)| (scope.clone(), data.position)).collect()
    }

    fn reset_required(&self, client: &(String, ClientId)) -> HttpResponse {
        let known = self.data.clients.get(client);
        let entries = known
            .iter()
            .flat_map(|ledger| &ledger.outcomes)
            .map(|(seq, (_, outcome))| LedgerEntry { seq: Seq(*seq), outcome: outcome.clone() });
        let ledger = Ledger {
            known: known.is_some(),
            acked_through: Seq(known.map_or(0, |ledger| ledger.acked_through)),
            entries: entries.collect(),
        };
        let body = ErrorBody {
            code: ErrorCode::RESET_REQUIRED.to_owned(),
            ledger: Some(ledger),
            epoch: Some(self.epoch()),
            ..ErrorBody::default()
        };
        respond(409, &ErrorEnvelope { error: body })
    }
}

fn to_json<T: Serialize>(value: &T) -> Option<Json> {
    Json::parse(&serde_json::to_string(value).unwrap_or_default()).ok()
}

fn respond<T: Serialize>(status: u16, body: &T) -> HttpResponse {
    HttpResponse { status, retry_after_ms: None, body: serde_json::to_string(body).unwrap_or_default() }
}

fn ok<T: Serialize>(body: &T) -> HttpResponse {
    respond(200, body)
}

fn error(status: u16, code: &str) -> HttpResponse {
    respond(status, &ErrorEnvelope { error: ErrorBody { code: code.to_owned(), ..ErrorBody::default() } })
}
