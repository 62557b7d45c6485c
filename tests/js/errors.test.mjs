import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { load } from './support/load.mjs';

const { SyncError, engineErrorCodes, isSyncError, syncErrorCodes, toSyncError } = await load('js/errors.ts');

test('every code is listed once and is snake_case', () => {
  assert.equal(new Set(syncErrorCodes).size, syncErrorCodes.length);
  for (const code of syncErrorCodes) assert.match(code, /^[a-z]+(_[a-z]+)*$/);
});

test('the engine’s codes are those of Rust, where they live', () => {
  const source = readFileSync(new URL('../../crates/replica/src/error.rs', import.meta.url), 'utf8');
  const [, list] = /pub const CODES[^=]*= \[([^\]]*)\]/.exec(source);
  assert.deepEqual(engineErrorCodes, [...list.matchAll(/"(\w+)"/g)].map(([, code]) => code));
});

test('what the engine throws becomes a SyncError with the same code, message and data', () => {
  const error = toSyncError({ code: 'quota_exceeded', message: 'The disk is full.', retryable: true, details: { bytes: 7 } });
  assert.ok(error instanceof SyncError && error instanceof Error);
  assert.equal(error.name, 'SyncError');
  assert.deepEqual([error.code, error.message, error.retryable, error.details], ['quota_exceeded', 'The disk is full.', true, { bytes: 7 }]);
});

test('a code of another build becomes internal and keeps its name', () => {
  const error = toSyncError({ code: 'from_the_future', message: 'm', retryable: true, details: { a: 1 } });
  assert.deepEqual([error.code, error.details], ['internal', { a: 1, code: 'from_the_future' }]);
});

test('anything else becomes internal with its cause', () => {
  const cause = new TypeError('broken');
  assert.deepEqual([toSyncError(cause).code, toSyncError(cause).message, toSyncError(cause).cause], ['internal', 'broken', cause]);
  for (const thrown of [undefined, null, 'text', 7]) assert.equal(toSyncError(thrown).code, 'internal');
});

test('an error that is one already stays itself', () => {
  const error = new SyncError('closed', 'm');
  assert.equal(toSyncError(error), error);
});

test('isSyncError knows the errors of another copy of the package, and nothing else', async () => {
  const other = await load('js/errors.ts');
  assert.ok(isSyncError(new other.SyncError('closed', 'm')));
  assert.ok(!(new other.SyncError('closed', 'm') instanceof SyncError));
  for (const value of [new Error('closed'), { code: 'closed', name: 'SyncError' }, Object.assign(new Error(''), { code: 'closed' }), null, undefined]) assert.ok(!isSyncError(value));
});
