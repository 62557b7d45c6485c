import assert from 'node:assert/strict';
import { test } from 'node:test';
import { load } from './support/load.mjs';

const { exportStream, importLines } = await load('js/transfer.ts');

/** A database that keeps records in a map and writes down what is written. */
class FakeDb {
  user = 'ada';
  collections = ['notes', 'people'];
  entries = [];
  lost = [];
  writes = [];
  pages = 0;
  /** `collection/id` → `{record, meta}`. */
  records = new Map();
  /** The code with which writing a record fails. */
  failing = {};

  add(collection, id, fields, { state = 'synced', version = 1, scope = 'user:ada' } = {}) {
    this.records.set(`${collection}/${id}`, { record: { id, ...fields }, meta: { state, version, scope } });
    return this;
  }
  async header() {
    return { database: 'landfall:app:ada', pairs: [{ scope: 'user:ada', collection: 'notes', covered: 4, records: 2, dead: 0 }] };
  }
  async page(collection, limit, after) {
    this.pages++;
    const all = [...this.records].filter(([key]) => key.startsWith(`${collection}/`)).map(([, { record }]) => record).sort((a, b) => (a.id < b.id ? -1 : 1));
    const from = after === undefined ? 0 : all.findIndex(({ id }) => id === after) + 1;
    const rows = all.slice(from, from + limit);
    return { rows, next: from + limit < all.length ? rows.at(-1).id : undefined };
  }
  meta(record) {
    return [...this.records.values()].find((held) => held.record === record)?.meta;
  }
  async get(collection, scope, id) {
    return this.records.get(`${collection}/${id}`)?.record;
  }
  async outbox() {
    return this.entries;
  }
  async conflicts() {
    return this.lost;
  }
  async write(op, collection, scope, id, fields) {
    const code = this.failing[id];
    if (code) throw Object.assign(new Error(code), { name: 'SyncError', code });
    const old = this.records.get(`${collection}/${id}`);
    const entry = this.writes.length;
    if (op === 'delete') this.records.delete(`${collection}/${id}`);
    else {
      const { id: _, ...before } = old?.record ?? {};
      const after = op === 'update' ? { ...before, ...fields } : fields;
      if (old && JSON.stringify(before) === JSON.stringify(after)) return { status: 'stored', id, scope, entry: null };
      this.add(collection, id, after, { state: 'pending', version: old?.meta.version ?? 0, scope });
    }
    this.writes.push([op, collection, id, ...(fields ? [fields] : [])]);
    return { status: 'stored', id, scope, entry };
  }
}

const entry = (id, record, op, fields, more = {}) => ({ id, collection: 'notes', scope: 'user:ada', record, op, state: 'pending', fields, attempts: 0, ...more });
const text = (db) => new Response(exportStream(db)).text();
const lines = async (db) => (await text(db)).trimEnd().split('\n').map((line) => JSON.parse(line));
const header = { landfall: 1, database: 'landfall:other:ada', user: 'ada', exported_at: '2026-01-01T00:00:00.000Z', pairs: [] };
const line = (id, fields, more = {}) => ({ kind: 'record', scope: 'user:ada', collection: 'notes', id, version: 1, state: 'synced', fields, ...more });
const ndjson = (...values) => [header, ...values].map((value) => (typeof value === 'string' ? value : JSON.stringify(value))).join('\n');
const invalid = (promise, path) => assert.rejects(promise, (error) => error.code === 'invalid_options' && error.details.path === path);

test('an export is a header, the records, the outbox and the conflicts, a line each', async () => {
  const db = new FakeDb().add('notes', 'a', { title: 'A' }).add('notes', 'b', { title: 'line\nbreak' }, { state: 'pending', version: 3 }).add('people', 'p', { n: 1 });
  db.entries = [entry(7, 'b', 'update', { title: 'line\nbreak' }), entry(8, 'x', 'update', {}, { state: 'parked', reason: { code: 'validation', message: 'm' } })];
  db.lost = [{ id: 3, collection: 'notes', record: 'a' }];
  const [first, ...rest] = await lines(db);
  assert.deepEqual({ ...first, exported_at: 'then' }, {
    landfall: 1, database: 'landfall:app:ada', user: 'ada', exported_at: 'then', pairs: [{ scope: 'user:ada', collection: 'notes', covered: 4, records: 2 }],
  });
  assert.ok(Date.now() - Date.parse(first.exported_at) < 60_000);
  assert.deepEqual(rest, [
    line('a', { title: 'A' }),
    { ...line('b', { title: 'line\nbreak' }, { version: 3, state: 'pending' }), unsent: true },
    line('p', { n: 1 }, { collection: 'people' }),
    { kind: 'entry', ...db.entries[0] },
    { kind: 'parked', ...db.entries[1] },
    { kind: 'conflict', ...db.lost[0] },
  ]);
});

test('i6: records are read a page at a time, and only when somebody takes them', async () => {
  const db = new FakeDb();
  for (let i = 0; i < 5000; i++) db.add('notes', `n${String(i).padStart(5, '0')}`, { text: 'x'.repeat(1000) });
  const reader = exportStream(db).getReader();
  const longest = { chars: 0, lines: 0 };
  assert.equal(db.pages, 0);
  await reader.read();
  assert.equal(db.pages, 0);
  for (let taken = 1; ; taken++) {
    const { value, done } = await reader.read();
    if (done) break;
    assert.ok(db.pages <= taken + 1);
    longest.chars = Math.max(longest.chars, value.length);
    longest.lines += new TextDecoder().decode(value).split('\n').length - 1;
  }
  assert.equal(longest.lines, 5000);
  assert.ok(longest.chars < 3_000_000, `a part of ${longest.chars} bytes`);
  assert.ok(db.pages > 3);
});

test('a record that is written while the export runs comes as it is at the end', async () => {
  const db = new FakeDb().add('notes', 'a', { n: 1 });
  const reader = exportStream(db).getReader();
  const seen = [];
  const take = async () => {
    const { value, done } = await reader.read();
    if (!done) seen.push(...new TextDecoder().decode(value).trimEnd().split('\n').map((text) => JSON.parse(text)));
    return !done;
  };
  await take();
  await take();
  db.add('notes', 'a', { n: 2 }, { state: 'pending' }).entries = [entry(9, 'a', 'update', { n: 2 })];
  while (await take());
  assert.deepEqual(seen.slice(1).map(({ kind, fields, unsent }) => [kind, fields, unsent]), [
    ['record', { n: 1 }, undefined],
    ['record', { n: 2 }, true],
    ['entry', { n: 2 }, undefined],
  ]);
});

test('what is exported and imported into an empty database is written once, and nothing at the second time', async () => {
  const from = new FakeDb().add('notes', 'a', { title: 'A' }).add('notes', 'b', { title: 'B' }, { state: 'pending' }).add('people', 'p', { n: 1 });
  from.entries = [entry(1, 'b', 'create', { title: 'Before' }), entry(2, 'b', 'update', { title: 'B' }), entry(3, 'gone', 'delete', {})];
  const file = await text(from);
  const to = new FakeDb();
  assert.deepEqual(await importLines(to, file), { written: 3, skipped: 3, refused: [], reported: [] });
  assert.deepEqual(to.writes.sort(), [['put', 'notes', 'a', { title: 'A' }], ['put', 'notes', 'b', { title: 'B' }], ['put', 'people', 'p', { n: 1 }]]);
  assert.deepEqual(await importLines(to, new Blob([file])), { written: 0, skipped: 6, refused: [], reported: [] });
});

test('c1: what the server said is not written over something newer of the server; what was not sent yet is', async () => {
  const to = new FakeDb().add('notes', 'old', { n: 'here' }, { version: 5 }).add('notes', 'new', { n: 'here' }, { version: 2 }).add('notes', 'mine', { n: 'here' }, { version: 9 });
  const file = ndjson(line('old', { n: 'file' }, { version: 5 }), line('new', { n: 'file' }, { version: 3 }), line('mine', { n: 'file' }, { version: 1, state: 'pending', unsent: true }));
  assert.deepEqual(await importLines(to, file), { written: 2, skipped: 1, refused: [], reported: [] });
  assert.deepEqual(to.writes.map(([, , id]) => id).sort(), ['mine', 'new']);
});

test('r5: with unsentOnly a record that is only known from the server is not made again', async () => {
  const to = new FakeDb();
  const file = ndjson(line('deleted-since', {}), line('mine', { n: 1 }, { state: 'pending', unsent: true }));
  assert.deepEqual(await importLines(to, file, { unsentOnly: true }), { written: 1, skipped: 1, refused: [], reported: [] });
  assert.deepEqual([...to.records.keys()], ['notes/mine']);
});

test('an unsent delete is carried over, and entries count where their record has no line', async () => {
  const to = new FakeDb().add('notes', 'gone', {}).add('notes', 'kept', { a: 1, b: 1 });
  const file = ndjson({ kind: 'entry', ...entry(1, 'gone', 'delete', {}) }, { kind: 'entry', ...entry(2, 'kept', 'update', { b: 2 }) }, { kind: 'entry', ...entry(3, 'made', 'create', { c: 3 }) }, { kind: 'entry', ...entry(4, 'made', 'update', { c: 4 }) });
  assert.deepEqual(await importLines(to, file), { written: 4, skipped: 0, refused: [], reported: [] });
  assert.deepEqual(to.writes, [['delete', 'notes', 'gone'], ['update', 'notes', 'kept', { b: 2 }], ['put', 'notes', 'made', { c: 3 }], ['update', 'notes', 'made', { c: 4 }]]);
});

test('a line that cannot be taken is refused with its number, and the others go on', async () => {
  const to = new FakeDb();
  to.failing = { wrong: 'invalid_record', strange: 'unknown_collection' };
  const bytes = (...parts) => new Blob(parts.flatMap((part) => [part, '\n']));
  const file = bytes(
    JSON.stringify(header),
    '{"kind":"record","sco',
    JSON.stringify(line('a', { n: 1 })),
    new Uint8Array([0x22, 0xff, 0x22]),
    JSON.stringify(line('wrong', {})),
    '',
    '7',
    JSON.stringify({ ...line('b', {}), fields: [] }),
    JSON.stringify({ ...line('b', {}), version: 'x' }),
    JSON.stringify({ kind: 'entry', ...entry(1, 'b', 'burn', {}) }),
    'x'.repeat(5 * 1024 * 1024),
    JSON.stringify(line('strange', {})),
    `${JSON.stringify(line('c', { n: 3 }))}\r`,
  );
  const { written, skipped, refused } = await importLines(to, file);
  assert.deepEqual({ written, skipped }, { written: 2, skipped: 0 });
  assert.deepEqual(refused.map(({ line }) => line), [2, 4, 5, 7, 8, 9, 10, 11, 12]);
  assert.deepEqual(new Set(refused.filter(({ line }) => line !== 12).map(({ code }) => code)), new Set(['invalid_record']));
  assert.equal(refused.at(-1).code, 'unknown_collection');
  assert.deepEqual(to.writes.map(([, , id]) => id), ['a', 'c']);
});

test('c2: what waited for a person and what had lost is reported and not written', async () => {
  const to = new FakeDb();
  const told = [{ kind: 'parked', id: 1, record: 'a', fields: { n: 1 } }, { kind: 'conflict', id: 2, record: 'b', local: {} }];
  assert.deepEqual(await importLines(to, ndjson(...told)), { written: 0, skipped: 0, refused: [], reported: told });
});

test('two lines of one record are taken one after the other', async () => {
  const to = new FakeDb().add('notes', 'a', { n: 2 }, { version: 0 });
  const file = ndjson(line('a', { n: 1 }), line('a', { n: 2 }, { unsent: true, state: 'pending' }));
  assert.deepEqual(await importLines(to, file), { written: 2, skipped: 0, refused: [], reported: [] });
  assert.deepEqual(to.records.get('notes/a').record, { id: 'a', n: 2 });
});

test('i2: what is no export of this user and version is refused as a whole', async () => {
  for (const [file, path] of [
    ['', 'landfall'],
    ['no json', 'landfall'],
    [JSON.stringify(line('a', {})), 'landfall'],
    [JSON.stringify({ ...header, landfall: 2 }), 'landfall'],
    [JSON.stringify({ ...header, user: 'eve' }), 'user'],
  ]) {
    const to = new FakeDb();
    await invalid(importLines(to, `${file}\n${JSON.stringify(line('a', {}))}`), path);
    assert.deepEqual(to.writes, []);
  }
});

test('l3: a full disk ends the import; doing it again takes what is missing', async () => {
  const to = new FakeDb();
  to.failing = { b: 'quota_exceeded' };
  const file = ndjson(line('a', {}), line('b', { n: 1 }));
  await assert.rejects(importLines(to, file), { code: 'quota_exceeded' });
  to.failing = {};
  assert.deepEqual(await importLines(to, file, {}), { written: 1, skipped: 1, refused: [], reported: [] });
});
