// Where the network switch is kept: in the Cache, which pages and the worker share and which outlives both.

const cacheName = 'demo-network';
const flag = '/demo-network/off';
export const channelName = 'demo-network';

/** Paths that only the server can answer. The files of the app come from the worker's cache. */
const server = /^\/(v1|auth|api|admin|dev)(\/|$)/;
export const reachesServer = (input) => {
  const url = new URL(input instanceof Request ? input.url : input, self.location.href);
  return url.origin === self.location.origin && server.test(url.pathname);
};

export async function isSwitchedOff() {
  try {
    return (await caches.match(flag, { cacheName })) !== undefined;
  } catch {
    // No Cache, as in a page without https: then nobody could set it.
    return false;
  }
}

export async function switchOff(off) {
  const cache = await caches.open(cacheName);
  if (off) await cache.put(flag, new Response('off'));
  else await cache.delete(flag);
}
