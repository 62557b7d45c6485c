/** The package `landfall`: `open()` a database, write to it with or without a network, and see every write make landfall. */
export { open } from './client.js';
export type { Collection, Conflicts, Landfall, Outbox, Sync, Transaction, TransactionCollection } from './client.js';
export { isSyncError, SyncError, syncErrorCodes } from './errors.js';
export type { Json, SyncErrorCode, SyncErrorOptions } from './errors.js';
export { meta } from './query.js';
export type { Query } from './query.js';
export type * from './types.js';
export { setWasmUrl } from './wasm.js';
