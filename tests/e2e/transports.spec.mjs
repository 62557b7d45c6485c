// A backend of one's own in the place of requests. Here it relays to the real server, and has accidents.

import { outbox, status, view } from './support/device.mjs';
import { eventually, expect, expectOnceAndInOrder, test } from './support/test.mjs';

/** A tab with a transport. `window.accident` may be set to a function of path and body that is called, and awaited, first. */
async function carried(device, options = {}) {
  const page = await device.lab('ada');
  await page.evaluate(async (options) => {
    window.calls = [];
    const relay = (path) => async (body, { token }) => {
      calls.push(path);
      const nonsense = await window.accident?.(path, body);
      if (nonsense !== undefined) return nonsense;
      const response = await fetch(`/v1/sync${path}`, { method: 'POST', headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' }, body: JSON.stringify(body) });
      const answer = await response.json();
      if (!response.ok) throw { status: response.status, ...answer.error };
      return answer;
    };
    await lab.openAs('ada', { name: 'carried', url: undefined, transport: { push: relay('/push'), pull: relay('/pull') }, ...options });
    await lab.login('ada', 'landfall');
  }, options);
  return page;
}

const write = (page, id) => page.evaluate((id) => lab.db.collection('notes').put({ id, title: id }), id);
const ids = async (server) => (await server.records('user:ada', 'notes')).map(({ id }) => id).sort();
const atRest = { pending: 0, parked: 0, failed: 0 };
/** A person who presses Sync Now until it is done. */
const insist = (page) => page.evaluate(() => lab.db.sync.now());

test('transport: what it carries is written and read like anything else, and no request of the engine goes to the server', async ({ server, network, newDevice }) => {
  const device = await newDevice(network.origin);
  const page = await carried(device);
  await write(page, 'a');
  await eventually(async () => (await view(page, 'notes')).a.state).toBe('synced');
  expect(await ids(server)).toEqual(['a']);
  expect(await page.evaluate(() => [...new Set(calls)].sort())).toEqual(['/pull', '/push']);
  expect(network.requests.filter((path) => /^\/(push|pull|status|live)/.test(path))).toEqual([]);
});

test('transport: s1: one that throws is an outage: the same bytes go again and nothing is counted', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await carried(device, { retry: { attempts: 2 } });
  await page.evaluate(() => {
    window.bodies = new Set();
    let left = 5;
    window.accident = (path, body) => {
      if (path !== '/push') return undefined;
      bodies.add(JSON.stringify(body.mutations));
      if (left-- > 0) throw new Error('the line is dead');
      return undefined;
    };
  });
  await write(page, 'a');
  await eventually(async () => {
    await insist(page);
    return ids(server);
  }).toEqual(['a']);
  await eventually(() => status(page)).toMatchObject(atRest);
  expect(await page.evaluate(() => bodies.size)).toBe(1);
  await expectOnceAndInOrder(server, 'ada');
});

test('transport: one that hangs is given up after forty seconds, and the queue goes on', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  await device.context.clock.install();
  const page = await carried(device);
  await page.evaluate(() => {
    let hangs = true;
    window.accident = (path) => {
      if (path !== '/push' || !hangs) return undefined;
      hangs = false;
      return new Promise(() => {});
    };
  });
  await write(page, 'a');
  await eventually(async () => {
    await page.clock.runFor('00:01');
    return (await status(page)).phase;
  }).toBe('pushing');
  await page.clock.runFor('00:41');
  await eventually(async () => {
    await page.clock.runFor('00:02');
    return ids(server);
  }).toEqual(['a']);
  const history = await page.evaluate(() => lab.db.sync.history());
  const given = history.find(({ step, result }) => step === 'push' && result === 'lost');
  expect(given).toMatchObject({ applied: 0, code: null });
  expect(given.ms).toBeGreaterThanOrEqual(40_000);
  await expectOnceAndInOrder(server, 'ada');
});

test('transport: one that answers nonsense for one change parks that change as failed; others flow, and a retry mends it', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await carried(device, { retry: { attempts: 2 } });
  await page.evaluate(() => {
    window.broken = true;
    window.failures = [];
    lab.db.sync.on('failed', ({ record }) => failures.push(record));
    // Of a void it does answer.
    window.accident = (path, body) => (broken && path === '/push' && body.mutations.some(({ id }) => id === 'poison') ? { what: 'is this' } : undefined);
  });
  await page.evaluate(() => Promise.all(['a', 'poison', 'b', 'c'].map((id) => lab.db.collection('notes').put({ id, title: id }))));
  await eventually(async () => {
    await insist(page);
    return status(page);
  }, 60_000).toMatchObject({ pending: 0, parked: 1, failed: 1 });
  expect(await ids(server)).toEqual(['a', 'b', 'c']);
  expect(await page.evaluate(() => failures)).toEqual(['poison']);
  expect((await outbox(page)).map(({ record, state }) => [record, state])).toEqual([['poison', 'failed']]);
  await page.evaluate(() => (window.broken = false));
  expect(await page.evaluate(() => lab.db.outbox.retryAll())).toBe(1);
  await eventually(() => ids(server)).toEqual(['a', 'b', 'c', 'poison']);
  await eventually(() => status(page)).toMatchObject(atRest);
});
