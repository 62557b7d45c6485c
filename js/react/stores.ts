/** Live answers as stores of `useSyncExternalStore`: followed while somebody looks, the same snapshot until something changes. No React in here. */
import type { Landfall } from '../client.js';
import type { SyncError } from '../errors.js';
import type { Conflict, OutboxEntry, QueryOptions, Stored, SyncStatus, Unsubscribe } from '../types.js';

export interface Store<S> {
  readonly subscribe: (listener: () => void) => Unsubscribe;
  readonly getSnapshot: () => S;
}

/** Follows by `follow` from the first listener to the last. */
function store<S>(initial: S, follow: (set: (next: S) => void, get: () => S) => Unsubscribe): Store<S> {
  let snapshot = initial;
  const listeners = new Set<() => void>();
  let stop: Unsubscribe | undefined;
  const set = (next: S): void => {
    snapshot = next;
    for (const listener of [...listeners]) listener();
  };
  return {
    subscribe: (listener) => {
      // One function given twice is two subscriptions, each ended by its own call.
      const own = (): void => listener();
      listeners.add(own);
      stop ??= follow(set, () => snapshot);
      return () => {
        if (!listeners.delete(own) || listeners.size > 0) return;
        stop?.();
        stop = undefined;
      };
    },
    getSnapshot: () => snapshot,
  };
}

export interface QueryState<T extends object> {
  /** Empty until the first answer. */
  readonly rows: readonly Stored<T>[];
  /** True until the first answer, which needs no network. */
  readonly loading: boolean;
  readonly error: SyncError | null;
}

const unanswered: QueryState<never> = { rows: [], loading: true, error: null };

export function queryStore<T extends object>(db: Landfall, collection: string, options: QueryOptions<T>): Store<QueryState<T>> {
  return store<QueryState<T>>(unanswered, (set, get) =>
    db.collection<T>(collection).query(options).subscribe(
      (rows) => set({ rows, loading: false, error: null }),
      (error) => set({ rows: get().rows, loading: false, error }),
    ));
}

export function statusStore(db: Landfall): Store<SyncStatus> {
  const followed = store(null, (set) => db.sync.on('status', () => set(null)));
  // Read from the database itself: it may have changed while nobody listened.
  return { subscribe: followed.subscribe, getSnapshot: () => db.sync.status };
}

export interface ConflictState {
  readonly conflicts: readonly Conflict[];
  readonly loading: boolean;
}

const unread: ConflictState = { conflicts: [], loading: true };

/** Read anew after every event that may concern it, once per burst. */
export function conflictStore(db: Landfall): Store<ConflictState> {
  return store(unread, (set) => {
    let over = false;
    let busy = false;
    let again = false;
    const read = async (): Promise<void> => {
      again = true;
      if (busy) return;
      busy = true;
      while (again && !over) {
        again = false;
        const conflicts = await db.conflicts.list().catch(() => undefined);
        if (!over && conflicts) set({ conflicts, loading: false });
      }
      busy = false;
    };
    const soon = (): void => void read();
    soon();
    const stops = [db.sync.on('conflict', soon), db.sync.on('status', soon), () => void (over = true)];
    return () => stops.forEach((stop) => stop());
  });
}

export interface MutationState {
  /** Writes that are not stored on this device yet. */
  readonly storing: number;
  /** Why the last write could not be stored; null after one that was. */
  readonly error: SyncError | null;
  /** The last of these writes that the server refused. The record is rolled back, the entry waits in the outbox. */
  readonly rejected: OutboxEntry | null;
}

export interface MutationStore extends Store<MutationState> {
  /** Notes a write: its result's entries are those whose refusal is told. */
  readonly track: <R extends { readonly entry: number | null }>(write: () => Promise<R>) => Promise<R>;
  readonly reset: () => void;
}

const calm: MutationState = { storing: 0, error: null, rejected: null };

export function mutationStore(db: Landfall): MutationStore {
  let state = calm;
  const entries = new Set<number>();
  const refused = new Map<number, OutboxEntry>();
  let tell = (): void => undefined;
  const change = (part: Partial<MutationState>): void => {
    state = { ...state, ...part };
    tell();
  };
  const followed = store(null, (set) => {
    tell = () => set(null);
    const stops = [
      db.sync.on('rejected', (entry) => {
        // An answer may be here before the write's own promise: it is matched when that resolves.
        if (entries.has(entry.id)) change({ rejected: entry });
        else refused.set(entry.id, entry);
      }),
      db.sync.on('applied', (ids) => ids.forEach((id) => entries.delete(id))),
    ];
    return () => stops.forEach((stop) => stop());
  });
  return {
    subscribe: followed.subscribe,
    getSnapshot: () => state,
    track: async (write) => {
      change({ storing: state.storing + 1 });
      try {
        const result = await write();
        if (result.entry !== null) entries.add(result.entry);
        const answer = result.entry === null ? undefined : refused.get(result.entry);
        refused.clear();
        change({ storing: state.storing - 1, error: null, ...(answer && { rejected: answer }) });
        return result;
      } catch (error) {
        change({ storing: state.storing - 1, error: error as SyncError });
        throw error;
      }
    },
    reset: () => change({ error: null, rejected: null }),
  };
}
