// The elements' decisions, as functions over plain data; how they look and are used is tested in a browser (tests/e2e).

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { load } from './support/load.mjs';

const lost = (more) => ({ id: 7, collection: 'notes', scope: 'user:ada', record: 'a', at: 5, status: 'superseded', op: 'update', local: { title: 'mine' }, server: { title: 'theirs' }, seq: 1, ...more });
const parked = (more) => ({ id: 9, collection: 'notes', scope: 'user:ada', record: 'b', op: 'update', state: 'parked', fields: { n: 2 }, createdAt: 6, attempts: 1, reason: { code: 'conflict', message: '' }, base: { n: 1 }, local: { n: 2, t: 'x' }, server: { n: 3, t: 'x' }, ...more });

test('importing the elements where there are none does nothing', async () => {
  const elements = await load('js/elements/index.ts');
  assert.deepEqual(Object.keys(elements).sort(), ['LandfallConflicts', 'LandfallDiagnostics', 'LandfallIndicator', 'LandfallPending']);
});

test('c2: a value that lost and one that waits for its author are both listed, newest first, and none twice', async () => {
  const { openConflicts } = await load('js/elements/three-way.ts');
  const list = openConflicts([lost(), lost({ id: 9, record: 'b', at: 1 })], [parked(), parked({ id: 10, reason: { code: 'invalid', message: 'm' } })]);
  assert.deepEqual(list.map(({ id, waiting, base }) => [id, waiting, base]), [[9, true, { n: 1 }], [7, false, null]]);
});

test('c2: a change that was refused because its field had changed waits for its author, and is no plain refusal', async () => {
  const { openConflicts, waitsForChoice } = await load('js/elements/three-way.ts');
  const stale = parked({ reason: { code: 'stale', message: '' } });
  assert.deepEqual([stale, parked({ reason: { code: 'validation', message: '' } }), parked({ state: 'failed' })].map(waitsForChoice), [true, false, false]);
  // The engine lists it among the conflicts, too.
  const [conflict, ...others] = openConflicts([lost({ id: 9, to: 'author' })], [stale]);
  assert.deepEqual([conflict.waiting, conflict.base, others], [true, { n: 1 }, []]);
});

test('c2: what had been taken and was overruled afterwards says so, and its author may write it again', async () => {
  const { openConflicts } = await load('js/elements/three-way.ts');
  const list = openConflicts([lost({ code: 'overruled' }), lost({ id: 8, code: 'reviewed' }), lost({ id: 6 })], []);
  assert.deepEqual(list.map(({ undone, waiting, review }) => [undone, waiting, review]), [['reviewed', false, false], ['overruled', false, false], [undefined, false, false]]);
});

test('a conflict that the engine lists for its author waits, and one for a reviewer is told and not decided here', async () => {
  const { openConflicts } = await load('js/elements/three-way.ts');
  const list = openConflicts([lost({ to: 'author', base: { title: 'was' } }), lost({ id: 8, to: 'review' })], []);
  assert.deepEqual(list.map(({ id, waiting, review, base }) => [id, waiting, review, base]), [[8, false, true, null], [7, true, false, { title: 'was' }]]);
});

test('a difference is a clash only where both sides changed the field, and the side that changed it is suggested', async () => {
  const { openConflicts, differences } = await load('js/elements/three-way.ts');
  const [conflict] = openConflicts([], [parked({ fields: {}, base: { a: 1, b: 1, c: 1, d: { x: 1, y: 2 } }, local: { a: 2, b: 1, c: 2, d: { y: 2, x: 1 }, e: null }, server: { a: 1, b: 2, c: 3, d: { x: 1, y: 2 } } })]);
  assert.deepEqual(differences(conflict).map(({ field, clash, suggested }) => [field, clash, suggested]), [['a', false, 'local'], ['b', false, 'server'], ['c', true, 'server']]);
});

test('without a base every difference is a clash, and where one side deleted there is nothing to merge', async () => {
  const { openConflicts, differences } = await load('js/elements/three-way.ts');
  const of = (conflict) => differences(openConflicts([conflict], [])[0]);
  assert.deepEqual(of(lost()).map(({ clash, suggested }) => [clash, suggested]), [[true, 'server']]);
  assert.deepEqual(of(lost({ server: null })), []);
  assert.deepEqual(of(lost({ op: 'delete' })), []);
});

test('a merge writes the fields that were picked from this device and no other; where none was, the server’s stand', async () => {
  const { picked } = await load('js/elements/three-way.ts');
  const one = (field, suggested, local) => ({ field, suggested, local, server: 0, base: undefined, clash: true });
  const found = [one('a', 'local', 1), one('b', 'server', 2), one('c', 'server', undefined)];
  assert.deepEqual(picked(found, new Map()), { merged: { a: 1 } });
  assert.deepEqual(picked(found, new Map([['a', 'server'], ['b', 'local'], ['c', 'local']])), { merged: { b: 2, c: null } });
  assert.equal(picked(found, new Map([['a', 'server']])), 'server');
});

const calm = { connectivity: 'online', phase: 'idle', pending: 0, sending: 0, parked: 0, failed: 0, conflicts: 0, lastSync: 5, lastError: null, auth: 'ok', cold: false };

test('the indicator says the one thing that matters most', async () => {
  const { describeStatus, indicatorTexts } = await load('js/elements/indicator.ts');
  const text = (status, busy = false) => describeStatus({ ...calm, ...status }, busy, indicatorTexts).text;
  assert.equal(text({}), 'All synced');
  assert.equal(text({ pending: 2 }), 'Waiting to sync');
  assert.equal(text({ pending: 2, parked: 1 }), '1 needs attention');
  assert.equal(text({ pending: 2, parked: 1 }, true), 'Syncing…');
  assert.equal(text({ pending: 2, parked: 1, connectivity: 'offline' }, true), 'You are offline');
  assert.equal(text({ connectivity: 'offline', auth: 'auth_required' }), 'Sign in to sync');
  assert.equal(text({ lastSync: null }), 'Not synced yet');
});

test('the indicator words what a run came to, and offline says that nothing is lost', async () => {
  const { resultText, errorText, indicatorTexts } = await load('js/elements/indicator.ts');
  const result = (more) => resultText({ pushed: 0, pulled: 0, rejected: 0, pending: 0, error: null, ...more }, false, indicatorTexts);
  assert.equal(result({}), 'Everything was up to date.');
  assert.equal(result({ pushed: 3, rejected: 1 }), 'Done: Sent 3, received 0, 1 refused.');
  assert.equal(errorText('network', '', true, indicatorTexts), "You are offline. Your changes have been saved and will be synced when you're back online.");
  assert.equal(errorText('network', '', false, indicatorTexts), 'The server cannot be reached. Your changes have been saved and will be sent by themselves.');
  assert.equal(errorText('http_418', 'odd', false, indicatorTexts), 'Sync stopped (odd). Your changes have been saved and it will be tried again.');
});

test('a refusal is worded by field, in either shape that servers use, and never without words', async () => {
  const { reasonsOf, pendingTexts } = await load('js/elements/pending.ts');
  const reasons = (reason, state = 'parked') => reasonsOf({ state, reason }, pendingTexts);
  assert.deepEqual(reasons({ code: 'invalid', message: 'm', fields: { n: 'is too big' } }), [{ field: 'n', message: 'is too big' }]);
  assert.deepEqual(reasons({ code: 'invalid', message: 'm', fields: [{ field: 'n', message: 'is too big' }] }), [{ field: 'n', message: 'is too big' }]);
  assert.deepEqual(reasons({ code: 'forbidden', message: '' }), [{ field: null, message: 'forbidden' }]);
  assert.deepEqual(reasons(undefined, 'failed'), [{ field: null, message: pendingTexts.failedBecause }]);
});

test('sizes read in units of a thousand', async () => {
  const { size } = await load('js/elements/diagnostics.ts');
  assert.deepEqual([0, 999, 1000, 12_345, 9_950_000, 3e12].map(size), ['0 B', '999 B', '1.0 KB', '12 KB', '9.9 MB', '3.0 TB']);
});
