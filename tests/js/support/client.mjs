// The package over a fake engine, made anew for each test: what it is asked, and what it answers.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock } from 'node:test';
import { load } from './load.mjs';

export const options = { name: 'app', user: 'ada', url: 'https://sync.example/v1/sync', auth: {}, collections: { notes: {}, people: { scope: 'team:{team}', priority: 3 } } };

export const calm = {
  connectivity: 'online', phase: 'idle', pending: 0, sending: 0, parked: 0, failed: 0, conflicts: 0, last_sync: null, last_error: null, auth: 'ok',
  storage: { state: 'ok', persisted: null, quarantined: 0, message: null }, cold: false, next_attempt_at: null, needs_foreground: false,
};

/** The engine's side of the boundary: notes what is called and answers what a test tells it. */
export class FakeReplica {
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
    return this.hooks.event(JSON.stringify(event));
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
  outcomes = new Map();
  outcome(entry) {
    return this.outcomes.has(entry) ? JSON.stringify(this.outcomes.get(entry)) : undefined;
  }
  async outbox_retry(...args) {
    this.note('retry', ...args);
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

export const rows = (...list) => JSON.stringify({ rows: list.map(([id]) => ({ id })), meta: list.map(([, state]) => [state, 1, 'user:ada']) });
export const rejectsWith = (promise, code) => assert.rejects(promise, (error) => error.name === 'SyncError' && error.code === code);

export let replicas;
export let windowEvents;
export const last = () => replicas.at(-1);

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

export function setNavigator(value) {
  Object.defineProperty(globalThis, 'navigator', { value, configurable: true });
}

export async function opened(more = {}) {
  const landfall = await load('js/index.ts');
  return { ...landfall, db: await landfall.open({ ...options, ...more }) };
}
