/**
 * `landfall/react`: hooks over `useSyncExternalStore`. `<LandfallProvider db={db}>` gives them the database.
 *
 * Every hook answers from this device: none waits for a network, and what another tab or the server changes arrives by itself.
 */
import { createContext, createElement, useContext, useMemo, useSyncExternalStore, type ReactNode } from 'react';
import type { Landfall } from '../client.js';
import type { SyncError } from '../errors.js';
import type { Changes, Conflict, Draft, OutboxEntry, QueryOptions, ScopeOption, Stored, SyncStatus, WriteResult } from '../types.js';
import { conflictStore, mutationStore, queryStore, statusStore, type QueryState, type Store } from './stores.js';

export type { QueryState } from './stores.js';

const Database = createContext<Landfall | null>(null);

export interface LandfallProviderProps {
  readonly db: Landfall;
  readonly children?: ReactNode;
}

export function LandfallProvider({ db, children }: LandfallProviderProps): ReactNode {
  return createElement(Database.Provider, { value: db }, children);
}

/** The database of the nearest provider. */
export function useLandfall(): Landfall {
  const db = useContext(Database);
  if (!db) throw new Error('There is no <LandfallProvider> above this component.');
  return db;
}

const useStore = <S>(store: Store<S>): S => useSyncExternalStore(store.subscribe, store.getSnapshot, store.getSnapshot);

/** A live query. Options that say the same are the same question: they need no memo. */
export function useQuery<T extends object>(collection: string, options: QueryOptions<T> = {}): QueryState<T> {
  const db = useLandfall();
  const question = JSON.stringify(options);
  return useStore(useMemo(() => queryStore<T>(db, collection, JSON.parse(question) as QueryOptions<T>), [db, collection, question]));
}

export interface RecordState<T extends object> {
  /** Undefined while loading, and when there is none. */
  readonly record: Stored<T> | undefined;
  readonly loading: boolean;
  readonly error: SyncError | null;
}

/** One live record. */
export function useRecord<T extends object>(collection: string, id: string, { scope }: ScopeOption = {}): RecordState<T> {
  const where = { id } as QueryOptions<T>['where'];
  const { rows, loading, error } = useQuery<T>(collection, { ...(where && { where }), limit: 1, ...(scope !== undefined && { scope }) });
  return { record: rows[0], loading, error };
}

export interface Mutation<T extends object> {
  put(record: Draft<T>, options?: ScopeOption): Promise<WriteResult>;
  create(record: Draft<T>, options?: ScopeOption): Promise<WriteResult>;
  update(id: string, changes: Changes<T>, options?: ScopeOption): Promise<WriteResult>;
  remove(id: string, options?: ScopeOption): Promise<WriteResult>;
  /** True until what was written is stored on this device; the server has its time. */
  readonly storing: boolean;
  readonly error: SyncError | null;
  /** The last write of this hook that the server refused, with the reason. The record shows the server's state again. */
  readonly rejected: OutboxEntry | null;
  /** Forgets `error` and `rejected`. */
  reset(): void;
}

/** Writes of one collection. The functions are the same ones from render to render. */
export function useMutation<T extends object>(collection: string): Mutation<T> {
  const db = useLandfall();
  const { store, writes } = useMemo(() => {
    const made = mutationStore(db);
    const records = db.collection<T>(collection);
    return {
      store: made,
      writes: {
        put: (record: Draft<T>, options?: ScopeOption) => made.track(() => records.put(record, options)),
        create: (record: Draft<T>, options?: ScopeOption) => made.track(() => records.create(record, options)),
        update: (id: string, changes: Changes<T>, options?: ScopeOption) => made.track(() => records.update(id, changes, options)),
        remove: (id: string, options?: ScopeOption) => made.track(() => records.delete(id, options)),
        reset: made.reset,
      },
    };
  }, [db, collection]);
  const { storing, error, rejected } = useStore(store);
  return useMemo(() => ({ ...writes, storing: storing > 0, error, rejected }), [writes, storing, error, rejected]);
}

/** The state of sync: the connection, what waits, the last error. */
export function useSyncStatus(): SyncStatus {
  const db = useLandfall();
  return useStore(useMemo(() => statusStore(db), [db]));
}

export interface UsedConflicts {
  readonly conflicts: readonly Conflict[];
  readonly loading: boolean;
}

/** What waits for this person's choice, and values of this device that lost against another change. */
export function useConflicts(): UsedConflicts {
  const db = useLandfall();
  return useStore(useMemo(() => conflictStore(db), [db]));
}
