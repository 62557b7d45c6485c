// What became of pushes and pulls, kept over reloads, with the worker's part; and how long a request may take.

import { put, reload, status } from './support/device.mjs';
import { eventually, expect, test } from './support/test.mjs';

const history = (page) => page.evaluate(() => lab.db.sync.history());
const pushes = async (page) => (await history(page)).filter(({ step, result }) => step === 'push' && result === 'done').map(({ applied }) => applied);

test('history: pushes and pulls are kept over a reload, and a wipe leaves nothing of them', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await device.lab('ada');
  await put(page, 'notes', { id: 'secret-id', title: 'the secret' });
  await eventually(() => pushes(page)).toEqual([1]);
  await eventually(async () => (await history(page))[0].step).toBe('pull');
  const before = await history(page);
  expect(before.every(({ at, ms }) => at > 0 && ms >= 0)).toBe(true);
  await reload(page);
  const after = await history(page);
  expect(after.slice(-before.length)).toEqual(before);
  const metrics = await page.evaluate(() => lab.db.sync.metrics());
  expect(metrics).toMatchObject({ successRate: 1, failureRate: 0, conflictRate: 0, pending: 0, parked: 0, connectivity: 'online' });
  expect(metrics.lastSuccess).toBeGreaterThan(0);
  const bundle = await page.evaluate(async () => (await lab.db.supportBundle()).text());
  expect(bundle).not.toContain('the secret');
  expect(JSON.parse(bundle)).toMatchObject({ status: { phase: expect.any(String) }, inspection: { outbox: { parked: 0 } }, metrics: { failureRate: 0 } });
  await page.evaluate(() => lab.db.logout({ unsynced: 'wipe' }));
  await eventually(() => page.evaluate(async () => (await indexedDB.databases()).map(({ name }) => name).filter((name) => name.includes('ada')))).toEqual([]);
});

test('history: what the worker sent with no page open is in it', { tag: '@chromium' }, async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await device.lab('ada');
  await eventually(async () => (await status(page)).lastSync).not.toBeNull();
  await device.offline();
  for (const id of ['a', 'b']) await put(page, 'notes', { id, title: id });
  await device.blank();
  await device.offline(false);
  await eventually(async () => (await server.records('user:ada')).length).toBe(2);
  const again = await device.lab('ada', { login: false });
  await eventually(() => pushes(again)).toEqual([2]);
});

test('history: a push whose answer does not begin within thirty seconds is given up and sent again', async ({ server, network, newDevice }) => {
  const device = await newDevice(network.origin);
  await device.context.clock.install();
  const page = await device.lab('ada');
  await page.evaluate(async () => {
    await lab.openAs('ada', { serviceWorker: false });
    await lab.login('ada', 'landfall');
  });
  await eventually(async () => (await status(page)).lastSync).not.toBeNull();
  const held = [];
  const asked = [];
  network.accident = (path) => {
    asked.push(path);
    return /\/(push|status)$/.test(path) ? new Promise((resolve) => held.push(() => resolve('refuse'))) : 'pass';
  };
  await put(page, 'notes', { id: 'a', title: 'a' });
  await eventually(async () => {
    await page.clock.runFor(300);
    return asked.filter((path) => path.endsWith('/push')).length;
  }).toBe(1);
  await page.clock.runFor('00:29');
  const lost = async () => (await history(page)).find(({ step, result }) => step === 'push' && result === 'lost');
  expect(await lost()).toBeUndefined();
  await page.clock.runFor('00:02');
  await eventually(async () => lost()).toMatchObject({ applied: 0, code: null });
  const { ms } = await lost();
  expect(ms).toBeGreaterThanOrEqual(29_000);
  expect(ms).toBeLessThanOrEqual(32_000);
  network.accident = () => 'pass';
  held.forEach((release) => release());
  await eventually(async () => {
    await page.clock.runFor('00:05');
    return (await server.records('user:ada')).map(({ id }) => id);
  }).toEqual(['a']);
});

test('history: large bodies are compressed from the size on that the app names', async ({ server, newDevice }) => {
  // Without a worker: one that starts just then sends what waits, and its requests are not the page's.
  const device = await newDevice(server.origin, { serviceWorkers: 'block' });
  for (const [gzipAboveBytes, encoding] of [[undefined, 'gzip'], [1_000_000, undefined]]) {
    const page = await device.context.newPage();
    await page.goto('/lab.html');
    const sent = [];
    page.on('request', (request) => {
      if (request.url().endsWith('/sync/push')) sent.push(request.headers()['content-encoding']);
    });
    await page.evaluate(async ([gzipAboveBytes, name]) => {
      await lab.openAs('ada', { name, serviceWorker: false, ...(gzipAboveBytes && { gzipAboveBytes }) });
      await lab.login('ada', 'landfall');
    }, [gzipAboveBytes, `gzip${gzipAboveBytes}`]);
    await put(page, 'notes', { id: `large${gzipAboveBytes}`, title: 'x', body: 'word '.repeat(1000) });
    await eventually(() => sent.length).toBe(1);
    expect(sent).toEqual([encoding]);
    await eventually(async () => (await status(page)).pending).toBe(0);
    await page.close();
  }
});
