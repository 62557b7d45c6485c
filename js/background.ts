/**
 * Asks the service worker to flush the outbox when this page no longer can.
 *
 * Background Sync where there is one, else a message to the worker. However many entries are written, one registration is
 * under way at a time, and one more follows it if something was written meanwhile.
 */
import { flushMessage, syncTag, tidyMessage } from './tags.js';

/** The part of Background Sync that TypeScript's DOM does not have. */
interface SyncRegistration {
  readonly sync?: { register(tag: string): Promise<void> };
}

/** Without Background Sync: how long a message covers what is written after it. */
const messagePauseMs = 1000;

export class BackgroundFlush {
  readonly #database: string;
  readonly #registration: Promise<ServiceWorkerRegistration | undefined>;
  #ready: ServiceWorkerRegistration | undefined;
  #n = 0;
  #busy = false;
  #again = false;
  /** The worker that gets messages, once that has turned out to be the way. */
  #worker: ServiceWorker | undefined;

  constructor(database: string, worker: boolean | ServiceWorkerRegistration) {
    this.#database = database;
    // `ready` never ends where nobody registers a worker; then nothing here ever happens.
    const container = typeof navigator === 'undefined' ? undefined : navigator.serviceWorker;
    this.#registration = Promise.resolve(typeof worker === 'object' ? worker : worker ? container?.ready : undefined);
    void this.#registration.then((registration) => (this.#ready = registration));
  }

  /** From now on another tag: the last one may have been tried, and refused, while the page was away. */
  renew(): void {
    this.#n = 0;
  }

  /** The page may not come back: what a pause between two messages holds back goes now. */
  leave(): void {
    if (!this.#again || !this.#worker) return;
    this.#again = false;
    this.#worker.postMessage(flushMessage(this.#database));
  }

  /** Leaves compaction to the worker. False: none is there. */
  tidy(): boolean {
    const worker = this.#ready?.active;
    worker?.postMessage(tidyMessage(this.#database));
    return Boolean(worker);
  }

  async request(): Promise<void> {
    this.#again = true;
    if (this.#busy) return;
    this.#busy = true;
    while (this.#again) {
      this.#again = false;
      await this.#arm();
    }
    this.#busy = false;
  }

  async #arm(): Promise<void> {
    const registration = await this.#registration;
    if (!registration) return;
    try {
      const { sync } = registration as SyncRegistration;
      if (sync) {
        // Until it has fired, registering the same tag again changes nothing; the clock makes it new to the browser.
        this.#n ||= Date.now();
        return await sync.register(syncTag(this.#database, this.#n));
      }
    } catch {
      // Refused by the person or switched off: as if there were none.
    }
    this.#worker = registration.active ?? undefined;
    this.#worker?.postMessage(flushMessage(this.#database));
    await new Promise((resolve) => setTimeout(resolve, messagePauseMs));
  }
}
