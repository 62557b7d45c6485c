import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { load, settled } from './support/load.mjs';

const { decide } = await load('service-worker/decide.ts');
const { SyncError } = await load('js/errors.ts');

// ---- the decision --------------------------------------------------------------------------------------------------

const done = { sendable: 0, pending: 0, parked: 0, auth_required: false, retry_after_ms: null };
const minutes = (n) => n * 60_000;

const decisions = [
  ['nothing is left', 0, done, 'resolve'],
  ['something is sendable', 0, { ...done, sendable: 1, pending: 1 }, 'reject'],
  ['something is sendable and a window is open', 1, { ...done, sendable: 1, pending: 1 }, 'resolve'],
  ['only parked entries remain', 0, { ...done, parked: 3 }, 'resolve'],
  ['only failed entries remain', 0, { ...done, pending: 2 }, 'resolve'],
  ['a login is needed', 0, { ...done, sendable: 5, pending: 5, auth_required: true }, 'resolve'],
  ['the server asks for 15 minutes', 0, { ...done, pending: 1, retry_after_ms: minutes(15) }, 'reject'],
  ['the server asks for more than 15 minutes', 0, { ...done, sendable: 1, pending: 1, retry_after_ms: minutes(15) + 1 }, 'resolve'],
  ['the server asks for a pause and nothing waits', 0, { ...done, retry_after_ms: 1000 }, 'resolve'],
  ['there is no such database', 0, undefined, 'resolve'],
  ['the flush failed', 0, new SyncError('storage_failed', 'm'), 'reject'],
  ['the flush failed and a window is open', 2, new SyncError('storage_failed', 'm'), 'resolve'],
];
for (const [when, windows, report, verdict] of decisions) {
  test(`a sync event ${verdict}s when ${when}`, () => assert.equal(decide(windows, report), verdict));
}

// ---- attach() in a worker's globals --------------------------------------------------------------------------------

class WorkerScope extends EventTarget {
  registration = { sync: {} };
  windows = [];
  asked = [];
  clients = {
    matchAll: async (options) => {
      this.asked.push(options);
      return this.windows;
    },
  };
  /** Sends an event as the browser does, and gives what the worker waits for. */
  fire(type, more = {}) {
    const waits = [];
    this.dispatchEvent(Object.assign(new Event(type), more, { waitUntil: (promise) => waits.push(promise) }));
    return waits;
  }
}

const tag = (n, user = 'ada') => ({ tag: `landfall:app:${user}:${n}`, lastChance: false });

let self;
/** What the engine's side saw, in order, and how each flush is to end. */
let log;
let flushes;
let attach;
let databases;

beforeEach(async () => {
  self = new WorkerScope();
  log = [];
  flushes = [];
  databases = ['landfall:app:ada', 'landfall:app:bob'];
  globalThis.indexedDB = { databases: async () => databases.map((name) => ({ name, version: 1 })) };
  globalThis.engine = {
    open_stored: async (database, hooks) => {
      log.push(`open ${database}`);
      return {
        flush: (budgetMs, lastChance) => {
          log.push(`flush ${lastChance}`);
          return new Promise((resolve, reject) => flushes.push({ budgetMs, hooks, end: (report) => resolve(JSON.stringify({ ...done, ...report })), fail: reject }));
        },
        close: async () => void log.push('close'),
        free: () => void log.push('free'),
      };
    },
    init: async () => void log.push('init'),
  };
  ({ attach } = await load('service-worker/attach.ts'));
});
afterEach(() => delete globalThis.indexedDB);

test('the listeners are there when attach() returns, and the engine is not loaded', () => {
  attach(self);
  assert.deepEqual(log, []);
  assert.equal(self.fire('sync', tag(1)).length, 1);
  assert.deepEqual(self.fire('activate'), []);
  assert.equal(self.fire('message', { data: { type: 'landfall-flush', database: 'landfall:app:ada' } }).length, 1);
});

test('a sync event flushes the database of its tag, closes the engine and resolves', async () => {
  attach(self, { budgetMs: 5000 });
  const [wait] = self.fire('sync', { ...tag(1), lastChance: true });
  await settled();
  assert.ok(flushes[0].budgetMs > 4000 && flushes[0].budgetMs <= 5000);
  flushes[0].end();
  await wait;
  assert.deepEqual(log, ['init', 'open landfall:app:ada', 'flush true', 'close', 'free']);
  assert.deepEqual(self.asked, [{ type: 'window', includeUncontrolled: true }]);
});

test('a sync event rejects while something is sendable and no window is open, and resolves with one', async () => {
  attach(self);
  const [first] = self.fire('sync', tag(1));
  await settled();
  flushes[0].end({ sendable: 1, pending: 1 });
  await assert.rejects(first, { name: 'SyncError', code: 'unsent', retryable: true });
  self.windows = [{}];
  const [second] = self.fire('sync', tag(2));
  await settled();
  flushes[1].end({ sendable: 1, pending: 1 });
  await second;
});

test('a transport that the app gives carries what the worker sends, also when it comes with a second attach()', async () => {
  attach(self);
  const asked = [];
  attach(self, { transport: { push: async (batch) => (asked.push(batch), { results: [] }), pull: async () => ({}) } });
  const [wait] = self.fire('sync', tag(1));
  await settled();
  assert.deepEqual(await flushes[0].hooks.transport('/push', '{"n":1}'), { status: 200, body: '{"results":[]}' });
  assert.deepEqual(asked, [{ n: 1 }]);
  flushes[0].end();
  await wait;
});

test('a flush that the engine refuses rejects the event with its error, after closing', async () => {
  attach(self);
  const [wait] = self.fire('sync', tag(1));
  await settled();
  flushes[0].fail({ code: 'storage_failed', message: 'm', retryable: true });
  await assert.rejects(wait, { code: 'storage_failed' });
  assert.deepEqual(log.slice(-2), ['close', 'free']);
});

test('two tags that fire at once are one flight and one more, never two at a time', async () => {
  attach(self);
  const waits = [self.fire('sync', tag(1)), self.fire('sync', tag(2)), self.fire('sync', { ...tag(3), lastChance: true })].flat();
  await settled();
  assert.equal(flushes.length, 1);
  flushes[0].end();
  await settled();
  assert.equal(flushes.length, 2);
  flushes[1].end();
  await Promise.all(waits);
  assert.deepEqual(log.filter((line) => /^(open|flush|free)/.test(line)), ['open landfall:app:ada', 'flush false', 'free', 'open landfall:app:ada', 'flush true', 'free']);
  const [wait] = self.fire('sync', tag(4));
  await settled();
  flushes[2].end();
  await wait;
});

test('a failed flight does not fail the one that waited behind it', async () => {
  attach(self);
  const [first, second] = [self.fire('sync', tag(1)), self.fire('sync', tag(2))].flat();
  await settled();
  flushes[0].fail({ code: 'storage_failed', message: 'm' });
  await assert.rejects(first, { code: 'storage_failed' });
  await settled();
  flushes[1].end();
  await second;
});

test('databases of two users are flushed side by side', async () => {
  attach(self);
  const waits = [self.fire('sync', tag(1)), self.fire('sync', tag(1, 'bob'))].flat();
  await settled();
  assert.equal(flushes.length, 2);
  flushes.forEach(({ end }) => end());
  await Promise.all(waits);
});

test('events of others are left alone', () => {
  attach(self);
  assert.deepEqual(self.fire('sync', { tag: 'outbox' }), []);
  assert.deepEqual(self.fire('message', { data: { type: 'demo:activate' } }), []);
  assert.deepEqual(self.fire('message', { data: null }), []);
});

test('a database that is gone ends well and is not made again', async () => {
  databases = [];
  attach(self);
  await self.fire('sync', tag(1))[0];
  assert.deepEqual(log, []);
  databases = ['landfall:app:ada'];
  globalThis.engine.open_stored = async () => undefined;
  await self.fire('sync', tag(2))[0];
});

test('where the browser does not list its databases the tag’s is opened', async () => {
  globalThis.indexedDB = {};
  attach(self);
  const [wait] = self.fire('sync', tag(1));
  await settled();
  flushes[0].end();
  await wait;
});

test('activate flushes every database of Landfall, and activation waits for none: the requests of its pages wait for it', async () => {
  databases = ['landfall:app:ada', 'other', 'landfall:app:bob'];
  attach(self);
  assert.deepEqual(self.fire('activate'), []);
  await settled();
  assert.deepEqual(log.filter((line) => line.startsWith('open')), ['open landfall:app:ada', 'open landfall:app:bob']);
  flushes[0].end();
  // Nobody hears of it; the file would fail if it were a rejection that nobody handles.
  flushes[1].fail({ code: 'storage_failed', message: 'm' });
  await settled();
  assert.equal(log.filter((line) => line === 'free').length, 2);
});

test('activate with no database does not load the engine', async () => {
  databases = ['other'];
  attach(self);
  self.fire('activate');
  await settled();
  globalThis.indexedDB = {};
  self.fire('activate');
  await settled();
  assert.deepEqual(log, []);
});

test('without Background Sync the start of the worker is a chance to flush', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  databases = ['landfall:app:ada'];
  self.registration = {};
  attach(self);
  assert.deepEqual(log, []);
  t.mock.timers.tick(0);
  await settled();
  flushes[0].end();
  await settled();
  assert.equal(log.at(-1), 'free');
});

test('a second attach() changes the options and listens only once', async () => {
  attach(self);
  attach(self, { budgetMs: 10 });
  const waits = self.fire('sync', tag(1));
  assert.equal(waits.length, 1);
  await settled();
  assert.ok(flushes[0].budgetMs <= 10);
  flushes[0].end();
  await waits[0];
});

test('attach() refuses anything but a service worker’s self', () => {
  assert.throws(() => attach(new EventTarget()), { code: 'invalid_options' });
});

test('an engine that panics ends the event, is not closed, and the next event has a fresh one', async () => {
  attach(self);
  const [wait] = self.fire('sync', tag(1));
  await settled();
  globalThis.engine.trap('m');
  await assert.rejects(wait, { code: 'engine_failed' });
  assert.equal(globalThis.engine.resets, 1);
  assert.ok(!log.includes('free'));
  const [next] = self.fire('sync', tag(2));
  await settled();
  flushes[1].hooks.event('{"type":"status","status":{}}');
  flushes[1].end();
  await next;
});

test('the worker looks for the module in its caches before it asks the network', async () => {
  const cached = new Response('');
  const addresses = [];
  globalThis.caches = { match: async (address) => (String(address).endsWith('/landfall_bg.wasm') ? cached : undefined) };
  globalThis.engine.init = async (address) => void addresses.push(address);
  try {
    attach(self);
    const [wait] = self.fire('sync', tag(1));
    await settled();
    flushes[0].end();
    await wait;
    assert.deepEqual(addresses, [cached]);
  } finally {
    delete globalThis.caches;
  }
});

test('tidying is no flight: it has no time to sync, waits for none and ends none', async () => {
  attach(self);
  const [sync] = self.fire('sync', tag(1));
  const [tidy] = self.fire('message', { data: { type: 'landfall-tidy', database: 'landfall:app:ada' } });
  await settled();
  assert.deepEqual(flushes.map(({ budgetMs }) => budgetMs > 0), [true, false]);
  flushes[1].fail({ code: 'storage_failed', message: 'm', retryable: true });
  await tidy;
  flushes[0].end();
  await sync;
});

test('the entry attaches itself in a service worker and does nothing in a page', async () => {
  globalThis.self = self;
  try {
    const { attach: exported } = await load('service-worker/entry.ts');
    assert.equal(typeof exported, 'function');
    assert.equal(self.fire('message', { data: { type: 'landfall-flush', database: 'landfall:app:ada' } }).length, 1);
    globalThis.self = new EventTarget();
    await load('service-worker/entry.ts');
  } finally {
    delete globalThis.self;
  }
});
