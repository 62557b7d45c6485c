// One profile's life: rounds of work, an end at a moment drawn from the seed, and a look at what is there afterwards.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as elapse } from 'node:timers/promises';
import { Server } from '../e2e/support/server.mjs';
import { random } from './random.mjs';
import { Ledger } from './ledger.mjs';
import { Network, fates } from './network.mjs';
import { Pages } from './pages.mjs';

const hots = ['hot0', 'hot1', 'hot2'];
/** Far above what it takes: a limit says that something hangs, not how fast a machine must be. */
const readyMs = 180_000;
/** How long a page may take to open from the worker's files, before they are fetched instead. */
const offlineReadyMs = 60_000;
const drainMs = 240_000;
const momentMs = 1_500;
/** A page whose line was cut calls again within. */
const lineMs = 10_000;
/** One whose line ended otherwise has died, unless it calls again at once. */
const deadMs = 500;
/** One that answers no order within has died, though WebKit's other process still holds its line. */
const restMs = 10_000;

/** The browser has thrown all databases of its profile away, and the page says so. */
export class DatabaseLost extends Error {}

export class Profile {
  #options;
  #next;
  #number;
  #lives = {};
  #open = [];
  #directory;
  #mending;
  #browser;
  server;
  network;
  pages;
  ledger = new Ledger(hots);
  counts = { rounds: 0, kills: {}, moments: {}, offlineLooks: 0, shellMissing: 0 };

  /** `options`: `{newBrowser, seed, number, site, plant, history, log}` */
  constructor(options) {
    this.#options = options;
    this.#number = options.number;
    this.#next = random(options.seed);
  }

  get version() {
    return this.#browser?.version;
  }

  async start() {
    this.#directory = await mkdtemp(join(tmpdir(), 'landfall-kill-'));
    this.server = await new Server([], { site: this.#options.site }).start();
    this.network = await new Network(this.server.port).start();
    this.pages = new Pages(this.network, this.ledger, this.#options.history);
    this.#browser = this.#options.newBrowser();
    await this.#browser.start(this.#directory, [this.#address('a')]);
    await this.#ready(this.#open, readyMs);
    const history = this.#options.history;
    // The shared records: `p0/a#1.-1` and so on, which no page told of.
    hots.forEach((id, i) => history?.began(this.#open[0], -1 - i, { ops: [{ op: 'put', id, value: { title: id } }] }));
    await this.#ask('begin', { hots });
    hots.forEach((_, i) => history?.ended(this.#open[0], -1 - i, 'stored'));
  }

  /** Work, an end, a look. */
  async round() {
    this.counts.rounds += 1;
    this.network.mood = this.#drawMood();
    if (this.#chance(0.15)) await this.server.failPushes({ status: this.#any([503, 429, 500]), count: 1 + this.#below(4) });
    const workers = this.#open.filter((session) => this.pages.get(session)?.alive);
    const planted = this.#options.plant === 'logRow';
    // What is not sent yet is in the log alone.
    if (planted) this.network.cut();
    const end = planted ? 'browser' : this.#drawEnd();
    const moment = this.#moment();
    for (const session of workers) {
      await this.pages.ask(session, 'work', {
        seed: this.#below(2 ** 31), most: 300, gap: 1 + this.#below(this.#chance(0.2) ? 40 : 4), pause: this.#any([0.1, 0.5, 0.9]),
        hots, existing: this.ledger.ownOf(letterOf(session)), plant: this.#options.plant,
      });
    }
    if (this.#chance(0.2)) void this.network.replay();
    if (this.#chance(0.1)) await this.#restartServer();
    await moment();
    if (planted) await this.#ask('loseLogRow');
    clearTimeout(this.#mending);
    await this.#end(end);
    this.network.mood = () => ({});
    await this.network.quiet();
  }

  /** Everything is sent; what waits for a person is looked at and given up. */
  async drain() {
    this.network.mend();
    this.network.mood = () => ({});
    await this.network.replay();
    const deadline = Date.now() + drainMs;
    for (;;) {
      const { pending, error } = await this.#ask('sync');
      if (error === 'auth_required' || error === 'unauthorized') await this.#ask('login');
      if (pending === 0 && error === null) break;
      if (Date.now() > deadline) throw new Error(`nothing more is sent: ${pending} wait, ${error}: ${JSON.stringify((await this.#ask('look')).status)}`);
      if (error) await elapse(200);
    }
  }

  /** The last look, at the browser and at the server. */
  async finish() {
    await this.#renew('a');
    await this.drain();
    const seen = await this.#look(this.#open[0], { at: 'at the end' }, true);
    const [records, { audit, epoch }] = [await this.server.records('user:ada', 'notes'), await this.server.ledger('ada')];
    this.ledger.final({ records, audit, rows: seen.rows, parked: seen.outbox.filter(({ state }) => state === 'parked') });
    this.#options.history?.final(records, epoch);
    for (const text of this.network.unequal) this.ledger.violations.push({ code: 'S2', what: `another answer to the same bytes: ${text}` });
    for (const text of this.pages.troubles) this.ledger.violations.push({ code: 'trouble', what: text });
  }

  /** What is left to look at when the database is gone. */
  async finishWithout() {
    await this.network.quiet();
    const { audit } = await this.server.ledger('ada');
    this.ledger.serverAlone({ records: await this.server.records('user:ada', 'notes'), audit });
  }

  async remove() {
    await this.#browser?.kill();
    await this.network?.remove();
    await this.server?.remove();
    if (this.#directory) await rm(this.#directory, { recursive: true, force: true, maxRetries: 5 });
  }

  // ---- ends --------------------------------------------------------------------------------------------------------

  /** What happens to the browser; only what this one can be made to do. */
  #drawEnd() {
    const ends = [['browser', 10], ['renderer', 4]];
    if (this.#browser.crash) ends.push(['crash', 4]);
    if (this.#browser.stopWorkers) ends.push(['worker', 4]);
    if (this.#browser.constructor.parts.network) ends.push(['network', 1]);
    return this.#any(ends.flatMap(([name, share]) => Array(share).fill(name)));
  }

  async #end(kind) {
    let happened = true;
    const before = [...this.#open];
    if (kind === 'browser') await this.#browser.kill();
    else if (kind === 'crash') happened = await this.#browser.crash('/lab.html');
    else if (kind === 'worker') happened = await this.#browser.stopWorkers();
    else happened = this.#browser.killPart(kind, this.#next);
    if (happened) this.counts.kills[kind] = (this.counts.kills[kind] ?? 0) + 1;
    this.network.mend();
    if (kind !== 'browser') await this.#afterPart(kind, before);
    if (kind !== 'browser' && this.#browser.open && this.#chance(0.7)) await this.#renewTabs(before);
    else await this.#reopen(kind === 'browser');
  }

  /** A page begins no more writes, and those under way end; false when it is gone. */
  async #rest(session, kind) {
    for (;;) {
      // Its line is cut where the network's part ends, and it calls again.
      const back = this.pages.next(session, 'called', kind === 'network' ? lineMs : deadMs);
      try {
        await this.pages.get(session).ask('rest', {}, restMs);
        return true;
      } catch {
        if (!(await back)) return false;
      }
    }
  }

  /** A part of it is gone. The others go on: until their work is done, or their own end. */
  async #afterPart(kind, before) {
    const live = await Promise.all(before.map((session) => this.#rest(session, kind)));
    const dead = before.filter((_, i) => !live[i]);
    this.pages.died(dead);
    for (const session of before) {
      if (dead.includes(session)) continue;
      await this.#look(session, { at: `round ${this.counts.rounds}, ${session} after the end of ${kind}`, own: letterOf(session), mayFreeze: kind === 'network' }).catch((error) => {
        // It ended meanwhile.
        if (this.pages.get(session)?.alive) throw error;
      });
    }
  }

  async #renewTabs(before) {
    const letters = this.#letters();
    this.#open = [];
    const urls = letters.map((letter) => this.#address(letter));
    for (const url of urls) await this.#browser.open(url);
    await this.#ready(this.#open, readyMs);
    for (const session of before) await this.#browser.close(sessionParameter(session));
    this.pages.died(before);
    await this.#lookAtAll({ offline: false });
  }

  async #reopen(isGone) {
    if (!isGone) await this.#browser.kill();
    this.pages.died(this.#open);
    await this.network.quiet();
    const offline = this.#chance(0.5);
    if (offline) this.network.cut();
    await this.#startWith(this.#letters(), offline);
    await this.#lookAtAll({ offline });
    this.network.mend();
    if (this.#chance(0.2)) await this.drain();
  }

  /** As `#reopen`, with one tab that nothing happens to. */
  async #renew(letter) {
    await this.#browser.kill();
    this.pages.died(this.#open);
    await this.network.quiet();
    this.network.mend();
    await this.#startWith([letter], false);
  }

  async #startWith(letters, offline) {
    this.#open = [];
    await this.#browser.start(this.#directory, letters.map((letter) => this.#address(letter)));
    if (!offline) return this.#ready(this.#open, readyMs);
    try {
      await this.#ready(this.#open, offlineReadyMs);
    } catch {
      // The worker's files are not part of any promise; the data is, and is looked at in the next line.
      this.counts.shellMissing += 1;
      this.network.mend();
      await this.#browser.kill();
      this.pages.died(this.#open);
      await this.#startWith(letters, false);
    }
  }

  async #lookAtAll({ offline }) {
    const at = `round ${this.counts.rounds}`;
    const server = offline ? await this.server.records('user:ada', 'notes') : undefined;
    const views = [];
    for (const session of this.#open) views.push(await this.#look(session, { at: `${at}, ${session}`, server }));
    this.ledger.resolve(views[0]);
    if (!offline) return;
    this.counts.offlineLooks += 1;
    const sorted = ({ rows }) => JSON.stringify([...rows].map(({ id, value }) => [id, value]).sort());
    if (views.some((view) => sorted(view) !== sorted(views[0]))) this.ledger.violations.push({ code: 'L5', what: `${at}: two tabs show two states` });
  }

  async #look(session, judged, atRest = false) {
    const done = this.#options.history?.read(session);
    const seen = await this.pages.ask(session, 'look', {}, deadMs);
    done?.(seen, atRest);
    // What the page says is believed only if the browser's own files say so too.
    if (seen.status.storage.lost && (await this.#browser.madeFilesAnew?.(this.#directory))) throw new DatabaseLost();
    this.ledger.look(seen, judged);
    return seen;
  }

  async #restartServer() {
    await this.server.kill();
    await elapse(this.#below(300));
    await this.server.start();
    this.counts.kills.server = (this.counts.kills.server ?? 0) + 1;
  }

  // ---- what is drawn -----------------------------------------------------------------------------------------------

  #below(most) {
    return Math.floor(this.#next() * most);
  }

  #chance(probability) {
    return this.#next() < probability;
  }

  #any(list) {
    return list[this.#below(list.length)];
  }

  #letters() {
    return this.#chance(0.4) ? ['a', 'b'] : [this.#any(['a', 'b'])];
  }

  #address(letter) {
    this.#lives[letter] = (this.#lives[letter] ?? 0) + 1;
    const session = `p${this.#number}/${letter}#${this.#lives[letter]}`;
    this.#open.push(session);
    this.#options.history?.opening(session);
    return `${this.network.origin}/lab.html?user=ada&name=kill&letter=${letter}&${sessionParameter(session)}`;
  }

  /** What the first open page is asked. */
  #ask(order, given) {
    return this.pages.ask(this.#open[0], order, given);
  }

  async #ready(sessions, ms) {
    const ready = await Promise.all(sessions.map((session) => this.pages.ready(session, ms)));
    if (ready.includes(false)) throw new Error(`round ${this.counts.rounds}: a page did not open: ${sessions[ready.indexOf(false)]} ${JSON.stringify(this.pages.troubles.slice(-3))}`);
  }

  /** Which accidents a round has, and how often; some rounds have none. */
  #drawMood() {
    if (this.#chance(0.15)) return () => ({});
    if (this.#chance(0.1)) {
      this.network.cut();
      this.#mending = setTimeout(() => this.network.mend(), this.#below(1_500));
      return () => ({});
    }
    const chosen = fates.filter(() => this.#chance(0.4));
    const share = this.#any([0.05, 0.2, 0.5]);
    const slowMs = this.#any([0, 0, 5, 50, 300]);
    return () => ({
      fate: chosen.length > 0 && this.#chance(share) ? this.#any(chosen) : undefined,
      beforeMs: this.#below(slowMs + 1),
      afterMs: this.#below(slowMs + 1),
    });
  }

  /** When it happens: at a time, at the n-th write, or at a moment of a request. */
  #moment() {
    const kind = this.#any(['time', 'write', 'write', 'push asked', 'push decided', 'push told', 'pull told']);
    this.counts.moments[kind] = (this.counts.moments[kind] ?? 0) + 1;
    const thenMs = this.#chance(0.5) ? 0 : this.#below(30);
    if (kind === 'time') return ((ms) => () => elapse(ms))(this.#below(1_000));
    if (kind === 'write') return this.#after(this.pages, 'stored', () => true, 1 + this.#below(120), 0);
    const [path, event] = kind.split(' ');
    return this.#after(this.network, event, (seen) => seen.endsWith(`/${path}`), 1 + this.#below(2), thenMs);
  }

  /** Listens from now on; the function it gives resolves when it has happened `times` times, or never will. */
  #after(emitter, event, fits, times, thenMs) {
    let left = times;
    let happened;
    const reached = new Promise((done) => (happened = done));
    const count = (seen) => {
      if (fits(seen) && --left === 0) happened();
    };
    emitter.on(event, count);
    return async () => {
      const over = new AbortController();
      await Promise.race([reached, elapse(momentMs, undefined, { signal: over.signal }).catch(() => {})]);
      over.abort();
      emitter.off(event, count);
      if (thenMs) await elapse(thenMs);
    };
  }
}

/** As it stands at the end of an address. */
const sessionParameter = (session) => `session=${encodeURIComponent(session)}`;
const letterOf = (session) => session.split('#')[0].at(-1);
