// Scenario g: the server refuses a write; the person sees why, mends it, and nobody else waited.

import { outbox, put, reload, status, syncNow, update, view } from './support/device.mjs';
import { eventually, expect, expectOnceAndInOrder, test } from './support/test.mjs';

test('g: c3 l4: a refused write is rolled back, parked with code, field and message, mended and applied, while others flow', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await device.lab('ada');
  await put(page, 'notes', { id: 'there', title: 'Before' });
  await eventually(async () => (await view(page, 'notes')).there.state).toBe('synced');
  await page.evaluate(() => {
    window.refused = [];
    lab.db.sync.on('rejected', (entry) => refused.push(entry));
  });

  await put(page, 'notes', { id: 'fresh', title: '' });
  await update(page, 'notes', 'there', { title: '' });
  await put(page, 'notes', { id: 'other', title: 'Fine' });
  await eventually(async () => (await status(page)).pending).toBe(0);

  const parked = await outbox(page);
  expect(parked.map(({ record, state }) => [record, state]).sort()).toEqual([['fresh', 'parked'], ['there', 'parked']]);
  for (const { reason } of parked) {
    expect(reason.code).toBe('validation');
    expect(Object.keys(reason.fields)).toEqual(['title']);
    expect(reason.message).not.toBe('');
  }
  expect((await page.evaluate(() => refused)).map(({ record }) => record).sort()).toEqual(['fresh', 'there']);
  expect(await status(page)).toMatchObject({ pending: 0, parked: 2, auth: 'ok' });
  // Rolled back: what was never taken is not there, what was there is as the server has it.
  const rolledBack = await view(page, 'notes');
  expect(rolledBack.fresh).toBeUndefined();
  expect(rolledBack.there).toMatchObject({ title: 'Before' });
  expect(rolledBack.other).toMatchObject({ title: 'Fine' });

  await put(page, 'notes', { id: 'later', title: 'Fine too' });
  await eventually(async () => (await server.records('user:ada', 'notes')).map(({ id }) => id).sort()).toEqual(['later', 'other', 'there']);

  await reload(page);
  const still = await outbox(page);
  expect(still).toHaveLength(2);
  for (const { id, record } of still) await page.evaluate(([id, title]) => lab.db.outbox.edit(id, { title }), [id, `Mended ${record}`]);
  await syncNow(page);
  await eventually(() => status(page)).toMatchObject({ pending: 0, parked: 0 });
  const mended = await view(page, 'notes');
  expect(mended.fresh).toMatchObject({ title: 'Mended fresh', state: 'synced' });
  expect(mended.there).toMatchObject({ title: 'Mended there', state: 'synced' });
  const audit = await expectOnceAndInOrder(server, 'ada');
  expect(audit.filter((row) => row.status === 'rejected')).toHaveLength(2);
});

test('g: l4: a refused write that is retried unchanged is refused again, and discarded it is gone for good', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await device.lab('ada');
  await put(page, 'notes', { id: 'n', title: '' });
  await eventually(async () => (await outbox(page))[0]?.state).toBe('parked');
  const [{ id }] = await outbox(page);
  await page.evaluate((id) => lab.db.outbox.retry(id), id);
  await syncNow(page);
  await eventually(async () => (await outbox(page)).map(({ id, state }) => [id, state])).toEqual([[id, 'parked']]);
  expect(await page.evaluate((id) => lab.db.outbox.discard(id), id)).toBe(1);
  await reload(page);
  expect(await outbox(page)).toEqual([]);
  expect(await view(page, 'notes')).toEqual({});
  expect(await server.records('user:ada')).toEqual([]);
});
