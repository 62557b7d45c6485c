// The server's log by itself and against what devices wrote: order, one effect for each write, whole groups, and the end.

import { cameToNothing, isAbout, tookEffect } from './read.mjs';

/** Faults after which a device may send again what it does not know to be sent, or miss what it had. */
export const lostDevice = ['lost_storage'];

export function judgeServer(history) {
  order(history);
  provenance(history);
  onceEach(history);
  monotonicWrites(history);
  groups(history);
  outcomes(history);
  lostWrites(history);
  atTheEnd(history);
}

/** Positions of a scope and versions of a record only grow; a (client, seq) has one place. */
function order(history) {
  const positions = new Map();
  const seqs = new Map();
  for (const effect of history.effects) {
    const scope = JSON.stringify([effect.epoch, effect.scope]);
    history.violations.count('positions');
    if (positions.get(scope) >= effect.position) history.violations.add('server_order', effect.at, `position ${effect.position} of ${effect.scope} comes after ${positions.get(scope)}`);
    positions.set(scope, effect.position);
    if (effect.client && effect.seq > 0) {
      const seq = JSON.stringify([effect.epoch, effect.client, effect.seq]);
      if (seqs.has(seq)) history.violations.add('applied_twice', effect.at, `seq ${effect.seq} of ${effect.client} had an effect before, on line ${seqs.get(seq)}`);
      seqs.set(seq, effect.at);
    }
  }
  const versions = new Map();
  for (const effect of history.effects) {
    for (const op of effect.ops) {
      const key = JSON.stringify([effect.epoch, op.key]);
      if (versions.get(key) >= op.version) history.violations.add('server_order', effect.at, `version ${op.version} of ${op.key} comes after ${versions.get(key)}`);
      versions.set(key, op.version);
    }
  }
}

/** Every value was written by somebody, before, by a write that was not refused. */
export function judgeValue(history, key, field, value, at, seenUntil) {
  const ops = history.writersOf(key, field, value);
  if (ops === undefined) return;
  history.violations.count('values');
  const began = ops.filter((op) => seenUntil === null || op.write.start < seenUntil);
  if (began.length === 0) history.violations.add('thin_air', at, `${key} has ${field} = ${JSON.stringify(value)}, which nobody wrote before`);
  else if (began.every((op) => op.write.status === 'refused')) history.violations.add('refused_visible', at, `${key} has ${field} = ${JSON.stringify(value)} of write ${began[0].write.write}, which was refused`);
}

function provenance(history) {
  for (const effect of history.effects) {
    for (const op of effect.ops) for (const [field, value] of Object.entries(op.value ?? {})) judgeValue(history, op.key, field, value, effect.at, effect.end);
  }
}

/** A value that another one replaced does not come back, but by somebody who writes it again, or with a record brought back. */
function onceEach(history) {
  // Where states are missing, or a person's decision that brought values back has no line, nobody can tell.
  if (!history.header.complete_server) return;
  const recreated = new Set();
  for (const outcome of history.outcomes) if (outcome.status === 'recreated') for (const op of outcome.ops) recreated.add(`${op.key}\u0000${op.version}`);
  const mayRecreate = (state) => history.header.own_outcomes === false || recreated.has(`${state.key}\u0000${state.version}`);
  for (const [key, states] of history.states) {
    const runs = new Map();
    let before;
    for (const state of states) {
      const { epoch } = state.effect;
      const isBack = before?.deleted && mayRecreate(state);
      for (const [field, value] of Object.entries(state.value ?? {})) {
        const ops = history.writersOf(key, field, value);
        if (ops === undefined) continue;
        history.violations.count('effects_of_values');
        const name = JSON.stringify([epoch, field, value]);
        const run = runs.get(name) ?? { count: 0, last: undefined };
        if (run.last !== before || before === undefined) {
          if (!(isBack && run.count > 0)) run.count += 1;
          if (run.count > Math.max(1, ops.length)) history.violations.add('applied_twice', state.effect.at, `${field} = ${JSON.stringify(value)} of ${key} was replaced, and comes back with version ${state.version}`);
        }
        run.last = state;
        runs.set(name, run);
      }
      before = state;
    }
  }
}

/** The first state with a value of this op; undefined if there is none, or none can be told. */
function firstState(history, op) {
  for (const [field, value] of Object.entries(op.value ?? {})) {
    const ops = history.writersOf(op.key, field, value);
    if (ops?.length !== 1) continue;
    const state = (history.states.get(op.key) ?? []).find((candidate) => JSON.stringify(candidate.value?.[field]) === JSON.stringify(value));
    if (state) return state;
  }
  return undefined;
}

/** What a device wrote later on a record did not take effect earlier (S4). */
function monotonicWrites(history) {
  if (!history.header.complete_server) return;
  for (const ops of history.opsOf.values()) {
    if (history.hadFault(lostDevice, ops[0].write.device)) continue;
    const placed = ops.map((op) => ({ op, state: firstState(history, op) })).filter(({ state }) => state);
    let newest = placed[0];
    for (const later of placed.slice(1)) {
      const { op, state } = newest;
      const isOrdered = op.write === later.op.write ? op.index < later.op.index : op.write.end < later.op.write.start;
      if (isOrdered) history.violations.count('orders_of_writes');
      if (isOrdered && later.state.version < state.version) history.violations.add('monotonic_writes', later.state.effect.at, `write ${later.op.write.write} took effect before ${op.write.write}, which the same device made earlier`);
      if (later.state.version > state.version) newest = later;
    }
  }
}

/** The ops of a group take effect in one transaction (S5). */
function groups(history) {
  for (const write of history.writes.values()) {
    if (!write.group) continue;
    const lines = new Map();
    for (const op of write.ops) {
      const state = firstState(history, op);
      if (state) lines.set(state.effect, op);
    }
    if (lines.size === 0) continue;
    history.violations.count('groups');
    if (lines.size > 1) {
      const places = [...lines.keys()].map((effect) => effect.position);
      history.violations.add('fractured_group', [...lines.keys()][1].at, `group ${write.group} (${write.write}) took effect at positions ${places.join(' and ')}`);
    }
    if (!history.header.complete_server) continue;
    // The newest of several ops on one record stands for them all.
    const missing = write.ops.find((op) => isTraced(history, op) && !write.ops.some((other) => other.key === op.key && other.index > op.index) && !firstState(history, op) && !isMergedIn(history, op, lines));
    if (missing) history.violations.add('fractured_group', [...lines.keys()][0].at, `group ${write.group} (${write.write}) took effect without its change of ${missing.key}`);
  }
}

/** All that can be traced of it lost to others, and what is left is in the version that its outcome names, with the rest of the group. */
function isMergedIn(history, op, effects) {
  const merged = history.outcomesFor(op).filter((outcome) => outcome.status === 'merged').flatMap((outcome) => outcome.ops.filter((about) => isAbout(about, op)));
  return merged.some(({ version }) => (history.states.get(op.key) ?? []).some((state) => state.version === version && effects.has(state.effect)));
}

const isTraced = (history, op) => Object.entries(op.value ?? {}).some(([field, value]) => history.writersOf(op.key, field, value)?.length === 1);

/** What the ops that an outcome covers come to on a record: fields, and whether it is deleted. */
function joined(history, outcome, about) {
  let fields = {};
  let isDelete = false;
  for (const name of outcome.writes) {
    for (const op of history.writes.get(name)?.ops ?? []) {
      if (!isAbout(about, op)) continue;
      isDelete = op.op === 'delete';
      fields = op.op === 'update' ? { ...fields, ...op.value } : { ...op.value };
      for (const field of op.unset ?? []) delete fields[field];
    }
  }
  return { fields, isDelete };
}

function outcomes(history) {
  for (const outcome of history.outcomes) {
    for (const op of outcome.ops) {
      if (history.header.complete_server && tookEffect.has(outcome.status) && op.version) effectOf(history, outcome, op);
      if (['superseded', 'conflict', 'merged'].includes(outcome.status)) ownConflict(history, outcome, op);
      if (['rejected', 'cancelled'].includes(outcome.status)) noEffect(history, outcome, op);
    }
  }
}

/** The state that an outcome names by its version. */
const stateOf = (history, { key, version }) => (history.states.get(key) ?? []).find((state) => state.version === version);

/** What was said to be applied is in the state with that version. */
function effectOf(history, outcome, about) {
  const { key, version } = about;
  const state = stateOf(history, about);
  history.violations.count('applied');
  if (isDeleteOfNothing(history, outcome, about)) return;
  if (!state) {
    history.violations.add('lost_write', outcome.at, `${outcome.writes.join(', ')} is ${outcome.status} as version ${version} of ${key}, which the server never had`);
    return;
  }
  if (outcome.status === 'merged') return;
  const { fields, isDelete } = joined(history, outcome, about);
  if (isDelete && !state.deleted) history.violations.add('lost_write', outcome.at, `${outcome.writes.join(', ')} deletes ${key}, and version ${version} is there`);
  for (const [field, value] of Object.entries(fields)) {
    if (!isDelete && JSON.stringify(state.value?.[field]) !== JSON.stringify(value)) {
      history.violations.add('lost_write', outcome.at, `${outcome.writes.join(', ')} is ${outcome.status}, and version ${version} of ${key} has ${field} = ${JSON.stringify(state.value?.[field])}, not ${JSON.stringify(value)}`);
    }
  }
}

/** A delete of what is not there has no effect. Once tombstones were cleaned up its version is the one above which the next record begins. */
export function isDeleteOfNothing(history, outcome, about) {
  const { key, version } = about;
  if (stateOf(history, about) || !joined(history, outcome, about).isDelete || !history.hadFault(['cleaned'], undefined, -Infinity, outcome.end)) return false;
  const isThen = (state) => !outcome.epoch || !state.effect.epoch || state.effect.epoch === outcome.epoch;
  const isBeforeIt = (state) => {
    if (!Number.isInteger(outcome.position)) return state.version <= version;
    const isOfPush = state.position === outcome.position && state.effect.client === outcome.client && state.seq && outcome.seq;
    return isOfPush ? state.seq < outcome.seq : state.position <= outcome.position;
  };
  const before = (history.states.get(key) ?? []).filter((state) => isThen(state) && isBeforeIt(state));
  return before.length === 0 || (before.at(-1).deleted && before.at(-1).version < version);
}

/** Nobody loses against themselves: somebody else wrote the record (L5). */
function ownConflict(history, outcome, { key }) {
  if (history.hadFault([...lostDevice, 'restored'], outcome.device)) return;
  // A transaction loses as a whole: any of its records is a reason.
  const keys = new Set([key, ...outcome.writes.flatMap((name) => history.writes.get(name)?.ops ?? []).filter((op) => op.write?.group).map((op) => op.key)]);
  const others = [...keys].some((each) => (history.byRecord.get(each) ?? []).some((op) => op.write.device !== outcome.device && op.write.status !== 'refused'));
  const states = [...keys].flatMap((each) => history.states.get(each) ?? []);
  const indirect = states.some((state) => state.effect.client && outcome.client && state.effect.client !== outcome.client);
  history.violations.count('conflicts');
  if (!others && !indirect && ![...keys].some((each) => standsOnNothing(history, outcome, each))) history.violations.add('own_conflict', outcome.at, `${outcome.writes.join(', ')} is ${outcome.status}, and nobody else wrote ${key}`);
}

/**
 * The write was made on what is not there: an own write that came to nothing, or a record that another session had deleted without
 * this one's knowing, that went with its parent, or that was deleted before somebody wrote an edit of it again.
 */
function standsOnNothing(history, outcome, key) {
  const all = history.ownOps(outcome.device, key).filter((op) => op.write.status !== 'refused');
  const isCovered = (op) => outcome.writes.includes(op.write.write) && (outcome.ops.some((about) => isAbout(about, op)) || !outcome.ops.some((about) => about.key === key));
  const covered = all.filter(isCovered);
  const first = covered[0];
  if (!first) return false;
  const may = all.filter((op) => !covered.includes(op) && !isBefore(first, op));
  const newest = may.filter((op) => !may.some((other) => isBefore(op, other) && isBefore(other, first)));
  if (newest.some((op) => history.outcomesFor(op).some((other) => other !== outcome && other.start < outcome.end && cameToNothing.has(other.status)))) return true;
  const opened = history.opened.get(first.write.session);
  const isUnheard = (op) => op.write.session !== first.write.session && !(op.write.end < opened.start);
  const stands = history.outcomesFor(first).at(-1)?.ops.filter((about) => about.key === key).map((about) => stateOf(history, about))[0];
  if (!stands?.deleted) return false;
  return stands.indirect === true || (first.op !== 'create' && (Boolean(first.write.retry_of) || newest.some((op) => op.op === 'delete' && isUnheard(op))));
}

/** What the server refused, and what never was sent, is nowhere. */
function noEffect(history, outcome, about) {
  const { key } = about;
  if (history.hadFault([...lostDevice, 'restored'], outcome.device)) return;
  for (const name of outcome.writes) {
    for (const op of history.writes.get(name)?.ops ?? []) {
      if (!isAbout(about, op) || history.outcomesFor(op).some((other) => !['rejected', 'cancelled', 'discarded'].includes(other.status))) continue;
      history.violations.count('refusals');
      const state = firstState(history, op);
      if (state) history.violations.add('refused_visible', state.effect.at, `write ${name} was ${outcome.status}, and ${key} has its value in version ${state.version}`);
    }
  }
}

/** What was stored has an outcome when everything was sent, and what took effect is there or was replaced (L1). */
function lostWrites(history) {
  if (!history.header.drained) return;
  for (const write of history.writes.values()) {
    if (write.status !== 'stored' || history.hadFault(lostDevice, write.device, write.start)) continue;
    for (const op of write.ops) {
      history.violations.count('stored');
      const known = history.outcomesFor(op);
      if (history.header.own_outcomes !== false && known.length === 0) {
        history.violations.add('lost_write', write.at, `write ${write.write} was stored, everything was sent, and ${op.key} has no outcome of it`);
      } else if (known.length === 0 || tookEffect.has(known.at(-1).status)) {
        standsInTheEnd(history, op);
      }
    }
  }
}

/** Its values are in the end state, unless somebody may have written the record after it. */
function standsInTheEnd(history, op) {
  if (history.hadFault(['restored'])) return;
  const after = (history.byRecord.get(op.key) ?? []).filter((other) => other !== op && other.write.status !== 'refused' && !isBefore(other, op));
  const record = finalRecord(history, op);
  const others = (history.states.get(op.key) ?? []).some((state) => state.deleted);
  if (op.op === 'delete') {
    if (record && after.length === 0) history.violations.add('lost_write', op.write.at, `write ${op.write.write} deleted ${op.key}, nobody wrote it again, and it is there`);
    return;
  }
  if (record === undefined) {
    if (!others && !after.some((other) => other.op === 'delete')) history.violations.add('lost_write', op.write.at, `write ${op.write.write} was stored, nobody deleted ${op.key}, and it is not there`);
    return;
  }
  for (const [field, value] of Object.entries(op.value)) {
    const isReplaced = after.some((other) => other.op !== 'update' || field in (other.value ?? {}) || other.unset?.includes(field));
    history.violations.count('stood');
    if (!isReplaced && JSON.stringify(record.value[field]) !== JSON.stringify(value)) {
      history.violations.add('lost_write', op.write.at, `write ${op.write.write} set ${field} of ${op.key}, nobody wrote it after that, and it is ${JSON.stringify(record.value[field])}`);
    }
  }
}

const isBefore = (other, op) => (other.write === op.write ? other.index < op.index : other.write.device === op.write.device && other.write.end < op.write.start);

export const finalRecord = (history, { scope, collection, id }) => history.final?.final?.[scope]?.[collection]?.[id];

/** The end state is the last state of each record. */
function atTheEnd(history) {
  const { final } = history;
  if (!final) return;
  for (const [scope, collections] of Object.entries(final.final)) {
    for (const [collection, records] of Object.entries(collections)) {
      for (const [id, record] of Object.entries(records)) {
        for (const [field, value] of Object.entries(record.value ?? {})) judgeValue(history, JSON.stringify([scope, collection, id]), field, value, final.at, null);
      }
    }
  }
  if (!history.header.complete_server) return;
  for (const [key, states] of history.states) {
    const [scope, collection, id] = JSON.parse(key);
    const record = finalRecord(history, { scope, collection, id });
    const last = states.at(-1);
    // A restored server went back to one of the states of before.
    const could = history.hadFault(['restored']) && last.effect.epoch !== final.epoch ? [...states, { deleted: true }] : [last];
    history.violations.count('final_states');
    const fits = could.some((state) => (state.deleted ? record === undefined : record?.version === state.version && sameRecord(record.value, state.value)));
    if (!fits) history.violations.add('convergence', final.at, `${key} ends as ${JSON.stringify(record)}, and its last state is ${JSON.stringify(last.deleted ? 'deleted' : { version: last.version, value: last.value })}`);
  }
}

/** Two records with the same fields. */
export function sameRecord(one, other) {
  const names = Object.keys(one);
  return names.length === Object.keys(other).length && names.every((name) => JSON.stringify(one[name]) === JSON.stringify(other[name]));
}
