/**
 * `landfall/ids`: the id that follows from a record's unique key, so that two devices that make the same record make one.
 *
 * The same as the server's (docs/protocol.md, Keys and references): UUIDv5 (RFC 9562) over the RFC 8785 text of
 * `[scope, collection, key…]`. The browser brings what the engine's module would otherwise have to: Unicode, SHA-1, and numbers
 * as JSON has them.
 */
import { SyncError } from './errors.js';

/** Of all derived ids: never changes. */
const namespace = '8f1d3a560c724e9ba45d612eb79033c8';

/** A field of a key. A time is given as a Date; of its fraction three digits count. */
export type KeyPart = string | number | Date;

/**
 * `await derivedId('user:ada', 'scores', ['s17', 4, new Date(taken_at)])`, in the order in which the collection declares its key.
 * Errors: `invalid_record` for a part that is empty, no time or no number.
 */
export async function derivedId(scope: string, collection: string, key: readonly KeyPart[]): Promise<string> {
  const text = JSON.stringify([scope, collection, ...key.map(part)]);
  const bytes = new Uint8Array([...(namespace.match(/../g) ?? []).map((hex) => parseInt(hex, 16)), ...new TextEncoder().encode(text)]);
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-1', bytes)).slice(0, 16);
  hash[6] = ((hash[6] ?? 0) & 0x0f) | 0x50;
  hash[8] = ((hash[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

function part(value: unknown, at: number): string | number {
  if (typeof value === 'string') return value.normalize('NFC');
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  if (value instanceof Date && !Number.isNaN(value.getTime())) return value.toISOString();
  throw new SyncError('invalid_record', `Part ${at + 1} of the key is no text, number or time.`, { details: { path: String(at) } });
}
