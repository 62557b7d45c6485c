//! Tables of the embedded store, and how a file comes to have them.
//!
//! Identity is (scope, collection, id). The change log holds after-images in the order of a scope's counter; a
//! ledger row is written in the transaction of the effect it speaks of.

use super::{StoreError, compat, operations, overruled};
use rusqlite::{Connection, TransactionBehavior};

/// Version of the tables; kept in `user_version`.
const SCHEMA_VERSION: i64 = 4;

const TABLES: &str = "
CREATE TABLE meta (
    key TEXT PRIMARY KEY, value TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE scopes (
    scope TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    version_floor INTEGER NOT NULL,
    pruned_through INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE records (
    scope TEXT NOT NULL, collection TEXT NOT NULL, id TEXT NOT NULL,
    version INTEGER NOT NULL, position INTEGER NOT NULL, deleted INTEGER NOT NULL,
    fields TEXT NOT NULL, stamp TEXT NOT NULL,
    sub TEXT NOT NULL, client TEXT NOT NULL, seq INTEGER NOT NULL,
    role TEXT NOT NULL DEFAULT '', marks TEXT,
    PRIMARY KEY (scope, collection, id)
) WITHOUT ROWID;
CREATE INDEX tombstones ON records (scope, position) WHERE deleted = 1;
CREATE TABLE changes (
    scope TEXT NOT NULL, position INTEGER NOT NULL, part INTEGER NOT NULL,
    collection TEXT NOT NULL, id TEXT NOT NULL,
    version INTEGER NOT NULL, deleted INTEGER NOT NULL, fields TEXT NOT NULL, stamp TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (scope, position, part)
) WITHOUT ROWID;
CREATE TABLE sums (
    scope TEXT NOT NULL, collection TEXT NOT NULL, sum INTEGER NOT NULL, live_count INTEGER NOT NULL,
    PRIMARY KEY (scope, collection)
) WITHOUT ROWID;
CREATE TABLE clients (
    sub TEXT NOT NULL, client_id TEXT NOT NULL,
    acked_through INTEGER NOT NULL, last_seq INTEGER NOT NULL, device TEXT NOT NULL, device_key TEXT NOT NULL,
    pending_count INTEGER NOT NULL, last_seen INTEGER NOT NULL, schema_version INTEGER NOT NULL,
    PRIMARY KEY (sub, client_id)
) WITHOUT ROWID;
CREATE TABLE outcomes (
    sub TEXT NOT NULL, client_id TEXT NOT NULL, seq INTEGER NOT NULL,
    hash BLOB NOT NULL, outcome TEXT NOT NULL, at INTEGER NOT NULL, base INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (sub, client_id, seq)
) WITHOUT ROWID;
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL, sub TEXT NOT NULL, client_id TEXT NOT NULL, seq INTEGER NOT NULL,
    scope TEXT NOT NULL, collection TEXT NOT NULL, record_id TEXT NOT NULL,
    op TEXT NOT NULL, status TEXT NOT NULL, code TEXT, version INTEGER, position INTEGER
);
CREATE TABLE conflicts (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL, sub TEXT NOT NULL, client_id TEXT NOT NULL, seq INTEGER NOT NULL,
    scope TEXT NOT NULL, collection TEXT NOT NULL, record_id TEXT NOT NULL,
    mutation TEXT NOT NULL, outcome TEXT NOT NULL, overwritten TEXT
);
CREATE TABLE refresh_tokens (
    token_hash BLOB PRIMARY KEY, sub TEXT NOT NULL, expires_at INTEGER NOT NULL
) WITHOUT ROWID;
";

/// Unique keys and references of live records.
const LINKS: &str = "
CREATE TABLE links (
    scope TEXT NOT NULL, collection TEXT NOT NULL, link TEXT NOT NULL, id TEXT NOT NULL,
    PRIMARY KEY (scope, collection, link, id)
) WITHOUT ROWID;
CREATE INDEX links_of ON links (scope, collection, id);
";

/// What a file of version 1 lacks: the writers' roles, who wrote which field, and what a conflict overwrote.
const FROM_1: &str = "
ALTER TABLE records ADD COLUMN role TEXT NOT NULL DEFAULT '';
ALTER TABLE records ADD COLUMN marks TEXT;
ALTER TABLE conflicts ADD COLUMN overwritten TEXT;
";

/// What a file of a version below 4 lacks: what an outcome stood on. Of older ones nothing is known, so who comes after one
/// without effect stands on nothing.
const BELOW_4: &str = "ALTER TABLE outcomes ADD COLUMN base INTEGER NOT NULL DEFAULT 0;";

/// Settings of every connection. `FULL` is what makes an answered push survive kill -9 and a power cut (S6).
pub fn tune(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA busy_timeout = 5000;
         PRAGMA cache_size = -32768;
         PRAGMA temp_store = MEMORY;
         PRAGMA wal_autocheckpoint = 4000;",
    )?;
    connection.set_prepared_statement_cache_capacity(96);
    Ok(())
}

/// Creates the tables in a new file, brings an older file up to date and refuses one of a newer server.
pub fn prepare(connection: &mut Connection, new_epoch: &str) -> Result<(), StoreError> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > SCHEMA_VERSION {
        return Err(StoreError::Corrupt("the data directory was written by a newer server"));
    }
    // One transaction: a file is of the old version or of the new one, whenever the server is killed.
    // It waits for the lock at its beginning, where SQLite can wait: the process before this one may still be closing.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if found == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.execute_batch(LINKS)?;
        transaction.execute("INSERT INTO meta (key, value) VALUES ('epoch', ?1)", [new_epoch])?;
    }
    if found == 1 {
        transaction.execute_batch(FROM_1)?;
    }
    if found == 1 || found == 2 {
        transaction.execute_batch(LINKS)?;
    }
    if (1..4).contains(&found) {
        transaction.execute_batch(BELOW_4)?;
    }
    // Tables that stand apart: whatever version the others have.
    transaction.execute_batch(operations::TABLES)?;
    transaction.execute_batch(compat::TABLES)?;
    transaction.execute_batch(overruled::TABLES)?;
    // A file that is up to date is not written to, so that a server can start on a full disk.
    if found != SCHEMA_VERSION {
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_newer_server_is_refused_and_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        prepare(&mut connection, "e1").unwrap();
        prepare(&mut connection, "e2").unwrap();
        let epoch: String =
            connection.query_row("SELECT value FROM meta WHERE key = 'epoch'", [], |row| row.get(0)).unwrap();
        assert_eq!(epoch, "e1");
        connection.pragma_update(None, "user_version", 99).unwrap();
        assert!(prepare(&mut connection, "e3").is_err());
    }

    #[test]
    fn a_start_waits_for_the_process_before_it_to_let_go_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let open = || {
            let connection = Connection::open(directory.path().join("landfall.db")).unwrap();
            tune(&connection).unwrap();
            connection
        };
        prepare(&mut open(), "e1").unwrap();
        let (before, mut next) = (open(), open());
        before.execute_batch("BEGIN IMMEDIATE").unwrap();
        // It lets go when somebody waits.
        next.busy_handler(Some(move |_| before.execute_batch("COMMIT").is_ok())).unwrap();
        prepare(&mut next, "e2").unwrap();
    }

    #[test]
    fn a_file_of_version_1_keeps_its_records_and_gets_what_it_lacks() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("tables_1.sql")).unwrap();
        connection
            .execute_batch(
                "INSERT INTO meta VALUES ('epoch', 'old');
                 INSERT INTO records VALUES ('user:a', 'notes', 'n', 3, 7, 0, '{}', 's', 'a', 'c', 2);
                 PRAGMA user_version = 1;",
            )
            .unwrap();
        prepare(&mut connection, "new").unwrap();
        let row: (i64, String, String, Option<String>) = connection
            .query_row("SELECT version, fields, role, marks FROM records", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .unwrap();
        assert_eq!(row, (3, "{}".to_owned(), String::new(), None));
        let columns = |connection: &Connection| -> Vec<String> {
            let sql = "SELECT m.name || '.' || c.name FROM sqlite_master m, pragma_table_info(m.name) c
                       WHERE m.type = 'table' ORDER BY 1";
            let mut statement = connection.prepare(sql).unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        let mut fresh = Connection::open_in_memory().unwrap();
        prepare(&mut fresh, "new").unwrap();
        assert_eq!(columns(&connection), columns(&fresh), "an old file ends as a new one begins");
    }
}
