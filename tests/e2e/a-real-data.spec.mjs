// Scenario a: a real, untidy data set from an offline page to a second device, with nobody's help.

import { readFileSync } from 'node:fs';
import { putAll, reload, status, view } from './support/device.mjs';
import { canonical, eventually, expect, expectOnceAndInOrder, fieldsById, test } from './support/test.mjs';

const movies = JSON.parse(readFileSync(new URL('../../node_modules/vega-datasets/data/movies.json', import.meta.url)));
const records = movies.map((movie, i) => ({ id: `m${String(i).padStart(4, '0')}`, ...movie }));
const source = Object.fromEntries(records.map(({ id, ...fields }) => [id, canonical(fields)]));

test('a: l1 l2 s1 r1: 3,201 offline records survive a reload, are flushed by the sync event with no page open, and reach a second device unchanged', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await device.lab('ada');
  await device.offline();
  await putAll(page, 'movies', records);
  await reload(page);

  const seen = await view(page, 'movies');
  expect(Object.keys(seen)).toHaveLength(3201);
  // `sending`: a worker that was awake has tried in vain.
  expect(Object.values(seen).filter(({ state }) => state !== 'pending' && state !== 'sending')).toEqual([]);
  expect(await status(page)).toMatchObject({ pending: 3201, connectivity: 'offline' });

  await device.blank();
  expect(await server.records('user:ada', 'movies')).toHaveLength(0);
  await device.offline(false);
  await eventually(async () => (await server.records('user:ada', 'movies')).length).toBe(3201);
  const stored = await server.records('user:ada', 'movies');
  expect(fieldsById(stored)).toEqual(source);
  expect(stored.filter(({ version }) => version !== 1)).toEqual([]);
  const audit = await expectOnceAndInOrder(server, 'ada');
  expect(audit).toHaveLength(3201);
  expect(audit.filter((row) => row.status !== 'applied')).toEqual([]);

  const other = await newDevice(server.origin);
  const otherPage = await other.lab('ada');
  await eventually(async () => Object.keys(await view(otherPage, 'movies')).length).toBe(3201);
  const pulled = Object.values(await view(otherPage, 'movies'));
  expect(pulled.filter(({ state }) => state !== 'synced')).toEqual([]);
  expect(Object.fromEntries(pulled.map(({ id, state, ...fields }) => [id, canonical(fields)]))).toEqual(source);

  const again = await device.lab('ada', { login: false });
  await eventually(async () => (await status(again)).pending).toBe(0);
});
