// A database that the browser threw away, noticed by a note that is kept elsewhere.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { calm, last, opened, options } from './support/client.mjs';

let notes;
const own = Object.getOwnPropertyDescriptor(globalThis, 'localStorage');
const setStorage = (value) => Object.defineProperty(globalThis, 'localStorage', { value, configurable: true });

beforeEach(() => {
  notes = new Map();
  setStorage({ getItem: (key) => notes.get(key) ?? null, setItem: (key, text) => notes.set(key, text), removeItem: (key) => notes.delete(key) });
});
afterEach(() => {
  if (own) Object.defineProperty(globalThis, 'localStorage', own);
  else delete globalThis.localStorage;
});

/** Opens a database whose engine says `status`, and gives what it tells of a loss. */
async function open(status = calm) {
  const open = globalThis.engine.open;
  globalThis.engine.open = async (...given) => Object.assign(await open(...given), { raw: { ...calm, ...status } });
  const { db } = await opened();
  globalThis.engine.open = open;
  const told = [];
  db.sync.on('storage', (event) => told.push(event));
  await new Promise((done) => setTimeout(done));
  return { db, told, lost: db.sync.status.storage.lost };
}

const say = (status) => last().say({ type: 'status', status: { ...calm, ...status } });

test('l3: a database that comes back empty is told as lost, with what had not been sent, until somebody has seen it', async () => {
  const first = await open();
  assert.deepEqual([first.lost, first.told], [null, []]);
  say({ last_sync: 5, pending: 2, parked: 1 });
  await first.db.close();

  const second = await open();
  assert.equal(second.lost.count, 3);
  assert.deepEqual(second.told, [{ code: 'lost', count: 3 }]);
  say({ last_sync: 6 });
  assert.equal(second.db.sync.status.storage.lost.count, 3, 'a later status has it too');
  await second.db.close();

  const third = await open({ last_sync: 6 });
  assert.deepEqual([third.lost.count, third.told], [3, []], 'known, and told as an event once');
  const heard = [];
  third.db.sync.on('status', ({ storage }) => heard.push(storage.lost));
  third.db.sync.dismissLoss();
  await new Promise((done) => setTimeout(done));
  assert.deepEqual([third.db.sync.status.storage.lost, heard], [null, [null]]);
  await third.db.close();
  assert.equal((await open({ last_sync: 6 })).lost, null);
});

test('a database that was never used, is still there, or has damaged rows of its own is not lost', async () => {
  await (await open()).db.close();
  const unused = await open();
  assert.equal(unused.lost, null, 'nothing was in it');
  say({ pending: 4 });
  await unused.db.close();
  for (const there of [{ pending: 4 }, { parked: 1 }, { last_sync: 5 }, { storage: { ...calm.storage, quarantined: 1 } }]) {
    notes.set('landfall:app:ada:note', '{"waits":4,"synced":true}');
    const { db, lost } = await open(there);
    assert.equal(lost, null, JSON.stringify(there));
    await db.close();
  }
});

test('a second loss adds to one that nobody has seen', async () => {
  notes.set('landfall:app:ada:note', '{"waits":4,"synced":true}');
  await (await open()).db.close();
  notes.set('landfall:app:ada:note', JSON.stringify({ ...JSON.parse(notes.get('landfall:app:ada:note')), waits: 2 }));
  assert.equal((await open()).lost.count, 6);
});

test('what changes all the time is noted once a second, the first and the last at once', async () => {
  await open({ last_sync: 1 });
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const noted = () => JSON.parse(notes.get('landfall:app:ada:note')).waits;
    const after = [];
    for (const [ms, pending] of [[0, 1], [10, 2], [10, 3], [979, 4], [1, 5], [1_000, 6], [10, 0], [2_000, 0]]) {
      mock.timers.tick(ms);
      after.push(noted());
      say({ last_sync: 1, pending });
      after.push(noted());
    }
    assert.deepEqual(after, [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 5, 5, 5, 0, 0, 0]);
  } finally {
    mock.timers.reset();
  }
});

test('of a user whose data is wiped no note stays; of one whose data is kept it does', async () => {
  for (const [unsynced, stays] of [['wipe', false], ['keep', true]]) {
    const { db } = await open({ last_sync: 1 });
    await db.logout({ unsynced });
    assert.equal(notes.has('landfall:app:ada:note'), stays, unsynced);
    assert.equal(options.user, 'ada');
  }
});

test('a tab that is still open notes nothing of what another one has wiped', async () => {
  const wiping = await open({ last_sync: 1, pending: 2 });
  const { db: still } = await open({ last_sync: 1, pending: 2 });
  await wiping.db.logout({ unsynced: 'wipe' });
  say({ storage: { ...calm.storage, state: 'closed' } });
  still.sync.dismissLoss();
  assert.deepEqual([...notes], []);
  assert.equal((await open()).lost, null, 'the next one is new');
});

test('without localStorage nothing is noticed and nothing else fails', async () => {
  setStorage(undefined);
  const { db, lost } = await open({ last_sync: 1, pending: 1 });
  say({ pending: 0 });
  db.sync.dismissLoss();
  assert.equal(lost, null);
  await db.logout({ unsynced: 'wipe' });
});
