// Scenario f: the session ends in the middle of things. Sync pauses or goes on by itself; nothing is lost, reordered or sent as somebody else.

import { outbox, password, put, putAll, reload, status, syncNow, update, view } from './support/device.mjs';
import { eventually, expect, expectOnceAndInOrder, test } from './support/test.mjs';

const refresh = '/auth/refresh';
const push = '/v1/sync/push';
const ttlSeconds = 2;
const notes = Array.from({ length: 100 }, (_, i) => ({ id: `n${String(i).padStart(3, '0')}`, title: `Note ${i}` }));

/** Another database in place of the page's, that sends in batches so small that a flush takes long. */
const inSmallBatches = (page, user) => page.evaluate((user) => lab.openAs(user, { name: 'small', collections: { notes: { batch: 5 } } }).then(() => undefined), user);

const arrived = async (server) => (await server.records('user:ada', 'notes')).length;

async function expectAllOnce(server, count) {
  const audit = await expectOnceAndInOrder(server, 'ada');
  expect(audit).toHaveLength(count);
  expect(audit.filter((row) => row.status !== 'applied')).toEqual([]);
}

test.describe('short-lived tokens', () => {
  test.use({ serverArgs: ['--access-ttl-seconds', `${ttlSeconds}`, '--leeway-seconds', '0'] });

  test('f: s7: a token that expires in the middle of a flush is renewed and the flush goes on, with a page open', async ({ server, network, newDevice }) => {
    const device = await newDevice(network.origin);
    const page = await device.lab('ada');
    await inSmallBatches(page, 'ada');
    await eventually(async () => (await status(page)).lastSync).not.toBeNull();
    network.latencyMs = { [push]: 200 };
    const before = network.count(refresh);
    const began = Date.now();
    await putAll(page, 'notes', notes);
    await eventually(() => arrived(server)).toBe(notes.length);
    const lives = Math.ceil((Date.now() - began) / (ttlSeconds * 1000)) + 1;
    expect(network.count(refresh) - before).toBeGreaterThan(0);
    expect(network.count(refresh) - before).toBeLessThanOrEqual(lives);
    await eventually(() => status(page)).toMatchObject({ pending: 0, auth: 'ok' });
    await expectAllOnce(server, notes.length);
  });

  test('f: s7: a token that has expired is renewed by the worker alone, before and in the middle of its flush', async ({ server, network, newDevice }) => {
    const device = await newDevice(network.origin);
    const page = await device.lab('ada');
    await inSmallBatches(page, 'ada');
    await eventually(async () => (await status(page)).lastSync).not.toBeNull();
    await device.offline();
    await putAll(page, 'notes', notes);
    const expired = Date.now() + ttlSeconds * 1000;
    await device.blank();
    await eventually(() => Date.now() > expired).toBe(true);
    network.latencyMs = { [push]: 200 };
    const before = network.count(refresh);
    const began = Date.now();
    await device.offline(false);
    await eventually(() => arrived(server)).toBe(notes.length);
    const lives = Math.ceil((Date.now() - began) / (ttlSeconds * 1000)) + 1;
    expect(network.count(refresh) - before).toBeGreaterThan(1);
    expect(network.count(refresh) - before).toBeLessThanOrEqual(lives);
    await expectAllOnce(server, notes.length);
  });

  for (const open of [true, false]) {
    test(`f: l1 s4: when the session cannot be renewed sync pauses and says so, nothing is lost or reordered, and a login resumes, with ${open ? 'a page' : 'no page'} open`, async ({ server, newDevice }) => {
      const device = await newDevice(server.origin);
      const page = await device.lab('ada');
      await device.offline();
      await put(page, 'notes', { id: 'n', title: 'one' });
      await put(page, 'notes', { id: 'other', title: 'other' });
      await update(page, 'notes', 'n', { title: 'two' });
      const expired = Date.now() + ttlSeconds * 1000;
      await device.context.clearCookies();
      if (!open) await device.blank();
      await eventually(() => Date.now() > expired).toBe(true);
      await device.offline(false);

      const again = open ? page : await device.lab('ada', { login: false });
      await eventually(() => status(again)).toMatchObject({ auth: 'auth_required', phase: 'paused', pending: 3, parked: 0 });
      await update(again, 'notes', 'n', { title: 'three' });
      await reload(again);
      await eventually(() => status(again)).toMatchObject({ auth: 'auth_required', pending: 4 });
      expect((await syncNow(again)).error).toBe('auth_required');
      expect((await outbox(again)).map(({ record, fields }) => `${record} ${fields.title}`)).toEqual(['n one', 'other other', 'n two', 'n three']);
      // `sending`: it was on its way when the session ended.
      expect((await view(again, 'notes')).n).toMatchObject({ title: 'three', state: expect.stringMatching(/^(pending|sending)$/) });
      expect(await server.records('user:ada')).toEqual([]);

      await again.evaluate((password) => lab.login('ada', password), password);
      await eventually(() => status(again)).toMatchObject({ pending: 0, auth: 'ok' });
      expect(Object.fromEntries((await server.records('user:ada')).map(({ id, fields }) => [id, fields.title]))).toEqual({ n: 'three', other: 'other' });
      await expectOnceAndInOrder(server, 'ada');
    });
  }

  test('f: i2: a second user on the same profile neither sees nor sends what the first one has not sent', async ({ server, network, newDevice }) => {
    const device = await newDevice(network.origin);
    const ada = await device.lab('ada');
    await device.offline();
    await put(ada, 'notes', { id: 'secret', title: 'Ada’s' });
    const expired = Date.now() + ttlSeconds * 1000;
    await device.blank();
    await eventually(() => Date.now() > expired).toBe(true);
    // Ada's session on this device is gone before the network is back; the next login is Grace's.
    await device.context.clearCookies();
    await device.offline(false);

    const grace = await device.lab('grace');
    expect(await view(grace, 'notes')).toEqual({});
    expect(await outbox(grace)).toEqual([]);
    expect(await status(grace)).toMatchObject({ pending: 0, parked: 0 });
    await put(grace, 'notes', { id: 'own', title: 'Grace’s' });
    await eventually(async () => (await server.records('user:grace')).map(({ id }) => id)).toEqual(['own']);
    await syncNow(grace);
    // The worker is asked for Ada's database too: Grace's session must not carry it.
    const asked = network.count(refresh);
    await grace.evaluate(() => navigator.serviceWorker.controller.postMessage({ type: 'landfall-flush', database: 'landfall:lab:ada' }));
    await eventually(() => network.count(refresh)).toBeGreaterThan(asked);
    const adaAgain = await device.lab('ada', { login: false });
    await eventually(() => status(adaAgain)).toMatchObject({ auth: 'auth_required', pending: 1 });
    expect(Object.keys(await view(adaAgain, 'notes'))).toEqual(['secret']);
    expect(await server.records('user:ada')).toEqual([]);
    expect((await server.ledger('grace')).audit.map(({ id }) => id)).toEqual(['own']);

    await adaAgain.evaluate((password) => lab.login('ada', password), password);
    await eventually(async () => (await server.records('user:ada')).map(({ id }) => id)).toEqual(['secret']);
    expect((await server.records('user:grace')).map(({ id }) => id)).toEqual(['own']);
    expect(Object.keys(await view(grace, 'notes'))).toEqual(['own']);
    await expectAllOnce(server, 1);
  });
});

test('f: s7: a token that the server stops taking is renewed exactly once and the flush goes on', async ({ server, network, newDevice }) => {
  const device = await newDevice(network.origin);
  const page = await device.lab('ada');
  await inSmallBatches(page, 'ada');
  await eventually(async () => (await status(page)).lastSync).not.toBeNull();
  // Two tabs and the worker find out at about the same time.
  const second = await device.lab('ada', { login: false });
  await inSmallBatches(second, 'ada');
  network.latencyMs = { [push]: 100 };
  const writing = putAll(page, 'notes', notes);
  await eventually(() => arrived(server)).toBeGreaterThan(20);
  const before = network.count(refresh);
  await server.newSecret();
  await writing;
  await eventually(() => arrived(server)).toBe(notes.length);
  await Promise.all([syncNow(page), syncNow(second)]);
  expect(network.count(refresh) - before).toBe(1);
  await eventually(() => status(page)).toMatchObject({ pending: 0, auth: 'ok' });
  await expectAllOnce(server, notes.length);
});
