// What makes a page sync, seen from outside, with no worker to help: each within seconds, where the timers take minutes.

import { outbox, password, put, reload, status, view } from './support/device.mjs';
import { eventually, expect, expectOnceAndInOrder, test } from './support/test.mjs';

const soon = 8_000;

/** A tab whose worker sends nothing for it, at rest. */
async function alone(device, { login = true } = {}) {
  const page = await device.lab('ada', { login: false });
  await page.evaluate(async ([login, password]) => {
    await lab.openAs('ada', { serviceWorker: false, name: 'alone' });
    if (login) await lab.login('ada', password);
  }, [login, password]);
  if (login) await eventually(async () => (await status(page)).lastSync).not.toBeNull();
  return page;
}

const ids = async (server) => (await server.records('user:ada', 'notes')).map(({ id }) => id).sort();

test('triggers: a login, and the network that is back, send what waits', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await alone(device, { login: false });
  await put(page, 'notes', { id: 'a', title: 'a' });
  await page.evaluate((password) => lab.login('ada', password), password);
  await eventually(() => ids(server), soon).toEqual(['a']);
  await device.offline();
  await put(page, 'notes', { id: 'b', title: 'b' });
  await eventually(async () => (await status(page)).connectivity).toBe('offline');
  await device.offline(false);
  await eventually(() => ids(server), soon).toEqual(['a', 'b']);
  await expectOnceAndInOrder(server, 'ada');
});

test('triggers: the start of the page sends what an earlier one left, and pulls what others wrote', async ({ server, network, newDevice }) => {
  const [device, other] = await Promise.all([newDevice(network.origin), newDevice(server.origin)]);
  const page = await alone(device);
  // The line, not the browser's switch: the worker that has just become active may still be at its first flush.
  network.cut();
  await put(page, 'notes', { id: 'mine', title: 'x' });
  await page.goto('about:blank');
  const writer = await alone(other);
  await put(writer, 'notes', { id: 'theirs', title: 'x' });
  await eventually(() => ids(server)).toEqual(['theirs']);
  network.mend();
  const again = await alone(device, { login: false });
  await eventually(() => ids(server), soon).toEqual(['mine', 'theirs']);
  await eventually(async () => Object.keys(await view(again, 'notes')).sort(), soon).toEqual(['mine', 'theirs']);
});

test('triggers: a poke brings what another device wrote, and after a line that was cut the gap is pulled', async ({ server, network, newDevice }) => {
  const [device, other] = await Promise.all([newDevice(network.origin), newDevice(server.origin)]);
  const [page, writer] = await Promise.all([alone(device), alone(other)]);
  await eventually(() => network.count('/v1/sync/live')).toBeGreaterThan(0);
  await put(writer, 'notes', { id: 'a', title: 'a' });
  await eventually(async () => Object.keys(await view(page, 'notes')), soon).toEqual(['a']);
  network.cut();
  await put(writer, 'notes', { id: 'b', title: 'b' });
  await eventually(() => ids(server)).toEqual(['a', 'b']);
  const before = network.count('/v1/sync/live');
  network.mend();
  // Nobody tells the page that the line is whole again: the channel opens anew by itself, and a pull follows.
  await eventually(async () => Object.keys(await view(page, 'notes')).sort(), 45_000).toEqual(['a', 'b']);
  await eventually(() => network.count('/v1/sync/live'), 45_000).toBeGreaterThan(before);
  await put(writer, 'notes', { id: 'c', title: 'c' });
  await eventually(async () => Object.keys(await view(page, 'notes')).sort(), soon).toEqual(['a', 'b', 'c']);
});

test('triggers: without a live channel the timer pulls, and writes of one moment are one push', async ({ server, network, newDevice }) => {
  const [device, other] = await Promise.all([newDevice(network.origin), newDevice(server.origin)]);
  await device.context.clock.install();
  const page = await device.lab('ada', { login: false });
  network.accident = (path) => (path === '/v1/sync/live' ? 'refuse' : 'pass');
  await page.evaluate(async (password) => {
    await lab.openAs('ada', { serviceWorker: false, name: 'alone' });
    await lab.login('ada', password);
  }, password);
  await eventually(async () => {
    await page.clock.runFor('00:01');
    return (await status(page)).lastSync;
  }).not.toBeNull();
  const pushed = network.count('/v1/sync/push');
  await page.evaluate(() => Promise.all(['a', 'b', 'c'].map((id) => lab.db.collection('notes').put({ id, title: id }))));
  await eventually(async () => {
    await page.clock.runFor(300);
    return ids(server);
  }).toEqual(['a', 'b', 'c']);
  expect(network.count('/v1/sync/push')).toBe(pushed + 1);
  const writer = await alone(other);
  await put(writer, 'notes', { id: 'd', title: 'd' });
  await eventually(() => ids(server)).toEqual(['a', 'b', 'c', 'd']);
  await eventually(async () => {
    await page.clock.runFor('00:30');
    return Object.keys(await view(page, 'notes')).sort();
  }).toEqual(['a', 'b', 'c', 'd']);
});

test('triggers: sync.now() tells its progress and what came of it; what a person mends goes at once', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await alone(device);
  await device.offline();
  await page.evaluate(() => Promise.all(['a', 'b', ''].map((title, n) => lab.db.collection('notes').put({ id: `n${n}`, title }))));
  await device.offline(false);
  const { result, steps } = await page.evaluate(async () => {
    const steps = [];
    const result = await lab.db.sync.now({ onProgress: (step) => steps.push(step) });
    return { result, steps };
  });
  expect(result.error).toBeNull();
  expect(steps.length).toBeGreaterThan(0);
  expect(steps.every(({ phase, done, total }) => ['push', 'pull'].includes(phase) && done <= total)).toBe(true);
  await eventually(async () => (await outbox(page)).map(({ state }) => state)).toEqual(['parked']);
  const [{ id }] = await outbox(page);
  await page.evaluate((id) => lab.db.outbox.edit(id, { title: 'mended' }), id);
  await eventually(() => ids(server), soon).toEqual(['n0', 'n1', 'n2']);
  await reload(page);
});

test('triggers: references: a child of higher priority goes behind its parent, and one whose parent is nowhere is refused at once', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await device.lab('ada');
  await page.evaluate(async (password) => {
    await lab.openAs('ada', { serviceWorker: false, name: 'families', collections: { movies: {}, notes: { priority: 5, references: { movie_id: 'movies' } } } });
    await lab.login('ada', password);
  }, password);
  await eventually(async () => (await status(page)).lastSync).not.toBeNull();
  await eventually(async () => (await status(page)).cold).toBe(false);
  const refused = await page.evaluate(() => lab.db.collection('notes').put({ id: 'orphan', title: 'x', movie_id: 'nowhere' }).then(() => null, ({ code, details }) => ({ code, fields: details.fields })));
  expect(refused).toEqual({ code: 'invalid_record', fields: { movie_id: 'names nothing in movies' } });
  await device.offline();
  await page.evaluate(async () => {
    await Promise.all(Array.from({ length: 5 }, (_, n) => lab.db.collection('movies').put({ id: `m${n}`, title: 'x' })));
    await lab.db.collection('notes').put({ id: 'child', title: 'x', movie_id: 'm4' });
  });
  await device.offline(false);
  await eventually(() => ids(server)).toEqual(['child']);
  const audit = await expectOnceAndInOrder(server, 'ada');
  const order = [...audit].sort((a, b) => a.seq - b.seq).map(({ id }) => id);
  expect(order.slice(0, 2)).toEqual(['m4', 'child']);
  expect(audit.filter(({ status }) => status === 'rejected')).toEqual([]);
});
