/** Whether a `sync` event ends well, or asks the browser to wake the worker again. Pure. */
import type { SyncError } from '../js/errors.js';

/** What the engine says after a flush. */
export interface FlushReport {
  /** Entries that could be sent now. */
  readonly sendable: number;
  /** Entries without a final outcome, parked ones left out. */
  readonly pending: number;
  /** Entries that wait for a person. */
  readonly parked: number;
  readonly auth_required: boolean;
  /** The server asked to be left alone for this long. */
  readonly retry_after_ms: number | null;
}

/** Chromium's second pause; a server that wants longer than this would be asked in vain. */
const waitMsMax = 15 * 60_000;

/**
 * Shape: `report` is what the flush said, undefined when there is no such database, or the error it ended with.
 *
 * With a window open its timers retry, and a tag in back-off would be in the way of a fresh one. Entries that wait for a
 * person or for a login are not helped by another wake-up.
 */
export function decide(windowCount: number, report: FlushReport | SyncError | undefined): 'resolve' | 'reject' {
  if (windowCount > 0 || report === undefined) return 'resolve';
  if (report instanceof Error) return 'reject';
  if (report.auth_required) return 'resolve';
  if (report.retry_after_ms !== null) return report.pending > 0 && report.retry_after_ms <= waitMsMax ? 'reject' : 'resolve';
  return report.sendable > 0 ? 'reject' : 'resolve';
}
