// What pages said of their writes, kept outside of the browser, and the judgement of what a browser shows and a server holds.
//
// A record has one writer at a time: a tab by its letter (`a`, `b`), whose pages follow each other. Shared records have a
// field for each letter and are judged by it. So what may be seen follows from the order of one writer's writes alone, and
// nothing here knows how the engine works. Pure.

const canonical = (value) => (value === null ? 'absent' : JSON.stringify(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))));
const short = (text) => (text.length > 160 ? `${text.slice(0, 160)}…` : text);

function apply(state, { op, value }) {
  if (op === 'delete') return null;
  if (op === 'update') return state === null ? null : { ...state, ...value };
  return value;
}

/** What every state of it may be called after: the promises of docs/promises.md. */
export class Ledger {
  /** By session and number: `{session, letter, k, group, bad, ops, status, code}`. */
  #writes = new Map();
  #lanes = new Map();
  #hots;
  /** `{code, what}` */
  violations = [];
  /** Writes that were killed before their promise ended, and were there. */
  found = 0;

  constructor(hots) {
    this.#hots = hots;
  }

  /** What one writer wrote on one record, or in its own field of a shared one. */
  #laneOf({ id, value }) {
    const field = this.#hots.includes(id) ? Object.keys(value).find((name) => name !== 'last') : undefined;
    const key = field ? `${id}/${field}` : id;
    const lane = this.#lanes.get(key) ?? { id, field, writes: [] };
    this.#lanes.set(key, lane);
    return lane;
  }

  count(status) {
    return [...this.#writes.values()].filter((write) => write.status === status).length;
  }

  get writes() {
    return this.#writes.values();
  }

  began(session, letter, k, write) {
    const kept = { session, letter, k, ...write, status: 'open' };
    this.#writes.set(`${session}.${k}`, kept);
    for (const op of write.ops) {
      const lane = this.#laneOf(op);
      lane.writes.push({ write: kept, op });
    }
  }

  /** `stored`, `refused` or `unknown`: the promise has ended. */
  ended(session, k, status, code) {
    const write = this.#writes.get(`${session}.${k}`);
    write.status = status;
    write.code = code;
  }

  /** Its page is gone: what had not ended may be there or not. */
  died(session) {
    for (const write of this.#writes.values()) if (write.session === session && write.status === 'open') write.status = 'unknown';
  }

  /** `[id, alive]` of what a letter may go on with: nobody doubts how it is. */
  ownOf(letter) {
    const sure = [...this.#lanes.values()].filter(({ field, writes }) => !field && writes.every(({ write }) => write.letter === letter && !write.group && !write.bad && ['stored', 'refused', 'gone'].includes(write.status)));
    return sure.flatMap(({ id, writes }) => (id.length > 128 || !writes.some(({ write }) => write.status === 'stored') ? [] : [[id, this.#statesOf({ id, writes }).some((state) => state !== null)]]));
  }

  /**
   * A view that a page shows, and its outbox. `server`: what the server holds, where nothing can have changed there since.
   * `mayFreeze`: the process that stores was ended below the page, which may say so and take nothing more.
   * `own`: of a page that was there before another one died, which may not have heard yet what that one stored: its letter.
   */
  look({ rows, outbox, conflicts, status }, { server, own, mayFreeze = false, at }) {
    const shown = new Map(rows.map((row) => [row.id, row.value]));
    const undecided = new Map();
    for (const entry of outbox) undecided.set(entry.record, [...(undecided.get(entry.record) ?? []), entry]);
    this.#judgeLanes(shown, own, at);
    this.#judgeGroups((id) => shown.has(id), at);
    this.#judgeBad(shown, undecided, own, at);
    this.#judgeStrangers(shown, at);
    if (conflicts.length > 0) this.#violated('L5', `${at}: a write lost though nobody else writes: ${JSON.stringify(conflicts[0])}`);
    for (const entry of outbox) {
      if (entry.state === 'parked' && !this.#isBad(entry.record)) this.#violated('L1', `${at}: a good write is parked: ${JSON.stringify(entry)}`);
      if (entry.state === 'failed') this.#violated('S7', `${at}: an outage made a write fail: ${JSON.stringify(entry)}`);
    }
    const well = ['ok', ...(mayFreeze ? ['storage_failed'] : [])];
    if (!well.includes(status.storage.state) || status.storage.quarantined > 0) this.#violated('L1', `${at}: the storage is not well: ${JSON.stringify(status.storage)}`);
    if (!own) this.#judgeOutbox(rows, shown, undecided, at);
    if (server) this.#judgeAgainst(shown, undecided, server, at);
  }

  /** Nobody is left who could still store what was in doubt: what is shown is there, what is not never will be. */
  resolve({ rows, outbox }) {
    const shown = new Map(rows.map((row) => [row.id, row.value]));
    const waiting = new Set(outbox.map(({ record }) => record));
    for (const write of this.#writes.values()) {
      if (write.status !== 'unknown') continue;
      const fates = write.ops.map((op) => this.#fateOf(write, op, shown, waiting));
      if (fates.includes('stored')) {
        write.status = 'stored';
        this.found += 1;
      }
      else if (fates.includes('gone')) write.status = 'gone';
    }
  }

  /** All that the server holds, when nothing waits any more. `parked`: of the last look. */
  final({ records, audit, parked, rows }) {
    const live = new Map(records.map((record) => [record.id, record.fields]));
    const at = 'at the end';
    this.#judgeLanes(live, undefined, `${at}, server`);
    this.#judgeGroups((id) => live.has(id), `${at}, server`);
    this.#judgeStrangers(live, `${at}, server`);
    const shown = new Map(rows.map((row) => [row.id, row.value]));
    for (const id of new Set([...live.keys(), ...shown.keys()])) {
      const [here, there] = [shown, live].map((state) => canonical(state.get(id) ?? null));
      if (here !== there) this.#violated('R1', `${at}: ${id} is ${short(here)} in the view and ${short(there)} at the server`);
    }
    for (const write of this.#writes.values()) {
      const [{ id }] = write.ops;
      if (write.bad && write.ops.some((op) => live.has(op.id))) this.#violated('L3', `${at}: the server has what it refused: ${id}`);
      const times = parked.filter((entry) => entry.record === id).length;
      if (write.bad && write.status === 'stored' && times !== 1) this.#violated('L1', `${at}: a refused write waits ${times} times for its author: ${id}`);
    }
    this.#judgeAudit(audit, records);
  }

  /** All that the server holds, of a device whose browser threw its database away. */
  serverAlone({ records, audit }) {
    const live = new Set(records.map(({ id }) => id));
    this.#judgeGroups((id) => live.has(id), 'server');
    this.#judgeStrangers(new Map(records.map(({ id, fields }) => [id, fields])), 'server');
    this.#judgeAudit(audit, records);
  }

  #violated(code, what) {
    this.violations.push({ code, what });
  }

  #isBad(id) {
    return this.#lanes.get(id)?.writes.some(({ write }) => write.bad) ?? false;
  }

  /** What the writes of a lane may have made of it, as far as their promises say. */
  #statesOf({ id, writes, field }) {
    // The title of a shared record is its id, from before anybody counted.
    let states = [field ? { [field]: field === 'title' ? id : undefined } : null];
    for (const { write, op } of writes) {
      if (write.status === 'refused' || write.status === 'gone') continue;
      const own = field ? { ...op, value: { [field]: op.value[field] } } : op;
      const after = states.map((state) => apply(state, own));
      states = write.status === 'stored' ? after : [...states, ...after];
      states = [...new Map(states.map((state) => [canonical(state), state])).values()];
    }
    return states;
  }

  #judgeLanes(shown, own, at) {
    for (const lane of this.#lanes.values()) {
      if (own && lane.writes.some(({ write }) => write.letter !== own)) continue;
      if (this.#isBad(lane.id)) continue;
      const whole = shown.get(lane.id);
      if (lane.field && whole === undefined) {
        this.#violated('L1', `${at}: ${lane.id} is not there`);
        continue;
      }
      const seen = lane.field ? { [lane.field]: whole[lane.field] } : (whole ?? null);
      if (lane.field) this.#judgeLast(lane, whole, at);
      const states = this.#statesOf(lane);
      if (states.some((state) => canonical(state) === canonical(seen))) continue;
      const refused = lane.writes.find(({ write, op }) => ['refused', 'gone'].includes(write.status) && op.value && canonical({ ...seen, ...op.value }) === canonical(seen));
      const which = refused ? (refused.write.status === 'refused' ? 'L3' : 'L2') : 'L1';
      this.#violated(which, `${at}: ${lane.id} is ${short(canonical(seen))}, not ${states.map((state) => short(canonical(state))).join(' or ')}; written: ${lane.writes.slice(-4).map(({ write, op }) => `${write.session}.${write.k} ${op.op} ${write.status}`).join(', ')}`);
    }
  }

  /** A field of a shared record that all letters write: some write that was not refused, and not older than its writer's last on this record but one. */
  #judgeLast({ id }, whole, at) {
    if (whole.last === undefined) return;
    const writes = [...this.#lanes.values()].filter((lane) => lane.id === id).flatMap((lane) => lane.writes);
    const by = writes.find(({ op }) => op.value?.last === whole.last);
    if (!by) this.#violated('S1', `${at}: ${id} has a value that nobody wrote: ${whole.last}`);
    else if (by.write.status === 'refused') this.#violated('L3', `${at}: ${id} shows a refused write: ${whole.last}`);
    else if (by.write.status === 'gone') this.#violated('L2', `${at}: ${id} shows a write that was not there before: ${whole.last}`);
  }

  #judgeGroups(isThere, at) {
    for (const write of this.#writes.values()) {
      if (!write.group || write.bad) continue;
      const creates = write.ops.filter(({ op, id }) => op === 'create' && id.startsWith(`${write.session}.${write.k}.g`));
      const there = creates.filter(({ id }) => isThere(id)).length;
      if (there !== 0 && there !== creates.length) this.#violated('S5', `${at}: of the ${creates.length} records of a transaction ${there} are there: ${creates[0].id}`);
    }
  }

  /** What the server will refuse is shown until it has, and then waits for its author. */
  #judgeBad(shown, undecided, own, at) {
    for (const write of this.#writes.values()) {
      if (!write.bad || write.status !== 'stored' || (own && write.letter !== own)) continue;
      for (const { id } of write.ops) if (!shown.has(id) && !undecided.has(id)) this.#violated('L1', `${at}: neither shown nor waiting for its author: ${id}`);
    }
  }

  #judgeStrangers(shown, at) {
    for (const id of shown.keys()) {
      const known = this.#hots.includes(id) || this.#lanes.get(id)?.writes.some(({ write }) => !['refused', 'gone'].includes(write.status));
      if (known) continue;
      const written = this.#lanes.get(id)?.writes[0].write.status;
      this.#violated(written === 'refused' ? 'L3' : written === 'gone' ? 'L2' : 'S1', `${at}: ${id} is there and was ${written ?? 'never written'}`);
    }
  }

  /** L2: a record waits to be sent iff it is shown as such. */
  #judgeOutbox(rows, shown, undecided, at) {
    for (const { id, state } of rows) {
      const waits = (undecided.get(id) ?? []).some((entry) => entry.state !== 'parked');
      if (['pending', 'sending'].includes(state) && !waits) this.#violated('L2', `${at}: ${id} is shown as ${state} and is not in the outbox`);
    }
    for (const [id, entries] of undecided) {
      const last = entries.filter((entry) => entry.state !== 'parked').at(-1);
      if (last && (last.op === 'delete') === shown.has(id)) this.#violated('L2', `${at}: the outbox has a ${last.op} of ${id}, and the view ${shown.has(id) ? 'shows it' : 'does not show it'}`);
    }
  }

  /** L2, L4: what differs from the server and is not on its way never will be. */
  #judgeAgainst(shown, undecided, server, at) {
    const live = new Map(server.map((record) => [record.id, record.fields]));
    for (const id of new Set([...live.keys(), ...shown.keys()])) {
      const [here, there] = [shown, live].map((state) => canonical(state.get(id) ?? null));
      if (here !== there && !undecided.has(id)) this.#violated('L2', `${at}: ${id} is ${short(here)} here and ${short(there)} at the server, and nothing is on its way`);
    }
  }

  #fateOf(write, own, shown, waiting) {
    const { op, id, value } = own;
    if (write.bad) return shown.has(id) || waiting.has(id) ? 'stored' : 'gone';
    const lane = this.#laneOf(own);
    const seen = shown.get(id);
    const field = lane.field ?? 'title';
    if (op !== 'delete' && seen?.[field] !== undefined && seen[field] === value[field]) return 'stored';
    const index = lane.writes.findIndex((one) => one.write === write);
    const later = lane.writes.slice(index + 1).filter((one) => !['refused', 'gone'].includes(one.write.status));
    if (later.length > 0) return 'overwritten';
    if (op === 'delete') return seen === undefined ? (this.#statesOf(lane).every((state) => state === null) ? 'overwritten' : 'stored') : 'gone';
    return 'gone';
  }

  /** S1, S4: no number twice, per record in order, and no more effects than writes. */
  #judgeAudit(audit, records) {
    const decided = new Set();
    const last = new Map();
    const effects = new Map();
    for (const row of [...audit].sort((a, b) => (a.position ?? 0) - (b.position ?? 0))) {
      const mutation = `${row.client_id} ${row.seq}`;
      if (decided.has(mutation)) this.#violated('S1', `decided twice: ${mutation} of ${row.id}`);
      decided.add(mutation);
      if (!['applied', 'rejected'].includes(row.status)) this.#violated('L5', `one writer alone, and an outcome ${row.status} of ${row.id}`);
      if (row.status !== 'applied') continue;
      effects.set(row.id, (effects.get(row.id) ?? 0) + 1);
      const lane = `${row.client_id} ${row.id}`;
      if (row.seq <= last.get(lane)) this.#violated('S4', `out of order: ${row.seq} after ${last.get(lane)} of ${row.id}`);
      last.set(lane, row.seq);
    }
    const clients = new Set(audit.map((row) => row.client_id));
    if (clients.size > 1) this.#violated('S1', `one profile became ${clients.size} clients`);
    const written = new Map();
    for (const write of this.#writes.values()) {
      if (['refused', 'gone'].includes(write.status)) continue;
      for (const { id } of write.ops) written.set(id, (written.get(id) ?? 0) + 1);
    }
    for (const [id, times] of effects) {
      // The shared ones were made before anybody counted.
      const most = (written.get(id) ?? 0) + (this.#hots.includes(id) ? 1 : 0);
      if (times > most) this.#violated('S1', `${id} was changed ${times} times at the server, and written ${most} times`);
    }
    for (const { id, version } of records) {
      if (version > (effects.get(id) ?? 0)) this.#violated('S1', `${id} has version ${version} after ${effects.get(id) ?? 0} effects`);
    }
  }
}
