// The client: options, writes, transactions, status and what it hands on.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { options, calm, rejectsWith, replicas, last, setNavigator, opened } from './support/client.mjs';
import { load, settled } from './support/load.mjs';

// ---- options -------------------------------------------------------------------------------------------------------

test('the engine is given whole options: absolute addresses, default scope, snake_case, nothing undefined', async () => {
  globalThis.location = { href: 'https://app.example/deep/page.html' };
  try {
    await opened({ url: '/v1/sync', auth: { token: () => 'x', refresh: { url: '/auth/refresh' } }, schemaVersion: 2, retry: { attempts: 3 }, device: undefined });
  } finally {
    delete globalThis.location;
  }
  assert.deepEqual(last().options, {
    name: 'app', user: 'ada', url: 'https://app.example/v1/sync', auth: { token: true, refresh: { url: 'https://app.example/auth/refresh' } },
    collections: { notes: { scope: 'user:{user}', priority: 0, immediate: false }, people: { scope: 'team:{team}', priority: 3, immediate: false } },
    schema_version: 2, retry: { attempts: 3 },
  });
});

test('indexes are lists of fields, one or several', async () => {
  await opened({ collections: { notes: { indexes: ['n', ['s', 'n']], cluster: ['s'] }, people: {} }, memoryBytes: 8_000_000 });
  const { collections, memory_bytes: memory } = last().options;
  assert.deepEqual([collections.notes.indexes, collections.notes.cluster, memory], [[['n'], ['s', 'n']], ['s'], 8_000_000]);
  for (const wrong of [{ indexes: [''] }, { indexes: [[]] }, { indexes: ['a,b'] }, { cluster: 's' }]) {
    await rejectsWith((await load('js/index.ts')).open({ ...options, collections: { notes: wrong } }), 'invalid_options');
  }
});

test('bad options are refused before anything is opened', async () => {
  const { open } = await load('js/index.ts');
  const bad = { name: '', user: undefined, url: 'relative, and no page', auth: 'magic', collections: {}, durability: 'none', retry: { attempts: 0 }, schemaVersion: 1.5 };
  for (const [key, value] of Object.entries(bad)) await rejectsWith(open({ ...options, [key]: value }), 'invalid_options');
  await rejectsWith(open({ ...options, user: '\ud800' }), 'invalid_options');
  for (const notes of [{ batch: -1 }, { mode: 'online' }, { references: { parent_id: 'elsewhere' } }, { validate: () => true }, { decide: 'local' }]) {
    await rejectsWith(open({ ...options, collections: { notes } }), 'invalid_options');
  }
  for (const more of [{ gzipAboveBytes: 0 }, { transport: { push() {} } }, { url: undefined }, { transport: { push() {}, pull() {} } }]) await rejectsWith(open({ ...options, ...more }), 'invalid_options');
  assert.equal(replicas.length, 0);
});

test('what the engine throws at open is a SyncError, and the next open tries again', async () => {
  const { open, isSyncError } = await load('js/index.ts');
  const good = globalThis.engine.open;
  globalThis.engine.open = async () => {
    throw { code: 'newer_schema', message: 'Made by a newer version.', retryable: false };
  };
  await assert.rejects(open(options), (error) => isSyncError(error) && error.code === 'newer_schema');
  globalThis.engine.open = good;
  await open(options);
});

test('a module that cannot be loaded is retryable, and loaded at the next open', async () => {
  const { open } = await load('js/index.ts');
  globalThis.engine.init = async (address) => {
    assert.equal(String(address), 'https://cdn.example/engine.wasm');
    throw new TypeError('Failed to fetch');
  };
  await assert.rejects(open({ ...options, wasmUrl: 'https://cdn.example/engine.wasm' }), { code: 'wasm_unavailable', retryable: true });
  globalThis.engine.init = async () => {};
  await open(options);
});

// ---- writes --------------------------------------------------------------------------------------------------------

test('what is written in one turn crosses in one call, in order, and each promise gets its own result', async () => {
  const { db } = await opened();
  const notes = db.collection('notes');
  const results = await Promise.all([notes.put({ text: 'a' }), notes.create({ id: 'x', n: 1 }), notes.update('x', { n: 2 }), notes.delete('x', { scope: 'team:1' })]);
  assert.deepEqual(last().of('write'), [[[
    { op: 'put', collection: 'notes', fields: { text: 'a' } },
    { op: 'create', collection: 'notes', id: 'x', fields: { n: 1 } },
    { op: 'update', collection: 'notes', id: 'x', fields: { n: 2 } },
    { op: 'delete', collection: 'notes', scope: 'team:1', id: 'x' },
  ], false]]);
  assert.deepEqual(results[0], { status: 'stored', id: 'made-0', scope: 'user:ada', entry: 0 });
  assert.deepEqual(results[3], { status: 'stored', id: 'x', scope: 'team:1', entry: 3 });
});

test('a record is copied when it is written', async () => {
  const { db } = await opened();
  const record = { list: [1] };
  const written = db.collection('notes').put(record);
  record.list.push(2);
  await written;
  assert.deepEqual(last().of('write')[0][0][0].fields, { list: [1] });
});

test('l3: a bad record rejects alone and never reaches the engine', async () => {
  const { db } = await opened();
  const notes = db.collection('notes');
  const good = notes.put({ ok: true });
  await rejectsWith(notes.put({ a: undefined }), 'invalid_record');
  await rejectsWith(notes.put({ id: 'x'.repeat(129) }), 'id_too_long');
  await rejectsWith(notes.update('x', { id: 'y' }), 'invalid_record');
  await rejectsWith(notes.delete(7), 'invalid_record');
  await good;
  assert.equal(last().of('write').flat(2).filter((op) => typeof op === 'object').length, 1);
});

test('an operation that the engine refuses rejects alone; a call that it refuses rejects all', async () => {
  const { db } = await opened();
  const notes = db.collection('notes');
  last().write = async () => JSON.stringify({ writes: [{ id: 'a', scope: 's', entry: 1 }, { error: { code: 'not_found', message: 'm', retryable: false } }] });
  const first = notes.put({});
  await rejectsWith(notes.update('gone', {}), 'not_found');
  assert.equal((await first).id, 'a');
  last().write = async () => {
    throw { code: 'storage_failed', message: 'm', retryable: true };
  };
  await Promise.all([rejectsWith(notes.put({}), 'storage_failed'), rejectsWith(notes.put({}), 'storage_failed')]);
});

test('very many writes of one turn cross in several calls, still in order', async () => {
  const { db } = await opened();
  const text = 'x'.repeat(1000);
  await Promise.all(Array.from({ length: 3000 }, (_, n) => db.collection('notes').put({ n, text })));
  const calls = last().of('write').map(([ops]) => ops);
  assert.ok(calls.length >= 3);
  assert.deepEqual(calls.flat().map((op) => op.fields.n), Array.from({ length: 3000 }, (_, n) => n));
});

test('a collection that was not declared is refused at once', async () => {
  const { db, SyncError } = await opened();
  assert.throws(() => db.collection('other'), (error) => error instanceof SyncError && error.code === 'unknown_collection');
});

// ---- transactions --------------------------------------------------------------------------------------------------

test('a transaction crosses once, marked atomic, after what was written before it', async () => {
  const { db } = await opened();
  const before = db.collection('notes').put({ n: 0 });
  const results = await db.transaction(['notes', 'people'], async (tx) => {
    tx.collection('notes').put({ id: 'a', n: 1 });
    await settled();
    tx.collection('people').update('p', { n: 2 });
    tx.collection('notes').delete('b');
  });
  await before;
  const writes = last().of('write');
  assert.deepEqual(writes.map(([ops, atomic]) => [ops.length, atomic]), [[1, false], [3, true]]);
  assert.deepEqual(results.map(({ id }) => id), ['a', 'p', 'b']);
});

test('a transaction whose callback throws writes nothing, nor does what comes after its end', async () => {
  const { db } = await opened();
  let late;
  await assert.rejects(db.transaction(['notes'], async (tx) => {
    late = tx.collection('notes');
    late.put({ n: 1 });
    await settled();
    throw new Error('changed my mind');
  }), /changed my mind/);
  assert.throws(() => late.put({ n: 2 }), { code: 'closed' });
  await rejectsWith(db.transaction(['notes'], (tx) => tx.collection('people').put({})), 'unknown_collection');
  await rejectsWith(db.transaction(['notes'], (tx) => tx.collection('notes').put({ a: NaN })), 'invalid_record');
  assert.deepEqual(await db.transaction(['notes'], () => {}), []);
  assert.deepEqual(last().of('write'), []);
});

// ---- status, events, outbox ----------------------------------------------------------------------------------------

test('status is right at once, in camelCase, and the same object until it changes', async () => {
  const { db } = await opened();
  const before = db.sync.status;
  assert.equal(before.lastSync, null);
  assert.equal(db.sync.status, before);
  const heard = [];
  const off = db.sync.on('status', (status) => heard.push(status));
  last().say({ type: 'status', status: { ...calm, pending: 2, last_error: { code: 'network', message: 'm' }, needs_foreground: true } });
  assert.equal(db.sync.status.pending, 2);
  assert.deepEqual(heard, []);
  await settled();
  assert.equal(heard[0], db.sync.status);
  assert.deepEqual([heard[0].needsForeground, heard[0].lastError.code], [true, 'network']);
  off();
  last().say({ type: 'status', status: calm });
  await settled();
  assert.equal(heard.length, 1);
});

test('outbox entries keep the names of the app’s own fields', async () => {
  const { db } = await opened();
  const [entry] = await db.outbox.list();
  assert.deepEqual([entry.createdAt, entry.fields, entry.reason.fields], [5, { created_at: 1 }, { created_at: 'x' }]);
  assert.equal(await db.outbox.discard(7), 3);
  await db.outbox.edit(7, { text: 'better' });
  assert.deepEqual(last().of('edit'), [[7, '{"text":"better"}']]);
  await rejectsWith(db.outbox.edit(7, { text: undefined }), 'invalid_record');
});

test('what failed is told once for each unit, until somebody retries; a refusal is told each time', async () => {
  const { db } = await opened();
  const heard = [];
  db.sync.on('failed', ({ id }) => heard.push(['failed', id]));
  db.sync.on('rejected', ({ id }) => heard.push(['rejected', id]));
  const say = (id, state, group) => last().say({ type: 'rejected', entry: { id, state, ...(group && { group }) } });
  say(1, 'failed');
  say(2, 'failed', 'g');
  say(3, 'failed', 'g');
  say(1, 'failed');
  say(4, 'parked');
  say(4, 'parked');
  await settled();
  assert.deepEqual(heard, [['failed', 1], ['failed', 2], ['rejected', 4], ['rejected', 4]]);
  await db.outbox.retry(1);
  say(1, 'failed');
  await settled();
  assert.deepEqual(heard.at(-1), ['failed', 1]);
});

test('outbox.retryAll() retries each unit that failed, once, and nothing else', async () => {
  const { db } = await opened();
  last().outbox = async () => JSON.stringify([
    { id: 1, state: 'failed', group: 'g' }, { id: 2, state: 'failed', group: 'g' }, { id: 3, state: 'parked' }, { id: 4, state: 'failed' }, { id: 5, state: 'pending' },
  ]);
  assert.equal(await db.outbox.retryAll(), 2);
  assert.deepEqual(last().of('retry'), [[2], [4]]);
});

test('sync.now() gives the result and tells progress outside the engine’s call', async () => {
  const { db } = await opened();
  const progress = [];
  assert.deepEqual(await db.sync.now({ onProgress: (step) => progress.push(step) }), { pushed: 1, pulled: 2, rejected: 0, pending: 0, error: null });
  assert.deepEqual(progress, [{ phase: 'push', done: 1, total: 2 }]);
});

test('a token is handed over with the end that it names', async () => {
  const token = `e30.${btoa('{"exp":9}')}.s`;
  const { db } = await opened({ auth: { token: async () => token } });
  await db.token(token);
  await db.token(null);
  assert.deepEqual(last().of('set_token'), [[token, 9000], [undefined, undefined]]);
  assert.deepEqual(await last().hooks.token(), { token, expires_at: 9000 });
  const { db: other } = await opened({ auth: { token: () => null } });
  assert.equal(await last().hooks.token(), null);
  await other.close();
  await opened({ auth: 'cookie' });
  assert.equal(last().hooks.token, undefined);
});

// ---- inspection ----------------------------------------------------------------------------------------------------

test('inspect() is the engine’s numbers in order, with what the browser says of the storage', async () => {
  setNavigator({ onLine: true, storage: { estimate: async () => ({ usage: 1, quota: 2 }) } });
  const { db } = await opened();
  assert.deepEqual(await db.inspect(), {
    database: 'landfall:app:ada',
    clientId: 'c1',
    log: { rows: 7, entries: 8, oldestPending: 14 },
    outbox: { rev: 3, nextSeq: 5, ackedThrough: 6, inFlight: 9, batches: 10, settled: 11, parked: 12, conflicts: 13 },
    base: { rev: 4, pairs: [{ scope: 's' }], compactionDebt: 15, memoryBytes: 16, memoryBudgetBytes: 17 },
    quarantined: [{ key: 'k' }],
    setAside: ['q'],
    storage: { usageBytes: 1, quotaBytes: 2 },
  });
  for (const storage of [undefined, {}, { estimate: async () => Promise.reject(new Error('no')) }]) {
    setNavigator({ onLine: true, storage });
    assert.equal((await db.inspect()).storage, null);
  }
});

test('export() and import() go through the names that apps use', async () => {
  const { db } = await opened();
  const lines = (await new Response(db.export()).text()).trimEnd().split('\n').map((line) => JSON.parse(line));
  assert.deepEqual(lines.map(({ kind, id }) => [kind, id]), [[undefined, undefined], ['record', 'a'], ['record', 'b'], ['record', 'a'], ['record', 'b'], ['parked', 7]]);
  assert.deepEqual(last().of('query').map(([{ collection, limit }]) => [collection, limit]), [['notes', 500], ['people', 500]]);
  const record = { kind: 'record', scope: 'team:1', collection: 'people', id: 'p', version: 9, state: 'pending', unsent: true, fields: { n: 1 } };
  const file = [{ landfall: 1, user: 'ada' }, record, { ...record, collection: 'other', id: 'q' }].map((value) => JSON.stringify(value)).join('\n');
  assert.deepEqual(await db.import(file), { written: 1, skipped: 0, refused: [{ line: 3, code: 'unknown_collection' }], reported: [] });
  assert.deepEqual(last().of('write'), [[[{ op: 'put', collection: 'people', scope: 'team:1', id: 'p', fields: { n: 1 } }], false]]);
});
