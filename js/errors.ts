/**
 * The one error that Landfall throws.
 *
 * Shape: `code` is for programs and comes from one list, which Rust owns; `message` is for people; `details` is plain data.
 * A conflict or a server's refusal is not an error: it is an outcome, and shows up in the outbox and in events.
 */

/** The engine's codes: `CODES` in crates/replica/src/error.rs, in its order. A test compares the two. */
export const engineErrorCodes = [
  'invalid_options',
  'invalid_record',
  'id_too_long',
  'record_too_large',
  'unknown_collection',
  'not_found',
  'already_exists',
  'ambiguous_id',
  'missing_scope_field',
  'group_too_large',
  'group_crosses_scopes',
  'outbox_full',
  'lane_full',
  'not_parked',
  'storage_failed',
  'quota_exceeded',
  'newer_schema',
  'blocked',
  'unavailable',
  'closed',
] as const;

/** Every code that a call of this package can reject or throw with. */
export const syncErrorCodes = [
  ...engineErrorCodes,
  /** `logout()` would lose what has not reached the server; `details.count`. */
  'unsynced_writes',
  /** A worker's flush left something to send; the browser wakes the worker again. */
  'unsent',
  /** The module could not be fetched or compiled. */
  'wasm_unavailable',
  /** The engine broke during the call; whether a write was stored is not known (`details.fate`), the outbox shows it. */
  'engine_failed',
  /** A bug, or a module and a script of two builds. */
  'internal',
] as const;

export type SyncErrorCode = (typeof syncErrorCodes)[number];

/** A JSON value, as records and details hold them. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

export interface SyncErrorOptions {
  /** The same call may succeed later without anybody changing anything. */
  readonly retryable?: boolean;
  readonly details?: Readonly<Record<string, Json>>;
  readonly cause?: unknown;
}

export class SyncError extends Error {
  override readonly name = 'SyncError';
  readonly code: SyncErrorCode;
  readonly retryable: boolean;
  readonly details: Readonly<Record<string, Json>> | undefined;

  constructor(code: SyncErrorCode, message: string, { retryable = false, details, cause }: SyncErrorOptions = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.retryable = retryable;
    this.details = details;
  }
}

const codes: ReadonlySet<unknown> = new Set(syncErrorCodes);
const isCode = (code: unknown): code is SyncErrorCode => codes.has(code);

/** Tells a SyncError from any other error, also one that another copy of this package threw. */
export function isSyncError(error: unknown): error is SyncError {
  return error instanceof SyncError || (error instanceof Error && error.name === 'SyncError' && 'code' in error && isCode(error.code));
}

/**
 * What the engine threw, as a SyncError.
 *
 * The engine throws plain objects `{code, message, retryable, details?}`. A code that this list lacks means that module and
 * script are of two builds: it becomes `internal` and keeps the original in `details.code`, rather than a type that lies.
 */
export function toSyncError(thrown: unknown): SyncError {
  if (isSyncError(thrown)) return thrown;
  if (typeof thrown !== 'object' || thrown === null || thrown instanceof Error || !('code' in thrown)) {
    return new SyncError('internal', thrown instanceof Error ? thrown.message : String(thrown), { cause: thrown });
  }
  const { code, message, retryable, details } = thrown as EngineError;
  const known = isCode(code);
  const data = known ? details : { ...details, code: String(code) };
  return new SyncError(known ? code : 'internal', String(message ?? code), { retryable: retryable === true, ...(data && { details: data }) });
}

interface EngineError {
  readonly code: unknown;
  readonly message?: unknown;
  readonly retryable?: unknown;
  readonly details?: Readonly<Record<string, Json>>;
}
