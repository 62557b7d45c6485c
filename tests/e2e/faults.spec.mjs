// IndexedDB fails: each kind of transaction, in each way that browsers have. What was acknowledged is there after reopening
// and once at the server, the status says what is wrong, and it gets well by itself.

import { password, put, putAll, status, syncNow, view } from './support/device.mjs';
import { installFaults, ways } from './support/faults.mjs';
import { eventually, expect, expectOnceAndInOrder, test } from './support/test.mjs';

/** A device whose pages have `faults` and no worker beside them. */
async function faultyDevice(newDevice, { origin }) {
  const device = await newDevice(origin, { serviceWorkers: 'block' });
  await device.context.addInitScript(installFaults);
  return device;
}

async function open(device, { login = true } = {}) {
  const page = await device.context.newPage();
  await page.goto('/lab.html?user=ada&name=lab');
  await page.evaluate(() => lab.ready);
  if (login) await page.evaluate((password) => lab.login('ada', password), password);
  return page;
}

const ids = async (page) => Object.keys(await view(page, 'notes')).sort();
const stored = async (server) => (await server.records('user:ada', 'notes')).map(({ id, version }) => [id, version]).sort();
const once = (ids) => [...ids].sort().map((id) => [id, 1]);
const next = (page, name, how, times = 1) => page.evaluate((rule) => faults.next(...rule), [name, how, times]);
const hits = (page) => page.evaluate(() => faults.hits);
const atRest = async (page) => {
  const { pending, parked, storage } = await status(page);
  return { pending, parked, storage: storage.state, quarantined: storage.quarantined };
};
const resting = { pending: 0, parked: 0, storage: 'ok', quarantined: 0 };
/** `stored`, or the code of the error. */
const write = (page, id) => page.evaluate((id) => lab.db.collection('notes').put({ id, title: id }).then(() => 'stored', (error) => error.code), id);

test('faults: l1 l2 l3: a write whose transaction fails in any way is stored once, or refused and nowhere', async ({ server, network, newDevice }) => {
  const device = await faultyDevice(newDevice, network);
  const page = await open(device);
  network.accident = (path) => (path.startsWith('/v1/sync') ? 'refuse' : 'pass');
  const answers = {};
  for (const how of ways) {
    await next(page, 'append', how);
    answers[how] = await write(page, how);
    if (how === 'quota') expect((await status(page)).storage.state).toBe('quota');
    // The next one does not know of it.
    expect(await write(page, `after-${how}`)).toBe('stored');
    expect((await status(page)).storage.state).toBe('ok');
  }
  const lives = ways.filter((how) => how !== 'quota');
  expect(answers).toEqual({ ...Object.fromEntries(lives.map((how) => [how, 'stored'])), quota: 'quota_exceeded' });
  expect(await hits(page)).toEqual(ways.map((how) => `append ${how}`));
  const wanted = [...lives, ...ways.map((how) => `after-${how}`)];
  expect(await ids(page)).toEqual([...wanted].sort());

  await page.close();
  const again = await open(device, { login: false });
  expect(await ids(again)).toEqual([...wanted].sort());
  network.accident = () => 'pass';
  await eventually(() => atRest(again)).toEqual(resting);
  expect(await stored(server)).toEqual(once(wanted));
  await expectOnceAndInOrder(server, 'ada');
});

test('faults: l1 l3: while no transaction begins writes are refused and the status says so; while one’s fate is unknown its promise stays open; then all is well', async ({ server, newDevice }) => {
  const device = await faultyDevice(newDevice, server);
  const page = await open(device);
  await device.offline();
  await page.evaluate(() => faults.always('append', 'closed'));
  expect(await write(page, 'refused')).toBe('storage_failed');
  expect((await status(page)).storage).toMatchObject({ state: 'storage_failed', message: expect.stringContaining('InvalidStateError') });

  await page.evaluate(() => {
    faults.clear();
    faults.next('append', 'lostAfter');
    faults.always('read', 'closed');
    window.fate = 'open';
    lab.db.collection('notes').put({ id: 'unknown', title: 'x' }).then(() => (fate = 'stored'), (error) => (fate = error.code));
  });
  await eventually(async () => (await status(page)).storage.message).toContain('the fate of the last write is not known yet');
  expect(await page.evaluate(() => fate)).toBe('open');
  await page.evaluate(() => faults.clear());
  await eventually(() => page.evaluate(() => fate)).toBe('stored');
  expect((await status(page)).storage.state).toBe('ok');
  expect(await ids(page)).toEqual(['unknown']);
  await device.offline(false);
  await eventually(() => atRest(page)).toEqual(resting);
  expect(await stored(server)).toEqual(once(['unknown']));
});

for (const name of ['descriptor', 'settle']) {
  test(`faults: s1 l4: a ${name} that fails in any way sends nothing twice and loses nothing`, async ({ server, newDevice }) => {
    const device = await faultyDevice(newDevice, server);
    const page = await open(device);
    for (const how of ways) {
      await next(page, name, how);
      await put(page, 'notes', { id: how, title: how });
      await eventually(() => atRest(page)).toEqual(resting);
    }
    // No room for longer: it waits, perhaps a moment only, and says why.
    await page.evaluate(() => {
      window.told = new Set();
      lab.db.sync.on('status', ({ storage }) => told.add(storage.state));
    });
    await next(page, name, 'quota', 3);
    await put(page, 'notes', { id: 'late', title: 'late' });
    await eventually(() => atRest(page)).toEqual(resting);
    expect(await page.evaluate(() => [...told])).toContain('quota');
    expect(await hits(page)).toEqual([...ways, 'quota', 'quota', 'quota'].map((how) => `${name} ${how}`));
    const wanted = [...ways, 'late'];
    expect(await stored(server)).toEqual(once(wanted));
    await expectOnceAndInOrder(server, 'ada');
    await page.close();
    const again = await open(device, { login: false });
    expect(await atRest(again)).toEqual(resting);
    expect(await ids(again)).toEqual([...wanted].sort());
  });
}

test('faults: r2 r3: a pulled page that cannot be stored in any way is pulled again', async ({ server, newDevice }) => {
  const [device, other] = [await faultyDevice(newDevice, server), await newDevice(server.origin)];
  const [page, writer] = [await open(device), await other.lab('ada')];
  for (const how of ways) {
    await next(page, 'checkpoint', how, how === 'quota' ? 2 : 1);
    await put(writer, 'notes', { id: how, title: how });
    await eventually(async () => (await stored(server)).length).toBe(ways.indexOf(how) + 1);
    // A poke may have said it already.
    if (how === 'quota') {
      await eventually(async () => (await hits(page)).filter((hit) => hit === 'checkpoint quota').length).toBeGreaterThan(0);
    }
    await eventually(() => ids(page)).toEqual(ways.slice(0, ways.indexOf(how) + 1).sort());
    await eventually(() => atRest(page)).toEqual(resting);
  }
  expect(new Set(await hits(page))).toEqual(new Set(ways.map((how) => `checkpoint ${how}`)));
  await page.close();
  expect(await ids(await open(device, { login: false }))).toEqual([...ways].sort());
});

test('faults: r2 i3: a step of compaction that fails leaves every record there once', async ({ server, newDevice }) => {
  const device = await faultyDevice(newDevice, server);
  const page = await open(device);
  const reopen = (page) => page.evaluate(() => lab.openAs('ada', { collections: { notes: { indexes: ['title'] } } }).then(() => undefined));
  await reopen(page);
  // The first ends its step; the others happen to the next one and its repetitions.
  const all = ['compaction', 'index'].flatMap((name) => ['quota', 'closed', 'lostBefore', 'lostAfter'].map((how) => `${name} ${how}`));
  for (const hit of all) await next(page, ...hit.split(' '));
  // Runs that lie across each other: eight of a level are merged, of records and of an index.
  const wanted = new Set();
  for (let round = 0; (await hits(page)).length < all.length; round++) {
    const ids = [`a${round % 3}`, `m${round}`, `z${round % 5}`];
    ids.forEach((id) => wanted.add(id));
    await putAll(page, 'notes', ids.map((id) => ({ id, title: `${(round * 7) % 20}` })));
    expect((await syncNow(page)).pending).toBe(0);
  }
  expect((await hits(page)).sort()).toEqual([...all].sort());
  await put(page, 'notes', { id: 'last', title: 'x' });
  await eventually(() => atRest(page)).toEqual(resting);
  const found = (page) => page.evaluate(() => lab.db.collection('notes').query({ orderBy: 'title' }).get().then((rows) => rows.map(({ id }) => id).sort()));
  expect(await found(page)).toEqual([...wanted, 'last'].sort());
  await page.close();
  const again = await open(device, { login: false });
  await reopen(again);
  expect(await found(again)).toEqual([...wanted, 'last'].sort());
  expect(await again.evaluate(() => lab.db.inspect().then(({ quarantined }) => quarantined))).toEqual([]);
});

test('faults: l1: a database is made although its first transactions fail', async ({ server, newDevice }) => {
  const device = await faultyDevice(newDevice, server);
  for (const [i, how] of ways.entries()) {
    if (how === 'quota') continue;
    const page = await device.context.newPage();
    await page.addInitScript((how) => ['open', 'options', 'read'].forEach((name) => faults.next(name, how)), how);
    await page.goto(`/lab.html?user=ada&name=lab${i}`);
    expect(await page.evaluate(() => lab.ready.then(() => 'open', (error) => error.code)), how).toBe('open');
    expect((await hits(page)).slice(0, 2).sort(), how).toEqual([`open ${how}`, `read ${how}`]);
    await put(page, 'notes', { id: 'n', title: 'x' });
    await page.reload();
    await page.evaluate(() => lab.ready);
    expect(await ids(page), how).toEqual(['n']);
    await page.close();
  }
});

test('faults: l4 s1: a worker’s transactions may fail in any way while no page is open; everything arrives once', { tag: '@chromium' }, async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await device.lab('ada');
  const worker = await device.worker();
  await worker.evaluate(installFaults);
  await device.offline();
  const lives = ways.filter((how) => how !== 'quota');
  const wanted = [...lives, 'quota'];
  for (const id of wanted) await put(page, 'notes', { id, title: id });
  await device.blank();
  await worker.evaluate((lives) => lives.forEach((how) => {
    faults.next('descriptor', how);
    faults.next('settle', how);
  }), lives);
  await device.offline(false);
  await eventually(() => stored(server)).toEqual(once(wanted));
  const seen = await worker.evaluate(() => faults.hits);
  expect(seen.length).toBeGreaterThan(0);
  const again = await device.lab('ada', { login: false });
  await eventually(() => atRest(again)).toEqual(resting);
  expect(await stored(server)).toEqual(once(wanted));
  await expectOnceAndInOrder(server, 'ada');
});
