// The network switch: takes this browser off the network for the demo, so that anyone can try what offline is like.
//
// All of the browser, not one tab: every tab and the background worker work on one outbox, so a tab alone cannot be offline;
// another one would send what it wrote. The flag is in the Cache, where pages and the worker both find it, also after the
// worker or the browser was started anew. While it is set, requests to the server fail in pages (here) and in the worker
// (network-worker.js), those under way are aborted, and the live channel is closed.

import { channelName, isSwitchedOff, reachesServer, switchOff } from './network-flag.js';

const channel = new BroadcastChannel(channelName);
const realFetch = window.fetch.bind(window);
const RealSocket = window.WebSocket;
const realOnLine = Object.getOwnPropertyDescriptor(Navigator.prototype, 'onLine').get.bind(navigator);
const sockets = new Set();
const requests = new Set();
const listeners = new Set();
let off = false;
let known = false;

/** Resolves when it is known whether the switch is off; nothing may be opened before. */
export const ready = isSwitchedOff().then(apply);

export const switchedOff = () => off;
export function onSwitched(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export async function setSwitchedOff(next) {
  await switchOff(next);
  channel.postMessage({ off: next });
  apply(next);
}

function apply(next) {
  const changed = off !== next;
  off = next;
  known = true;
  if (!changed) return;
  if (off) {
    for (const request of requests) request.abort(new TypeError('The network is switched off.'));
    for (const socket of sockets) socket.close();
    window.dispatchEvent(new Event('offline'));
  } else if (realOnLine()) window.dispatchEvent(new Event('online'));
  for (const listener of listeners) listener(off);
}

channel.addEventListener('message', ({ data }) => 'off' in data && apply(data.off === true));

Object.defineProperty(navigator, 'onLine', { configurable: true, get: () => !off && realOnLine() });
// What the system says of its own network must not bring the page back while the switch is off.
window.addEventListener('online', (event) => off && event.isTrusted && event.stopImmediatePropagation(), { capture: true });

window.fetch = (input, init) => {
  if (!reachesServer(input)) return realFetch(input, init);
  return known ? guarded(input, init) : ready.then(() => guarded(input, init));
};

async function guarded(input, init) {
  if (off) throw new TypeError('The network is switched off.');
  const ended = new AbortController();
  const given = init?.signal ?? (input instanceof Request ? input.signal : undefined);
  requests.add(ended);
  try {
    return await realFetch(input, { ...init, signal: given ? AbortSignal.any([given, ended.signal]) : ended.signal });
  } finally {
    requests.delete(ended);
  }
}

window.WebSocket = class extends RealSocket {
  constructor(...args) {
    if (off) throw new DOMException('The network is switched off.', 'NetworkError');
    super(...args);
    sockets.add(this);
    this.addEventListener('close', () => sockets.delete(this));
  }
};
