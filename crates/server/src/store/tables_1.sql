-- The tables of version 1, as its servers made them: what a migration starts from.
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
    hash BLOB NOT NULL, outcome TEXT NOT NULL, at INTEGER NOT NULL,
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
    mutation TEXT NOT NULL, outcome TEXT NOT NULL
);
CREATE TABLE refresh_tokens (
    token_hash BLOB PRIMARY KEY, sub TEXT NOT NULL, expires_at INTEGER NOT NULL
) WITHOUT ROWID;
