//! One open SQLite transaction, and what can be read in it.

use super::{
    AuditDump, ChangeRow, ClientRow, Lost, RecordDump, RecordRow, Retention, ScopeRow, Snapshot, StoreError,
    StoreResult, StoredOutcome, Walk, overruled, retention,
};
use landfall_core::authority::Stored;
use landfall_protocol::{
    ClientId, CollectionName, Epoch, Fields, Json, LedgerEntry, Pair, Position, RecordId, RecordKey, RecordSum, Scope,
    Seq, Stamp, UnixMillis, Version,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// One open transaction.
pub(super) struct Db<'c> {
    connection: &'c Connection,
    pub(super) depth: Cell<u32>,
    pub(super) heads: RefCell<BTreeMap<Scope, Position>>,
}

impl<'c> Db<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self { connection, depth: Cell::new(0), heads: RefCell::default() }
    }
    /// Where the counters stand that this job moved.
    pub(super) fn heads(&self) -> BTreeMap<Scope, Position> {
        self.heads.borrow().clone()
    }
    pub(super) fn savepoint_inner(&self) -> rusqlite::Result<()> {
        let depth = self.depth.get() + 1;
        self.statement(&format!("SAVEPOINT p{depth}"))?;
        self.depth.set(depth);
        Ok(())
    }
    /// Ends all savepoints from `depth` up, keeping or undoing what was done in them.
    pub(super) fn unwind_to(&self, depth: u32, keep: bool) -> rusqlite::Result<()> {
        if !keep {
            self.statement(&format!("ROLLBACK TO p{depth}"))?;
        }
        self.statement(&format!("RELEASE p{depth}"))?;
        self.depth.set(depth - 1);
        Ok(())
    }
    fn statement(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(|_| ())
    }
    pub(super) fn execute(&self, sql: &str, parameters: impl rusqlite::Params) -> StoreResult<usize> {
        Ok(self.connection.prepare_cached(sql)?.execute(parameters)?)
    }
    pub(super) fn row<T>(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> StoreResult<Option<T>> {
        Ok(self.connection.prepare_cached(sql)?.query_row(parameters, read).optional()?)
    }
    pub(super) fn rows<T>(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> StoreResult<Vec<T>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(parameters, read)?.collect::<Result<Vec<T>, _>>()?;
        Ok(rows)
    }
    /// What the epochs so far have added to every counter.
    pub(super) fn number_base(&self) -> StoreResult<u64> {
        let base = self.row("SELECT value FROM meta WHERE key = 'number_base'", [], |row| row.get::<_, String>(0))?;
        Ok(base.and_then(|text| text.parse().ok()).unwrap_or(0))
    }
    fn walk(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        visit: &mut dyn FnMut(ChangeRow) -> Walk,
    ) -> StoreResult<()> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(parameters)?;
        while let Some(row) = rows.next()? {
            if visit(change_row(row)?) == Walk::End {
                break;
            }
        }
        Ok(())
    }
}

/// SQLite's integers are signed; every number of the protocol fits.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|value| u64::try_from(value).unwrap_or(0))
}

fn change_row(row: &Row<'_>) -> rusqlite::Result<ChangeRow> {
    Ok(ChangeRow {
        position: Position(number(row, 0)?),
        collection: CollectionName(row.get(1)?),
        id: RecordId(row.get(2)?),
        version: Version(number(row, 3)?),
        deleted: row.get(4)?,
        fields: row.get(5)?,
        stamp: Stamp(row.get(6)?),
    })
}

fn client_row(row: &Row<'_>) -> rusqlite::Result<ClientRow> {
    Ok(ClientRow {
        acked_through: Seq(number(row, 0)?),
        last_seq: Seq(number(row, 1)?),
        device: row.get(2)?,
        device_key: row.get(3)?,
        pending_count: number(row, 4)?,
        last_seen: UnixMillis(number(row, 5)?),
        schema_version: row.get(6)?,
    })
}

pub(super) fn scope_row(row: &Row<'_>) -> rusqlite::Result<ScopeRow> {
    Ok(ScopeRow {
        position: Position(number(row, 0)?),
        version_floor: Version(number(row, 1)?),
        pruned_through: Position(number(row, 2)?),
    })
}

impl Snapshot for Db<'_> {
    fn epoch(&self) -> StoreResult<Epoch> {
        let found = self.row("SELECT value FROM meta WHERE key = 'epoch'", [], |row| row.get(0))?;
        found.map(Epoch).ok_or(StoreError::Corrupt("no epoch"))
    }

    fn was_restored(&self) -> StoreResult<bool> {
        Ok(self.number_base()? > 0)
    }

    fn client(&self, sub: &str, client: &ClientId) -> StoreResult<Option<ClientRow>> {
        self.row(
            "SELECT acked_through, last_seq, device, device_key, pending_count, last_seen, schema_version
             FROM clients WHERE sub = ?1 AND client_id = ?2",
            params![sub, client.as_str()],
            client_row,
        )
    }

    fn clients_of(&self, sub: &str) -> StoreResult<Vec<(ClientId, ClientRow)>> {
        self.rows(
            "SELECT acked_through, last_seq, device, device_key, pending_count, last_seen, schema_version, client_id
             FROM clients WHERE sub = ?1 ORDER BY last_seen DESC, client_id LIMIT 100",
            params![sub],
            |row| Ok((ClientId(row.get(7)?), client_row(row)?)),
        )
    }

    fn outcome(&self, sub: &str, client: &ClientId, seq: Seq) -> StoreResult<Option<StoredOutcome>> {
        self.row(
            "SELECT hash, outcome, base FROM outcomes WHERE sub = ?1 AND client_id = ?2 AND seq = ?3",
            params![sub, client.as_str(), integer(seq.get())],
            |row| Ok(StoredOutcome { hash: row.get(0)?, text: row.get(1)?, base: Version(number(row, 2)?) }),
        )
    }

    fn ledger(&self, sub: &str, client: &ClientId) -> StoreResult<Vec<LedgerEntry>> {
        let rows = self.rows(
            "SELECT seq, outcome FROM outcomes WHERE sub = ?1 AND client_id = ?2 ORDER BY seq",
            params![sub, client.as_str()],
            |row| Ok((Seq(number(row, 0)?), row.get::<_, String>(1)?)),
        )?;
        rows.into_iter()
            .map(|(seq, text)| {
                let outcome = Json::parse(&text).map_err(|_| StoreError::Corrupt("an outcome is no JSON"))?;
                Ok(LedgerEntry { seq, outcome })
            })
            .collect()
    }

    fn scope(&self, scope: &Scope) -> StoreResult<ScopeRow> {
        let sql = "SELECT position, version_floor, pruned_through FROM scopes WHERE scope = ?1";
        Ok(self.row(sql, params![scope.as_str()], scope_row)?.unwrap_or_default())
    }

    fn record(&self, key: &RecordKey) -> StoreResult<Option<RecordRow>> {
        let found = self.row(
            "SELECT version, deleted, fields, stamp, sub, client, seq, role, marks FROM records
             WHERE scope = ?1 AND collection = ?2 AND id = ?3",
            params![key.scope.as_str(), key.collection.as_str(), key.id.as_str()],
            |row| {
                let fields: String = row.get(2)?;
                let stored = Stored {
                    version: Version(number(row, 0)?),
                    deleted: row.get(1)?,
                    fields: Fields::new(),
                    stamp: Stamp(row.get(3)?),
                    client: ClientId(row.get(5)?),
                    seq: Seq(number(row, 6)?),
                    role: row.get(7)?,
                    marks: None,
                };
                Ok((RecordRow { stored, sub: row.get(4)? }, fields, row.get::<_, Option<String>>(8)?))
            },
        )?;
        let Some((mut row, text, marks)) = found else { return Ok(None) };
        row.stored.fields = serde_json::from_str(&text).map_err(|_| StoreError::Corrupt("a record is no JSON"))?;
        let marks = marks.as_deref().map(serde_json::from_str).transpose();
        row.stored.marks = marks.map_err(|_| StoreError::Corrupt("marks are no JSON"))?;
        Ok(Some(row))
    }

    fn changes(&self, scope: &Scope, after: Position, visit: &mut dyn FnMut(ChangeRow) -> Walk) -> StoreResult<()> {
        self.walk(
            "SELECT position, collection, id, version, deleted, fields, stamp FROM changes
             WHERE scope = ?1 AND position > ?2 ORDER BY position, part",
            params![scope.as_str(), integer(after.get())],
            visit,
        )
    }

    fn records(&self, pair: &Pair, after: &str, visit: &mut dyn FnMut(ChangeRow) -> Walk) -> StoreResult<()> {
        self.walk(
            "SELECT position, collection, id, version, deleted, fields, stamp FROM records
             WHERE scope = ?1 AND collection = ?2 AND id > ?3 AND deleted = 0 ORDER BY id",
            params![pair.0.as_str(), pair.1.as_str(), after],
            visit,
        )
    }

    fn overruled(
        &self,
        scope: &Scope,
        user: (&str, &ClientId),
        span: (Position, Position),
        count_max: u32,
    ) -> StoreResult<Vec<Lost>> {
        overruled::between(self, scope, user, span, count_max)
    }

    fn sum(&self, pair: &Pair) -> StoreResult<RecordSum> {
        let sql = "SELECT sum FROM sums WHERE scope = ?1 AND collection = ?2";
        let found: Option<i64> = self.row(sql, params![pair.0.as_str(), pair.1.as_str()], |row| row.get(0))?;
        Ok(RecordSum(found.unwrap_or(0).cast_unsigned()))
    }

    fn linked(&self, pair: &Pair, link: &str, count_max: usize) -> StoreResult<Vec<RecordId>> {
        self.rows(
            "SELECT id FROM links WHERE scope = ?1 AND collection = ?2 AND link = ?3 ORDER BY id LIMIT ?4",
            params![pair.0.as_str(), pair.1.as_str(), link, i64::try_from(count_max).unwrap_or(i64::MAX)],
            |row| row.get(0).map(RecordId),
        )
    }

    fn links_declared(&self) -> StoreResult<String> {
        let sql = "SELECT value FROM meta WHERE key = 'links'";
        Ok(self.row(sql, [], |row| row.get(0))?.unwrap_or_default())
    }

    fn each_record(&self, name: &CollectionName, visit: &mut dyn FnMut(Scope, RecordId, &str)) -> StoreResult<()> {
        // Which scopes there are is known; a walk by scope keeps to the key of the table.
        let scopes = self.rows("SELECT scope FROM scopes ORDER BY scope", [], |row| row.get(0).map(Scope))?;
        for scope in scopes {
            self.records(&Pair(scope.clone(), name.clone()), "", &mut |row| {
                visit(scope.clone(), row.id, &row.fields);
                Walk::On
            })?;
        }
        Ok(())
    }

    fn refresh_token(&self, hash: &[u8; 32], now: UnixMillis) -> StoreResult<Option<String>> {
        let sql = "SELECT sub FROM refresh_tokens WHERE token_hash = ?1 AND expires_at > ?2";
        self.row(sql, params![hash, integer(now.get())], |row| row.get(0))
    }

    fn prune_plan(&self, retention: &Retention, now: UnixMillis) -> StoreResult<Vec<(Scope, Position)>> {
        retention::plan(self, retention, now)
    }

    fn dump_records(&self, scope: &Scope) -> StoreResult<Vec<RecordDump>> {
        self.rows(
            "SELECT version, position, seq, collection, id, deleted, fields, sub, client FROM records
             WHERE scope = ?1 ORDER BY collection, id",
            params![scope.as_str()],
            |row| {
                Ok(RecordDump {
                    version: Version(number(row, 0)?),
                    position: Position(number(row, 1)?),
                    seq: Seq(number(row, 2)?),
                    collection: CollectionName(row.get(3)?),
                    id: RecordId(row.get(4)?),
                    deleted: row.get(5)?,
                    fields: Json::parse(&row.get::<_, String>(6)?).unwrap_or_else(|_| Json::null()),
                    sub: row.get(7)?,
                    client_id: ClientId(row.get(8)?),
                })
            },
        )
    }

    fn dump_audit(&self, sub: &str) -> StoreResult<Vec<AuditDump>> {
        self.rows(
            "SELECT client_id, seq, scope, collection, record_id, op, status, code, version, position FROM audit
             WHERE sub = ?1 ORDER BY id",
            params![sub],
            |row| {
                Ok(AuditDump {
                    client_id: ClientId(row.get(0)?),
                    seq: Seq(number(row, 1)?),
                    scope: Scope(row.get(2)?),
                    collection: CollectionName(row.get(3)?),
                    id: RecordId(row.get(4)?),
                    op: row.get(5)?,
                    status: row.get(6)?,
                    code: row.get(7)?,
                    version: row.get::<_, Option<i64>>(8)?.map(i64::cast_unsigned),
                    position: row.get::<_, Option<i64>>(9)?.map(i64::cast_unsigned),
                })
            },
        )
    }

    fn counts(&self) -> StoreResult<Vec<(String, u64)>> {
        let mut counts = Vec::new();
        for table in ["scopes", "records", "changes", "clients", "outcomes", "audit", "conflicts", "overruled"] {
            let count = self.row(&format!("SELECT count(*) FROM {table}"), [], |row| number(row, 0))?;
            counts.push((table.to_owned(), count.unwrap_or(0)));
        }
        Ok(counts)
    }
}
