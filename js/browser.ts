/** Tells the engine what the browser does: network, focus, hiding, freezing, coming back from the back-forward cache. */

export interface Senses {
  online(online: boolean): void;
  visible(visible: boolean): void;
  wake(reason: string): void;
}

/** Says how things are now, as far as this context can know. A worker is always visible. */
export function sense(senses: Senses): void {
  senses.online(navigator.onLine);
  senses.visible(typeof document === 'undefined' || document.visibilityState === 'visible');
}

/** Goes on saying how things change, until the function it gives is called. */
export function senseChanges(senses: Senses): () => void {
  const over = new AbortController();
  const listen = (target: EventTarget, names: readonly string[], heard: (event: Event) => void): void => {
    for (const name of names) target.addEventListener(name, heard, { signal: over.signal });
  };
  const wake = (event: Event): void => senses.wake(event.type);
  listen(globalThis, ['online', 'offline'], (event) => senses.online(event.type === 'online'));
  if (typeof document !== 'undefined') {
    listen(globalThis, ['focus', 'pagehide'], wake);
    listen(globalThis, ['pageshow'], (event) => {
      if (!(event as PageTransitionEvent).persisted) return;
      sense(senses);
      wake(event);
    });
    listen(document, ['freeze', 'resume'], wake);
    listen(document, ['visibilitychange'], () => senses.visible(document.visibilityState === 'visible'));
  }
  return () => over.abort();
}
