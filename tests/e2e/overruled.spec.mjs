// A value that the server had taken is overwritten by a device that had not seen it: its author is told, wherever they are.

import { fileURLToPath } from 'node:url';
import { conflicts, put, reload, update, view } from './support/device.mjs';
import { eventually, expect, expectOnceAndInOrder, test } from './support/test.mjs';

test.use({ serverArgs: ['--collections', fileURLToPath(new URL('support/client-wins.json', import.meta.url))] });

test('c2: whoever is overruled hears of it with the change, also after a reload, and may write it again', async ({ server, newDevice }) => {
  const [first, second] = await Promise.all([newDevice(server.origin), newDevice(server.origin)]);
  const [author, late] = await Promise.all([first.lab('ada'), second.lab('ada')]);
  await put(author, 'notes', { id: 'n', title: 'Both', body: 'both' });
  await eventually(async () => (await view(late, 'notes')).n?.state).toBe('synced');
  await second.offline();
  await update(late, 'notes', 'n', { title: 'Late' });
  await update(author, 'notes', 'n', { title: 'Early', body: 'early' });
  await eventually(async () => (await server.records('user:ada', 'notes'))[0].version).toBe(2);
  expect(await conflicts(author)).toEqual([]);
  await author.evaluate(() => { globalThis.told = []; lab.db.sync.on('conflict', (conflict) => told.push(conflict)); });

  await second.offline(false);
  const told = { status: 'superseded', code: 'overruled', collection: 'notes', record: 'n', op: 'update', local: { title: 'Early' }, server: { title: 'Late', body: 'early' } };
  await eventually(() => author.evaluate(() => told.length)).toBe(1);
  expect(await author.evaluate(() => told[0])).toMatchObject(told);
  // What the late one left alone is no loss, and the device that did it is told nothing.
  expect(Object.keys((await conflicts(author))[0].local)).toEqual(['title']);
  await eventually(async () => (await view(late, 'notes')).n).toEqual({ id: 'n', title: 'Late', body: 'early', state: 'synced' });
  expect(await conflicts(late)).toEqual([]);
  await eventually(async () => (await view(author, 'notes')).n).toEqual({ id: 'n', title: 'Late', body: 'early', state: 'synced' });
  await reload(author);
  const [kept, ...more] = await conflicts(author);
  expect(more).toEqual([]);
  expect(kept).toMatchObject(told);

  await author.evaluate((id) => lab.db.conflicts.resolve(id, 'local'), kept.id);
  for (const page of [author, late]) await eventually(async () => (await view(page, 'notes')).n).toEqual({ id: 'n', title: 'Early', body: 'early', state: 'synced' });
  expect(await conflicts(author)).toEqual([]);
  await expectOnceAndInOrder(server, 'ada');
});
