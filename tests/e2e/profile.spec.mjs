// What happens to a profile or to the server's data behind the engine's back: copies, backups, full disks, logouts.

import { conflicts, outbox, password, put, putAll, ready, reload, status, syncNow, update, view } from './support/device.mjs';
import { canonical, eventually, expect, expectOnceAndInOrder, fieldsById, test } from './support/test.mjs';

const titles = async (server) => Object.fromEntries((await server.records('user:ada', 'notes')).map(({ id, fields }) => [id, fields.title]));
const shownTitles = async (page) => Object.fromEntries(Object.values(await view(page, 'notes')).map(({ id, title }) => [id, title]));
const atRest = async (page) => {
  const { pending, parked, auth } = await status(page);
  return { pending, parked, auth };
};
const resting = { pending: 0, parked: 0, auth: 'ok' };

test('profile: s1 s3: a copied profile becomes a client of its own; nothing of either is lost or doubled', async ({ server, newDevice }) => {
  const original = await newDevice(server.origin);
  const page = await original.lab('ada');
  await put(page, 'notes', { id: 'n', title: 'Known to both' });
  await eventually(() => atRest(page)).toEqual(resting);
  await original.offline();
  await put(page, 'notes', { id: 'before', title: 'Written before the copy' });
  await original.close();
  const copy = await newDevice(server.origin, { profile: original });
  await original.start();
  // Both have the same client and the same next number, and use it for different writes.
  await Promise.all([original.offline(), copy.offline()]);
  const [left, right] = await Promise.all([original.lab('ada', { login: false }), copy.lab('ada', { login: false })]);
  await put(left, 'notes', { id: 'left', title: 'left' });
  await put(right, 'notes', { id: 'right', title: 'right' });
  await update(right, 'notes', 'n', { title: 'Changed in the copy' });
  await original.offline(false);
  await eventually(() => atRest(left)).toEqual(resting);
  await copy.offline(false);
  await eventually(() => atRest(right)).toEqual(resting);
  const all = { n: 'Changed in the copy', before: 'Written before the copy', left: 'left', right: 'right' };
  expect(await titles(server)).toEqual(all);
  for (const shown of [left, right]) await eventually(() => shownTitles(shown)).toEqual(all);
  expect(new Set((await server.ledger('ada')).clients.map(({ client_id }) => client_id)).size).toBe(2);
  await expectOnceAndInOrder(server, 'ada');
});

test('profile: r6: after a restored backup the acknowledged writes that it lost are sent again and said, unsent ones stay, and both devices converge', async ({ server, newDevice }) => {
  const [device, other] = await Promise.all([newDevice(server.origin), newDevice(server.origin)]);
  const [page, reader] = await Promise.all([device.lab('ada'), other.lab('ada')]);
  await put(page, 'notes', { id: 'old', title: 'In the backup' });
  await eventually(() => atRest(page)).toEqual(resting);
  await server.backUp();
  await putAll(page, 'notes', Array.from({ length: 20 }, (_, i) => ({ id: `lost${i}`, title: `Lost ${i}` })));
  await update(page, 'notes', 'old', { title: 'Changed after it' });
  await eventually(() => atRest(page)).toEqual(resting);
  await eventually(async () => Object.keys(await view(reader, 'notes')).length).toBe(21);
  await page.evaluate(() => {
    window.told = [];
    lab.db.sync.on('storage', (event) => told.push(event));
  });
  await device.offline();
  await put(page, 'notes', { id: 'unsent', title: 'Never sent' });
  await server.restore();
  expect(await titles(server)).toEqual({ old: 'In the backup' });
  await device.offline(false);
  await eventually(async () => (await server.records('user:ada', 'notes')).length).toBe(22);
  await eventually(() => atRest(page)).toEqual(resting);
  expect(await titles(server)).toMatchObject({ old: 'Changed after it', lost0: 'Lost 0', unsent: 'Never sent' });
  const stored = fieldsById(await server.records('user:ada', 'notes'));
  for (const shown of [page, reader]) {
    await eventually(async () => Object.fromEntries(Object.values(await view(shown, 'notes')).map(({ id, state, ...fields }) => [id, canonical(fields)]))).toEqual(stored);
  }
  expect(await page.evaluate(() => told.filter(({ code }) => code === 'requeued').map(({ count }) => count))).toEqual([21]);
});

test('profile: l3: a full disk refuses the write with a code, loses nothing that was stored, and mends when there is room', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  // Before the database is opened: Chromium remembers for half a minute how much room there was.
  const plain = await device.context.newPage();
  await plain.goto('/');
  const session = await device.context.newCDPSession(plain);
  await session.send('Storage.overrideQuotaForOrigin', { origin: server.origin, quotaSize: 4_000_000 });
  const page = await device.lab('ada');
  await device.offline();
  await put(page, 'notes', { id: 'before', title: 'before' });
  // Random, because what can be compressed takes no room.
  const fill = (id) => page.evaluate((id) => {
    const text = Array.from({ length: 100_000 }, () => Math.random().toString(36)[2]).join('');
    return lab.db.collection('movies').put({ id, text }).then(() => 'stored', (error) => error.code);
  }, id);
  const answers = [];
  for (let i = 0; i < 60 && !answers.includes('quota_exceeded'); i++) answers.push(await fill(`m${i}`));
  expect(answers).toContain('quota_exceeded');
  const refused = `m${answers.indexOf('quota_exceeded')}`;
  expect((await status(page)).storage.state).toBe('quota');
  expect(Object.keys(await view(page, 'movies'))).not.toContain(refused);
  await session.send('Storage.overrideQuotaForOrigin', { origin: server.origin });
  await put(page, 'notes', { id: 'after', title: 'after' });
  await reload(page);
  expect(await status(page)).toMatchObject({ pending: answers.length + 1, storage: { state: 'ok' } });
  expect(await shownTitles(page)).toEqual({ before: 'before', after: 'after' });
  await device.offline(false);
  await eventually(() => atRest(page)).toEqual(resting);
  expect(await titles(server)).toEqual({ before: 'before', after: 'after' });
  expect((await server.records('user:ada', 'movies')).map(({ id }) => id)).not.toContain(refused);
});

test('profile: s1 r1: sync.now() in two tabs at once sends everything once, ends in both and calls nothing an error', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const left = await device.lab('ada');
  const right = await device.lab('ada', { login: false });
  for (let round = 0; round < 5; round++) {
    await Promise.all([left, right].map((page, i) => putAll(page, 'notes', Array.from({ length: 30 }, (_, n) => ({ id: `${i}-${round}-${n}`, title: 'x' })))));
    const results = await Promise.all([left, right, left].map(syncNow));
    expect(results.map(({ error, pending, rejected }) => ({ error, pending, rejected }))).toEqual(Array(3).fill({ error: null, pending: 0, rejected: 0 }));
  }
  expect(await server.records('user:ada')).toHaveLength(300);
  expect(await syncNow(left)).toMatchObject({ pushed: 0, pulled: 0, error: null });
  await expectOnceAndInOrder(server, 'ada');
});

test('profile: r1: sync.now() without a network or a server is a result that says so', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await device.lab('ada');
  await put(page, 'notes', { id: 'n', title: 'x' });
  expect(await syncNow(page)).toMatchObject({ pending: 0, error: null });
  await device.offline();
  await put(page, 'notes', { id: 'm', title: 'x' });
  expect(await syncNow(page)).toMatchObject({ pushed: 0, pending: 1, error: 'offline' });
  await device.offline(false);
  await eventually(() => atRest(page)).toEqual(resting);
  await server.kill();
  await put(page, 'notes', { id: 'o', title: 'x' });
  const { error, pending } = await syncNow(page);
  expect(pending).toBe(1);
  expect(error).not.toBeNull();
  await server.start();
  expect(await syncNow(page)).toMatchObject({ pending: 0, error: null });
});

test('profile: r5 l5: deletes, recreations and a create that is deleted before it is sent end as they were meant', async ({ server, newDevice }) => {
  const [device, other] = await Promise.all([newDevice(server.origin), newDevice(server.origin)]);
  const [page, reader] = await Promise.all([device.lab('ada'), other.lab('ada')]);
  await putAll(page, 'notes', ['gone', 'again', 'stays'].map((id) => ({ id, title: id })));
  await eventually(async () => Object.keys(await view(reader, 'notes')).length).toBe(3);
  await device.offline();
  // A worker that is woken late for the writes before would store a batch of what is there by then, and that goes as it is.
  await page.evaluate(() =>
    navigator.locks.request('landfall:lab:ada:push', async () => {
      const notes = lab.db.collection('notes');
      await notes.delete('gone');
      await notes.delete('again');
      await notes.put({ id: 'again', title: 'A second life' });
      await notes.put({ id: 'brief', title: 'Never leaves' });
      await notes.update('brief', { title: 'Still here' });
      await notes.delete('brief');
    }),
  );
  const meant = { again: 'A second life', stays: 'stays' };
  expect(await shownTitles(page)).toEqual(meant);
  await reload(page);
  expect(await shownTitles(page)).toEqual(meant);
  await device.offline(false);
  await eventually(() => atRest(page)).toEqual(resting);
  expect(await titles(server)).toEqual(meant);
  await eventually(() => shownTitles(reader)).toEqual(meant);
  expect(await shownTitles(page)).toEqual(meant);
  expect(await conflicts(page)).toEqual([]);
  // Never sent: nothing of it was ever decided.
  expect((await server.ledger('ada')).audit.filter(({ id }) => id === 'brief')).toEqual([]);
});

test('profile: i2: logout asks before it loses anything, keeps or wipes as told, and other tabs follow', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await device.lab('ada');
  const second = await device.lab('ada', { login: false });
  await device.offline();
  await put(page, 'notes', { id: 'n', title: 'unsent' });
  const logout = (on, unsynced) => on.evaluate((unsynced) => lab.db.logout(unsynced && { unsynced }).then(() => 'gone', (error) => [error.code, error.details?.count]), unsynced);
  expect(await logout(page)).toEqual(['unsynced_writes', 1]);
  expect(await shownTitles(page)).toEqual({ n: 'unsent' });
  expect(await logout(page, 'keep')).toBe('gone');
  expect(await page.evaluate(() => lab.db.collection('notes').put({ title: 'x' }).catch((error) => error.code))).toBe('closed');
  await reload(page);
  expect(await shownTitles(page)).toEqual({ n: 'unsent' });

  expect(await logout(page, 'wipe')).toBe('gone');
  await eventually(async () => (await status(second)).storage.state).toBe('closed');
  await device.offline(false);
  await reload(page);
  await page.evaluate((password) => lab.login('ada', password), password);
  await eventually(async () => (await status(page)).lastSync).not.toBeNull();
  expect(await shownTitles(page)).toEqual({});
  expect(await outbox(page)).toEqual([]);
  expect(await server.records('user:ada')).toEqual([]);
});

test('profile: r4: a live query over a large first pull ends with all of it and never goes back', async ({ server, newDevice }) => {
  const [device, other] = await Promise.all([newDevice(server.origin), newDevice(server.origin)]);
  const notes = Array.from({ length: 2500 }, (_, i) => ({ id: `n${i}`, title: `Note ${i}` }));
  const writer = await device.lab('ada');
  await putAll(writer, 'notes', notes);
  await eventually(async () => (await server.records('user:ada')).length).toBe(2500);
  const page = await other.context.newPage();
  await page.goto('/lab.html?user=ada&name=lab');
  await ready(page);
  await page.evaluate(() => {
    window.counts = [];
    lab.db.collection('notes').subscribe((rows) => counts.push(rows.length));
  });
  await page.evaluate((password) => lab.login('ada', password), password);
  await eventually(async () => (await page.evaluate(() => counts)).at(-1)).toBe(2500);
  const counts = await page.evaluate(() => counts);
  expect(counts).toEqual([...counts].sort((a, b) => a - b));
});

test('profile: r2 r3: two tabs of two versions of an app, one of which knows a collection more, lose nothing to one another', async ({ server, newDevice }) => {
  const [device, other] = await Promise.all([newDevice(server.origin), newDevice(server.origin)]);
  const writer = await other.lab('ada');
  const old = await device.lab('ada');
  const fresh = await device.lab('ada', { login: false });
  await old.evaluate(() => lab.openAs('ada', { collections: { notes: {} } }).then(() => undefined));
  for (let round = 0; round < 5; round++) {
    await put(writer, 'movies', { id: `m${round}`, round });
    await put(writer, 'notes', { id: `n${round}`, title: 'x' });
    await put(fresh, 'movies', { id: `own${round}`, round });
    await put(old, 'notes', { id: `old${round}`, title: 'x' });
    await eventually(async () => Object.keys(await view(old, 'notes')).length).toBe(2 * (round + 1));
    await eventually(async () => Object.keys(await view(fresh, 'movies')).length).toBe(2 * (round + 1));
    await eventually(() => atRest(fresh)).toEqual(resting);
  }
  expect(await server.records('user:ada', 'movies')).toHaveLength(10);
  expect(await outbox(fresh)).toEqual([]);
  expect(await status(fresh)).toMatchObject({ parked: 0, failed: 0, conflicts: 0, storage: { quarantined: 0 } });
});

test('profile: l1 l5: a page that opens while the worker sends thousands of writes shows all of them', async ({ server, network, newDevice }) => {
  const device = await newDevice(network.origin);
  const page = await device.lab('ada');
  await device.offline();
  await putAll(page, 'notes', Array.from({ length: 3000 }, (_, i) => ({ id: `n${i}`, title: `Note ${i}` })));
  await device.blank();
  // However fast it is, the first page opens before it is done.
  let opens;
  const isOpened = new Promise((done) => (opens = done));
  network.accident = async (path) => {
    if (path === '/v1/sync/push' && (await server.records('user:ada')).length > 500) await isOpened;
    return 'pass';
  };
  await device.offline(false);
  await eventually(async () => (await server.records('user:ada')).length).toBeGreaterThan(500);
  const counts = [];
  // Some pages say enough: each takes over sending from the worker and is closed in the middle of it, which is slow.
  while (counts.length < 8 && (await server.records('user:ada')).length < 3000) {
    const opened = await device.lab('ada', { login: false, slowness: 4 });
    opens();
    counts.push(Object.keys(await view(opened, 'notes')).length);
    await opened.close();
  }
  expect(counts.filter((count) => count !== 3000)).toEqual([]);
  expect(counts.length).toBeGreaterThan(0);
  const last = await device.lab('ada', { login: false });
  await eventually(async () => (await status(last)).pending, 180_000).toBe(0);
  expect(await server.records('user:ada')).toHaveLength(3000);
});
