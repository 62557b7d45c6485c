/**
 * `<landfall-conflicts>`: records that somebody else changed first. A list with decisions for one and for all, and a
 * dialog that puts what it was, mine and theirs side by side, field by field.
 */
import type { Landfall } from '../client.js';
import type { Json } from '../errors.js';
import type { Resolution, Unsubscribe } from '../types.js';
import { followLists, LandfallElement } from './base.js';
import { h, icon, reconcile, setText } from './dom.js';
import { differences, openConflicts, picked, type Difference, type OpenConflict } from './three-way.js';
import { exact, short } from './time.js';

export const conflictTexts = {
  title: 'Changed by someone else',
  count: (n: number): string => (n === 1 ? '1 conflict' : `${n} conflicts`),
  none: 'No conflicts.',
  lost: 'Someone changed this first, so the server’s value was kept.',
  waiting: 'Someone changed this first. Nothing of yours is lost: please choose.',
  inReview: 'Someone changed this first. A reviewer decides; the server’s value stands meanwhile.',
  overruled: 'Someone who had not seen it replaced what you entered. Yours is kept here.',
  reviewed: 'This was reviewed, and another value stands. Yours is kept here.',
  deletedThere: 'Someone deleted this first. What you entered is kept here.',
  deletedHere: 'You deleted this, and someone else changed it.',
  review: 'Compare',
  seen: 'OK',
  keepLocal: 'Keep mine',
  keepServer: 'Keep theirs',
  allLocal: 'Keep all mine',
  allServer: 'Keep all theirs',
  dialogTitle: (what: string): string => `Compare: ${what}`,
  field: 'Field',
  base: 'Before',
  local: 'Mine',
  server: 'Theirs',
  empty: '—',
  saveMerged: 'Save the marked values',
  cancel: 'Cancel',
  clash: 'both changed it',
  together: (n: number): string => `Written together with ${n === 1 ? 'one other change' : `${n} other changes`}: one decision is for all.`,
};
export type ConflictTexts = typeof conflictTexts;

const shownMost = 50;

export class LandfallConflicts extends LandfallElement<ConflictTexts> {
  readonly #heading = h('h2', { id: 'title' });
  readonly #count = h('span', { class: 'tag bad', part: 'count' });
  readonly #list = h('div', { class: 'list', part: 'list' });
  readonly #none = h('p', { class: 'soft', part: 'none' });
  readonly #error = h('p', { class: 'error', role: 'alert', part: 'error', hidden: true });
  readonly #allLocal = h('button', { type: 'button', part: 'all-local', onclick: () => void this.#all('local') });
  readonly #allServer = h('button', { type: 'button', part: 'all-server', onclick: () => void this.#all('server') });
  readonly #batch = h('div', { class: 'actions', part: 'batch', hidden: true }, this.#allServer, this.#allLocal);
  readonly #dialog = h('dialog', { part: 'dialog', 'aria-labelledby': 'dialog-title' });
  #conflicts: readonly OpenConflict[] = [];
  #describe: ((conflict: OpenConflict) => string) | undefined;
  #format: ((value: Json | undefined, field: string, conflict: OpenConflict) => string) | undefined;
  #fieldName: ((field: string, collection: string) => string) | undefined;

  constructor() {
    super(conflictTexts, style);
    this.root.append(
      h('section', { part: 'box', 'aria-labelledby': 'title' },
        h('div', { class: 'item-head' }, h('div', { class: 'head' }, icon('people'), this.#heading, this.#count), this.#batch),
        this.#none, this.#error, this.#list),
      this.#dialog);
  }

  /** Says what a conflict is about. */
  get describe(): ((conflict: OpenConflict) => string) | undefined {
    return this.#describe;
  }
  set describe(describe: ((conflict: OpenConflict) => string) | undefined) {
    this.#describe = describe;
    this.#redraw();
  }

  /** How a value reads; JSON where it is left out. */
  get format(): ((value: Json | undefined, field: string, conflict: OpenConflict) => string) | undefined {
    return this.#format;
  }
  set format(format: ((value: Json | undefined, field: string, conflict: OpenConflict) => string) | undefined) {
    this.#format = format;
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
      const [lost, outbox] = await Promise.all([db.conflicts.list(), db.outbox.list()]);
      this.#conflicts = openConflicts(lost, outbox);
      this.changed();
    });
  }

  protected draw(db: Landfall | null): void {
    const conflicts = db ? this.#conflicts : [];
    const words = this.words;
    setText(this.#heading, words.title);
    setText(this.#count, words.count(conflicts.length));
    setText(this.#none, words.none);
    setText(this.#allLocal, words.allLocal);
    setText(this.#allServer, words.allServer);
    this.#count.hidden = conflicts.length === 0;
    this.#none.hidden = conflicts.length > 0;
    this.#batch.hidden = conflicts.filter(({ review }) => !review).length < 2;
    this.hidden = this.hasAttribute('hide-empty') && conflicts.length === 0;
    this.dataset['count'] = String(conflicts.length);
    reconcile(this.#list, conflicts.slice(0, shownMost), nameOf, (conflict) => this.#item(conflict));
  }

  #item(conflict: OpenConflict): HTMLElement {
    const words = this.words;
    const found = differences(conflict);
    const side = (which: 'local' | 'server', one: Difference): HTMLElement =>
      h('span', { class: 'side' }, h('span', { class: 'column soft' }, words[which]), ' ', h('span', { part: which }, this.#text(one[which], one, conflict)));
    // What only somebody else changed is no question; the view side by side shows it, too.
    const mine = found.filter(({ clash, suggested }) => clash || suggested === 'local');
    const together = conflict.group === undefined ? 0 : this.#conflicts.filter(({ group }) => group === conflict.group).length - 1;
    const why = conflict.review ? words.inReview : conflict.undone ? words[conflict.undone] : conflict.server === null ? words.deletedThere : conflict.op === 'delete' ? words.deletedHere : conflict.waiting ? words.waiting : words.lost;
    return h('article', { class: 'item', part: 'item', tabindex: '-1', 'data-record': conflict.record },
      h('h3', {}, this.#title(conflict)),
      h('p', { class: 'soft' }, `${why} `, conflict.at !== null && h('time', { datetime: new Date(conflict.at).toISOString(), title: exact(conflict.at) }, short(conflict.at))),
      together > 0 && h('p', { class: 'soft', part: 'together' }, words.together(together)),
      mine.length > 0 && h('ul', { class: 'values' }, mine.map((one) => h('li', {},
        h('span', { class: 'soft name' }, this.#name(one, conflict)), side('local', one), side('server', one)))),
      // The reviewer has its values: here it is only told.
      conflict.review && h('div', { class: 'actions' }, h('button', { type: 'button', part: 'seen', onclick: () => void this.#decide(conflict, 'server') }, words.seen)),
      !conflict.review && h('div', { class: 'actions' },
        h('button', { type: 'button', class: 'primary', part: 'keep-server', onclick: () => void this.#decide(conflict, 'server') }, words.keepServer),
        h('button', { type: 'button', part: 'keep-local', onclick: () => void this.#decide(conflict, 'local') }, words.keepLocal),
        found.length > 0 && h('button', { type: 'button', part: 'review', onclick: () => this.#open(conflict, found) }, words.review)));
  }

  /** The three-way view. What is marked at first is what a careful person would take. */
  #open(conflict: OpenConflict, found: readonly Difference[]): void {
    const words = this.words;
    const picks = new Map<string, 'local' | 'server'>();
    const radio = (one: Difference, side: 'local' | 'server'): HTMLElement => {
      const label = side === 'local' ? words.local : words.server;
      const input = h('input', { type: 'radio', name: `pick-${one.field}`, value: side, checked: one.suggested === side, part: `pick-${side}`, onchange: () => void picks.set(one.field, side) });
      return h('label', { class: 'pick' }, input, h('span', {}, h('span', { class: 'column soft' }, label), h('span', { class: 'value' }, this.#text(one[side], one, conflict))));
    };
    const rows = found.map((one) => h('fieldset', { class: 'row', 'data-field': one.field },
      h('legend', {}, this.#name(one, conflict), one.clash && conflict.base !== null && h('span', { class: 'tag wait' }, words.clash)),
      conflict.base !== null && h('div', { class: 'pick was' }, h('span', {}, h('span', { class: 'column soft' }, words.base), h('span', { class: 'value' }, this.#text(one.base, one, conflict)))),
      radio(one, 'local'), radio(one, 'server')));
    const decide = (choice: Resolution): void => {
      this.#dialog.close();
      void this.#decide(conflict, choice);
    };
    this.#dialog.replaceChildren(
      h('h2', { id: 'dialog-title' }, words.dialogTitle(this.#title(conflict))),
      h('div', { class: 'rows' }, rows),
      h('div', { class: 'actions' },
        h('button', { type: 'button', class: 'primary', part: 'save-merged', onclick: () => decide(picked(found, picks)) }, words.saveMerged),
        h('button', { type: 'button', part: 'cancel', onclick: () => this.#dialog.close() }, words.cancel)));
    this.#dialog.showModal();
  }

  #title(conflict: OpenConflict): string {
    return this.#describe?.(conflict) ?? `${conflict.collection} ${conflict.record}`;
  }
  #name({ field }: Difference, { collection }: OpenConflict): string {
    return this.#fieldName?.(field, collection) ?? field;
  }
  #text(value: Json | undefined, { field }: Difference, conflict: OpenConflict): string {
    if (this.#format) return this.#format(value, field, conflict) || this.words.empty;
    return value === undefined || value === null || value === '' ? this.words.empty : typeof value === 'string' ? value : JSON.stringify(value);
  }

  async #decide(conflict: OpenConflict, choice: Resolution): Promise<void> {
    const db = this.db;
    if (!db) return;
    this.#error.hidden = true;
    try {
      await db.conflicts.resolve(conflict.id, choice);
      // By name: the list may have been read anew meanwhile.
      const ended = (other: OpenConflict): boolean => nameOf(other) === nameOf(conflict) || (conflict.group !== undefined && other.group === conflict.group);
      this.#conflicts = this.#conflicts.filter((other) => !ended(other));
      this.changed();
      this.tell('landfall-resolved', { conflict, choice });
    } catch (error) {
      setText(this.#error, error instanceof Error ? error.message : String(error));
      this.#error.hidden = false;
    }
  }

  async #all(choice: 'local' | 'server'): Promise<void> {
    const groups = new Set<string>();
    for (const conflict of this.#conflicts.filter(({ review }) => !review)) {
      if (conflict.group !== undefined && groups.has(conflict.group)) continue;
      if (conflict.group !== undefined) groups.add(conflict.group);
      await this.#decide(conflict, choice);
    }
  }
}

/** Numbers start anew in a new database of the same person; with the time they do not meet. */
const nameOf = ({ id, collection, record, at }: OpenConflict): string => `${collection}/${record}/${id}@${at}`;

const style = `
section { display: grid; gap: 0.5rem; }
section > .item-head { row-gap: 0.5rem; }
.head { display: flex; flex-wrap: wrap; align-items: center; gap: 0.5rem; }
.values { display: grid; gap: 0.5rem; font-size: 0.9375rem; overflow-wrap: anywhere; }
.values li { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0.25rem 0.5rem; }
.name { grid-column: 1 / -1; }
.side { padding: 0.375rem 0.625rem; border-radius: 0.5rem; background: var(--_sunken); }
.item .actions button, [part~="batch"] button { flex: 1 1 auto; max-width: 11rem; padding-inline: 0.375rem; font-size: 0.875rem; }
.item .actions { gap: 0.375rem; }
[part~="batch"] { flex: 1 1 auto; }
[part~="local"], [part~="server"], .value { font-weight: 600; }
dialog { width: min(44rem, calc(100vw - 1.5rem)); max-height: calc(100dvh - 1.5rem); padding: 1.25rem; overflow: auto; border: 1px solid var(--_line); border-radius: var(--landfall-radius-large, 1.25rem); background: var(--_surface); color: var(--_text); }
dialog::backdrop { background: rgb(5 20 22 / 55%); }
dialog h2 { margin-bottom: 0.75rem; }
.rows { display: grid; gap: 0.75rem; margin-bottom: 1rem; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: 0.5rem; margin: 0; padding: 0.75rem; border: 1px solid var(--_line); border-radius: var(--_radius); }
.row legend { display: flex; flex-wrap: wrap; gap: 0.5rem; padding: 0 0.375rem; font-weight: 650; }
.pick { display: flex; align-items: flex-start; gap: 0.5rem; min-height: var(--_touch); padding: 0.5rem 0.625rem; border: 1px solid var(--_line); border-radius: 0.5rem; cursor: pointer; overflow-wrap: anywhere; }
.pick:has(:checked) { border-color: var(--_accent); background: var(--_accent-wash); }
.pick input { flex: none; width: 1.25rem; height: 1.25rem; margin: 0.125rem 0 0; accent-color: var(--_accent); }
.was { border-style: dashed; cursor: default; }
.column { display: block; }
.value { display: block; min-width: 0; }
@media (max-width: 34rem) { .row { grid-template-columns: 1fr; } }
`;
