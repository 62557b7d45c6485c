// A device: a browser with a profile of its own, which survives the browser.

import { chromium, expect, firefox } from '@playwright/test';
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const executablePath = process.env.LANDFALL_CHROMIUM ?? '/usr/bin/chromium';
export const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** Firefox, where LANDFALL_FIREFOX names one, else Chromium. */
const launch = (profile, options) => {
  const path = process.env.LANDFALL_FIREFOX;
  if (path) return firefox.launchPersistentContext(profile, { channel: 'moz-firefox', executablePath: path, ...options });
  return chromium.launchPersistentContext(profile, { executablePath, args, ...options });
};

export const password = 'landfall';

export class Device {
  #profile;
  #options;
  #copied;
  /** Errors that no code of the page caught. */
  errors = [];
  context;

  /** `profile`: a closed device whose profile is copied. Other options are Playwright's. */
  constructor(origin, { profile, ...options } = {}) {
    this.origin = origin;
    this.#options = options;
    this.#copied = profile;
  }

  async start() {
    this.#profile ??= await this.#newProfile();
    this.context = await launch(this.#profile, { headless: true, baseURL: this.origin, ...this.#options });
    this.context.on('weberror', (error) => {
      // Firefox counts a socket that was not opened among the errors of the page.
      if (!/^Firefox can’t establish a connection|^The connection to ws:/.test(error.error().message)) this.errors.push(error.error());
    });
    return this;
  }

  async #newProfile() {
    const path = await mkdtemp(join(tmpdir(), 'landfall-e2e-profile-'));
    if (this.#copied) await cp(this.#copied.#profile, path, { recursive: true, filter: (file) => !/Singleton/.test(file) });
    return path;
  }

  /** The browser ends; the profile stays, and `start()` continues it. */
  close() {
    return this.context.close();
  }

  /** What a browser does that is short of room: all databases of the closed device go, what is kept elsewhere stays. */
  async evict() {
    await rm(join(this.#profile, 'Default', 'IndexedDB'), { recursive: true });
  }

  /** As a kill in the middle of a write may leave Chromium's files of the closed device: a byte of its log is another one. */
  async damage() {
    const place = join(this.#profile, 'Default', 'IndexedDB');
    const [store] = (await readdir(place)).filter((name) => name.endsWith('.leveldb'));
    const logs = (await readdir(join(place, store))).filter((name) => name.endsWith('.log'));
    for (const log of logs) {
      const bytes = await readFile(join(place, store, log));
      bytes[bytes.length >> 1] ^= 1;
      await writeFile(join(place, store, log), bytes);
    }
  }

  async remove() {
    await this.context?.close();
    if (this.#profile) await rm(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }

  /** Its open pages know it, too, when this ends: until then one may store a batch on its way, and a stored batch goes as it is. */
  async offline(offline = true) {
    await this.context.setOffline(offline);
    if (!offline) return;
    const connectivity = (page) => page.evaluate(() => globalThis.lab?.db?.sync.status.connectivity ?? 'offline');
    for (const page of this.context.pages()) await expect.poll(() => connectivity(page)).toBe('offline');
  }

  /** The worker of a context in which one is active. */
  async worker() {
    return this.context.serviceWorkers()[0] ?? this.context.waitForEvent('serviceworker');
  }

  /** A tab with an open database, once the worker can flush it. Nobody is signed in unless `login`. `slowness`: of its processor. */
  async lab(user, { login = true, name = 'lab', slowness = 1 } = {}) {
    const page = await this.context.newPage();
    if (slowness > 1) await (await this.context.newCDPSession(page)).send('Emulation.setCPUThrottlingRate', { rate: slowness });
    await page.goto(labPath(user, name));
    await ready(page);
    if (login) await page.evaluate((credentials) => lab.login(...credentials), [user, password]);
    return page;
  }

  /** Ends what worker is running, with what it has in memory; the next event starts it anew. `page`: any of the profile. */
  async stopWorkers(page) {
    const session = await this.context.newCDPSession(page);
    await session.send('ServiceWorker.enable');
    await session.send('ServiceWorker.stopAllWorkers');
  }

  /** The first tab of a context is there from the start; with it gone and no other, no page is open. */
  async blank() {
    for (const page of this.context.pages()) if (page.url() !== 'about:blank') await page.close();
  }
}

const labPath = (user, name) => `/lab.html?user=${user}&name=${name}`;

/** The database is open and a worker is active, which has claimed the page. */
export const ready = (page) => page.evaluate(async () => {
  await lab.ready;
  const workers = navigator.serviceWorker;
  await workers.ready;
  if (!workers.controller) await new Promise((claimed) => workers.addEventListener('controllerchange', claimed, { once: true }));
});

/** Loads the page anew; what it held in memory is gone. */
export async function reload(page) {
  await page.reload();
  await ready(page);
}

/** The records of a collection as the page sees them, `{[id]: {…fields, state}}` by id. */
export const view = (page, collection) => page.evaluate(async (collection) => {
  const rows = await lab.db.collection(collection).query().get();
  return Object.fromEntries(rows.map((row) => [row.id, { ...row, state: lab.meta(row).state }]));
}, collection);

export const status = (page) => page.evaluate(() => lab.db.sync.status);
export const outbox = (page) => page.evaluate(() => lab.db.outbox.list());
export const conflicts = (page) => page.evaluate(() => lab.db.conflicts.list());
export const syncNow = (page) => page.evaluate(() => lab.db.sync.now());
export const put = (page, collection, record) => page.evaluate(([collection, record]) => lab.db.collection(collection).put(record), [collection, record]);
export const update = (page, collection, id, changes) =>
  page.evaluate(([collection, id, changes]) => lab.db.collection(collection).update(id, changes), [collection, id, changes]);
/** All at once, without waiting for one another. */
export const putAll = (page, collection, records) =>
  page.evaluate(([collection, records]) => Promise.all(records.map((record) => lab.db.collection(collection).put(record))), [collection, records]);
