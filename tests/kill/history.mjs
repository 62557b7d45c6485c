// What a profile lived through, in the form of docs/histories.md, so that a checker that knows nothing of this harness judges it.

import { appendFileSync } from 'node:fs';

const [scope, collection, user] = ['user:ada', 'notes', 'ada'];
/** Longer texts are padding: their beginning and length say which one it is. */
const textLengthMost = 200;

const shortened = (value) => Object.fromEntries(Object.entries(value).map(([name, text]) => [name, text.length > textLengthMost ? `${text.slice(0, 60)} and so on, ${text.length}` : text]));

export class History {
  #file;
  #device;
  #count = 0;
  #opening = new Map();
  #open = new Map();
  #ids = new Set();
  /** The last write on each record. */
  #writers = new Map();
  /** Records whose refusal was told. */
  #told = new Set();

  constructor(file, { seed, device, ...more }) {
    this.#file = file;
    this.#device = device;
    // A title that the server refuses is empty in many writes. What the server did one by one, and its outcomes, are not asked for.
    this.#write({ form: 'landfall-history', form_version: 1, source: 'browser', seed, complete_server: false, drained: true, own_outcomes: false, common_values: [''], ...more });
  }

  /** A page is about to be opened. */
  opening(session) {
    this.#opening.set(session, ++this.#count);
  }

  opened(session) {
    this.#event('open', session, this.#opening.get(session), {});
  }

  began(session, k, { group, ops }) {
    for (const { id } of ops) this.#ids.add(id);
    const named = ops.map(({ op, id, value }) => ({ op, scope, collection, id, ...(value && { value: shortened(value) }) }));
    this.#open.set(`${session}.${k}`, { session, start: ++this.#count, more: { write: `${session}.${k}`, group: group ? `${session}.${k}` : null, ops: named } });
  }

  /** `dropped`: it was told, and never made. */
  ended(session, k, status) {
    const { start, more } = this.#open.get(`${session}.${k}`);
    this.#open.delete(`${session}.${k}`);
    if (status === 'dropped') return;
    for (const { id } of more.ops) this.#writers.set(id, { write: more.write, end: this.#count + 1 });
    this.#event('write', session, start, { ...more, status });
  }

  died(session) {
    for (const [key, write] of this.#open) {
      if (write.session !== session) continue;
      this.#open.delete(key);
      for (const { id } of write.more.ops) this.#writers.set(id, { write: write.more.write, end: this.#count + 1 });
      this.#event('write', session, write.start, { ...write.more, status: 'unknown' });
    }
    this.#event('fault', session, ++this.#count, { fault: 'killed' });
  }

  /** A page is asked what it shows; the function it gives takes the answer. */
  read(session) {
    const start = ++this.#count;
    return ({ rows, outbox }, atRest = false) => {
      const shown = new Map(rows.map((row) => [row.id, row]));
      for (const id of shown.keys()) this.#ids.add(id);
      const ops = [...this.#ids].map((id) => {
        const row = shown.get(id);
        return { op: 'read', scope, collection, id, found: row !== undefined, ...(row && { value: shortened(row.value) }), version: row?.version || null };
      });
      for (const entry of outbox) if (entry.state === 'parked') this.#refused(entry);
      const parked = outbox.filter(({ state }) => state === 'parked').map(({ record }) => `${scope}/${collection}/${record}`);
      this.#event('read', session, start, { epoch: null, at_rest: atRest, status: 'ok', ops, ...(atRest && { parked }) });
    };
  }

  /** The one outcome that an app sees without asking for it: what the server refused, and waits for its author. */
  #refused({ record, reason }) {
    if (this.#told.has(record)) return;
    this.#told.add(record);
    const { write, end } = this.#writers.get(record);
    this.#write({
      type: 'outcome', device: this.#device, writes: [write], start: end, end: ++this.#count, group: null, client: null, seq: null, epoch: null,
      ops: [{ scope, collection, id: record, version: null }], status: 'rejected', code: reason?.code ?? null, position: null,
    });
  }

  final(records, epoch) {
    const live = Object.fromEntries(records.map(({ id, version, fields }) => [id, { version, value: shortened(fields) }]));
    this.#write({ final: { [scope]: { [collection]: live } }, epoch });
  }

  #event(type, session, start, more) {
    this.#write({ type, session, device: this.#device, user, start, end: ++this.#count, ...more });
  }

  #write(line) {
    appendFileSync(this.#file, `${JSON.stringify(line)}\n`);
  }
}
