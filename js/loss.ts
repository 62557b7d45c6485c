/**
 * Notices that the browser threw a database away. Chromium does so when it finds the files of IndexedDB damaged, as after a kill,
 * and tells nobody; the database that is opened next is a new one.
 *
 * What there was, and how much of it waited, is noted in localStorage, which is kept in files of its own. Where that is not there,
 * or went too (cleared site data, eviction), nothing can be noticed here. Source: docs/adr/0026-a-lost-database-is-told.md.
 */
import type { StorageLoss } from './types.js';
import type { RawStatus } from './wasm.js';

interface Note {
  /** Entries that wait to be sent or for a person. */
  readonly waits: number;
  readonly synced: boolean;
  readonly lost: StorageLoss | null;
}

const nothing: Note = { waits: 0, synced: false, lost: null };
/** A number that changes all the time is noted that often. */
const everyMs = 1000;

export class LossWatch {
  readonly #key: string;
  #note = nothing;
  #next = nothing;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(database: string) {
    this.#key = `${database}:note`;
  }

  /** What was lost and nobody has seen yet. */
  get lost(): StorageLoss | null {
    return this.#note.lost;
  }

  /** Takes the status of a database that was just opened. True: it is not the one that was there before. */
  opened(status: RawStatus): boolean {
    this.#note = { ...nothing, ...this.#stored() };
    const { waits, synced } = this.#note;
    const isNew = status.last_sync === null && status.pending + status.parked === 0 && status.storage.quarantined === 0;
    const isLost = isNew && (synced || waits > 0);
    this.#save({ ...noteOf(status), lost: isLost ? { count: waits + (this.#note.lost?.count ?? 0), at: Date.now() } : this.#note.lost });
    return isLost;
  }

  heard(status: RawStatus): void {
    const next = { ...this.#note, ...noteOf(status) };
    const { waits, synced } = this.#note;
    this.#next = next;
    if ((next.waits > 0) !== (waits > 0) || next.synced !== synced) this.#keep();
    else if (next.waits !== waits) this.#timer ??= setTimeout(() => this.#keep(), everyMs);
  }

  dismiss(): void {
    this.#note = { ...this.#note, lost: null };
    if (this.#stored()) this.#save(this.#note);
  }

  /** Of a user whose data goes, nothing stays. */
  delete(): void {
    try {
      localStorage.removeItem(this.#key);
    } catch {
      // There is none.
    }
  }

  #stored(): Partial<Note> | null {
    try {
      return JSON.parse(localStorage.getItem(this.#key) ?? 'null') as Partial<Note> | null;
    } catch {
      return null;
    }
  }

  /** Another tab may have dismissed what was lost, or wiped the user's data: then there is nothing to note any more. */
  #keep(): void {
    const stored = this.#stored();
    if (stored) this.#save({ ...this.#next, lost: stored.lost ?? null });
  }

  #save(note: Note): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#note = note;
    try {
      localStorage.setItem(this.#key, JSON.stringify(note));
    } catch {
      // Nothing is noted, and nothing else fails.
    }
  }
}

const noteOf = ({ pending, parked, last_sync }: RawStatus): Omit<Note, 'lost'> => ({ waits: pending + parked, synced: last_sync !== null });
