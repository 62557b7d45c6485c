import assert from 'node:assert/strict';
import { test } from 'node:test';
import { load } from './support/load.mjs';

const { upgradesOf } = await load('js/upgrade.ts');

const options = { schemaVersion: 3, collections: { notes: { indexes: ['title', ['list', 'date']], cluster: ['list'] }, people: {} } };
const rename = { fields: ['name', 'first', 'last'], upgrade: ({ name, ...rest }) => (name === undefined ? rest : { ...rest, first: name.split(' ')[0], last: name.split(' ')[1] }) };
const upgrade = (migrations, collection = 'people') => upgradesOf({ ...options, migrations }).get(collection);
const failsAt = (path) => (error) => error.code === 'invalid_options' && error.details.path === path;

test('a record of the old shape is seen in the new one; one of the new shape is given back as the same object', () => {
  const { apply, fields } = upgrade({ 2: { people: rename } });
  assert.deepEqual(apply({ id: 'p', name: 'Ada King', n: 1.5 }), { id: 'p', n: 1.5, first: 'Ada', last: 'King' });
  const fresh = { id: 'p', n: 1, first: 'Ada', last: 'King' };
  assert.equal(apply(fresh), fresh);
  assert.deepEqual([...fields], ['name', 'first', 'last']);
  assert.equal(upgrade({ 2: { people: rename } }, 'notes'), undefined);
});

test('migrations follow one another in the order of their versions', () => {
  const seen = [];
  const step = (version) => ({ fields: ['v'], upgrade: (record) => (seen.push(version), (record.v ?? 1) < version ? { ...record, v: version } : record) });
  const { apply } = upgrade({ 3: { people: step(3) }, 2: { people: step(2) } });
  assert.deepEqual(apply({ id: 'p' }), { id: 'p', v: 3 });
  assert.deepEqual([seen[0], seen.at(-1)], [2, 3]);
  assert.deepEqual(apply({ id: 'p', v: 2 }), { id: 'p', v: 3 });
});

test('what an upgrade does in place to its argument is not seen by anybody else', () => {
  const { apply } = upgrade({ 2: { people: { fields: ['tags'], upgrade: (record) => (record.tags.sort(), record) } } });
  const record = { id: 'p', tags: ['b', 'a'] };
  assert.deepEqual(apply(record), { id: 'p', tags: ['a', 'b'] });
  assert.deepEqual(record.tags, ['b', 'a']);
});

test('c2: an upgrade that does not know its own work is stopped before the app sees a wrong value', () => {
  const { apply } = upgrade({ 2: { people: { fields: ['cents'], upgrade: (record) => ({ ...record, cents: record.cents * 100 }) } } });
  assert.throws(() => apply({ id: 'p', cents: 3 }), failsAt('migrations.2.people'));
});

test('an upgrade that changes what it did not name, the id, or gives no record is refused', () => {
  const bad = {
    other: (record) => ({ ...record, n: 2 }),
    nested: (record) => (record.deep.inside.push(1), record),
    id: (record) => ({ ...record, id: 'q' }),
    gone: ({ n: _, ...rest }) => rest,
    nothing: () => undefined,
    list: () => [],
    thrown: () => {
      throw new Error('no');
    },
  };
  for (const [name, work] of Object.entries(bad)) {
    const { apply } = upgrade({ 2: { people: { fields: ['title'], upgrade: work } } });
    assert.throws(() => apply({ id: 'p', n: 1, deep: { inside: [] } }), failsAt('migrations.2.people'), name);
  }
});

test('migrations are checked at open', () => {
  const work = (record) => record;
  for (const [migrations, path] of [
    [{ 4: { people: rename } }, 'migrations.4'],
    [{ 0: { people: rename } }, 'migrations.0'],
    [{ x: { people: rename } }, 'migrations.x'],
    [{ 2: { others: rename } }, 'migrations.2.others'],
    [{ 2: { people: { fields: [], upgrade: work } } }, 'migrations.2.people'],
    [{ 2: { people: { fields: ['id'], upgrade: work } } }, 'migrations.2.people'],
    [{ 2: { people: { fields: ['n'] } } }, 'migrations.2.people'],
    [{ 2: { notes: { fields: ['title'], upgrade: work } } }, 'collections.notes'],
    [{ 2: { notes: { fields: ['date'], upgrade: work } } }, 'collections.notes'],
    [{ 2: { notes: { fields: ['list'], upgrade: work } } }, 'collections.notes'],
  ]) {
    assert.throws(() => upgradesOf({ ...options, migrations }), failsAt(path), path);
  }
  assert.equal(upgradesOf(options).size, 0);
});
