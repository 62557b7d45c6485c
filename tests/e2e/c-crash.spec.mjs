// Scenario c: the renderer dies right after a write's promise resolved. The write is there on restart, and it arrives.

import { put, status, view } from './support/device.mjs';
import { eventually, expect, expectOnceAndInOrder, random, test } from './support/test.mjs';

const rounds = 50;
const seed = 20261121;

/** Ends the renderer as a bug in it would. */
async function crash(page) {
  const crashed = page.waitForEvent('crash');
  const session = await page.context().newCDPSession(page);
  // The dying renderer does not answer.
  session.send('Page.crash').catch(() => {});
  await crashed;
  await page.close();
}

test(`c: l1 l2 s1: of ${rounds} tabs killed at random moments every write that had resolved is there and arrives once`, async ({ server, newDevice }) => {
  // Each round is a page that is opened, looked at and killed.
  test.setTimeout(900_000);
  const device = await newDevice(server.origin);
  const next = random(seed);
  const resolved = new Set();
  // The first of them: a long list says no more.
  const missing = (seen) => [...resolved].filter((id) => !(id in seen)).slice(0, 5);
  let wanted = 0;
  let enough;
  await device.context.exposeFunction('resolvedWrite', (id) => {
    resolved.add(id);
    if (resolved.size >= wanted) enough?.();
  });
  await (await device.lab('ada')).close();
  for (let round = 0; round < rounds; round++) {
    const page = await device.lab('ada', { login: false });
    const seen = await view(page, 'notes');
    expect(missing(seen), `round ${round}`).toEqual([]);
    wanted = resolved.size + 1 + Math.floor(next() * 12);
    const reached = new Promise((done) => (enough = done));
    // Writes go on while the renderer dies, a hundred at most; `gap` many are under way at any time.
    await page.evaluate(([round, gap]) => {
      let n = 0;
      const write = async () => {
        if (n === 100) return;
        const id = `r${round}-${n++}`;
        await lab.db.collection('notes').put({ id, title: id });
        resolvedWrite(id);
        write();
      };
      for (let i = 0; i < gap; i++) write();
    }, [round, 1 + Math.floor(next() * 4)]);
    await reached;
    await crash(page);
  }

  const page = await device.lab('ada');
  const seen = await view(page, 'notes');
  expect(missing(seen)).toEqual([]);
  await eventually(async () => (await status(page)).pending).toBe(0);
  const stored = await server.records('user:ada', 'notes');
  // A write whose promise was still open may be there or not, but here and at the server alike.
  expect(stored.map(({ id }) => id).sort()).toEqual(Object.keys(await view(page, 'notes')).sort());
  expect([...resolved].filter((id) => !stored.some((record) => record.id === id))).toEqual([]);
  expect(stored.filter(({ version }) => version !== 1)).toEqual([]);
  await expectOnceAndInOrder(server, 'ada');
});

test('c: l1 l2: the whole browser is closed with unsent writes and flushes them when it starts again, with no page opened', async ({ server, network, newDevice }) => {
  const device = await newDevice(network.origin);
  const page = await device.lab('ada');
  await device.offline();
  await put(page, 'notes', { id: 'n', title: 'Written before the end' });
  // A browser that ends may lift its switch for offline first, and be quick.
  network.cut();
  await device.close();
  expect(await server.records('user:ada')).toEqual([]);
  network.mend();
  await device.start();
  await eventually(async () => (await server.records('user:ada')).map(({ id }) => id)).toEqual(['n']);
});
