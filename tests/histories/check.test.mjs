import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { check } from './check.mjs';
import { goodStory, Story } from './histories.mjs';
import { kinds } from './violations.mjs';

const codes = (text) => [...new Set(check(text).found.map(({ code }) => code))].sort();
const nothing = () => {};
/** Tells the event, then changes its line. */
const but = (change) => (story, tell) => {
  tell();
  change(story.lines.at(-1));
};
/** Tells other events in its place. */
const instead = (tellOther) => (story) => tellOther(story);
/** Tells the event, then more of them. */
const then = (tellMore) => (story, tell) => {
  tell();
  tellMore(story);
};
const shown = (line, id) => line.ops.find((op) => op.id === id);

test('a good history has no violation, and every judge had something to look at', () => {
  const result = check(goodStory().text);
  assert.deepEqual(result.found, []);
  assert.deepEqual(Object.keys(result.judged).sort(), kinds);
  assert.equal(result.histories, 1);
});

test('histories that follow each other in one file are judged each by itself', () => {
  const bad = goodStory({ 'rest a': but((line) => (shown(line, 'z').value.a = 6)) });
  const result = check(goodStory().text + bad.text + goodStory().text);
  assert.equal(result.histories, 3);
  assert.deepEqual([...new Set(result.found.map(({ code }) => code))].includes('convergence'), true);
});

/** What is done to the good story, and the code that must be among those found. */
const planted = [
  // -- the device
  ['a stored write that the next read does not show', 'read_your_writes', { 'own read': but((line) => Object.assign(line.ops[0], { found: false, value: undefined })) }],
  ['a stored edit that the next read shows as it was before', 'read_your_writes', { 'own read of group': but((line) => Object.assign(shown(line, 'x'), { value: { a: 1, c: 0 } }) && Object.assign(shown(line, 'y'), { value: { a: 3 } })) }],
  ['a stored write that is gone after a reload', 'read_your_writes', { 'read after reload': but((line) => Object.assign(shown(line, 'z'), { found: false, value: undefined })) }],
  ['an edit that is undone by a reload', 'read_your_writes', { 'read after reload': but((line) => (shown(line, 'z').value.a = 6)) }],
  ['a deleted record that its own session sees', 'read_your_writes', { 'own read of delete': but((line) => Object.assign(shown(line, 'x'), { found: true, version: 2, value: { a: 4, c: 0 } })) }],
  ['an outcome that was heard and is undone', 'read_your_writes', { 'own read of delete': but((line) => Object.assign(shown(line, 'y'), { version: 2, value: { a: 3, b: 5 } })) }],
  ['a write that was refused and is seen', 'refused_visible', { 'read after reload': but((line) => (shown(line, 'x').value.a = 2)) }],
  ['a write that was refused and reaches the server', 'refused_visible', { 'effect of group': but((line) => (line.ops[0].value.a = 2)) }],
  ['a value that nobody wrote', 'thin_air', { 'read of answer': but((line) => (shown(line, 'y').value.a = 77)) }],
  ['a value that is seen before it is written', 'thin_air', { 'read of create': but((line) => (shown(line, 'x').value.a = 4)) }],
  ['a version that the server never had', 'thin_air', { 'read of answer': but((line) => (shown(line, 'y').version = 9)) }],
  ['the value of another version', 'foreign_value', { 'read of answer': then((story) => story.read('p1/0#1', { z: [1, { a: 6, b: 8 }] })), 'rest a': then((story) => story.read('p1/0#1', { z: [1, { a: 6, b: 8 }] })) }],
  ['a record that goes back', 'monotonic_reads', { 'read after reload': then((story) => story.read('p0/0#2', { x: [1, { a: 1, c: 0 }] })) }],
  ['a record that goes back with a reload', 'monotonic_reads', { 'read after reload': then((story) => story.open('p0/0#3') && story.read('p0/0#3', { y: [1, { a: 3 }] })) }],
  ['a record that is gone again', 'monotonic_reads', { 'read of answer': then((story) => story.read('p0/1#1', { y: null })) }],
  ['a scope that goes back, in another record', 'monotonic_reads', { 'read of answer': but((line) => line.ops.shift()), 'effect of winner': then((story) => story.read('p0/1#1', { y: [3, { a: 10, b: 5 }] }) && story.read('p0/1#1', { x: [1, { a: 1, c: 0 }] })) }],
  ['an answer without what it answers to', 'consistent_cut', { 'read of answer': but((line) => Object.assign(shown(line, 'x'), { found: false, version: null, value: undefined })) }],
  ["another device's group, half of it", 'fractured_group', { 'read after reload': but((line) => Object.assign(shown(line, 'y'), { version: 1, value: { a: 3 } })) }],
  ["another device's group, half of it, and no versions known", 'fractured_group', { 'read of group': but((line) => Object.assign(shown(line, 'y'), { version: null, value: { a: 3 } }) && Object.assign(shown(line, 'x'), { version: null })) }],
  ['an own group, half of it', 'fractured_group', { 'own read of group': but((line) => (shown(line, 'y').value = { a: 3 })) }],
  ['a replica that does not arrive', 'convergence', { 'rest a': but((line) => Object.assign(shown(line, 'y'), { version: null, value: { a: 9, b: 5 } })) }],
  ['a record too many in the end', 'convergence', { 'rest b': but((line) => Object.assign(shown(line, 'x'), { found: true, version: null, value: { a: 4, c: 0 } })) }],
  // -- the server
  ['a stored write without an outcome', 'lost_write', { 'outcome of winner': nothing }],
  ['a write without an outcome and without an effect', 'lost_write', { 'outcome of invalid': nothing }],
  ['an applied write that the server does not have', 'lost_write', { 'effect of two': nothing, 'rest a': but((line) => Object.assign(shown(line, 'z'), { found: false, version: null })), 'rest b': but((line) => Object.assign(shown(line, 'z'), { found: false, version: null })), final: instead((story) => story.final({ y: [3, { a: 10, b: 5 }] })) }],
  ['one of two joined writes that is lost', 'lost_write', { 'effect of two': but((line) => (line.ops[0].value = { a: 7 })) }],
  ['an acknowledged delete without effect', 'lost_write', { 'effect of delete': but((line) => Object.assign(line.ops[0], { deleted: false, value: { a: 4, c: 0 } })) }],
  ['a seq with two effects', 'applied_twice', { 'effect of winner': but((line) => (line.seq = 3)) }],
  ['a value that comes back', 'applied_twice', { 'effect of winner': then((story) => story.effect('p1', 6, { y: [4, { a: 3, b: 5 }] })), 'effect of delete': but((line) => (line.position = 7)) }],
  ['a deleted record that comes back', 'applied_twice', { 'outcome of delete': then((story) => story.effect('p0', 7, { x: [4, { a: 4, c: 0 }] })) }],
  ['two edits of a device in the wrong order', 'monotonic_writes', { 'effect of two': but((line) => Object.assign(line.ops[0], { value: { a: 7 } })), 'outcome of two': then((story) => story.effect('p0', 5, { z: [2, { a: 6 }] })), 'effect of winner': but((line) => (line.position = 6)), 'effect of delete': but((line) => (line.position = 7)) }],
  ['a group at two positions', 'fractured_group', { 'effect of group': but((line) => line.ops.pop()), 'outcome of group x': then((story) => story.effect('p1', 4, { y: [2, { a: 3, b: 5 }] })), 'effect of two': but((line) => (line.position = 5)), 'effect of winner': but((line) => (line.position = 6)), 'effect of delete': but((line) => (line.position = 7)) }],
  ['a group without one of its changes', 'fractured_group', { 'effect of group': but((line) => line.ops.pop()) }],
  ['an answer that takes effect before what it answers to', 'writes_follow_reads', { 'effect of create': but((line) => (line.position = 3)), 'effect of answer': but((line) => (line.position = 2)) }],
  ['a position that comes after a greater one', 'server_order', { 'effect of winner': but((line) => (line.position = 3)) }],
  ['a version that comes twice', 'server_order', { 'effect of winner': but((line) => (line.ops[0].version = 2)) }],
  ['a conflict with oneself', 'own_conflict', { 'outcome of two': but((line) => (line.status = 'superseded')) }],
  ['a write that the server refused and has', 'refused_visible', { 'outcome of winner': but((line) => (line.status = 'rejected')) }],
  ['an end that is not the last state', 'convergence', { final: instead((story) => story.final({ y: [2, { a: 3, b: 5 }], z: [1, { a: 7, b: 8 }] })) }],
  ['an end with a record that was deleted', 'convergence', { final: instead((story) => story.final({ x: [2, { a: 4, c: 0 }], y: [3, { a: 10, b: 5 }], z: [1, { a: 7, b: 8 }] })) }],
  ['an end with a value that nobody wrote', 'thin_air', { final: instead((story) => story.final({ y: [3, { a: 10, b: 5 }], z: [1, { a: 7, b: 99 }] })) }],
  // -- the form
  ['two writes with one value', 'unique', { loser: but((line) => (line.ops[0].value.a = 3)) }],
  ['an event of a session that is not open', 'form', { 'open b': nothing }],
  ['an event out of order', 'form', { 'own read': but((line) => Object.assign(line, { start: 1, end: 1 })) }],
  ['an outcome of a write that is not there', 'form', { loser: nothing }],
  ['a group of no ops', 'form', { group: but((line) => (line.ops = [])) }],
  ['a type that nobody knows', 'form', { kill: but((line) => (line.type = 'crash')) }],
  ['a history that was cut short', 'form', { final: nothing }],
];

for (const [what, code, plant] of planted) {
  test(`${code}: ${what}`, () => {
    const found = codes(goodStory(plant).text);
    assert.ok(found.includes(code), `found ${JSON.stringify(found)}`);
  });
}

test('every code is planted at least once', () => {
  const all = ['applied_twice', 'consistent_cut', 'convergence', 'foreign_value', 'form', 'fractured_group', 'lost_write', 'monotonic_reads', 'monotonic_writes', 'own_conflict', 'read_your_writes', 'refused_visible', 'server_order', 'thin_air', 'unique', 'writes_follow_reads'];
  assert.deepEqual([...new Set(planted.map(([, code]) => code))].sort(), all);
});

/** A harness that sees neither outcomes nor the server's log judges by the values and the end. */
const bare = { complete_server: false, own_outcomes: false };
const bareStory = (plant = {}) => {
  const story = goodStory(plant, bare);
  story.lines = story.lines.filter((line) => line.type !== 'effect' && line.type !== 'outcome');
  for (const line of story.lines) if (line.type === 'read') for (const op of line.ops) op.version = null;
  // Without outcomes nobody can tell that these two were refused or lost.
  return { text: story.text.split('\n').filter((line) => !/"write":"w(8|10)"/.test(line)).join('\n') };
};

test('a good history without outcomes and without the log of the server has no violation', () => {
  assert.deepEqual(check(bareStory().text).found, []);
});

for (const [what, code, plant] of [
  ['a stored write that is not there in the end', 'lost_write', { final: instead((story) => story.final({ y: [3, { a: 10, b: 5 }] })) }],
  ['a field that is not there in the end', 'lost_write', { final: instead((story) => story.final({ y: [3, { a: 10 }], z: [1, { a: 7, b: 8 }] })) }],
  ['an older value in the end', 'lost_write', { final: instead((story) => story.final({ y: [3, { a: 10, b: 5 }], z: [1, { a: 6, b: 8 }] })) }],
  ['a deleted record that is there in the end', 'convergence', { final: instead((story) => story.final({ x: [2, { a: 4, c: 0 }], y: [3, { a: 10, b: 5 }], z: [1, { a: 7, b: 8 }] })) }],
  ['half a group', 'fractured_group', { 'read of group': but((line) => (shown(line, 'y').value = { a: 3 })) }],
  ['a stored write that is not seen', 'read_your_writes', { 'own read': but((line) => Object.assign(line.ops[0], { found: false, value: undefined })) }],
]) {
  test(`${code}, with neither outcomes nor the log of the server: ${what}`, () => {
    const found = codes(bareStory(plant).text);
    assert.ok(found.includes(code), `found ${JSON.stringify(found)}`);
  });
}

/** What looks like a violation and is none, because of what happened. */
const excused = [
  ['a record that is absent because nothing was pulled yet, and not because it was deleted', { 'outcome of delete': then((story) => { story.open('p2/0#2'); story.read('p2/0#2', { x: null, y: null, z: null }); }), 'open c': nothing, 'read of group': nothing }],
  ['a base that goes back with a power cut', { 'outcome of loser': then((story) => (story.read('p0/1#1', { y: [3, { a: 10, b: 5 }] }), story.fault('power_cut', { device: 'p0' }), story.open('p0/1#2'), story.read('p0/1#2', { y: [2, { a: 3, b: 5 }] }))) }],
  ['a write that went with the storage of its device', { 'outcome of invalid': instead((story) => story.fault('lost_storage', { device: 'p0' })) }],
  ['a transaction that lost as a whole, because of one of its records', { 'outcome of loser': then((story) => { story.write('p0/0#2', 'w12', ['update', 'y', { a: 12 }], ['create', 'q', { a: 13 }]); story.outcome('p0', ['w12'], 'superseded', { y: 3 }); story.outcome('p0', ['w12'], 'superseded', { q: null }); }) }],
  ['a value that a person writes again after it lost', { 'outcome of loser': then((story) => { story.write('p0/0#2', 'w12', ['update', 'y', { a: 3 }]).retry_of = 'w3'; story.outcome('p0', ['w12'], 'rejected', { y: null }); }) }],
  ['a value that nobody can trace', { 'own read': but((line) => Object.assign(line.ops[0].value, { c: 0 })) }],
  ['a record of a scope that was taken away', { 'read of answer': then((story) => (story.fault('access', { user: 'u0', scopes: ['s'] }), story.read('p0/1#1', { x: null, y: null }))) }],
  ['an edit that hangs on a record which somebody deleted', { 'outcome of delete': then((story) => { story.write('p0/1#1', 'w12', ['update', 'x', { a: 12 }]); story.read('p0/1#1', { x: null }); story.outcome('p0', ['w12'], 'superseded', { x: 3 }); }) }],
  ['a parked record that differs from the server at rest', { 'rest a': but((line) => { shown(line, 'y').value = { a: 9, b: 5 }; line.parked = ['s/notes/y']; }) }],
];

for (const [what, plant] of excused) {
  test(`no violation: ${what}`, () => {
    assert.deepEqual(check(goodStory(plant).text).found, []);
  });
}

/** Stories that look like a violation and are none, each beside a twin that differs in one thing and is one: `isGuilty`. */
const twins = [
  ['a person writes again what two writes came to', 'unique', 'of which it names one', (story, isGuilty) => {
    story.write('p0/0#1', 'w1', ['create', 'x', { a: 1 }]);
    story.write('p0/0#1', 'w2', ['update', 'x', { b: 2 }]);
    story.outcome('p0', ['w1', 'w2'], 'rejected', { x: null });
    story.write('p0/0#1', 'w3', ['create', 'x', { a: 1, b: 2 }]).retry_of = isGuilty ? 'w1' : ['w1', 'w2'];
    story.effect('p0', 1, { x: [1, { a: 1, b: 2 }] });
    story.outcome('p0', ['w3'], 'applied', { x: 1 });
    story.final({ x: [1, { a: 1, b: 2 }] });
  }],
  ['an edit is made of a record that another session of the device has deleted', 'own_conflict', 'and its own session knew', (story, isGuilty) => {
    story.write('p0/0#1', 'w1', ['create', 'x', { a: 1 }]);
    story.effect('p0', 1, { x: [1, { a: 1 }] });
    story.outcome('p0', ['w1'], 'applied', { x: 1 });
    story.write('p0/1#1', 'w2', ['delete', 'x']);
    if (isGuilty) story.open('p0/0#2');
    story.write(isGuilty ? 'p0/0#2' : 'p0/0#1', 'w3', ['update', 'x', { a: 2 }]);
    story.effect('p0', 2, { x: [2] });
    story.outcome('p0', ['w2'], 'applied', { x: 2 });
    story.outcome('p0', ['w3'], 'superseded', { x: 2 });
    story.final({});
  }],
  ['an edit stands on one that came to nothing', 'own_conflict', 'and behind that one more took effect', (story, isGuilty) => {
    story.write('p0/0#1', 'w1', ['create', 'x', { a: 1 }]);
    story.effect('p0', 1, { x: [1, { a: 1 }] });
    story.outcome('p0', ['w1'], 'applied', { x: 1 });
    story.write('p0/0#1', 'w2', ['update', 'x', { a: 2 }]);
    story.outcome('p0', ['w2'], 'rejected', { x: null });
    if (isGuilty) {
      story.write('p0/0#1', 'w3', ['update', 'x', { b: 3 }]);
      story.effect('p0', 2, { x: [2, { a: 1, b: 3 }] });
      story.outcome('p0', ['w3'], 'applied', { x: 2 });
    }
    story.write('p0/0#1', 'w4', ['update', 'x', { a: 4 }]);
    story.outcome('p0', ['w4'], 'superseded', { x: isGuilty ? 2 : 1 });
    story.final({ x: isGuilty ? [2, { a: 1, b: 3 }] : [1, { a: 1 }] });
  }],
  ['an edit is made of a record that went with its parent', 'own_conflict', 'and the record did not', (story, isGuilty) => {
    story.write('p0/0#1', 'w1', ['create', 'x', { a: 1 }]);
    story.write('p0/0#1', 'w2', ['create', 'y', { a: 2, up: 'x' }]);
    story.effect('p0', 1, { x: [1, { a: 1 }], y: [1, { a: 2, up: 'x' }] });
    story.outcome('p0', ['w1'], 'applied', { x: 1 });
    story.outcome('p0', ['w2'], 'applied', { y: 1 });
    story.write('p0/0#1', 'w3', ['delete', 'x']);
    story.write('p0/0#1', 'w4', ['update', 'y', { a: 3 }]);
    const { ops } = story.effect('p0', 2, { x: [2], y: [2] });
    if (!isGuilty) ops[1].indirect = true;
    story.outcome('p0', ['w3'], 'applied', { x: 2 });
    story.outcome('p0', ['w4'], 'superseded', { y: 2 });
    story.final({});
  }],
  ['a refused edit is made again of a record that was deleted since', 'own_conflict', 'and is no retry', (story, isGuilty) => {
    story.write('p0/0#1', 'w1', ['create', 'x', { a: 1 }]);
    story.effect('p0', 1, { x: [1, { a: 1 }] });
    story.outcome('p0', ['w1'], 'applied', { x: 1 });
    story.write('p0/0#1', 'w2', ['update', 'x', { a: 2 }]);
    story.outcome('p0', ['w2'], 'rejected', { x: null });
    story.write('p0/0#1', 'w3', ['delete', 'x']);
    story.effect('p0', 2, { x: [2] });
    story.outcome('p0', ['w3'], 'applied', { x: 2 });
    const write = story.write('p0/0#1', 'w4', ['update', 'x', { a: isGuilty ? 4 : 2 }]);
    if (!isGuilty) write.retry_of = 'w2';
    story.outcome('p0', ['w4'], 'superseded', { x: 2 });
    story.final({});
  }],
  ['a delete of what was cleaned up is applied as a version that nothing has', 'lost_write', 'and nothing was cleaned up', (story, isGuilty) => {
    story.write('p0/0#1', 'w1', ['create', 'x', { a: 1 }]);
    story.write('p0/0#1', 'w2', ['delete', 'x']);
    story.effect('p1', 1, { y: [7] });
    story.fault(isGuilty ? 'pruned' : 'cleaned');
    story.outcome('p0', ['w1', 'w2'], 'applied', { x: 7 }, { position: 1 });
    story.open('p0/0#2');
    story.read('p0/0#2', { x: null, y: null });
    story.final({});
  }],
  ['a delete is applied as a version that nothing has, after a clean-up', 'lost_write', 'and the record is there', (story, isGuilty) => {
    story.write('p0/0#1', 'w1', ['create', 'x', { a: 1 }]);
    story.effect('p0', 1, { x: [1, { a: 1 }] });
    story.outcome('p0', ['w1'], 'applied', { x: 1 });
    story.write('p1/0#1', 'w2', ['delete', 'x']);
    if (!isGuilty) {
      story.effect('p1', 2, { x: [2] });
      story.outcome('p1', ['w2'], 'applied', { x: 2 });
    }
    story.write('p0/0#1', 'w3', ['delete', 'x']);
    story.fault('cleaned');
    if (isGuilty) story.outcome('p1', ['w2'], 'applied', { x: 7 }, { position: 2 });
    story.outcome('p0', ['w3'], 'applied', { x: 7 }, { position: 2 });
    story.final(isGuilty ? { x: [1, { a: 1 }] } : {});
  }],
  ['of a group one change lost all its fields in a merge', 'fractured_group', 'and what is left of it is not with the group', (story, isGuilty) => {
    story.write('p0/0#1', 'w1', ['create', 'x', { a: 1 }]);
    story.effect('p0', 1, { x: [1, { a: 1 }] });
    story.outcome('p0', ['w1'], 'applied', { x: 1 });
    story.write('p1/0#1', 'w2', ['update', 'x', { a: 2 }]);
    story.effect('p1', 2, { x: [2, { a: 2 }] });
    story.outcome('p1', ['w2'], 'applied', { x: 2 });
    story.write('p0/0#1', 'w3', ['update', 'x', { a: 3, b: 0 }], ['create', 'y', { a: 4 }]);
    story.effect('p0', 3, isGuilty ? { y: [1, { a: 4 }] } : { x: [3, { a: 2, b: 0 }], y: [1, { a: 4 }] });
    if (isGuilty) story.effect('p0', 4, { x: [3, { a: 2, b: 0 }] });
    story.outcome('p0', ['w3'], 'merged', { x: 3 });
    story.outcome('p0', ['w3'], 'applied', { y: 1 });
    story.final({ x: [3, { a: 2, b: 0 }], y: [1, { a: 4 }] });
  }],
  ['a group brings a deleted record back and changes it once more', 'applied_twice', 'and no outcome says so', (story, isGuilty) => {
    story.write('p0/0#1', 'w1', ['create', 'x', { a: 1, b: 2 }]);
    story.effect('p0', 1, { x: [1, { a: 1, b: 2 }] });
    story.outcome('p0', ['w1'], 'applied', { x: 1 });
    story.write('p1/0#1', 'w2', ['delete', 'x']);
    story.effect('p1', 2, { x: [2] });
    story.outcome('p1', ['w2'], 'applied', { x: 2 });
    story.write('p0/0#1', 'w3', ['update', 'x', { b: 3 }], ['update', 'x', { b: 4 }]);
    const { ops } = story.effect('p0', 3, { x: [3, { a: 1, b: 3 }] });
    ops.push({ ...ops[0], version: 4, value: { a: 1, b: 4 } });
    for (const [part, status, version] of [[0, isGuilty ? 'applied' : 'recreated', 3], [1, 'applied', 4]]) {
      story.outcome('p0', ['w3'], status, { x: version }).ops[0].part = part;
    }
    story.final({ x: [4, { a: 1, b: 4 }] });
  }],
  ['of two changes of a record in one group each has its own outcome', 'lost_write', 'and the second has none', (story, isGuilty) => {
    story.write('p0/0#1', 'w1', ['create', 'x', { a: 1 }], ['update', 'x', { a: 2 }]);
    const { ops } = story.effect('p0', 1, { x: [1, { a: 1 }] });
    ops.push({ ...ops[0], version: 2, value: { a: 2 } });
    story.outcome('p0', ['w1'], 'applied', { x: 1 }).ops[0].part = 0;
    if (!isGuilty) story.outcome('p0', ['w1'], 'applied', { x: 2 }).ops[0].part = 1;
    story.final({ x: [2, { a: 2 }] });
  }],
  ['a value that a group replaced is written again', 'fractured_group', 'and is there without', (story, isGuilty) => {
    story.write('p0/0#1', 'w1', ['create', 'x', { a: 1 }]);
    story.write('p0/0#1', 'w2', ['update', 'x', { a: 2 }], ['create', 'y', { a: 3 }]);
    if (!isGuilty) story.write('p0/0#1', 'w3', ['update', 'x', { a: 1 }]).retry_of = 'w1';
    story.read('p1/0#1', { x: [null, { a: 1 }], y: [null, { a: 3 }] });
    story.final({ x: [1, { a: 1 }], y: [1, { a: 3 }] });
  }, { ...bare, drained: false }],
  ['of a group that lost, one change is written again alone', 'fractured_group', 'and is there without', (story, isGuilty) => {
    story.write('p0/0#1', 'w1', ['create', 'x', { a: 1 }]);
    story.write('p0/0#1', 'w2', ['update', 'x', { a: 2 }], ['create', 'y', { a: 3 }]);
    if (!isGuilty) story.write('p0/0#1', 'w3', ['create', 'y', { a: 3 }]).retry_of = 'w2';
    story.read('p1/0#1', { x: [null, { a: 1 }], y: [null, { a: 3 }] });
    story.final({ x: [1, { a: 1 }], y: [1, { a: 3 }] });
  }, { ...bare, drained: false }],
  ['an edit of a record whose create was refused shows nothing', 'read_your_writes', 'and its create was not', (story, isGuilty) => {
    story.write('p0/0#1', 'w1', ['create', 'x', { a: 1 }]);
    if (isGuilty) story.effect('p0', 1, { x: [1, { a: 1 }] });
    story.outcome('p0', ['w1'], isGuilty ? 'applied' : 'rejected', { x: isGuilty ? 1 : null });
    story.write('p0/0#1', 'w2', ['update', 'x', { a: 2 }]);
    story.read('p0/0#1', { x: null });
    story.outcome('p0', ['w2'], 'rejected', { x: null });
    story.final(isGuilty ? { x: [1, { a: 1 }] } : {});
  }],
];

for (const [what, code, difference, tell, header = {}] of twins) {
  const told = (isGuilty) => {
    const story = new Story(header);
    for (const session of ['p0/0#1', 'p0/1#1', 'p1/0#1']) story.open(session);
    tell(story, isGuilty);
    return story.text;
  };
  test(`no violation: ${what}`, () => assert.deepEqual(check(told(false)).found, []));
  test(`${code}: ${what}, ${difference}`, () => {
    const found = codes(told(true));
    assert.ok(found.includes(code), `found ${JSON.stringify(found)}`);
  });
}

test('a restored backup may take back what was there, and its devices bring it again in the new epoch', () => {
  const story = new Story();
  story.open('p0/0#1');
  story.write('p0/0#1', 'w1', ['create', 'x', { a: 1 }]);
  story.effect('p0', 1, { x: [1, { a: 1 }] });
  story.outcome('p0', ['w1'], 'applied', { x: 1 });
  story.write('p0/0#1', 'w2', ['update', 'x', { a: 2 }]);
  story.effect('p0', 2, { x: [2, { a: 2 }] });
  story.outcome('p0', ['w2'], 'applied', { x: 2 });
  story.read('p0/0#1', { x: [2, { a: 2 }] });
  story.fault('restored', { epoch: 'e2' });
  story.read('p0/0#1', { x: [1, { a: 1 }] }, { epoch: 'e2' });
  story.effect('p0', 4294967299, { x: [4294967299, { a: 2 }] }, { epoch: 'e2' });
  story.outcome('p0', ['w2'], 'applied', { x: 4294967299 }, { epoch: 'e2' });
  story.read('p0/0#1', { x: [4294967299, { a: 2 }] }, { epoch: 'e2', at_rest: true });
  story.final({ x: [4294967299, { a: 2 }] }, { epoch: 'e2' });
  assert.deepEqual(check(story.text).found, []);
});

test('the example of docs/histories.md is a history', () => {
  const document = readFileSync(new URL('../../docs/histories.md', import.meta.url), 'utf8');
  const result = check(/```json\n([^`]*)```/.exec(document)[1]);
  assert.deepEqual([result.found, result.events], [[], 5]);
});

test('the program prints what it found and a last line of JSON, and its exit code says whether there was something', () => {
  const directory = mkdtempSync(join(tmpdir(), 'landfall-histories-'));
  try {
    const run = (text, ...options) => {
      const file = join(directory, 'history.ndjson');
      writeFileSync(file, text);
      const { status, stdout } = spawnSync(process.execPath, [fileURLToPath(new URL('check.mjs', import.meta.url)), ...options, file], { encoding: 'utf8' });
      return { status, lines: stdout.trimEnd().split('\n') };
    };
    const good = run(goodStory().text);
    assert.equal(good.status, 0);
    assert.equal(good.lines.length, 1);
    const sum = JSON.parse(good.lines[0]);
    assert.deepEqual([sum.histories, sum.violations, sum.events > 30], [1, 0, true]);
    const bad = run(goodStory({ 'effect of winner': but((line) => (line.seq = 3)) }).text);
    assert.equal(bad.status, 1);
    assert.match(bad.lines[0], /applied_twice: seq 3 .* \(seed 1\)/);
    assert.deepEqual(JSON.parse(bad.lines.at(-1)).codes, { applied_twice: 1 });
    // Judges that had nothing to look at say nothing.
    assert.equal(run(goodStory().text, '--every-kind').status, 0);
    const idle = run(bareStory().text, '--every-kind');
    assert.deepEqual([idle.status, run(bareStory().text).status], [1, 0]);
    assert.match(idle.lines[0], /^Nothing to look at for: applied, /);
    // A file that is no history, or none at all, is not a good one.
    assert.equal(run('').status, 1);
    assert.equal(run('{"form"').status, 1);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
