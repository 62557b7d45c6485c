/**
 * Writes on their way to the engine.
 *
 * What is written in one turn goes over in one call, in order: a thousand `put()`s cost one crossing and one commit. A record
 * is copied (as JSON text) when `put()` is called; changing the object afterwards changes nothing.
 */
import type { Engine } from './engine.js';
import { SyncError, toSyncError } from './errors.js';
import type { WriteResult } from './types.js';
import { checkId, encodeRecord } from './validate.js';

export type Op = 'put' | 'create' | 'update' | 'delete';

const text = (value: string): string => JSON.stringify(value);

/** The JSON text of one operation. Errors: those of a bad record. */
export function encodeOp(op: Op, collection: string, scope: string | undefined, id: string | undefined, record?: object): string {
  if (id !== undefined) checkId(id);
  const encoded = op === 'delete' ? undefined : encodeRecord(record);
  if (id !== undefined && encoded?.id !== undefined && encoded.id !== id) {
    throw new SyncError('invalid_record', 'A record’s id cannot be changed.', { details: { path: 'id' } });
  }
  const named = id ?? encoded?.id;
  // Put together by hand: the fields are text already.
  return `{"op":"${op}","collection":${text(collection)}${scope === undefined ? '' : `,"scope":${text(scope)}`}${named === undefined ? '' : `,"id":${text(named)}`}${encoded ? `,"fields":${encoded.fields}` : ''}}`;
}

/** Sent early once this much waits, so that one turn with a hundred thousand writes does not make one enormous text. */
const waitingLengthMax = 1024 * 1024;

interface Waiting {
  readonly op: string;
  readonly resolve: (result: WriteResult) => void;
  readonly reject: (error: unknown) => void;
}

/** What the engine says about one operation: what it did, or why it refused this one alone. */
type RawWrite = { readonly id: string; readonly scope: string; readonly entry: number | null } | { readonly error: object };

export class WriteQueue {
  readonly #engine: Engine;
  #waiting: Waiting[] = [];
  #length = 0;
  #stored: Promise<unknown> = Promise.resolve();

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  add(op: string): Promise<WriteResult> {
    return new Promise((resolve, reject) => {
      if (this.#waiting.length === 0) queueMicrotask(this.send);
      this.#waiting.push({ op, resolve, reject });
      this.#length += op.length;
      if (this.#length > waitingLengthMax) this.send();
    });
  }

  /** All or none. */
  async addGroup(ops: readonly string[]): Promise<WriteResult[]> {
    this.send();
    const writes = await this.#write(ops, true);
    return writes.map(result);
  }

  /** Sends what waits; anything that must see it is called after this. */
  readonly send = (): void => {
    const waiting = this.#waiting;
    if (waiting.length === 0) return;
    this.#waiting = [];
    this.#length = 0;
    this.#write(waiting.map(({ op }) => op), false).then(
      (writes) =>
        waiting.forEach(({ resolve, reject }, i) => {
          try {
            resolve(result(writes[i]));
          } catch (error) {
            reject(error);
          }
        }),
      (error: unknown) => waiting.forEach(({ reject }) => reject(error)),
    );
  };

  /** Resolves when everything given so far is stored or refused. */
  async idle(): Promise<void> {
    this.send();
    await this.#stored;
  }

  async #write(ops: readonly string[], atomic: boolean): Promise<RawWrite[]> {
    const answer = this.#engine.call((replica) => replica.write(`[${ops.join()}]`, atomic));
    this.#stored = Promise.allSettled([this.#stored, answer]);
    const json = await answer;
    return (JSON.parse(json) as { writes: RawWrite[] }).writes;
  }
}

function result(write: RawWrite | undefined): WriteResult {
  if (!write) throw new SyncError('internal', 'The engine answered fewer writes than it was given.');
  if ('error' in write) throw toSyncError(write.error);
  return { status: 'stored', id: write.id, scope: write.scope, entry: write.entry };
}
