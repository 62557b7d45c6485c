/** Queries, live queries and what is known about a record beside its fields. */
import { toSyncError, type SyncError } from './errors.js';
import type { Engine } from './engine.js';
import { guarded } from './events.js';
import type { QueryOptions, RecordMeta, RecordState, Stored, Unsubscribe } from './types.js';
import { encodeObject } from './validate.js';

type RawMeta = readonly [state: RecordState, version: number, scope: string];

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

/** `{"rows", "meta"}` → the records. */
function decodeRows<T extends object>(json: string): Stored<T>[] {
  const answer = JSON.parse(json) as { rows: Stored<T>[]; meta: RawMeta[] };
  answer.rows.forEach((row, i) => {
    const raw = answer.meta[i];
    if (raw) metas.set(row, raw);
  });
  return answer.rows;
}

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

  /**
   * Calls back with the records now and whenever they may have changed, on a microtask; of several changes in one turn only the last.
   * Records that did not change between two calls are still new objects.
   */
  subscribe(callback: (records: Stored<T>[]) => void, onError?: (error: SyncError) => void): Unsubscribe {
    let latest: string | undefined;
    let over = false;
    const deliver = (): void => {
      const json = latest;
      latest = undefined;
      if (!over && json !== undefined) guarded(() => callback(decodeRows(json)));
    };
    const answer = (json: string): void => {
      if (latest === undefined) queueMicrotask(deliver);
      latest = json;
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
