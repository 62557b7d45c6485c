/** `<landfall-diagnostics>`: the database in numbers, for whoever has to find out why something does not sync. No contents of records. */
import type { Landfall } from '../client.js';
import type { Inspection, SyncStatus, Unsubscribe } from '../types.js';
import { LandfallElement } from './base.js';
import { h, setText } from './dom.js';
import { exact } from './time.js';

export const diagnosticsTexts = {
  title: 'Diagnostics',
  refresh: 'Refresh',
  save: 'Save a report',
  reportName: 'landfall-report.json',
  reading: 'Reading…',
  connection: 'Connection',
  session: 'Session',
  phase: 'Doing',
  lastSync: 'Last sync',
  lastError: 'Last error',
  pending: 'Waiting changes',
  oldest: 'Oldest of them',
  needPerson: 'Need a person',
  storage: 'Storage',
  used: 'Used by this site',
  persisted: 'Kept by the browser',
  database: 'Database',
  client: 'This device',
  quarantined: 'Damaged rows set aside',
  collections: 'Collections on this device',
  collection: 'Collection',
  scope: 'Shared in',
  records: 'Records',
  position: 'Reaches',
  bytes: 'Size',
  loading: 'loading',
  none: 'none',
  yes: 'yes',
  no: 'no',
  unknown: 'unknown',
};
export type DiagnosticsTexts = typeof diagnosticsTexts;

/** `12.3 KB`. */
export function size(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  const units = ['KB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = -1;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** A report that holds more than the picture; engines without one give the picture alone. */
type Reports = { supportBundle?(): Promise<unknown> };

export class LandfallDiagnostics extends LandfallElement<DiagnosticsTexts> {
  readonly #heading = h('h2', { id: 'title' });
  readonly #facts = h('dl', { part: 'facts' });
  readonly #tableTitle = h('h3', { id: 'pairs' });
  readonly #table = h('table', { part: 'collections', 'aria-labelledby': 'pairs' });
  readonly #refresh = h('button', { type: 'button', part: 'refresh', onclick: () => void this.#read() });
  readonly #save = h('button', { type: 'button', part: 'save', onclick: () => void this.#saveReport() });
  readonly #error = h('p', { class: 'error', role: 'alert', part: 'error', hidden: true });
  #picture: Inspection | null = null;

  constructor() {
    super(diagnosticsTexts, style);
    this.root.append(h('section', { part: 'box', 'aria-labelledby': 'title' },
      h('div', { class: 'item-head' }, this.#heading, h('div', { class: 'actions' }, this.#refresh, this.#save)),
      this.#error, this.#facts, this.#tableTitle, h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-labelledby': 'pairs' }, this.#table)));
  }

  protected watch(db: Landfall): Unsubscribe[] {
    void this.#read();
    return [db.sync.on('status', this.changed)];
  }

  /** Its picture is taken when it is shown and when a person asks: taking one reads what is stored. */
  async #read(): Promise<void> {
    const db = this.db;
    if (!db) return;
    this.#error.hidden = true;
    try {
      this.#picture = await db.inspect();
    } catch (error) {
      this.#fail(error);
    }
    this.changed();
  }

  protected draw(db: Landfall | null): void {
    const words = this.words;
    setText(this.#heading, words.title);
    setText(this.#refresh, words.refresh);
    setText(this.#save, words.save);
    setText(this.#tableTitle, words.collections);
    const picture = this.#picture;
    const facts = db ? [...statusFacts(db.sync.status, words), ...(picture ? pictureFacts(picture, words) : [[words.database, words.reading] as const])] : [];
    this.#facts.replaceChildren(...facts.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))));
    const pairs = picture?.base.pairs ?? [];
    const head = [words.collection, words.scope, words.records, words.position, words.bytes].map((name, i) => h('th', { scope: 'col', class: i > 1 && 'number' }, name));
    this.#table.replaceChildren(
      h('thead', {}, h('tr', {}, head)),
      h('tbody', {}, pairs.map((pair) => h('tr', {},
        h('th', { scope: 'row' }, pair.collection), h('td', {}, pair.scope), h('td', { class: 'number' }, String(pair.records)),
        h('td', { class: 'number' }, pair.covered === null ? words.loading : String(pair.covered)), h('td', { class: 'number' }, size(pair.bytes))))));
  }

  async #saveReport(): Promise<void> {
    const db = this.db as (Landfall & Reports) | null;
    if (!db) return;
    try {
      const report = db.supportBundle ? await db.supportBundle() : { at: new Date().toISOString(), status: db.sync.status, inspection: await db.inspect() };
      const blob = report instanceof Blob ? report : new Blob([JSON.stringify(report, null, 2)], { type: 'application/json' });
      const url = URL.createObjectURL(blob);
      h('a', { href: url, download: this.words.reportName }).click();
      setTimeout(() => URL.revokeObjectURL(url));
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    setText(this.#error, error instanceof Error ? error.message : String(error));
    this.#error.hidden = false;
  }
}

type Fact = readonly [string, string];

function statusFacts(status: SyncStatus, words: DiagnosticsTexts): Fact[] {
  return [
    [words.connection, status.connectivity],
    [words.session, status.auth],
    [words.phase, status.phase],
    [words.lastSync, status.lastSync === null ? words.none : exact(status.lastSync)],
    [words.lastError, status.lastError === null ? words.none : `${status.lastError.code}: ${status.lastError.message}`],
    [words.pending, String(status.pending)],
    [words.needPerson, String(status.parked)],
    [words.storage, status.storage.message === null ? status.storage.state : `${status.storage.state}: ${status.storage.message}`],
    [words.persisted, status.storage.persisted === null ? words.unknown : status.storage.persisted ? words.yes : words.no],
  ];
}

function pictureFacts({ database, clientId, log, quarantined, storage }: Inspection, words: DiagnosticsTexts): Fact[] {
  return [
    [words.oldest, log.oldestPending === null ? words.none : exact(log.oldestPending)],
    [words.used, storage === null ? words.unknown : `${size(storage.usageBytes)} / ${size(storage.quotaBytes)}`],
    [words.quarantined, String(quarantined.length)],
    [words.database, database],
    [words.client, clientId],
  ];
}

const style = `
section { display: grid; gap: 0.75rem; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 0.5rem 1rem; }
dt { color: var(--_soft); font-size: 0.8125rem; }
dd { font-weight: 600; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: 0.875rem; }
th, td { padding: 0.375rem 0.5rem; border-bottom: 1px solid var(--_line); text-align: left; white-space: nowrap; }
thead th { color: var(--_soft); font-weight: 600; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
`;
