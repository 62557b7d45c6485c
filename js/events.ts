/** Tells listeners on a microtask, so that nobody is called back inside their own call, and one that throws harms nobody else. */

type Listener<T> = (value: T) => void;

/** Runs an app's callback; what it throws becomes an uncaught error of the page, as in an event listener. */
export function guarded(run: () => void): void {
  try {
    run();
  } catch (error) {
    if (typeof reportError === 'function') reportError(error);
    else setTimeout(() => { throw error; });
  }
}

export class Emitter<Events> {
  readonly #listeners = new Map<keyof Events, Set<Listener<unknown>>>();

  on<K extends keyof Events>(name: K, listener: Listener<Events[K]>): () => void {
    // One function given twice is two subscriptions, each ended by its own call.
    const own: Listener<unknown> = (value) => listener(value as Events[K]);
    const set = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, set.add(own));
    return () => void set.delete(own);
  }

  emit<K extends keyof Events>(name: K, value: Events[K]): void {
    queueMicrotask(() => {
      for (const listener of [...(this.#listeners.get(name) ?? [])]) guarded(() => listener(value));
    });
  }
}
