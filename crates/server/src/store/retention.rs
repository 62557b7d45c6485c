//! How long things are kept, and what a restored backup starts with.
//!
//! Pruning raises a scope's floor in the transaction that removes the first row below it: a cursor below the floor
//! gets `reset_required`, never a partial answer (R6). Versions never restart: the floor of
//! versions rises past every tombstone that is cleaned up.

use super::database::{Db, integer, number};
use super::{Store, StoreError, StoreResult, compat, operations, overruled};
use landfall_protocol::limits::{CHANGE_LOG_COUNT_MAX, CHANGE_LOG_MS, CLIENT_IDLE_MS, NUMBER_MAX};
use landfall_protocol::{Epoch, Position, Scope, UnixMillis};
use rusqlite::params;
use std::sync::Arc;

/// Rows that one write job removes: short enough that pushes do not wait.
const STEP_ROWS: u32 = 2000;
/// What a new epoch adds to every counter and floor: more than a lost tail of the log can hold.
const EPOCH_STRIDE: u64 = 1 << 32;

/// How long a scope's change log is kept, where that was declared.
pub type KeptByScope = Arc<dyn Fn(&Scope) -> Option<u64> + Send + Sync>;

/// Times and counts that clean-up goes by.
#[derive(Clone)]
pub struct Retention {
    pub change_log_ms: u64,
    /// Overrides `change_log_ms` where it answers.
    pub by_scope: Option<KeptByScope>,
    pub change_log_count_max: u64,
    pub client_idle_ms: u64,
    pub audit_ms: u64,
}

impl Retention {
    /// What happened in this scope before then may go.
    pub fn since(&self, scope: &Scope, now: UnixMillis) -> UnixMillis {
        let declared = self.by_scope.as_ref().and_then(|kept| kept(scope));
        UnixMillis(now.get().saturating_sub(declared.unwrap_or(self.change_log_ms)))
    }
    /// What was decided in this scope before then may go: it says what a decision overwrote, and values that lost are
    /// kept as long as the audit (C2).
    pub fn decided_since(&self, scope: &Scope, now: UnixMillis) -> UnixMillis {
        self.since(scope, now).min(UnixMillis(now.get().saturating_sub(self.audit_ms)))
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            change_log_ms: CHANGE_LOG_MS,
            by_scope: None,
            change_log_count_max: CHANGE_LOG_COUNT_MAX,
            client_idle_ms: CLIENT_IDLE_MS,
            audit_ms: 90 * 24 * 3_600_000,
        }
    }
}

/// Removes what is older than `retention`, in small write jobs.
pub async fn prune<S: Store>(store: &S, retention: Retention, now: UnixMillis) -> StoreResult<()> {
    let planned = retention.clone();
    let plan = store.read::<_, StoreError, _>(move |db| db.prune_plan(&planned, now)).await?;
    for (scope, through) in plan {
        loop {
            let scope = scope.clone();
            if !store.write::<_, StoreError, _>(move |db| db.prune_scope(&scope, through, STEP_ROWS)).await? {
                break;
            }
        }
    }
    loop {
        let retention = retention.clone();
        if !store.write::<_, StoreError, _>(move |db| db.prune_idle(&retention, now, STEP_ROWS)).await? {
            return Ok(());
        }
    }
}

/// For each scope the newest position that may go.
pub(super) fn plan(db: &Db<'_>, retention: &Retention, now: UnixMillis) -> StoreResult<Vec<(Scope, Position)>> {
    let scopes = db.rows("SELECT scope, position, pruned_through FROM scopes ORDER BY scope", [], |row| {
        Ok((row.get::<_, String>(0)?, number(row, 1)?, number(row, 2)?))
    })?;
    let mut plan = Vec::new();
    for (scope, head, pruned_through) in scopes {
        let scope = Scope(scope);
        let oldest = integer(retention.since(&scope, now).get());
        let first_kept = db.row(
            "SELECT position FROM changes WHERE scope = ?1 AND at >= ?2 ORDER BY position LIMIT 1",
            params![scope.as_str(), oldest],
            |row| number(row, 0),
        )?;
        let by_age = first_kept.map_or(head, |position| position - 1);
        let by_count = db.row(
            "SELECT position FROM changes WHERE scope = ?1 ORDER BY position DESC LIMIT 1 OFFSET ?2",
            params![scope.as_str(), integer(retention.change_log_count_max)],
            |row| number(row, 0),
        )?;
        let through = by_age.max(by_count.unwrap_or(0));
        if through > pruned_through {
            plan.push((scope, Position(through)));
        }
    }
    Ok(plan)
}

pub(super) fn prune_scope(db: &Db<'_>, scope: &Scope, through: Position, rows_max: u32) -> StoreResult<bool> {
    let (name, through) = (scope.as_str(), integer(through.get()));
    db.execute("UPDATE scopes SET pruned_through = max(pruned_through, ?2) WHERE scope = ?1", params![name, through])?;
    let changes = db.execute(
        "DELETE FROM changes WHERE (scope, position, part) IN
             (SELECT scope, position, part FROM changes WHERE scope = ?1 AND position <= ?2 LIMIT ?3)",
        params![name, through, rows_max],
    )?;
    let tombstones = db.rows(
        "SELECT collection, id, version FROM records
         WHERE scope = ?1 AND deleted = 1 AND position <= ?2 LIMIT ?3",
        params![name, through, rows_max],
        |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?)),
    )?;
    for (collection, id, version) in &tombstones {
        db.execute(
            "UPDATE scopes SET version_floor = max(version_floor, ?2) WHERE scope = ?1",
            params![name, version],
        )?;
        db.execute(
            "DELETE FROM records WHERE scope = ?1 AND collection = ?2 AND id = ?3",
            params![name, collection, id],
        )?;
    }
    let step = usize::try_from(rows_max).unwrap_or(usize::MAX);
    Ok(changes >= step || tombstones.len() >= step)
}

pub(super) fn prune_idle(db: &Db<'_>, retention: &Retention, now: UnixMillis, rows_max: u32) -> StoreResult<bool> {
    let idle_since = integer(now.get().saturating_sub(retention.client_idle_ms));
    let idle = db.rows(
        "SELECT sub, client_id FROM clients WHERE last_seen < ?1 LIMIT ?2",
        params![idle_since, rows_max],
        |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)),
    )?;
    for (sub, client) in &idle {
        db.execute("DELETE FROM outcomes WHERE sub = ?1 AND client_id = ?2", params![sub, client])?;
        db.execute("DELETE FROM clients WHERE sub = ?1 AND client_id = ?2", params![sub, client])?;
    }
    let audited = integer(now.get().saturating_sub(retention.audit_ms));
    let since = |kept_ms| UnixMillis(now.get().saturating_sub(kept_ms));
    operations::prune(db, since(retention.audit_ms), since(retention.client_idle_ms))?;
    compat::prune(db, since(retention.client_idle_ms))?;
    let mut rows = idle.len().max(overruled::prune(db, since(retention.audit_ms), rows_max)?);
    for table in ["audit", "conflicts"] {
        // Ids grow with time: only the oldest rows need a look.
        let oldest = format!("SELECT id, at FROM {table} ORDER BY id LIMIT ?2");
        let sql = format!("DELETE FROM {table} WHERE id IN (SELECT id FROM ({oldest}) WHERE at < ?1)");
        rows = rows.max(db.execute(&sql, params![audited, rows_max])?);
    }
    db.execute("DELETE FROM refresh_tokens WHERE expires_at <= ?1", params![integer(now.get())])?;
    Ok(rows >= usize::try_from(rows_max).unwrap_or(usize::MAX))
}

pub(super) fn renew_epoch(db: &Db<'_>, epoch: &Epoch) -> StoreResult<()> {
    let base = db.number_base()?;
    if base + EPOCH_STRIDE > NUMBER_MAX / 2 {
        return Err(StoreError::Corrupt("no more epochs fit into the numbers"));
    }
    let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    db.execute(sql, params!["epoch", epoch.0])?;
    // A scope that the backup does not know starts above what it may have had, too.
    db.execute(sql, params!["number_base", (base + EPOCH_STRIDE).to_string()])?;
    let sql = "UPDATE scopes SET position = position + ?1, version_floor = version_floor + ?1";
    db.execute(sql, params![integer(EPOCH_STRIDE)])?;
    Ok(())
}
