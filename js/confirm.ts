/**
 * Online-first: what was stored waits for the server's word, for a while.
 *
 * Invariant: the write is stored before anything here begins, and nothing here changes it. A wait that ends without an
 * outcome ends as `stored`; the outcome comes later, as it does for any other write.
 */
import type { OutboxEntry, SyncStatus, WriteResult } from './types.js';

const waitMs = 10_000;

/** The records of one collection that wait, and who shows them. */
export interface Confirming {
  readonly records: Set<string>;
  readonly shown: Set<() => void>;
}

export const recordName = (scope: string, id: string): string => `${scope}\0${id}`;

/** The server's outcome, as the engine keeps it. */
interface Outcome extends Pick<WriteResult, 'code' | 'message' | 'fields'> {
  readonly status: Exclude<WriteResult['status'], 'stored'> | 'recreated';
}

interface Wait {
  readonly entry: number;
  readonly end: (outcome?: Outcome) => void;
}

export class Confirmations {
  readonly #collections = new Map<string, Confirming>();
  readonly #waits = new Set<Wait>();
  readonly #outcome: (entry: number) => Promise<string | undefined>;

  constructor(names: readonly string[], outcome: (entry: number) => Promise<string | undefined>) {
    for (const name of names) this.#collections.set(name, { records: new Set(), shown: new Set() });
    this.#outcome = outcome;
  }

  /** Undefined for a collection that is offline-first. */
  of(collection: string): Confirming | undefined {
    return this.#collections.get(collection);
  }

  /** The result of a write when the server has decided, or when it takes too long. */
  wait(collection: string, stored: WriteResult, status: SyncStatus): Promise<WriteResult> | WriteResult {
    const confirming = this.of(collection);
    const { entry } = stored;
    if (!confirming || entry === null || !canAnswer(status)) return stored;
    const record = recordName(stored.scope, stored.id);
    return new Promise((resolve) => {
      const show = (): void => confirming.shown.forEach((shown) => shown());
      const end = (outcome?: Outcome): void => {
        if (!this.#waits.delete(wait)) return;
        clearTimeout(timer);
        confirming.records.delete(record);
        show();
        if (!outcome) return resolve(stored);
        const { status, code, message, fields } = outcome;
        resolve({
          ...stored,
          status: status === 'recreated' ? 'applied' : status,
          ...(status === 'rejected' || status === 'conflict' ? { ...(code && { code }), ...(message && { message }), ...(fields && { fields }) } : undefined),
        });
      };
      const timer = setTimeout(end, waitMs);
      const wait = { entry, end };
      this.#waits.add(wait);
      confirming.records.add(record);
      show();
      void this.#look(wait);
    });
  }

  /** Something was decided, here or by another tab or the worker. */
  decided(): void {
    for (const wait of this.#waits) void this.#look(wait);
  }

  /** Refused by this device: it builds on what the server refused. */
  refused({ id, reason }: OutboxEntry): void {
    for (const { entry, end } of this.#waits) if (entry === id) end({ ...(reason as Outcome), status: reason?.code === 'conflict' ? 'conflict' : 'rejected' });
  }

  heard(status: SyncStatus): void {
    if (!canAnswer(status)) this.end();
  }

  end(): void {
    for (const { end } of this.#waits) end();
  }

  async #look({ entry, end }: Wait): Promise<void> {
    // An engine that has ended, or was replaced during the call, says nothing; the next event or the clock does.
    const outcome = await this.#outcome(entry).catch(() => undefined);
    if (outcome !== undefined) end(JSON.parse(outcome) as Outcome);
  }
}

const canAnswer = ({ connectivity, phase, auth }: SyncStatus): boolean => connectivity !== 'offline' && phase !== 'paused' && auth !== 'auth_required';
