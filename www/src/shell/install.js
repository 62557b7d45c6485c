// Installing the app, its service worker, and saying that a new version waits.

import { h, icon } from './dom.js';

/** A button that shows up when the browser offers to install the page. */
export function installButton() {
  let offer = null;
  const element = h('button', { type: 'button', class: 'button button--quiet', testid: 'install', hidden: true, onclick: run }, icon('download'), 'Install this app');
  addEventListener('beforeinstallprompt', (event) => {
    event.preventDefault();
    offer = event;
    element.hidden = false;
  });
  addEventListener('appinstalled', () => {
    element.hidden = true;
  });
  async function run() {
    element.hidden = true;
    await offer?.prompt();
    offer = null;
  }
  return { element };
}

/** Registers the worker; `onWaiting(activate)` is called when a new version is there and waits for the person's word. */
export async function registerWorker({ onWaiting }) {
  if (!('serviceWorker' in navigator) || !import.meta.env.PROD) return;
  let agreed = false;
  navigator.serviceWorker.addEventListener('controllerchange', () => {
    if (agreed) location.reload();
  });
  const tell = (worker) => onWaiting(() => {
    agreed = true;
    worker.postMessage({ type: 'demo:activate' });
  });
  try {
    const registration = await navigator.serviceWorker.register('/sw.js', { type: 'module', scope: '/' });
    if (registration.waiting && navigator.serviceWorker.controller) tell(registration.waiting);
    registration.addEventListener('updatefound', () => {
      const worker = registration.installing;
      worker?.addEventListener('statechange', () => {
        if (worker.state === 'installed' && navigator.serviceWorker.controller) tell(worker);
      });
    });
  } catch (error) {
    // The page works without; it only cannot be opened offline, and sends while it is open.
    console.warn('The service worker could not be registered.', error);
  }
}
