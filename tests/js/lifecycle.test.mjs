// The client’s end, the death of its engine, and the browser around it.

import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { options, calm, FakeReplica, rows, rejectsWith, replicas, windowEvents, last, setNavigator, opened } from './support/client.mjs';
import { settled } from './support/load.mjs';

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

test('compaction goes to the worker where one is active, and the engine hears whether', async () => {
  const posted = [];
  const registration = { active: null };
  const { db } = await opened({ serviceWorker: registration });
  const ask = () => last().say({ type: 'untidy' });
  assert.equal(ask(), false, 'it may not be there for a while');
  registration.active = { postMessage: (data) => posted.push(data) };
  assert.equal(ask(), true);
  assert.deepEqual(posted, [{ type: 'landfall-tidy', database: 'landfall:app:ada' }]);
  await db.close();
});

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
