// An exported history as data: lines read, their form checked, and what several judges ask for looked up once.
//
// The form is docs/histories.md. Nothing here knows the engine: this program and Landfall share no code.

import { Violations } from './violations.mjs';

const types = new Set(['open', 'write', 'read', 'outcome', 'sync', 'effect', 'fault']);
const writeOps = new Set(['create', 'update', 'delete', 'put']);
const statuses = {
  write: new Set(['stored', 'refused', 'unknown']),
  outcome: new Set(['applied', 'merged', 'superseded', 'recreated', 'conflict', 'rejected', 'cancelled', 'discarded', 'failed', 'parked']),
};
/** Of these the record holds the write's effect. */
export const tookEffect = new Set(['applied', 'merged', 'recreated']);
/** Of these it holds nothing; create and delete that were `cancelled` came to what they ask for. */
export const cameToNothing = new Set(['superseded', 'conflict', 'rejected', 'discarded', 'parked', 'failed']);

const text = (value) => typeof value === 'string' && value !== '';
const whole = (value) => Number.isInteger(value);
const object = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

export const keyOf = (scope, collection, id) => JSON.stringify([scope, collection, id]);
const registerOf = (key, field, value) => `${key}\u0000${field}\u0000${JSON.stringify(value)}`;

/** The histories of a file: each begins with a header. Gives `{ lines: [{ at, value }] }[]`; throws a text on a line that is no JSON. */
export function split(content) {
  const histories = [];
  for (const [index, line] of content.split('\n').entries()) {
    if (line.trim() === '') continue;
    let value;
    try {
      value = JSON.parse(line);
    } catch (error) {
      throw new Error(`line ${index + 1} is no JSON: ${error.message}`);
    }
    if (value?.form !== undefined || histories.length === 0) histories.push([]);
    histories.at(-1).push({ at: index + 1, value });
  }
  return histories;
}

/** One history, ready to be judged. */
export class History {
  constructor(lines) {
    this.violations = new Violations();
    this.header = lines[0]?.value ?? {};
    this.events = [];
    this.final = undefined;
    this.#check(lines);
    this.#lookUp();
  }

  #form(at, what) {
    this.violations.add('form', at, what);
  }

  #check(lines) {
    const { header } = this;
    if (header.form !== 'landfall-history' || header.form_version !== 1) this.#form(lines[0]?.at ?? 0, 'the first line is no header of form version 1');
    this.common = new Set((header.common_values ?? []).map((value) => JSON.stringify(value)));
    let end = -Infinity;
    for (const { at, value } of lines.slice(1)) {
      if (this.final !== undefined) this.#form(at, 'there is something behind the final line');
      if (object(value?.final)) {
        this.final = { at, ...value };
        continue;
      }
      if (!types.has(value?.type)) {
        this.#form(at, `no such type of event: ${JSON.stringify(value?.type)}`);
        continue;
      }
      const problem = this.#problem(value);
      if (problem) {
        this.#form(at, problem);
        continue;
      }
      if (value.end !== null && value.end < end) this.#form(at, 'events are not in the order of their ends');
      end = value.end ?? end;
      this.events.push({ ...value, at });
    }
    if (this.final === undefined) this.#form(lines.at(-1)?.at ?? 0, 'the final line is missing: the history was cut short');
  }

  /** What is wrong with an event by itself. */
  #problem(event) {
    const timeless = event.type === 'effect' && event.start === null && event.end === null;
    if (!timeless && (!whole(event.start) || !whole(event.end) || event.start > event.end)) return 'start and end are not two numbers in order';
    if (['open', 'write', 'read'].includes(event.type) && !(text(event.session) && text(event.device) && text(event.user))) return 'session, device or user is missing';
    if (event.type === 'outcome' && !text(event.device)) return 'device is missing';
    if (statuses[event.type] && !statuses[event.type].has(event.status)) return `no such status: ${event.status}`;
    if (event.type === 'write') {
      if (!text(event.write)) return 'the write has no name';
      if (!Array.isArray(event.ops) || event.ops.length === 0 || (!event.group && event.ops.length !== 1)) return 'a write has one op, a group one or more';
      for (const op of event.ops) {
        if (!writeOps.has(op.op) || !text(op.scope) || !text(op.collection) || !text(op.id)) return 'an op of the write is incomplete';
        if (op.op !== 'delete' && !object(op.value)) return 'an op of the write has no value';
      }
    }
    if (event.type === 'read') {
      if (event.status !== 'failed' && !Array.isArray(event.ops)) return 'the read has no ops';
      for (const op of event.ops ?? []) {
        if (!text(op.scope) || !text(op.collection) || !text(op.id) || typeof op.found !== 'boolean' || (op.found && !object(op.value))) return 'an op of the read is incomplete';
      }
    }
    if (event.type === 'outcome' && !(Array.isArray(event.writes) && event.writes.length > 0 && Array.isArray(event.ops) && event.ops.length > 0)) return 'the outcome names no write or no record';
    if (event.type === 'effect') {
      if (!text(event.scope) || !whole(event.position) || !Array.isArray(event.ops)) return 'the effect has no scope, position or ops';
      for (const op of event.ops) if (!text(op.collection) || !text(op.id) || !whole(op.version) || (!op.deleted && !object(op.value))) return 'an op of the effect is incomplete';
    }
    return undefined;
  }

  #lookUp() {
    /** Writes by name; ops by device and record, in order; ops by the value that they carry. */
    this.writes = new Map();
    this.opsOf = new Map();
    this.byValue = new Map();
    this.byRecord = new Map();
    /** Outcomes of (write, index of the op). */
    this.outcomesOf = new Map();
    /** States of a record by version. */
    this.states = new Map();
    this.opened = new Map();
    this.reads = [];
    this.effects = [];
    this.outcomes = [];
    this.faults = [];
    for (const event of this.events) {
      if (event.type === 'open') this.#open(event);
      if (event.type === 'write') this.#write(event);
      if (event.type === 'read') this.reads.push(event);
      if (event.type === 'outcome') this.outcomes.push(event);
      if (event.type === 'fault') this.faults.push(event);
      if (event.type === 'effect') this.#effect(event);
    }
    for (const event of this.events) {
      if ((event.type === 'read' || event.type === 'write') && !(this.opened.get(event.session)?.end < event.start)) this.#form(event.at, `session ${event.session} is not open yet`);
    }
    for (const outcome of this.outcomes) this.#outcome(outcome);
    for (const states of this.states.values()) states.sort((a, b) => a.version - b.version);
    this.#unique();
  }

  #open(event) {
    if (this.opened.has(event.session)) this.#form(event.at, `session ${event.session} is opened twice`);
    this.opened.set(event.session, event);
  }

  #write(event) {
    if (this.writes.has(event.write)) this.#form(event.at, `write ${event.write} is there twice`);
    this.writes.set(event.write, event);
    event.ops = event.ops.map((op, index) => ({ ...op, index, key: keyOf(op.scope, op.collection, op.id), write: event }));
    for (const op of event.ops) op.part = event.ops.filter((other) => other.key === op.key && other.index < op.index).length;
    for (const op of event.ops) {
      push(this.opsOf, `${event.device}\u0000${op.key}`, op);
      push(this.byRecord, op.key, op);
      for (const [field, value] of Object.entries(op.value ?? {})) {
        if (this.isTraceable(value)) push(this.byValue, registerOf(op.key, field, value), op);
      }
    }
  }

  #effect(event) {
    event.order = this.effects.length;
    this.effects.push(event);
    event.ops = event.ops.map((op) => ({ ...op, key: keyOf(event.scope, op.collection, op.id), effect: event, position: event.position, scope: event.scope }));
    for (const op of event.ops) push(this.states, op.key, op);
  }

  #outcome(event) {
    event.ops = event.ops.map((op) => ({ ...op, key: keyOf(op.scope, op.collection, op.id) }));
    for (const name of event.writes) {
      const write = this.writes.get(name);
      if (!write) {
        this.#form(event.at, `the outcome names write ${name}, which is not there`);
        continue;
      }
      if (write.device !== event.device) this.#form(event.at, `write ${name} is of another device`);
      for (const about of event.ops) for (const op of write.ops) if (isAbout(about, op)) push(this.outcomesOf, `${name}\u0000${op.index}`, event);
    }
  }

  /** A value that two writes carry says nothing of either, unless all but the first name it, or one that names it. */
  #unique() {
    for (const ops of this.byValue.values()) {
      const carriers = new Set(ops.map((op) => op.write.write));
      if (carriers.size < 2) continue;
      const first = [...carriers].filter((name) => !this.#originsOf(name).some((origin) => carriers.has(origin)));
      if (first.length !== 1) this.violations.add('unique', ops[1].write.at, `writes ${(first.length === 0 ? [...carriers] : first).join(' and ')} carry one value`);
    }
  }

  /** What a person wrote again with this write: the writes that it names, and those that they name. */
  #originsOf(name) {
    const origins = new Set();
    const named = (write) => [this.writes.get(write)?.retry_of ?? []].flat();
    for (let left = named(name); left.length > 0; left = left.flatMap(named)) {
      left = left.filter((origin) => !origins.has(origin));
      for (const origin of left) origins.add(origin);
    }
    return [...origins];
  }

  isTraceable(value) {
    return value !== null && (typeof value === 'number' || typeof value === 'string') && !this.common.has(JSON.stringify(value));
  }

  /** The ops that carry this value; undefined for values that are not traced. */
  writersOf(key, field, value) {
    return this.isTraceable(value) ? (this.byValue.get(registerOf(key, field, value)) ?? []) : undefined;
  }

  outcomesFor(op) {
    return this.outcomesOf.get(`${op.write.write}\u0000${op.index}`) ?? [];
  }

  ownOps(device, key) {
    return this.opsOf.get(`${device}\u0000${key}`) ?? [];
  }

  /** Whether a fault of this name came between two moments, on this device or on the server. */
  hadFault(names, device, from = -Infinity, to = Infinity) {
    return this.faults.some((fault) => names.includes(fault.fault) && (!fault.device || fault.device === device) && fault.end >= from && fault.start <= to);
  }
}

/** What an outcome says of a record is about this op: of several on the record it may name one. */
export const isAbout = ({ key, part }, op) => op.key === key && (part === undefined || part === op.part);

function push(map, key, value) {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}
