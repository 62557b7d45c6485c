/**
 * Names that page, worker and engine must spell alike.
 *
 * Database: `landfall:{name}:{user}`, both parts through encodeURIComponent, so that neither can hold a colon.
 * Sync tag: `{database}:{n}`. The number matters: a tag that Chromium has put in back-off cannot be armed again, a new one fires at once.
 */

export const databasePrefix = 'landfall:';

/** Throws URIError for half a Unicode character. */
export const databaseName = (name: string, user: string): string => `${databasePrefix}${encodeURIComponent(name)}:${encodeURIComponent(user)}`;

export const syncTag = (database: string, n: number): string => `${database}:${n}`;

/** The database of a sync tag, or undefined when the tag is somebody else's. */
export const databaseOfTag = (tag: string): string | undefined => /^(landfall:[^:]+:[^:]+):\d+$/.exec(tag)?.[1];

/** What a page asks of the worker: to flush where there is no Background Sync, or only to compact. */
export interface WorkerMessage {
  readonly type: 'landfall-flush' | 'landfall-tidy';
  readonly database: string;
}

export const flushMessage = (database: string): WorkerMessage => ({ type: 'landfall-flush', database });
export const tidyMessage = (database: string): WorkerMessage => ({ type: 'landfall-tidy', database });

/** A page's message, or undefined when the message is somebody else's. */
export function messageOf(data: unknown): WorkerMessage | undefined {
  if (typeof data !== 'object' || data === null || !('type' in data) || !('database' in data)) return undefined;
  const { type, database } = data;
  if ((type !== 'landfall-flush' && type !== 'landfall-tidy') || typeof database !== 'string' || !database.startsWith(databasePrefix)) return undefined;
  return { type, database };
}
