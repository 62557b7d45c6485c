// A backend of the app's own, as the engine sees it: an answer, no answer, or an answer that makes no sense.

import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { last, opened } from './support/client.mjs';
import { load } from './support/load.mjs';

const { carrier } = await load('js/transport.ts');
const functions = (more) => carrier({ push: async () => ({}), pull: async () => ({}), ...more });

test('push and pull get the body as an object, with the token, and their answer goes to the engine as text', async () => {
  const asked = [];
  const transport = {
    push: async (...given) => (asked.push(['push', ...given]), { results: [] }),
    pull: async (...given) => (asked.push(['pull', ...given]), { cursor: 'c' }),
  };
  const { db } = await opened({ url: undefined, transport });
  assert.equal(last().options.url, '');
  const { transport: carry } = last().hooks;
  assert.deepEqual(await carry('/push', '{"mutations":[1]}', 'token'), { status: 200, body: '{"results":[]}' });
  assert.deepEqual(await carry('/pull', '{"cursor":null}', undefined), { status: 200, body: '{"cursor":"c"}' });
  assert.deepEqual(asked, [['push', { mutations: [1] }, { token: 'token' }], ['pull', { cursor: null }, { token: undefined }]]);
  assert.deepEqual(await carry('/status', undefined, 'token'), { status: 200, body: '{}' }, 'well, where it does not say');
  await db.close();
  await opened();
  assert.equal(last().hooks.transport, undefined);
});

test('what it throws is no answer, at once or later; an error with a status is an answer', async () => {
  for (const push of [() => { throw new Error('at once'); }, async () => Promise.reject(new TypeError('later')), async () => Promise.reject(undefined), async () => Promise.reject({ status: 200 })]) {
    await assert.rejects(async () => functions({ push })('/push', '{}'));
  }
  await assert.rejects(async () => functions({ status: async () => { throw new Error('down'); } })('/status'));
  const busy = functions({ push: async () => { throw Object.assign(new Error('too many'), { status: 429, code: 'rate_limited', retryAfterMs: 2000 }); } });
  assert.deepEqual(await busy('/push', '{}'), { status: 429, retry_after_ms: 2000, body: '{"error":{"code":"rate_limited","message":"too many","request_id":""}}' });
});

test('one that hangs has no answer after forty seconds', async () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    let ended = false;
    const hanging = functions({ pull: () => new Promise(() => {}) })('/pull', '{}').catch(() => (ended = true));
    mock.timers.tick(39_999);
    await null;
    assert.equal(ended, false);
    mock.timers.tick(1);
    await hanging;
    assert.equal(ended, true);
  } finally {
    mock.timers.reset();
  }
});

test('what is no JSON is an answer that makes no sense, not a missing one', async () => {
  const cycle = {};
  cycle.self = cycle;
  for (const nonsense of [undefined, () => 1, 10n, cycle]) assert.deepEqual(await functions({ push: async () => nonsense })('/push', '{}'), { status: 200, body: '' });
});
