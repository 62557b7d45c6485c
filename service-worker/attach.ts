/**
 * Flushes outboxes from a service worker, also with no page open.
 *
 * Invariants: the listeners are registered synchronously (a browser ignores those that come later), and the engine is loaded
 * inside an event only. A database is flushed by one flight at a time in this worker; what arrives meanwhile is one more
 * flight after it. Tabs and other workers are kept apart by the engine's locks and by exactly-once, not by this file.
 *
 * Source: ARCHITECTURE.md.
 */
import type { EngineEvent } from '../js/engine.js';
import { isSyncError, SyncError, toSyncError } from '../js/errors.js';
import { History } from '../js/history.js';
import { databaseOfTag, databasePrefix, messageOf } from '../js/tags.js';
import { carrier } from '../js/transport.js';
import type { Transport } from '../js/types.js';
import { instanceDied, isTrap, liveGeneration, onDeath, openStoredReplica, setWasmUrl } from '../js/wasm.js';
import { decide, type FlushReport } from './decide.js';

export interface AttachOptions {
  /** Where `landfall_bg.wasm` is, when not beside the script. */
  readonly wasmUrl?: string | URL;
  /** How long one event may flush; Chromium ends an event after about three minutes. */
  readonly budgetMs?: number;
  /** What `open()` is given in the page, for databases that were opened with one. */
  readonly transport?: Transport;
}

/** What `attach()` needs of a worker's `self`; the rest is looked for when it is called. */
export interface AttachTarget {
  addEventListener(type: string, listener: (event: Event) => void): void;
}

/** The part of a service worker's globals that is used here. */
interface Scope extends AttachTarget {
  readonly clients: { matchAll(options: { type: 'window'; includeUncontrolled: boolean }): Promise<readonly unknown[]> };
  readonly registration: object;
}

interface ExtendableEvent extends Event {
  waitUntil(done: Promise<unknown>): void;
  /** Of a `sync` event. */
  readonly tag?: string;
  readonly lastChance?: boolean;
  /** Of a `message` event. */
  readonly data?: unknown;
}

const budgetMsDefault = 150_000;
const attached = new WeakMap<AttachTarget, Flusher>();

/**
 * Makes a service worker flush Landfall's outboxes. Call it while the worker's script runs for the first time, not later.
 * A second call only changes the options.
 */
export function attach(self: AttachTarget, options: AttachOptions = {}): void {
  if (!('clients' in self) || !('registration' in self)) {
    throw new SyncError('invalid_options', 'attach() takes the `self` of a service worker.', { details: { path: 'self' } });
  }
  if (options.wasmUrl !== undefined) setWasmUrl(options.wasmUrl);
  const before = attached.get(self);
  const flusher = before ?? new Flusher(self as Scope);
  flusher.budgetMs = options.budgetMs ?? flusher.budgetMs;
  flusher.transport = options.transport ?? flusher.transport;
  if (before) return;
  attached.set(self, flusher);
  flusher.listen();
}

class Flusher {
  budgetMs = budgetMsDefault;
  transport: Transport | undefined;
  readonly #scope: Scope;
  readonly #flights = new Map<string, Flights>();

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  listen(): void {
    this.#on('sync', (event) => {
      const database = databaseOfTag(event.tag ?? '');
      if (database !== undefined) event.waitUntil(this.#sync(database, event.lastChance === true));
    });
    this.#on('message', (event) => {
      const message = messageOf(event.data);
      if (message?.type === 'landfall-flush') event.waitUntil(this.#tryFlush(message.database));
      // Nobody waits for it, and no flight is to wait for it or end with it.
      if (message?.type === 'landfall-tidy') event.waitUntil(flushOnce(message.database, false, Date.now(), undefined).catch(() => undefined));
    });
    // Activation does not wait for it: the requests of a page that this worker has claimed wait for activation, and the page
    // that waits for its answer holds the lock that a flush waits for.
    this.#on('activate', () => void this.#flushAll());
    // Where nobody wakes this worker to sync, every start for another reason is a chance. After the script has run: it may set options.
    if (!('sync' in this.#scope.registration)) setTimeout(() => void this.#flushAll());
  }

  #on(type: string, listener: (event: ExtendableEvent) => void): void {
    this.#scope.addEventListener(type, (event) => listener(event as ExtendableEvent));
  }

  /** Rejects to be woken again by the browser. */
  async #sync(database: string, lastChance: boolean): Promise<void> {
    const report = await this.#flush(database, lastChance).catch(toSyncError);
    const windows = await this.#scope.clients.matchAll({ type: 'window', includeUncontrolled: true });
    if (decide(windows.length, report) === 'resolve') return;
    throw isSyncError(report) ? report : new SyncError('unsent', 'Something is still to be sent.', { retryable: true });
  }

  async #flushAll(): Promise<void> {
    const names = (await databaseNames()) ?? [];
    await Promise.all(names.filter((name) => name.startsWith(databasePrefix)).map((name) => this.#tryFlush(name)));
  }

  /** For events that no browser repeats: what went wrong stays in the database and in its status. */
  async #tryFlush(database: string): Promise<void> {
    await this.#flush(database, false).catch(() => undefined);
  }

  #flush(database: string, lastChance: boolean): Promise<FlushReport | undefined> {
    const flights = this.#flights.get(database) ?? new Flights((last, deadline) => flushOnce(database, last, deadline, this.transport));
    this.#flights.set(database, flights);
    return flights.join(lastChance, Date.now() + this.budgetMs);
  }
}

/** Undefined where the browser does not say. */
async function databaseNames(): Promise<string[] | undefined> {
  const databases = await indexedDB.databases?.().catch(() => undefined);
  return databases?.map(({ name }) => name ?? '');
}

type Fly = (lastChance: boolean, deadlineMs: number) => Promise<FlushReport | undefined>;

/** One flight at a time, and one more for all that came meanwhile. */
class Flights {
  readonly #fly: Fly;
  #current: Promise<unknown> | undefined;
  #next: { readonly flight: Promise<FlushReport | undefined>; readonly plan: { lastChance: boolean; deadlineMs: number } } | undefined;

  constructor(fly: Fly) {
    this.#fly = fly;
  }

  join(lastChance: boolean, deadlineMs: number): Promise<FlushReport | undefined> {
    if (this.#next) {
      const { flight, plan } = this.#next;
      plan.lastChance ||= lastChance;
      plan.deadlineMs = Math.min(plan.deadlineMs, deadlineMs);
      return flight;
    }
    if (!this.#current) return this.#start(lastChance, deadlineMs);
    const plan = { lastChance, deadlineMs };
    const flight = this.#current.then(() => {
      this.#next = undefined;
      return this.#start(plan.lastChance, plan.deadlineMs);
    });
    this.#next = { flight, plan };
    return flight;
  }

  #start(lastChance: boolean, deadlineMs: number): Promise<FlushReport | undefined> {
    const flight = this.#fly(lastChance, deadlineMs);
    const current: Promise<unknown> = flight.catch(() => undefined).then(() => {
      if (this.#current === current) this.#current = undefined;
    });
    this.#current = current;
    return flight;
  }
}

/** Undefined when there is no such database. The engine is closed afterwards, so that a page can delete or upgrade it. */
async function flushOnce(database: string, lastChance: boolean, deadlineMs: number, transport: Transport | undefined): Promise<FlushReport | undefined> {
  // To open a database is to make it: a tag that outlived a logout must not bring an empty one back.
  const names = await databaseNames();
  if (names && !names.includes(database)) return undefined;
  const seen = liveGeneration();
  const history = new History(database);
  let forget: (() => void) | undefined;
  // A promise of an instance that died would never end, nor would the event that waits for it.
  const death = new Promise<never>((_, reject) => (forget = onDeath(reject)));
  const flush = async (): Promise<FlushReport | undefined> => {
    const replica = await openStoredReplica(database, { event: (json) => history.heard(JSON.parse(json) as EngineEvent), ...(transport && { transport: carrier(transport) }) });
    if (!replica) return undefined;
    try {
      return JSON.parse(await replica.flush(Math.max(deadlineMs - Date.now(), 0), lastChance)) as FlushReport;
    } finally {
      if (seen === liveGeneration()) {
        await replica.close();
        replica.free();
      }
      await history.save();
    }
  };
  try {
    return await Promise.race([flush(), death]);
  } catch (error) {
    throw isTrap(error) ? instanceDied(error, seen) : error;
  } finally {
    forget?.();
  }
}
