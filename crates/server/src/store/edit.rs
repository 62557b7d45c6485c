//! What a write job does in an open SQLite transaction.

use super::database::{Db, integer, scope_row};
use super::{
    AuditRow, ClientRow, RecordWrite, Retention, ScopeRow, Snapshot, StoreError, StoreResult, StoredOutcome,
    Transaction, operations, overruled, retention,
};
use landfall_protocol::{
    ClientId, Epoch, Fields, Overruled, Pair, Position, RecordKey, RecordSum, Scope, Seq, UnixMillis, Version,
};
use rusqlite::params;

impl Transaction for Db<'_> {
    fn savepoint(&self) -> StoreResult<()> {
        Ok(self.savepoint_inner()?)
    }
    fn release(&self) -> StoreResult<()> {
        Ok(self.unwind_to(self.depth.get(), true)?)
    }
    fn rollback(&self) -> StoreResult<()> {
        Ok(self.unwind_to(self.depth.get(), false)?)
    }

    fn lock_scope(&self, scope: &Scope) -> StoreResult<ScopeRow> {
        // The whole database is locked by this transaction already.
        let sql = "SELECT position, version_floor, pruned_through FROM scopes WHERE scope = ?1";
        if let Some(found) = self.row(sql, params![scope.as_str()], scope_row)? {
            return Ok(found);
        }
        let sql = "INSERT INTO scopes (scope, position, version_floor, pruned_through) VALUES (?1, ?2, ?2, 0)";
        let base = self.number_base()?;
        self.execute(sql, params![scope.as_str(), integer(base)])?;
        Ok(ScopeRow { position: Position(base), version_floor: Version(base), pruned_through: Position::ZERO })
    }

    fn set_position(&self, scope: &Scope, position: Position) -> StoreResult<()> {
        let sql = "UPDATE scopes SET position = ?2 WHERE scope = ?1 AND position < ?2";
        if self.execute(sql, params![scope.as_str(), integer(position.get())])? != 1 {
            return Err(StoreError::Corrupt("a position went back"));
        }
        self.heads.borrow_mut().insert(scope.clone(), position);
        Ok(())
    }

    fn put_client(&self, sub: &str, client: &ClientId, row: &ClientRow) -> StoreResult<()> {
        let sql = "INSERT INTO clients
                 (sub, client_id, acked_through, last_seq, pending_count, last_seen, device, device_key, schema_version)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (sub, client_id) DO UPDATE SET
                 acked_through = max(acked_through, excluded.acked_through),
                 last_seq = max(last_seq, excluded.last_seq), pending_count = excluded.pending_count,
                 last_seen = max(last_seen, excluded.last_seen), device = excluded.device,
                 device_key = excluded.device_key, schema_version = excluded.schema_version";
        let (acked_through, last_seq) = (integer(row.acked_through.get()), integer(row.last_seq.get()));
        let (pending_count, last_seen) = (integer(row.pending_count), integer(row.last_seen.get()));
        self.execute(
            sql,
            params![
                sub,
                client.as_str(),
                acked_through,
                last_seq,
                pending_count,
                last_seen,
                row.device,
                row.device_key,
                row.schema_version
            ],
        )?;
        Ok(())
    }

    fn put_outcome(
        &self,
        sub: &str,
        client: &ClientId,
        seq: Seq,
        outcome: &StoredOutcome,
        at: UnixMillis,
    ) -> StoreResult<()> {
        // No `OR REPLACE`: a second outcome of one seq is our bug and must fail (S1).
        let sql =
            "INSERT INTO outcomes (sub, client_id, seq, hash, outcome, at, base) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let (seq, at, base) = (integer(seq.get()), integer(at.get()), integer(outcome.base.get()));
        self.execute(sql, params![sub, client.as_str(), seq, outcome.hash, outcome.text, at, base])?;
        Ok(())
    }

    fn prune_outcomes(&self, sub: &str, client: &ClientId, through: Seq) -> StoreResult<()> {
        let sql = "DELETE FROM outcomes WHERE sub = ?1 AND client_id = ?2 AND seq <= ?3";
        self.execute(sql, params![sub, client.as_str(), integer(through.get())])?;
        Ok(())
    }

    fn write_record(&self, write: &RecordWrite<'_>) -> StoreResult<()> {
        let (key, stored) = (write.key, write.stored);
        let fields = serde_json::to_string(&stored.fields).map_err(|_| StoreError::Corrupt("fields are no JSON"))?;
        let marks = stored.marks.as_ref().map(serde_json::to_string).transpose();
        let marks = marks.map_err(|_| StoreError::Corrupt("marks are no JSON"))?;
        let (position, version) = (integer(write.position.get()), integer(stored.version.get()));
        self.execute(
            "INSERT INTO records
                 (scope, collection, id, version, position, deleted, fields, stamp, sub, client, seq, role, marks)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
             ON CONFLICT (scope, collection, id) DO UPDATE SET
                 version = excluded.version, position = excluded.position, deleted = excluded.deleted,
                 fields = excluded.fields, stamp = excluded.stamp,
                 sub = excluded.sub, client = excluded.client, seq = excluded.seq,
                 role = excluded.role, marks = excluded.marks",
            params![
                key.scope.as_str(),
                key.collection.as_str(),
                key.id.as_str(),
                version,
                position,
                stored.deleted,
                fields,
                stored.stamp.0,
                write.sub,
                stored.client.as_str(),
                integer(stored.seq.get()),
                stored.role,
                marks
            ],
        )?;
        // A tombstone of the log needs no values.
        let image = if stored.deleted { "{}" } else { fields.as_str() };
        self.execute(
            "INSERT INTO changes (scope, position, part, collection, id, version, deleted, fields, stamp, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                key.scope.as_str(),
                position,
                write.part,
                key.collection.as_str(),
                key.id.as_str(),
                version,
                stored.deleted,
                image,
                stored.stamp.0,
                integer(write.at.get())
            ],
        )?;
        Ok(())
    }

    fn put_links(&self, key: &RecordKey, links: &[String]) -> StoreResult<()> {
        let (scope, collection, id) = (key.scope.as_str(), key.collection.as_str(), key.id.as_str());
        let sql = "DELETE FROM links WHERE scope = ?1 AND collection = ?2 AND id = ?3";
        self.execute(sql, params![scope, collection, id])?;
        for link in links {
            let sql = "INSERT OR IGNORE INTO links (scope, collection, link, id) VALUES (?1, ?2, ?3, ?4)";
            self.execute(sql, params![scope, collection, link, id])?;
        }
        Ok(())
    }
    fn clear_links(&self) -> StoreResult<()> {
        self.execute("DELETE FROM links", [])?;
        Ok(())
    }
    fn set_links_declared(&self, declared: &str) -> StoreResult<()> {
        let sql = "INSERT INTO meta (key, value) VALUES ('links', ?1)
                   ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.execute(sql, params![declared])?;
        Ok(())
    }

    fn add_sum(&self, pair: &Pair, sum: RecordSum, live_count: i64) -> StoreResult<()> {
        // SQLite turns an integer sum that overflows into a float: the wrapping sum is made here.
        let total = RecordSum(self.sum(pair)?.0.wrapping_add(sum.0));
        self.execute(
            "INSERT INTO sums (scope, collection, sum, live_count) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (scope, collection) DO UPDATE SET
                 sum = excluded.sum, live_count = live_count + excluded.live_count",
            params![pair.0.as_str(), pair.1.as_str(), total.0.cast_signed(), live_count],
        )?;
        Ok(())
    }

    fn audit(&self, row: &AuditRow<'_>) -> StoreResult<()> {
        let (key, outcome) = (row.key, row.outcome);
        self.execute(
            "INSERT INTO audit
                 (at, sub, client_id, seq, scope, collection, record_id, op, status, code, version, position)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            params![
                integer(row.at.get()),
                row.sub,
                row.client.as_str(),
                integer(outcome.seq.get()),
                key.scope.as_str(),
                key.collection.as_str(),
                key.id.as_str(),
                row.op,
                format!("{:?}", outcome.status).to_lowercase(),
                outcome.code,
                outcome.version.map(|version| integer(version.get())),
                outcome.position.map(|position| integer(position.get()))
            ],
        )?;
        operations::count_failure(self, &key.collection, outcome, row.at)
    }

    fn keep_conflict(&self, row: &AuditRow<'_>, mutation: &str, overwritten: &Fields) -> StoreResult<()> {
        let (key, outcome) = (row.key, row.outcome);
        let text = serde_json::to_string(outcome).map_err(|_| StoreError::Corrupt("an outcome is no JSON"))?;
        let overwritten = (!overwritten.is_empty()).then(|| serde_json::to_string(overwritten)).transpose();
        let overwritten = overwritten.map_err(|_| StoreError::Corrupt("fields are no JSON"))?;
        self.execute(
            "INSERT INTO conflicts (at, sub, client_id, seq, scope, collection, record_id, mutation, outcome, overwritten)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                integer(row.at.get()),
                row.sub,
                row.client.as_str(),
                integer(outcome.seq.get()),
                key.scope.as_str(),
                key.collection.as_str(),
                key.id.as_str(),
                mutation,
                text,
                overwritten
            ],
        )?;
        Ok(())
    }

    fn put_overruled(&self, sub: &str, by: (&str, &ClientId), lost: &Overruled) -> StoreResult<()> {
        overruled::put(self, sub, by, lost)
    }

    fn put_refresh_token(&self, hash: &[u8; 32], sub: &str, expires_at: UnixMillis) -> StoreResult<()> {
        let sql = "INSERT INTO refresh_tokens (token_hash, sub, expires_at) VALUES (?1, ?2, ?3)";
        self.execute(sql, params![hash, sub, integer(expires_at.get())])?;
        Ok(())
    }

    fn revoke_refresh_token(&self, hash: &[u8; 32]) -> StoreResult<()> {
        self.execute("DELETE FROM refresh_tokens WHERE token_hash = ?1", params![hash])?;
        Ok(())
    }

    fn renew_epoch(&self, epoch: &Epoch) -> StoreResult<()> {
        retention::renew_epoch(self, epoch)
    }
    fn prune_scope(&self, scope: &Scope, through: Position, rows_max: u32) -> StoreResult<bool> {
        retention::prune_scope(self, scope, through, rows_max)
    }
    fn prune_idle(&self, retention: &Retention, now: UnixMillis, rows_max: u32) -> StoreResult<bool> {
        retention::prune_idle(self, retention, now, rows_max)
    }
}
