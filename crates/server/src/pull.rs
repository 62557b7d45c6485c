//! One page of a pull, made in one read transaction.
//!
//! Invariant: at `covered` positions every live pair is exactly the server's state there (R2); a page ends only
//! where a push transaction ends (S5). Pairs that are not covered are staged by the client and flip whole.

use crate::auth::Identity;
use crate::collections::Collections;
use crate::cursor::{Cursor, ScopeCursor, Stage};
use crate::error::ServerError;
use crate::ledger::ledger;
use crate::store::{ChangeRow, Lost, Snapshot, StoreError, Walk};
use landfall_protocol::limits::{CONFLICT_COUNT_MAX, PAGE_BYTES_MAX, PAGE_COUNT_MAX};
use landfall_protocol::{
    Access, Change, ClientId, CollectionName, Epoch, Map, Overruled, Pair, Position, PullRequest, PullResponse,
    RecordId, RecordKey, Scope, Set, Tombstone, UnixMillis,
};

/// Rows of the change log that one page looks at, wanted ones or not.
const SCANNED_MAX: usize = 20_000;
/// The newest losses of a user that one page tells, in each scope: a client keeps no more.
const OVERRULED_MAX: u32 = CONFLICT_COUNT_MAX as u32;
/// What a row costs on the wire beside its fields, bytes.
const ROW_OVERHEAD_BYTES: usize = 150;

/// A pull that belongs to a verified user.
pub struct Pull {
    pub identity: Identity,
    pub request: PullRequest,
    pub now: UnixMillis,
}

/// The next page.
pub fn page(db: &dyn Snapshot, pull: &Pull, collections: &Collections) -> Result<PullResponse, ServerError> {
    let epoch = db.epoch()?;
    let cursor = match &pull.request.cursor {
        None => Cursor::new(epoch.clone()),
        Some(text) => {
            Cursor::decode(text).ok_or_else(|| ServerError::Malformed("the cursor is not one of ours".to_owned()))?
        }
    };
    if cursor.epoch != epoch {
        return Err(reset(db, pull, epoch)?);
    }
    let mut pager =
        Pager { db, heads: Map::new(), cursor, access: Access::default(), before: Map::new(), rows: Map::new() };
    if !pager.adopt(pull, collections)? {
        return Err(reset(db, pull, epoch)?);
    }
    let count = usize::try_from(pull.request.limit).unwrap_or(PAGE_COUNT_MAX).clamp(1, PAGE_COUNT_MAX);
    let mut budget = Budget { count, bytes: PAGE_BYTES_MAX };
    // While something is cold, the log leaves it half of the page: neither starves the other.
    let mut log_budget = if pager.is_cold() { budget.half() } else { budget };
    let (count_before, bytes_before) = (log_budget.count, log_budget.bytes);
    pager.walk_logs(&mut log_budget)?;
    budget.spend(count_before - log_budget.count, bytes_before - log_budget.bytes);
    pager.scan_cold(&mut budget)?;
    pager.flip();
    let overruled = pager.overruled((&pull.identity.sub, &pull.request.client_id))?;
    pager.answer(overruled, pull.now)
}

fn reset(db: &dyn Snapshot, pull: &Pull, epoch: Epoch) -> Result<ServerError, ServerError> {
    let (sub, client) = (&pull.identity.sub, &pull.request.client_id);
    let known = db.client(sub, client)?;
    let ledger = ledger(db, sub, client, known.as_ref())?;
    Ok(ServerError::ResetRequired { epoch, ledger: Some(Box::new(ledger)) })
}

/// What still fits into the page.
#[derive(Clone, Copy, Debug)]
struct Budget {
    count: usize,
    bytes: usize,
}

impl Budget {
    fn half(self) -> Self {
        Self { count: self.count.div_ceil(2), bytes: self.bytes / 2 }
    }
    fn spend(&mut self, count: usize, bytes: usize) {
        self.count = self.count.saturating_sub(count);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
    fn is_spent(&self) -> bool {
        self.count == 0 || self.bytes == 0
    }
}

struct Pager<'a> {
    db: &'a dyn Snapshot,
    heads: Map<Scope, Position>,
    cursor: Cursor,
    access: Access,
    /// Where the client stood before this page; nothing for a pair that is new to it.
    before: Map<Pair, Position>,
    /// The newest state of each record that this page carries.
    rows: Map<(CollectionName, Scope, RecordId), ChangeRow>,
}

impl Pager<'_> {
    /// Brings the cursor in line with what this user may read and this client wants. False: below the pruning floor.
    fn adopt(&mut self, pull: &Pull, collections: &Collections) -> Result<bool, StoreError> {
        let mut before = std::mem::take(&mut self.cursor.scopes);
        let resync: Set<&Pair> = pull.request.resync.iter().collect();
        for scope in &pull.identity.scopes {
            let roles = &pull.identity.roles;
            let names = pull.request.collections.iter();
            let wanted: Set<&CollectionName> = names.filter(|name| collections.readable(name, scope, roles)).collect();
            let old = before.remove(scope).unwrap_or_default();
            for name in old.pairs.keys().filter(|name| !wanted.contains(name)) {
                self.access.removed.push(Pair(scope.clone(), name.clone()));
            }
            if wanted.is_empty() {
                continue;
            }
            let row = self.db.scope(scope)?;
            self.heads.insert(scope.clone(), row.position);
            let cold = || Stage::Cold { snapshot: row.position, after_id: RecordId::default() };
            let mut next = ScopeCursor { position: row.position, pairs: Default::default() };
            for name in wanted {
                let pair = Pair(scope.clone(), name.clone());
                let stage = match old.pairs.get(name) {
                    Some(stage) if !resync.contains(&pair) => {
                        // What this pair lacks begins here.
                        next.position = old.position;
                        self.before.insert(pair, old.position);
                        stage.clone()
                    }
                    Some(_) => cold(),
                    None => {
                        self.access.added.push(pair);
                        cold()
                    }
                };
                next.pairs.insert(name.clone(), stage);
            }
            if next.position < row.pruned_through {
                return Ok(false);
            }
            self.cursor.scopes.insert(scope.clone(), next);
        }
        for (scope, old) in before {
            self.access.removed.extend(old.pairs.into_keys().map(|name| Pair(scope.clone(), name)));
        }
        Ok(true)
    }

    fn is_cold(&self) -> bool {
        let mut stages = self.cursor.scopes.values().flat_map(|scope| scope.pairs.values());
        stages.any(|stage| matches!(stage, Stage::Cold { .. }))
    }

    /// Scopes in the order of this page.
    fn order(&self) -> Vec<Scope> {
        let mut scopes: Vec<Scope> = self.cursor.scopes.keys().cloned().collect();
        if let Some(turn) = &self.cursor.turn {
            let first = scopes.partition_point(|scope| scope < turn);
            scopes.rotate_left(first);
        }
        scopes
    }

    fn head(&self, scope: &Scope) -> Position {
        self.heads.get(scope).copied().unwrap_or_default()
    }

    /// Walks the change logs, each to the end of a push transaction.
    fn walk_logs(&mut self, budget: &mut Budget) -> Result<(), StoreError> {
        let mut scanned = 0;
        let order = self.order();
        self.cursor.turn = None;
        for scope in order {
            if budget.is_spent() || scanned >= SCANNED_MAX {
                self.cursor.turn = Some(scope);
                return Ok(());
            }
            let Some(mut state) = self.cursor.scopes.remove(&scope) else { continue };
            if state.position < self.head(&scope) {
                state.position = self.walk_log(&scope, &state, budget, &mut scanned)?;
            }
            self.cursor.scopes.insert(scope, state);
        }
        Ok(())
    }

    fn walk_log(
        &mut self,
        scope: &Scope,
        state: &ScopeCursor,
        budget: &mut Budget,
        scanned: &mut usize,
    ) -> Result<Position, StoreError> {
        let head = self.head(scope);
        let (mut at, mut ended_at) = (None, None);
        let rows = &mut self.rows;
        self.db.changes(scope, state.position, &mut |row| {
            let boundary = at.is_some_and(|position| position != row.position);
            if boundary && (budget.is_spent() || *scanned >= SCANNED_MAX) {
                ended_at = at;
                return Walk::End;
            }
            at = Some(row.position);
            *scanned += 1;
            let wanted = state.pairs.get(&row.collection).is_some_and(|stage| stage.wants(&row));
            if wanted {
                budget.spend(1, row.fields.len() + ROW_OVERHEAD_BYTES);
                rows.insert((row.collection.clone(), scope.clone(), row.id.clone()), row);
            }
            Walk::On
        })?;
        Ok(ended_at.unwrap_or(head))
    }

    /// Reads records of cold pairs in key order.
    fn scan_cold(&mut self, budget: &mut Budget) -> Result<(), StoreError> {
        for scope in self.order() {
            let Some(mut state) = self.cursor.scopes.remove(&scope) else { continue };
            for (name, stage) in &mut state.pairs {
                if let Stage::Cold { snapshot, after_id } = stage
                    && !budget.is_spent()
                {
                    let pair = Pair(scope.clone(), name.clone());
                    *stage = match self.scan_pair(&pair, after_id, budget)? {
                        Some(after_id) => Stage::Cold { snapshot: *snapshot, after_id },
                        None => Stage::Replay { snapshot: *snapshot, until: self.head(&scope) },
                    };
                }
            }
            self.cursor.scopes.insert(scope, state);
        }
        Ok(())
    }

    /// The last id that was read, or `None` when the pair was read to its end.
    fn scan_pair(
        &mut self,
        pair: &Pair,
        after_id: &RecordId,
        budget: &mut Budget,
    ) -> Result<Option<RecordId>, StoreError> {
        let (mut last, mut ended) = (after_id.clone(), true);
        let rows = &mut self.rows;
        self.db.records(pair, after_id.as_str(), &mut |row| {
            if budget.is_spent() {
                ended = false;
                return Walk::End;
            }
            budget.spend(1, row.fields.len() + ROW_OVERHEAD_BYTES);
            last = row.id.clone();
            // The record as it is now; an image of it that the walk delivered is older or the same.
            rows.insert((row.collection.clone(), pair.0.clone(), row.id.clone()), row);
            Walk::On
        })?;
        Ok((!ended).then_some(last))
    }

    /// Pairs whose replay has come far enough are live from this page on.
    fn flip(&mut self) {
        for state in self.cursor.scopes.values_mut() {
            for stage in state.pairs.values_mut() {
                if matches!(stage, Stage::Replay { until, .. } if state.position >= *until) {
                    *stage = Stage::Live;
                }
            }
        }
    }

    /// What this user lost, to others than this client, between where it stood and where this page leads it. To one that starts
    /// anew: what is still kept.
    fn overruled(&self, user: (&str, &ClientId)) -> Result<Vec<Overruled>, ServerError> {
        let mut all = Vec::new();
        for (scope, state) in &self.cursor.scopes {
            let stood = |name: &CollectionName| {
                self.before.get(&Pair(scope.clone(), name.clone())).copied().unwrap_or_default()
            };
            let from = state.pairs.keys().map(stood).min().unwrap_or_default();
            for lost in self.db.overruled(scope, user, (from, state.position), OVERRULED_MAX)? {
                let Lost { position, collection, id, at, op, code, fields } = lost;
                if !state.pairs.contains_key(&collection) || position <= stood(&collection) {
                    continue;
                }
                let read =
                    |text: &str| serde_json::from_str(text).map_err(|_| StoreError::Corrupt("a loss is no JSON"));
                let op = serde_json::from_str(&op).map_err(|_| StoreError::Corrupt("a loss is no JSON"))?;
                let key = RecordKey { scope: scope.clone(), collection, id };
                let record = self.db.record(&key)?.filter(|row| !row.stored.deleted).map(|row| row.stored.fields);
                let RecordKey { scope, collection, id } = key;
                all.push(Overruled { scope, collection, id, position, at, op, code, fields: read(&fields)?, record });
            }
        }
        Ok(all)
    }

    fn answer(self, overruled: Vec<Overruled>, now: UnixMillis) -> Result<PullResponse, ServerError> {
        let mut covered: Map<Scope, Map<CollectionName, Position>> = Map::new();
        let mut has_more = false;
        for (scope, state) in &self.cursor.scopes {
            has_more |= state.position < self.head(scope);
            for (name, stage) in &state.pairs {
                if *stage == Stage::Live {
                    covered.entry(scope.clone()).or_default().insert(name.clone(), state.position);
                } else {
                    has_more = true;
                }
            }
        }
        let mut checksums = Map::new();
        if !has_more {
            for (scope, pairs) in &covered {
                let sums: &mut Map<_, _> = checksums.entry(scope.clone()).or_default();
                for name in pairs.keys() {
                    sums.insert(name.clone(), self.db.sum(&Pair(scope.clone(), name.clone()))?);
                }
            }
        }
        let (changes, tombstones) = split(self.rows)?;
        Ok(PullResponse {
            server_time: now,
            epoch: self.cursor.epoch.clone(),
            changes,
            tombstones,
            cursor: self.cursor.encode(),
            covered,
            access: self.access,
            has_more,
            checksums,
            overruled,
        })
    }
}

type ByCollection<T> = Map<CollectionName, Vec<T>>;

fn split(
    rows: Map<(CollectionName, Scope, RecordId), ChangeRow>,
) -> Result<(ByCollection<Change>, ByCollection<Tombstone>), StoreError> {
    let (mut changes, mut tombstones) = (Map::new(), Map::new());
    for ((collection, scope, id), row) in rows {
        let ChangeRow { position, version, deleted, fields, stamp, .. } = row;
        let stamp = Some(stamp);
        if deleted {
            let list: &mut Vec<Tombstone> = tombstones.entry(collection).or_default();
            list.push(Tombstone { scope, id, version, position, stamp });
        } else {
            let fields = serde_json::from_str(&fields).map_err(|_| StoreError::Corrupt("a change is no JSON"))?;
            let list: &mut Vec<Change> = changes.entry(collection).or_default();
            list.push(Change { scope, id, version, position, fields, stamp });
        }
    }
    Ok((changes, tombstones))
}
