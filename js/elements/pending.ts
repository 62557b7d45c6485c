/**
 * `<landfall-pending>`: what has not reached the server, and what it refused, with a way on for each.
 *
 * Editing needs a form that only the app has: the button is there when the element has the attribute `editable`, and
 * sends the event `landfall-edit` with the entry. Discarding asks first. With `hide-conflicts`, what waits for a choice is left
 * to `<landfall-conflicts>`.
 */
import type { Landfall } from '../client.js';
import type { OutboxEntry, Unsubscribe } from '../types.js';
import { followLists, LandfallElement } from './base.js';
import { h, icon, reconcile, setText } from './dom.js';
import { waitsForChoice } from './three-way.js';
import { exact, relative } from './time.js';

export const pendingTexts = {
  title: 'Waiting changes',
  count: (n: number): string => (n === 0 ? 'Nothing waits: everything is on the server.' : n === 1 ? '1 change is kept on this device.' : `${n} changes are kept on this device.`),
  more: (n: number): string => `and ${n} more`,
  pending: 'Waiting to sync',
  sending: 'Syncing',
  parked: 'Refused',
  conflict: 'Conflict',
  failed: 'Failed permanently',
  attempts: (n: number): string => (n === 1 ? '1 attempt' : `${n} attempts`),
  retry: 'Try again',
  retryAll: 'Try all again',
  edit: 'Edit & retry',
  takeServer: 'Keep the server’s',
  discard: 'Discard',
  discardQuestion: 'Discard this change? It never reached the server and cannot be brought back.',
  discardYes: 'Yes, discard it',
  discardNo: 'No, keep it',
  operation: { create: 'New', update: 'Changed', delete: 'Deleted' },
  failedBecause: 'It could not be sent. It is kept on this device.',
};
export type PendingTexts = typeof pendingTexts;

const shownMost = 50;

/** The words of a refusal by field; without a field where the server named none. Pure. */
export function reasonsOf({ reason, state }: OutboxEntry, words: PendingTexts): readonly { readonly field: string | null; readonly message: string }[] {
  const fields = reason?.fields;
  if (fields !== null && typeof fields === 'object' && Object.keys(fields).length > 0) {
    if (Array.isArray(fields)) return fields.map((one) => reasonOfList(one));
    return Object.entries(fields).map(([field, message]) => ({ field, message: String(message) }));
  }
  const message = reason?.message || reason?.code;
  return message ? [{ field: null, message }] : state === 'failed' ? [{ field: null, message: words.failedBecause }] : [];
}

function reasonOfList(one: unknown): { field: string | null; message: string } {
  const { field, message } = (one ?? {}) as { field?: string; message?: string };
  return { field: field ?? null, message: message ?? String(one) };
}

export class LandfallPending extends LandfallElement<PendingTexts> {
  readonly #heading = h('h2', { id: 'title' });
  readonly #count = h('p', { class: 'soft', part: 'count', role: 'status' });
  readonly #list = h('div', { class: 'list', part: 'list' });
  readonly #more = h('p', { class: 'soft', part: 'more', hidden: true });
  readonly #error = h('p', { class: 'error', role: 'alert', part: 'error', hidden: true });
  readonly #retryAll = h('button', { type: 'button', part: 'retry-all', hidden: true, onclick: () => void this.#all() });
  #entries: readonly OutboxEntry[] = [];
  #describe: ((entry: OutboxEntry) => string) | undefined;
  #fieldName: ((field: string, collection: string) => string) | undefined;

  constructor() {
    super(pendingTexts, style);
    this.root.append(h('section', { part: 'box', 'aria-labelledby': 'title' }, h('div', { class: 'item-head' }, this.#heading, this.#retryAll), this.#count, this.#error, this.#list, this.#more));
  }

  /** Says what an entry is about. Without it: the operation, the collection and the record's id. */
  get describe(): ((entry: OutboxEntry) => string) | undefined {
    return this.#describe;
  }
  set describe(describe: ((entry: OutboxEntry) => string) | undefined) {
    this.#describe = describe;
    this.#redraw();
  }

  /** What a field is called on the page. */
  get fieldName(): ((field: string, collection: string) => string) | undefined {
    return this.#fieldName;
  }
  set fieldName(name: ((field: string, collection: string) => string) | undefined) {
    this.#fieldName = name;
    this.#redraw();
  }

  #redraw(): void {
    this.#list.replaceChildren();
    this.changed();
  }

  protected watch(db: Landfall): Unsubscribe[] {
    return followLists(db, async () => {
      this.#entries = await db.outbox.list();
      this.changed();
    });
  }

  protected draw(db: Landfall | null): void {
    // What is on its way when the network goes waits like the rest.
    const offline = db?.sync.status.connectivity === 'offline';
    // Beside a list of conflicts, what waits for a choice is said there.
    const shown = this.hasAttribute('hide-conflicts') ? this.#entries.filter((entry) => !waitsForChoice(entry)) : this.#entries;
    const entries = (db ? shown : []).map((entry): OutboxEntry => (offline && entry.state === 'sending' ? { ...entry, state: 'pending' } : entry));
    const words = this.words;
    const stuck = entries.filter(({ state }) => state === 'failed');
    setText(this.#heading, words.title);
    setText(this.#count, words.count(entries.length));
    setText(this.#retryAll, words.retryAll);
    this.#retryAll.hidden = stuck.length < 2;
    this.hidden = this.hasAttribute('hide-empty') && entries.length === 0;
    this.dataset['count'] = String(entries.length);
    reconcile(this.#list, entries.slice(0, shownMost), ({ id }) => String(id), (entry) => this.#item(entry));
    this.#more.hidden = entries.length <= shownMost;
    setText(this.#more, words.more(entries.length - shownMost));
  }

  #item(entry: OutboxEntry): HTMLElement {
    const words = this.words;
    const choice = waitsForChoice(entry);
    const [tone, label] = choice ? ['bad', words.conflict] : ({ pending: ['wait', words.pending], sending: ['busy', words.sending], parked: ['bad', words.parked], failed: ['bad', words.failed] } as const)[entry.state];
    const title = this.#describe?.(entry) ?? `${words.operation[entry.op]}: ${entry.collection} ${entry.record}`;
    const needsPerson = entry.state === 'parked' || entry.state === 'failed';
    const reasons = needsPerson && !choice ? reasonsOf(entry, words) : [];
    const at = entry.createdAt;
    return h('article', { class: 'item', part: 'item', tabindex: '-1', 'data-state': entry.state, 'data-record': entry.record, 'data-code': entry.reason?.code },
      h('div', { class: 'item-head' }, h('h3', {}, title), h('span', { class: `tag ${tone}`, part: 'state' }, label)),
      h('p', { class: 'soft' },
        at !== undefined && h('time', { datetime: new Date(at).toISOString(), title: exact(at) }, relative(at, Date.now())),
        entry.attempts > 0 && ` · ${words.attempts(entry.attempts)}`),
      reasons.map(({ field, message }) => h('p', { class: 'reason', part: 'reason' }, field && h('strong', {}, `${this.#fieldName?.(field, entry.collection) ?? field}: `), message)),
      needsPerson && !choice && this.#actions(entry));
  }

  #actions(entry: OutboxEntry): HTMLElement {
    const words = this.words;
    const { outbox } = this.db as Landfall;
    const editable = this.hasAttribute('editable') && entry.op !== 'delete' && !entry.group;
    const row = h('div', { class: 'actions' },
      editable && h('button', { type: 'button', class: 'primary', part: 'edit', onclick: () => this.tell('landfall-edit', entry) }, words.edit),
      h('button', { type: 'button', part: 'retry', onclick: () => void this.#attempt(() => outbox.retry(entry.id)) }, words.retry),
      // Of a record that the server has, to discard is to keep the server's.
      h('button', { type: 'button', class: 'danger', part: 'discard', onclick: () => ask() }, icon('warning'), entry.op === 'create' ? words.discard : words.takeServer));
    const question = h('div', { class: 'question', role: 'group', 'aria-label': words.discard, part: 'question', hidden: true },
      h('p', {}, words.discardQuestion),
      h('div', { class: 'actions' },
        h('button', { type: 'button', class: 'danger', part: 'discard-yes', onclick: () => void this.#attempt(() => outbox.discard(entry.id)) }, words.discardYes),
        h('button', { type: 'button', part: 'discard-no', onclick: () => ask(false) }, words.discardNo)));
    const ask = (open = true): void => {
      question.hidden = !open;
      row.hidden = open;
      (open ? question : row).querySelector<HTMLElement>(open ? '[part="discard-no"]' : '[part="discard"]')?.focus();
    };
    return h('div', {}, row, question);
  }

  async #all(): Promise<void> {
    const { outbox } = this.db as Landfall;
    await this.#attempt(() => outbox.retryAll());
  }

  async #attempt(work: () => Promise<unknown>): Promise<void> {
    this.#error.hidden = true;
    try {
      await work();
    } catch (error) {
      setText(this.#error, error instanceof Error ? error.message : String(error));
      this.#error.hidden = false;
    }
  }
}

const style = `
section { display: grid; gap: 0.25rem; }
.reason { padding: 0.375rem 0.75rem; border-left: 3px solid var(--_bad); border-radius: 0 0.5rem 0.5rem 0; background: var(--_bad-wash); color: var(--_text); font-size: 0.9375rem; }
.question { display: grid; gap: 0.5rem; padding: 0.75rem; border-radius: var(--_radius); background: var(--_bad-wash); }
`;
