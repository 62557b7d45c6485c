// What each context showed, one read after the other: its own writes, never back, and one moment of the server for a scope.

import { cameToNothing, isAbout, tookEffect } from './read.mjs';
import { finalRecord, isDeleteOfNothing, judgeValue, sameRecord } from './server.mjs';

/** After these a device may show an older state of the server than it did. */
const goesBack = ['power_cut', 'lost_storage', 'resync', 'restored'];

export function judgeSessions(history) {
  const devices = new Map();
  for (const read of history.reads) {
    if (read.status === 'failed') continue;
    read.ops = read.ops.map((op) => ({ ...op, key: JSON.stringify([op.scope, op.collection, op.id]) }));
    const opened = history.opened.get(read.session);
    if (!opened) continue;
    const before = devices.get(read.device) ?? [];
    devices.set(read.device, before);
    for (const op of read.ops) {
      for (const [field, value] of Object.entries(op.value ?? {})) judgeValue(history, op.key, field, value, read.at, read.end);
      readYourWrites(history, read, op, opened);
      ownOutcomes(history, read, op, opened);
      stateAndOwn(history, read, op);
    }
    ownGroups(history, read);
    othersGroups(history, read);
    const seen = versionsOf(history, read);
    notBack(history, read, seen, before, opened);
    const pulled = oneMoment(history, read, seen, before, opened);
    before.push({ read, seen, pulled });
    if (read.at_rest) atRest(history, read);
  }
  writesFollowReads(history, devices);
}

/** A fault of these names, or a change of access to the scope, since a moment. */
function isExcused(history, names, read, scope, from) {
  if (history.hadFault(names, read.device, from, read.end)) return true;
  const changes = history.faults.filter((fault) => fault.fault === 'access' && fault.end >= from && fault.start <= read.end);
  return changes.some((fault) => (!fault.user || fault.user === read.user) && (!fault.scopes || fault.scopes.includes(scope)));
}

// ---- own writes ----------------------------------------------------------------------------------------------------

/** What the session wrote, or its device before it was opened, and that is known when the read begins. */
const isKnown = (op, read, opened) => (op.write.session === read.session ? op.write.end < read.start : op.write.end < opened.start);
const mayFollow = (other, op, read) => other !== op && other.write.status !== 'refused' && other.write.start < read.end && (other.write === op.write ? other.index > op.index : !(other.write.end < op.write.start));
const touches = (op, field) => op.op !== 'update' || field in op.value || (op.unset?.includes(field) ?? false);

/** Who exports no outcomes does not tell when another one's write took the place of an own one. */
const mayBeReplaced = (history, read, key) => history.header.own_outcomes === false && (history.byRecord.get(key) ?? []).some((op) => op.write.device !== read.device && op.write.status !== 'refused' && op.write.start < read.end);

/** The own writes on a record that a read must show as they are: stored, known, and without a word on them yet. */
function standing(history, read, key, opened) {
  if (mayBeReplaced(history, read, key)) return [];
  return history.ownOps(read.device, key).filter(
    (op) =>
      op.write.status === 'stored' &&
      isKnown(op, read, opened) &&
      !history.outcomesFor(op).some((outcome) => outcome.start < read.end) &&
      !isExcused(history, ['lost_storage'], read, op.scope, op.write.start),
  );
}

/** Somebody else deleted the record, or may have: an edit of a deleted record shows nothing. */
function mayBeDeleted(history, read, key) {
  const byOthers = (history.byRecord.get(key) ?? []).some((op) => op.op === 'delete' && op.write.status !== 'refused' && op.write.start < read.end);
  return byOthers || (history.states.get(key) ?? []).some((state) => state.deleted);
}

/** The same, or the write that made the record came to nothing, and the server has none. */
function mayBeMissing(history, read, shown) {
  if (mayBeDeleted(history, read, shown.key)) return true;
  const creates = history.ownOps(read.device, shown.key).filter((op) => op.op === 'create' || op.op === 'put');
  const isNothing = (outcome) => outcome.start < read.end && cameToNothing.has(outcome.status);
  return !Number.isInteger(shown.version) && creates.some((op) => history.outcomesFor(op).some(isNothing));
}

function readYourWrites(history, read, shown, opened) {
  for (const op of standing(history, read, shown.key, opened)) {
    const later = history.ownOps(read.device, shown.key).filter((other) => mayFollow(other, op, read));
    if (op.op === 'delete') {
      if (later.length > 0) continue;
      history.violations.count('own_writes');
      if (shown.found) history.violations.add('read_your_writes', read.at, `${read.session} deleted ${shown.key} with ${op.write.write}, and sees it`);
      continue;
    }
    if (!shown.found) {
      if (later.some((other) => other.op === 'delete')) continue;
      history.violations.count('own_writes');
      if (op.op !== 'update' || !mayBeMissing(history, read, shown)) history.violations.add('read_your_writes', read.at, `${read.session} wrote ${shown.key} with ${op.write.write}, and does not see it`);
      continue;
    }
    const fields = new Set([...Object.keys(op.value), ...(op.unset ?? [])]);
    for (const field of fields) {
      if (later.some((other) => touches(other, field))) continue;
      history.violations.count('own_writes');
      const value = op.unset?.includes(field) ? undefined : op.value[field];
      if (JSON.stringify(shown.value[field]) !== JSON.stringify(value)) {
        history.violations.add('read_your_writes', read.at, `${read.session} wrote ${field} = ${JSON.stringify(value)} of ${shown.key} with ${op.write.write}, and sees ${JSON.stringify(shown.value[field])}`);
      }
    }
  }
}

/** What a session heard of its own write it does not see undone (L5). */
function ownOutcomes(history, read, shown, opened) {
  if (!Number.isInteger(shown.version)) return;
  for (const op of history.ownOps(read.device, shown.key)) {
    for (const outcome of history.outcomesFor(op)) {
      const isHeard = outcome.session === read.session ? outcome.end < read.start : outcome.end < opened.start;
      if (!isHeard || !tookEffect.has(outcome.status)) continue;
      const about = outcome.ops.find((other) => isAbout(other, op));
      const version = about?.version;
      if (!Number.isInteger(version) || isDeleteOfNothing(history, outcome, about) || (outcome.epoch && read.epoch && outcome.epoch !== read.epoch)) continue;
      if (isExcused(history, goesBack.filter((name) => name !== 'power_cut'), read, op.scope, outcome.start)) continue;
      history.violations.count('own_outcomes');
      if (shown.version < version) history.violations.add('read_your_writes', read.at, `${read.session} heard that ${op.write.write} made version ${version} of ${shown.key}, and sees version ${shown.version}`);
    }
  }
}

/** A record is the server's state with this version and what the device wrote, nothing else (C3). */
function stateAndOwn(history, read, shown) {
  if (!shown.found || !Number.isInteger(shown.version) || !history.header.complete_server) return;
  const state = (history.states.get(shown.key) ?? []).find((candidate) => candidate.version === shown.version);
  if (!state && shown.version > 0 && !history.hadFault(['restored'])) {
    history.violations.add('thin_air', read.at, `${read.session} sees version ${shown.version} of ${shown.key}, which the server never had`);
    return;
  }
  const own = history.ownOps(read.device, shown.key).filter((op) => op.write.status !== 'refused');
  for (const [field, value] of Object.entries(shown.value)) {
    if (!history.isTraceable(value)) continue;
    history.violations.count('states');
    const isServers = JSON.stringify(state?.value?.[field]) === JSON.stringify(value);
    if (!isServers && !own.some((op) => JSON.stringify(op.value?.[field]) === JSON.stringify(value))) {
      history.violations.add('foreign_value', read.at, `${read.session} sees ${field} = ${JSON.stringify(value)} in version ${shown.version} of ${shown.key}: neither that version's nor its own`);
    }
  }
}

// ---- groups --------------------------------------------------------------------------------------------------------

const carries = (op, shown) => Object.entries(op.value ?? {}).some(([field, value]) => JSON.stringify(shown.value?.[field]) === JSON.stringify(value));
const lastOps = (write) => write.ops.filter((op) => !write.ops.some((other) => other.key === op.key && other.index > op.index));

/** Of an own group without an outcome a read shows all or nothing (S5). */
function ownGroups(history, read) {
  for (const shown of read.ops.filter((op) => op.found)) {
    for (const op of history.ownOps(read.device, shown.key)) {
      const { write } = op;
      if (!write.group || write.status === 'refused' || !carriesTraced(history, op, shown)) continue;
      if (write.ops.some((other) => history.outcomesFor(other).some((outcome) => outcome.start < read.end))) continue;
      if (isExcused(history, ['lost_storage'], read, op.scope, write.start)) continue;
      for (const member of lastOps(write)) {
        const there = read.ops.find((other) => other.key === member.key);
        if (!there || member.key === op.key || mayBeReplaced(history, read, member.key)) continue;
        const later = history.ownOps(read.device, member.key).some((other) => mayFollow(other, member, read));
        if (later) continue;
        history.violations.count('own_groups');
        const isThere = member.op === 'delete' ? !there.found : there.found ? carries(member, there) || Object.keys(member.value).length === 0 : member.op === 'update' && mayBeMissing(history, read, there);
        if (!isThere) history.violations.add('fractured_group', read.at, `${read.session} sees ${write.write} in ${op.key} and not in ${member.key}`);
      }
    }
  }
}

function carriesTraced(history, op, shown) {
  return Object.entries(op.value ?? {}).some(([field, value]) => history.writersOf(op.key, field, value)?.length === 1 && JSON.stringify(shown.value?.[field]) === JSON.stringify(value));
}

/** Of another device's group a read does not show one record with it and another as its writer had it before. */
function othersGroups(history, read) {
  for (const shown of read.ops.filter((op) => op.found)) {
    for (const [field, value] of Object.entries(shown.value)) {
      for (const op of history.writersOf(shown.key, field, value) ?? []) {
        const { write } = op;
        if (!write.group || write.device === read.device || write.retry_of || history.hadFault(['lost_storage', 'restored'])) continue;
        // What somebody wrote again may be all that is there of it.
        if (history.writersOf(shown.key, field, value).some((other) => other.write.retry_of && other.write.start < read.end)) continue;
        for (const member of lastOps(write)) {
          const there = read.ops.find((other) => other.key === member.key);
          if (!there || member.key === op.key) continue;
          // The device shows a state of its own there that may be ahead of what it pulled.
          if (history.ownOps(read.device, member.key).length > 0 || history.ownOps(read.device, op.key).length > 0) continue;
          history.violations.count('groups_of_others');
          const isOlder = Object.entries(there.value ?? {}).some(([name, old]) => touches(member, name) && isFromBefore(history, member, name, old));
          const isMissing = !there.found && member.op !== 'delete' && !mayBeDeleted(history, read, member.key);
          if (isOlder || isMissing || isWithoutField(history, member, there)) history.violations.add('fractured_group', read.at, `${read.session} sees ${write.write} in ${op.key}, and ${member.key} as it was before`);
        }
      }
    }
  }
}

/** All that wrote this value did so before the group, and on its device: what somebody wrote again since may have replaced the group's. */
function isFromBefore(history, member, field, value) {
  const writers = (history.writersOf(member.key, field, value) ?? []).filter((other) => other.write.status !== 'refused');
  return writers.length > 0 && writers.every((other) => other.write.device === member.write.device && other.write.end < member.write.start);
}

/** The record is there without a field that the group gave it, and nobody can have taken it out. */
function isWithoutField(history, member, there) {
  const others = (history.byRecord.get(member.key) ?? []).filter((op) => op.write.status !== 'refused' && !(op.write.device === member.write.device && op.write.end < member.write.start) && op !== member);
  return there.found && Object.keys(member.value ?? {}).some((field) => !(field in there.value) && !others.some((op) => op.op !== 'update' || op.unset?.includes(field)));
}

// ---- what the server had -------------------------------------------------------------------------------------------

/** The version on which each record of a read stands; of an absent record the newest that fits, which is a guess. */
function versionsOf(history, read) {
  const seen = new Map();
  for (const op of read.ops) {
    let version = Number.isInteger(op.version) ? op.version : undefined;
    if (version === undefined && !op.found && history.header.complete_server) {
      const isOwn = history.ownOps(read.device, op.key).some((own) => own.op === 'delete' && own.write.status !== 'refused' && own.write.start < read.end);
      if (isOwn) continue;
      const gone = (history.states.get(op.key) ?? []).filter((state) => state.deleted && (state.effect.start === null || state.effect.start < read.end));
      version = gone.at(-1)?.version ?? 0;
    }
    if (version === undefined) continue;
    const isOutcome = history.outcomes.some((outcome) => outcome.device === read.device && outcome.start < read.end && outcome.ops.some((other) => other.key === op.key && other.version === version));
    seen.set(op.key, { op, version, isOutcome, isGuess: !Number.isInteger(op.version) });
  }
  return seen;
}

/** Reads before this one: of the session, and of the device before the session was opened. */
const earlier = (before, read, opened) => before.filter((other) => (other.read.session === read.session ? other.read.end < read.start : other.read.end < opened.start));
const sameEpoch = (history, one, other) => (one.epoch && other.epoch ? one.epoch === other.epoch : !history.hadFault(['restored']));

/** A record is never shown as it was before (R3). */
function notBack(history, read, seen, before, opened) {
  const newest = new Map();
  for (const other of earlier(before, read, opened)) {
    if (!sameEpoch(history, other.read, read)) continue;
    for (const [key, { version, op, isGuess }] of other.seen) {
      if (isGuess || !seen.has(key) || !(version > (newest.get(key)?.version ?? -1))) continue;
      if (!isExcused(history, goesBack, read, op.scope, other.read.start)) newest.set(key, { version, at: other.read.at });
    }
  }
  for (const [key, { version }] of seen) {
    const then = newest.get(key);
    if (!then) continue;
    history.violations.count('later_reads');
    if (version < then.version) history.violations.add('monotonic_reads', read.at, `${read.session} sees version ${version} of ${key}, and saw version ${then.version} on line ${then.at}`);
  }
}

/** All records of a scope are as of one position, and not before what was seen already: causal order, and whole groups. */
function oneMoment(history, read, seen, before, opened) {
  const pulled = new Map();
  if (!history.header.complete_server) return pulled;
  const moments = new Map();
  const raise = (scope, position, effect, from) => {
    if (position > (moments.get(scope)?.position ?? 0)) moments.set(scope, { position, effect, from });
  };
  for (const other of earlier(before, read, opened)) {
    if (!sameEpoch(history, other.read, read)) continue;
    for (const [scope, position] of other.pulled) if (!isExcused(history, goesBack, read, scope, other.read.start)) raise(scope, position, undefined, other.read.at);
  }
  for (const { op, version, isOutcome, isGuess } of seen.values()) {
    const state = stateOf(history, op.key, version);
    if (!state || isOutcome || isGuess || !isOfEpoch(state, read)) continue;
    if (state.position > (pulled.get(op.scope) ?? 0)) pulled.set(op.scope, state.position);
    raise(op.scope, state.position, state.effect, read.at);
  }
  for (const { op, version } of seen.values()) {
    const moment = moments.get(op.scope);
    if (!moment || isExcused(history, ['resync', 'lost_storage', 'restored'], read, op.scope, opened.start)) continue;
    const next = (history.states.get(op.key) ?? []).find((state) => state.version > version);
    history.violations.count('moments');
    if (!next || next.position > moment.position || !isOfEpoch(next, read)) continue;
    const isGroup = next.effect === moment.effect && next.effect.group;
    const code = moment.from !== read.at ? 'monotonic_reads' : isGroup ? 'fractured_group' : 'consistent_cut';
    history.violations.add(code, read.at, `${read.session} sees ${op.scope} at position ${moment.position} (line ${moment.from}), and ${op.key} in version ${version}, which ended at position ${next.position}`);
  }
  return pulled;
}

const stateOf = (history, key, version) => (history.states.get(key) ?? []).find((state) => state.version === version);
const isOfEpoch = (state, read) => !read.epoch || !state.effect.epoch || state.effect.epoch === read.epoch;

/** A write takes effect behind everything that its session had seen of the scope when it was made. */
function writesFollowReads(history, devices) {
  if (!history.header.complete_server) return;
  for (const write of history.writes.values()) {
    if (write.status === 'refused' || write.retry_of || history.hadFault(['restored', 'lost_storage'], write.device)) continue;
    const op = write.ops[0];
    const effect = firstEffect(history, op);
    if (!effect) continue;
    for (const { read, seen } of devices.get(write.device) ?? []) {
      if (read.session !== write.session || !(read.end < write.start)) continue;
      for (const [key, { op: shown, version, isGuess }] of seen) {
        const state = !isGuess && shown.scope === op.scope ? stateOf(history, key, version) : undefined;
        if (!state || state.effect === effect) continue;
        history.violations.count('writes_after_reads');
        if (state.position > effect.position) history.violations.add('writes_follow_reads', effect.at, `write ${write.write} took effect at position ${effect.position}, before ${key} at ${state.position}, which its session had seen`);
      }
    }
  }
}

function firstEffect(history, op) {
  for (const [field, value] of Object.entries(op.value ?? {})) {
    if (history.writersOf(op.key, field, value)?.length !== 1) continue;
    const state = (history.states.get(op.key) ?? []).find((candidate) => JSON.stringify(candidate.value?.[field]) === JSON.stringify(value));
    if (state) return state.effect;
  }
  return undefined;
}

// ---- the end -------------------------------------------------------------------------------------------------------

/** At rest every context shows what the server has (R1). */
function atRest(history, read) {
  for (const op of read.ops) {
    if (read.parked?.includes(`${op.scope}/${op.collection}/${op.id}`)) continue;
    const record = finalRecord(history, op);
    history.violations.count('at_rest');
    const fits = op.found ? record && sameRecord(op.value, record.value) && (!Number.isInteger(op.version) || op.version === record.version) : record === undefined;
    if (!fits) history.violations.add('convergence', read.at, `${read.session} ends with ${op.key} as ${JSON.stringify(op.found ? { version: op.version, value: op.value } : 'absent')}, and the server has ${JSON.stringify(record ?? 'nothing')}`);
  }
}
