/**
 * The one error that Landfall throws.
 *
 * Shape: `code` is for programs and comes from one list, which Rust owns; `message` is for people; `details` is plain data.
 * A conflict or a server's refusal is not an error: it is an outcome, and shows up in the outbox and in events.
 */

/** Every code that a call of this package can reject or throw with. A test compares this list with the one in Rust. */
export const syncErrorCodes = [
  // the call is wrong: nothing was stored
  'invalid_options',
  'invalid_record',
  'invalid_query',
  'id_too_long',
  'record_too_large',
  'unknown_collection',
  'scope_missing',
  'immutable_field',
  'not_found',
  'already_exists',
  'ambiguous_id',
  'unknown_entry',
  'entry_busy',
  'group_too_large',
  'group_crosses_scopes',
  'lane_full',
  'outbox_full',
  'unsynced_writes',
  'closed',
  // this device's storage
  'storage_failed',
  'storage_blocked',
  'storage_unavailable',
  'quota_exceeded',
  'newer_schema',
  // the way to the server and its answers
  'network',
  'timeout',
  'rate_limited',
  'server_error',
  'bad_request',
  'payload_too_large',
  'upgrade_required',
  'protocol',
  'auth_required',
  'wrong_user',
  // ours
  'wasm_unavailable',
  'engine_failed',
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
