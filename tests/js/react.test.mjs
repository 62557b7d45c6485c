// The hooks' stores over a database that the test plays, and the hooks on a server's first render, which needs no browser.

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { createElement } from 'react';
import { renderToString } from 'react-dom/server';
import { bundle } from '../../js/build.mjs';
import { load, settled } from './support/load.mjs';

/** A database that says what a test tells it to. */
class FakeDb {
  listeners = new Map();
  watched = 0;
  lists = 0;
  written = 0;
  lost = [];
  sync = {
    status: { pending: 0 },
    on: (name, listener) => {
      const own = [name, listener];
      this.listeners.set(own, listener);
      return () => this.listeners.delete(own);
    },
  };
  conflicts = { list: async () => (this.lists++, this.lost) };
  say(name, value) {
    for (const [[heard], listener] of [...this.listeners]) if (heard === name) listener(value);
  }
  collection() {
    return {
      query: (options) => ({
        subscribe: (answer, fail) => {
          this.watched++;
          Object.assign(this, { options, answer, fail });
          return () => this.watched--;
        },
      }),
      put: async () => ({ status: 'stored', id: 'a', scope: 's', entry: this.written++ }),
    };
  }
}

test('a query is followed from the first listener to the last, and its snapshot is the same until something changes', async () => {
  const { queryStore } = await load('js/react/stores.ts');
  const db = new FakeDb();
  const store = queryStore(db, 'notes', { limit: 1 });
  assert.deepEqual(store.getSnapshot(), { rows: [], loading: true, error: null });
  assert.equal(db.watched, 0);
  let told = 0;
  const stops = [store.subscribe(() => told++), store.subscribe(() => told++)];
  assert.equal(db.watched, 1);
  const rows = [{ id: 'a' }];
  db.answer(rows);
  assert.equal(told, 2);
  assert.equal(store.getSnapshot().rows, rows);
  assert.equal(store.getSnapshot(), store.getSnapshot());
  db.fail(new Error('no'));
  assert.deepEqual([store.getSnapshot().rows, store.getSnapshot().error.message], [rows, 'no']);
  for (const stop of [...stops, ...stops]) stop();
  assert.equal(db.watched, 0);
  store.subscribe(() => {});
  assert.equal(db.watched, 1);
});

test('conflicts are read again after each event, never two reads at a time', async () => {
  const { conflictStore } = await load('js/react/stores.ts');
  const db = new FakeDb();
  const store = conflictStore(db);
  const stop = store.subscribe(() => {});
  for (let i = 0; i < 5; i++) db.say('status', {});
  await settled();
  assert.equal(db.lists, 2);
  assert.deepEqual(store.getSnapshot(), { conflicts: [], loading: false });
  db.lost = [{ id: 1 }];
  db.say('conflict', {});
  await settled();
  assert.deepEqual(store.getSnapshot().conflicts, [{ id: 1 }]);
  stop();
  assert.equal(db.listeners.size, 0);
});

test('a refusal of one’s own write is told, also when it comes before the write’s promise, and another’s is not', async () => {
  const { mutationStore } = await load('js/react/stores.ts');
  const db = new FakeDb();
  const store = mutationStore(db);
  store.subscribe(() => {});
  await store.track(async () => ({ entry: 1 }));
  db.say('rejected', { id: 99 });
  assert.equal(store.getSnapshot().rejected, null);
  db.say('rejected', { id: 1 });
  assert.equal(store.getSnapshot().rejected.id, 1);
  store.reset();
  const write = store.track(async () => {
    db.say('rejected', { id: 2 });
    return { entry: 2 };
  });
  assert.equal(store.getSnapshot().storing, 1);
  await write;
  assert.deepEqual([store.getSnapshot().storing, store.getSnapshot().rejected.id], [0, 2]);
});

test('a write that could not be stored rejects and is kept as the error until one is stored', async () => {
  const { mutationStore } = await load('js/react/stores.ts');
  const store = mutationStore(new FakeDb());
  await assert.rejects(store.track(() => Promise.reject(new Error('quota'))), /quota/);
  assert.deepEqual([store.getSnapshot().storing, store.getSnapshot().error.message], [0, 'quota']);
  await store.track(async () => ({ entry: null }));
  assert.equal(store.getSnapshot().error, null);
});

// Below the project's own directory, where node finds React.
const target = fileURLToPath(new URL('../../target/', import.meta.url));
mkdirSync(target, { recursive: true });
const directory = mkdtempSync(join(target, 'react-test-'));
after(() => rmSync(directory, { recursive: true, force: true }));

test('the hooks render at once with what is known, and say so when there is no provider', async () => {
  const path = join(directory, 'react.mjs');
  writeFileSync(path, await bundle('js/react/index.ts', { minify: false }));
  const { LandfallProvider, useConflicts, useMutation, useQuery, useRecord, useSyncStatus } = await import(pathToFileURL(path).href);
  function Page() {
    const seen = [useQuery('notes', { limit: 2 }).loading, useRecord('notes', 'a').record, useMutation('notes').storing, useSyncStatus().pending, useConflicts().conflicts.length];
    return createElement('p', null, JSON.stringify(seen));
  }
  const html = renderToString(createElement(LandfallProvider, { db: new FakeDb() }, createElement(Page)));
  assert.equal(html, '<p>[true,null,false,0,0]</p>');
  assert.throws(() => renderToString(createElement(Page)), /LandfallProvider/);
});
