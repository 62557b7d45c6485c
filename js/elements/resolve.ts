/** Carries a person's decision out: by the engine's own call where it has one, else as a new write on top of the server's value. */
import type { Landfall } from '../client.js';
import type { Json } from '../errors.js';
import { differences, type OpenConflict } from './three-way.js';

export type Choice = 'local' | 'server' | { readonly merged: Record<string, Json> };

interface Resolves {
  resolve?(id: number, choice: Choice): Promise<unknown>;
}

/** False where this engine does not forget a conflict by itself: the caller keeps in mind that it was decided. */
export async function resolve(db: Landfall, conflict: OpenConflict, choice: Choice): Promise<boolean> {
  const conflicts = db.conflicts as Landfall['conflicts'] & Resolves;
  if (conflicts.resolve) {
    await conflicts.resolve(conflict.id, choice);
    return true;
  }
  if (conflict.waiting) await db.outbox.discard(conflict.id);
  await writeOnTop(db, conflict, choice);
  return false;
}

async function writeOnTop(db: Landfall, conflict: OpenConflict, choice: Choice): Promise<void> {
  if (choice === 'server') return;
  const { collection, record, scope, server, op, local } = conflict;
  const records = db.collection<Record<string, Json>>(collection);
  if (op === 'delete') return void (await records.delete(record, { scope }));
  if (server === null) return void (await records.put({ ...local, id: record }, { scope }));
  const fields = choice === 'local' ? Object.fromEntries(differences(conflict).map(({ field, local: mine }) => [field, mine ?? null])) : choice.merged;
  if (Object.keys(fields).length > 0) await records.update(record, fields, { scope });
}
