// The demo's service worker: Landfall flushes from here with no page open, Workbox keeps the app shell.
//
// Only what the build made is ever cached. Requests to the server are not answered here, so the browser sends them as if
// this worker did not exist; unless the demo's network switch is off.

import './src/shell/network-worker.js';
import { attach } from 'landfall/service-worker';
import { cleanupOutdatedCaches, matchPrecache, precacheAndRoute } from 'workbox-precaching';

attach(self);

const neverCached = /^\/(v1|auth|api|admin|dev|healthz|metrics)(\/|$)/;

/** The file that an address opens: `/grades`, `/grades/` and `/grades/index.html` are one page. */
function pageOf(pathname) {
  if (pathname.endsWith('.html')) return pathname;
  if (pathname === '/lab') return '/lab.html';
  return `${pathname.replace(/\/$/, '')}/index.html`;
}

// Before Workbox's own listener, so that every address of the app opens it, also offline.
self.addEventListener('fetch', (event) => {
  const url = new URL(event.request.url);
  if (event.request.mode !== 'navigate' || url.origin !== self.location.origin || neverCached.test(url.pathname)) return;
  event.stopImmediatePropagation();
  event.respondWith(open(url.pathname, event.request));
});

async function open(pathname, request) {
  return (await matchPrecache(pageOf(pathname))) ?? (await matchPrecache('/index.html')) ?? fetch(request);
}

cleanupOutdatedCaches();
precacheAndRoute(self.__PRECACHE_MANIFEST);

self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));

// A new version waits until the person agrees: an open page may still load files of the old one.
self.addEventListener('message', (event) => {
  if (event.data?.type === 'demo:activate') event.waitUntil(self.skipWaiting());
});
