/** What a person decides about a conflict, as data: which fields differ, what each side says, and what the choices come to. Pure. */
import type { Json } from '../errors.js';
import type { Conflict, OutboxEntry, Resolution } from '../types.js';

export type Fields = Readonly<Record<string, Json>>;

/** A conflict to be shown, whether this device's value lost to the server's or waits for its author. */
export interface OpenConflict {
  /** The entry's number. */
  readonly id: number;
  readonly collection: string;
  readonly scope: string;
  readonly record: string;
  readonly op: OutboxEntry['op'];
  /** Milliseconds since 1970, where it is known. */
  readonly at: number | null;
  /** What both started from; null where it is not known. */
  readonly base: Fields | null;
  readonly local: Fields;
  /** Null: deleted there. */
  readonly server: Fields | null;
  /** It waits in the outbox for its author: nothing of it is at the server. */
  readonly waiting: boolean;
  /** Somebody with the collection's role decides; its author is told. */
  readonly review: boolean;
  /** It had been taken, or was asked about, and then somebody else's value was put there. */
  readonly undone?: Conflict['code'];
  /** Changes of one transaction are decided together. */
  readonly group?: string;
}

/** One field in which the two sides differ. */
export interface Difference {
  readonly field: string;
  readonly base: Json | undefined;
  readonly local: Json | undefined;
  readonly server: Json | undefined;
  /** Both sides changed it. False where one side did, true where what it was is not known. */
  readonly clash: boolean;
  /** What a careful person would take: the side that changed it, the server where both did. */
  readonly suggested: 'local' | 'server';
}

/** An entry of the outbox that waits for its author because somebody else was first: under `manual`, or `reapply` where a field clashed. */
export const waitsForChoice = ({ state, reason }: OutboxEntry): boolean => state === 'parked' && (reason?.code === 'conflict' || reason?.code === 'stale');

export function openConflicts(lost: readonly Conflict[], outbox: readonly OutboxEntry[]): OpenConflict[] {
  const waiting = outbox.filter(waitsForChoice).map((entry): OpenConflict => ({
    ...where(entry), at: entry.createdAt ?? null, base: entry.base ?? null, local: { ...entry.local, ...entry.fields }, server: entry.server ?? null, waiting: true, review: false, ...(entry.group !== undefined && { group: entry.group }),
  }));
  const seen = new Set(waiting.map(({ id }) => id));
  const settled = lost.filter(({ id }) => !seen.has(id)).map((conflict): OpenConflict => {
    const { base, to, code } = conflict;
    return { ...where(conflict), at: conflict.at, base: base ?? null, local: conflict.local, server: conflict.server, waiting: to === 'author', review: to === 'review', ...(code !== undefined && { undone: code }) };
  });
  return [...waiting, ...settled].sort((a, b) => (b.at ?? 0) - (a.at ?? 0) || b.id - a.id);
}

const where = ({ id, collection, scope, record, op }: Conflict | OutboxEntry) => ({ id, collection, scope, record, op });

/** The fields in which this device's value and the server's differ, by name. Nothing to choose from where one side deleted. */
export function differences({ base, local, server, op }: OpenConflict): Difference[] {
  if (server === null || op === 'delete') return [];
  return Object.keys(local).filter((field) => field !== 'id' && !same(local[field], server[field])).sort().map((field) => {
    const [was, mine, theirs] = [base?.[field], local[field], server[field]];
    const clash = base === null || (!same(was, mine) && !same(was, theirs));
    return { field, base: was, local: mine, server: theirs, clash, suggested: !clash && same(was, theirs) ? 'local' : 'server' };
  });
}

/** What was picked, as a decision: fields that stay as the server has them are left out of a merge, and one of nothing else is the server's. */
export function picked(found: readonly Difference[], picks: ReadonlyMap<string, 'local' | 'server'>): Resolution {
  const chosen = found.filter(({ field, suggested }) => (picks.get(field) ?? suggested) === 'local');
  return chosen.length === 0 ? 'server' : { merged: Object.fromEntries(chosen.map(({ field, local }) => [field, local ?? null])) };
}

/** A missing field and null say the same to a person. */
function same(a: Json | undefined, b: Json | undefined): boolean {
  return canonical(a ?? null) === canonical(b ?? null);
}

function canonical(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const fields = value as Record<string, Json>;
  return `{${Object.keys(fields).sort().map((key) => `${JSON.stringify(key)}:${canonical(fields[key] ?? null)}`).join(',')}}`;
}
