// Hand-written histories for the tests: one good story, told event by event, that each planted fault changes in one place.

/** Counts begins and ends as an exporter does. */
export class Story {
  #tick = 0;
  lines = [];

  constructor(header = {}) {
    this.lines.push({ form: 'landfall-history', form_version: 1, source: 'browser', seed: 1, complete_server: true, drained: true, common_values: [0], own_outcomes: true, ...header });
  }

  #add(event) {
    this.#tick += 2;
    const line = { start: this.#tick - 1, end: this.#tick, ...event };
    this.lines.push(line);
    return line;
  }

  #of(session) {
    const device = session.split('/')[0];
    return { session, device, user: `u${device.slice(1)}` };
  }

  open(session) {
    return this.#add({ type: 'open', ...this.#of(session) });
  }

  /** `ops`: [op, id, value, more]. */
  write(session, write, ...ops) {
    const group = ops.length > 1 ? `group of ${write}` : null;
    return this.#add({ type: 'write', write, ...this.#of(session), group, status: 'stored', ops: ops.map(([op, id, value, more]) => ({ op, ...place(id), ...(op === 'delete' ? {} : { value }), ...more })) });
  }

  /** `shown`: id → [version, value], or null for absent. */
  read(session, shown, more = {}) {
    const ops = Object.entries(shown).map(([id, state]) => ({ op: 'read', ...place(id), ...(state === null ? { found: false, version: null } : { found: true, version: state[0], value: state[1] }) }));
    return this.#add({ type: 'read', ...this.#of(session), epoch: 'e1', status: 'ok', ops, ...more });
  }

  /** `versions`: id → version. One event for each record, as a batch settles. */
  outcome(device, writes, status, versions, more = {}) {
    return this.#add({ type: 'outcome', device, writes, group: null, client: `client of ${device}`, epoch: 'e1', status, ops: Object.entries(versions).map(([id, version]) => ({ ...place(id), version })), ...more });
  }

  /** `states`: id → [version, value], or [version] for deleted. */
  effect(device, position, states, more = {}) {
    const ops = Object.entries(states).map(([id, [version, value]]) => ({ collection: 'notes', id, version, deleted: value === undefined, ...(value && { value }) }));
    return this.#add({ type: 'effect', epoch: 'e1', scope: 's', position, client: `client of ${device}`, seq: position, group: null, ops, ...more });
  }

  fault(fault, more = {}) {
    return this.#add({ type: 'fault', fault, device: null, ...more });
  }

  final(records, more = {}) {
    const values = Object.fromEntries(Object.entries(records).map(([id, [version, value]]) => [id, { version, value }]));
    this.lines.push({ final: { s: { notes: values } }, epoch: 'e1', ...more });
    return this;
  }

  get text() {
    return `${this.lines.map((line) => JSON.stringify(line)).join('\n')}\n`;
  }
}

const place = (id) => ({ scope: 's', collection: 'notes', id });

/**
 * Three devices, one of them with two contexts and one that only reads: creates, edits, a group, a delete, a refusal by the engine, one by the server, a write
 * that nobody heard of again, two that were joined, one that lost, a reload. `plant` changes single lines by their names.
 */
export function goodStory(plant = {}, header = {}) {
  const story = new Story(header);
  const told = (name, tell) => (name in plant ? plant[name](story, tell) : tell());
  const tell = (name, ...event) => told(name, () => story[event[0]](...event.slice(1)));

  tell('open a', 'open', 'p0/0#1');
  tell('open tab', 'open', 'p0/1#1');
  tell('open b', 'open', 'p1/0#1');
  tell('open c', 'open', 'p2/0#1');
  tell('create', 'write', 'p0/0#1', 'w1', ['create', 'x', { a: 1, c: 0 }]);
  tell('own read', 'read', 'p0/0#1', { x: [null, { a: 1, c: 0 }], y: null });
  tell('refused write', 'write', 'p0/0#1', 'w2', ['update', 'x', { a: 2 }]);
  story.lines.at(-1).status = 'refused';
  tell('effect of create', 'effect', 'p0', 1, { x: [1, { a: 1, c: 0 }] });
  tell('outcome of create', 'outcome', 'p0', ['w1'], 'applied', { x: 1 }, { position: 1 });
  tell('read of create', 'read', 'p1/0#1', { x: [1, { a: 1, c: 0 }], y: null });
  tell('answer', 'write', 'p1/0#1', 'w3', ['create', 'y', { a: 3 }]);
  tell('effect of answer', 'effect', 'p1', 2, { y: [1, { a: 3 }] });
  tell('outcome of answer', 'outcome', 'p1', ['w3'], 'applied', { y: 1 });
  tell('read of answer', 'read', 'p0/1#1', { x: [1, { a: 1, c: 0 }], y: [1, { a: 3 }] });
  tell('group', 'write', 'p1/0#1', 'w4', ['update', 'x', { a: 4 }], ['update', 'y', { b: 5 }]);
  tell('own read of group', 'read', 'p1/0#1', { x: [1, { a: 4, c: 0 }], y: [1, { a: 3, b: 5 }] });
  tell('effect of group', 'effect', 'p1', 3, { x: [2, { a: 4, c: 0 }], y: [2, { a: 3, b: 5 }] }, { group: 'g' });
  tell('outcome of group x', 'outcome', 'p1', ['w4'], 'applied', { x: 2 });
  tell('outcome of group y', 'outcome', 'p1', ['w4'], 'applied', { y: 2 }, { session: 'p1/0#1' });
  tell('read of group', 'read', 'p2/0#1', { x: [2, { a: 4, c: 0 }], y: [2, { a: 3, b: 5 }] });
  tell('first of two', 'write', 'p0/0#1', 'w5', ['create', 'z', { a: 6 }]);
  tell('second of two', 'write', 'p0/0#1', 'w6', ['update', 'z', { a: 7 }, { unset: ['b'] }]);
  tell('killed write', 'write', 'p0/0#1', 'w7', ['update', 'z', { b: 8 }]);
  story.lines.at(-1).status = 'unknown';
  tell('kill', 'fault', 'killed', { session: 'p0/0#1', device: 'p0' });
  tell('open again', 'open', 'p0/0#2');
  tell('read after reload', 'read', 'p0/0#2', { x: [2, { a: 4, c: 0 }], y: [2, { a: 3, b: 5 }], z: [null, { a: 7, b: 8 }] });
  tell('effect of two', 'effect', 'p0', 4, { z: [1, { a: 7, b: 8 }] });
  tell('outcome of two', 'outcome', 'p0', ['w5', 'w6', 'w7'], 'applied', { z: 1 });
  tell('loser', 'write', 'p0/0#2', 'w8', ['update', 'y', { a: 9 }]);
  tell('winner', 'write', 'p1/0#1', 'w9', ['update', 'y', { a: 10 }]);
  tell('effect of winner', 'effect', 'p1', 5, { y: [3, { a: 10, b: 5 }] });
  tell('outcome of winner', 'outcome', 'p1', ['w9'], 'applied', { y: 3 }, { session: 'p1/0#1' });
  tell('outcome of loser', 'outcome', 'p0', ['w8'], 'superseded', { y: 3 });
  tell('invalid', 'write', 'p0/0#2', 'w10', ['create', 'v', { a: 11 }]);
  tell('outcome of invalid', 'outcome', 'p0', ['w10'], 'rejected', { v: null }, { code: 'validation' });
  tell('delete', 'write', 'p1/0#1', 'w11', ['delete', 'x']);
  tell('own read of delete', 'read', 'p1/0#1', { x: null, y: [3, { a: 10, b: 5 }] });
  tell('effect of delete', 'effect', 'p1', 6, { x: [3] });
  tell('outcome of delete', 'outcome', 'p1', ['w11'], 'applied', { x: 3 });
  const end = { x: null, y: [3, { a: 10, b: 5 }], z: [1, { a: 7, b: 8 }], v: null };
  tell('rest a', 'read', 'p0/0#2', end, { at_rest: true });
  tell('rest b', 'read', 'p1/0#1', end, { at_rest: true });
  tell('final', 'final', { y: [3, { a: 10, b: 5 }], z: [1, { a: 7, b: 8 }] });
  return story;
}
