// Ids that follow from a key: the golden ones of crates/core/src/derive.rs, and what has none.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { load } from './support/load.mjs';

const { derivedId } = await load('js/ids.ts');
const of = (...key) => derivedId('user:ada', 'notes', key);

test('c1: a derived id is the server’s, for texts, times and numbers', async () => {
  assert.equal(await of('d1', new Date('2026-01-31T08:00:00Z')), '17df3148-16d4-5a06-8003-b1393974ed37');
  assert.equal(await of('d1', new Date('2026-01-31T10:00:00.0004+02:00')), '17df3148-16d4-5a06-8003-b1393974ed37');
  assert.equal(await of('Caf\u00e9 "x"\n\u0001'), 'e4604ec8-5d91-5223-9889-f73e6d935d6f');
  assert.equal(await of('Cafe\u0301 "x"\n\u0001'), 'e4604ec8-5d91-5223-9889-f73e6d935d6f');
  assert.equal(await of(1), 'aeaf84d6-e6b9-5ec1-b8a6-c1734113e57f');
  assert.equal(await of(-1.5e300), '986ff4b7-6434-5740-beef-45e67c713342');
});

test('a key with a part that is missing or of another type has no id', async () => {
  for (const wrong of [undefined, null, NaN, new Date('soon'), {}]) {
    await assert.rejects(of('a', wrong), (error) => error.code === 'invalid_record' && error.details.path === '1');
  }
});
