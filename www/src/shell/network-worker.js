// The worker's half of the network switch. Imported before Landfall: a worker's own requests do not pass its fetch
// handler, so `self.fetch` itself is guarded, and Background Sync meets the same dead network as the pages.

import { channelName, isSwitchedOff, reachesServer } from './network-flag.js';

const realFetch = self.fetch.bind(self);
const requests = new Set();
/** Undefined until it was read: a worker may be started for one event only. */
let off;

isSwitchedOff().then((found) => (off ??= found));

const channel = new BroadcastChannel(channelName);
channel.addEventListener('message', ({ data }) => {
  if (!('off' in data)) return;
  off = data.off === true;
  if (off) for (const request of requests) request.abort(new TypeError('The network is switched off.'));
});

self.fetch = async (input, init) => {
  if (!reachesServer(input)) return realFetch(input, init);
  // Asked anew each time: the message may not have been heard by a worker that was asleep.
  if (await isSwitchedOff()) {
    channel.postMessage({ refused: 'worker' });
    throw new TypeError('The network is switched off.');
  }
  const ended = new AbortController();
  const given = init?.signal ?? (input instanceof Request ? input.signal : undefined);
  requests.add(ended);
  try {
    return await realFetch(input, { ...init, signal: given ? AbortSignal.any([given, ended.signal]) : ended.signal });
  } finally {
    requests.delete(ended);
  }
};

// What pages ask of the server passes by untouched, as if this worker did not exist, unless the switch is off or not yet known.
self.addEventListener('fetch', (event) => {
  if (off === false || !reachesServer(event.request)) return;
  event.stopImmediatePropagation();
  event.respondWith(isSwitchedOff().then((found) => (found ? Response.error() : realFetch(event.request))));
});
