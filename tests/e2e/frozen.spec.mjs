// Pages that stand still, in the back/forward cache or frozen by the browser: they hold nobody up, and wake to the truth.

import { BareBrowser } from './support/bare.mjs';
import { password, put, putAll, status, syncNow, view } from './support/device.mjs';
import { eventually, expect, expectOnceAndInOrder, noticedMs, test } from './support/test.mjs';

const ids = async (page) => Object.keys(await view(page, 'notes')).sort();
const shown = (page) => page.evaluate(() => window.shown);
/** `window.shown`: ids as a live query tells them. */
const watch = (page) => page.evaluate(() => void lab.db.collection('notes').subscribe((rows) => (window.shown = rows.map(({ id }) => id).sort())));
const pendingOf = async (page) => (await status(page)).pending;

test('frozen: l5 r1: a page comes back from the back/forward cache to what another tab wrote, synced and compacted meanwhile, and goes on', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, { ignoreDefaultArgs: ['--disable-back-forward-cache'] });
  const [page, other] = [await device.lab('ada'), await device.lab('ada', { login: false })];
  await put(page, 'notes', { id: 'before', title: 'x' });
  await watch(page);
  // A page that leaves in the middle of a request holds a lock that the other one asks for, and the browser then drops it.
  expect((await syncNow(page)).pending).toBe(0);
  await eventually(async () => (await status(page)).phase).toBe('idle');
  await page.evaluate(() => addEventListener('pageshow', ({ persisted }) => (window.isBack = persisted)));
  await page.goto('/healthz');

  // Runs that lie across each other: eight of them are merged.
  for (let round = 0; round < 10; round++) {
    await putAll(other, 'notes', [`a${round % 3}`, `m${round}`, `z${round % 3}`].map((id) => ({ id, title: `${round}` })));
    expect((await syncNow(other)).pending).toBe(0);
  }
  await eventually(() => other.evaluate(() => lab.db.inspect().then(({ base }) => base.pairs.find(({ collection }) => collection === 'notes').runs))).toBeLessThan(8);
  const wanted = await ids(other);
  expect(wanted).toHaveLength(17);

  await page.evaluate(() => history.back());
  // The very page, not one that was loaded anew.
  await eventually(() => page.evaluate(() => window.isBack ?? null).catch(() => null)).toBe(true);
  await eventually(() => shown(page)).toEqual(wanted);
  await put(page, 'notes', { id: 'after', title: 'x' });
  await eventually(() => ids(other), noticedMs).toEqual([...wanted, 'after'].sort());
  await put(other, 'notes', { id: 'heard', title: 'x' });
  await eventually(() => shown(page), noticedMs).toEqual([...wanted, 'after', 'heard'].sort());
  await eventually(async () => (await server.records('user:ada', 'notes')).length).toBe(19);
  await eventually(() => pendingOf(page)).toBe(0);
  await expectOnceAndInOrder(server, 'ada');
});

/** `await newTab()`: one with an open database, in a browser that really freezes tabs. No worker helps it. */
const bare = test.extend({
  newTab: async ({ network }, use) => {
    const browser = await new BareBrowser(network.origin).start();
    await use(async () => {
      const tab = await browser.tab('/lab.html?user=ada&name=lab', 'delete Navigator.prototype.serviceWorker');
      await eventually(() => tab.evaluate(() => typeof window.lab).catch(() => null)).toBe('object');
      await tab.evaluate(() => lab.ready.then(() => undefined));
      return tab;
    });
    await browser.remove();
  },
});
const login = (tab) => tab.evaluate((password) => lab.login('ada', password), password);

bare('frozen: l5: a tab that was frozen hears nothing, holds nobody up, and shows when it wakes what another wrote', async ({ server, newTab }) => {
  const frozen = await newTab();
  await login(frozen);
  const awake = await newTab();
  await watch(frozen);
  await eventually(() => shown(frozen)).toEqual([]);
  await frozen.evaluate(() => {
    window.ticks = 0;
    setInterval(() => (ticks += 1), 10);
  });
  await frozen.freeze();
  await putAll(awake, 'notes', ['a', 'b'].map((id) => ({ id, title: 'x' })));
  await eventually(() => pendingOf(awake)).toBe(0);
  // What a debugger asks is answered all the same, and a timer says whether the page ran.
  const before = await frozen.evaluate(() => ticks);
  await awake.evaluate(() => new Promise((done) => setTimeout(done, 300)));
  expect(await frozen.evaluate(() => ticks)).toBe(before);
  expect(await shown(frozen)).toEqual([]);

  await frozen.resume();
  await eventually(() => shown(frozen), noticedMs).toEqual(['a', 'b']);
  await put(frozen, 'notes', { id: 'after', title: 'x' });
  await eventually(() => ids(awake)).toEqual(['a', 'after', 'b']);
  await eventually(async () => (await server.records('user:ada', 'notes')).length).toBe(3);
});

bare('frozen: s1 r1: a tab that is frozen in the middle of a push keeps no lock; another sends, and all arrives once', async ({ server, network, newTab }) => {
  const frozen = await newTab();
  await login(frozen);
  const awake = await newTab();
  await eventually(() => frozen.evaluate(() => lab.db.sync.status.cold)).toBe(false);
  // The first push is under way until this test lets it go.
  let letGo;
  const held = new Promise((done) => (letGo = done));
  let isUnderWay = false;
  network.accident = async (path) => {
    if (path === '/v1/sync/push' && !isUnderWay) {
      isUnderWay = true;
      await held;
    }
    return 'pass';
  };
  await frozen.show();
  await put(frozen, 'notes', { id: 'frozen', title: 'x' });
  await eventually(() => isUnderWay).toBe(true);
  await frozen.freeze();

  await put(awake, 'notes', { id: 'awake', title: 'x' });
  // A lock that it had kept would be taken from it after a minute.
  await eventually(async () => (await server.records('user:ada', 'notes')).map(({ id }) => id).sort(), 50_000).toEqual(['awake', 'frozen']);
  await eventually(() => pendingOf(awake)).toBe(0);
  letGo();
  await frozen.resume();
  await eventually(() => pendingOf(frozen)).toBe(0);
  expect(await ids(frozen)).toEqual(['awake', 'frozen']);
  await put(frozen, 'notes', { id: 'after', title: 'x' });
  await eventually(() => ids(awake)).toEqual(['after', 'awake', 'frozen']);
  await eventually(() => pendingOf(frozen)).toBe(0);
  expect((await server.records('user:ada', 'notes')).map(({ id, version }) => [id, version]).sort()).toEqual([['after', 1], ['awake', 1], ['frozen', 1]]);
  await expectOnceAndInOrder(server, 'ada');
});
