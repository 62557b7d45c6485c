// Scenario d: two visible tabs and the worker write and flush at once, the same records too.

import { conflicts, status, syncNow, view } from './support/device.mjs';
import { canonical, eventually, expect, expectOnceAndInOrder, noticedMs, test } from './support/test.mjs';

const shared = 5;
const writesEach = 60;

test('d: l5 s1 s4: two tabs and the worker at once make no duplicate, keep each record’s order, never conflict with themselves and show one view', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const left = await device.lab('ada');
  const right = await device.lab('ada', { login: false });
  const tabs = { left, right };
  for (const page of [left, right]) {
    expect(await page.evaluate(() => document.visibilityState)).toBe('visible');
    await page.evaluate(() => {
      window.told = [];
      for (const name of ['conflict', 'rejected', 'restarted']) lab.db.sync.on(name, (value) => told.push([name, value]));
      lab.db.collection('notes').subscribe((rows) => (window.shown = rows));
    });
  }

  // Each tab counts in a field of its own and in one that both write; both poke the worker on the way.
  const write = (tab) => tabs[tab].evaluate(async ([tab, shared, writesEach]) => {
    const notes = lab.db.collection('notes');
    const flush = () => navigator.serviceWorker.controller.postMessage({ type: 'landfall-flush', database: 'landfall:lab:ada' });
    for (let n = 1; n <= writesEach; n++) {
      const id = `shared${n % shared}`;
      await Promise.all([
        notes.get(id).then((there) => (there ? notes.update(id, { [tab]: n, last: `${tab} ${n}` }) : notes.put({ id, title: id, [tab]: n, last: `${tab} ${n}` }))),
        notes.put({ id: `${tab}${n}`, title: `Only ${tab} wrote this` }),
      ]);
      if (n % 10 === 0) {
        flush();
        void lab.db.sync.now();
      }
    }
  }, [tab, shared, writesEach]);
  await left.evaluate(([shared]) => Promise.all(Array.from({ length: shared }, (_, i) => lab.db.collection('notes').put({ id: `shared${i}`, title: `shared${i}` }))), [shared]);
  await eventually(async () => Object.keys(await view(right, 'notes')).length, noticedMs).toBe(shared);
  await Promise.all([write('left'), write('right')]);

  const shown = (page) => page.evaluate(() => window.shown);
  const sorted = (rows) => canonical([...rows].sort((a, b) => (a.id < b.id ? -1 : 1)));
  await eventually(async () => sorted(await shown(left)) === sorted(await shown(right)), noticedMs).toBe(true);

  await Promise.all([syncNow(left), syncNow(right)]);
  await eventually(async () => [(await status(left)).pending, (await status(right)).pending]).toEqual([0, 0]);
  const stored = await server.records('user:ada', 'notes');
  expect(stored).toHaveLength(shared + 2 * writesEach);
  const own = stored.filter(({ id }) => !id.startsWith('shared'));
  expect(own.filter(({ version }) => version !== 1)).toEqual([]);
  for (let i = 0; i < shared; i++) {
    const { fields } = stored.find(({ id }) => id === `shared${i}`);
    const last = writesEach - (i === 0 ? 0 : shared - i);
    expect(fields).toMatchObject({ left: last, right: last });
    expect(fields.last).toMatch(new RegExp(`^(left|right) ${last}$`));
  }
  const atServer = sorted(stored.map(({ id, fields }) => ({ id, ...fields })));
  for (const page of [left, right]) {
    await eventually(async () => sorted(await shown(page)) === atServer).toBe(true);
    expect(await conflicts(page)).toEqual([]);
    expect(await page.evaluate(() => told)).toEqual([]);
    expect(await status(page)).toMatchObject({ parked: 0, conflicts: 0, failed: 0 });
  }
  const audit = await expectOnceAndInOrder(server, 'ada');
  expect(audit.filter((row) => row.status !== 'applied')).toEqual([]);
});

test('d: l5: what one tab has stored the other one shows within a second', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const left = await device.lab('ada');
  const right = await device.lab('ada', { login: false });
  await right.evaluate(() => {
    window.shownAt = {};
    lab.db.collection('notes').subscribe((rows) => rows.forEach(({ id }) => (shownAt[id] ??= Date.now())));
  });
  const took = [];
  for (let n = 0; n < 9; n++) {
    const id = `timed${n}`;
    const storedAt = await left.evaluate((id) => lab.db.collection('notes').put({ id, title: id }).then(() => Date.now()), id);
    await eventually(() => right.evaluate((id) => shownAt[id], id), noticedMs).toBeDefined();
    took.push((await right.evaluate((id) => shownAt[id], id)) - storedAt);
  }
  // The middle one: single notices may meet a machine that does something else.
  expect(took.sort((a, b) => a - b)[4]).toBeLessThan(1_000);
});
