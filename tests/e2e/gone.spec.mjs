// A database that goes away, is held by another, or was never there.

import { password, put, putAll, status, view } from './support/device.mjs';
import { eventually, expect, expectOnceAndInOrder, test } from './support/test.mjs';

const ids = async (page) => Object.keys(await view(page, 'notes')).sort();
const stored = async (server) => (await server.records('user:ada', 'notes')).map(({ id, version }) => [id, version]).sort();
const atRest = async (page) => {
  const { pending, parked, storage } = await status(page);
  return { pending, parked, storage: storage.state };
};
const resting = { pending: 0, parked: 0, storage: 'ok' };
/** A page of the device with two records, at rest. */
async function filled(device) {
  const page = await device.lab('ada');
  await putAll(page, 'notes', ['a', 'b'].map((id) => ({ id, title: id })));
  await eventually(() => atRest(page)).toEqual(resting);
  return page;
}
/** `stored`, or the code of the error. */
const write = (page, id) => page.evaluate((id) => lab.db.collection('notes').put({ id, title: id }).then(() => 'stored', (error) => error.code), id);

test('gone: l3 s1: site data that is cleared while the app is open refuses writes and says so; after a reload all that the server has comes back', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await filled(device);
  const session = await device.context.newCDPSession(page);
  await session.send('Storage.clearDataForOrigin', { origin: server.origin, storageTypes: 'indexeddb' });
  // Not into an empty database that took its place.
  expect(await write(page, 'refused')).toBe('closed');
  expect((await status(page)).storage).toMatchObject({ state: 'closed', message: expect.stringMatching(/./) });
  expect(await page.evaluate(async () => (await indexedDB.databases()).map(({ name }) => name).filter((name) => name.startsWith('landfall:')))).toEqual([]);

  await page.reload();
  await page.evaluate(() => lab.ready);
  await page.evaluate((password) => lab.login('ada', password), password);
  await eventually(() => ids(page)).toEqual(['a', 'b']);
  expect(await write(page, 'after')).toBe('stored');
  await eventually(() => atRest(page)).toEqual(resting);
  expect(await stored(server)).toEqual([['a', 1], ['after', 1], ['b', 1]]);
  await expectOnceAndInOrder(server, 'ada');
});

test('gone: s1 r1: a device whose databases were evicted starts as a new client, pulls everything, and what it writes arrives once', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await filled(device);
  await device.close();
  await device.evict();
  await device.start();
  const again = await device.lab('ada');
  await eventually(() => ids(again)).toEqual(['a', 'b']);
  expect((await status(again)).storage.lost).toMatchObject({ count: 0 });
  expect(await write(again, 'after')).toBe('stored');
  await again.evaluate(() => lab.db.collection('notes').update('a', { title: 'Changed' }));
  await eventually(() => atRest(again)).toEqual(resting);
  expect(await stored(server)).toEqual([['a', 2], ['after', 1], ['b', 1]]);
  expect((await server.ledger('ada')).clients).toHaveLength(2);
  await expectOnceAndInOrder(server, 'ada');
});

test('gone: l3: a database that the browser throws away as damaged is told, with what had not been sent, until somebody has seen it', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await filled(device);
  await device.offline();
  await putAll(page, 'notes', ['c', 'd', 'e'].map((id) => ({ id, title: id })));
  await eventually(() => page.evaluate(() => JSON.parse(localStorage.getItem('landfall:lab:ada:note')).waits)).toBe(3);
  await device.close();
  await device.damage();

  await device.start();
  const again = await device.lab('ada');
  await eventually(() => ids(again)).toEqual(['a', 'b']);
  const { lost } = (await status(again)).storage;
  expect(lost).toMatchObject({ count: 3 });
  expect(await again.textContent('#log')).toContain('storage {"code":"lost","count":3}');
  await again.reload();
  await again.evaluate(() => lab.ready);
  expect((await status(again)).storage.lost).toEqual(lost);
  await again.evaluate(() => lab.db.sync.dismissLoss());
  expect((await status(again)).storage.lost).toBe(null);
  await again.reload();
  await again.evaluate(() => lab.ready);
  expect(await status(again)).toMatchObject({ pending: 0, storage: { state: 'ok', lost: null } });
  expect(await stored(server)).toEqual([['a', 1], ['b', 1]]);
});

test('gone: a logout that another tab blocks says so, and ends well once that tab has let go', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, { serviceWorkers: 'block' });
  const holder = await device.context.newPage();
  await holder.goto('/lab.html');
  const page = await device.context.newPage();
  await page.goto('/lab.html?user=ada&name=lab');
  await page.evaluate(() => lab.ready);
  await put(page, 'notes', { id: 'n', title: 'x' });
  // Like a tab of another program of this origin: it does not let go when it is asked to.
  await holder.evaluate(async () => {
    const request = indexedDB.open('landfall:lab:ada');
    await new Promise((resolve) => (request.onsuccess = resolve));
    window.held = request.result;
  });
  await page.evaluate(() => {
    window.answer = null;
    lab.db.logout({ unsynced: 'wipe' }).then(() => (answer = 'gone'), ({ code, retryable }) => (answer = { code, retryable }));
  });
  await eventually(() => page.evaluate(() => answer)).toEqual({ code: 'blocked', retryable: true });
  await holder.evaluate(() => held.close());
  // The browser has kept the order to delete, and opens an empty one after it.
  await page.reload();
  await page.evaluate(() => lab.ready);
  expect(await ids(page)).toEqual([]);
  expect(await status(page)).toMatchObject({ pending: 0, storage: { state: 'ok' } });
  expect(await write(page, 'after')).toBe('stored');
});

/** How browsers that keep nothing show it. Each runs before the page's scripts. */
const privateModes = {
  'no indexedDB': () => Object.defineProperty(globalThis, 'indexedDB', { value: undefined }),
  'open() throws': () => {
    IDBFactory.prototype.open = () => {
      throw new DOMException('The operation is insecure.', 'SecurityError');
    };
  },
  'open() fails': () => {
    IDBFactory.prototype.open = () => {
      const error = new DOMException('A mutation operation was attempted on a database that did not allow mutations.', 'InvalidStateError');
      const request = { error, transaction: null };
      setTimeout(() => request.onerror({ type: 'error', target: request }));
      return request;
    };
  },
};

test('gone: without IndexedDB opening is a clear error, and nothing else breaks', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  for (const [name, mode] of Object.entries(privateModes)) {
    const page = await device.context.newPage();
    await page.addInitScript(mode);
    await page.goto('/lab.html');
    const error = await page.evaluate(() => lab.openAs('ada').then(() => null, (error) => ({ sync: lab.isSyncError(error), code: error.code, retryable: error.retryable })));
    expect(error, name).toEqual({ sync: true, code: 'unavailable', retryable: false });
    await page.close();
  }
});

test('gone: l1: an open that fails once goes on by itself, one that keeps failing is an error that may be tried again', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, { serviceWorkers: 'block' });
  const page = await device.context.newPage();
  await page.addInitScript(() => {
    const open = IDBFactory.prototype.open;
    window.failures = 1;
    IDBFactory.prototype.open = function (...parameters) {
      if (window.failures-- <= 0) return open.apply(this, parameters);
      const request = { error: new DOMException('Internal error opening backing store for indexedDB.open.', 'UnknownError'), transaction: null };
      setTimeout(() => request.onerror({ type: 'error', target: request }));
      return request;
    };
  });
  await page.goto('/lab.html?user=ada&name=lab');
  expect(await page.evaluate(() => lab.ready.then(() => 'open', ({ code }) => code))).toBe('open');
  expect(await write(page, 'n')).toBe('stored');
  const again = () => page.evaluate(() => lab.openAs('ada').then(() => 'open', ({ code, retryable }) => ({ code, retryable })));
  await page.evaluate(() => (window.failures = 3));
  expect(await again()).toEqual({ code: 'storage_failed', retryable: true });
  expect(await again()).toBe('open');
  expect(await ids(page)).toEqual(['n']);
});
