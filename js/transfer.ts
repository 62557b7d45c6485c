/**
 * A database as text, one JSON value a line (NDJSON), and back.
 *
 * Reading goes a page at a time and only when somebody takes the bytes; writing goes through the same path as every write of
 * the app, so that what is imported is sent once like any other. docs/storage.md says what each line holds.
 */
import { SyncError, isSyncError, type Json, type SyncErrorCode } from './errors.js';
import type { Conflict, ImportOptions, ImportResult, InspectedPair, OutboxEntry, Page, RecordMeta, WriteResult } from './types.js';

export const exportVersion = 1;

/** What this module needs of an open database. */
export interface Transferable {
  readonly user: string;
  readonly collections: Iterable<string>;
  header(): Promise<{ readonly database: string; readonly pairs: readonly InspectedPair[] }>;
  page(collection: string, limit: number, after: string | undefined): Promise<Page<object>>;
  get(collection: string, scope: string, id: string): Promise<object | undefined>;
  meta(record: object): RecordMeta | undefined;
  outbox(): Promise<readonly OutboxEntry[]>;
  conflicts(): Promise<readonly Conflict[]>;
  write(op: 'put' | 'update' | 'delete', collection: string, scope: string, id: string, fields?: object): Promise<WriteResult>;
}

interface RecordLine {
  readonly kind: 'record';
  readonly scope: string;
  readonly collection: string;
  readonly id: string;
  readonly version: number;
  readonly state: string;
  /** It holds something that the server has not answered yet. */
  readonly unsent?: boolean;
  readonly fields: object;
}

// ---- out -----------------------------------------------------------------------------------------------------------

/** Text of one page of records, about: enough to make a walk over all of them cheap, small beside the memory budget. */
const pageLength = 2 * 1024 * 1024;
const pageCountMax = 20_000;

/** The database as NDJSON in UTF-8. What is written meanwhile may be in it or not. */
export function exportStream(db: Transferable): ReadableStream<Uint8Array> {
  const parts = exportParts(db);
  const encoder = new TextEncoder();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { value, done } = await parts.next();
        if (done) controller.close();
        else controller.enqueue(encoder.encode(value));
      },
      async cancel() {
        await parts.return(undefined);
      },
    },
    // Nothing is read before somebody asks for it.
    { highWaterMark: 0 },
  );
}

/** Records by their key. */
interface Keys {
  has(key: string): boolean;
}

const line = (value: object): string => `${JSON.stringify(value)}\n`;

async function* exportParts(db: Transferable): AsyncGenerator<string, void> {
  const { database, pairs } = await db.header();
  const held = pairs.map(({ scope, collection, covered, records }) => ({ scope, collection, covered, records }));
  yield line({ landfall: exportVersion, database, user: db.user, exported_at: new Date().toISOString(), pairs: held });
  const waiting = (await db.outbox()).filter((entry) => !isParked(entry));
  const unsent = new Set(waiting.map(keyOfEntry));
  const last = waiting.reduce((id, entry) => Math.max(id, entry.id), -1);
  for (const collection of db.collections) yield* recordParts(db, collection, unsent);
  const entries = await db.outbox();
  // Written while the pages were read: these records come once more, as they are now.
  const fresh = new Map<string, OutboxEntry>();
  for (const entry of entries) {
    const key = keyOfEntry(entry);
    if (!isParked(entry) && (entry.id > last || !unsent.has(key))) fresh.set(key, entry);
  }
  for (const { scope, collection, record } of fresh.values()) {
    const found = await db.get(collection, scope, record);
    if (found) yield recordLine(db, collection, found, fresh);
  }
  for (const entry of entries) yield line({ kind: isParked(entry) ? 'parked' : 'entry', ...entry });
  for (const conflict of await db.conflicts()) yield line({ kind: 'conflict', ...conflict });
}

async function* recordParts(db: Transferable, collection: string, unsent: Keys): AsyncGenerator<string, void> {
  let after: string | undefined;
  let limit = 500;
  do {
    const page: Page<object> = await db.page(collection, limit, after);
    let text = '';
    for (const record of page.rows) text += recordLine(db, collection, record, unsent);
    if (page.rows.length > 0) limit = Math.max(10, Math.min(pageCountMax, Math.floor((pageLength * page.rows.length) / text.length)));
    after = page.next;
    if (text) yield text;
  } while (after !== undefined);
}

function recordLine(db: Transferable, collection: string, record: object, unsent: Keys): string {
  const { id, ...fields } = record as { readonly id: string };
  const { scope, version, state } = db.meta(record) ?? { scope: '', version: 0, state: 'synced' };
  const isUnsent = unsent.has(keyOf(scope, collection, id));
  return line({ kind: 'record', scope, collection, id, version, state, ...(isUnsent && { unsent: true }), fields });
}

const isParked = ({ state }: OutboxEntry): boolean => state === 'parked' || state === 'failed';
const keyOf = (...parts: readonly string[]): string => JSON.stringify(parts);
const keyOfEntry = ({ scope, collection, record }: OutboxEntry): string => keyOf(scope, collection, record);

// ---- in ------------------------------------------------------------------------------------------------------------

/** Lines that are written together. */
const sliceCount = 250;
/** Bytes of one line; a longer one is refused without being kept. A record takes 256 KB, a parked line has four of them. */
const lineBytesMax = 4 * 1024 * 1024;

/** Errors: `invalid_options` when the text does not begin with the header of an export, of a version that this one reads, of this user. */
export async function importLines(db: Transferable, source: ReadableStream<Uint8Array> | Blob | string, { unsentOnly = false }: ImportOptions = {}): Promise<ImportResult> {
  const run = new Import(db, unsentOnly);
  let number = 0;
  for await (const text of linesOf(source)) {
    number++;
    const value = text === undefined ? undefined : parsed(text);
    if (number === 1) checkHeader(db, value);
    else if (text !== '') await run.take(number, value);
  }
  if (number === 0) checkHeader(db, undefined);
  await run.flush();
  return run.result;
}

function checkHeader(db: Transferable, value: unknown): void {
  const header = isObject(value) ? value : {};
  const bad = (path: string, message: string): never => {
    throw new SyncError('invalid_options', `import(): ${message}`, { details: { path, line: 1 } });
  };
  if (header['landfall'] === undefined) bad('landfall', 'this does not begin with the header of an export.');
  if (header['landfall'] !== exportVersion) bad('landfall', 'this export has a version that is not known here.');
  if (header['user'] !== db.user) bad('user', 'this is an export of another user.');
}

class Import {
  readonly #db: Transferable;
  readonly #unsentOnly: boolean;
  readonly #refused: { line: number; code: SyncErrorCode }[] = [];
  readonly #reported: Json[] = [];
  /** Unsent records whose line was taken: it holds what their entries did. */
  readonly #whole = new Set<string>();
  #slice: { readonly line: number; readonly key: string; readonly run: () => Promise<boolean> }[] = [];
  #keys = new Set<string>();
  #written = 0;
  #skipped = 0;

  constructor(db: Transferable, unsentOnly: boolean) {
    this.#db = db;
    this.#unsentOnly = unsentOnly;
  }

  get result(): ImportResult {
    return { written: this.#written, skipped: this.#skipped, refused: this.#refused.sort((a, b) => a.line - b.line), reported: this.#reported };
  }

  async take(number: number, value: unknown): Promise<void> {
    if (isRecord(value)) return this.#add(number, keyOf(value.scope, value.collection, value.id), () => this.#record(value));
    if (isEntry(value)) return this.#add(number, keyOfEntry(value), () => this.#entry(value));
    if (isObject(value) && (value['kind'] === 'parked' || value['kind'] === 'conflict')) this.#reported.push(value as Json);
    else this.#refused.push({ line: number, code: 'invalid_record' });
  }

  /** Lines of one record go one after the other; others together. */
  async #add(number: number, key: string, run: () => Promise<boolean>): Promise<void> {
    if (this.#slice.length === sliceCount || this.#keys.has(key)) await this.flush();
    this.#slice.push({ line: number, key, run });
    this.#keys.add(key);
  }

  async flush(): Promise<void> {
    const slice = this.#slice;
    this.#slice = [];
    this.#keys = new Set();
    const answers = await Promise.allSettled(slice.map(({ run }) => run()));
    for (const [i, answer] of answers.entries()) {
      if (answer.status === 'fulfilled') {
        if (answer.value) this.#written++;
        else this.#skipped++;
        continue;
      }
      // What is wrong with one line is that line's; a database that is closed or full is not.
      const error: unknown = answer.reason;
      if (!isSyncError(error) || !ownFault.has(error.code)) throw error;
      this.#refused.push({ line: slice[i]?.line ?? 0, code: error.code });
    }
  }

  async #record({ scope, collection, id, version, unsent = false, fields }: RecordLine): Promise<boolean> {
    if (!unsent) {
      if (this.#unsentOnly) return false;
      const here = await this.#db.get(collection, scope, id);
      // The server's own word, and not a newer one than is here: writing it would undo what others did since.
      if (here && (this.#db.meta(here)?.version ?? 0) >= version) return false;
    }
    const { entry } = await this.#db.write('put', collection, scope, id, fields);
    if (unsent) this.#whole.add(keyOf(scope, collection, id));
    return entry !== null;
  }

  async #entry(entry: OutboxEntry): Promise<boolean> {
    const { scope, collection, record, op, fields } = entry;
    if (this.#whole.has(keyOfEntry(entry))) return false;
    const here = await this.#db.get(collection, scope, record);
    if (op === 'delete') return here !== undefined && (await this.#db.write('delete', collection, scope, record)).entry !== null;
    const kind = here || op === 'update' ? 'update' : 'put';
    return (await this.#db.write(kind, collection, scope, record, fields)).entry !== null;
  }
}

/** Codes that speak of one write and of no other. */
const ownFault: ReadonlySet<SyncErrorCode> = new Set<SyncErrorCode>([
  'invalid_record', 'id_too_long', 'record_too_large', 'unknown_collection', 'not_found', 'already_exists', 'ambiguous_id', 'missing_scope_field',
]);

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);
const isText = (value: unknown): value is string => typeof value === 'string';

function isRecord(value: unknown): value is RecordLine {
  if (!isObject(value) || value['kind'] !== 'record') return false;
  return [value['scope'], value['collection'], value['id'], value['state']].every(isText) && Number.isSafeInteger(value['version']) && isObject(value['fields']);
}

function isEntry(value: unknown): value is OutboxEntry {
  if (!isObject(value) || value['kind'] !== 'entry') return false;
  const isOp = value['op'] === 'create' || value['op'] === 'update' || value['op'] === 'delete';
  return isOp && [value['scope'], value['collection'], value['record']].every(isText) && isObject(value['fields']);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The lines of a text, without their ends. Undefined: too long, or not UTF-8. */
async function* linesOf(source: ReadableStream<Uint8Array> | Blob | string): AsyncGenerator<string | undefined, void> {
  const reader = new Response(source).body?.getReader();
  if (!reader) return;
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let parts: Uint8Array[] = [];
  let length = 0;
  const take = (bytes: Uint8Array): void => {
    length += bytes.length;
    if (length <= lineBytesMax) parts.push(bytes);
    else parts = [];
  };
  const end = (): string | undefined => {
    const bytes = new Uint8Array(length <= lineBytesMax ? length : 0);
    let at = 0;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.length;
    }
    const isWhole = length <= lineBytesMax;
    parts = [];
    length = 0;
    try {
      return isWhole ? decoder.decode(bytes).replace(/\r$/, '') : undefined;
    } catch {
      return undefined;
    }
  };
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      let from = 0;
      for (let to = value.indexOf(10); to >= 0; to = value.indexOf(10, from)) {
        take(value.subarray(from, to));
        yield end();
        from = to + 1;
      }
      take(value.subarray(from));
    }
    if (length > 0) yield end();
  } finally {
    // What is not read any more need not be fetched.
    await reader.cancel().catch(() => undefined);
  }
}
