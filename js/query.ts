/** Queries, live queries and what is known about a record beside its fields. */
import { SyncError, toSyncError } from './errors.js';
import type { Engine } from './engine.js';
import { recordName, type Confirming } from './confirm.js';
import { guarded } from './events.js';
import type { Page, PageOptions, QueryOptions, QueryPlan, RecordMeta, RecordState, Stored, Unsubscribe } from './types.js';
import type { Upgrade } from './upgrade.js';
import { encodeObject } from './validate.js';

type RawMeta = readonly [state: RecordState, version: number, scope: string];

/** From `start` on, `gone` records are replaced by those that come with it. */
interface Splice {
  readonly start: number | null;
  readonly gone: number;
}

interface Known {
  readonly raw: RawMeta;
  readonly id: string;
  readonly confirming: Confirming | undefined;
}

const metas = new WeakMap<object, Known>();

/** How a record that this package gave stands; undefined for any other object, copies included. */
export function meta(record: object): RecordMeta | undefined {
  const known = metas.get(record);
  if (!known) return undefined;
  const [state, version, scope] = known.raw;
  const waits = (state === 'pending' || state === 'sending') && known.confirming?.records.has(recordName(scope, known.id));
  return { state: waits ? 'confirming' : state, version, scope };
}

/** @internal How the records of a collection are shown. */
export interface Sight {
  readonly upgrade?: Upgrade | undefined;
  readonly confirming?: Confirming | undefined;
}

/** The record as the app sees it, with what is known about it. */
function seen<T extends object>(row: Stored<T>, raw: RawMeta | undefined, { upgrade, confirming }: Sight): Stored<T> {
  const { id } = row;
  const record = upgrade ? upgrade.apply(row) : row;
  if (raw) metas.set(record, { raw, id, confirming });
  return record;
}

/** @internal `{"row", "meta"}` → the record. */
export function decodeRow<T extends object>(json: string, sight: Sight): Stored<T> {
  const { row, meta } = JSON.parse(json) as { row: Stored<T>; meta: RawMeta };
  return seen(row, meta, sight);
}

/** `{"rows", "meta", "next"}` → the records and where they end. */
function decodePage<T extends object>(json: string, sight: Sight): Page<T> {
  const { rows, meta, next } = JSON.parse(json) as { rows: Stored<T>[]; meta: RawMeta[]; next?: string | null };
  return { rows: rows.map((row, i) => seen(row, meta[i], sight)), next: next ?? undefined };
}

export class Query<T extends object> {
  readonly #engine: Engine;
  readonly #before: () => void;
  readonly #json: string;
  readonly #sight: Sight;

  /** @internal `before` runs before a question is asked: what was written so far goes first. */
  constructor(engine: Engine, before: () => void, collection: string, options: QueryOptions<T>, sight: Sight) {
    if (sight.upgrade) checkFields(options, sight.upgrade);
    this.#sight = sight;
    const given = Object.entries(options).filter(([, value]) => value !== undefined);
    this.#engine = engine;
    this.#before = before;
    this.#json = encodeObject({ ...Object.fromEntries<unknown>(given), collection }, 'invalid_options', 'query');
  }

  async get(): Promise<Stored<T>[]> {
    this.#before();
    return decodePage<T>(await this.#engine.call((replica) => replica.query(this.#json)), this.#sight).rows;
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
    return decodePage(await this.#engine.call((replica) => replica.query(json)), this.#sight);
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
    // A record could not be upgraded: what follows would be a part of nothing.
    let broken = false;
    const answer = (json: string): void => {
      if (broken) return;
      const { start, gone } = JSON.parse(json) as Splice;
      let fresh: readonly Stored<T>[];
      try {
        fresh = decodePage<T>(json, this.#sight).rows;
      } catch (error) {
        broken = true;
        return fail(error);
      }
      // Without a start it is the whole answer: the first one, or that of an engine that was started again.
      rows = typeof start !== 'number' ? fresh : [...rows.slice(0, start), ...fresh, ...rows.slice(start + gone)];
      if (!waiting) queueMicrotask(deliver);
      waiting = true;
    };
    const fail = (error: unknown): void => queueMicrotask(() => void (over || guarded(() => onError?.(toSyncError(error)))));
    this.#before();
    const stop = this.#engine.watch(this.#json, answer, fail);
    const shown = (): void => {
      if (!waiting && rows.length > 0) queueMicrotask(deliver);
      waiting ||= rows.length > 0;
    };
    this.#sight.confirming?.shown.add(shown);
    return () => {
      over = true;
      this.#sight.confirming?.shown.delete(shown);
      stop();
    };
  }
}

/** The engine sees what is stored: where that is not what the app sees, its answer would be wrong and nobody would know. */
function checkFields<T extends object>({ where = {}, orderBy = [] }: QueryOptions<T>, upgrade: Upgrade): void {
  const order = typeof orderBy === 'string' ? [orderBy] : orderBy.map(([field]) => field);
  for (const [part, fields] of [['where', Object.keys(where)], ['orderBy', order]] as const) {
    const field = fields.find((name) => upgrade.fields.has(name));
    if (field === undefined) continue;
    throw new SyncError('invalid_options', `A query cannot ask for ${field} while a migration changes it.`, { details: { path: `${part}.${field}` } });
  }
}
