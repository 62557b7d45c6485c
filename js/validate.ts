/**
 * Turns what an app hands over into JSON text, or says exactly which part of it is not JSON.
 *
 * `JSON.stringify` alone would lose data without a word: it drops `undefined`, functions and symbols, writes NaN as null and
 * a Map as `{}`. Nothing that would come back different from how it went in gets past this module.
 * The limits are those of the engine (limits.rs), which has the last word; here they give an error before anything is copied.
 */
import { SyncError, type SyncErrorCode } from './errors.js';

const recordBytesMax = 256 * 1024;
const idBytesMax = 128;
const depthMax = 64;

const forbiddenKeys: ReadonlySet<string> = new Set(['__proto__', 'constructor', 'prototype']);
const bytes = (text: string): number => new TextEncoder().encode(text).length;

type Path = readonly (string | number)[];

/** `['a', 0, 'b c']` → `a[0]["b c"]`. */
const pathText = (path: Path): string =>
  path.map((step, i) => (typeof step === 'number' ? `[${step}]` : /^[A-Za-z_$][\w$]*$/.test(step) ? (i > 0 ? '.' : '') + step : `[${JSON.stringify(step)}]`)).join('');

/** The JSON text of a plain object. Errors: `code`, with `details.path` of the first offending value. */
export function encodeObject(value: unknown, code: SyncErrorCode, subject: string): string {
  const walk = new Walk(code, subject);
  if (!isPlain(value)) walk.fail([], `must be a plain object, not ${describe(value)}`);
  walk.visit(value, []);
  return checkText(JSON.stringify(value), value, code, subject);
}

/** A record as its id, if it has one, and the JSON text of its other fields. Errors: `invalid_record`, `id_too_long`, `record_too_large`. */
export function encodeRecord(record: unknown): { readonly id: string | undefined; readonly fields: string } {
  const walk: Walk = new Walk('invalid_record', 'record');
  if (!isPlain(record)) walk.fail([], `must be a plain object, not ${describe(record)}`);
  walk.visit(record, []);
  const { id } = record;
  if (id !== undefined) checkId(id);
  // Left out by `undefined`, because taking a key away makes an object slow to write.
  const fields = checkText(JSON.stringify(id === undefined ? record : { ...record, id: undefined }), record, 'invalid_record', 'record');
  // A UTF-16 unit is at most three bytes, so most records need no counting.
  if (fields.length > recordBytesMax || (fields.length * 3 > recordBytesMax && bytes(fields) > recordBytesMax)) throw tooLarge();
  return { id, fields };
}

/** Errors: `invalid_record` for anything but a non-empty string, `id_too_long`. */
export function checkId(id: unknown): asserts id is string {
  const details = { path: 'id' };
  if (typeof id !== 'string' || id === '' || (maybeSurrogate(JSON.stringify(id)) && loneSurrogate.test(id))) {
    throw new SyncError('invalid_record', 'A record’s id must be a non-empty string of whole Unicode characters.', { details });
  }
  if (id.length * 3 > idBytesMax && bytes(id) > idBytesMax) {
    throw new SyncError('id_too_long', `A record’s id may be ${idBytesMax} bytes long.`, { details: { ...details, bytes: bytes(id), max: idBytesMax } });
  }
}

const loneSurrogate = /\p{Surrogate}/u;

/** Well-formed JSON.stringify escapes a lone surrogate (and nothing else so); only then is it worth looking at every string. */
const maybeSurrogate = (text: string): boolean => text.includes('\\ud');

function checkText(text: string, value: unknown, code: SyncErrorCode, subject: string): string {
  if (maybeSurrogate(text)) new Walk(code, subject, true).visit(value, []);
  return text;
}

const tooLarge = (): SyncError =>
  new SyncError('record_too_large', `A record may take ${recordBytesMax / 1024} KB as JSON.`, { details: { max: recordBytesMax } });

/** An object literal, of this or another realm: its prototype is nothing, or something without a prototype. */
function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function describe(value: unknown): string {
  if (value === null) return 'null';
  if (typeof value === 'bigint') return 'a BigInt; send it as a string';
  if (typeof value === 'undefined') return 'undefined; leave the field out or use null';
  if (typeof value !== 'object') return `a ${typeof value}`;
  if (Array.isArray(value)) return 'an array';
  if (value instanceof Date) return 'a Date; use toISOString()';
  const name: unknown = value.constructor?.name;
  return typeof name === 'string' && name !== '' ? `a ${name}` : 'an object with a prototype';
}

/** One look at everything a value holds. */
class Walk {
  readonly #code: SyncErrorCode;
  readonly #subject: string;
  readonly #strings: boolean;
  readonly #open: object[] = [];
  #count = 0;

  constructor(code: SyncErrorCode, subject: string, strings = false) {
    this.#code = code;
    this.#subject = subject;
    this.#strings = strings;
  }

  fail(path: Path, what: string): never {
    const at = pathText(path);
    throw new SyncError(this.#code, `The ${this.#subject}${at && ` at ${at}`} ${what}.`, { details: { path: at } });
  }

  visit(value: unknown, path: (string | number)[]): void {
    switch (typeof value) {
      case 'boolean':
        return;
      case 'string':
        if (this.#strings) this.#text(value, path);
        return;
      case 'number':
        if (!Number.isFinite(value)) this.fail(path, `is ${value}, which JSON cannot hold`);
        return;
      case 'object':
        if (value !== null) this.#object(value, path);
        return;
      default:
        this.fail(path, `must not be ${describe(value)}`);
    }
  }

  #text(text: string, path: Path): void {
    if (loneSurrogate.test(text)) this.fail(path, 'has half a Unicode character (a lone surrogate)');
  }

  #object(value: object, path: (string | number)[]): void {
    const depth = this.#open.length;
    if (depth === depthMax) this.#tooDeep(path);
    this.#open.push(value);
    if (Array.isArray(value)) this.#array(value, path);
    else this.#fields(value, path);
    this.#open.pop();
  }

  /** A cycle always gets this deep, so only here is it worth looking for one. */
  #tooDeep(path: Path): never {
    const second = this.#open.findIndex((value, i) => this.#open.indexOf(value) < i);
    if (second < 0) this.fail(path, `is nested more than ${depthMax} deep`);
    this.fail(path.slice(0, second), 'contains itself: a cycle');
  }

  #array(array: readonly unknown[], path: (string | number)[]): void {
    this.#grow(array.length);
    if (Object.keys(array).length !== array.length) this.fail(path, 'is an array with holes or names');
    for (let i = 0; i < array.length; i++) {
      path.push(i);
      this.visit(array[i], path);
      path.pop();
    }
  }

  #fields(value: object, path: (string | number)[]): void {
    if (!isPlain(value)) this.fail(path, `must not be ${describe(value)}`);
    if (Object.getOwnPropertySymbols(value).length > 0) this.fail(path, 'has a key that is a symbol');
    const keys = Object.keys(value);
    this.#grow(keys.length);
    for (const key of keys) {
      path.push(key);
      if (forbiddenKeys.has(key)) this.fail(path, 'is a key that is not allowed');
      if (this.#strings) this.#text(key, path);
      this.visit(value[key], path);
      path.pop();
    }
  }

  /** Ends a walk through an object that is small in memory and endless when written out (shared parts). */
  #grow(count: number): void {
    this.#count += count;
    if (this.#count > recordBytesMax) throw tooLarge();
  }
}
