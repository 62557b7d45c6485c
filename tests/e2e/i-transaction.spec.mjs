// Scenario i: a transaction over two records is applied, refused and pulled as one.

import { outbox, put, status, view } from './support/device.mjs';
import { eventually, expect, expectOnceAndInOrder, test } from './support/test.mjs';

/** `writes`: `[collection, record]` each, in one transaction. */
const together = (page, writes) => page.evaluate((writes) => lab.db.transaction([...new Set(writes.map(([name]) => name))], (tx) => {
  for (const [name, record] of writes) tx.collection(name).put(record);
}), writes);

test('i: s5: a transaction is applied, refused, shown and pulled as one', async ({ server, newDevice }) => {
  const [device, other] = await Promise.all([newDevice(server.origin), newDevice(server.origin)]);
  const [page, reader] = await Promise.all([device.lab('ada'), other.lab('ada')]);
  // Every state that the other device ever shows: both records in step, or it is torn.
  await reader.evaluate(() => {
    window.states = [];
    lab.db.collection('notes').subscribe((rows) => states.push(rows.filter(({ id }) => id === 'a' || id === 'b').map(({ id, body }) => [id, body])));
  });
  const body = async (id) => (await view(reader, 'notes'))[id]?.body;
  for (let n = 1; n <= 5; n++) {
    await together(page, [['notes', { id: 'a', title: 'A', body: `${n}` }], ['notes', { id: 'b', title: 'B', body: `${n}` }], ['movies', { id: 'm', n }]]);
    await eventually(() => body('b')).toBe(`${n}`);
  }
  const states = await reader.evaluate(() => states);
  expect(states.at(-1)).toHaveLength(2);
  expect(states.filter((rows) => rows.length === 1 || (rows.length === 2 && rows[0][1] !== rows[1][1]))).toEqual([]);
  expect((await view(reader, 'movies')).m.n).toBe(5);

  // Refused as one: one of the three is wrong.
  await together(page, [['notes', { id: 'a', title: '', body: 'no' }], ['notes', { id: 'b', title: 'B', body: 'no' }], ['notes', { id: 'c', title: 'C' }]]);
  await put(page, 'notes', { id: 'bystander', title: 'Not of the group' });
  await eventually(() => status(page)).toMatchObject({ pending: 0, parked: 1 });
  const rolledBack = await view(page, 'notes');
  expect(rolledBack.a).toMatchObject({ title: 'A', body: '5' });
  expect(rolledBack.b).toMatchObject({ body: '5' });
  expect(rolledBack.c).toBeUndefined();
  const parked = await outbox(page);
  expect(parked.map(({ record }) => record).sort()).toEqual(['a', 'b', 'c']);
  expect(new Set(parked.map(({ group }) => group)).size).toBe(1);
  await eventually(async () => (await server.records('user:ada', 'notes')).map(({ id, fields }) => [id, fields.body ?? null])).toEqual([['a', '5'], ['b', '5'], ['bystander', null]]);

  // Mended as one.
  await page.evaluate((id) => lab.db.outbox.edit(id, { title: 'A again' }), parked.find(({ record }) => record === 'a').id);
  await eventually(() => status(page)).toMatchObject({ pending: 0, parked: 0 });
  await eventually(async () => Object.fromEntries((await server.records('user:ada', 'notes')).map(({ id, fields }) => [id, fields.body ?? null]))).toEqual({ a: 'no', b: 'no', bystander: null, c: null });
  await expectOnceAndInOrder(server, 'ada');
});

test('i: l2 l3: a transaction whose callback throws leaves nothing, here and at the server', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await device.lab('ada');
  const thrown = await page.evaluate(async () => {
    const work = lab.db.transaction(['notes'], (tx) => {
      tx.collection('notes').put({ id: 'a', title: 'A' });
      throw new Error('changed my mind');
    });
    return work.catch((error) => error.message);
  });
  expect(thrown).toBe('changed my mind');
  await put(page, 'notes', { id: 'b', title: 'B' });
  await eventually(async () => (await server.records('user:ada')).map(({ id }) => id)).toEqual(['b']);
  expect(Object.keys(await view(page, 'notes'))).toEqual(['b']);
});
