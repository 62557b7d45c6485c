/** What a support person gets: how the database and its sync are, and nothing of what is in the records. */
import type { Conflict, Inspection, OutboxEntry, SyncMetrics, SyncStatus, SyncStep } from './types.js';

declare const LANDFALL_VERSION: string;

/** @internal The package's own; set by js/build.mjs. */
export const version = LANDFALL_VERSION;

export interface SupportFacts {
  readonly status: SyncStatus;
  readonly inspection: Inspection;
  readonly metrics: SyncMetrics;
  readonly history: readonly SyncStep[];
  readonly outbox: readonly OutboxEntry[];
  readonly conflicts: readonly Conflict[];
}

/** Values are left out: of fields only the names are told, of a reason its code and the fields that it names. */
export function supportBundle({ outbox, conflicts, ...facts }: SupportFacts): Blob {
  const bundle = {
    landfall: version,
    madeAt: new Date().toISOString(),
    browser: navigator.userAgent,
    ...facts,
    outbox: outbox.map(({ id, collection, scope, record, op, state, createdAt, attempts, group, fields, reason }) => ({
      id, collection, scope, record, op, state, createdAt, attempts, group, fields: Object.keys(fields),
      reason: reason && { code: reason.code, fields: Object.keys(Object(reason.fields)) },
    })),
    conflicts: conflicts.map(({ id, collection, scope, record, at, status, op, local }) => ({ id, collection, scope, record, at, status, op, fields: Object.keys(local) })),
  };
  return new Blob([JSON.stringify(bundle, null, 2)], { type: 'application/json' });
}
