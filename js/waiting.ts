/** What waits for a person, and what a person says of it: refused and failed writes, and conflicts. */
import type { Checks } from './check.js';
import type { Engine } from './engine.js';
import { toSyncError, type SyncError } from './errors.js';
import type { CollectionOptions, Conflict, OutboxEntry, Resolution } from './types.js';
import { encodeObject } from './validate.js';

export interface Outbox {
  list(): Promise<OutboxEntry[]>;
  retry(entry: number): Promise<void>;
  /** Retries everything that failed. Resolves with how many entries and groups that were. */
  retryAll(): Promise<number>;
  edit(entry: number, fields: object): Promise<void>;
  /** Gives an entry up. Resolves with how many went: those that build on it go with it. */
  discard(entry: number): Promise<number>;
  /** The same: what the server has stands. */
  takeServer(entry: number): Promise<number>;
}

export interface Conflicts {
  /** What waits for this person's decision, and values that lost and are kept; newest first. */
  list(): Promise<Conflict[]>;
  /**
   * Ends a conflict: with what this device wanted, which is sent again on what stands; with what stands; or with fields of
   * one's own. Errors: `not_parked` for what is no conflict.
   */
  resolve(id: number, how: Resolution): Promise<void>;
  /** Ends all of them, or those of one collection, the same way. Resolves with how many. */
  resolveAll(how: 'local' | 'server', options?: { readonly collection?: string }): Promise<number>;
}

/** @internal A list of the engine, with what was written before it was asked for. */
type Read = <T>(what: 'outbox' | 'conflicts') => Promise<T[]>;

/** @internal What is decided as one. */
export const unitOf = ({ group, id }: OutboxEntry): string | number => group ?? id;

/** @internal `told`: the units whose failure was told. Of one that a person tried again, another failure is news. */
export function outboxOf(engine: Engine, read: Read, checks: Checks, told: Set<string | number>): Outbox {
  const list = (): Promise<OutboxEntry[]> => read('outbox');
  const retry = async (entry: number): Promise<void> => {
    await engine.call((replica) => replica.outbox_retry(entry));
    told.clear();
  };
  const discard = async (entry: number): Promise<number> =>
    (JSON.parse(await engine.call((replica) => replica.outbox_discard(entry))) as { discarded: number }).discarded;
  return {
    list,
    retry,
    retryAll: async () => {
      // A unit is told by its first entry; the others of its group go with it.
      const units = new Map((await list()).filter(({ state }) => state === 'failed').map((entry) => [unitOf(entry), entry.id]));
      for (const entry of units.values()) await retry(entry);
      return units.size;
    },
    edit: async (entry, fields) => {
      const json = encodeObject(fields, 'invalid_record', 'record');
      await checks.edit(entry, fields, list);
      await engine.call((replica) => replica.outbox_edit(entry, json));
      told.clear();
    },
    discard,
    takeServer: discard,
  };
}

/** @internal Lets the app decide what would wait for its author. Resolves with the entries that it decided. */
export async function decideAll(conflicts: Conflicts, collections: Readonly<Record<string, CollectionOptions>>): Promise<Set<number>> {
  const decided = new Set<number>();
  for (const conflict of await conflicts.list()) {
    const { id, to, collection } = conflict;
    if (to !== 'author') continue;
    try {
      const how = await collections[collection]?.decide?.(conflict);
      if (how === undefined) continue;
      await conflicts.resolve(id, how);
    } catch (error) {
      // Another tab was asked, too, or it was decided with its transaction. Anything else is left to a person.
      if (toSyncError(error).code !== 'not_parked') continue;
    }
    decided.add(id);
  }
  return decided;
}

/** @internal */
export function conflictsOf(engine: Engine, read: Read): Conflicts {
  const list = (): Promise<Conflict[]> => read('conflicts');
  const resolve = async (id: number, how: Resolution): Promise<void> => {
    const text = typeof how === 'string' ? how : encodeObject(how.merged, 'invalid_record', 'record');
    await engine.call((replica) => replica.conflict_resolve(id, text));
  };
  return {
    list,
    resolve,
    resolveAll: async (how, { collection } = {}) => {
      const ids = new Set((await list()).filter((one) => collection === undefined || one.collection === collection).map(({ id }) => id));
      for (const id of ids) {
        await resolve(id, how).catch((error: SyncError) => {
          // One decision ends all changes of a transaction: to its other members there is nothing left to say.
          if (error.code !== 'not_parked') throw error;
        });
      }
      return ids.size;
    },
  };
}
