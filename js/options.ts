/** Checks what `open()` was given, and writes it as the engine reads and stores it. */
import { SyncError } from './errors.js';
import { databaseName } from './tags.js';
import type { OpenOptions } from './types.js';
import { encodeObject } from './validate.js';

function expect(condition: boolean, path: string, must: string): void {
  if (!condition) throw new SyncError('invalid_options', `open(): ${path} ${must}.`, { details: { path } });
}

const isText = (value: unknown): value is string => typeof value === 'string' && value !== '';
const isObject = (value: unknown): value is object => typeof value === 'object' && value !== null;
const isFields = (value: unknown): value is readonly string[] => Array.isArray(value) && value.length > 0 && value.every((name) => isText(name) && !name.includes(','));
const isCount = (value: unknown): boolean => value === undefined || (Number.isSafeInteger(value) && Number(value) > 0);

/** The worker reads the options without a page: an address must not depend on where the page is. */
function absolute(url: string, path: string): string {
  try {
    return new URL(url, globalThis.location?.href).href;
  } catch {
    throw new SyncError('invalid_options', `open(): ${path} must be an address.`, { details: { path } });
  }
}

/** Errors: `invalid_options`, with `details.path`. */
export function encodeOptions(options: OpenOptions): { readonly database: string; readonly optionsJson: string } {
  const { name, user, url, auth, collections, device, schemaVersion, durability, retry, persist, memoryBytes, gzipAboveBytes, transport } = options;
  expect(isText(name), 'name', 'must be a non-empty string');
  expect(isText(user), 'user', 'must be a non-empty string');
  expect(transport === undefined || (isObject(transport) && typeof transport.push === 'function' && typeof transport.pull === 'function'), 'transport', 'must have push() and pull()');
  expect(transport ? url === undefined : isText(url), 'url', transport ? 'must be left out with a transport' : 'must be an address');
  expect(auth === 'cookie' || isObject(auth), 'auth', "must be 'cookie' or an object");
  expect(isObject(collections) && Object.keys(collections).length > 0, 'collections', 'must name at least one collection');
  expect(durability === undefined || durability === 'strict' || durability === 'relaxed', 'durability', "must be 'strict' or 'relaxed'");
  expect(isCount(retry?.attempts), 'retry.attempts', 'must be a whole number above 0');
  expect(isCount(gzipAboveBytes), 'gzipAboveBytes', 'must be a whole number above 0');
  expect(isCount(memoryBytes), 'memoryBytes', 'must be a whole number above 0');
  expect(isCount(schemaVersion), 'schemaVersion', 'must be a whole number above 0');
  const refresh = auth === 'cookie' ? undefined : auth.refresh;
  const given = {
    name,
    user,
    // A worker without the transport finds no address, and sends nothing.
    url: url === undefined ? '' : absolute(url, 'url'),
    auth: auth === 'cookie' ? auth : { token: auth.token !== undefined, ...(refresh && { refresh: { url: absolute(refresh.url, 'auth.refresh.url') } }) },
    collections: Object.fromEntries(
      Object.entries(collections).map(([collection, { scope = 'user:{user}', priority = 0, batch, immediate = false, indexes = [], cluster, mode, references, validate, decide }]) => {
        expect(Number.isSafeInteger(priority), `collections.${collection}.priority`, 'must be a whole number');
        expect(isCount(batch), `collections.${collection}.batch`, 'must be a whole number above 0');
        const fields = indexes.map((index) => (typeof index === 'string' ? [index] : index));
        expect(fields.every(isFields), `collections.${collection}.indexes`, 'must be names of fields, or lists of them');
        expect(cluster === undefined || isFields(cluster), `collections.${collection}.cluster`, 'must be a list of names of fields');
        expect(mode === undefined || mode === 'offline-first' || mode === 'online-first', `collections.${collection}.mode`, "must be 'offline-first' or 'online-first'");
        expect(references === undefined || Object.values(references).every((parent) => parent in collections), `collections.${collection}.references`, 'must name declared collections');
        expect(validate === undefined || typeof validate['~standard']?.validate === 'function', `collections.${collection}.validate`, 'must be a Standard Schema');
        expect(decide === undefined || typeof decide === 'function', `collections.${collection}.decide`, 'must be a function');
        return [collection, { scope, priority, batch, immediate: immediate || mode === 'online-first', references: references && Object.entries(references), indexes: fields.length > 0 ? fields : undefined, cluster }];
      }),
    ),
    device,
    schema_version: schemaVersion,
    durability,
    retry,
    persist,
    memory_bytes: memoryBytes,
    gzip_above_bytes: gzipAboveBytes,
  };
  // What was left out is left out of the text too.
  const optionsJson = encodeObject(JSON.parse(JSON.stringify(given)), 'invalid_options', 'options');
  try {
    return { database: databaseName(name, user), optionsJson };
  } catch (cause) {
    throw new SyncError('invalid_options', 'open(): name and user must be whole Unicode characters.', { cause });
  }
}
