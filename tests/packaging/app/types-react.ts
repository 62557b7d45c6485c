// Compiled, never run: the hooks and the elements as an app meets them.
import { useConflicts, useMutation, useQuery, useRecord, useSyncStatus, type LandfallProviderProps } from 'landfall/react';
import { LandfallConflicts, LandfallIndicator, type OpenConflict } from 'landfall/elements';
import type { Landfall, OutboxEntry, SyncStatus } from 'landfall';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <_ extends true>(): void => undefined;

interface Task {
  id: string;
  title: string;
  done: boolean;
}

export function Page(): string {
  const { rows } = useQuery<Task>('tasks', { where: { done: false }, orderBy: 'title' });
  const { record } = useRecord<Task>('tasks', 'a');
  const { put, update, rejected } = useMutation<Task>('tasks');
  same<Equal<typeof rejected, OutboxEntry | null>>();
  same<Equal<ReturnType<typeof useSyncStatus>, SyncStatus>>();
  void put({ title: 'x', done: false });
  void update('a', { done: true });
  // @ts-expect-error a record is whole
  void put({ title: 'x' });
  // @ts-expect-error no such field
  void update('a', { dune: true });
  // @ts-expect-error no such field
  useQuery<Task>('tasks', { orderBy: 'titel' });
  return `${rows.map(({ title }) => title.trim()).join()} ${record?.title ?? ''} ${useConflicts().conflicts.length}`;
}

declare const db: Landfall;
export const props: LandfallProviderProps = { db };
const indicator: LandfallIndicator = document.createElement('landfall-indicator');
indicator.db = db;
indicator.texts = { allSynced: 'Alles synchron' };
// @ts-expect-error not one of its words
indicator.texts = { alSynced: '' };
const conflicts: LandfallConflicts = document.createElement('landfall-conflicts');
conflicts.describe = (conflict: OpenConflict) => conflict.record;
