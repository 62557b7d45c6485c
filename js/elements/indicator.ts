/** `<landfall-indicator>`: the connection, what waits, the last sync, and Sync now with its progress and result. */
import type { Landfall } from '../client.js';
import type { SyncProgress, SyncResult, SyncStatus, Unsubscribe } from '../types.js';
import { LandfallElement } from './base.js';
import { h, icon, setText, type IconName } from './dom.js';
import { exact, relative } from './time.js';

const many = (n: number, one: string): string => `${n} ${one}${n === 1 ? '' : 's'}`;

export const indicatorTexts = {
  title: 'Sync',
  allSynced: 'All synced',
  offline: 'You are offline',
  signIn: 'Sign in to sync',
  loading: 'Loading your records…',
  syncing: 'Syncing…',
  waiting: 'Waiting to sync',
  never: 'Not synced yet',
  attention: (n: number): string => (n === 1 ? '1 needs attention' : `${n} need attention`),
  pending: (n: number): string => (n === 0 ? 'Nothing waiting' : `${many(n, 'change')} waiting`),
  lastSync: (ago: string | null): string => (ago === null ? 'Never synced' : `Synced ${ago}`),
  offlineMessage: "You are offline. Your changes have been saved and will be synced when you're back online.",
  limitedMessage: 'The connection is slow or unreliable. Your changes are saved and sent as it allows.',
  syncNow: 'Sync now',
  progressLabel: 'Sync progress',
  sent: (n: number, total: number): string => `Sent ${n} of ${total}`,
  received: (n: number): string => `Received ${n}`,
  upToDate: 'Everything was up to date.',
  done: ({ pushed, pulled, rejected, pending }: SyncResult): string =>
    `Done: ${[`Sent ${pushed}`, `received ${pulled}`, rejected > 0 && `${rejected} refused`, pending > 0 && `${pending} still waiting`].filter(Boolean).join(', ')}.`,
  unreachable: 'The server cannot be reached. Your changes have been saved and will be sent by themselves.',
  timeout: 'The server took too long. Your changes have been saved and will be sent by themselves.',
  rateLimited: 'The server asked for a pause. Syncing goes on by itself.',
  authRequired: 'Please sign in again to sync. Your changes have been saved.',
  stopped: (why: string): string => `Sync stopped (${why}). Your changes have been saved and it will be tried again.`,
};
export type IndicatorTexts = typeof indicatorTexts;

export type Tone = 'ok' | 'wait' | 'busy' | 'bad';

/** What a status comes to in one line. Pure. */
export function describeStatus(status: SyncStatus, busy: boolean, words: IndicatorTexts): { readonly tone: Tone; readonly symbol: IconName; readonly text: string } {
  if (status.auth === 'auth_required') return { tone: 'bad', symbol: 'key', text: words.signIn };
  if (status.connectivity === 'offline') return { tone: 'wait', symbol: 'offline', text: words.offline };
  if (busy) return { tone: 'busy', symbol: 'sync', text: status.phase === 'pulling' && status.cold ? words.loading : words.syncing };
  if (status.parked > 0) return { tone: 'bad', symbol: 'warning', text: words.attention(status.parked) };
  if (status.pending > 0) return { tone: 'wait', symbol: 'clock', text: words.waiting };
  if (status.lastSync === null) return { tone: 'wait', symbol: 'clock', text: words.never };
  return { tone: 'ok', symbol: 'cloud', text: words.allSynced };
}

/** What a run came to, in words. Pure. */
export function resultText(result: SyncResult, offline: boolean, words: IndicatorTexts): string {
  if (result.error !== null) return errorText(result.error, '', offline, words);
  return result.pushed + result.pulled + result.rejected + result.pending === 0 ? words.upToDate : words.done(result);
}

export function errorText(code: string, message: string, offline: boolean, words: IndicatorTexts): string {
  if (code === 'network' || code === 'offline') return offline ? words.offlineMessage : words.unreachable;
  if (code === 'timeout') return words.timeout;
  if (code === 'rate_limited') return words.rateLimited;
  if (code === 'auth_required' || code === 'wrong_user') return words.authRequired;
  return words.stopped(message || code);
}

/** Shorter exchanges with the server are not worth a flicker. */
const busyDelayMs = 400;
const tickMs = 15_000;

export class LandfallIndicator extends LandfallElement<IndicatorTexts> {
  readonly #badge = h('span', { class: 'badge', part: 'badge' });
  readonly #title = h('p', { class: 'title', part: 'status' });
  readonly #pending = h('span', { part: 'pending' });
  readonly #last = h('time', { part: 'last-sync' });
  readonly #message = h('div', { role: 'status', part: 'message-region' });
  readonly #button = h('button', { type: 'button', part: 'sync-now', onclick: () => void this.#syncNow() });
  readonly #bar = h('progress', { part: 'progress', hidden: true });
  readonly #result = h('p', { class: 'soft', role: 'status', part: 'result', hidden: true });
  readonly #heading = h('h2', { class: 'unseen', id: 'title' });
  readonly #box = h('section', { class: 'box', part: 'box', 'aria-labelledby': 'title' },
    this.#heading,
    h('div', { class: 'head' }, this.#badge, h('div', { class: 'words' }, this.#title, h('p', { class: 'soft facts' }, this.#pending, this.#last)), this.#button),
    this.#message, this.#bar, this.#result);
  #running = false;
  #busySince: number | null = null;
  #resultSituation = '';
  #symbol = '';

  constructor() {
    super(indicatorTexts, style);
    this.root.append(this.#box);
  }

  protected watch(db: Landfall): Unsubscribe[] {
    const ticker = setInterval(this.changed, tickMs);
    return [db.sync.on('status', this.changed), () => clearInterval(ticker)];
  }

  protected draw(db: Landfall | null): void {
    this.#box.hidden = db === null;
    if (!db) return;
    const [status, words] = [db.sync.status, this.words];
    const { tone, symbol, text } = describeStatus(status, this.#running || this.#longBusy(status), words);
    this.#box.dataset['tone'] = tone;
    this.dataset['connectivity'] = status.connectivity;
    if (this.#symbol !== symbol) this.#badge.replaceChildren(icon(symbol, symbol === 'sync'));
    this.#symbol = symbol;
    setText(this.#heading, words.title);
    if (!this.#running) setText(this.#title, text);
    setText(this.#pending, words.pending(status.pending));
    setText(this.#last, words.lastSync(status.lastSync === null ? null : relative(status.lastSync, Date.now())));
    if (status.lastSync !== null) {
      this.#last.dateTime = new Date(status.lastSync).toISOString();
      this.#last.title = exact(status.lastSync);
    }
    setText(this.#button, this.#running ? words.syncing : words.syncNow);
    this.#button.hidden = this.hasAttribute('no-button');
    this.#bar.setAttribute('aria-label', words.progressLabel);
    if (this.#resultSituation !== situation(status)) this.#result.hidden = true;
    this.#drawMessage(status.connectivity, words);
  }

  #drawMessage(connectivity: SyncStatus['connectivity'], words: IndicatorTexts): void {
    const text = connectivity === 'offline' ? words.offlineMessage : connectivity === 'limited' ? words.limitedMessage : '';
    if (this.#message.textContent === text) return;
    this.#message.replaceChildren(...(text ? [h('p', { class: 'note', part: `${connectivity}-message` }, text)] : []));
  }

  #longBusy({ phase }: SyncStatus): boolean {
    if (phase !== 'pushing' && phase !== 'pulling') {
      this.#busySince = null;
      return false;
    }
    if (this.#busySince === null) {
      this.#busySince = Date.now();
      setTimeout(this.changed, busyDelayMs);
    }
    return Date.now() - this.#busySince >= busyDelayMs;
  }

  async #syncNow(): Promise<void> {
    const db = this.db;
    if (this.#running || !db) return;
    this.#running = true;
    const total = db.sync.status.pending;
    const sofar = { sent: 0, received: 0 };
    this.#button.setAttribute('aria-disabled', 'true');
    this.#result.hidden = true;
    this.#bar.hidden = false;
    this.#bar.removeAttribute('value');
    setText(this.#title, this.words.syncing);
    this.changed();
    try {
      const result = await db.sync.now({ onProgress: (step) => this.#showProgress(sofar, total, step) });
      this.#showResult(db, resultText(result, isOffline(db), this.words));
      this.tell('landfall-synced', result);
    } catch (error) {
      const { code = '', message = '' } = error as { code?: string; message?: string };
      this.#showResult(db, errorText(code, message, isOffline(db), this.words));
    } finally {
      this.#running = false;
      this.#bar.hidden = true;
      this.#button.removeAttribute('aria-disabled');
      this.changed();
    }
  }

  /** One step of the run: a push tells of what it settled, a pull of a page. */
  #showProgress(sofar: { sent: number; received: number }, total: number, { phase, done }: SyncProgress): void {
    if (phase === 'push') sofar.sent += done;
    else sofar.received += done;
    const { sent, received } = sofar;
    if (total > 0 && sent < total) {
      this.#bar.max = total;
      this.#bar.value = sent;
    } else this.#bar.removeAttribute('value');
    setText(this.#title, total > 0 ? this.words.sent(Math.min(sent, total), total) : received > 0 ? this.words.received(received) : this.words.syncing);
  }

  #showResult(db: Landfall, text: string): void {
    this.#resultSituation = situation(db.sync.status);
    setText(this.#result, text);
    this.#result.hidden = false;
  }
}

/** What a result was said about: once this differs, the result is taken away. */
const situation = ({ connectivity, auth }: SyncStatus): string => `${connectivity} ${auth}`;
const isOffline = (db: Landfall): boolean => db.sync.status.connectivity === 'offline' || !navigator.onLine;

const style = `
.box { display: grid; padding: 0.75rem 1rem; border: 1px solid var(--_line); border-radius: var(--landfall-radius-large, 1.25rem); background: var(--_surface); box-shadow: var(--landfall-shadow, none); }
.head { display: flex; align-items: center; gap: 0.75rem; }
.badge { display: grid; flex: none; place-items: center; width: 2.5rem; height: 2.5rem; border-radius: 50%; background: var(--_ok-wash); color: var(--_ok); }
[data-tone="wait"] .badge { background: var(--_wait-wash); color: var(--_wait); }
[data-tone="busy"] .badge { background: var(--_accent-wash); color: var(--_accent); }
[data-tone="bad"] .badge { background: var(--_bad-wash); color: var(--_bad); }
.words { flex: 1; min-width: 0; line-height: 1.35; }
.title { font-weight: 650; }
.facts { display: flex; flex-wrap: wrap; column-gap: 0.75rem; }
.head button { white-space: nowrap; }
.note { margin-top: 0.75rem; padding: 0.5rem 0.75rem; border-radius: 0.5rem; background: var(--_wait-wash); color: var(--_wait); font-size: 0.875rem; }
progress { display: block; width: 100%; height: 0.5rem; margin-top: 0.75rem; accent-color: var(--_accent); }
[part~="result"] { margin-top: 0.75rem; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
`;
