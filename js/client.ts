/**
 * What `open()` gives: the names that an app calls, each one call of the engine.
 *
 * Nothing here decides about conflict, retry or order; that is the engine's. This file translates names, keeps the last
 * status and wires the browser.
 */
import { BackgroundFlush } from './background.js';
import { Checks } from './check.js';
import { Confirmations } from './confirm.js';
import { sense, senseChanges, type Senses } from './browser.js';
import { Engine, type EngineEvent } from './engine.js';
import { SyncError } from './errors.js';
import { Emitter, guarded } from './events.js';
import { History, metricsOf } from './history.js';
import { inspection } from './inspection.js';
import { expiresAtMs } from './jwt.js';
import { LossWatch } from './loss.js';
import { encodeOptions } from './options.js';
import { meta } from './query.js';
import { supportBundle } from './support.js';
import { exportStream, importLines, type Transferable } from './transfer.js';
import { carrier } from './transport.js';
import type {
  Conflict, ImportOptions, ImportResult, Inspection, OpenOptions, OutboxEntry, SyncEvents, SyncMetrics, SyncProgress, SyncResult, SyncStatus, SyncStep, TokenAuth, Unsubscribe, WriteResult,
} from './types.js';
import { upgradesOf, type Upgrade } from './upgrade.js';
import { setWasmUrl, type RawStatus } from './wasm.js';
import { encodeOp, WriteQueue } from './writes.js';
import { decideAll, conflictsOf, outboxOf, unitOf, type Conflicts, type Outbox } from './waiting.js';
import { noted, type Transaction } from './transaction.js';
import { Collection } from './collection.js';

/** Opens one user's database in this browser profile, making it when it is new. */
export async function open(options: OpenOptions): Promise<Landfall> {
  if (options.wasmUrl !== undefined) setWasmUrl(options.wasmUrl);
  return Landfall.open(options);
}

export interface Sync {
  /** The same object until something changes. */
  readonly status: SyncStatus;
  /** Sends and fetches everything now. An outage is a result (`error`), not an exception. */
  now(options?: { readonly onProgress?: (progress: SyncProgress) => void }): Promise<SyncResult>;
  /** What became of the last 1,000 pushes and pulls of this device, in numbers. */
  metrics(): Promise<SyncMetrics>;
  /** The last pushes and pulls of this device, by any tab or the worker, newest first; 1,000 at most. */
  history(options?: { readonly limit?: number }): Promise<SyncStep[]>;
  /** A person has seen `status.storage.lost`: it is not told again. */
  dismissLoss(): void;
  on<K extends keyof SyncEvents>(event: K, listener: (value: SyncEvents[K]) => void): Unsubscribe;
}

/** Top-level names from snake_case to camelCase; what is inside a record stays as the app wrote it. */
const camel = (raw: object): unknown =>
  Object.fromEntries(Object.entries(raw).map(([name, value]) => [name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase()), value]));

const progress = ({ phase, done, total }: EngineEvent): SyncProgress => ({ phase: String(phase), done: Number(done), total: Number(total) });

export class Landfall {
  readonly sync: Sync;
  readonly outbox: Outbox;
  readonly conflicts: Conflicts;

  readonly #engine: Engine;
  readonly #writes: WriteQueue;
  readonly #checks: Checks;
  readonly #confirmations: Confirmations;
  readonly #events = new Emitter<SyncEvents>();
  readonly #user: string;
  readonly #collections: ReadonlySet<string>;
  readonly #upgrades: ReadonlyMap<string, Upgrade>;
  readonly #background: BackgroundFlush;
  readonly #history: History;
  readonly #loss: LossWatch;
  readonly #senses: Senses;
  /** Units whose failure was told. */
  readonly #failed = new Set<string | number>();
  readonly #decide: (() => Promise<Set<number>>) | undefined;
  #status!: SyncStatus;
  #wantsPersist: boolean;
  #persisted: boolean | null = null;
  #deaf: Unsubscribe | undefined;

  /** @internal */
  private constructor(options: OpenOptions) {
    const { database, optionsJson } = encodeOptions(options);
    this.#user = options.user;
    this.#collections = new Set(Object.keys(options.collections));
    this.#upgrades = upgradesOf(options);
    this.#wantsPersist = options.persist !== 'manual';
    this.#history = new History(database);
    this.#loss = new LossWatch(database);
    this.#background = new BackgroundFlush(database, options.serviceWorker ?? true);
    this.#engine = new Engine({
      optionsJson,
      token: tokenHook(options.auth),
      transport: options.transport && carrier(options.transport),
      event: (event) => this.#heard(event),
      opened: (replica) => {
        const status = JSON.parse(replica.status()) as RawStatus;
        // Told when whoever waits for `open()` has had its turn to listen.
        if (this.#loss.opened(status)) setTimeout(() => this.#events.emit('storage', { code: 'lost', count: this.#loss.lost?.count ?? 0 }));
        this.#setStatus(status);
        sense(this.#senses);
      },
      restarted: (error, recovered) => this.#events.emit('restarted', { error, recovered }),
    });
    this.#senses = this.#makeSenses();
    this.#writes = new WriteQueue(this.#engine);
    this.#checks = new Checks(options.collections, {
      get: (name, id, scope) => this.collection<object>(name).get(id, { ...(scope !== undefined && { scope }) }),
      isWhole: async (name) => {
        const { base } = await this.inspect();
        const pairs = base.pairs.filter(({ collection }) => collection === name);
        return pairs.length > 0 && pairs.every(({ covered, staged }) => covered !== null && staged === 0);
      },
    }, this.#writes);
    const onlineFirst = Object.entries(options.collections).filter(([, { mode }]) => mode === 'online-first').map(([name]) => name);
    this.#confirmations = new Confirmations(onlineFirst, (entry) => this.#engine.call((replica) => replica.outcome(entry)));
    this.sync = this.#makeSync();
    const read = async <T>(what: 'outbox' | 'conflicts'): Promise<T[]> => {
      this.#writes.send();
      return (JSON.parse(await this.#engine.call((replica) => replica[what]())) as object[]).map(camel) as T[];
    };
    this.outbox = outboxOf(this.#engine, read, this.#checks, this.#failed);
    this.conflicts = conflictsOf(this.#engine, read);
    if (Object.values(options.collections).some(({ decide }) => decide)) this.#decide = () => decideAll(this.conflicts, options.collections);
  }

  /** @internal */
  static async open(options: OpenOptions): Promise<Landfall> {
    const db = new Landfall(options);
    try {
      await db.#engine.open();
    } catch (error) {
      await db.close();
      throw error;
    }
    db.#deaf = senseChanges(db.#senses);
    // Written before there was a worker, or by a tab that died before it could ask.
    if (db.#status.pending > 0) void db.#background.request();
    // What the worker brought home while no page was open.
    if (db.#status.parked > 0) void db.#decide?.().catch(() => undefined);
    return db;
  }

  /** Errors: `unknown_collection` at once. */
  collection<T extends object>(name: string): Collection<T> {
    this.#check(name);
    const write = async (op: string): Promise<WriteResult> => this.#confirmed(name, await this.#checks.write(name, op));
    const sight = { upgrade: this.#upgrades.get(name), confirming: this.#confirmations.of(name) };
    return new Collection<T>(name, this.#engine, this.#writes, sight.confirming ? write : (op) => this.#checks.write(name, op), sight);
  }

  /**
   * Writes all or none, here and at the server; when the callback throws, none. Resolves with a result for each write, in order.
   * Errors: those of a write, `group_too_large`, `group_crosses_scopes`.
   */
  async transaction(names: readonly string[], callback: (tx: Transaction) => void | Promise<void>): Promise<WriteResult[]> {
    names.forEach((name) => this.#check(name));
    const [ops, written] = await noted(names, callback);
    await this.#checks.group(ops);
    const results = ops.length === 0 ? [] : await this.#writes.addGroup(ops);
    return Promise.all(results.map((result, i) => this.#confirmed(written[i] as string, result)));
  }

  /** Gives the engine a new access token, or takes it away. Sync that waited for one goes on. */
  async token(token: string | null): Promise<void> {
    await this.#engine.call((replica) => replica.set_token(token ?? undefined, token === null ? undefined : expiresAtMs(token)));
  }

  /**
   * Ends the session and closes the database. `keep` leaves the data for this user's next login, `wipe` deletes it with
   * everything unsent. `ask` (default) wipes, but throws `unsynced_writes` (`details.count`) when something would be lost.
   * When it throws, the session has not ended. Errors: `blocked` while another tab does not let go of the data.
   */
  async logout({ unsynced = 'ask' }: { readonly unsynced?: 'ask' | 'keep' | 'wipe' } = {}): Promise<void> {
    if (this.#engine.ended) return;
    if (unsynced === 'ask') {
      // Counted when what was written before has been stored.
      await this.#writes.idle();
      const { pending, parked } = JSON.parse(await this.#engine.call(async (replica) => replica.status())) as RawStatus;
      const count = pending + parked;
      if (count > 0) throw new SyncError('unsynced_writes', `${count} writes have not reached the server.`, { details: { count } });
    }
    this.#writes.send();
    this.#confirmations.end();
    await this.#engine.end((replica) => replica.logout(unsynced === 'keep' ? 'keep' : 'wipe'), true);
    if (unsynced !== 'keep') {
      this.#history.delete();
      this.#loss.delete();
    }
    this.#deaf?.();
  }

  /** What a support person wants to see; without the contents of records. */
  async inspect(): Promise<Inspection> {
    return inspection(await this.#engine.call((replica) => replica.inspect()));
  }

  /** A file for whoever helps: status, inspection, metrics, history, and what waits, without any value of a record. */
  async supportBundle(): Promise<Blob> {
    const history = await this.sync.history();
    const metrics = metricsOf(history, this.#status);
    return supportBundle({ status: this.#status, inspection: await this.inspect(), metrics, history, outbox: await this.outbox.list(), conflicts: await this.conflicts.list() });
  }

  /**
   * The whole database as NDJSON, for support and for moving a device that cannot sync: a header, the records as the app sees
   * them, the outbox, the conflicts (docs/storage.md). It is read while it is taken, a few thousand records at a time; what is
   * written meanwhile may be in it or not. `await new Response(db.export()).blob()` makes a file of it.
   */
  export(): ReadableStream<Uint8Array> {
    return exportStream(this.#transfer());
  }

  /**
   * Takes an export of the same user into this database. Records that are missing or differ become writes like any other and
   * are sent once; what had been parked or had lost is only reported. A line that cannot be taken is refused and the others go on.
   * Errors: `invalid_options` for what is no export of this user; those of a write that are not one line's fault, such as
   * `quota_exceeded`, and what the source itself fails with: repeating the import is safe.
   */
  import(source: ReadableStream<Uint8Array> | Blob | string, options?: ImportOptions): Promise<ImportResult> {
    return importLines(this.#transfer(), source, options);
  }

  #transfer(): Transferable {
    // Without upgrades and checks: what is stored goes out, and comes in, as it is.
    const collection = (name: string): Collection<Record<string, unknown>> => {
      this.#check(name);
      return new Collection(name, this.#engine, this.#writes, (op) => this.#writes.add(op), {});
    };
    return {
      user: this.#user,
      collections: this.#collections,
      header: async () => {
        const { database, base } = await this.inspect();
        return { database, pairs: base.pairs };
      },
      page: (name, limit, after) => collection(name).query().page({ limit, after }),
      get: async (name, scope, id) => collection(name).get(id, { scope }),
      meta,
      outbox: () => this.outbox.list(),
      conflicts: () => this.conflicts.list(),
      write: async (op, name, scope, id, fields = {}) => {
        this.#check(name);
        return this.#writes.add(encodeOp(op, name, scope, id, op === 'put' ? { ...fields, id } : fields));
      },
    };
  }

  /** Stops and lets go of the database; what was written before is stored. A second call does nothing. */
  async close(): Promise<void> {
    this.#writes.send();
    this.#confirmations.end();
    this.#deaf?.();
    await this.#engine.end((replica) => replica.close());
    await this.#history.save();
  }

  #check(name: string): void {
    if (!this.#collections.has(name)) throw new SyncError('unknown_collection', `open() was not told of the collection ${name}.`, { details: { collection: name } });
  }

  /** Of an online-first collection: when the server has decided, or takes too long. */
  #confirmed(name: string, stored: WriteResult): Promise<WriteResult> | WriteResult {
    return this.#engine.ended ? stored : this.#confirmations.wait(name, stored, this.#status);
  }

  #makeSenses(): Senses {
    return {
      online: (online) => this.#engine.tell((replica) => replica.set_online(online)),
      visible: (visible) => {
        if (visible) this.#background.renew();
        else this.#background.leave();
        this.#engine.tell((replica) => replica.set_visible(visible));
      },
      wake: (reason) => this.#engine.tell((replica) => replica.wake(reason)),
    };
  }

  #makeSync(): Sync {
    const current = (): SyncStatus => this.#status;
    return {
      get status() {
        return current();
      },
      now: async ({ onProgress } = {}) => {
        this.#writes.send();
        const hear = onProgress && ((json: string) => queueMicrotask(() => guarded(() => onProgress(progress(JSON.parse(json) as EngineEvent)))));
        return JSON.parse(await this.#engine.call((replica) => replica.sync_now(hear))) as SyncResult;
      },
      metrics: async () => metricsOf(await this.#history.list(Infinity), this.#status),
      history: ({ limit = Infinity } = {}) => this.#history.list(limit),
      dismissLoss: () => {
        this.#loss.dismiss();
        this.#status = { ...this.#status, storage: { ...this.#status.storage, lost: null } };
        this.#events.emit('status', this.#status);
      },
      on: (event, listener) => this.#events.on(event, listener),
    };
  }

  #setStatus(raw: RawStatus): void {
    const status = camel(raw) as SyncStatus;
    this.#status = { ...status, storage: { ...status.storage, persisted: raw.storage.persisted ?? this.#persisted, lost: this.#loss.lost } };
  }

  /** May run inside a call of the engine: keeps what must be right at once, tells everybody later. */
  #heard(event: EngineEvent): boolean | void {
    const emit = this.#events;
    this.#history.heard(event);
    switch (event.type) {
      case 'status':
        this.#loss.heard(event['status'] as unknown as RawStatus);
        this.#setStatus(event['status'] as unknown as RawStatus);
        this.#confirmations.heard(this.#status);
        return emit.emit('status', this.#status);
      case 'conflict':
        this.#confirmations.decided();
        return emit.emit('conflict', camel(event['conflict'] as object) as Conflict);
      case 'rejected': {
        const entry = camel(event['entry'] as object) as OutboxEntry;
        this.#confirmations.decided();
        this.#confirmations.refused(entry);
        if (entry.state !== 'failed') return this.#decide ? void this.#refused(entry, this.#decide) : emit.emit('rejected', entry);
        // The engine itself tries it again now and then, and each time it may fail again.
        const unit = unitOf(entry);
        if (!this.#failed.has(unit)) emit.emit('failed', entry);
        this.#failed.add(unit);
        return;
      }
      case 'applied':
        this.#confirmations.decided();
        return emit.emit('applied', event['entries'] as readonly number[]);
      case 'change':
        return emit.emit('change', event['collections'] as readonly string[]);
      case 'progress':
        return emit.emit('progress', progress(event));
      case 'storage':
        return emit.emit('storage', { code: String(event['code']), ...('count' in event && { count: Number(event['count']) }) });
      case 'auth_required':
        return emit.emit('auth_required', null);
      case 'untidy':
        return this.#background.tidy();
      case 'enqueued':
        void this.#background.request();
        if (this.#wantsPersist) void this.#persist();
    }
  }

  /** Told, unless the app has decided it by itself. */
  async #refused(entry: OutboxEntry, decide: () => Promise<Set<number>>): Promise<void> {
    const decided = await decide().catch(() => undefined);
    if (!decided?.has(entry.id)) this.#events.emit('rejected', entry);
  }

  /** Asks the browser once not to evict what has not been sent. */
  async #persist(): Promise<void> {
    this.#wantsPersist = false;
    if (typeof document === 'undefined') return;
    this.#persisted = (await navigator.storage?.persist?.().catch(() => false)) ?? null;
    this.#status = { ...this.#status, storage: { ...this.#status.storage, persisted: this.#persisted } };
    this.#events.emit('status', this.#status);
  }
}

function tokenHook(auth: TokenAuth | 'cookie'): (() => Promise<{ token: string; expires_at: number | null } | null>) | undefined {
  if (auth === 'cookie' || !auth.token) return undefined;
  return async () => {
    const token = await auth.token?.();
    return !token ? null : { token, expires_at: expiresAtMs(token) ?? null };
  };
}
