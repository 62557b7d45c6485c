// The judge of the rounds with killed browsers finds what it is there to find, and nothing else.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ledger } from './ledger.mjs';

const well = { storage: { state: 'ok', quarantined: 0 } };
const session = 'p0/a#1';
const title = (text) => ({ title: text });

/** A ledger in which one tab wrote: a record that it changed, a shared one, a transaction, a deleted record, refused writes. */
function ledgerOf(change = {}) {
  const ledger = new Ledger(['hot0']);
  const writes = [
    { ops: [{ op: 'put', id: 'x', value: title('x0') }] },
    { ops: [{ op: 'update', id: 'x', value: title('x1') }] },
    { ops: [{ op: 'update', id: 'hot0', value: { a: 'h0', last: 'h0.last' } }] },
    { ops: [{ op: 'update', id: 'hot0', value: { a: 'h1', last: 'h1.last' } }] },
    { group: true, ops: [0, 1].map((part) => ({ op: 'create', id: `${session}.4.g${part}`, value: title(`g${part}`) })) },
    { ops: [{ op: 'put', id: 'y', value: title('y0') }] },
    { ops: [{ op: 'delete', id: 'y' }] },
    { ops: [{ op: 'update', id: 'x', value: title('refused') }] },
    { bad: true, ops: [{ op: 'put', id: 'z', value: title('') }] },
    { ops: [{ op: 'put', id: 'new', value: title('new') }] },
  ];
  const statuses = { 7: 'refused', 9: 'unknown', ...change };
  writes.forEach((write, k) => {
    ledger.began(session, 'a', k, write);
    ledger.ended(session, k, statuses[k] ?? 'stored');
  });
  return ledger;
}

const shown = () => [
  { id: 'hot0', value: { title: 'hot0', a: 'h1', last: 'h1.last' }, state: 'synced' },
  { id: 'x', value: title('x1'), state: 'pending' },
  { id: `${session}.4.g0`, value: title('g0'), state: 'synced' },
  { id: `${session}.4.g1`, value: title('g1'), state: 'synced' },
];
const waiting = () => [{ record: 'x', op: 'update', state: 'pending' }, { record: 'z', op: 'create', state: 'parked' }];
const stored = () => shown().map(({ id, value }) => ({ id, fields: id === 'x' ? title('x0') : value }));

const codes = (ledger) => [...new Set(ledger.violations.map(({ code }) => code))];
const without = (id) => ({ rows: shown().filter((row) => row.id !== id) });
const with_ = (...rows) => ({ rows: [...shown().filter(({ id }) => !rows.some((row) => row.id === id)), ...rows] });

/** Name, what differs from a view in which all is well, and what is found. */
const views = [
  ['all is well', {}, []],
  ['a write whose promise had not ended is there', with_({ id: 'new', value: title('new'), state: 'synced' }), ['L2']],
  ['a record is lost', without('x'), ['L1', 'L2']],
  ['a change is lost', with_({ id: 'x', value: title('x0'), state: 'pending' }), ['L1']],
  ['a change of a shared record is lost', with_({ id: 'hot0', value: { title: 'hot0', a: 'h0', last: 'h0.last' }, state: 'pending' }), ['L1', 'L2']],
  ['a deleted record is back', with_({ id: 'y', value: title('y0'), state: 'synced' }), ['L1', 'L2']],
  ['a refused write is shown', with_({ id: 'x', value: title('refused'), state: 'pending' }), ['L3']],
  ['half of a transaction is there', without(`${session}.4.g1`), ['L1', 'S5', 'L2']],
  ['a record that nobody wrote', with_({ id: 'stranger', value: title('s'), state: 'synced' }), ['S1', 'L2']],
  ['what the server refused waits for nobody', { outbox: waiting().slice(0, 1) }, ['L1']],
  ['what is shown as pending is not in the outbox', { outbox: waiting().slice(1) }, ['L2']],
  ['a good write is parked', { outbox: [...waiting(), { record: 'x', op: 'update', state: 'parked' }] }, ['L1']],
  ['a write failed for an outage', { outbox: [...waiting(), { record: 'x', op: 'update', state: 'failed' }] }, ['S7']],
  ['a write lost against nobody', { conflicts: [{ record: 'x' }] }, ['L5']],
  ['the storage failed', { status: { storage: { state: 'storage_failed', quarantined: 0 } } }, ['L1']],
];
for (const [name, change, expected] of views) {
  test(`a view: ${name}: ${expected.join(', ') || 'nothing is found'}`, () => {
    const ledger = ledgerOf();
    ledger.look({ rows: shown(), outbox: waiting(), conflicts: [], status: well, ...change }, { server: stored(), at: 'here' });
    assert.deepEqual(codes(ledger).sort(), [...expected].sort());
  });
}

test('what was in doubt and is not there when nobody is left to store it must not come later', () => {
  const ledger = ledgerOf();
  const view = { rows: shown(), outbox: waiting(), conflicts: [], status: well };
  ledger.resolve(view);
  ledger.look({ ...view, ...with_({ id: 'new', value: title('new'), state: 'pending' }), outbox: [...waiting(), { record: 'new', op: 'create', state: 'pending' }] }, { at: 'later' });
  assert.deepEqual(codes(ledger), ['L2']);
});

test('what was in doubt and is there must stay', () => {
  const ledger = ledgerOf();
  const view = { rows: [...shown(), { id: 'new', value: title('new'), state: 'pending' }], outbox: [...waiting(), { record: 'new', op: 'create', state: 'pending' }], conflicts: [], status: well };
  ledger.resolve(view);
  ledger.look(view, { at: 'here' });
  assert.deepEqual(codes(ledger), []);
  ledger.look({ ...view, rows: shown(), outbox: waiting() }, { at: 'later' });
  assert.deepEqual(codes(ledger), ['L1']);
});

const decision = (seq, id, status = 'applied') => ({ client_id: 'c', seq, id, status, position: seq });
const audit = () => [decision(1, 'hot0'), decision(2, 'x'), decision(3, 'x'), decision(4, 'hot0'), decision(5, `${session}.4.g0`), decision(6, `${session}.4.g1`), decision(7, 'z', 'rejected')];
const end = () => ({
  records: shown().map(({ id, value }) => ({ id, fields: value, version: id === 'x' || id === 'hot0' ? 2 : 1 })),
  rows: shown(), parked: waiting().slice(1), audit: audit(),
});

const ends = [
  ['all is well', {}, []],
  ['a mutation was decided twice', { audit: [...audit(), decision(3, 'x')] }, ['S1', 'S4']],
  ['a record was changed more often than written', { audit: [...audit(), decision(8, 'x'), decision(9, 'x')] }, ['S1']],
  ['a version without an effect', { records: end().records.map((record) => ({ ...record, version: 3 })) }, ['S1']],
  ['two changes in the wrong order', { audit: audit().map((row) => (row.id === 'x' ? { ...row, position: 5 - row.seq } : row)) }, ['S4']],
  ['a write lost against nobody', { audit: [...audit(), decision(8, 'x', 'superseded')] }, ['L5']],
  ['one profile became two clients', { audit: audit().map((row) => (row.seq === 3 ? { ...row, client_id: 'd' } : row)) }, ['S1']],
  ['the server has another value', { records: end().records.map((record) => (record.id === 'x' ? { ...record, fields: title('x0') } : record)) }, ['L1', 'R1']],
  ['the server took what it refuses', { records: [...end().records, { id: 'z', fields: title(''), version: 1 }], audit: [...audit(), decision(8, 'z')] }, ['L3', 'R1']],
  ['what was refused waits for nobody', { parked: [] }, ['L1']],
  ['what was refused waits twice', { parked: [...end().parked, ...end().parked] }, ['L1']],
];
for (const [name, change, expected] of ends) {
  test(`the end: ${name}: ${expected.join(', ') || 'nothing is found'}`, () => {
    const ledger = ledgerOf({ 9: 'gone' });
    ledger.final({ ...end(), ...change });
    assert.deepEqual(codes(ledger).sort(), [...expected].sort());
  });
}
