// What became of pushes and pulls: history, metrics, and the file for support. The rows on disk are tested in a browser.

import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { calm, last, opened } from './support/client.mjs';

const step = (result, more) => ({ type: 'step', step: 'push', result, ms: 10, applied: 0, rejected: 0, conflicts: 0, pulled: 0, code: null, ...more });

test('each step of sync is a row, newest first, and at most a thousand are kept', async () => {
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 5 });
  try {
    const { db } = await opened();
    last().say(step('done', { applied: 2 }));
    last().say({ type: 'applied', entries: [1, 2] });
    last().say(step('lost', { step: 'pull', code: 'offline' }));
    assert.deepEqual(await db.sync.history(), [
      { at: 5, step: 'pull', result: 'lost', ms: 10, applied: 0, rejected: 0, conflicts: 0, pulled: 0, code: 'offline' },
      { at: 5, step: 'push', result: 'done', ms: 10, applied: 2, rejected: 0, conflicts: 0, pulled: 0, code: null },
    ]);
    assert.deepEqual((await db.sync.history({ limit: 1 })).map(({ result }) => result), ['lost']);
    for (let n = 0; n < 1200; n++) last().say(step('busy', { ms: n }));
    const steps = await db.sync.history();
    assert.deepEqual([steps.length, steps[0].ms, steps.at(-1).ms], [1000, 1199, 200]);
  } finally {
    mock.timers.reset();
  }
});

test('metrics are what the steps say together, with how things are now', async () => {
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 100 });
  try {
    const { db } = await opened();
    assert.deepEqual(await db.sync.metrics(), { steps: 0, successRate: 0, failureRate: 0, averageMs: 0, conflictRate: 0, pending: 0, parked: 0, lastSuccess: null, connectivity: 'online' });
    last().say(step('done', { ms: 30, applied: 6, rejected: 1, conflicts: 1 }));
    last().say(step('done', { ms: 50 }));
    mock.timers.tick(100);
    last().say(step('faulty', { ms: 999 }));
    last().say(step('lost'));
    last().say({ type: 'status', status: { ...calm, pending: 4, parked: 2, connectivity: 'limited' } });
    assert.deepEqual(await db.sync.metrics(), {
      steps: 4, successRate: 0.5, failureRate: 0.5, averageMs: 40, conflictRate: 0.125, pending: 4, parked: 2, lastSuccess: 100, connectivity: 'limited',
    });
  } finally {
    mock.timers.reset();
  }
});

test('the file for support says how everything is and holds no value of a record', async () => {
  const { db } = await opened();
  const secret = 'the secret';
  const entry = { id: 7, collection: 'notes', scope: 's', record: 'a', op: 'update', state: 'parked', fields: { text: secret }, created_at: 5, attempts: 2, reason: { code: 'invalid', message: secret, fields: { text: secret } }, base: { text: secret }, local: { text: secret }, server: { text: secret } };
  last().outbox = async () => JSON.stringify([entry]);
  last().conflicts = async () => JSON.stringify([{ id: 8, collection: 'notes', scope: 's', record: 'a', at: 1, status: 'superseded', op: 'update', local: { text: secret }, server: { text: secret }, seq: 1 }]);
  last().say(step('faulty', { code: 'http_500' }));
  const bundle = await db.supportBundle();
  assert.equal(bundle.type, 'application/json');
  const text = await bundle.text();
  assert.ok(!text.includes(secret));
  const told = JSON.parse(text);
  assert.match(told.landfall, /^\d+\.\d+\.\d+$/);
  assert.deepEqual(told.outbox, [{ id: 7, collection: 'notes', scope: 's', record: 'a', op: 'update', state: 'parked', createdAt: 5, attempts: 2, fields: ['text'], reason: { code: 'invalid', fields: ['text'] } }]);
  assert.deepEqual(told.conflicts[0].fields, ['text']);
  assert.deepEqual([told.status.phase, told.inspection.clientId, told.metrics.steps, told.history[0].code], ['idle', 'c1', 1, 'http_500']);
});
