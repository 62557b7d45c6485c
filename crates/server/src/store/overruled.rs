//! What writers lost to others who had not seen it, until they are told: rows by scope, user and position.

use super::database::{Db, integer};
use super::{Lost, StoreResult};
use landfall_protocol::{ClientId, CollectionName, Overruled, Position, RecordId, Scope, UnixMillis};
use rusqlite::params;

pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS overruled (
    scope TEXT NOT NULL, sub TEXT NOT NULL, position INTEGER NOT NULL,
    collection TEXT NOT NULL, record_id TEXT NOT NULL,
    at INTEGER NOT NULL, op TEXT NOT NULL, code TEXT NOT NULL, fields TEXT NOT NULL,
    by_sub TEXT NOT NULL, by_client TEXT NOT NULL,
    PRIMARY KEY (scope, sub, position, collection, record_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS overruled_at ON overruled (at);
";

pub(super) fn put(db: &Db<'_>, sub: &str, by: (&str, &ClientId), lost: &Overruled) -> StoreResult<()> {
    // Two changes of one push stand at one position: the first one took away what was there before both.
    let sql =
        "INSERT INTO overruled (scope, sub, position, collection, record_id, at, op, code, fields, by_sub, by_client)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO NOTHING";
    let text = |json: serde_json::Result<String>| json.map_err(|_| super::StoreError::Corrupt("a loss is no JSON"));
    db.execute(
        sql,
        params![
            lost.scope.as_str(),
            sub,
            integer(lost.position.get()),
            lost.collection.as_str(),
            lost.id.as_str(),
            integer(lost.at.get()),
            text(serde_json::to_string(&lost.op))?,
            lost.code,
            text(serde_json::to_string(&lost.fields))?,
            by.0,
            by.1.as_str()
        ],
    )?;
    Ok(())
}

/// The newest of a span of positions, in their order.
pub(super) fn between(
    db: &Db<'_>,
    scope: &Scope,
    (sub, client): (&str, &ClientId),
    span: (Position, Position),
    count_max: u32,
) -> StoreResult<Vec<Lost>> {
    let sql = "SELECT position, collection, record_id, at, op, code, fields FROM overruled
               WHERE scope = ?1 AND sub = ?2 AND position > ?3 AND position <= ?4
                 AND NOT (by_sub = ?2 AND by_client = ?6)
               ORDER BY position DESC LIMIT ?5";
    let (after, through) = (integer(span.0.get()), integer(span.1.get()));
    let mut rows = db.rows(sql, params![scope.as_str(), sub, after, through, count_max, client.as_str()], |row| {
        Ok(Lost {
            position: Position(row.get::<_, i64>(0)?.cast_unsigned()),
            collection: CollectionName(row.get(1)?),
            id: RecordId(row.get(2)?),
            at: UnixMillis(row.get::<_, i64>(3)?.cast_unsigned()),
            op: row.get(4)?,
            code: row.get(5)?,
            fields: row.get(6)?,
        })
    })?;
    rows.reverse();
    Ok(rows)
}

/// Returns how many went, at most `rows_max`.
pub(super) fn prune(db: &Db<'_>, before: UnixMillis, rows_max: u32) -> StoreResult<usize> {
    let old = "SELECT scope, sub, position, collection, record_id FROM overruled WHERE at < ?1 LIMIT ?2";
    let sql = format!("DELETE FROM overruled WHERE (scope, sub, position, collection, record_id) IN ({old})");
    db.execute(&sql, params![integer(before.get()), rows_max])
}
