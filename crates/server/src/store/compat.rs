//! What the insight endpoints remember: which cursor went with which timestamp, and when devices of a scope synced.

use super::StoreResult;
use super::database::{Db, integer, number};
use landfall_protocol::{Pair, Position, RecordId, RecordKey, Scope, Stamp, UnixMillis};
use rusqlite::params;

pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS compat_cursors (
    sub TEXT NOT NULL, device_id TEXT NOT NULL, issued_at INTEGER NOT NULL, of TEXT NOT NULL, cursor TEXT,
    PRIMARY KEY (sub, device_id, issued_at)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS compat_devices (
    scope TEXT NOT NULL, sub TEXT NOT NULL, device_id TEXT NOT NULL, last_sync INTEGER NOT NULL,
    PRIMARY KEY (scope, sub, device_id)
) WITHOUT ROWID;
";

/// Timestamps of a device that can still be asked with: so many that pulls were answered, and so many that pushes were, so
/// that a device that pushes and pushes keeps those of its pulls.
const CURSORS_KEPT: u32 = 16;

/// What a timestamp answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    Pull,
    Push,
}

impl Answered {
    fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
        }
    }
}

/// Reads of the compatible endpoints.
pub trait CompatReads {
    /// The cursor that was issued to this device with this timestamp.
    fn compat_cursor(&self, sub: &str, device: &str, issued_at: UnixMillis) -> StoreResult<Option<String>>;
    /// Devices that synced in a scope, and when they did last.
    fn compat_devices(&self, scope: &Scope) -> StoreResult<Vec<(String, UnixMillis)>>;
    /// Where a record was written last.
    fn record_position(&self, key: &RecordKey) -> StoreResult<Position>;
    /// The records of a pair that were deleted and are not forgotten yet.
    fn tombstones(&self, pair: &Pair, limit: u32) -> StoreResult<Vec<(RecordId, Stamp)>>;
}

/// Writes of the compatible endpoints.
pub trait CompatWrites {
    /// Keeps a cursor, or that there is none, under a timestamp that is later than every one before of this device.
    fn issue_compat_cursor(
        &self,
        sub: &str,
        device: &str,
        now: UnixMillis,
        of: Answered,
        cursor: Option<&str>,
    ) -> StoreResult<UnixMillis>;
    fn note_compat_sync(&self, scope: &Scope, sub: &str, device: &str, now: UnixMillis) -> StoreResult<()>;
}

impl CompatReads for Db<'_> {
    fn compat_cursor(&self, sub: &str, device: &str, issued_at: UnixMillis) -> StoreResult<Option<String>> {
        let sql = "SELECT cursor FROM compat_cursors WHERE sub = ?1 AND device_id = ?2 AND issued_at = ?3";
        let found = self.row(sql, params![sub, device, integer(issued_at.get())], |row| row.get(0))?;
        Ok(found.flatten())
    }

    fn compat_devices(&self, scope: &Scope) -> StoreResult<Vec<(String, UnixMillis)>> {
        let sql = "SELECT device_id, max(last_sync) FROM compat_devices WHERE scope = ?1 GROUP BY device_id LIMIT 1000";
        self.rows(sql, params![scope.as_str()], |row| Ok((row.get(0)?, UnixMillis(number(row, 1)?))))
    }

    fn record_position(&self, key: &RecordKey) -> StoreResult<Position> {
        let sql = "SELECT position FROM records WHERE scope = ?1 AND collection = ?2 AND id = ?3";
        let key = params![key.scope.as_str(), key.collection.as_str(), key.id.as_str()];
        Ok(self.row(sql, key, |row| number(row, 0))?.map(Position).unwrap_or_default())
    }

    fn tombstones(&self, pair: &Pair, limit: u32) -> StoreResult<Vec<(RecordId, Stamp)>> {
        self.rows(
            "SELECT id, stamp FROM records
             WHERE scope = ?1 AND collection = ?2 AND deleted = 1 ORDER BY position DESC LIMIT ?3",
            params![pair.0.as_str(), pair.1.as_str(), limit],
            |row| Ok((RecordId(row.get(0)?), Stamp(row.get(1)?))),
        )
    }
}

impl CompatWrites for Db<'_> {
    fn issue_compat_cursor(
        &self,
        sub: &str,
        device: &str,
        now: UnixMillis,
        of: Answered,
        cursor: Option<&str>,
    ) -> StoreResult<UnixMillis> {
        let sql = "SELECT coalesce(max(issued_at), 0) FROM compat_cursors WHERE sub = ?1 AND device_id = ?2";
        let last = self.row(sql, params![sub, device], |row| number(row, 0))?.unwrap_or(0);
        let issued_at = integer(now.get().max(last + 1));
        let sql = "INSERT INTO compat_cursors (sub, device_id, issued_at, of, cursor) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.execute(sql, params![sub, device, issued_at, of.name(), cursor])?;
        self.execute(
            "DELETE FROM compat_cursors WHERE sub = ?1 AND device_id = ?2 AND of = ?3 AND issued_at <=
                 (SELECT issued_at FROM compat_cursors WHERE sub = ?1 AND device_id = ?2 AND of = ?3
                  ORDER BY issued_at DESC LIMIT 1 OFFSET ?4)",
            params![sub, device, of.name(), CURSORS_KEPT],
        )?;
        Ok(UnixMillis(issued_at.cast_unsigned()))
    }

    fn note_compat_sync(&self, scope: &Scope, sub: &str, device: &str, now: UnixMillis) -> StoreResult<()> {
        self.execute(
            "INSERT INTO compat_devices (scope, sub, device_id, last_sync) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (scope, sub, device_id) DO UPDATE SET last_sync = max(last_sync, excluded.last_sync)",
            params![scope.as_str(), sub, device, integer(now.get())],
        )?;
        Ok(())
    }
}

/// Forgets devices that are idle.
pub(super) fn prune(db: &Db<'_>, idle_since: UnixMillis) -> StoreResult<()> {
    for (table, time) in [("compat_cursors", "issued_at"), ("compat_devices", "last_sync")] {
        let sql = format!("DELETE FROM {table} WHERE {time} < ?1");
        db.execute(&sql, params![integer(idle_since.get())])?;
    }
    Ok(())
}
