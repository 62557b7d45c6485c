// An app of a newer version opens the database of an older one, while a tab of the older one is open.

import { put, putAll, status, syncNow, view } from './support/device.mjs';
import { eventually, expect, test } from './support/test.mjs';

const note = (n) => ({ id: `n${n}`, title: `Note ${n}`, body: `${n % 10}` });

test('migration: a new index, a new collection and a new shape need no pause, change nothing stored and send nothing', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const [older, newer] = [await device.lab('ada'), await device.lab('ada', { login: false })];
  // A version that knows `notes` only.
  await older.evaluate(() => lab.openAs('ada', { collections: { notes: {} } }));
  await putAll(older, 'notes', Array.from({ length: 500 }, (_, n) => note(n)));
  await put(newer, 'movies', { id: 'm', name: 'Kept for the newer one' });
  await eventually(() => status(older)).toMatchObject({ pending: 0 });
  await syncNow(newer);
  const before = await server.ledger('ada');
  await device.offline();
  await put(older, 'notes', { id: 'own', title: 'Not sent yet', body: '3' });

  await newer.evaluate(() => lab.openAs('ada', {
    schemaVersion: 2,
    collections: { notes: { indexes: ['body'] }, movies: {}, attendance: {} },
    migrations: { 2: { notes: { fields: ['title', 'heading'], upgrade: ({ title, ...rest }) => (title === undefined ? rest : { ...rest, heading: title.toUpperCase() }) } } },
  }));
  const found = () => newer.evaluate(() => lab.db.collection('notes').query({ where: { body: '3' }, orderBy: 'body' }).get());
  const plan = () => newer.evaluate(() => lab.db.collection('notes').query({ where: { body: '3' } }).explain().then(({ access }) => access));
  expect(await found()).toHaveLength(51);
  expect(await found()).toContainEqual({ id: 'own', heading: 'NOT SENT YET', body: '3' });
  expect(await newer.evaluate(() => lab.db.collection('notes').get('n7'))).toEqual({ id: 'n7', heading: 'NOTE 7', body: '7' });
  expect(await newer.evaluate(() => { try { lab.db.collection('notes').query({ orderBy: 'title' }); } catch (error) { return error.code; } })).toBe('invalid_options');
  expect((await view(older, 'notes')).n7).toMatchObject({ title: 'Note 7' });
  expect(await status(newer)).toMatchObject({ pending: 1 });

  await device.offline(false);
  await eventually(() => status(newer)).toMatchObject({ pending: 0 });
  await syncNow(newer);
  await eventually(plan).toBe('index');
  expect(await found()).toHaveLength(51);
  expect(await view(newer, 'movies')).toMatchObject({ m: { name: 'Kept for the newer one' } });
  // One write more than before, in the shape that it was written in.
  expect((await server.ledger('ada')).audit).toHaveLength(before.audit.length + 1);
  const stored = await server.records('user:ada', 'notes');
  expect(stored.filter(({ fields }) => 'heading' in fields)).toEqual([]);
  // Writing what was read is the app's own doing, and sends the new shape. Offline, so that it still waits when it is looked at.
  await device.offline();
  await newer.evaluate(async () => lab.db.collection('notes').put(await lab.db.collection('notes').get('n7')).catch((error) => error.code));
  expect(await newer.evaluate(() => lab.db.outbox.list().then(([entry]) => entry?.fields))).toMatchObject({ heading: 'NOTE 7' });
});
