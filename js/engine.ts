/**
 * One open database: holds the replica, and replaces it when the engine breaks.
 *
 * Invariant: no promise given out here stays open because an instance died. Calls under way are rejected with
 * `engine_failed` (whether their write was stored is not known; it is in the outbox if it was) and never repeated;
 * live queries, which change nothing, go on in the fresh instance.
 */
import { SyncError, toSyncError, type Json } from './errors.js';
import type { Carry } from './transport.js';
import { instanceDied, isTrap, liveGeneration, onDeath, openReplica, type Replica } from './wasm.js';

/** What the engine says by itself: `{type, …}`. */
export interface EngineEvent {
  readonly type: string;
  readonly [field: string]: Json;
}

export interface EngineOptions {
  readonly optionsJson: string;
  readonly token: (() => Promise<{ token: string; expires_at: number | null } | null>) | undefined;
  readonly transport: Carry | undefined;
  /** May be called inside a call of the engine. */
  readonly event: (event: EngineEvent) => boolean | void;
  /** Called with every replica, the first and the fresh ones, before anybody else uses it. */
  readonly opened: (replica: Replica) => void;
  readonly restarted: (error: SyncError, recovered: boolean) => void;
}

interface Watch {
  readonly queryJson: string;
  readonly answer: (json: string) => void;
  readonly fail: (error: SyncError) => void;
  /** The replica's number for it, while one runs it. */
  id: number | undefined;
}

/** More deaths than this in `restartSpanMs` and the engine stays down: starting it again is what kills it. */
const restartsMax = 3;
const restartSpanMs = 60_000;

export class Engine {
  readonly #options: EngineOptions;
  readonly #inFlight = new Set<(error: unknown) => void>();
  readonly #watches = new Set<Watch>();
  readonly #forget: () => void;
  #replica: Replica | undefined;
  #opening: Promise<Replica> | undefined;
  #restarts: number[] = [];
  #end: SyncError | undefined;

  constructor(options: EngineOptions) {
    this.#options = options;
    this.#forget = onDeath((error) => this.#died(error));
  }

  get ended(): boolean {
    return this.#end !== undefined;
  }

  /** Uses the replica, in the order of the calls. */
  async call<T>(use: (replica: Replica) => T | Promise<T>): Promise<T> {
    const replica = this.#replica ?? (await this.open());
    return this.#track(() => use(replica));
  }

  /** Tells the replica something that needs no answer; nothing happens when there is none at this moment. */
  tell(use: (replica: Replica) => void): void {
    const seen = liveGeneration();
    try {
      if (this.#replica) use(this.#replica);
    } catch (error) {
      explain(error, seen);
    }
  }

  watch(queryJson: string, answer: (json: string) => void, fail: (error: SyncError) => void): () => void {
    const watch: Watch = { queryJson, answer, fail, id: undefined };
    this.#watches.add(watch);
    if (this.#end) fail(this.#end);
    else if (this.#replica) this.#start(watch, this.#replica);
    else this.open().catch((error: unknown) => fail(toSyncError(error)));
    return () => {
      if (!this.#watches.delete(watch)) return;
      const { id } = watch;
      if (id !== undefined) this.tell((replica) => replica.unwatch(id));
    };
  }

  /** The replica, opened when there is none. */
  open(): Promise<Replica> {
    if (this.#end) return Promise.reject(this.#end);
    this.#opening ??= this.#openFresh();
    return this.#opening;
  }

  /**
   * Ends everything; `last` is the last thing done with the replica. A second call finds nothing to do.
   * When `last` fails and `mayFail`, nothing has ended: the database is opened again and the call can be repeated.
   */
  async end(last: (replica: Replica) => Promise<void>, mayFail = false): Promise<void> {
    if (this.#end) return;
    const replica = this.#replica ?? (await this.#opening?.catch(() => undefined));
    // Somebody else may have ended it while it was opening.
    if (this.ended) return;
    this.#end = new SyncError('closed', 'This database is closed.');
    const seen = liveGeneration();
    let failed: SyncError | undefined;
    if (replica) {
      try {
        await last(replica);
      } catch (error) {
        failed = explain(error, seen);
      }
      if (seen === liveGeneration()) replica.free();
    }
    this.#replica = undefined;
    this.#opening = undefined;
    const cut = new SyncError('closed', 'The database was closed during this call.', { details: { fate: 'unknown' } });
    for (const fail of [...this.#inFlight]) fail(cut);
    if (failed && mayFail) {
      this.#end = undefined;
      // Not waited for: while the browser keeps the order to delete, opening takes its time too.
      void this.open().catch(() => undefined);
    } else {
      this.#watches.clear();
      this.#forget();
    }
    if (failed) throw failed;
  }

  async #openFresh(): Promise<Replica> {
    const seen = liveGeneration();
    const { optionsJson, token, transport, event, opened } = this.#options;
    const heard = (json: string): boolean | void => {
      if (seen === liveGeneration()) return event(JSON.parse(json) as EngineEvent);
    };
    try {
      const replica = await this.#track(() => openReplica(optionsJson, { event: heard, ...(token && { token }), ...(transport && { transport }) }));
      this.#replica = replica;
      opened(replica);
      for (const watch of this.#watches) this.#start(watch, replica);
      return replica;
    } catch (error) {
      // After a death this has been done already, and another opening may be under way.
      if (seen === liveGeneration()) this.#opening = undefined;
      throw error;
    }
  }

  /** What the engine answers: at once, or by a promise that ends when the instance does. */
  #track<T>(start: () => T | Promise<T>): T | Promise<T> {
    const seen = liveGeneration();
    let started: T | Promise<T>;
    try {
      started = start();
    } catch (error) {
      throw explain(error, seen);
    }
    if (!(started instanceof Promise)) return started;
    const answer = started;
    return new Promise((resolve, reject) => {
      const fail = (error: unknown): void => {
        this.#inFlight.delete(fail);
        reject(explain(error, seen));
      };
      this.#inFlight.add(fail);
      const done = (value: T): void => {
        this.#inFlight.delete(fail);
        resolve(value);
      };
      answer.then(done, fail);
    });
  }

  #start(watch: Watch, replica: Replica): void {
    const seen = liveGeneration();
    try {
      watch.id = replica.watch(watch.queryJson, watch.answer);
    } catch (error) {
      const trapped = isTrap(error);
      const explained = explain(error, seen);
      // After a trap the fresh instance asks again.
      if (!trapped) watch.fail(explained);
    }
  }

  #died(error: SyncError): void {
    const opened = this.#replica !== undefined;
    this.#replica = undefined;
    this.#opening = undefined;
    for (const watch of this.#watches) watch.id = undefined;
    for (const fail of [...this.#inFlight]) fail(error);
    if (opened) void this.#restart(error);
  }

  async #restart(error: SyncError): Promise<void> {
    const now = Date.now();
    this.#restarts = [...this.#restarts.filter((at) => now - at < restartSpanMs), now];
    if (this.#restarts.length > restartsMax) {
      this.#end = error;
      this.#forget();
    }
    const recovered = await this.open().then(() => true, () => false);
    if (!recovered) for (const watch of this.#watches) watch.fail(error);
    this.#options.restarted(error, recovered);
  }
}

/** The error an app sees; a trap is reported as the death of the instance on the way. */
const explain = (error: unknown, seen: number): SyncError => (isTrap(error) ? instanceDied(error, seen) : toSyncError(error));
