//! What the people who run the server ask of the store: devices, failures over time, audit, conflicts; and what the
//! compatible endpoints remember of their devices.
//!
//! Nothing here decides a mutation. The tables are made when a file is opened, whatever version its others have.

use super::database::{Db, integer, number};
use super::{StoreError, StoreResult};
use landfall_protocol::{
    ClientId, CollectionName, Json, Outcome, RecordId, RejectCode, Scope, Seq, UnixMillis, Version,
};
use rusqlite::{Row, params};
use schemars::JsonSchema;
use serde::Serialize;

pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS devices (
    sub TEXT NOT NULL, client_id TEXT NOT NULL,
    last_pull INTEGER NOT NULL, pending_count INTEGER NOT NULL, failed_count INTEGER NOT NULL,
    reported_at INTEGER NOT NULL,
    PRIMARY KEY (sub, client_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (
    hour INTEGER NOT NULL, collection TEXT NOT NULL, code TEXT NOT NULL, field TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (hour, collection, code, field)
) WITHOUT ROWID;
";

/// The length of a step in the table of failures, ms.
pub const HOUR_MS: u64 = 3_600_000;

/// One client, as it last reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeviceRow {
    pub user: String,
    pub client_id: ClientId,
    /// The device's name for people.
    pub device: String,
    /// 0: never.
    pub last_push: UnixMillis,
    /// 0: never. Kept to about half a minute.
    pub last_pull: UnixMillis,
    /// When it said what follows. 0: never.
    pub reported_at: UnixMillis,
    pub pending_count: u64,
    pub failed_count: u64,
    #[serde(skip)]
    pub device_key: String,
}

impl DeviceRow {
    pub fn last_sync(&self) -> UnixMillis {
        self.last_push.max(self.last_pull)
    }
}

/// A user's devices together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UserPending {
    pub user: String,
    pub device_count: u64,
    pub pending_count: u64,
    pub failed_count: u64,
    pub last_sync: UnixMillis,
}

/// Mutations that were refused in one hour, by why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FailureCount {
    /// The hour's begin.
    pub at: UnixMillis,
    pub collection: CollectionName,
    pub code: String,
    /// The field at fault; empty when none was named.
    pub field: String,
    pub count: u64,
}

/// One line of the audit. Never the values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AuditLine {
    pub id: u64,
    pub at: UnixMillis,
    pub user: String,
    pub client_id: ClientId,
    pub seq: Seq,
    pub scope: Scope,
    pub collection: CollectionName,
    pub record_id: RecordId,
    pub op: String,
    pub status: String,
    pub code: Option<String>,
    pub version: Option<u64>,
    pub position: Option<u64>,
}

/// Which lines of the audit; `None` is any.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    pub user: Option<String>,
    pub collection: Option<String>,
    pub status: Option<String>,
    pub code: Option<String>,
    /// Only lines with a smaller id: the newest come first.
    pub before: Option<u64>,
}

/// A mutation that lost, as it was kept (C2).
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LostRow {
    pub id: u64,
    pub at: UnixMillis,
    pub user: String,
    pub scope: Scope,
    pub collection: CollectionName,
    pub record_id: RecordId,
    pub mutation: Json,
    pub outcome: Json,
    /// Values of somebody else that it overwrote unseen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overwritten: Option<Json>,
}

/// A record of a system collection.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SystemRecord {
    pub scope: Scope,
    pub id: RecordId,
    pub version: Version,
    pub fields: Json,
}

/// Sums over all devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Totals {
    pub devices: u64,
    pub active_devices: u64,
    pub pending: u64,
    pub failed: u64,
}

/// What a device says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceReport {
    pub pending_count: u64,
    pub failed_count: u64,
}

/// Reads for status, metrics and the admin page.
pub trait OperationReads {
    /// Devices in the order of (user, client), above `after`.
    fn devices(&self, user: Option<&str>, after: (&str, &str), limit: u32) -> StoreResult<Vec<DeviceRow>>;
    /// Users above `after` with something that waits or failed, in the order of their names.
    fn pending_users(&self, after: &str, limit: u32) -> StoreResult<Vec<UserPending>>;
    fn totals(&self, active_since: UnixMillis) -> StoreResult<Totals>;
    fn failures(&self, since: UnixMillis, until: UnixMillis, limit: u32) -> StoreResult<Vec<FailureCount>>;
    fn audit_lines(&self, filter: &AuditFilter, limit: u32) -> StoreResult<Vec<AuditLine>>;
    /// Mutations that lost, newest first; of one user, or of all.
    fn lost(&self, user: Option<&str>, before: Option<u64>, limit: u32) -> StoreResult<Vec<LostRow>>;
    /// Live records of a collection in all scopes, in the order of (scope, id), above `after`.
    fn records_everywhere(&self, collection: &str, after: (&str, &str), limit: u32) -> StoreResult<Vec<SystemRecord>>;
}

/// Notes about devices and failures.
pub trait OperationWrites {
    /// Notes that a device pulled at `now`.
    fn note_pull(&self, sub: &str, client: &ClientId, now: UnixMillis) -> StoreResult<()>;
    /// Notes what a device says of itself.
    fn note_report(&self, sub: &str, client: &ClientId, report: DeviceReport, now: UnixMillis) -> StoreResult<()>;
}

/// Clients: those that pushed, those that only pulled or reported, with the newer of two reports. `only` narrows both
/// halves before they are joined.
fn devices_sql(only: &str) -> String {
    format!(
        "SELECT coalesce(c.sub, d.sub) AS sub, coalesce(c.client_id, d.client_id) AS client_id,
             coalesce(c.device, '') AS device, coalesce(c.device_key, '') AS device_key,
             coalesce(c.last_seen, 0) AS last_push, coalesce(d.last_pull, 0) AS last_pull,
             max(coalesce(c.last_seen, 0), coalesce(d.reported_at, 0)) AS reported_at,
             CASE WHEN coalesce(d.reported_at, 0) > coalesce(c.last_seen, 0)
                 THEN d.pending_count ELSE coalesce(c.pending_count, 0) END AS pending_count,
             coalesce(d.failed_count, 0) AS failed_count
         FROM (SELECT * FROM clients {only}) c FULL JOIN (SELECT * FROM devices {only}) d
             ON c.sub = d.sub AND c.client_id = d.client_id"
    )
}

impl OperationReads for Db<'_> {
    fn devices(&self, user: Option<&str>, after: (&str, &str), limit: u32) -> StoreResult<Vec<DeviceRow>> {
        let only = if user.is_some() { "WHERE sub = ?1" } else { "WHERE sub >= ?2" };
        let sql = format!(
            "SELECT sub, client_id, device, device_key, last_push, last_pull, reported_at, pending_count, failed_count
             FROM ({}) WHERE (?1 IS NULL OR sub = ?1) AND (sub, client_id) > (?2, ?3)
             ORDER BY sub, client_id LIMIT ?4",
            devices_sql(only)
        );
        self.rows(&sql, params![user, after.0, after.1, limit], |row| {
            Ok(DeviceRow {
                user: row.get(0)?,
                client_id: ClientId(row.get(1)?),
                device: row.get(2)?,
                device_key: row.get(3)?,
                last_push: UnixMillis(number(row, 4)?),
                last_pull: UnixMillis(number(row, 5)?),
                reported_at: UnixMillis(number(row, 6)?),
                pending_count: number(row, 7)?,
                failed_count: number(row, 8)?,
            })
        })
    }

    fn pending_users(&self, after: &str, limit: u32) -> StoreResult<Vec<UserPending>> {
        let sql = format!(
            "SELECT sub, count(*), sum(pending_count), sum(failed_count), max(max(last_push, last_pull)) FROM ({})
             GROUP BY sub HAVING sum(pending_count) + sum(failed_count) > 0 ORDER BY sub LIMIT ?2",
            devices_sql("WHERE sub > ?1")
        );
        self.rows(&sql, params![after, limit], |row| {
            Ok(UserPending {
                user: row.get(0)?,
                device_count: number(row, 1)?,
                pending_count: number(row, 2)?,
                failed_count: number(row, 3)?,
                last_sync: UnixMillis(number(row, 4)?),
            })
        })
    }

    fn totals(&self, active_since: UnixMillis) -> StoreResult<Totals> {
        let sql = format!(
            "SELECT count(*), coalesce(sum(max(last_push, last_pull) >= ?1), 0), coalesce(sum(pending_count), 0),
                 coalesce(sum(failed_count), 0) FROM ({})",
            devices_sql("")
        );
        let found = self.row(&sql, params![integer(active_since.get())], |row| {
            Ok(Totals {
                devices: number(row, 0)?,
                active_devices: number(row, 1)?,
                pending: number(row, 2)?,
                failed: number(row, 3)?,
            })
        })?;
        Ok(found.unwrap_or_default())
    }

    fn failures(&self, since: UnixMillis, until: UnixMillis, limit: u32) -> StoreResult<Vec<FailureCount>> {
        let hours = (integer(since.get() / HOUR_MS), integer(until.get() / HOUR_MS));
        self.rows(
            "SELECT hour, collection, code, field, count FROM failures WHERE hour BETWEEN ?1 AND ?2
             ORDER BY hour DESC, count DESC, collection, code, field LIMIT ?3",
            params![hours.0, hours.1, limit],
            |row| {
                Ok(FailureCount {
                    at: UnixMillis(number(row, 0)? * HOUR_MS),
                    collection: CollectionName(row.get(1)?),
                    code: row.get(2)?,
                    field: row.get(3)?,
                    count: number(row, 4)?,
                })
            },
        )
    }

    fn audit_lines(&self, filter: &AuditFilter, limit: u32) -> StoreResult<Vec<AuditLine>> {
        self.rows(
            "SELECT id, at, seq, sub, client_id, scope, collection, record_id, op, status, code, version, position
             FROM audit
             WHERE (?1 IS NULL OR sub = ?1) AND (?2 IS NULL OR collection = ?2) AND (?3 IS NULL OR status = ?3)
                 AND (?4 IS NULL OR code = ?4) AND id < ?5
             ORDER BY id DESC LIMIT ?6",
            params![filter.user, filter.collection, filter.status, filter.code, before(filter.before), limit],
            |row| {
                Ok(AuditLine {
                    id: number(row, 0)?,
                    at: UnixMillis(number(row, 1)?),
                    seq: Seq(number(row, 2)?),
                    user: row.get(3)?,
                    client_id: ClientId(row.get(4)?),
                    scope: Scope(row.get(5)?),
                    collection: CollectionName(row.get(6)?),
                    record_id: RecordId(row.get(7)?),
                    op: row.get(8)?,
                    status: row.get(9)?,
                    code: row.get(10)?,
                    version: row.get::<_, Option<i64>>(11)?.map(i64::cast_unsigned),
                    position: row.get::<_, Option<i64>>(12)?.map(i64::cast_unsigned),
                })
            },
        )
    }

    fn lost(&self, user: Option<&str>, earlier_than: Option<u64>, limit: u32) -> StoreResult<Vec<LostRow>> {
        self.rows(
            "SELECT id, at, sub, scope, collection, record_id, mutation, outcome, overwritten FROM conflicts
             WHERE (?1 IS NULL OR sub = ?1) AND id < ?2 ORDER BY id DESC LIMIT ?3",
            params![user, before(earlier_than), limit],
            |row| {
                Ok(LostRow {
                    id: number(row, 0)?,
                    at: UnixMillis(number(row, 1)?),
                    user: row.get(2)?,
                    scope: Scope(row.get(3)?),
                    collection: CollectionName(row.get(4)?),
                    record_id: RecordId(row.get(5)?),
                    mutation: json(row, 6)?,
                    outcome: json(row, 7)?,
                    overwritten: row.get::<_, Option<String>>(8)?.map(|_| json(row, 8)).transpose()?,
                })
            },
        )
    }

    fn records_everywhere(&self, collection: &str, after: (&str, &str), limit: u32) -> StoreResult<Vec<SystemRecord>> {
        self.rows(
            // Scope by scope: the collection is the second part of the key.
            "SELECT s.scope, r.id, r.version, r.fields FROM scopes s CROSS JOIN records r
             WHERE r.scope = s.scope AND r.collection = ?1 AND r.deleted = 0 AND (s.scope, r.id) > (?2, ?3)
             ORDER BY s.scope, r.id LIMIT ?4",
            params![collection, after.0, after.1, limit],
            |row| {
                Ok(SystemRecord {
                    scope: Scope(row.get(0)?),
                    id: RecordId(row.get(1)?),
                    version: Version(number(row, 2)?),
                    fields: json(row, 3)?,
                })
            },
        )
    }
}

impl OperationWrites for Db<'_> {
    fn note_pull(&self, sub: &str, client: &ClientId, now: UnixMillis) -> StoreResult<()> {
        self.execute(
            "INSERT INTO devices (sub, client_id, last_pull, pending_count, failed_count, reported_at)
             VALUES (?1, ?2, ?3, 0, 0, 0)
             ON CONFLICT (sub, client_id) DO UPDATE SET last_pull = max(last_pull, excluded.last_pull)",
            params![sub, client.as_str(), integer(now.get())],
        )?;
        Ok(())
    }

    fn note_report(&self, sub: &str, client: &ClientId, report: DeviceReport, now: UnixMillis) -> StoreResult<()> {
        let (pending, failed) = (integer(report.pending_count), integer(report.failed_count));
        self.execute(
            "INSERT INTO devices (sub, client_id, last_pull, pending_count, failed_count, reported_at)
             VALUES (?1, ?2, 0, ?3, ?4, ?5)
             ON CONFLICT (sub, client_id) DO UPDATE SET pending_count = excluded.pending_count,
                 failed_count = excluded.failed_count, reported_at = max(reported_at, excluded.reported_at)",
            params![sub, client.as_str(), pending, failed, integer(now.get())],
        )?;
        Ok(())
    }
}

/// Counts a refused mutation by why, in the transaction that refuses it.
pub(super) fn count_failure(
    db: &Db<'_>,
    collection: &CollectionName,
    outcome: &Outcome,
    at: UnixMillis,
) -> StoreResult<()> {
    let Some(code) = &outcome.code else { return Ok(()) };
    let hour = integer(at.get() / HOUR_MS);
    // What a client sends makes rows here: names that are no names of a schema are cut.
    let short = |text: &str| text.chars().take(64).collect::<String>();
    let known = code != RejectCode::UNKNOWN_COLLECTION;
    let collection = if known { short(collection.as_str()) } else { String::new() };
    let mut fields: Vec<String> = outcome.fields.keys().take(16).map(|field| short(field)).collect();
    if fields.is_empty() {
        fields.push(String::new());
    }
    for field in fields {
        db.execute(
            "INSERT INTO failures (hour, collection, code, field, count) VALUES (?1, ?2, ?3, ?4, 1)
             ON CONFLICT (hour, collection, code, field) DO UPDATE SET count = count + 1",
            params![hour, collection, code, field],
        )?;
    }
    Ok(())
}

/// Forgets failures and devices as old as what they speak of.
pub(super) fn prune(db: &Db<'_>, audited_since: UnixMillis, idle_since: UnixMillis) -> StoreResult<()> {
    db.execute("DELETE FROM failures WHERE hour < ?1", params![integer(audited_since.get() / HOUR_MS)])?;
    let sql = "DELETE FROM devices WHERE max(last_pull, reported_at) < ?1";
    db.execute(sql, params![integer(idle_since.get())])?;
    Ok(())
}

fn before(id: Option<u64>) -> i64 {
    id.map_or(i64::MAX, integer)
}

fn json(row: &Row<'_>, column: usize) -> rusqlite::Result<Json> {
    let text: String = row.get(column)?;
    Json::parse(&text).map_err(|_| {
        let corrupt = Box::new(StoreError::Corrupt("a column is no JSON"));
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, corrupt)
    })
}
