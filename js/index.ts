/** The package `landfall`: `open()` a database, write to it with or without a network, and see every write make landfall. */
export { open } from './client.js';
export type { Landfall, Sync } from './client.js';
export type { Collection } from './collection.js';
export { isSyncError, SyncError, syncErrorCodes } from './errors.js';
export type { Json, SyncErrorCode, SyncErrorOptions } from './errors.js';
export { meta } from './query.js';
export type { Query } from './query.js';
export type { Transaction, TransactionCollection } from './transaction.js';
export type * from './types.js';
export type { Conflicts, Outbox } from './waiting.js';
export { setWasmUrl } from './wasm.js';
