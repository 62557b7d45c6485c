/** Queries, live queries and what is known about a record beside its fields. */
import { toSyncError, type SyncError } from './errors.js';
import type { Engine } from './engine.js';
import { guarded } from './events.js';
import type { Page, PageOptions, QueryOptions, QueryPlan, RecordMeta, RecordState, Stored, Unsubscribe } from './types.js';
import { encodeObject } from './validate.js';

type RawMeta = readonly [state: RecordState, version: number, scope: string];

/** From `start` on, `gone` records are replaced by those that come with it. */
interface Splice {
  readonly start: number | null;
  readonly gone: number;
}

const metas = new WeakMap<object, RawMeta>();

/** How a record that this package gave stands; undefined for any other object, copies included. */
export function meta(record: object): RecordMeta | undefined {
  const raw = metas.get(record);
  return raw && { state: raw[0], version: raw[1], scope: raw[2] };
}

/** @internal `{"row", "meta"}` → the record. */
export function decodeRow<T extends object>(json: string): Stored<T> {
  const { row, meta } = JSON.parse(json) as { row: Stored<T>; meta: RawMeta };
  metas.set(row, meta);
  return row;
}

/** `{"rows", "meta", "next"}` → the records and where they end. */
function decodePage<T extends object>(json: string): Page<T> {
  const { rows, meta, next } = JSON.parse(json) as { rows: Stored<T>[]; meta: RawMeta[]; next?: string | null };
  rows.forEach((row, i) => {
    const raw = meta[i];
    if (raw) metas.set(row, raw);
  });
  return { rows, next: next ?? undefined };
}

const decodeRows = <T extends object>(json: string): Stored<T>[] => decodePage<T>(json).rows;

export class Query<T extends object> {
  readonly #engine: Engine;
  readonly #before: () => void;
  readonly #json: string;

  /** @internal `before` runs before a question is asked: what was written so far goes first. */
  constructor(engine: Engine, before: () => void, collection: string, options: QueryOptions<T>) {
    const given = Object.entries(options).filter(([, value]) => value !== undefined);
    this.#engine = engine;
    this.#before = before;
    this.#json = encodeObject({ ...Object.fromEntries<unknown>(given), collection }, 'invalid_options', 'query');
  }

  async get(): Promise<Stored<T>[]> {
    this.#before();
    return decodeRows(await this.#engine.call((replica) => replica.query(this.#json)));
  }

  /** How many records fit; `limit` and `offset` are not looked at. No record is handed over for it. */
  async count(): Promise<number> {
    this.#before();
    return this.#engine.call((replica) => replica.count(this.#json));
  }

  /**
   * A part of the answer: `limit` records, from the start or behind the end of an earlier page (`after`: its `next`).
   * It goes on at that place in the order, whatever was written meanwhile: no record that stays where it is comes twice or
   * is left out. `offset` counts for the first page only. Errors: `invalid_options` for an `after` of another question.
   */
  async page({ limit, after }: PageOptions): Promise<Page<T>> {
    const asked = JSON.parse(this.#json) as Record<string, unknown>;
    const json = encodeObject({ ...asked, limit, ...(after !== undefined && { after, offset: 0 }) }, 'invalid_options', 'page');
    this.#before();
    return decodePage(await this.#engine.call((replica) => replica.query(json)));
  }

  /** How the engine goes about it: for whoever wonders why a query is slow. */
  async explain(): Promise<QueryPlan> {
    const json = await this.#engine.call((replica) => replica.explain(this.#json));
    const { early_stop: earlyStop, ...plan } = JSON.parse(json) as Omit<QueryPlan, 'earlyStop'> & { early_stop: boolean };
    return { ...plan, earlyStop };
  }

  /**
   * Calls back with the records now and whenever they may have changed, on a microtask; of several changes in one turn only the last.
   * A record that did not change between two calls is the same object.
   */
  subscribe(callback: (records: Stored<T>[]) => void, onError?: (error: SyncError) => void): Unsubscribe {
    let rows: readonly Stored<T>[] = [];
    let waiting = false;
    let over = false;
    const deliver = (): void => {
      waiting = false;
      if (!over) guarded(() => callback([...rows]));
    };
    const answer = (json: string): void => {
      const { start, gone } = JSON.parse(json) as Splice;
      const fresh = decodeRows<T>(json);
      // Without a start it is the whole answer: the first one, or that of an engine that was started again.
      rows = typeof start !== 'number' ? fresh : [...rows.slice(0, start), ...fresh, ...rows.slice(start + gone)];
      if (!waiting) queueMicrotask(deliver);
      waiting = true;
    };
    const fail = (error: unknown): void => queueMicrotask(() => void (over || guarded(() => onError?.(toSyncError(error)))));
    this.#before();
    const stop = this.#engine.watch(this.#json, answer, fail);
    return () => {
      over = true;
      stop();
    };
  }
}
