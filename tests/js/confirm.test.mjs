// Online-first: a write is stored first, and resolves with the server's word, or with `stored` when that takes too long.

import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { calm, last, opened } from './support/client.mjs';
import { settled } from './support/load.mjs';

const online = { collections: { notes: { mode: 'online-first' }, people: {} } };

/** A promise, and whether it has ended. */
function watched(promise) {
  const seen = { promise, result: undefined };
  promise.then((result) => (seen.result = result));
  return seen;
}

/** The server has decided. */
async function decide(entry, outcome, event = { type: 'applied', entries: [entry] }) {
  last().outcomes.set(entry, { seq: 1, ...outcome });
  last().say(event);
  await settled();
}

test('an online-first collection is sent at once and put() resolves with the outcome; another one resolves when stored', async () => {
  const { db } = await opened(online);
  assert.deepEqual(Object.entries(last().options.collections).map(([name, { immediate }]) => [name, immediate]), [['notes', true], ['people', false]]);
  assert.equal((await db.collection('people').put({})).status, 'stored');
  for (const [status, told] of [['applied', 'applied'], ['merged', 'merged'], ['recreated', 'applied'], ['superseded', 'superseded']]) {
    const put = watched(db.collection('notes').put({ id: 'a', n: 1 }));
    await settled();
    assert.equal(put.result, undefined);
    await decide(0, { status, version: 3 });
    assert.deepEqual(put.result, { status: told, id: 'a', scope: 'user:ada', entry: 0 });
    last().outcomes.clear();
  }
});

test('a refusal is a result that says why, with the entry that a form goes on with', async () => {
  const { db } = await opened(online);
  const put = watched(db.collection('notes').put({ id: 'a', n: 1 }));
  await settled();
  const rejected = { status: 'rejected', code: 'validation', message: 'It does not fit.', fields: { n: 'too small' } };
  await decide(0, rejected, { type: 'rejected', entry: { id: 0, state: 'parked', reason: { code: 'validation', message: 'It does not fit.', fields: { n: 'too small' } } } });
  assert.deepEqual(put.result, { ...rejected, id: 'a', scope: 'user:ada', entry: 0 });
});

test('a conflict for its author, and a refusal of what this one builds on, are told apart', async () => {
  const { db } = await opened(online);
  for (const [code, status] of [['conflict', 'conflict'], ['blocked', 'rejected']]) {
    const put = watched(db.collection('notes').put({ id: 'a' }));
    await settled();
    // Decided on this device: the server gave no outcome of its own.
    last().say({ type: 'rejected', entry: { id: 0, state: 'parked', reason: { code, message: 'm', fields: {} } } });
    await settled();
    assert.deepEqual([put.result.status, put.result.code], [status, code]);
  }
});

test('an entry that travelled as a part of another one finds its outcome too', async () => {
  const { db } = await opened(online);
  const put = watched(db.collection('notes').put({ id: 'a' }));
  await settled();
  await decide(0, { status: 'rejected', code: 'validation' }, { type: 'rejected', entry: { id: 99, state: 'parked', reason: { code: 'validation' } } });
  assert.deepEqual([put.result.status, put.result.code], ['rejected', 'validation']);
});

test('without an answer it is stored after ten seconds, and at once where the server cannot be reached', async () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const { db } = await opened(online);
    const put = watched(db.collection('notes').put({ id: 'a' }));
    await settled();
    mock.timers.tick(9_999);
    await settled();
    assert.equal(put.result, undefined);
    mock.timers.tick(1);
    await settled();
    assert.equal(put.result.status, 'stored');
    const cut = watched(db.collection('notes').put({ id: 'b' }));
    await settled();
    last().say({ type: 'status', status: { ...calm, connectivity: 'offline' } });
    await settled();
    assert.equal(cut.result.status, 'stored');
    for (const status of [{ connectivity: 'offline' }, { phase: 'paused' }, { auth: 'auth_required' }]) {
      last().say({ type: 'status', status: { ...calm, ...status } });
      assert.equal((await db.collection('notes').put({ id: 'c' })).status, 'stored');
    }
  } finally {
    mock.timers.reset();
  }
});

test('a transaction resolves when each of its online-first writes is decided', async () => {
  const { db } = await opened(online);
  const group = watched(db.transaction(['notes', 'people'], (tx) => {
    tx.collection('people').put({ id: 'p' });
    tx.collection('notes').put({ id: 'a' });
  }));
  await settled();
  assert.equal(group.result, undefined);
  await decide(1, { status: 'applied' });
  assert.deepEqual(group.result.map(({ status }) => status), ['stored', 'applied']);
});

test('until then the record is confirming, and who shows it is told of the beginning and the end', async () => {
  const { db, meta } = await opened(online);
  const shown = [];
  db.collection('notes').subscribe((records) => shown.push(records.map((record) => meta(record).state)));
  const say = (state) => last().watches.get(1)(JSON.stringify({ start: null, gone: 0, rows: [{ id: 'a' }, { id: 'b' }], meta: [[state, 1, 'user:ada'], ['pending', 1, 'user:ada']] }));
  say('pending');
  await settled();
  const put = watched(db.collection('notes').put({ id: 'a' }));
  await settled();
  await decide(0, { status: 'applied' });
  assert.equal(put.result.status, 'applied');
  say('settled');
  await settled();
  assert.deepEqual(shown, [['pending', 'pending'], ['confirming', 'pending'], ['pending', 'pending'], ['settled', 'pending']]);
});

test('a database that is closed lets nobody wait', async () => {
  const { db } = await opened(online);
  const put = watched(db.collection('notes').put({ id: 'a' }));
  await settled();
  await db.close();
  await settled();
  assert.equal(put.result.status, 'stored');
});
