// Chromium by its debugging pipe: nothing of Playwright's is between, so that its end takes nobody else along.

import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Processes } from './processes.mjs';

const args = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--disable-breakpad', '--remote-debugging-pipe',
];
/** IndexedDB in SQLite instead of LevelDB. */
const sqlite = '--enable-features=IdbSqliteBackingStore,IdbSqliteOnDiskRollout';

export class Chromium {
  static name = 'chromium';
  /** What of it can be ended by itself, beside the whole. */
  static parts = { renderer: /--type=renderer/, network: /--utility-sub-type=network/ };
  #program;
  #flags;
  #processes;
  #calls = new Map();
  #count = 0;
  version = '';

  constructor(program, { sqliteIdb = false } = {}) {
    this.#program = program;
    this.#flags = sqliteIdb ? [sqlite] : [];
  }

  async start(profile, urls) {
    this.#processes = new Processes(this.#program, [...args, ...this.#flags, `--user-data-dir=${profile}`, 'about:blank'], { stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'] });
    let rest = '';
    this.#processes.stdio[3].on('error', () => {});
    this.#processes.stdio[4].setEncoding('utf8').on('data', (text) => {
      const messages = (rest + text).split('\0');
      rest = messages.pop();
      for (const message of messages) this.#answered(JSON.parse(message));
    });
    this.#processes.exited.then(() => this.#fail(`Chromium ended: ${this.#processes.output}`));
    this.version = (await this.#send('Browser.getVersion')).product;
    for (const url of urls) await this.open(url);
  }

  /** A tab at this address. */
  async open(url) {
    await this.#send('Target.createTarget', { url });
  }

  /** Closes the tabs whose address has this in it. */
  async close(part) {
    for (const { targetId } of await this.#tabs(part)) await this.#send('Target.closeTarget', { targetId });
  }

  /** Ends what service worker runs, with what it has in memory. */
  async stopWorkers() {
    const [tab] = await this.#tabs('/lab.html');
    if (!tab) return false;
    const { sessionId } = await this.#send('Target.attachToTarget', { targetId: tab.targetId, flatten: true });
    await this.#send('ServiceWorker.enable', {}, sessionId);
    await this.#send('ServiceWorker.stopAllWorkers', {}, sessionId);
    await this.#send('Target.detachFromTarget', { sessionId });
    return true;
  }

  /** The renderer of a tab ends as by a bug in it. */
  async crash(part) {
    const [tab] = await this.#tabs(part);
    if (!tab) return false;
    const { sessionId } = await this.#send('Target.attachToTarget', { targetId: tab.targetId, flatten: true });
    // The dying renderer does not answer.
    this.#send('Page.crash', {}, sessionId).catch(() => {});
    return true;
  }

  killPart(part, random) {
    return this.#processes.killOne(Chromium.parts[part], random);
  }

  kill() {
    return this.#processes.kill();
  }

  /**
   * True when this browser, since it was started, has made the files of IndexedDB anew. It throws all of them away when it finds
   * them damaged, which no page can do or keep it from; a kill in the middle of a write is enough now and then (`tests/kill/raw.mjs`).
   */
  async madeFilesAnew(profile) {
    const place = join(profile, 'Default', 'IndexedDB');
    const stores = (await readdir(place)).filter((name) => name.endsWith('.leveldb'));
    const logs = await Promise.all(stores.map((name) => readFile(join(place, name, 'LOG'), 'utf8')));
    return logs.some((log) => log.includes('since it was missing'));
  }

  async #tabs(part) {
    const { targetInfos } = await this.#send('Target.getTargets');
    return targetInfos.filter(({ type, url }) => type === 'page' && url.includes(part));
  }

  #send(method, params = {}, sessionId) {
    return new Promise((done, failed) => {
      this.#calls.set(++this.#count, { done, failed });
      this.#processes.stdio[3].write(`${JSON.stringify({ id: this.#count, method, params, sessionId })}\0`);
    });
  }

  #answered({ id, result, error }) {
    const call = this.#calls.get(id);
    if (error) call?.failed(new Error(error.message));
    else call?.done(result);
    this.#calls.delete(id);
  }

  #fail(why) {
    for (const { failed } of this.#calls.values()) failed(new Error(why));
    this.#calls.clear();
  }
}
