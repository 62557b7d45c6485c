// Pull to refresh: the gesture that a phone's user knows, and a button for everybody else.

import { h, icon, setText } from '../shell/dom.js';

const pullPx = 80;

export function pullToRefresh(run) {
  const label = h('span', {}, 'Refresh');
  const element = h('button', { type: 'button', class: 'button pull', testid: 'refresh', onclick: refresh }, icon('sync'), label);
  let from = null;
  let busy = false;
  const over = new AbortController();
  const listen = (name, heard) => addEventListener(name, heard, { signal: over.signal, passive: true });

  async function refresh() {
    if (busy) return;
    busy = true;
    element.setAttribute('aria-disabled', 'true');
    setText(label, 'Refreshing…');
    await run();
    busy = false;
    element.removeAttribute('aria-disabled');
    setText(label, 'Refresh');
  }

  listen('touchstart', ({ touches }) => (from = scrollY <= 0 && !document.querySelector('dialog[open]') ? touches[0].clientY : null));
  listen('touchmove', ({ touches }) => {
    if (from !== null && !busy) setText(label, touches[0].clientY - from > pullPx ? 'Let go to refresh' : 'Refresh');
  });
  listen('touchend', ({ changedTouches }) => {
    if (from !== null && changedTouches[0].clientY - from > pullPx) refresh();
    from = null;
  });
  return { element, stop: () => over.abort() };
}
