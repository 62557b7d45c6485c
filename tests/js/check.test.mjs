// What an app says of its records is asked before anything is stored: validators and references.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { last, opened, rejectsWith } from './support/client.mjs';
import { load, settled } from './support/load.mjs';

/** A validator that wants a number in `n`, and tells what it was given. */
function wantsNumber(answer = (result) => result) {
  const asked = [];
  const validate = (value) => {
    asked.push(value);
    return answer(typeof value.n === 'number' ? { value } : { issues: [{ message: 'must be a number', path: ['n'] }] });
  };
  return { asked, validate: { '~standard': { version: 1, vendor: 'test', validate } } };
}

const whole = (collection, more = {}) => ({ scope: 's', collection, covered: 4, staged: 0, ...more });
const written = () => last().of('write').flatMap(([ops]) => ops).map(({ op, id, fields }) => [op, id, fields]);

/** The engine of the last opened database has these records, and what is written to it. */
function holds(records, pairs = []) {
  const replica = last();
  const all = new Map(Object.entries(records));
  const write = replica.write.bind(replica);
  replica.write = async (json, atomic) => {
    const answer = await write(json, atomic);
    for (const { collection, id, fields } of JSON.parse(json)) if (id) all.set(`${collection} ${id}`, { ...all.get(`${collection} ${id}`), ...fields });
    return answer;
  };
  replica.get = (collection, scope, id) => {
    const row = all.get(`${collection} ${id}`);
    return row && JSON.stringify({ row: { ...row, id }, meta: ['synced', 1, 's'] });
  };
  const inspect = replica.inspect.bind(replica);
  replica.inspect = async () => JSON.stringify({ ...JSON.parse(await inspect()), pairs });
}

test('l3: what a validator refuses is never stored, and says what is wrong by field', async () => {
  const { validate, asked } = wantsNumber();
  const { db } = await opened({ collections: { notes: { validate }, people: {} } });
  const notes = db.collection('notes');
  const good = notes.put({ id: 'a', n: 1 });
  await assert.rejects(notes.create({ id: 'b', n: 'one' }), { code: 'invalid_record', details: { path: 'n', fields: { n: 'must be a number' } } });
  await good;
  await db.collection('people').put({ id: 'c' });
  assert.deepEqual(written(), [['put', 'a', { n: 1 }], ['put', 'c', {}]]);
  assert.deepEqual(asked, [{ id: 'a', n: 1 }, { id: 'b', n: 'one' }]);
});

test('an update is asked about as the record it makes, and an update of nothing is left to the engine', async () => {
  const { validate, asked } = wantsNumber();
  const { db } = await opened({ collections: { notes: { validate } } });
  holds({ 'notes a': { n: 1, text: 'x' } });
  const notes = db.collection('notes');
  await notes.update('a', { text: 'y' });
  await rejectsWith(notes.update('a', { n: null }), 'invalid_record');
  await notes.update('none', { text: 'z' });
  assert.deepEqual(asked, [{ id: 'a', n: 1, text: 'y' }, { id: 'a', n: null, text: 'y' }]);
  assert.deepEqual(written(), [['update', 'a', { text: 'y' }], ['update', 'none', { text: 'z' }]]);
});

test('writes of a collection keep their order while something is read for one of them', async () => {
  const { validate } = wantsNumber((result) => new Promise((resolve) => setImmediate(resolve, result)));
  const { db } = await opened({ collections: { notes: { validate } } });
  holds({});
  const notes = db.collection('notes');
  const record = { id: 'a', n: 1 };
  const all = [notes.put(record), notes.update('a', { n: 2 }), rejectsWith(notes.put({ id: 'b' }), 'invalid_record'), notes.put({ id: 'a', n: 3 }), notes.delete('a')];
  record.n = 'changed after the call';
  await Promise.all(all);
  assert.deepEqual(written(), [['put', 'a', { n: 1 }], ['update', 'a', { n: 2 }], ['put', 'a', { n: 3 }], ['delete', 'a', undefined]]);
});

test('l3: a transaction with one bad record stores none, and sees its own earlier writes', async () => {
  const { validate } = wantsNumber();
  const { db } = await opened({ collections: { notes: { validate }, people: { references: { note_id: 'notes' } } } });
  holds({}, [whole('notes')]);
  await rejectsWith(db.transaction(['notes'], (tx) => {
    tx.collection('notes').put({ id: 'a', n: 1 });
    tx.collection('notes').update('a', { n: '' });
  }), 'invalid_record');
  assert.deepEqual(written(), []);
  await db.transaction(['notes', 'people'], (tx) => {
    tx.collection('people').put({ id: 'p' });
    tx.collection('notes').put({ id: 'a', n: 1 });
    tx.collection('notes').update('a', { n: 2 });
    tx.collection('people').update('p', { note_id: 'a' });
  });
  assert.equal(written().length, 4);
});

test('a reference to nothing is refused where all of its collection is here, and left to the server where not', async () => {
  const { db } = await opened({ collections: { notes: {}, people: { references: { note_id: 'notes' } } } });
  const people = db.collection('people');
  holds({ 'notes here': {} }, [whole('notes')]);
  await people.put({ id: '1', note_id: 'here' });
  await people.put({ id: '2', note_id: null });
  await people.put({ id: '3' });
  await assert.rejects(people.put({ id: '4', note_id: 'nowhere' }), { code: 'invalid_record', details: { path: 'note_id', fields: { note_id: 'names nothing in notes' } } });
  for (const pairs of [[], [whole('people')], [whole('notes', { covered: null })], [whole('notes', { staged: 3 })]]) {
    holds({}, pairs);
    await people.put({ id: '5', note_id: 'nowhere' });
  }
  assert.deepEqual(written().map(([, id]) => id), ['1', '2', '3', '5', '5', '5', '5']);
});

test('a reference to what was written a moment ago is good, also within one collection', async () => {
  const { validate } = wantsNumber((result) => Promise.resolve(result));
  const { db } = await opened({ collections: { notes: { validate, references: { parent_id: 'notes' } }, people: { references: { note_id: 'notes' } } } });
  holds({}, [whole('notes'), whole('people')]);
  const notes = db.collection('notes');
  await Promise.all([notes.put({ id: 'top', n: 1 }), notes.put({ id: 'below', n: 2, parent_id: 'top' }), db.collection('people').put({ id: 'p', note_id: 'below' })]);
  await settled();
  assert.deepEqual(written().map(([, id]) => id), ['top', 'below', 'p']);
});

test('what a person corrects in the outbox is asked about too', async () => {
  const { validate, asked } = wantsNumber();
  const { db } = await opened({ collections: { notes: { validate } } });
  const entry = { id: 7, collection: 'notes', scope: 's', record: 'a', op: 'create', state: 'parked', fields: { n: '1' }, local: { n: '1', text: 'x' } };
  last().outbox = async () => JSON.stringify([entry]);
  await rejectsWith(db.outbox.edit(7, { n: '2' }), 'invalid_record');
  await db.outbox.edit(7, { n: 2 });
  await db.outbox.edit(8, { n: '' });
  assert.deepEqual(asked.at(-1), { id: 'a', n: 2, text: 'x' });
  assert.deepEqual(last().of('edit'), [[7, '{"n":2}'], [8, '{"n":""}']]);
});

test('landfall/validate makes a validator of a JSON Schema that says what is wrong, by field', async () => {
  const { jsonSchema } = await load('js/json-schema.ts');
  const schema = jsonSchema({
    type: 'object', required: ['title', 'tags'], additionalProperties: false,
    properties: { title: { type: 'string', maxLength: 3 }, at: { type: 'string', format: 'date-time' }, tags: { type: 'array', items: { type: 'string' } }, n: { $ref: '#/$defs/count' } },
    $defs: { count: { type: 'integer', minimum: 0 } },
  });
  const issues = (value) => (schema['~standard'].validate(value).issues ?? []).map(({ path, message }) => `${path.join('.')} ${message}`);
  assert.deepEqual(issues({ id: 'x', title: 'abc', tags: [], at: '2026-01-01T00:00:00Z', n: 1 }), []);
  const wrong = issues({ title: 'abcd', at: 'today', n: -1.5, extra: 1 });
  assert.deepEqual(wrong.map((line) => line.split(' ')[0]), ['tags', 'title', 'at', 'n', 'extra']);
  assert.ok(wrong.includes('tags is required') && wrong.includes('extra is not allowed'));
  assert.deepEqual(issues({ title: 'a', tags: ['b', 1] }).map((line) => line.split(' ')[0]), ['tags.1']);
  assert.match(issues('text')[0], /type/);
  assert.deepEqual(jsonSchema({ properties: { id: { maxLength: 2 } } })['~standard'].validate({ id: 'abc' }).issues.length, 1);
});
