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

/** What a page posts to the worker where there is no Background Sync. */
export interface FlushMessage {
  readonly type: 'landfall-flush';
  readonly database: string;
}

export const flushMessage = (database: string): FlushMessage => ({ type: 'landfall-flush', database });

/** The database of a page's message, or undefined when the message is somebody else's. */
export function databaseOfMessage(data: unknown): string | undefined {
  if (typeof data !== 'object' || data === null || !('type' in data) || data.type !== 'landfall-flush' || !('database' in data)) return undefined;
  return typeof data.database === 'string' && data.database.startsWith(databasePrefix) ? data.database : undefined;
}
