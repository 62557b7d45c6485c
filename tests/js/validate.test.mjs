import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { load } from './support/load.mjs';

const { encodeObject, encodeRecord, checkId } = await load('js/validate.ts');

const cycle = { list: [{}] };
cycle.list[0].back = cycle;
const nested = (depth) => (depth === 1 ? {} : { a: nested(depth - 1) });
const holes = [1, 2, 3];
delete holes[1];

const refused = [
  ['null', null, '', /not null/],
  ['an array', [], '', /an array/],
  ['a string', 'x', '', /a string/],
  ['a Map as the record', new Map(), '', /a Map/],
  ['undefined', { a: { b: undefined } }, 'a.b', /null/],
  ['undefined as an id', { id: undefined }, 'id', /undefined/],
  ['a function', { a: [() => 1] }, 'a[0]', /function/],
  ['a symbol', { a: Symbol('s') }, 'a', /symbol/],
  ['a symbol as a key', { a: { [Symbol('s')]: 1 } }, 'a', /symbol/],
  ['NaN', { a: NaN }, 'a', /NaN/],
  ['Infinity', { a: [-Infinity] }, 'a[0]', /Infinity/],
  ['BigInt', { 'a b': 1n }, '["a b"]', /string/],
  ['a cycle', cycle, 'list[0].back', /itself/],
  ['own __proto__', JSON.parse('{"a":{"__proto__":{}}}'), 'a.__proto__', /not allowed/],
  ['constructor', { constructor: 1 }, 'constructor', /not allowed/],
  ['prototype', { a: [{ prototype: 1 }] }, 'a[0].prototype', /not allowed/],
  ['a sparse array', { a: holes }, 'a', /holes/],
  ['an array with names', { a: Object.assign([1], { x: 1 }) }, 'a', /names/],
  ['a Date', { a: new Date(0) }, 'a', /toISOString\(\)/],
  ['a Map', { a: new Map() }, 'a', /a Map/],
  ['a Uint8Array', { a: new Uint8Array(1) }, 'a', /a Uint8Array/],
  ['an instance of a class', { a: new (class Point {})() }, 'a', /a Point/],
  ['a boxed number', { a: Object(1) }, 'a', /a Number/],
  ['depth over 64', nested(65), Array(64).fill('a').join('.'), /64 deep/],
  ['a lone surrogate', { a: ['ok', '\ud83d'] }, 'a[1]', /surrogate/],
  ['a lone surrogate in a key', { a: { '\udc00': 1 } }, `a["\\udc00"]`, /surrogate/],
];

for (const [what, record, path, message] of refused) {
  test(`a record with ${what} is refused, and the error says where`, () => {
    assert.throws(() => encodeRecord(record), (error) => {
      assert.equal(error.code, 'invalid_record');
      assert.equal(error.details.path, path);
      assert.match(error.message, message);
      assert.equal(error.retryable, false);
      return true;
    });
  });
}

test('what is JSON goes through unchanged, the id apart', () => {
  const fields = { text: '\u0000"\\ud800 is text, 😀 a whole character', numbers: [0, -1.5e300, 1e-7], none: null, deep: nested(62), empty: '', '': true };
  const { id, fields: text } = encodeRecord({ id: 'r1', ...fields });
  assert.equal(id, 'r1');
  assert.deepEqual(JSON.parse(text), fields);
  assert.deepEqual(encodeRecord({}), { id: undefined, fields: '{}' });
});

test('an object without a prototype, or of another realm, is a plain object', async () => {
  const { runInNewContext } = await import('node:vm');
  assert.equal(encodeRecord(runInNewContext('({ a: [1, { b: 2 }] })')).fields, '{"a":[1,{"b":2}]}');
  assert.equal(encodeRecord(Object.assign(Object.create(null), { a: 1 })).fields, '{"a":1}');
});

test('64 levels are allowed', () => {
  assert.doesNotThrow(() => encodeRecord(nested(64)));
});

test('an object used twice is no cycle', () => {
  const part = { x: 1 };
  assert.equal(encodeRecord({ a: part, b: [part, part] }).fields, '{"a":{"x":1},"b":[{"x":1},{"x":1}]}');
});

test('256 KB of UTF-8 are allowed and one byte more is not', () => {
  const room = 256 * 1024 - '{"a":""}'.length;
  assert.doesNotThrow(() => encodeRecord({ a: 'x'.repeat(room) }));
  assert.throws(() => encodeRecord({ a: 'x'.repeat(room + 1) }), { code: 'record_too_large' });
  assert.doesNotThrow(() => encodeRecord({ a: 'ü'.repeat(room / 2) }));
  assert.throws(() => encodeRecord({ a: 'ü'.repeat(room / 2 + 1) }), { code: 'record_too_large' });
});

test('shared parts that would be endless when written out are refused at once', () => {
  let bomb = [];
  for (let i = 0; i < 60; i++) bomb = [bomb, bomb];
  assert.throws(() => encodeRecord({ bomb }), { code: 'record_too_large' });
});

test('an id is a non-empty string of at most 128 bytes', () => {
  for (const id of [1, null, '', {}, '\ud800']) assert.throws(() => checkId(id), { code: 'invalid_record', details: { path: 'id' } });
  assert.doesNotThrow(() => checkId('x'.repeat(128)));
  assert.throws(() => checkId('x'.repeat(129)), { code: 'id_too_long' });
  assert.doesNotThrow(() => checkId('ü'.repeat(64)));
  assert.throws(() => checkId('ü'.repeat(65)), (error) => error.code === 'id_too_long' && error.details.bytes === 130);
  assert.throws(() => encodeRecord({ id: 7 }), { code: 'invalid_record' });
});

test('the caller names the code and the subject', () => {
  assert.throws(() => encodeObject({ where: { a: undefined } }, 'invalid_options', 'query'), (error) => error.code === 'invalid_options' && /query at where\.a/.test(error.message));
});

test('all 3,201 real records of movies.json come back equal', () => {
  const movies = JSON.parse(readFileSync(new URL('../../node_modules/vega-datasets/data/movies.json', import.meta.url), 'utf8'));
  assert.equal(movies.length, 3201);
  for (const movie of movies) assert.deepEqual(JSON.parse(encodeRecord(movie).fields), movie);
});
