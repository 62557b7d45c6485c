/** The records of one collection: the calls of an app that name a record or ask for some. */
import type { Engine } from './engine.js';
import type { SyncError } from './errors.js';
import { decodeRow, Query, type Sight } from './query.js';
import type { Changes, Draft, QueryOptions, ScopeOption, Stored, Unsubscribe, WriteResult } from './types.js';
import { checkId } from './validate.js';
import { encodeOp, type Op, type WriteQueue } from './writes.js';

export class Collection<T extends object> {
  readonly name: string;
  readonly #engine: Engine;
  readonly #writes: WriteQueue;
  readonly #store: (op: string) => Promise<WriteResult>;
  readonly #sight: Sight;

  /** @internal Made by `db.collection()`. */
  constructor(name: string, engine: Engine, writes: WriteQueue, store: (op: string) => Promise<WriteResult>, sight: Sight) {
    this.name = name;
    this.#engine = engine;
    this.#writes = writes;
    this.#store = store;
    this.#sight = sight;
  }

  /** Writes a whole record: creates it or replaces its fields. Visible and durable when it resolves. Errors: see docs/errors.md. */
  put(record: Draft<T>, options?: ScopeOption): Promise<WriteResult> {
    return this.#write('put', undefined, record, options);
  }

  /** Like `put`, for a record that must not be there yet. */
  create(record: Draft<T>, options?: ScopeOption): Promise<WriteResult> {
    return this.#write('create', undefined, record, options);
  }

  /** Changes the named fields of a record that is there. */
  update(id: string, changes: Changes<T>, options?: ScopeOption): Promise<WriteResult> {
    return this.#write('update', id, changes, options);
  }

  delete(id: string, options?: ScopeOption): Promise<WriteResult> {
    return this.#write('delete', id, undefined, options);
  }

  /** Undefined when there is none. Errors: `ambiguous_id` when the id is in two scopes and none is named. */
  async get(id: string, { scope }: ScopeOption = {}): Promise<Stored<T> | undefined> {
    checkId(id);
    this.#writes.send();
    const json = await this.#engine.call((replica) => replica.get(this.name, scope, id));
    return json === undefined ? undefined : decodeRow<T>(json, this.#sight);
  }

  /** Errors: `invalid_options` at once, for what JSON cannot hold. */
  query(options: QueryOptions<T> = {}): Query<T> {
    return new Query<T>(this.#engine, this.#writes.send, this.name, options, this.#sight);
  }

  /** All records, now and whenever they change. */
  subscribe(callback: (records: Stored<T>[]) => void, onError?: (error: SyncError) => void): Unsubscribe {
    return this.query().subscribe(callback, onError);
  }

  #write(op: Op, id: string | undefined, record: object | undefined, options?: ScopeOption): Promise<WriteResult> {
    // Not an async function: it is called for every record of an import.
    try {
      return this.#store(encodeOp(op, this.name, options?.scope, id, record));
    } catch (error) {
      return Promise.reject(error);
    }
  }
}
