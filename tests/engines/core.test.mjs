// The core in one browser engine, which LANDFALL_ENGINE names: offline, two tabs, and every way to send where there is no
// Background Sync (in Chromium it is taken away). What is cut is the network between browser and server: not every engine
// has a switch for offline, and some switches leave the worker online.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as elapse } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Chromium } from '../browsers/chromium.mjs';
import { Firefox } from '../browsers/firefox.mjs';
import { WebKit } from '../browsers/webkit.mjs';
import { Server } from '../e2e/support/server.mjs';
import { Network } from '../kill/network.mjs';
import { Pages } from '../kill/pages.mjs';
import { copySite } from '../kill/site.mjs';

const engines = { chromium: [Chromium, 'LANDFALL_CHROMIUM'], firefox: [Firefox, 'LANDFALL_FIREFOX'], webkit: [WebKit, 'LANDFALL_WEBKIT'] };
const name = process.env.LANDFALL_ENGINE ?? 'chromium';
const [Browser, variable] = engines[name];
const root = fileURLToPath(new URL('../..', import.meta.url));
/** Far above what they take: a limit says that something hangs. */
const openMs = 180_000;
const timeout = 600_000;
const pollMs = 50;
/** A trigger sends within this; a retry that it is to be told from is due later. */
const soonMs = 2_500;

let directory;
let site;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'landfall-engine-'));
  site = join(directory, 'site');
  await copySite(resolve(root, process.env.LANDFALL_WWW ?? 'www/dist'), site, { backgroundSync: false });
});
after(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }));
// A display of a browser that is gone would keep this process alive.
after(() => setImmediate(() => process.exit()));

/** A browser with a profile of its own, a server, and the network between them. */
class Stand {
  #profile;
  #browser = new Browser(process.env[variable]);
  #count = 0;

  async start() {
    this.#profile = await mkdtemp(join(directory, 'profile-'));
    this.server = await new Server([], { site }).start();
    this.network = await new Network(this.server.port).start();
    this.pages = new Pages(this.network, undefined, undefined);
    return this;
  }

  /** Starts the browser, or starts it again, with these many lab pages; gives their names. */
  async open(count = 1) {
    const sessions = Array.from({ length: count }, () => `s#${++this.#count}`);
    await this.#browser.start(this.#profile, sessions.map((session) => `${this.network.origin}/lab.html?user=ada&name=kill&session=${encodeURIComponent(session)}`));
    for (const session of sessions) assert.ok(await this.pages.ready(session, openMs), `${session} did not open`);
    return sessions;
  }

  /** Starts the browser with a page that knows nothing of Landfall. */
  openOther(path) {
    return this.#browser.start(this.#profile, [this.network.origin + path]);
  }

  /** The browser ends at once. */
  async end() {
    await this.#browser.kill();
    await this.network.quiet();
  }

  ask(session, order, given) {
    return this.pages.ask(session, order, given);
  }

  async ids() {
    return (await this.server.records('user:ada', 'notes')).map(({ id }) => id).sort();
  }

  /** The server has them. */
  async arrives(...ids) {
    await eventually(async () => (await this.ids()).filter((id) => ids.includes(id)).length === ids.length);
  }

  async remove() {
    await this.#browser.kill();
    await this.network.remove();
    await this.server.remove();
  }
}

async function eventually(fact, ms = 180_000) {
  for (const deadline = Date.now() + ms; ; await elapse(pollMs)) {
    if (await fact()) return Date.now();
    assert.ok(Date.now() < deadline, `not within ${ms} ms: ${fact}`);
  }
}

const shownBy = async (stand, session) => (await stand.ask(session, 'look')).rows.map(({ id }) => id).sort();

/** A test with a stand whose first page is signed in and has a worker. */
function standing(title, work, skip) {
  test(`${name}: ${title}`, { timeout, skip }, async () => {
    const stand = await new Stand().start();
    try {
      const [page] = await stand.open();
      await stand.ask(page, 'begin', { hots: [] });
      await work(stand, page);
      // S1, S4: whoever sent it, and however often: each mutation was decided once.
      const { audit } = await stand.server.ledger('ada');
      assert.equal(new Set(audit.map(({ client_id, seq }) => `${client_id} ${seq}`)).size, audit.length);
      assert.deepEqual(audit.filter(({ status }) => status !== 'applied'), []);
      assert.deepEqual(stand.pages.troubles, []);
    } finally {
      await stand.remove();
    }
  });
}

standing('l1 l5: a page opens, reads and writes without a network, after a reload and after the browser was killed, and its writes arrive once', async (stand, page) => {
  await stand.ask(page, 'put', { record: { id: 'a', title: 'a' } });
  await stand.arrives('a');
  stand.network.cut();
  await stand.ask(page, 'put', { record: { id: 'b', title: 'b' } });
  const reloaded = stand.pages.next(page, 'ready', openMs);
  await stand.ask(page, 'reload');
  assert.ok(await reloaded, 'the page did not open again');
  assert.deepEqual(await shownBy(stand, page), ['a', 'b']);
  await stand.ask(page, 'put', { record: { id: 'c', title: 'c' } });
  await stand.end();
  stand.network.cut();
  const [again] = await stand.open();
  assert.deepEqual(await shownBy(stand, again), ['a', 'b', 'c']);
  assert.deepEqual(await stand.ids(), ['a']);
  stand.network.mend();
  await stand.arrives('a', 'b', 'c');
});

standing('l5 s1: two tabs write at once, show one view, and everything arrives once', async (stand) => {
  await stand.end();
  const tabs = await stand.open(2);
  const ids = tabs.flatMap((_, tab) => Array.from({ length: 20 }, (_, n) => `${tab}.${n}`)).sort();
  await Promise.all(ids.map((id) => stand.ask(tabs[Number(id[0])], 'put', { record: { id, title: id } })));
  for (const tab of tabs) await eventually(async () => (await shownBy(stand, tab)).join() === ids.join());
  await stand.arrives(...ids);
});

standing('the page tells the worker what it wrote, and the worker sends it', async (stand, page) => {
  await stand.ask(page, 'mute');
  await stand.ask(page, 'put', { record: { id: 'a', title: 'a' } });
  await stand.arrives('a');
});

standing('a page that leaves tells the worker what it had held back', async (stand, page) => {
  await stand.ask(page, 'mute');
  await stand.ask(page, 'put', { record: { id: 'a', title: 'a' } });
  await stand.arrives('a');
  // It may be gone before it can answer.
  await stand.ask(page, 'leave', { record: { id: 'b', title: 'b' } }).catch(() => {});
  await stand.arrives('b');
  // Nothing is lost there: it goes with the next start of page or worker, as the test below shows.
}, name === 'webkit' && 'WebKitGTK: the last message of a page that leaves does not reach its worker');

standing('s1: without a worker a page that leaves sends once more what was on its way, and it takes effect once', async (stand, page) => {
  await stand.ask(page, 'openAlone');
  await stand.ask(page, 'sync');
  let held = 0;
  // The first one stands in the network until its page is gone, and ends with it.
  stand.network.mood = (path) => (path.endsWith('/push') && ++held === 1 ? { beforeMs: openMs } : {});
  await stand.ask(page, 'put', { record: { id: 'a', title: 'a' } });
  await eventually(() => held === 1);
  await stand.ask(page, 'leave').catch(() => {});
  await stand.arrives('a');
  assert.equal(held, 2);
});

standing('l1: the worker sends when it starts for another reason, with no page of Landfall open after the browser was killed', async (stand, page) => {
  stand.network.cut();
  await stand.ask(page, 'put', { record: { id: 'a', title: 'a' } });
  await stand.end();
  assert.deepEqual(await stand.ids(), []);
  stand.network.mend();
  // The worker answers it from its files, and so is started.
  await stand.openOther('/manifest.webmanifest');
  await stand.arrives('a');
});

standing('without a worker: time alone, the network that is back, focus and the eye of a person make a page sync', async (stand, page) => {
  await stand.ask(page, 'openAlone');
  await stand.ask(page, 'sync');
  const offline = async (id) => {
    stand.network.cut();
    await stand.ask(page, 'put', { record: { id, title: id } });
  };
  const dueIn = async () => ((await stand.ask(page, 'status')).nextAttemptAt ?? 0) - Date.now();

  await offline('a');
  await eventually(async () => (await dueIn()) > 0);
  stand.network.mend();
  await stand.arrives('a');

  // What follows are events of the page: not every engine can be made to lose its network or to look somewhere else.
  await offline('b');
  await eventually(async () => (await dueIn()) > 2 * soonMs);
  stand.network.mend();
  const due = Date.now() + (await dueIn());
  await stand.ask(page, 'fire', { event: 'online' });
  await stand.arrives('b');
  assert.ok(Date.now() < due, `it came ${Date.now() - due} ms after the attempt that was due`);

  let pulledAt = Date.now();
  stand.network.on('asked', (path) => {
    if (path.endsWith('/pull')) pulledAt = Date.now();
  });
  for (const [order, given] of [['fire', { event: 'focus' }], ['lookAway', {}]]) {
    // The timer of pulls takes minutes.
    await eventually(() => Date.now() - pulledAt > soonMs);
    const asked = Date.now();
    await stand.ask(page, order, given);
    await eventually(() => pulledAt >= asked, soonMs);
  }
});
