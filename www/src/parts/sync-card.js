// The global indicator: connection, what waits, last sync, and Sync Now with its progress and result.

import { announce, h, icon, setText } from '../dom.js';
import { count, exactTime, relative } from '../format.js';

export const offlineMessage = "You are offline. Your changes have been saved and will be synced when you're back online.";
/** Shorter exchanges with the server are not worth a flicker. */
const busyDelayMs = 400;

export function syncCard({ db }) {
  let status = null;
  let shownConnectivity;
  let busySince = null;
  let busyTimer;
  let running = false;
  let resultSituation;

  const badge = h('span', { class: 'sync__badge' });
  const title = h('p', { class: 'sync__title', testid: 'sync-status' });
  const pending = h('span', { testid: 'pending-count' });
  const lastSync = h('time', { testid: 'last-sync' });
  const offline = h('div', { role: 'status', 'aria-live': 'polite' });
  const button = h('button', { type: 'button', class: 'button', testid: 'sync-now', onclick: syncNow }, 'Sync now');
  const bar = h('progress', { 'aria-label': 'Sync progress', testid: 'sync-progress', hidden: true });
  const result = h('p', { class: 'soft', role: 'status', testid: 'sync-result', hidden: true });

  const element = h('section', { class: 'card sync', 'aria-labelledby': 'sync-title', testid: 'sync' },
    h('h2', { id: 'sync-title', class: 'visually-hidden' }, 'Sync'),
    h('div', { class: 'sync__head' },
      badge,
      h('div', { class: 'sync__words' }, title, h('p', { class: 'soft sync__facts' }, pending, lastSync)),
      button,
    ),
    offline,
    bar,
    result,
  );

  function update(next) {
    status = next;
    const busy = status.phase === 'pushing' || status.phase === 'pulling';
    if (!busy) busySince = null;
    else if (busySince === null) {
      busySince = Date.now();
      clearTimeout(busyTimer);
      busyTimer = setTimeout(draw, busyDelayMs);
    }
    draw();
  }

  function draw() {
    if (!status) return;
    const busy = running || (busySince !== null && Date.now() - busySince >= busyDelayMs);
    const { tone, symbol, words } = describe(status, busy);
    element.dataset.tone = tone;
    element.dataset.connectivity = status.connectivity;
    element.dataset.phase = status.phase;
    if (badge.dataset.symbol !== symbol) {
      badge.dataset.symbol = symbol;
      badge.replaceChildren(icon(symbol, symbol === 'sync' ? 'icon--turning' : ''));
    }
    setText(title, words);
    const waiting = status.pending;
    pending.dataset.count = String(waiting);
    setText(pending, waiting === 0 ? 'Nothing waiting' : `${count(waiting, 'change')} waiting`);
    if (resultSituation !== situation()) result.hidden = true;
    drawLastSync();
    drawConnectivity();
  }

  function drawLastSync() {
    setText(lastSync, status.lastSync === null ? 'Never synced' : `Synced ${relative(status.lastSync)}`);
    if (status.lastSync === null) return;
    lastSync.dateTime = new Date(status.lastSync).toISOString();
    lastSync.title = `Last sync: ${exactTime(status.lastSync)}`;
  }

  function drawConnectivity() {
    if (shownConnectivity === status.connectivity) return;
    if (shownConnectivity === 'offline') announce('You are back online.');
    shownConnectivity = status.connectivity;
    if (status.connectivity === 'offline') offline.replaceChildren(h('p', { class: 'sync__note sync__note--offline', testid: 'offline-message' }, offlineMessage));
    else if (status.connectivity === 'limited') offline.replaceChildren(h('p', { class: 'sync__note', testid: 'limited-message' }, 'The connection is slow or unreliable. Your changes are saved and sent as it allows.'));
    else offline.replaceChildren();
  }

  async function syncNow() {
    if (running) return;
    running = true;
    const sofar = { total: status?.pending ?? 0, sent: 0, received: 0 };
    button.setAttribute('aria-disabled', 'true');
    setText(button, 'Syncing…');
    result.hidden = true;
    bar.hidden = false;
    bar.removeAttribute('value');
    draw();
    try {
      const outcome = await db.sync.now({ onProgress: (progress) => showProgress(sofar, progress) });
      showResult(resultWords(outcome));
    } catch (error) {
      showResult(errorWords(error.code, error.message));
    } finally {
      running = false;
      bar.hidden = true;
      button.removeAttribute('aria-disabled');
      setText(button, 'Sync now');
      draw();
    }
  }

  /** Adds one step of this run: a push tells of `total` sent when it starts and `done` when it is settled, a pull of a page. */
  function showProgress(sofar, { phase, done }) {
    sofar[phase === 'push' ? 'sent' : 'received'] += done;
    const { total, sent, received } = sofar;
    if (total > 0 && sent < total) {
      bar.max = total;
      bar.value = sent;
    } else bar.removeAttribute('value');
    setText(title, total > 0 ? `Sent ${Math.min(sent, total)} of ${total}` : received > 0 ? `Received ${received}` : 'Syncing…');
  }

  /** What a result was said about; it is taken away when this changes. */
  const situation = () => `${status?.connectivity} ${status?.auth}`;

  function showResult(words) {
    resultSituation = situation();
    setText(result, words);
    result.hidden = false;
  }

  const ticker = setInterval(() => status && drawLastSync(), 15_000);
  return { element, update, stop: () => (clearInterval(ticker), clearTimeout(busyTimer)) };
}

function describe(status, busy) {
  const attention = status.parked + status.failed;
  const waiting = status.pending;
  if (status.auth === 'auth_required') return { tone: 'bad', symbol: 'key', words: 'Sign in to sync' };
  if (status.connectivity === 'offline') return { tone: 'wait', symbol: 'offline', words: 'You are offline' };
  if (busy) return { tone: 'busy', symbol: 'sync', words: status.phase === 'pulling' && status.cold ? 'Loading your records…' : 'Syncing…' };
  if (attention > 0) return { tone: 'bad', symbol: 'warning', words: attention === 1 ? '1 needs attention' : `${attention} need attention` };
  if (waiting > 0) return { tone: 'wait', symbol: 'clock', words: 'Waiting to sync' };
  if (status.lastSync === null) return { tone: 'wait', symbol: 'clock', words: 'Not synced yet' };
  return { tone: 'ok', symbol: 'cloud', words: 'All synced' };
}

function resultWords({ pushed, pulled, rejected, pending, error }) {
  if (error) return errorWords(error);
  const parts = [`Sent ${pushed}`, `received ${pulled}`];
  if (rejected > 0) parts.push(`${rejected} refused, see “Needs attention”`);
  if (pending > 0) parts.push(`${pending} still waiting`);
  return pushed + pulled + rejected + pending === 0 ? 'Everything was up to date.' : `Done: ${parts.join(', ')}.`;
}

function errorWords(code, message = '') {
  const words = {
    network: navigator.onLine ? 'The server cannot be reached. Your changes have been saved and will be sent by themselves.' : offlineMessage,
    offline: offlineMessage,
    timeout: 'The server took too long. Your changes have been saved and will be sent by themselves.',
    rate_limited: 'The server asked for a pause. Syncing goes on by itself.',
    auth_required: 'Please sign in again to sync. Your changes have been saved.',
    wrong_user: 'Please sign in again to sync. Your changes have been saved.',
  };
  return words[code] ?? `Sync stopped (${message || code}). Your changes have been saved and it will be tried again.`;
}
