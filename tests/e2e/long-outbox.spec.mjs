// A long outbox: what a page shows and takes before it has read all of it, and that all of it arrives.

import { password, put, putAll, status, update, view } from './support/device.mjs';
import { eventually, expect, test } from './support/test.mjs';

const count = 3_000;

/** Rows of a store whose key begins so, of a database that may be open. */
const keys = (page, store, prefix) => page.evaluate(async ([store, prefix]) => {
  const done = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  const db = await done(indexedDB.open('landfall:lab:ada'));
  const found = await done(db.transaction(store).objectStore(store).getAllKeys());
  db.close();
  return found.filter((key) => String(key).startsWith(prefix));
}, [store, prefix]);

test('long outbox: l1 l5 s1: thousands of unsent changes are indexed, seen and changed at once after the browser was closed, and each arrives once', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await device.lab('ada', { login: false });
  await putAll(page, 'notes', Array.from({ length: count }, (_, at) => ({ id: `n${at}`, title: `Note ${at}`, count: 0 })));
  await eventually(() => keys(page, 'meta', 'lanes')).toEqual(['lanes']);
  expect(await keys(page, 'idx', 'lanes/')).not.toEqual([]);
  await device.close();
  await device.start();

  const again = await device.lab('ada', { login: false });
  // Asked in one go with opening: before the page has read the rest.
  const first = await again.evaluate(async () => {
    await lab.openAs('ada');
    const notes = lab.db.collection('notes');
    const [record, pending] = [await notes.get('n1234'), lab.db.sync.status.pending];
    await notes.update('n7', { count: 1 });
    await notes.delete('n8');
    return { record, pending, changed: await notes.get('n7'), deleted: (await notes.get('n8')) ?? null };
  });
  expect(first).toMatchObject({ record: { title: 'Note 1234' }, pending: count, changed: { title: 'Note 7', count: 1 }, deleted: null });
  expect(Object.keys(await view(again, 'notes'))).toHaveLength(count - 1);

  await update(again, 'notes', 'n9', { count: 2 });
  await put(again, 'notes', { id: 'last', title: 'Last' });
  await again.evaluate((password) => lab.login('ada', password), password);
  await eventually(async () => (await status(again)).pending).toBe(0);
  const records = new Map((await server.records('user:ada')).map((record) => [record.id, record]));
  expect(records.size).toBe(count);
  expect([records.get('n7'), records.get('n9'), records.has('n8')]).toMatchObject([{ fields: { count: 1 } }, { fields: { count: 2 } }, false]);
  await eventually(() => keys(again, 'idx', 'lanes/')).toEqual([]);
});
