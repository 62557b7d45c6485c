// What is on the disk: damaged rows are set aside and reported, a newer database is left alone.

import { password, put, putAll, status, view } from './support/device.mjs';
import { eventually, expect, test } from './support/test.mjs';

const database = 'landfall:lab:ada';

/** Runs `work(rows)` on a store's rows `[[key, text], …]` of a database that nobody has open; what it returns is written. */
const rewrite = (page, store, work) => page.evaluate(`(async () => {
  const done = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  const db = await done(indexedDB.open(${JSON.stringify(database)}));
  const transaction = db.transaction('${store}', 'readwrite');
  const table = transaction.objectStore('${store}');
  const [keys, values] = await Promise.all([done(table.getAllKeys()), done(table.getAll())]);
  const changed = (${work})(keys.map((key, i) => [key, values[i]]));
  for (const [key, value] of changed) table.put(value, key);
  await new Promise((resolve) => (transaction.oncomplete = resolve));
  db.close();
  return changed.map(([key]) => key);
})()`);

/** A page of the same origin that opens no database. */
async function plainPage(device) {
  const page = await device.context.newPage();
  await page.goto('/lab.html');
  return page;
}

test('storage: i3: a log row with a flipped byte is set aside and reported; the rest is there, is sent, and the row stays for whoever mends it', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  // Nobody is signed in yet: a worker that had read the row when it was whole would send it, and be right.
  const page = await device.lab('ada', { login: false });
  for (const id of ['first', 'broken', 'last']) await put(page, 'notes', { id, title: id });
  await device.blank();
  const plain = await plainPage(device);
  await device.stopWorkers(plain);
  const flipped = await rewrite(plain, 'log', (rows) => rows.filter(([, text]) => text.includes('"broken"')).map(([key, text]) => [key, text.replace('broken', 'brokem')]));
  expect(flipped).toHaveLength(1);
  await plain.close();

  const again = await device.lab('ada', { login: false });
  expect(await status(again)).toMatchObject({ pending: 2, storage: { state: 'ok', quarantined: 1 } });
  expect(Object.keys(await view(again, 'notes')).sort()).toEqual(['first', 'last']);
  expect((await again.evaluate(() => lab.db.inspect())).quarantined).toMatchObject([{ store: 'log', key: `${flipped[0]}`, why: 'checksum' }]);
  await put(again, 'notes', { id: 'after', title: 'after' });
  await again.evaluate((password) => lab.login('ada', password), password);
  await eventually(async () => (await server.records('user:ada')).map(({ id }) => id).sort()).toEqual(['after', 'first', 'last']);
  await eventually(async () => (await status(again)).pending).toBe(0);
  expect((await status(again)).storage.quarantined).toBe(1);
  await device.blank();
  const kept = await rewrite(await plainPage(device), 'log', (rows) => rows.filter(([, text]) => text.includes('brokem')));
  expect(kept).toEqual(flipped);
});

test('storage: i3 r1: a segment row with a flipped byte is set aside and reported, and its records come back from the server', async ({ server, newDevice }) => {
  const [writer, device] = await Promise.all([newDevice(server.origin), newDevice(server.origin)]);
  const notes = Array.from({ length: 200 }, (_, i) => ({ id: `n${i}`, title: `Note ${i}` }));
  await putAll(await writer.lab('ada'), 'notes', notes);
  await eventually(async () => (await server.records('user:ada')).length).toBe(200);
  const page = await device.lab('ada');
  await eventually(async () => Object.keys(await view(page, 'notes')).length).toBe(200);
  await device.blank();
  await device.offline();
  const plain = await plainPage(device);
  const flipped = await rewrite(plain, 'seg', (rows) => rows.slice(0, 1).map(([key, text]) => [key, text.replace('Note', 'Mote')]));
  expect(flipped).toHaveLength(1);
  await plain.close();

  const again = await device.lab('ada', { login: false });
  // It is found when it is read.
  expect(Object.values(await view(again, 'notes')).filter(({ title }) => title.startsWith('Mote'))).toEqual([]);
  await eventually(async () => (await status(again)).storage.quarantined).toBe(1);
  await put(again, 'notes', { id: 'new', title: 'Works on' });
  await device.offline(false);
  await eventually(async () => Object.keys(await view(again, 'notes')).length).toBe(201);
  await eventually(async () => (await server.records('user:ada')).length).toBe(201);
});

test('storage: l1: a database of a newer schema is a clear error and is not touched', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const plain = await plainPage(device);
  const make = async ([name]) => {
    const request = indexedDB.open(name, 99);
    request.onupgradeneeded = () => request.result.createObjectStore('of-tomorrow').put('precious', 'key');
    await new Promise((resolve) => (request.onsuccess = resolve));
    request.result.close();
  };
  await plain.evaluate(make, [database]);
  const error = await plain.evaluate(() => lab.openAs('ada').then(() => null, (error) => ({ sync: lab.isSyncError(error), code: error.code, message: error.message })));
  expect(error).toMatchObject({ sync: true, code: 'newer_schema' });
  expect(error.message).not.toBe('');
  const kept = await plain.evaluate(async ([name]) => {
    const request = indexedDB.open(name);
    await new Promise((resolve) => (request.onsuccess = resolve));
    const db = request.result;
    const read = db.transaction('of-tomorrow').objectStore('of-tomorrow').get('key');
    await new Promise((resolve) => (read.onsuccess = resolve));
    return [db.version, [...db.objectStoreNames], read.result];
  }, [database]);
  expect(kept).toEqual([99, ['of-tomorrow'], 'precious']);
});

test('storage: l1: a write that another tab’s upgrade closes out is refused, not lost in silence, and what was stored stays', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await device.lab('ada');
  await device.offline();
  await put(page, 'notes', { id: 'before', title: 'before' });
  const plain = await plainPage(device);
  await plain.evaluate(async ([name]) => {
    const request = indexedDB.open(name, 99);
    await new Promise((resolve, reject) => {
      request.onsuccess = resolve;
      request.onerror = () => reject(request.error);
      request.onblocked = () => reject(new Error('blocked'));
    });
    request.result.close();
  }, [database]);
  expect(await page.evaluate(() => lab.db.collection('notes').put({ id: 'after', title: 'after' }).then(() => 'stored', (error) => error.code))).toBe('closed');
  expect((await status(page)).storage.state).toBe('closed');
  const rows = await rewrite(plain, 'log', (rows) => rows.filter(([, text]) => text.includes('"before"')));
  expect(rows).toHaveLength(1);
});
