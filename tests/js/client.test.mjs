import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { load, settled } from './support/load.mjs';

const options = { name: 'app', user: 'ada', url: 'https://sync.example/v1/sync', auth: {}, collections: { notes: {}, people: { scope: 'team:{team}', priority: 3 } } };

const calm = {
  connectivity: 'online', phase: 'idle', pending: 0, sending: 0, parked: 0, failed: 0, conflicts: 0, last_sync: null, last_error: null, auth: 'ok',
  storage: { state: 'ok', persisted: null, quarantined: 0, message: null }, cold: false, next_attempt_at: null, needs_foreground: false,
};

/** The engine's side of the boundary: notes what is called and answers what a test tells it. */
class FakeReplica {
  calls = [];
  freed = 0;
  watches = new Map();
  raw = calm;
  constructor(options, hooks) {
    Object.assign(this, { options, hooks });
  }
  note(name, ...args) {
    this.calls.push([name, ...args]);
  }
  of(name) {
    return this.calls.filter(([called]) => called === name).map(([, ...args]) => args);
  }
  say(event) {
    this.hooks.event(JSON.stringify(event));
  }
  async write(json, atomic) {
    const ops = JSON.parse(json);
    this.note('write', ops, atomic);
    return JSON.stringify({ writes: ops.map((op, i) => ({ id: op.id ?? `made-${i}`, scope: op.scope ?? 'user:ada', entry: i })) });
  }
  async get(...args) {
    this.note('get', ...args);
    return JSON.stringify({ row: { id: args[2], n: 1 }, meta: ['pending', 4, 'user:ada'] });
  }
  async query(json) {
    this.note('query', JSON.parse(json));
    return rows(['a', 'synced'], ['b', 'rejected']);
  }
  async count(json) {
    this.note('count', JSON.parse(json));
    return 42;
  }
  async explain(json) {
    this.note('explain', JSON.parse(json));
    return '{"access":"index","index":"n","bounds":{"n":"range"},"order":"index","filter":["s"],"early_stop":true}';
  }
  watch(json, callback) {
    const id = this.watches.size + 1;
    this.note('watch', JSON.parse(json));
    this.watches.set(id, callback);
    return id;
  }
  unwatch(id) {
    this.note('unwatch', id);
    this.watches.delete(id);
  }
  status() {
    return JSON.stringify(this.raw);
  }
  async conflicts() {
    return '[]';
  }
  async outbox() {
    return JSON.stringify([{ id: 7, collection: 'notes', scope: 'user:ada', record: 'a', op: 'update', state: 'parked', fields: { created_at: 1 }, created_at: 5, attempts: 2, reason: { code: 'invalid', message: 'm', fields: { created_at: 'x' } } }]);
  }
  async inspect() {
    return JSON.stringify({
      database: 'landfall:app:ada', client_id: 'c1', outbox_rev: 3, base_rev: 4, next_seq: 5, acked_through: 6, log_rows: 7, entries: 8, in_flight: 9, batches: 10, settled: 11,
      parked: 12, conflicts: 13, oldest_pending: 14, compaction_debt: 15, memory: 16, memory_budget: 17, pairs: [{ scope: 's' }], quarantined: [{ key: 'k' }], set_aside: ['q'],
    });
  }
  async outbox_discard() {
    return '{"discarded":3}';
  }
  async outbox_edit(...args) {
    this.note('edit', ...args);
  }
  async sync_now(progress) {
    progress?.('{"type":"progress","phase":"push","done":1,"total":2}');
    return '{"pushed":1,"pulled":2,"rejected":0,"pending":0,"error":null}';
  }
  async set_token(...args) {
    this.note('set_token', ...args);
  }
  set_online(online) {
    this.note('set_online', online);
  }
  set_visible(visible) {
    this.note('set_visible', visible);
  }
  wake(reason) {
    this.note('wake', reason);
  }
  async logout(mode) {
    this.note('logout', mode);
  }
  async close() {
    this.note('close');
  }
  free() {
    this.freed++;
  }
}

const rows = (...list) => JSON.stringify({ rows: list.map(([id]) => ({ id })), meta: list.map(([, state]) => [state, 1, 'user:ada']) });
const rejectsWith = (promise, code) => assert.rejects(promise, (error) => error.name === 'SyncError' && error.code === code);

let replicas;
let windowEvents;
const last = () => replicas.at(-1);

beforeEach(() => {
  replicas = [];
  globalThis.reportError = mock.fn();
  windowEvents = new EventTarget();
  globalThis.addEventListener = windowEvents.addEventListener.bind(windowEvents);
  setNavigator({ onLine: true });
  globalThis.engine = {
    open: async (given, hooks) => {
      const replica = new FakeReplica(given, hooks);
      replicas.push(replica);
      return replica;
    },
  };
});
afterEach(() => {
  delete globalThis.reportError;
  delete globalThis.addEventListener;
});

function setNavigator(value) {
  Object.defineProperty(globalThis, 'navigator', { value, configurable: true });
}

async function opened(more = {}) {
  const landfall = await load('js/index.ts');
  return { ...landfall, db: await landfall.open({ ...options, ...more }) };
}

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
  await rejectsWith(open({ ...options, collections: { notes: { batch: -1 } } }), 'invalid_options');
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

// ---- reading -------------------------------------------------------------------------------------------------------

test('meta() knows the records that the package gave, and no copy of them', async () => {
  const { db, meta } = await opened();
  const record = await db.collection('notes').get('x', { scope: 'user:ada' });
  assert.deepEqual(record, { id: 'x', n: 1 });
  assert.deepEqual(meta(record), { state: 'pending', version: 4, scope: 'user:ada' });
  assert.equal(meta({ ...record }), undefined);
  assert.deepEqual((await db.collection('notes').query().get()).map((row) => meta(row).state), ['synced', 'rejected']);
  last().get = async () => undefined;
  assert.equal(await db.collection('notes').get('none'), undefined);
});

test('a query is asked as it was written, after the writes before it', async () => {
  const { db } = await opened();
  const written = db.collection('notes').put({});
  await db.collection('notes').query({ where: { n: { gte: 1, in: [1, 2] } }, orderBy: [['n', 'desc']], limit: 5, scope: undefined }).get();
  await written;
  assert.deepEqual(last().calls.map(([name]) => name).filter((name) => !name.startsWith('set_')), ['write', 'query']);
  assert.deepEqual(last().of('query'), [[{ collection: 'notes', where: { n: { gte: 1, in: [1, 2] } }, orderBy: [['n', 'desc']], limit: 5 }]]);
  assert.throws(() => db.collection('notes').query({ where: { n: undefined } }), { code: 'invalid_options' });
});

test('a page goes on where the one before ended, after the writes before it', async () => {
  const { db, meta } = await opened();
  const query = db.collection('notes').query({ where: { n: 1 }, limit: 9, offset: 3 });
  const ends = ['["0f",["2"],"user:ada","b"]', null];
  const whole = last().query;
  last().query = async (json) => JSON.stringify({ ...JSON.parse(await whole.call(last(), json)), next: ends.shift() });
  const written = db.collection('notes').put({});
  const first = await query.page({ limit: 2 });
  await written;
  assert.deepEqual([first.rows.map((row) => row.id), first.next], [['a', 'b'], '["0f",["2"],"user:ada","b"]']);
  assert.equal(meta(first.rows[1]).state, 'rejected');
  assert.equal((await query.page({ limit: 2, after: first.next })).next, undefined);
  assert.deepEqual(last().calls.map(([name]) => name).filter((name) => !name.startsWith('set_')), ['write', 'query', 'query']);
  assert.deepEqual(last().of('query'), [
    [{ collection: 'notes', where: { n: 1 }, limit: 2, offset: 3 }],
    [{ collection: 'notes', where: { n: 1 }, limit: 2, offset: 0, after: first.next }],
  ]);
  await rejectsWith(query.page({ limit: NaN }), 'invalid_options');
});

test('count() and explain() ask the same question and get no records', async () => {
  const { db } = await opened();
  const query = db.collection('notes').query({ where: { n: { gte: 1 } } });
  const written = db.collection('notes').put({});
  assert.equal(await query.count(), 42);
  await written;
  assert.deepEqual(last().calls.map(([name]) => name).filter((name) => !name.startsWith('set_')), ['write', 'count']);
  assert.deepEqual(await query.explain(), { access: 'index', index: 'n', bounds: { n: 'range' }, order: 'index', filter: ['s'], earlyStop: true });
  const asked = [[{ collection: 'notes', where: { n: { gte: 1 } } }]];
  assert.deepEqual([last().of('count'), last().of('explain')], [asked, asked]);
});

test('a subscriber is told on a microtask, of several answers in one turn only the last', async () => {
  const { db } = await opened();
  const seen = [];
  const stop = db.collection('notes').subscribe((records) => seen.push(records.map(({ id }) => id).join()));
  const answer = last().watches.get(1);
  answer(rows(['a', 'synced']));
  answer(rows(['b', 'synced'], ['c', 'synced']));
  assert.deepEqual(seen, []);
  await Promise.resolve();
  assert.deepEqual(seen, ['b,c']);
  answer(rows());
  stop();
  stop();
  await settled();
  assert.deepEqual(seen, ['b,c']);
  assert.deepEqual(last().of('unwatch'), [[1]]);
});

test('a subscriber is given what changed in place; a record that did not change is the same object', async () => {
  const { db } = await opened();
  const seen = [];
  db.collection('notes').subscribe((records) => seen.push(records));
  const answer = last().watches.get(1);
  const part = (start, gone, ...list) => JSON.stringify({ start, gone, ...JSON.parse(rows(...list)) });
  answer(part(null, 0, ['a', 'synced'], ['b', 'pending'], ['d', 'synced']));
  await settled();
  answer(part(1, 1, ['b', 'synced'], ['c', 'synced']));
  await settled();
  answer(part(0, 1));
  answer(part(3, 0, ['e', 'synced']));
  await settled();
  assert.deepEqual(seen.map((records) => records.map(({ id }) => id).join('')), ['abd', 'abcd', 'bcde']);
  assert.equal(seen[1][0], seen[0][0]);
  assert.equal(seen[1][3], seen[0][2]);
  assert.notEqual(seen[1][1], seen[0][1]);
  // An engine that was started again begins anew.
  answer(part(null, 0, ['z', 'synced']));
  await settled();
  assert.deepEqual(seen[3].map(({ id }) => id), ['z']);
});

test('a subscriber that throws is reported and harms nobody', async () => {
  const { db } = await opened();
  const seen = [];
  db.collection('notes').subscribe(() => {
    throw new Error('mine');
  });
  db.collection('notes').query({ limit: 1 }).subscribe((records) => seen.push(records.length));
  for (const answer of last().watches.values()) answer(rows(['a', 'synced']));
  db.sync.on('change', () => {
    throw new Error('mine too');
  });
  db.sync.on('change', (collections) => seen.push(collections));
  last().say({ type: 'change', collections: ['notes'] });
  assert.deepEqual(seen, []);
  await settled();
  assert.deepEqual(seen, [1, ['notes']]);
  assert.deepEqual(globalThis.reportError.mock.calls.map((call) => call.arguments[0].message), ['mine', 'mine too']);
});

test('a live query that the engine refuses tells its subscriber', async () => {
  const { db } = await opened();
  last().watch = () => {
    throw { code: 'invalid_options', message: 'm' };
  };
  const errors = [];
  db.collection('notes').subscribe(assert.fail, (error) => errors.push(error.code));
  assert.deepEqual(errors, []);
  await settled();
  assert.deepEqual(errors, ['invalid_options']);
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

// ---- the end -------------------------------------------------------------------------------------------------------

test('close() lets waiting writes out, frees once, and later calls say closed', async () => {
  const { db } = await opened();
  const written = db.collection('notes').put({ n: 1 });
  await Promise.all([db.close(), db.close()]);
  await db.close();
  await written;
  assert.deepEqual(last().calls.map(([name]) => name).filter((name) => !name.startsWith('set_')), ['write', 'close']);
  assert.equal(last().freed, 1);
  await rejectsWith(db.collection('notes').put({}), 'closed');
  await rejectsWith(db.collection('notes').query().get(), 'closed');
  const errors = [];
  db.collection('notes').subscribe(assert.fail, (error) => errors.push(error.code));
  await settled();
  assert.deepEqual(errors, ['closed']);
});

test('logout asks first when something has not reached the server, a write of this very turn included', async () => {
  const { db } = await opened();
  last().write = async function (json) {
    this.raw = { ...calm, pending: 2, sending: 1, parked: 2, failed: 1 };
    return FakeReplica.prototype.write.call(this, json, false);
  };
  void db.collection('notes').put({});
  await assert.rejects(db.logout(), { code: 'unsynced_writes', details: { count: 4 } });
  assert.deepEqual(last().of('logout'), []);
  await db.logout({ unsynced: 'keep' });
  await db.logout();
  assert.deepEqual(last().of('logout'), [['keep']]);
});

test('a logout that fails has ended nothing and can be repeated', async () => {
  const { db } = await opened();
  const seen = [];
  db.collection('notes').subscribe((records) => seen.push(records.length));
  last().logout = async () => {
    throw { code: 'blocked', message: 'm', retryable: true };
  };
  await rejectsWith(db.logout({ unsynced: 'wipe' }), 'blocked');
  assert.equal(replicas.length, 2);
  assert.equal((await db.collection('notes').put({})).status, 'stored');
  last().watches.get(1)(rows(['a', 'synced']));
  await settled();
  assert.deepEqual(seen, [1]);
  await db.logout({ unsynced: 'wipe' });
  assert.deepEqual(last().of('logout'), [['wipe']]);
  await rejectsWith(db.collection('notes').put({}), 'closed');
});

test('a logout that fails says so at once, also where the database opens late', async () => {
  const { db } = await opened();
  last().logout = async () => {
    throw { code: 'blocked', message: 'm', retryable: true };
  };
  const { open } = globalThis.engine;
  let letGo;
  globalThis.engine.open = (...given) => new Promise((done) => (letGo = () => done(open(...given))));
  await rejectsWith(db.logout({ unsynced: 'wipe' }), 'blocked');
  const written = db.collection('notes').put({});
  letGo();
  assert.equal((await written).status, 'stored');
});

test('logout with nothing unsent wipes', async () => {
  const { db } = await opened();
  await db.logout();
  assert.deepEqual(last().of('logout'), [['wipe']]);
});

// ---- the engine breaks ---------------------------------------------------------------------------------------------

test('after a trap the engine is opened afresh, calls under way reject once, nothing is repeated, live queries go on', async () => {
  const { db } = await opened();
  const notes = db.collection('notes');
  const heard = [];
  db.sync.on('restarted', ({ error, recovered }) => heard.push([error.code, recovered]));
  const seen = [];
  notes.subscribe((records) => seen.push(records.length));
  const dead = last();
  dead.query = () => new Promise(() => {});
  const stuck = notes.query().get();
  dead.write = async () => {
    throw new WebAssembly.RuntimeError('unreachable');
  };
  await assert.rejects(notes.put({ n: 1 }), { code: 'engine_failed', retryable: false, details: { fate: 'unknown' } });
  await rejectsWith(stuck, 'engine_failed');
  await settled();
  assert.equal(globalThis.engine.resets, 1);
  assert.equal(replicas.length, 2);
  assert.deepEqual(heard, [['engine_failed', true]]);
  assert.deepEqual(last().of('write'), []);
  last().watches.get(1)(rows(['a', 'synced']));
  await settled();
  assert.deepEqual(seen, [1]);
  assert.equal((await notes.put({ n: 2 })).status, 'stored');
  assert.equal(dead.freed, 0);
  dead.say({ type: 'status', status: { ...calm, pending: 99 } });
  assert.equal(db.sync.status.pending, 0);
});

test('a trap that the glue tells ends promises that would stay open, and is one death with the error of the call', async () => {
  const { db } = await opened();
  const dead = last();
  dead.query = () => {
    globalThis.engine.trap('unreachable');
    throw new WebAssembly.RuntimeError('unreachable');
  };
  dead.get = () => new Promise(() => {});
  const stuck = db.collection('notes').get('x');
  await rejectsWith(db.collection('notes').query().get(), 'engine_failed');
  await rejectsWith(stuck, 'engine_failed');
  await settled();
  assert.equal(globalThis.engine.resets, 1);
  assert.equal(replicas.length, 2);
});

test('a trap in a callback of the engine ends promises that would stay open', async () => {
  const { db } = await opened();
  last().query = () => new Promise(() => {});
  const stuck = db.collection('notes').query().get();
  globalThis.engine.trap('unreachable');
  await rejectsWith(stuck, 'engine_failed');
  await settled();
  assert.equal(replicas.length, 2);
});

test('both databases of a page go on after one death', async () => {
  const { db, open } = await opened();
  const other = await open({ ...options, user: 'bob' });
  const heard = [];
  for (const each of [db, other]) each.sync.on('restarted', ({ recovered }) => heard.push(recovered));
  globalThis.engine.trap('m');
  await settled();
  assert.deepEqual(heard, [true, true]);
  assert.equal(replicas.length, 4);
  assert.equal(globalThis.engine.resets, 1);
});

test('an engine that dies again and again stays down and says so', async () => {
  const { db } = await opened();
  const recovered = [];
  db.sync.on('restarted', (event) => recovered.push(event.recovered));
  for (let i = 0; i < 4; i++) {
    globalThis.engine.trap('again');
    await settled();
  }
  assert.deepEqual(recovered, [true, true, true, false]);
  await rejectsWith(db.collection('notes').put({}), 'engine_failed');
  await db.close();
});

// ---- the browser around it -----------------------------------------------------------------------------------------

/** A worker registration whose register() ends when the test says so. */
function fakeRegistration() {
  const tags = [];
  const ends = [];
  return { tags, ends, sync: { register: (tag) => (tags.push(tag), new Promise((resolve, reject) => ends.push({ resolve, reject }))) } };
}

test('entries ask for a background sync, one registration under way at a time, and one more for what came meanwhile', async () => {
  const registration = fakeRegistration();
  const { db } = await opened({ serviceWorker: registration });
  for (let i = 0; i < 100; i++) last().say({ type: 'enqueued' });
  await settled();
  assert.equal(registration.tags.length, 1);
  registration.ends[0].resolve();
  await settled();
  assert.equal(registration.tags.length, 2);
  assert.match(registration.tags[0], /^landfall:app:ada:\d+$/);
  registration.ends[1].resolve();
  await settled();
  last().say({ type: 'enqueued' });
  await settled();
  assert.equal(registration.tags.length, 3);
  await db.close();
});

test('unsent entries of an earlier page ask for a background sync at open', async () => {
  const open = globalThis.engine.open;
  globalThis.engine.open = async (...args) => Object.assign(await open(...args), { raw: { ...calm, pending: 1 } });
  const registration = fakeRegistration();
  await opened({ serviceWorker: registration });
  await settled();
  assert.equal(registration.tags.length, 1);
});

for (const [what, sync] of [['is missing', undefined], ['is refused', { register: async () => { throw new Error('denied'); } }]]) {
  test(`where Background Sync ${what} the worker gets a message, one a second at most`, async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const posted = [];
    const { db } = await opened({ serviceWorker: { sync, active: { postMessage: (data) => posted.push(data) } } });
    for (let i = 0; i < 10; i++) last().say({ type: 'enqueued' });
    await settled();
    assert.deepEqual(posted, [{ type: 'landfall-flush', database: 'landfall:app:ada' }]);
    last().say({ type: 'enqueued' });
    await settled();
    t.mock.timers.tick(1000);
    await settled();
    assert.equal(posted.length, 2);
    await db.close();
  });
}

test('a page that is hidden lets the message out that a pause held back', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  globalThis.document = Object.assign(new EventTarget(), { visibilityState: 'visible' });
  try {
    const posted = [];
    const { db } = await opened({ persist: 'manual', serviceWorker: { active: { postMessage: (data) => posted.push(data) } } });
    const hide = () => {
      document.visibilityState = 'hidden';
      document.dispatchEvent(new Event('visibilitychange'));
    };
    last().say({ type: 'enqueued' });
    await settled();
    hide();
    assert.equal(posted.length, 1);
    last().say({ type: 'enqueued' });
    hide();
    hide();
    assert.equal(posted.length, 2);
    t.mock.timers.tick(1000);
    await settled();
    assert.equal(posted.length, 2);
    await db.close();
  } finally {
    delete globalThis.document;
  }
});

test('without a service worker entries ask for nothing', async () => {
  const ready = mock.fn();
  setNavigator({ onLine: true, serviceWorker: { get ready() { return ready(); } } });
  await opened({ serviceWorker: false });
  last().say({ type: 'enqueued' });
  await settled();
  assert.equal(ready.mock.callCount(), 0);
});

test('the engine hears how the page is, until the database is closed', async () => {
  const page = Object.assign(new EventTarget(), { visibilityState: 'visible' });
  globalThis.document = page;
  const persist = mock.fn(async () => true);
  setNavigator({ onLine: false, storage: { persist } });
  try {
    const { db } = await opened();
    const replica = last();
    assert.deepEqual(replica.calls, [['set_online', false], ['set_visible', true]]);
    replica.calls.length = 0;
    const fire = (type, target = windowEvents) => target.dispatchEvent(Object.assign(new Event(type), { persisted: true }));
    fire('online');
    fire('offline');
    fire('focus');
    page.visibilityState = 'hidden';
    fire('visibilitychange', page);
    fire('pagehide');
    fire('freeze', page);
    page.visibilityState = 'visible';
    fire('resume', page);
    fire('pageshow');
    assert.deepEqual(replica.calls, [
      ['set_online', true], ['set_online', false], ['wake', 'focus'], ['set_visible', false], ['wake', 'pagehide'], ['wake', 'freeze'], ['wake', 'resume'],
      ['set_online', false], ['set_visible', true], ['wake', 'pageshow'],
    ]);
    replica.say({ type: 'enqueued' });
    replica.say({ type: 'enqueued' });
    await settled();
    assert.equal(persist.mock.callCount(), 1);
    assert.equal(db.sync.status.storage.persisted, true);
    await db.close();
    replica.calls.length = 0;
    fire('online');
    assert.deepEqual(replica.calls, []);
  } finally {
    delete globalThis.document;
  }
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

// ---- migrations ----------------------------------------------------------------------------------------------------

const shout = { fields: ['title', 'TITLE'], upgrade: ({ title, ...rest }) => (title === undefined ? rest : { ...rest, TITLE: title.toUpperCase() }) };
const migrated = { schemaVersion: 2, migrations: { 2: { notes: shout } } };

test('a migration changes what get(), queries and subscribers see, and nothing that is stored or sent', async () => {
  const { db, meta } = await opened(migrated);
  const replica = last();
  assert.equal(replica.options.migrations, undefined);
  replica.get = async () => JSON.stringify({ row: { id: 'a', title: 'x' }, meta: ['synced', 4, 's'] });
  replica.query = async () => JSON.stringify({ rows: [{ id: 'a', title: 'x' }, { id: 'b', TITLE: 'Y' }], meta: [['synced', 4, 's'], ['pending', 5, 's']], next: null });
  const notes = db.collection('notes');
  const expected = [{ id: 'a', TITLE: 'X' }, { id: 'b', TITLE: 'Y' }];
  const record = await notes.get('a');
  assert.deepEqual(record, expected[0]);
  assert.deepEqual(meta(record), { state: 'synced', version: 4, scope: 's' });
  assert.deepEqual(await notes.query().get(), expected);
  assert.deepEqual((await notes.query({ where: { other: 1 }, orderBy: 'other' }).page({ limit: 2 })).rows, expected);
  let shown;
  notes.subscribe((rows) => (shown = rows));
  await settled();
  [...replica.watches.values()][0](JSON.stringify({ start: null, gone: 0, rows: [{ id: 'a', title: 'x' }], meta: [['synced', 4, 's']] }));
  await settled();
  assert.deepEqual(shown, [expected[0]]);
  assert.deepEqual(await db.collection('people').get('p'), { id: 'a', title: 'x' });
  const lines = (await new Response(db.export()).text()).split('\n');
  assert.ok(lines.some((line) => line.includes('"title":"x"')), 'an export has what is stored');
  assert.deepEqual(replica.of('write'), []);
});

test('a query for a field that a migration changes is refused: the engine would look at what is stored', async () => {
  const { db } = await opened(migrated);
  const notes = db.collection('notes');
  for (const [query, path] of [[{ where: { title: 'x' } }, 'where.title'], [{ where: { TITLE: 'X' } }, 'where.TITLE'], [{ orderBy: 'title' }, 'orderBy.title'], [{ orderBy: [['n', 'asc'], ['TITLE', 'desc']] }, 'orderBy.TITLE']]) {
    assert.throws(() => notes.query(query), (error) => error.code === 'invalid_options' && error.details.path === path);
  }
  await rejectsWith(opened({ ...migrated, schemaVersion: 1 }), 'invalid_options');
});

test('a migration that fails ends a live query with an error and does not reach the engine', async () => {
  const { db } = await opened({ schemaVersion: 2, migrations: { 2: { notes: { fields: ['n'], upgrade: (record) => ({ ...record, n: (record.n ?? 0) + 1 }) } } } });
  const errors = [];
  const shown = mock.fn();
  db.collection('notes').subscribe(shown, (error) => errors.push(error.code));
  await settled();
  const answer = [...last().watches.values()][0];
  answer(JSON.stringify({ start: null, gone: 0, rows: [{ id: 'a' }], meta: [['synced', 1, 's']] }));
  answer(JSON.stringify({ start: 0, gone: 0, rows: [], meta: [] }));
  await settled();
  assert.deepEqual(errors, ['invalid_options']);
  assert.equal(shown.mock.callCount(), 0);
});
