// Scenario e: two devices edit one record. The first to arrive stands; the other is told and keeps what it wrote.

import { conflicts, put, reload, status, update, view } from './support/device.mjs';
import { eventually, expect, expectOnceAndInOrder, test } from './support/test.mjs';

test('e: c1 c2 r1: of two edits of one record the first stands, the loser is told and keeps its value', async ({ server, newDevice }) => {
  const [first, second] = await Promise.all([newDevice(server.origin), newDevice(server.origin)]);
  const [winner, loser] = await Promise.all([first.lab('ada'), second.lab('ada')]);
  await put(winner, 'notes', { id: 'n', title: 'Both know this', body: 'kept' });
  await eventually(async () => (await view(loser, 'notes')).n?.state).toBe('synced');
  await loser.evaluate(() => {
    window.told = [];
    lab.db.sync.on('conflict', (conflict) => told.push(conflict));
  });

  await Promise.all([first.offline(), second.offline()]);
  await update(winner, 'notes', 'n', { title: 'The winner’s' });
  await update(loser, 'notes', 'n', { title: 'The loser’s' });
  await first.offline(false);
  await eventually(async () => (await server.records('user:ada', 'notes'))[0].fields.title).toBe('The winner’s');
  await second.offline(false);

  await eventually(async () => (await view(loser, 'notes')).n).toEqual({ id: 'n', title: 'The winner’s', body: 'kept', state: 'synced' });
  await eventually(() => loser.evaluate(() => told.length)).toBe(1);
  const kept = { collection: 'notes', record: 'n', status: 'superseded', op: 'update', local: { title: 'The loser’s' } };
  expect((await loser.evaluate(() => told))[0]).toMatchObject(kept);
  await reload(loser);
  const listed = await conflicts(loser);
  expect(listed).toHaveLength(1);
  expect(listed[0]).toMatchObject({ ...kept, server: { title: 'The winner’s', body: 'kept' } });
  expect(await status(loser)).toMatchObject({ pending: 0, parked: 0, conflicts: 1 });

  await eventually(async () => (await view(winner, 'notes')).n).toEqual({ id: 'n', title: 'The winner’s', body: 'kept', state: 'synced' });
  expect(await conflicts(winner)).toEqual([]);
  const audit = await expectOnceAndInOrder(server, 'ada');
  expect(audit.map((row) => row.status).sort()).toEqual(['applied', 'applied', 'superseded']);
});
