// The worker of wa_sqlite.js: prepared statements, one transaction for what comes in one message.

import * as SQLite from '@journeyapps/wa-sqlite';
import createModule from '@journeyapps/wa-sqlite/dist/wa-sqlite.mjs';
import { OPFSCoopSyncVFS } from '@journeyapps/wa-sqlite/src/examples/OPFSCoopSyncVFS.js';

const schema = `
  CREATE TABLE IF NOT EXISTS items (id TEXT PRIMARY KEY, supplier_id TEXT, date TEXT, status TEXT, amount REAL, title TEXT, note TEXT) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS items_supplier_date ON items (supplier_id, date);
  CREATE TABLE IF NOT EXISTS outbox (seq INTEGER PRIMARY KEY, op TEXT, id TEXT, at INTEGER)`;
const columns = ['id', 'supplier_id', 'date', 'status', 'amount', 'title', 'note'];

let sqlite3;
let memory;
let db;
let statements = {};

async function prepared(sql) {
  for await (const statement of sqlite3.statements(db, sql, { unscoped: true })) return statement;
  throw new Error(`no statement in ${sql}`);
}

async function run(statement, values) {
  await sqlite3.reset(statement);
  sqlite3.bind_collection(statement, values);
  const rows = [];
  while ((await sqlite3.step(statement)) === SQLite.SQLITE_ROW) rows.push(Object.fromEntries(sqlite3.row(statement).map((value, i) => [columns[i], value])));
  await sqlite3.reset(statement);
  return rows;
}

async function insert(records, withOutbox) {
  await sqlite3.exec(db, 'BEGIN IMMEDIATE');
  try {
    for (const record of records) {
      await run(statements.put, columns.map((column) => record[column]));
      if (withOutbox) await run(statements.queue, ['put', record.id, Date.now()]);
    }
    await sqlite3.exec(db, 'COMMIT');
  } catch (error) {
    await sqlite3.exec(db, 'ROLLBACK');
    throw error;
  }
}

const methods = {
  async open(name) {
    const module = await createModule();
    memory = () => module.HEAPU8.byteLength;
    sqlite3 = SQLite.Factory(module);
    sqlite3.vfs_register(await OPFSCoopSyncVFS.create(name, module), true);
    db = await sqlite3.open_v2(`${name}.db`);
    await sqlite3.exec(db, schema);
    const all = columns.join(', ');
    statements = {
      put: await prepared(`INSERT OR REPLACE INTO items (${all}) VALUES (?, ?, ?, ?, ?, ?, ?)`),
      queue: await prepared('INSERT INTO outbox (op, id, at) VALUES (?, ?, ?)'),
      get: await prepared(`SELECT ${all} FROM items WHERE id = ?`),
      query: await prepared(`SELECT ${all} FROM items WHERE supplier_id = ? ORDER BY date LIMIT ?`),
      scan: await prepared(`SELECT ${all} FROM items WHERE amount < ?`),
    };
  },
  put: (records) => insert(records, true),
  ingest: (records) => insert(records, false),
  get: async (id) => (await run(statements.get, [id]))[0],
  query: (supplier, limit) => run(statements.query, [supplier, limit]),
  scan: (below) => run(statements.scan, [below]),
  wasmBytes: async () => memory(),
  async close() {
    for (const statement of Object.values(statements)) await sqlite3.finalize(statement);
    await sqlite3.close(db);
  },
};

// One message after the other: a transaction is never in the middle of another.
let last = Promise.resolve();
self.onmessage = ({ data: { id, method, given } }) => {
  last = last.then(async () => {
    try {
      self.postMessage({ id, result: await methods[method](...given) });
    } catch (error) {
      self.postMessage({ id, error: String(error?.message ?? error) });
    }
  });
};
