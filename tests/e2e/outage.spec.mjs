// The network or the server is away for long, or asks for patience: everything arrives without a click.

import { put, putAll, status, view } from './support/device.mjs';
import { eventually, expect, expectOnceAndInOrder, test } from './support/test.mjs';

const push = '/v1/sync/push';

test('outage: s7: a server that answers 503 with Retry-After is left alone that long, then everything arrives without a click', async ({ server, network, newDevice }) => {
  const device = await newDevice(network.origin);
  const page = await device.lab('ada');
  await eventually(async () => (await status(page)).lastSync).not.toBeNull();
  const times = [];
  let looked;
  const lookedAt = new Promise((done) => (looked = done));
  network.accident = async (path) => {
    // The third is the one that would be taken.
    if (path === push && times.push(Date.now()) === 3) await lookedAt;
    return 'pass';
  };
  await server.failPushes({ status: 503, count: 2, retryAfterSeconds: 1 });
  await put(page, 'notes', { id: 'n', title: 'Patient' });
  await eventually(() => times.length).toBeGreaterThan(0);
  expect(await status(page)).toMatchObject({ pending: 1, parked: 0, failed: 0 });
  looked();
  await eventually(async () => (await server.records('user:ada')).map(({ id }) => id)).toEqual(['n']);
  expect(times).toHaveLength(3);
  expect(times[1] - times[0]).toBeGreaterThanOrEqual(990);
  expect(times[2] - times[1]).toBeGreaterThanOrEqual(990);
  await eventually(() => status(page)).toMatchObject({ pending: 0, parked: 0, failed: 0, lastError: null, nextAttemptAt: null });
  await expectOnceAndInOrder(server, 'ada');
});

test('outage: s7: server errors on many pushes fail nothing, and others’ writes keep arriving here', async ({ server, newDevice }) => {
  const [device, other] = await Promise.all([newDevice(server.origin), newDevice(server.origin)]);
  const [page, writer] = await Promise.all([device.lab('ada'), other.lab('ada')]);
  await put(writer, 'notes', { id: 'from-there', title: 'x' });
  await eventually(async () => (await view(page, 'notes'))['from-there']?.state).toBe('synced');
  await server.failPushes({ status: 500, count: 3 });
  await putAll(page, 'notes', Array.from({ length: 20 }, (_, i) => ({ id: `n${i}`, title: 'x' })));
  await eventually(async () => (await server.records('user:ada')).length).toBe(21);
  await eventually(() => status(page)).toMatchObject({ pending: 0, parked: 0, failed: 0 });
  await expectOnceAndInOrder(server, 'ada');
});

test('outage: i: l1 r1: the server is down for ten minutes of the page’s time and everything arrives without a click', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  await device.context.clock.install();
  const page = await device.lab('ada');
  await put(page, 'notes', { id: 'before', title: 'x' });
  await eventually(async () => (await server.records('user:ada')).length).toBe(1);
  await server.kill();
  for (let minute = 0; minute < 10; minute++) {
    await put(page, 'notes', { id: `minute${minute}`, title: 'x' });
    await page.clock.runFor('01:00');
    expect(await status(page)).toMatchObject({ parked: 0, failed: 0 });
  }
  expect((await status(page)).pending).toBe(10);
  await server.start();
  await eventually(async () => {
    await page.clock.runFor('00:05');
    return (await server.records('user:ada')).length;
  }).toBe(11);
  await eventually(() => status(page)).toMatchObject({ pending: 0, parked: 0, failed: 0, auth: 'ok' });
  await expectOnceAndInOrder(server, 'ada');
});

test('outage: r1 r4: a page whose network was cut without a word hears of others’ writes again by itself', async ({ server, network, newDevice }) => {
  const [device, other] = await Promise.all([newDevice(network.origin), newDevice(server.origin)]);
  const [page, writer] = await Promise.all([device.lab('ada'), other.lab('ada')]);
  await put(writer, 'notes', { id: 'one', title: 'x' });
  await eventually(async () => (await view(page, 'notes')).one?.state).toBe('synced');
  network.cut();
  await put(writer, 'notes', { id: 'two', title: 'x' });
  await put(page, 'notes', { id: 'here', title: 'x' });
  await eventually(async () => (await status(page)).connectivity).not.toBe('online');
  network.mend();
  await eventually(async () => Object.keys(await view(page, 'notes')).sort()).toEqual(['here', 'one', 'two']);
  await put(writer, 'notes', { id: 'three', title: 'x' });
  await eventually(async () => (await view(page, 'notes')).three?.state).toBe('synced');
  await eventually(async () => Object.keys(await view(writer, 'notes')).sort()).toEqual(['here', 'one', 'three', 'two']);
});
