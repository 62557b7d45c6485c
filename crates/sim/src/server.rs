//! A server in memory with the real authority: ledger, change log, pages, epochs. It speaks JSON over [`HttpRequest`].
//!
//! Independent of crates/server: the same protocol, written a second time.

use crate::model::{Model, Verdict as Seen, plain};
use landfall_core::authority::{Policy, Situation, Stored, decide, superseded};
use landfall_core::plant::{Plant, planted};
use landfall_protocol::{
    Access, Change, ClientId, CollectionName, Epoch, ErrorBody, ErrorCode, ErrorEnvelope, Json, Ledger, LedgerEntry,
    Map, Mutation, Op, Outcome, Pair, Position, PullRequest, PullResponse, PushMutation, PushRequest, PushResponse,
    RecordId, RecordKey, RecordSum, RejectCode, ResultStatus, Scope, Seq, Stamp, StatusResponse, Tombstone, UnixMillis,
    Version, limits,
};
use landfall_replica::{HttpRequest, HttpResponse, Token};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What a restored backup adds to every counter (docs/protocol.md).
const EPOCH_STEP: u64 = 1 << 32;

#[derive(Clone, Debug)]
struct LogRow {
    position: u64,
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
}

#[derive(Clone, Debug, Default)]
struct ClientLedger {
    acked_through: u64,
    /// Sent text (empty for a void) and answer.
    outcomes: BTreeMap<u64, (String, Json)>,
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
    pub collections: BTreeSet<CollectionName>,
    pub page_limit: usize,
    /// Tokens of an older generation are refused.
    pub generation: BTreeMap<String, u64>,
    pub refresh_fails: BTreeSet<String>,
    pub token_ms: Option<u64>,
    /// The next push ends so, and the server is down until then.
    pub crash: Option<(CrashAt, u64)>,
    pub down_until: u64,
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
            collections: BTreeSet::new(),
            page_limit: 100,
            generation: BTreeMap::new(),
            refresh_fails: BTreeSet::new(),
            token_ms: None,
            crash: None,
            down_until: 0,
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
        if request.path == "/auth/refresh" {
            return Some((self.refresh(now, request), Moved::new()));
        }
        let user = match self.user_of(now, request) {
            Ok(user) => user,
            Err(response) => return Some((response, Moved::new())),
        };
        let body = request.body.as_deref().unwrap_or_default();
        match request.path.as_str() {
            "/push" if body.len() > self.body_bytes_max => Some((error(413, ErrorCode::TOO_LARGE), Moved::new())),
            "/push" => self.push(now, profile, &user, body),
            "/pull" => Some((self.pull(now, &user, body), Moved::new())),
            "/status" => {
                let status = StatusResponse {
                    server_time: UnixMillis(now),
                    protocol_min: 1,
                    protocol_max: 1,
                    epoch: self.epoch(),
                    user,
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
        let expires_at = self.token_ms.map(|ms| UnixMillis(now + ms));
        let generation = self.generation.get(user).copied().unwrap_or(0);
        Token { token: format!("{user}/{generation}/{}", expires_at.map_or(u64::MAX, |at| at.get())), expires_at }
    }

    fn refresh(&self, now: u64, request: &HttpRequest) -> HttpResponse {
        #[derive(Deserialize)]
        struct Asked {
            user: String,
        }
        let asked: Option<Asked> = request.body.as_deref().and_then(|body| serde_json::from_str(body).ok());
        match asked {
            Some(Asked { user }) if !self.refresh_fails.contains(&user) => ok(&self.token(now, &user)),
            _ => error(401, ErrorCode::UNAUTHORIZED),
        }
    }

    fn user_of(&self, now: u64, request: &HttpRequest) -> Result<String, HttpResponse> {
        let mut parts = request.token.as_deref().unwrap_or_default().split('/');
        let user = parts.next().unwrap_or_default();
        let generation: u64 = parts.next().and_then(|text| text.parse().ok()).unwrap_or(0);
        let expires_at: u64 = parts.next().and_then(|text| text.parse().ok()).unwrap_or(0);
        if !self.grants.contains_key(user) || generation < self.generation.get(user).copied().unwrap_or(0) {
            return Err(error(401, ErrorCode::UNAUTHORIZED));
        }
        if expires_at <= now {
            return Err(error(401, ErrorCode::TOKEN_EXPIRED));
        }
        Ok(user.to_owned())
    }

    fn may(&self, user: &str, scope: &Scope) -> bool {
        self.grants.get(user).is_some_and(|scopes| scopes.contains(scope))
    }

    // ---- push ----

    fn push(&mut self, now: u64, profile: usize, user: &str, body: &str) -> Option<(HttpResponse, Moved)> {
        let crash = self.crash.take();
        if let Some((CrashAt::BeforeCommit, until)) = crash {
            self.down_until = until;
            return None;
        }
        let Ok(request) = serde_json::from_str::<PushRequest>(body) else {
            return Some((error(400, ErrorCode::MALFORMED), Moved::new()));
        };
        if request.user != user {
            return Some((error(403, ErrorCode::WRONG_USER), Moved::new()));
        }
        let client = (user.to_owned(), request.client_id.clone());
        if request.epoch.as_ref().is_some_and(|theirs| *theirs != self.epoch()) {
            return Some((self.reset_required(&client), Moved::new()));
        }
        let known = self.data.clients.get(&client);
        if known.is_none() && (request.acked_through > Seq::ZERO || !request.first_push) {
            return Some((error(409, ErrorCode::CLIENT_FORK), Moved::new()));
        }
        let mut parsed = Vec::new();
        for text in &request.mutations {
            match PushMutation::parse(text.text()) {
                Ok(mutation) => parsed.push(mutation),
                Err(_) => return Some((error(400, ErrorCode::MALFORMED), Moved::new())),
            }
        }
        self.model.borrow_mut().acknowledged_through(profile, request.client_id.as_str(), request.acked_through.get());
        let ledger = self.data.clients.entry(client.clone()).or_default();
        ledger.acked_through = ledger.acked_through.max(request.acked_through.get());
        let before = self.heads();
        let mut push = Push { server: self, now, profile, client: client.clone(), run: None, results: Vec::new() };
        let mut at = 0;
        let mut runs = 0;
        while at < parsed.len() {
            let end = unit_end(&parsed, at);
            if push.enter(&parsed[at]) {
                runs += 1;
                if runs == 2
                    && let Some((CrashAt::Between, until)) = crash
                {
                    self.down_until = until;
                    return None;
                }
            }
            push.unit(&parsed[at..end], &request.mutations[at..end]);
            at = end;
        }
        let results = push.results;
        if let Some(ledger) = self.data.clients.get_mut(&client) {
            let through = ledger.acked_through;
            ledger.outcomes.retain(|seq, _| *seq > through);
        }
        let after = self.heads();
        let moved = after.iter().filter(|(scope, head)| before.get(*scope) != Some(*head));
        let moved: Moved = moved.map(|(scope, head)| (scope.clone(), *head)).collect();
        if let Some((CrashAt::AfterCommit | CrashAt::Between, until)) = crash {
            self.down_until = until;
            return None;
        }
        let head = moved.iter().map(|(scope, head)| (scope.clone(), Position(*head))).collect();
        let answer = PushResponse { server_time: UnixMillis(now), epoch: self.epoch(), head, results };
        Some((ok(&answer), moved))
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

    // ---- pull ----

    fn pull(&self, now: u64, user: &str, body: &str) -> HttpResponse {
        let Ok(request) = serde_json::from_str::<PullRequest>(body) else { return error(400, ErrorCode::MALFORMED) };
        if request.user != user {
            return error(403, ErrorCode::WRONG_USER);
        }
        let client = (user.to_owned(), request.client_id.clone());
        let cursor = match &request.cursor {
            None => Cursor { epoch: self.data.epoch, scopes: BTreeMap::new() },
            Some(text) => match serde_json::from_str::<Cursor>(text) {
                Ok(cursor) => cursor,
                Err(_) => return error(400, ErrorCode::MALFORMED),
            },
        };
        if cursor.epoch != self.data.epoch {
            return self.reset_required(&client);
        }
        let mut page =
            Page { changes: Map::new(), tombstones: Map::new(), left: self.page_limit.min(request.limit as usize) };
        let mut next = Cursor { epoch: cursor.epoch, scopes: BTreeMap::new() };
        let mut access = Access::default();
        let mut covered: Map<Scope, Map<CollectionName, Position>> = Map::new();
        let mut checksums: Map<Scope, Map<CollectionName, RecordSum>> = Map::new();
        let mut has_more = false;
        let empty = ScopeData::default();
        for scope in self.grants.get(user).into_iter().flatten() {
            let data = self.data.scopes.get(scope).unwrap_or(&empty);
            let old = cursor.scopes.get(scope);
            let mut state = ScopeCursor { position: data.position, pairs: BTreeMap::new() };
            for name in request.collections.iter().filter(|name| self.readable(name, scope)) {
                let pair = Pair(scope.clone(), name.clone());
                let stage = old.and_then(|old| old.pairs.get(name)).filter(|_| !request.resync.contains(&pair));
                let stage = match stage {
                    Some(stage) => {
                        state.position = old.map_or(0, |old| old.position);
                        stage.clone()
                    }
                    None => {
                        if old.is_none_or(|old| !old.pairs.contains_key(name)) {
                            access.added.push(pair);
                        }
                        Stage::Scan { snapshot: data.position, after: String::new() }
                    }
                };
                state.pairs.insert(name.clone(), stage);
            }
            if state.position < data.pruned_through {
                return self.reset_required(&client);
            }
            page.walk(data, &mut state);
            page.scan(scope, data, &mut state);
            for stage in state.pairs.values_mut() {
                if matches!(stage, Stage::Replay { until, .. } if state.position >= *until) {
                    *stage = Stage::Live;
                }
            }
            has_more |= state.position < data.position;
            for (name, stage) in &state.pairs {
                if *stage == Stage::Live {
                    covered.entry(scope.clone()).or_default().insert(name.clone(), Position(state.position));
                    let sum = data.sums.get(name).copied().unwrap_or_default();
                    checksums.entry(scope.clone()).or_default().insert(name.clone(), sum);
                } else {
                    has_more = true;
                }
            }
            next.scopes.insert(scope.clone(), state);
        }
        for (scope, old) in &cursor.scopes {
            let kept = next.scopes.get(scope);
            let gone = old.pairs.keys().filter(|name| kept.is_none_or(|kept| !kept.pairs.contains_key(*name)));
            access.removed.extend(gone.map(|name| Pair(scope.clone(), name.clone())));
        }
        let Page { changes, tombstones, .. } = page;
        ok(&PullResponse {
            server_time: UnixMillis(now),
            epoch: self.epoch(),
            changes,
            tombstones,
            cursor: serde_json::to_string(&next).unwrap_or_default(),
            covered,
            access,
            has_more,
            checksums: if has_more { Map::new() } else { checksums },
        })
    }

    fn readable(&self, name: &CollectionName, scope: &Scope) -> bool {
        self.collections.contains(name) && is_at_home(name, scope)
    }
}

/// `notes` live in a user's scope, everything else in a shared one.
fn is_at_home(name: &CollectionName, scope: &Scope) -> bool {
    (name.as_str() == "notes") == scope.as_str().starts_with("user:")
}

fn unit_end(parsed: &[PushMutation], at: usize) -> usize {
    let group = |element: &PushMutation| match element {
        PushMutation::Mutation(mutation) => mutation.group.clone(),
        PushMutation::Void(_) => None,
    };
    let own = group(&parsed[at]);
    if own.is_none() {
        return at + 1;
    }
    at + parsed[at..].iter().take_while(|element| group(element) == own).count()
}

/// Consecutive mutations of one scope: one transaction, one position.
#[derive(Clone)]
struct Run {
    scope: Scope,
    wrote: bool,
}

struct Push<'a> {
    server: &'a mut Server,
    now: u64,
    profile: usize,
    client: (String, ClientId),
    run: Option<Run>,
    results: Vec<Json>,
}

/// What a judged mutation would write: key, record, its position.
type Effect = Option<(RecordKey, Stored, u64)>;

impl Push<'_> {
    /// True when a new run begins.
    fn enter(&mut self, element: &PushMutation) -> bool {
        let PushMutation::Mutation(mutation) = element else { return false };
        if self.run.as_ref().is_some_and(|run| run.scope == mutation.scope) {
            return false;
        }
        self.run = Some(Run { scope: mutation.scope.clone(), wrote: false });
        true
    }

    fn ledger(&mut self) -> &mut ClientLedger {
        self.server.data.clients.entry(self.client.clone()).or_default()
    }

    fn known(&mut self, seq: u64, sent: &str, is_void: bool) -> Option<Json> {
        let ledger = self.ledger();
        if seq <= ledger.acked_through {
            return to_json(&Outcome::new(Seq(seq), ResultStatus::AlreadySettled));
        }
        let (text, answer) = ledger.outcomes.get(&seq)?;
        if text.is_empty() || is_void || text == sent {
            return Some(answer.clone());
        }
        to_json(&Outcome::new(Seq(seq), ResultStatus::KeyReused))
    }

    fn unit(&mut self, members: &[PushMutation], texts: &[Json]) {
        let mut judged: Vec<(Outcome, Effect)> = Vec::new();
        let undo = self.server.data.scopes.clone_if(members.len() > 1);
        let run = self.run.clone();
        let first_known: Vec<Option<Json>> = members
            .iter()
            .zip(texts)
            .map(|(member, text)| self.known(member.seq().get(), text.text(), matches!(member, PushMutation::Void(_))))
            .collect();
        if first_known.iter().all(Option::is_some) {
            for (answer, (member, text)) in first_known.into_iter().zip(members.iter().zip(texts)) {
                self.answer(member, text.text(), answer.unwrap_or_else(Json::null));
            }
            return;
        }
        if members.len() > 1 && first_known.iter().any(Option::is_some) {
            // A torn group: what is new of it is refused.
            for (answer, (member, text)) in first_known.into_iter().zip(members.iter().zip(texts)) {
                match answer {
                    Some(answer) => self.answer(member, text.text(), answer),
                    None => {
                        let outcome = Outcome::rejected(member.seq(), RejectCode::MALFORMED, "torn group");
                        self.settle(member, text.text(), outcome, None);
                    }
                }
            }
            return;
        }
        for member in members {
            let one = self.judge(member, &judged);
            let failed = !one.0.took_effect();
            if let Some((key, stored, position)) = &one.1 {
                self.write(key, stored, *position);
            }
            judged.push(one);
            if failed && members.len() > 1 {
                break;
            }
        }
        if let Some(undo) = undo
            && judged.last().is_some_and(|(outcome, _)| !outcome.took_effect())
        {
            self.server.data.scopes = undo;
            self.run = run;
            let cause = judged.pop().map(|(outcome, _)| outcome);
            judged = members.iter().map(|member| (self.undone(member, cause.as_ref()), None)).collect();
        }
        let mut answers = Vec::new();
        for ((member, text), (outcome, effect)) in members.iter().zip(texts).zip(judged) {
            answers.push(outcome.clone());
            self.settle(member, text.text(), outcome, effect);
        }
        let items: Vec<(&Mutation, &str, &Outcome)> = members
            .iter()
            .zip(texts)
            .zip(&answers)
            .filter_map(|((member, text), outcome)| match member {
                PushMutation::Mutation(mutation) => Some((&**mutation, text.text(), outcome)),
                PushMutation::Void(_) => None,
            })
            .collect();
        self.server.model.borrow_mut().groups(self.profile, &items);
    }

    fn undone(&mut self, member: &PushMutation, cause: Option<&Outcome>) -> Outcome {
        let (PushMutation::Mutation(mutation), Some(cause)) = (member, cause) else {
            return Outcome::rejected(member.seq(), RejectCode::MALFORMED, "no group");
        };
        if cause.status == ResultStatus::Superseded {
            let stored = self.stored(&mutation.key());
            let outcome =
                self.with_situation(mutation, stored.as_ref(), None, |situation| superseded(situation, mutation.seq));
            return self.placed(mutation, outcome.outcome);
        }
        if cause.seq == member.seq() {
            return cause.clone();
        }
        let mut outcome = Outcome::rejected(member.seq(), RejectCode::GROUP_REFUSED, "Another change was refused.");
        outcome.by = Some(cause.seq);
        self.placed(mutation, outcome)
    }

    fn stored(&self, key: &RecordKey) -> Option<Stored> {
        let records = self.server.data.scopes.get(&key.scope)?.records.get(&key.collection)?;
        records.get(&key.id).map(|(_, stored)| stored.clone())
    }

    fn judge(&mut self, member: &PushMutation, earlier: &[(Outcome, Effect)]) -> (Outcome, Effect) {
        let mutation = match member {
            PushMutation::Void(seq) => return (Outcome::rejected(*seq, RejectCode::VOID, "taken back"), None),
            PushMutation::Mutation(mutation) => mutation,
        };
        if !self.server.may(&self.client.0, &mutation.scope) {
            return (Outcome::rejected(mutation.seq, RejectCode::FORBIDDEN, "no access"), None);
        }
        if !self.server.readable(&mutation.collection, &mutation.scope) {
            return (Outcome::rejected(mutation.seq, RejectCode::UNKNOWN_COLLECTION, "unknown"), None);
        }
        let stored = self.stored(&mutation.key());
        let mut judged = (**mutation).clone();
        if planted(Plant::ServerIgnoresBase) && stored.is_some() {
            judged.after = None;
            judged.base = stored.as_ref().map(|stored| stored.version);
        }
        let after = judged.after.and_then(|after| {
            let earlier = earlier.iter().map(|(outcome, _)| outcome).find(|outcome| outcome.seq == after).cloned();
            earlier.or_else(|| self.outcome_of(after, stored.as_ref()))
        });
        let verdict =
            self.with_situation(&judged, stored.as_ref(), after.as_ref(), |situation| decide(situation, &judged));
        let Some(effect) = verdict.effect else { return (self.placed(mutation, verdict.outcome), None) };
        if mutation.op != Op::Delete && effect.stored.fields.get("bad").is_some_and(|bad| bad.text() == "true") {
            let mut outcome = Outcome::rejected(mutation.seq, RejectCode::VALIDATION, "Some values are not valid.");
            outcome.fields.insert("bad".to_owned(), "must not be".to_owned());
            return (self.placed(mutation, outcome), None);
        }
        let position = self.next_position();
        if let Some(run) = &mut self.run {
            run.wrote = true;
        }
        self.server.data.scopes.entry(mutation.scope.clone()).or_default().position = position;
        (self.placed(mutation, verdict.outcome), Some((mutation.key(), effect.stored, position)))
    }

    fn next_position(&self) -> u64 {
        let Some(run) = &self.run else { return 0 };
        let Some(scope) = self.server.data.scopes.get(&run.scope) else { return 1 };
        if run.wrote { scope.position } else { scope.position + 1 }
    }

    fn with_situation<T>(
        &mut self,
        mutation: &Mutation,
        stored: Option<&Stored>,
        after: Option<&Outcome>,
        ask: impl FnOnce(&Situation<'_>) -> T,
    ) -> T {
        let position = Position(self.next_position());
        let floor = self.server.data.scopes.get(&mutation.scope).map_or(0, |scope| scope.version_floor);
        let stamp: Stamp = mutation.stamp.clamped(self.now, limits::HLC_AHEAD_MS_MAX);
        ask(&Situation {
            policy: Policy::ServerWins,
            stored,
            version_floor: Version(floor),
            client: &self.client.1,
            after,
            position,
            stamp: &stamp,
        })
    }

    fn outcome_of(&mut self, seq: Seq, stored: Option<&Stored>) -> Option<Outcome> {
        let client = self.client.1.clone();
        if let Some((_, text)) = self.ledger().outcomes.get(&seq.get()) {
            return serde_json::from_str(text.text()).ok();
        }
        stored.filter(|stored| stored.client == client && stored.seq == seq).map(|stored| {
            let mut outcome = Outcome::new(seq, ResultStatus::Applied);
            outcome.version = Some(stored.version);
            outcome
        })
    }

    fn placed(&mut self, mutation: &Mutation, mut outcome: Outcome) -> Outcome {
        if !self.server.may(&self.client.0, &mutation.scope) {
            // Where a scope stands is nobody's business who does not hold it (I1).
            return outcome;
        }
        outcome.scope = Some(mutation.scope.clone());
        let scope = self.server.data.scopes.entry(mutation.scope.clone()).or_default();
        outcome.position = Some(Position(scope.position));
        outcome
    }

    fn write(&mut self, key: &RecordKey, stored: &Stored, position: u64) {
        let scope = self.server.data.scopes.entry(key.scope.clone()).or_default();
        let records = scope.records.entry(key.collection.clone()).or_default();
        let before = records.insert(key.id.clone(), (position, stored.clone()));
        let sum = scope.sums.entry(key.collection.clone()).or_default();
        if let Some((_, before)) = before.filter(|(_, before)| !before.deleted) {
            sum.remove(&key.id, before.version);
        }
        if !stored.deleted {
            sum.add(&key.id, stored.version);
        }
        scope.log.push(LogRow { position, key: key.clone(), stored: stored.clone() });
    }

    fn settle(&mut self, member: &PushMutation, sent: &str, outcome: Outcome, effect: Effect) {
        let seq = member.seq().get();
        let answer = to_json(&outcome).unwrap_or_else(Json::null);
        let mutation = match member {
            PushMutation::Mutation(mutation) => Some(&**mutation),
            PushMutation::Void(_) => None,
        };
        let kept = if mutation.is_some() { sent.to_owned() } else { String::new() };
        if !planted(Plant::ServerKeepsNoOutcome) {
            self.ledger().outcomes.insert(seq, (kept, answer.clone()));
        }
        let effect = effect.map(|(_, stored, position)| {
            (position, stored.version.get(), (!stored.deleted).then(|| plain(&stored.fields)))
        });
        self.server.model.borrow_mut().decided(&Seen {
            profile: self.profile,
            client: self.client.1.as_str(),
            sent,
            mutation,
            outcome: &outcome,
            answer: answer.text(),
            effect,
        });
        self.answer(member, sent, answer);
    }

    fn answer(&mut self, member: &PushMutation, sent: &str, answer: Json) {
        if let Ok(outcome) = serde_json::from_str::<Outcome>(answer.text()) {
            let client = self.client.1.as_str();
            let mut model = self.server.model.borrow_mut();
            model.answered(client, member.seq().get(), sent, &outcome, answer.text());
        }
        self.results.push(answer);
    }
}

trait CloneIf: Sized {
    fn clone_if(&self, wanted: bool) -> Option<Self>;
}
impl<T: Clone> CloneIf for T {
    fn clone_if(&self, wanted: bool) -> Option<Self> {
        wanted.then(|| self.clone())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    /// Reads records in key order; changes above the snapshot of records that were read are walked.
    Scan {
        snapshot: u64,
        after: String,
    },
    /// Read to its end at `until`; exact once the walk has come so far.
    Replay {
        snapshot: u64,
        until: u64,
    },
    Live,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ScopeCursor {
    position: u64,
    pairs: BTreeMap<CollectionName, Stage>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    epoch: u64,
    scopes: BTreeMap<Scope, ScopeCursor>,
}

struct Page {
    changes: Map<CollectionName, Vec<Change>>,
    tombstones: Map<CollectionName, Vec<Tombstone>>,
    left: usize,
}

impl Page {
    fn add(&mut self, key: &RecordKey, position: u64, stored: &Stored) {
        self.left = self.left.saturating_sub(1);
        let (scope, id) = (key.scope.clone(), key.id.clone());
        let (version, position, stamp) = (stored.version, Position(position), Some(stored.stamp.clone()));
        if stored.deleted {
            let tombstone = Tombstone { scope, id, version, position, stamp };
            self.tombstones.entry(key.collection.clone()).or_default().push(tombstone);
        } else {
            let change = Change { scope, id, version, position, fields: stored.fields.clone(), stamp };
            self.changes.entry(key.collection.clone()).or_default().push(change);
        }
    }

    /// Walks the log to the end of a transaction.
    fn walk(&mut self, data: &ScopeData, state: &mut ScopeCursor) {
        let from = data.log.partition_point(|row| row.position <= state.position);
        let mut last = None;
        for row in &data.log[from..] {
            if self.left == 0 && last.is_some_and(|last| last != row.position) {
                state.position = last.unwrap_or(state.position);
                return;
            }
            if planted(Plant::PageSplitsPush)
                && self.left == 0
                && let Some(last) = last
            {
                // The first transaction of a page stays whole, or it would never come to an end.
                let first = data.log[from].position;
                if last > first {
                    state.position = last - 1;
                    return;
                }
            }
            last = Some(row.position);
            let wanted = match state.pairs.get(&row.key.collection) {
                None => false,
                Some(Stage::Live) => true,
                Some(Stage::Scan { snapshot, after }) => row.position > *snapshot && row.key.id.as_str() <= after,
                Some(Stage::Replay { snapshot, .. }) => row.position > *snapshot,
            };
            if wanted {
                self.add(&row.key, row.position, &row.stored);
            }
        }
        state.position = data.position;
    }

    fn scan(&mut self, scope: &Scope, data: &ScopeData, state: &mut ScopeCursor) {
        let none = BTreeMap::new();
        for (name, stage) in &mut state.pairs {
            let Stage::Scan { snapshot, after } = stage else { continue };
            let (snapshot, mut last) = (*snapshot, std::mem::take(after));
            let mut is_done = true;
            for (id, (position, stored)) in data.records.get(name).unwrap_or(&none) {
                if id.as_str() <= last.as_str() {
                    continue;
                }
                if self.left == 0 {
                    is_done = false;
                    break;
                }
                let key = RecordKey { scope: scope.clone(), collection: name.clone(), id: id.clone() };
                self.add(&key, *position, stored);
                last = id.as_str().to_owned();
            }
            *stage = if is_done {
                Stage::Replay { snapshot, until: data.position }
            } else {
                Stage::Scan { snapshot, after: last }
            };
        }
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
