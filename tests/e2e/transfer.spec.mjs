// A database as a file: inspected, exported, and imported into another one of the same user.

import { outbox, put, putAll, ready, status, syncNow, view } from './support/device.mjs';
import { eventually, expect, expectOnceAndInOrder, test } from './support/test.mjs';

const inspect = (page) => page.evaluate(() => lab.db.inspect());
const exported = (page) => page.evaluate(() => new Response(lab.db.export()).text());
const imported = (page, text, options) => page.evaluate(([text, options]) => lab.db.import(text, options), [text, options]);
const linesOf = (text) => text.trimEnd().split('\n').map((line) => JSON.parse(line));
const note = (n) => ({ id: `n${String(n).padStart(4, '0')}`, title: `Note ${n}` });
const resting = { pending: 0, parked: 0 };
const atRest = async (page) => {
  const { pending, parked } = await status(page);
  return { pending, parked };
};
/** Of the records of a collection what does not depend on who holds them. */
const shown = async (page) => Object.fromEntries(Object.values(await view(page, 'notes')).map(({ id, title }) => [id, title]));

test('transfer: s1: what a device could not send is exported, imported on another one, and reaches the server once', async ({ server, newDevice }) => {
  const [stuck, fresh] = await Promise.all([newDevice(server.origin), newDevice(server.origin)]);
  const page = await stuck.lab('ada');
  await putAll(page, 'notes', Array.from({ length: 300 }, (_, n) => note(n)));
  await eventually(() => atRest(page)).toEqual(resting);
  const other = await fresh.lab('ada', { name: 'other' });
  await eventually(async () => Object.keys(await view(other, 'notes')).length).toBe(300);
  await stuck.offline();
  await page.evaluate(async () => {
    const notes = lab.db.collection('notes');
    await Promise.all([
      notes.update('n0001', { title: 'First' }),
      notes.update('n0001', { title: 'Changed offline' }),
      notes.delete('n0002'),
      notes.put({ id: 'made', title: 'Made offline' }),
      lab.db.transaction(['notes'], (tx) => {
        tx.collection('notes').put({ id: 'pair-a', title: 'A' });
        tx.collection('notes').put({ id: 'pair-b', title: 'B' });
      }),
    ]);
  });
  const file = await exported(page);
  const [header, ...lines] = linesOf(file);
  expect(header).toMatchObject({ landfall: 1, database: 'landfall:lab:ada', user: 'ada', pairs: expect.arrayContaining([expect.objectContaining({ scope: 'user:ada', collection: 'notes', records: 300 })]) });
  const records = lines.filter(({ kind }) => kind === 'record');
  expect(records).toHaveLength(302);
  expect(new Set(records.map(({ id }) => id)).size).toBe(302);
  expect(records.filter(({ unsent }) => unsent).map(({ id, state }) => [id, state])).toEqual([['made', 'pending'], ['n0001', 'pending'], ['pair-a', 'pending'], ['pair-b', 'pending']]);
  expect(lines.filter(({ kind }) => kind === 'entry')).toHaveLength(6);

  await put(other, 'notes', { id: 'n0005', title: 'Newer at the server' });
  await eventually(() => atRest(other)).toEqual(resting);
  // One entry each for what changed, made and went; the rest is what the server said already.
  expect(await imported(other, file, { unsentOnly: true })).toEqual({ written: 5, skipped: 303, refused: [], reported: [] });
  await eventually(() => atRest(other)).toEqual(resting);
  const held = Object.fromEntries((await server.records('user:ada', 'notes')).map(({ id, fields }) => [id, fields.title]));
  expect(held).toMatchObject({ n0001: 'Changed offline', made: 'Made offline', 'pair-a': 'A', 'pair-b': 'B', n0005: 'Newer at the server' });
  expect(held).not.toHaveProperty('n0002');
  expect(Object.keys(held)).toHaveLength(302);
  expect(await shown(other)).toEqual(held);
  // Again: nothing is left to do. Without `unsentOnly` the deleted one would be no news either: its line is not there.
  expect(await imported(other, file, { unsentOnly: true })).toMatchObject({ written: 0, refused: [] });
  expect(await imported(other, file)).toMatchObject({ written: 0, refused: [] });
  const audit = await expectOnceAndInOrder(server, 'ada');
  expect(audit.filter(({ id }) => id === 'made' || id === 'n0001')).toHaveLength(3);
});

test('transfer: into an empty database without a server everything becomes writes; bad lines are refused by number, parked ones reported', async ({ server, newDevice }) => {
  const [device, empty] = await Promise.all([newDevice(server.origin), newDevice(server.origin)]);
  const page = await device.lab('ada');
  await putAll(page, 'notes', Array.from({ length: 1200 }, (_, n) => note(n)));
  await put(page, 'notes', { id: 'refused', title: '' });
  await eventually(() => atRest(page)).toEqual({ pending: 0, parked: 1 });
  await syncNow(page);
  const lines = (await exported(page)).trimEnd().split('\n');
  expect(lines).toHaveLength(1202);

  const other = await empty.lab('ada', { name: 'empty', login: false });
  await empty.offline();
  const file = [lines[0], '{"kind":"record","id":', ...lines.slice(1), JSON.stringify({ ...JSON.parse(lines[1]), collection: 'unheard-of' })].join('\n');
  const result = await imported(other, file);
  expect(result).toMatchObject({ written: 1200, skipped: 0, refused: [{ line: 2, code: 'invalid_record' }, { line: 1204, code: 'unknown_collection' }] });
  expect(result.reported).toMatchObject([{ kind: 'parked', record: 'refused', state: 'parked', reason: { code: 'validation' } }]);
  expect(await shown(other)).toEqual(await shown(page));
  expect(await outbox(other)).toHaveLength(1200);
  await other.reload();
  await ready(other);
  expect(await shown(other)).toEqual(await shown(page));
  // The same records again are not written again, on their way or not.
  expect(await imported(other, file)).toMatchObject({ written: 0, skipped: 1200 });
  expect(await other.evaluate((file) => lab.db.import(file.replace('"user":"ada"', '"user":"eve"')).catch((error) => [error.code, error.details]), file)).toEqual(['invalid_options', { path: 'user', line: 1 }]);
});

test('transfer: inspect() says what is stored, what waits and what the browser has room for', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await device.lab('ada');
  await putAll(page, 'notes', Array.from({ length: 400 }, (_, n) => note(n)));
  await eventually(() => atRest(page)).toEqual(resting);
  await syncNow(page);
  await page.evaluate(() => lab.openAs('ada', { collections: { notes: { indexes: ['title'] }, movies: {} } }));
  await page.evaluate(() => lab.db.collection('notes').query({ where: { title: { prefix: 'Note 1' } } }).get());
  await syncNow(page);
  const notes = ({ base }) => base.pairs.find(({ collection }) => collection === 'notes');
  // An index that is declared late is built when the page has nothing better to do.
  await eventually(async () => notes(await inspect(page)).indexes).toMatchObject([{ ready: true }]);
  await device.offline();
  await put(page, 'notes', { id: 'waiting', title: 'Not sent' });
  const seen = await inspect(page);
  expect(seen).toMatchObject({
    database: 'landfall:lab:ada',
    clientId: expect.stringMatching(/^c[0-9a-f]{16}$/),
    log: { rows: 1, entries: 1, oldestPending: expect.any(Number) },
    outbox: { inFlight: 0, batches: 0, parked: 0, conflicts: 0 },
    base: { compactionDebt: expect.any(Number), memoryBudgetBytes: 32 * 1024 * 1024 },
    quarantined: [],
    setAside: [],
    storage: { usageBytes: expect.any(Number), quotaBytes: expect.any(Number) },
  });
  expect(Math.abs(Date.now() - seen.log.oldestPending)).toBeLessThan(600_000);
  expect(seen.base.memoryBytes).toBeGreaterThan(0);
  expect(notes(seen)).toMatchObject({
    scope: 'user:ada', records: 400, staged: 0, segments: expect.any(Number), runs: expect.any(Number), bytes: expect.any(Number), covered: expect.any(Number),
    indexes: [{ name: 'title', ready: true, entries: 400 }],
  });
});
