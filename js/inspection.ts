/** The engine's picture of a database, put in order for people. */
import type { InspectedPair, Inspection, QuarantinedRow } from './types.js';

/** What the engine's JSON and the browser say together. */
export async function inspection(json: string): Promise<Inspection> {
  const raw = JSON.parse(json) as RawInspection;
  return {
    database: raw.database,
    clientId: raw.client_id,
    log: { rows: raw.log_rows, entries: raw.entries, oldestPending: raw.oldest_pending },
    outbox: {
      rev: raw.outbox_rev,
      nextSeq: raw.next_seq,
      ackedThrough: raw.acked_through,
      inFlight: raw.in_flight,
      batches: raw.batches,
      settled: raw.settled,
      parked: raw.parked,
      conflicts: raw.conflicts,
    },
    base: { rev: raw.base_rev, pairs: raw.pairs, compactionDebt: raw.compaction_debt, memoryBytes: raw.memory, memoryBudgetBytes: raw.memory_budget },
    quarantined: raw.quarantined,
    setAside: raw.set_aside,
    storage: await estimate(),
  };
}

/** The engine's flat picture. */
interface RawInspection {
  readonly database: string;
  readonly client_id: string;
  readonly outbox_rev: number;
  readonly base_rev: number;
  readonly next_seq: number;
  readonly acked_through: number;
  readonly log_rows: number;
  readonly entries: number;
  readonly in_flight: number;
  readonly batches: number;
  readonly settled: number;
  readonly parked: number;
  readonly conflicts: number;
  readonly oldest_pending: number | null;
  readonly compaction_debt: number;
  readonly memory: number;
  readonly memory_budget: number;
  readonly pairs: readonly InspectedPair[];
  readonly quarantined: readonly QuarantinedRow[];
  readonly set_aside: readonly string[];
}


/** What the browser says of the whole origin; null where it says nothing. */
async function estimate(): Promise<Inspection['storage']> {
  const found = await navigator.storage?.estimate?.().catch(() => undefined);
  return found ? { usageBytes: found.usage ?? 0, quotaBytes: found.quota ?? 0 } : null;
}
