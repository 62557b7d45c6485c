// A device without room, in a browser that counts what is stored.

import { put, status, view } from './support/device.mjs';
import { eventually, expect, test } from './support/test.mjs';

const database = 'landfall:lab:ada';

/** Bytes of the filler row; 0: there is none. */
const fillerBytes = (page) => page.evaluate(async (database) => {
  const result = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  const db = await result(indexedDB.open(database));
  const row = await result(db.transaction('idx').objectStore('idx').get('filler'));
  db.close();
  return row?.length ?? 0;
}, database);

/** Stores what cannot be compressed in a database of its own, until not even 500 bytes more have room. */
const fillUp = (page) => page.evaluate(async () => {
  const random = (bytes) => Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) => String.fromCharCode(33 + (byte % 90))).join('');
  const request = indexedDB.open('ballast');
  request.onupgradeneeded = () => request.result.createObjectStore('rows', { autoIncrement: true });
  await new Promise((resolve) => (request.onsuccess = resolve));
  const add = (bytes) => new Promise((resolve) => {
    const transaction = request.result.transaction('rows', 'readwrite', { durability: 'relaxed' });
    transaction.oncomplete = () => resolve(true);
    transaction.onabort = () => resolve(false);
    transaction.objectStore('rows').add(random(bytes));
  });
  for (const bytes of [50_000, 5_000, 500]) while (await add(bytes));
  request.result.close();
});

test('quota: l4 s1: on a full disk what waits is still sent and settled, in the room that was held back; then the room is held back again', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const plain = await device.context.newPage();
  await plain.goto('/');
  // What the worker keeps for offline use counts too, and a browser that has looked at its room before believes that for a while.
  await plain.evaluate(async () => void (await navigator.serviceWorker.ready));
  const session = await device.context.newCDPSession(plain);
  await session.send('Storage.overrideQuotaForOrigin', { origin: server.origin, quotaSize: 3_000_000 });
  const page = await device.lab('ada');
  await put(page, 'notes', { id: 'first', title: 'x' });
  await eventually(() => fillerBytes(plain)).toBeGreaterThan(256 * 1024);
  await device.offline();
  for (const id of ['a', 'b', 'c']) await put(page, 'notes', { id, title: 'Waits' });
  await fillUp(plain);
  const write = (id) => page.evaluate((id) => lab.db.collection('notes').put({ id, title: 'x'.repeat(2_000) }).then(() => 'stored', (error) => error.code), id);
  expect(await write('refused')).toBe('quota_exceeded');
  expect((await status(page)).storage.state).toBe('quota');
  expect(await fillerBytes(plain)).toBeGreaterThan(256 * 1024);

  await device.offline(false);
  await eventually(async () => (await server.records('user:ada', 'notes')).map(({ id, version }) => [id, version]).sort()).toEqual([['a', 1], ['b', 1], ['c', 1], ['first', 1]]);
  await eventually(async () => (await status(page)).pending).toBe(0);
  expect(await fillerBytes(plain)).toBe(0);
  // It is on the disk, not only in memory.
  const again = await device.lab('ada', { login: false });
  expect(await status(again)).toMatchObject({ pending: 0, parked: 0 });
  expect(Object.keys(await view(again, 'notes')).sort()).toEqual(['a', 'b', 'c', 'first']);

  await session.send('Storage.overrideQuotaForOrigin', { origin: server.origin });
  expect(await write('after')).toBe('stored');
  await eventually(async () => (await status(page)).storage.state).toBe('ok');
  await eventually(() => fillerBytes(plain)).toBeGreaterThan(256 * 1024);
});
