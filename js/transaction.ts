/** What the callback of a transaction asks for, noted down: nothing is written before it has ended well. */
import { SyncError } from './errors.js';
import type { Changes, Draft, ScopeOption } from './types.js';
import { encodeOp, type Op } from './writes.js';

/** The writes of one collection inside a transaction; they happen when the callback has ended well. */
export interface TransactionCollection<T extends object> {
  put(record: Draft<T>, options?: ScopeOption): void;
  create(record: Draft<T>, options?: ScopeOption): void;
  update(id: string, changes: Changes<T>, options?: ScopeOption): void;
  delete(id: string, options?: ScopeOption): void;
}

export interface Transaction {
  collection<T extends object>(name: string): TransactionCollection<T>;
}

/** @internal Runs the callback. Gives the writes as the engine takes them, and the collection of each. */
export async function noted(names: readonly string[], callback: (tx: Transaction) => void | Promise<void>): Promise<[ops: string[], written: string[]]> {
  const ops: string[] = [];
  const written: string[] = [];
  let over = false;
  const collection = <T extends object>(name: string): TransactionCollection<T> => {
    if (!names.includes(name)) throw new SyncError('unknown_collection', `This transaction does not name the collection ${name}.`, { details: { collection: name } });
    const push = (op: Op, id: string | undefined, record: object | undefined, options?: ScopeOption): void => {
      if (over) throw new SyncError('closed', 'This transaction has ended.');
      ops.push(encodeOp(op, name, options?.scope, id, record));
      written.push(name);
    };
    return {
      put: (record, options) => push('put', undefined, record, options),
      create: (record, options) => push('create', undefined, record, options),
      update: (id, changes, options) => push('update', id, changes, options),
      delete: (id, options) => push('delete', id, undefined, options),
    };
  };
  try {
    await callback({ collection });
  } finally {
    over = true;
  }
  return [ops, written];
}
