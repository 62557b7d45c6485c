import assert from 'node:assert/strict';
import { test } from 'node:test';
import { load } from './support/load.mjs';

const { databaseName, databaseOfTag, flushMessage, messageOf, syncTag, tidyMessage } = await load('js/tags.ts');
const { expiresAtMs } = await load('js/jwt.ts');

const names = [['app', 'ada'], ['a:b', 'c:d'], ['a|b', 'x%3Ay'], ['ünï', '😀'], ['landfall:', ':1'], ['a b', 'mailto:me@example.org']];

test('the database name is landfall:{name}:{user} with both parts escaped', () => {
  assert.equal(databaseName('paytrack', 'ada@example.org'), 'landfall:paytrack:ada%40example.org');
  assert.equal(databaseName('a:b', 'c'), 'landfall:a%3Ab:c');
});

test('a tag gives back its database, whatever the names hold', () => {
  const seen = new Set();
  for (const [name, user] of names) {
    const database = databaseName(name, user);
    assert.equal(databaseOfTag(syncTag(database, 17)), database);
    seen.add(database);
  }
  assert.equal(seen.size, names.length);
});

test('a tag of somebody else is left alone', () => {
  for (const tag of ['', 'outbox', 'landfall:app:ada', 'landfall:app:ada:', 'landfall:app:ada:x', 'landfall::ada:1', 'x:landfall:app:ada:1', 'landfall:a:b:c:1']) assert.equal(databaseOfTag(tag), undefined);
});

test('a message says what is asked and of which database, and others are left alone', () => {
  for (const message of [flushMessage('landfall:app:ada'), tidyMessage('landfall:app:ada')]) assert.deepEqual(messageOf({ ...message, more: 1 }), message);
  for (const data of [undefined, null, 'landfall-flush', {}, { type: 'other', database: 'landfall:a:b' }, { type: 'landfall-flush' }, { type: 'landfall-flush', database: 'firebase' }]) assert.equal(messageOf(data), undefined);
});

const jwt = (claims) => `e30.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.sig`;

test('the end of a token is its exp in milliseconds', () => {
  assert.equal(expiresAtMs(jwt({ exp: 1_700_000_000, sub: 'ü>?😀' })), 1_700_000_000_000);
  assert.equal(expiresAtMs(jwt({ exp: 1.5 })), 1500);
});

test('a token that is no JWT or says no end has none', () => {
  for (const token of ['', 'opaque', 'a.b.c', 'a.%%%.c', jwt({}), jwt({ exp: '1' }), jwt(null), jwt([1]), `e30.${btoa('{"exp":1e999}')}.s`]) assert.equal(expiresAtMs(token), undefined);
});
