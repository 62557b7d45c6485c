// Things that concern the whole page: a session that ended, storage that fails, a new version, an error.

import { h, icon } from './dom.js';
import { count } from './format.js';

export function bannerStack() {
  const element = h('div', { class: 'banners', role: 'region', 'aria-label': 'Notices', hidden: true });
  const shown = new Map();

  /** Shows, changes or (with null) removes the banner of this name. */
  function set(name, banner) {
    const sign = banner && JSON.stringify([banner.text, banner.kind, banner.action?.label]);
    if (shown.get(name)?.dataset.signature === (sign ?? undefined)) return;
    const before = shown.get(name);
    const after = banner && render(name, banner, sign);
    if (before && after) before.replaceWith(after);
    else if (after) element.append(after);
    else before?.remove();
    if (after) shown.set(name, after);
    else shown.delete(name);
    element.hidden = shown.size === 0;
  }

  const render = (name, { kind, symbol, text, action, onClose }, sign) =>
    h('div', { class: `banner banner--${kind}`, role: kind === 'bad' ? 'alert' : 'status', testid: `${name}-banner`, 'data-signature': sign },
      icon(symbol),
      h('p', {}, text),
      action && h('button', { type: 'button', class: 'button', testid: action.testid, onclick: action.run }, action.label),
      onClose && h('button', { type: 'button', class: 'button', testid: `${name}-close`, onclick: () => (set(name, null), onClose()) }, 'Close'),
    );

  return { element, set };
}

/** What the engine had to mend, in words for the person. */
export function mendedBanner({ code, count }) {
  const text = {
    requeued: `The server was restored from a backup. ${count ?? 'Some'} of your changes are being sent again.`,
    client_fork: 'This browser profile was copied or set back. What was not sent yet is being sent again.',
  }[code];
  return text ? { kind: 'info', symbol: 'sync', text, onClose: () => {} } : null;
}

/** The banner that the storage state asks for, or null. `onSeen`: somebody has read what was lost. */
export function storageBanner({ state, quarantined, message, lost }, onSeen) {
  if (state === 'quota') return { kind: 'bad', symbol: 'disk', text: 'This device is out of space. New records cannot be saved until you free some.' };
  if (state === 'storage_failed') return { kind: 'bad', symbol: 'disk', text: `This browser cannot save right now${message ? ` (${message})` : ''}. Please do not close this page; saving is tried again.` };
  if (state === 'closed') return { kind: 'bad', symbol: 'disk', text: 'Another tab uses a newer version of this page.', action: { label: 'Reload', testid: 'storage-reload', run: () => location.reload() } };
  if (lost) return { kind: 'bad', symbol: 'disk', text: `This browser has lost the data that it kept for this page. ${lost.count > 0 ? `About ${count(lost.count, 'change')} had not been sent and ${lost.count === 1 ? 'has' : 'have'} to be made again.` : 'Nothing is known of changes that had not been sent.'} What was sent is fetched again.`, onClose: onSeen };
  if (quarantined > 0) return { kind: 'wait', symbol: 'disk', text: 'A part of the data on this device was damaged. It was set aside and not used; the rest works.' };
  return null;
}
