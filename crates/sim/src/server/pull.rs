//! Pulls: pages that end with a push, scans of what is new to a client, tombstones, checksums at the head.

use super::{Caller, ScopeData, Server, error, ok};
use landfall_core::authority::Stored;
use landfall_core::plant::{Plant, planted};
use landfall_protocol::{
    Access, Change, CollectionName, ErrorCode, Map, Pair, Position, PullRequest, PullResponse, RecordKey, RecordSum,
    Scope, Tombstone, UnixMillis,
};
use landfall_replica::HttpResponse;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

impl Server {
    pub(super) fn pull(&self, now: u64, caller: &Caller, body: &str) -> HttpResponse {
        let Ok(request) = serde_json::from_str::<PullRequest>(body) else { return error(400, ErrorCode::MALFORMED) };
        let user = caller.user.as_str();
        if request.user != user && !planted(Plant::UserNotCompared) {
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
        let mut overruled = Vec::new();
        let mut has_more = false;
        let empty = ScopeData::default();
        for scope in self.grants.get(user).into_iter().flatten() {
            let data = self.data.scopes.get(scope).unwrap_or(&empty);
            let old = cursor.scopes.get(scope);
            let mut state = ScopeCursor { position: data.position, pairs: BTreeMap::new() };
            for name in request.collections.iter().filter(|name| self.readable(name, scope, caller.is_manager)) {
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
            overruled.extend(data.overruled.iter().filter_map(|(who, by, loss)| {
                let stood = old.filter(|old| old.pairs.contains_key(&loss.collection)).map_or(0, |old| old.position);
                let span = stood + 1..=state.position;
                let told = who == user && *by != request.client_id && state.pairs.contains_key(&loss.collection);
                (told && span.contains(&loss.position.get())).then(|| loss.clone())
            }));
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
            overruled,
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
        let seen_at = data.log[..from].last().map_or(0, |row| row.at);
        for row in &data.log[from..] {
            if planted(Plant::CursorByTime) && row.at <= seen_at {
                continue;
            }
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
                Some(Stage::Scan { .. } | Stage::Replay { .. }) if planted(Plant::ScanWithoutReplay) => false,
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
