/** `<landfall-diagnostics>`: the database in numbers, for whoever has to find out why something does not sync. No contents of records. */
import type { Landfall } from '../client.js';
import type { Inspection, SyncMetrics, SyncStatus, SyncStep, Unsubscribe } from '../types.js';
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
  lost: 'Thrown away by the browser',
  database: 'Database',
  client: 'This device',
  successRate: 'Success rate',
  failureRate: 'Failure rate',
  averageTime: 'Average sync time',
  conflictRate: 'Conflict frequency',
  lastSuccess: 'Last success',
  history: 'The last syncs',
  noHistory: 'Nothing was synced yet.',
  time: 'When',
  step: 'What',
  result: 'How it ended',
  took: 'Took',
  counts: 'Sent, refused, conflicts, received',
  steps: { push: 'Sent', pull: 'Fetched' },
  results: { done: 'well', lost: 'no answer', unauthorized: 'not signed in', busy: 'asked to wait', faulty: 'server error', refused: 'refused', storage: 'storage error' },
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

const stepsShown = 20;

export class LandfallDiagnostics extends LandfallElement<DiagnosticsTexts> {
  readonly #heading = h('h2', { id: 'title' });
  readonly #facts = h('dl', { part: 'facts' });
  readonly #tableTitle = h('h3', { id: 'pairs' });
  readonly #table = h('table', { part: 'collections', 'aria-labelledby': 'pairs' });
  readonly #refresh = h('button', { type: 'button', part: 'refresh', onclick: () => void this.#read() });
  readonly #save = h('button', { type: 'button', part: 'save', onclick: () => void this.#saveReport() });
  readonly #error = h('p', { class: 'error', role: 'alert', part: 'error', hidden: true });
  readonly #stepsTitle = h('h3', { id: 'steps' });
  readonly #steps = h('table', { part: 'history', 'aria-labelledby': 'steps' });
  #picture: Picture | null = null;

  constructor() {
    super(diagnosticsTexts, style);
    this.root.append(h('section', { part: 'box', 'aria-labelledby': 'title' },
      h('div', { class: 'item-head' }, this.#heading, h('div', { class: 'actions' }, this.#refresh, this.#save)),
      this.#error, this.#facts,
      this.#stepsTitle, h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-labelledby': 'steps' }, this.#steps),
      this.#tableTitle, h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-labelledby': 'pairs' }, this.#table)));
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
      const [inspection, metrics, steps] = await Promise.all([db.inspect(), db.sync.metrics(), db.sync.history({ limit: stepsShown })]);
      this.#picture = { inspection, metrics, steps };
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
    this.#drawSteps(picture?.steps ?? []);
    this.#facts.replaceChildren(...facts.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))));
    const pairs = picture?.inspection.base.pairs ?? [];
    const head = [words.collection, words.scope, words.records, words.position, words.bytes].map((name, i) => h('th', { scope: 'col', class: i > 1 && 'number' }, name));
    this.#table.replaceChildren(
      h('thead', {}, h('tr', {}, head)),
      h('tbody', {}, pairs.map((pair) => h('tr', {},
        h('th', { scope: 'row' }, pair.collection), h('td', {}, pair.scope), h('td', { class: 'number' }, String(pair.records)),
        h('td', { class: 'number' }, pair.covered === null ? words.loading : String(pair.covered)), h('td', { class: 'number' }, size(pair.bytes))))));
  }

  #drawSteps(steps: readonly SyncStep[]): void {
    const words = this.words;
    setText(this.#stepsTitle, words.history);
    if (steps.length === 0) return void this.#steps.replaceChildren(h('tbody', {}, h('tr', {}, h('td', {}, words.noHistory))));
    const head = [words.time, words.step, words.result, words.took, words.counts].map((name, i) => h('th', { scope: 'col', class: i > 2 && 'number' }, name));
    this.#steps.replaceChildren(
      h('thead', {}, h('tr', {}, head)),
      h('tbody', {}, steps.map(({ at, step, result, ms, applied, rejected, conflicts, pulled, code }) => h('tr', { 'data-result': result },
        h('td', {}, exact(at)), h('th', { scope: 'row' }, words.steps[step]), h('td', {}, words.results[result], code !== null && ` (${code})`),
        h('td', { class: 'number' }, `${Math.round(ms)} ms`), h('td', { class: 'number' }, `${applied} · ${rejected} · ${conflicts} · ${pulled}`)))));
  }

  async #saveReport(): Promise<void> {
    const db = this.db;
    if (!db) return;
    try {
      const url = URL.createObjectURL(await db.supportBundle());
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

interface Picture {
  readonly inspection: Inspection;
  readonly metrics: SyncMetrics;
  readonly steps: readonly SyncStep[];
}

type Fact = readonly [string, string];
const percent = (rate: number): string => `${(100 * rate).toFixed(rate === 0 || rate === 1 ? 0 : 1)} %`;

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
    [words.lost, status.storage.lost === null ? words.none : `${exact(status.storage.lost.at)}: ${status.storage.lost.count}`],
  ];
}

function pictureFacts({ inspection: { database, clientId, log, quarantined, storage }, metrics }: Picture, words: DiagnosticsTexts): Fact[] {
  return [
    [words.successRate, percent(metrics.successRate)],
    [words.failureRate, percent(metrics.failureRate)],
    [words.averageTime, `${Math.round(metrics.averageMs)} ms`],
    [words.conflictRate, percent(metrics.conflictRate)],
    [words.lastSuccess, metrics.lastSuccess === null ? words.none : exact(metrics.lastSuccess)],
    [words.oldest, log.oldestPending === null ? words.none : exact(log.oldestPending)],
    [words.used, storage === null ? words.unknown : `${size(storage.usageBytes)} / ${size(storage.quotaBytes)}`],
    [words.quarantined, String(quarantined.length)],
    [words.database, database],
    [words.client, clientId],
  ];
}

const style = `
section { display: grid; gap: 0.75rem; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(9rem, 45%), 1fr)); gap: 0.5rem 1rem; }
dt { color: var(--_soft); font-size: 0.8125rem; }
dd { font-weight: 600; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-size: 0.875rem; }
th, td { padding: 0.375rem 0.5rem; border-bottom: 1px solid var(--_line); text-align: left; white-space: nowrap; }
thead th { color: var(--_soft); font-weight: 600; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
`;
