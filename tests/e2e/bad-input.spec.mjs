// Bad input: what cannot be stored faithfully is refused with a code and a path, and nothing of it is stored.

import { outbox, put, status, view } from './support/device.mjs';
import { eventually, expect, test } from './support/test.mjs';

/** Name → `[code, path, JavaScript of the record]`. Made in the page: these values do not travel. */
const records = {
  'a string': ['invalid_record', '', '"text"'],
  'an array': ['invalid_record', '', '[1]'],
  'null': ['invalid_record', '', 'null'],
  'undefined': ['invalid_record', '', 'undefined'],
  'a Date': ['invalid_record', '', 'new Date()'],
  'a Map': ['invalid_record', '', 'new Map()'],
  'undefined in it': ['invalid_record', 'body', '({ title: "x", body: undefined })'],
  'a function': ['invalid_record', 'a.b', '({ title: "x", a: { b() {} } })'],
  'a symbol': ['invalid_record', 'a', '({ a: Symbol("s") })'],
  'NaN': ['invalid_record', 'a[1]', '({ a: [0, NaN] })'],
  'Infinity': ['invalid_record', 'a', '({ a: -Infinity })'],
  'a BigInt': ['invalid_record', 'a["b c"]', '({ a: { "b c": 1n } })'],
  'a Date in it': ['invalid_record', 'at', '({ at: new Date() })'],
  'a hole': ['invalid_record', 'a', '({ a: [1, , 2] })'],
  'a cycle': ['invalid_record', 'a.self', '(() => { const a = {}; a.self = a; return { a }; })()'],
  '__proto__': ['invalid_record', '__proto__', 'JSON.parse(`{"__proto__": {"admin": true}}`)'],
  'constructor': ['invalid_record', 'a.constructor', '({ a: { constructor: 1 } })'],
  'prototype': ['invalid_record', 'prototype', '({ prototype: {} })'],
  'half a character': ['invalid_record', 'title', '({ title: "\\ud800" })'],
  'too deep': ['invalid_record', undefined, '(() => { let a = {}; for (let i = 0; i < 70; i++) a = { a }; return a; })()'],
  'a number as id': ['invalid_record', 'id', '({ id: 7, title: "x" })'],
  'an empty id': ['invalid_record', 'id', '({ id: "", title: "x" })'],
  'an id of 129 bytes': ['id_too_long', 'id', '({ id: "é".repeat(64) + "x", title: "x" })'],
  'more than 256 KB': ['record_too_large', undefined, '({ title: "x", body: "é".repeat(140_000) })'],
};

test('bad input: l3: what JSON cannot hold is refused with a code and a path, and nothing of it is stored', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await device.lab('ada');
  // One program as text: the page's own policy allows no eval.
  const makers = Object.entries(records).map(([name, [, , source]]) => `${JSON.stringify(name)}: () => ${source}`);
  const answers = await page.evaluate(`(async () => {
    const answers = {};
    for (const [name, make] of Object.entries({ ${makers.join(',')} })) {
      answers[name] = await lab.db.collection('notes').put(make()).then(
        () => ['stored'],
        (error) => [error.code, error.details?.path, lab.isSyncError(error), error.message !== ''],
      );
    }
    return answers;
  })()`);
  for (const [name, [code, path]] of Object.entries(records)) expect(answers[name], name).toEqual([code, path ?? answers[name][1], true, true]);

  // The prototype that nobody polluted, the view and the outbox that nobody filled.
  expect(await page.evaluate(() => ({}).admin)).toBeUndefined();
  expect(await view(page, 'notes')).toEqual({});
  expect(await outbox(page)).toEqual([]);
  expect(await status(page)).toMatchObject({ pending: 0, parked: 0, storage: { state: 'ok', quarantined: 0 } });

  // The largest that fit still do, and arrive.
  const id = 'é'.repeat(64);
  await put(page, 'notes', { id, title: 'x' });
  await put(page, 'movies', { id: 'large', text: 'x'.repeat(255 * 1024) });
  await eventually(async () => (await server.records('user:ada')).map(({ id }) => id).sort()).toEqual(['large', id]);
});

test('bad input: l3: a transaction with one bad record, an unknown collection or over 100 writes stores nothing', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  const page = await device.lab('ada');
  const codes = await page.evaluate(async () => {
    const code = (work) => Promise.resolve().then(work).then(() => 'stored', (error) => error.code);
    const group = (count, last) => lab.db.transaction(['notes'], (tx) => {
      for (let i = 0; i < count; i++) tx.collection('notes').put({ id: `n${i}`, title: 'x' });
      if (last) tx.collection('notes').put(last);
    });
    return {
      bad: await code(() => group(2, { id: 'bad', title: NaN })),
      tooMany: await code(() => group(101)),
      unknown: await code(() => lab.db.collection('nobody')),
      unknownInTransaction: await code(() => lab.db.transaction(['notes'], (tx) => tx.collection('movies').put({}))),
      missing: await code(() => lab.db.collection('notes').create({ id: 'n', title: 'x' }).then(() => lab.db.collection('notes').create({ id: 'n', title: 'y' }))),
    };
  });
  expect(codes).toEqual({ bad: 'invalid_record', tooMany: 'group_too_large', unknown: 'unknown_collection', unknownInTransaction: 'unknown_collection', missing: 'already_exists' });
  expect(Object.keys(await view(page, 'notes'))).toEqual(['n']);
  await eventually(async () => (await server.records('user:ada')).map(({ id, fields }) => [id, fields.title])).toEqual([['n', 'x']]);
});
