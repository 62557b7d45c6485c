/**
 * What every element shares: a database to follow, words to say it in, and a shadow root that is drawn at most once a turn.
 *
 * Follows its database only while it is in a document, so that an element that was taken out costs nothing and holds nothing.
 */
import type { Landfall } from '../client.js';
import type { Unsubscribe } from '../types.js';
import { sharedStyle } from './style.js';

// Where there are no elements (Node, a worker), importing this must do nothing; it is never constructed there.
const Base = (globalThis.HTMLElement ?? class {}) as typeof HTMLElement;

export abstract class LandfallElement<Texts extends object> extends Base {
  protected readonly root: ShadowRoot;
  readonly #defaults: Texts;
  #texts: Texts;
  #db: Landfall | null = null;
  #stops: Unsubscribe[] = [];
  #due = false;

  constructor(defaults: Texts, style: string) {
    super();
    this.#defaults = defaults;
    this.#texts = defaults;
    this.root = this.attachShadow({ mode: 'open', delegatesFocus: false });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(sharedStyle + style);
    this.root.adoptedStyleSheets = [sheet];
  }

  /** The database that this shows; null shows nothing. */
  get db(): Landfall | null {
    return this.#db;
  }
  set db(db: Landfall | null) {
    if (this.#db === db) return;
    this.#db = db;
    if (this.isConnected) this.#follow();
  }

  /** Words of one's own; those that are left out stay as they are. */
  get texts(): Partial<Texts> {
    return this.#texts;
  }
  set texts(texts: Partial<Texts>) {
    this.#texts = { ...this.#defaults, ...texts };
    this.changed();
  }

  connectedCallback(): void {
    // Set before this class was known, when they were plain properties of an unknown element.
    for (const name of ['db', 'texts', 'describe', 'format'] as const) {
      const own = Object.getOwnPropertyDescriptor(this, name);
      if (!own) continue;
      Reflect.deleteProperty(this, name);
      Reflect.set(this, name, own.value);
    }
    this.#follow();
  }

  disconnectedCallback(): void {
    this.#leave();
  }

  #follow(): void {
    this.#leave();
    const db = this.#db;
    if (db) this.#stops = this.watch(db);
    this.changed();
  }

  #leave(): void {
    for (const stop of this.#stops.splice(0)) stop();
  }

  protected get words(): Texts {
    return this.#texts;
  }

  /** Asks to be drawn, once this turn is over. */
  protected readonly changed = (): void => {
    if (this.#due) return;
    this.#due = true;
    queueMicrotask(() => {
      this.#due = false;
      if (this.isConnected) this.draw(this.#db);
    });
  };

  /** Tells the page by an event that leaves the shadow root. True unless somebody prevented its default. */
  protected tell(name: string, detail: unknown): boolean {
    return this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true, cancelable: true }));
  }

  /** Begins to follow; what it gives ends that. */
  protected abstract watch(db: Landfall): Unsubscribe[];
  protected abstract draw(db: Landfall | null): void;
}

/** Reads again after every event that may concern the outbox or the conflicts, once per burst, and never two at a time. */
export function followLists(db: Landfall, read: () => Promise<void>): Unsubscribe[] {
  let over = false;
  let busy = false;
  let again = false;
  const run = async (): Promise<void> => {
    if (over) return;
    again = true;
    if (busy) return;
    busy = true;
    while (again && !over) {
      again = false;
      // A database that was closed meanwhile has nothing to show; every other failure is in its status.
      await read().catch(() => undefined);
    }
    busy = false;
  };
  const soon = (): void => void run();
  soon();
  return [db.sync.on('status', soon), db.sync.on('change', soon), db.sync.on('rejected', soon), db.sync.on('conflict', soon), () => void (over = true)];
}
