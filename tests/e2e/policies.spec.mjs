// Two devices edit one record, and the collection says what becomes of that: a merge, or a decision of its author.

import { fileURLToPath } from 'node:url';
import { conflicts, outbox, put, reload, status, update, view } from './support/device.mjs';
import { eventually, expect, expectOnceAndInOrder, test } from './support/test.mjs';

test.use({ serverArgs: ['--collections', fileURLToPath(new URL('support/policies.json', import.meta.url))] });

/** Both devices know `n`; the first one's edit is at the server, the second one's is under way. */
async function clash(server, newDevice, collection, [theirs, mine]) {
  const [first, second] = await Promise.all([newDevice(server.origin), newDevice(server.origin)]);
  const [other, page] = await Promise.all([first.lab('ada'), second.lab('ada')]);
  await put(other, collection, { id: 'n', title: 'Both', body: 'both' });
  await eventually(async () => (await view(page, collection)).n?.state).toBe('synced');
  await Promise.all([first.offline(), second.offline()]);
  await update(other, collection, 'n', theirs);
  await update(page, collection, 'n', mine);
  await first.offline(false);
  await eventually(async () => (await server.records('user:ada', collection))[0].version).toBe(2);
  await second.offline(false);
  return { other, page };
}

test('c1 r1: two edits of different fields are merged, and both devices show the whole', async ({ server, newDevice }) => {
  const { other, page } = await clash(server, newDevice, 'movies', [{ title: 'Theirs' }, { body: 'mine' }]);
  const merged = { id: 'n', title: 'Theirs', body: 'mine', state: 'synced' };
  for (const device of [page, other]) await eventually(async () => (await view(device, 'movies')).n).toEqual(merged);
  expect(await conflicts(page)).toEqual([]);
  const audit = await expectOnceAndInOrder(server, 'ada');
  expect(audit.map((row) => row.status).sort()).toEqual(['applied', 'applied', 'merged']);
});

test('c2 r1: of two edits of one field a merge keeps the server’s, and the loser keeps what it wrote', async ({ server, newDevice }) => {
  const { page } = await clash(server, newDevice, 'movies', [{ title: 'Theirs' }, { title: 'Mine', body: 'mine' }]);
  await eventually(async () => (await view(page, 'movies')).n).toEqual({ id: 'n', title: 'Theirs', body: 'mine', state: 'synced' });
  const [kept] = await conflicts(page);
  expect(kept).toMatchObject({ status: 'merged', local: { title: 'Mine', body: 'mine' }, server: { title: 'Theirs' } });
  // Its author wants it all the same: then it is an edit like any other.
  await page.evaluate((id) => lab.db.conflicts.resolve(id, { merged: { title: 'Mine after all' } }), kept.id);
  await eventually(async () => (await view(page, 'movies')).n).toMatchObject({ title: 'Mine after all', state: 'synced' });
  expect(await conflicts(page)).toEqual([]);
});

for (const [how, title] of [['local', 'Mine'], ['server', 'Theirs'], [{ merged: { title: 'Both of us' } }, 'Both of us']]) {
  test(`c2 c3: a conflict waits for its author, also over a reload, and ends as ${typeof how === 'string' ? how : 'merged'}`, async ({ server, newDevice }) => {
    const { other, page } = await clash(server, newDevice, 'notes', [{ title: 'Theirs' }, { title: 'Mine' }]);
    await eventually(async () => (await status(page)).parked).toBe(1);
    await reload(page);
    expect(await view(page, 'notes')).toMatchObject({ n: { title: 'Theirs', body: 'both' } });
    const listed = await conflicts(page);
    expect(listed).toHaveLength(1);
    const values = { base: { title: 'Both', body: 'both' }, local: { title: 'Mine' }, server: { title: 'Theirs', body: 'both' } };
    expect(listed[0]).toMatchObject({ status: 'conflict', to: 'author', collection: 'notes', record: 'n', ...values });

    await page.evaluate(([id, how]) => lab.db.conflicts.resolve(id, how), [listed[0].id, how]);
    for (const device of [page, other]) await eventually(async () => (await view(device, 'notes')).n).toEqual({ id: 'n', title, body: 'both', state: 'synced' });
    expect(await conflicts(page)).toEqual([]);
    expect(await outbox(page)).toEqual([]);
    await expectOnceAndInOrder(server, 'ada');
    const again = await page.evaluate((id) => lab.db.conflicts.resolve(id, 'server').catch((error) => error.code), listed[0].id);
    expect(again).toBe('not_parked');
  });
}

test('c2 c3: what the app decides by itself ends without a person, also what waited before it could', async ({ server, newDevice }) => {
  const { other, page } = await clash(server, newDevice, 'notes', [{ title: 'Theirs' }, { title: 'Mine' }]);
  await eventually(async () => (await status(page)).parked).toBe(1);
  const decided = { id: 'n', title: 'Theirs, Mine', body: 'both', state: 'synced' };
  const decide = () => lab.openAs('ada', { collections: { notes: { decide: ({ local, server }) => ({ merged: { title: `${server.title}, ${local.title}` } }) } } });
  await page.evaluate(decide);
  for (const device of [page, other]) await eventually(async () => (await view(device, 'notes')).n).toEqual(decided);
  await page.evaluate(() => { globalThis.told = []; lab.db.sync.on('rejected', (entry) => told.push(entry)); });

  // And what meets somebody else's while it is open.
  await update(other, 'notes', 'n', { title: 'A' });
  await eventually(async () => (await view(page, 'notes')).n?.title).toBe('A');
  await page.evaluate(() => lab.db.collection('notes').update('n', { body: 'first' }));
  await eventually(async () => (await view(other, 'notes')).n?.body).toBe('first');
  await page.context().setOffline(true);
  await update(page, 'notes', 'n', { title: 'C' });
  await update(other, 'notes', 'n', { title: 'B' });
  await eventually(async () => (await server.records('user:ada', 'notes'))[0].fields.title).toBe('B');
  await page.context().setOffline(false);
  for (const device of [page, other]) await eventually(async () => (await view(device, 'notes')).n).toEqual({ id: 'n', title: 'B, C', body: 'first', state: 'synced' });
  expect(await page.evaluate(() => told)).toEqual([]);
  expect(await conflicts(page)).toEqual([]);
  await expectOnceAndInOrder(server, 'ada');
});

test('c2: many conflicts end with one word, and what waits for a role is flagged and not in the way', async ({ server, newDevice }) => {
  const { page } = await clash(server, newDevice, 'attendance', [{ title: 'Theirs' }, { title: 'Mine' }]);
  await eventually(async () => (await conflicts(page)).length).toBe(1);
  expect((await conflicts(page))[0]).toMatchObject({ status: 'conflict', to: 'review', local: { title: 'Mine' } });
  expect(await outbox(page)).toEqual([]);
  const [waiting] = await server.records('user:ada', '_conflicts');
  expect(waiting.fields).toMatchObject({ status: 'pending', role: 'admin', record_id: 'n', set: { title: 'Mine' } });
  // Its lane goes on: the next edit stands on what is there.
  await eventually(async () => (await view(page, 'attendance')).n).toMatchObject({ title: 'Theirs', state: 'synced' });
  await update(page, 'attendance', 'n', { body: 'later' });
  await eventually(async () => (await view(page, 'attendance')).n).toMatchObject({ title: 'Theirs', body: 'later', state: 'synced' });
  const ended = await page.evaluate(() => lab.db.conflicts.resolveAll('server', { collection: 'attendance' }));
  expect([ended, await conflicts(page)]).toEqual([1, []]);
});

test('c2 s5: a transaction of which one change met somebody else’s waits as a whole, and one word ends it and every other conflict', async ({ server, newDevice }) => {
  const [first, second] = await Promise.all([newDevice(server.origin), newDevice(server.origin)]);
  const [other, page] = await Promise.all([first.lab('ada'), second.lab('ada')]);
  for (const id of ['a', 'b', 'c']) await put(other, 'notes', { id, title: 'Both' });
  await eventually(async () => Object.keys(await view(page, 'notes'))).toEqual(['a', 'b', 'c']);
  await Promise.all([first.offline(), second.offline()]);
  for (const id of ['a', 'c']) await update(other, 'notes', id, { title: 'Theirs' });
  await page.evaluate(() => lab.db.transaction(['notes'], (tx) => ['a', 'b'].forEach((id) => tx.collection('notes').update(id, { title: 'Mine' }))));
  await update(page, 'notes', 'c', { title: 'Mine' });
  await first.offline(false);
  await eventually(async () => (await server.records('user:ada', 'notes')).filter(({ fields }) => fields.title === 'Theirs').length).toBe(2);
  await second.offline(false);
  await eventually(async () => (await conflicts(page)).map(({ record }) => record).sort()).toEqual(['a', 'b', 'c']);
  const titles = async () => Object.fromEntries((await server.records('user:ada', 'notes')).map(({ id, fields }) => [id, fields.title]));
  expect(await titles()).toEqual({ a: 'Theirs', b: 'Both', c: 'Theirs' });
  expect(await page.evaluate(() => lab.db.conflicts.resolveAll('local'))).toBe(3);
  await eventually(titles).toEqual({ a: 'Mine', b: 'Mine', c: 'Mine' });
  await eventually(async () => [await conflicts(page), await outbox(page)]).toEqual([[], []]);
});

test('c2 c3: a merge by hand of a change that waits leaves the fields that it does not name as the server has them', async ({ server, newDevice }) => {
  const { other, page } = await clash(server, newDevice, 'notes', [{ title: 'Theirs', body: 'theirs' }, { title: 'Mine', body: 'mine' }]);
  await eventually(async () => (await conflicts(page)).length).toBe(1);
  const [{ id }] = await conflicts(page);
  await page.evaluate((id) => lab.db.conflicts.resolve(id, { merged: { title: 'Mine' } }), id);
  for (const device of [page, other]) await eventually(async () => (await view(device, 'notes')).n).toEqual({ id: 'n', title: 'Mine', body: 'theirs', state: 'synced' });
});
