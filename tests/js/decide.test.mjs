// Conflicts that the app decides by itself, before a person is asked.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { last, opened, options } from './support/client.mjs';
import { settled } from './support/load.mjs';

const waiting = (id, more) => ({ id, collection: 'notes', scope: 'user:ada', record: `r${id}`, at: 5, status: 'conflict', op: 'update', local: { n: id }, server: { n: 0 }, base: { n: 1 }, to: 'author', seq: 0, ...more });
const refused = (id) => ({ type: 'rejected', entry: { id, collection: 'notes', scope: 'user:ada', record: `r${id}`, op: 'update', state: 'parked', fields: {}, created_at: 5, attempts: 1, reason: { code: 'conflict', message: '' } } });

/** A database whose engine has these conflicts, and what was asked, resolved and told. */
async function deciding(decide, conflicts) {
  const asked = [];
  const { db } = await opened({ collections: { notes: { decide: (conflict) => (asked.push(conflict.id), decide(conflict)) }, people: {} } });
  const [replica, resolved, told] = [last(), [], []];
  replica.conflicts = async () => JSON.stringify(conflicts);
  replica.conflict_resolve = async (id, how) => {
    if (!conflicts.some((one) => one.id === id)) throw { code: 'not_parked', message: '', retryable: false };
    resolved.push([id, how]);
    conflicts.splice(conflicts.findIndex((one) => one.id === id), 1);
  };
  db.sync.on('rejected', ({ id }) => told.push(id));
  return { asked, resolved, told, hear: async (id) => (replica.say(refused(id)), await settled()) };
}

test('c3: what the app decides ends at once and is told to nobody; what it leaves to a person is told', async () => {
  const decide = ({ id }) => (id === 7 ? 'local' : id === 8 ? Promise.resolve({ merged: { n: 9 } }) : undefined);
  const conflicts = [waiting(7), waiting(8), waiting(9), waiting(10, { to: 'review' }), waiting(11, { to: undefined }), waiting(12, { collection: 'people' })];
  const { asked, resolved, told, hear } = await deciding(decide, conflicts);
  await hear(7);
  assert.deepEqual([asked, resolved, told], [[7, 8, 9], [[7, 'local'], [8, '{"n":9}']], []]);
  await hear(9);
  await hear(12);
  assert.deepEqual(told, [9, 12]);
});

test('c3: a decision that another tab has made is no failure, and one that throws is left to a person', async () => {
  const { told, hear } = await deciding(({ id }) => {
    if (id === 8) throw new Error('of the app');
    return 'server';
  }, [waiting(7), waiting(8)]);
  await hear(7);
  assert.deepEqual(told, []);
  await hear(8);
  assert.deepEqual(told, [8]);
});

test('nobody is asked where no collection decides', async () => {
  assert.equal(options.collections.notes.decide, undefined);
  const { db } = await opened();
  const told = [];
  db.sync.on('rejected', ({ id }) => told.push(id));
  last().conflicts = () => assert.fail('asked');
  last().say(refused(7));
  await settled();
  assert.deepEqual(told, [7]);
});
