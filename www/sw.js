// The demo's service worker: Landfall flushes from here with no page open, Workbox keeps the app shell.
//
// Only what the build made is ever cached. Requests to /v1 and /auth are not answered here, so the browser sends
// them as if this worker did not exist.

import { attach } from 'landfall/service-worker';
import { cleanupOutdatedCaches, matchPrecache, precacheAndRoute } from 'workbox-precaching';

attach(self);

const pages = { '/lab': '/lab.html', '/lab.html': '/lab.html' };
const neverCached = /^\/(v1|auth|api|admin|healthz|metrics)(\/|$)/;

// Before Workbox's own listener, so that every address of the app opens it, also offline.
self.addEventListener('fetch', (event) => {
  const url = new URL(event.request.url);
  if (event.request.mode !== 'navigate' || url.origin !== self.location.origin || neverCached.test(url.pathname)) return;
  const page = pages[url.pathname] ?? '/index.html';
  event.stopImmediatePropagation();
  event.respondWith(matchPrecache(page).then((cached) => cached ?? fetch(event.request)));
});

cleanupOutdatedCaches();
precacheAndRoute(self.__PRECACHE_MANIFEST);

self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));

// A new version waits until the person agrees: an open page may still load files of the old one.
self.addEventListener('message', (event) => {
  if (event.data?.type === 'demo:activate') event.waitUntil(self.skipWaiting());
});
