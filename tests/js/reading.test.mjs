// The client reads: records, queries, live queries, and records of an older shape.

import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { options, rows, rejectsWith, last, opened } from './support/client.mjs';
import { settled } from './support/load.mjs';

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
