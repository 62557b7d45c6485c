/**
 * What became of the last pushes and pulls: a small database of its own beside the engine's, written by page and worker.
 *
 * It is for people who look into what went wrong. Losing a row of it loses nothing else, so it is written now and then, in
 * `relaxed` transactions, and what cannot be written is kept in memory. Source: docs/adr/0024-history-beside-the-engine.md.
 */
import type { EngineEvent } from './engine.js';
import { databasePrefix } from './tags.js';
import type { SyncMetrics, SyncStatus, SyncStep } from './types.js';

const stepsMax = 1000;
const saveAfterMs = 1000;

export class History {
  readonly #name: string;
  #unsaved: SyncStep[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #over = false;

  /** Beside the database of this name; not found by who looks for Landfall's databases. */
  constructor(database: string) {
    this.#name = database.replace(databasePrefix, 'landfall-history:');
  }

  /** Takes an event of the engine. */
  heard({ type, ...step }: EngineEvent): void {
    if (type !== 'step' || this.#over) return;
    this.#unsaved = [...this.#unsaved, { at: Date.now(), ...step } as unknown as SyncStep].slice(-stepsMax);
    this.#timer ??= setTimeout(() => void this.save(), saveAfterMs);
  }

  /** Newest first. */
  async list(limit: number): Promise<SyncStep[]> {
    await this.save();
    const stored = await this.#use<SyncStep[]>('readonly', (store) => store.getAll()).catch(() => []);
    return [...stored, ...this.#unsaved].reverse().slice(0, limit);
  }

  async save(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const rows = this.#unsaved;
    if (rows.length === 0 || this.#over) return;
    this.#unsaved = [];
    try {
      await this.#use('readwrite', (store) => {
        const [last] = rows.map((row) => store.add(row)).slice(-1) as [IDBRequest<IDBValidKey>];
        last.onsuccess = () => store.delete(IDBKeyRange.upperBound(Number(last.result) - stepsMax));
        return last;
      });
    } catch {
      this.#unsaved = [...rows, ...this.#unsaved].slice(-stepsMax);
    }
  }

  /** Of a user whose data goes, nothing stays. */
  delete(): void {
    this.#over = true;
    globalThis.indexedDB?.deleteDatabase(this.#name);
  }

  /** Opened for one transaction only: it never stands in the way of another tab. */
  #use<T>(mode: IDBTransactionMode, use: (store: IDBObjectStore) => IDBRequest): Promise<T> {
    return new Promise((resolve, reject) => {
      const opening = indexedDB.open(this.#name, 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore('steps', { autoIncrement: true });
      opening.onerror = () => reject(opening.error);
      opening.onsuccess = () => {
        const transaction = opening.result.transaction('steps', mode, { durability: 'relaxed' });
        const request = use(transaction.objectStore('steps'));
        transaction.oncomplete = () => resolve(request.result as T);
        transaction.onabort = () => reject(transaction.error);
        // Waits for the transaction.
        opening.result.close();
      };
    });
  }
}

export function metricsOf(steps: readonly SyncStep[], { pending, parked, connectivity }: SyncStatus): SyncMetrics {
  const sum = (of: readonly SyncStep[], what: 'ms' | 'applied' | 'rejected' | 'conflicts'): number => of.reduce((total, step) => total + step[what], 0);
  const share = (part: number, whole: number): number => (whole > 0 ? part / whole : 0);
  const well = steps.filter(({ result }) => result === 'done');
  const conflicts = sum(steps, 'conflicts');
  return {
    steps: steps.length,
    successRate: share(well.length, steps.length),
    failureRate: share(steps.length - well.length, steps.length),
    averageMs: share(sum(well, 'ms'), well.length),
    conflictRate: share(conflicts, sum(steps, 'applied') + sum(steps, 'rejected') + conflicts),
    pending,
    parked,
    lastSuccess: well[0]?.at ?? null,
    connectivity,
  };
}
