/**
 * Asks what the app says of its records before they are stored: its validators, and whether what a record refers to is there.
 *
 * A write that needs nothing but its own record is checked at once. Where something must be read first, it waits, and so do
 * the later writes of its collection: they are stored in the order in which they were called.
 */
import { SyncError, toSyncError, type Json } from './errors.js';
import type { CollectionOptions, OutboxEntry, StandardIssue, WriteResult } from './types.js';
import type { WriteQueue } from './writes.js';

/** What is asked of the database. */
export interface Known {
  /** The record as the app sees it. */
  get(collection: string, id: string, scope: string | undefined): Promise<object | undefined>;
  /** True when everything of this collection that this device may have is here. */
  isWhole(collection: string): Promise<boolean>;
}

/** An operation as `encodeOp` wrote it. */
interface EncodedOp {
  readonly op: 'put' | 'create' | 'update' | 'delete';
  readonly collection: string;
  readonly scope?: string;
  readonly id?: string;
  readonly fields?: Readonly<Record<string, Json>>;
}

/** What comes before an operation: what the others of its transaction make of records, and writes that are still checked. */
interface Earlier {
  readonly records: Map<string, object>;
  readonly writes: readonly Promise<unknown>[];
}

const nameOf = (collection: string, id: string): string => `${collection}\0${id}`;

export class Checks {
  readonly #collections: Readonly<Record<string, CollectionOptions>>;
  readonly #known: Known;
  readonly #writes: WriteQueue;
  /** Of each collection, its last write that something had to be read for. */
  readonly #waiting = new Map<string, Promise<unknown>>();

  constructor(collections: Readonly<Record<string, CollectionOptions>>, known: Known, writes: WriteQueue) {
    this.#collections = collections;
    this.#known = known;
    this.#writes = writes;
  }

  /** Stores a write that is found well. Errors: `invalid_record` with `details.fields`, and those of a write. */
  write(collection: string, op: string): Promise<WriteResult> {
    const { validate, references } = this.#collections[collection] ?? {};
    if (!validate && !references) return this.#writes.add(op);
    const before = this.#waiting.get(collection);
    const earlier = this.#earlier();
    const checked = before ? before.then(() => this.#check(op, earlier)) : this.#check(op, earlier);
    if (!checked) return this.#writes.add(op);
    let stored: Promise<WriteResult> | undefined;
    const begun = checked.then(() => void (stored = this.#writes.add(op)));
    const over = begun.catch(() => undefined).then(() => {
      if (this.#waiting.get(collection) === over) this.#waiting.delete(collection);
    });
    this.#waiting.set(collection, over);
    return begun.then(() => stored as Promise<WriteResult>);
  }

  /** The same for all operations of a transaction; each sees what those before it do. */
  async group(ops: readonly string[]): Promise<void> {
    const earlier = this.#earlier();
    for (const op of ops) await this.#check(op, earlier);
  }

  /** The same for a parked change with a person's corrections. The outbox, which may be long, is only read where somebody checks. */
  async edit(entry: number, edits: object, outbox: () => Promise<readonly OutboxEntry[]>): Promise<void> {
    if (!Object.values(this.#collections).some(({ validate, references }) => validate ?? references)) return;
    const found = (await outbox()).find(({ id }) => id === entry);
    if (!found || found.op === 'delete') return;
    const { collection, scope, record, local } = found;
    await this.#check({ op: 'put', collection, scope, id: record, fields: { ...local, ...edits } }, this.#earlier());
  }

  /** Noted when a write is called: one that waited for later ones could wait for ever. */
  #earlier(): Earlier {
    return { records: new Map(), writes: [...this.#waiting.values()] };
  }

  #check(given: string | EncodedOp, earlier: Earlier): void | Promise<void> {
    const op = typeof given === 'string' ? (JSON.parse(given) as EncodedOp) : given;
    const { collection, id, fields } = op;
    const { validate, references } = this.#collections[collection] ?? {};
    const name = id === undefined ? undefined : nameOf(collection, id);
    if (!fields) {
      if (name) earlier.records.delete(name);
      return;
    }
    const whole = (before?: object): void | Promise<void> => {
      const record = { ...before, ...fields, ...(id !== undefined && { id }) };
      if (name) earlier.records.set(name, record);
      if (!validate) return;
      const result = validate['~standard'].validate(record);
      if (result instanceof Promise) return result.then(({ issues }) => refuse(issues));
      refuse(result.issues);
    };
    const before = op.op === 'update' && name ? (earlier.records.get(name) ?? (validate && this.#present(op))) : undefined;
    const validated = before instanceof Promise ? before.then((record) => record && whole(record)) : whole(before);
    const referring = Object.entries(references ?? {}).filter(([field]) => typeof fields[field] === 'string');
    if (referring.length === 0) return validated;
    return Promise.resolve(validated).then(async () => {
      for (const [field, parent] of referring) await this.#findParent(field, parent, fields[field] as string, earlier);
    });
  }

  /** What the update changes. Undefined: there is none, or not only one; the engine says so when it gets the update. */
  async #present({ collection, id, scope }: EncodedOp): Promise<object | undefined> {
    await this.#writes.idle();
    return this.#known.get(collection, id as string, scope).catch(() => undefined);
  }

  async #findParent(field: string, parent: string, id: string, earlier: Earlier): Promise<void> {
    if (earlier.records.has(nameOf(parent, id)) || (await this.#has(parent, id))) return;
    // It may have been written a moment ago.
    await Promise.all(earlier.writes);
    await this.#writes.idle();
    if ((await this.#has(parent, id)) || !(await this.#known.isWhole(parent))) return;
    refuse([{ message: `names nothing in ${parent}`, path: [field] }]);
  }

  async #has(collection: string, id: string): Promise<boolean> {
    try {
      return (await this.#known.get(collection, id, undefined)) !== undefined;
    } catch (error) {
      // One in each of several scopes; anything else that is wrong with the id is no parent's id.
      return toSyncError(error).code === 'ambiguous_id';
    }
  }
}

/** Throws when there is something wrong. */
function refuse(issues: readonly StandardIssue[] | undefined): void {
  if (!issues?.length) return;
  const fields: Record<string, string> = {};
  for (const { message, path = [] } of issues) {
    const field = path.map((step) => String(typeof step === 'object' ? step.key : step)).join('.');
    fields[field] = field in fields ? `${fields[field]}; ${message}` : message;
  }
  const words = Object.entries(fields).map(([field, message]) => (field ? `${field}: ${message}` : message));
  throw new SyncError('invalid_record', `The record is not valid. ${words.join('. ')}`, { details: { path: Object.keys(fields)[0] ?? '', fields } });
}
