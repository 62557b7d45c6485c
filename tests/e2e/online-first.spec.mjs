// A collection that is online-first: stored first all the same, and put() resolves with the server's word where there is one.

import { outbox, status, view } from './support/device.mjs';
import { eventually, expect, expectOnceAndInOrder, test } from './support/test.mjs';

/** A tab whose notes are online-first. */
async function online(device, more = {}) {
  const page = await device.lab('ada');
  await page.evaluate(async (more) => {
    await lab.openAs('ada', { collections: { notes: { mode: 'online-first', ...more }, movies: {} } });
    await lab.login('ada', 'landfall');
  }, more);
  return page;
}

const write = (page, record) => page.evaluate((record) => lab.db.collection('notes').put(record), record);

test('online-first: put resolves as applied, and a refusal as a result that a form goes on with, one entry for all attempts', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await online(device);
  expect(await write(page, { id: 'good', title: 'Fine' })).toMatchObject({ status: 'applied', id: 'good', scope: 'user:ada' });
  const refused = await write(page, { id: 'bad', title: '' });
  expect(refused).toMatchObject({ status: 'rejected', id: 'bad', code: 'validation', fields: { title: expect.any(String) } });
  expect((await outbox(page)).map(({ id }) => id)).toEqual([refused.entry]);
  await page.evaluate((entry) => lab.db.outbox.edit(entry, { title: 'Mended' }), refused.entry);
  await eventually(async () => (await view(page, 'notes')).bad?.state).toBe('synced');
  expect(await outbox(page)).toEqual([]);
  expect((await server.records('user:ada', 'notes')).map(({ id, fields }) => [id, fields.title]).sort()).toEqual([['bad', 'Mended'], ['good', 'Fine']]);
  await expectOnceAndInOrder(server, 'ada');
});

test('online-first: l1: without a network it is stored at once, and arrives later like any other', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await online(device);
  await write(page, { id: 'before', title: 'x' });
  await device.offline();
  await eventually(async () => (await status(page)).connectivity).toBe('offline');
  expect(await write(page, { id: 'away', title: 'x' })).toMatchObject({ status: 'stored' });
  await device.offline(false);
  await eventually(async () => (await server.records('user:ada', 'notes')).map(({ id }) => id).sort()).toEqual(['away', 'before']);
  await expectOnceAndInOrder(server, 'ada');
});

test('online-first: while the server is silent the record is confirming; after ten seconds it is stored and waits like any other', async ({ server, network, newDevice }) => {
  const device = await newDevice(network.origin);
  await device.context.clock.install();
  const page = await online(device);
  let release;
  const silence = new Promise((resolve) => (release = resolve));
  network.accident = async (path) => (path === '/v1/sync/push' ? (await silence, 'pass') : 'pass');
  await page.evaluate(() => {
    window.result = undefined;
    lab.db.collection('notes').put({ id: 'slow', title: 'x' }).then((result) => (window.result = result));
  });
  await eventually(async () => (await view(page, 'notes')).slow?.state).toBe('confirming');
  await page.clock.runFor('00:09');
  expect(await page.evaluate(() => result)).toBeUndefined();
  await page.clock.runFor('00:02');
  await eventually(() => page.evaluate(() => result?.status)).toBe('stored');
  expect((await view(page, 'notes')).slow.state).toBe('sending');
  release();
  await eventually(async () => {
    await page.clock.runFor('00:02');
    return (await server.records('user:ada', 'notes')).map(({ id }) => id);
  }).toEqual(['slow']);
  await expectOnceAndInOrder(server, 'ada');
});
