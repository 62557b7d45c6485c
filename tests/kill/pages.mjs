// The pages that called, by session: what they tell goes into the ledger, and what they are asked they answer.

import { EventEmitter } from 'node:events';

const answerMs = 180_000;

/** The page, or only its line, is gone: what was asked may have been heard or not. */
class LineCut extends Error {}

class Page {
  #socket;
  /** A reload makes another page of the same name. */
  #life;
  #calls = new Map();
  #count = 0;
  /** How many of its messages were heard. */
  heard = 0;
  alive = false;
  /** Its database is open. */
  isReady = false;

  /** It called, for the first time or after its line was cut. */
  called(socket, life) {
    if (this.#life !== life) {
      this.heard = 0;
      this.isReady = false;
    }
    this.#life = life;
    // What was asked on an earlier line may not have arrived.
    if (this.alive) this.end();
    this.#socket = socket;
    this.alive = true;
    this.confirm();
  }

  /** Whether this is its line; it may have had others. */
  has(socket) {
    return this.alive && this.#socket === socket;
  }

  /** Says how many messages were heard. */
  confirm() {
    this.#socket.send({ heard: this.heard });
  }

  ask(order, given = {}, ms = answerMs) {
    return new Promise((done, failed) => {
      const id = ++this.#count;
      const late = setTimeout(() => failed(new Error(`a page does not answer: ${order}`)), ms);
      const end = (finish) => (value) => {
        clearTimeout(late);
        this.#calls.delete(id);
        finish(value);
      };
      this.#calls.set(id, { done: end(done), failed: end(failed) });
      if (this.alive) this.#socket.send({ id, order, ...given });
      else this.#calls.get(id).failed(new LineCut(`the page is gone: ${order}`));
    });
  }

  answered({ id, value, error }) {
    if (error) this.#calls.get(id)?.failed(new Error(error));
    else this.#calls.get(id)?.done(value);
  }

  end() {
    this.alive = false;
    for (const { failed } of [...this.#calls.values()]) failed(new LineCut('the page or its line is gone'));
  }

  close() {
    this.#socket.close();
  }
}

/** Events: `session:what` for what a page tells (`ready`, `done`, `ended`, …), `stored` for each write that is acknowledged. */
export class Pages extends EventEmitter {
  #pages = new Map();
  #ledger;
  #history;
  /** What no page should say. */
  troubles = [];

  constructor(network, ledger, history) {
    super();
    this.setMaxListeners(100);
    this.#ledger = ledger;
    this.#history = history;
    network.on('page', (socket, { session, life }) => this.#called(socket, session, life));
  }

  get(session) {
    return this.#pages.get(session);
  }

  /** Resolves with what a page tells next, or undefined when the time is over. */
  next(session, what, ms) {
    return new Promise((done) => {
      const end = (value) => {
        clearTimeout(late);
        this.off(`${session}:${what}`, end);
        done(value);
      };
      const late = setTimeout(end, ms, undefined);
      this.on(`${session}:${what}`, end);
    });
  }

  /** They are gone for good. */
  died(sessions) {
    for (const session of sessions) {
      this.#pages.get(session)?.close();
      this.#pages.get(session)?.end();
      this.#ledger.died(session);
      this.#history?.died(session);
    }
  }

  /** As the page's own `ask`, and once more when its line was cut and it calls again within `lineMs`. */
  async ask(session, order, given, lineMs = 10_000) {
    for (;;) {
      const back = this.next(session, 'called', lineMs);
      try {
        return await this.get(session).ask(order, given);
      } catch (error) {
        if (!(error instanceof LineCut) || !(await back)) throw error;
      }
    }
  }

  /** Resolves when a page has opened its database, with whether it has in time. */
  async ready(session, ms) {
    return this.#pages.get(session)?.isReady || (await this.next(session, 'ready', ms)) !== undefined;
  }

  #called(socket, session, life) {
    const known = this.#pages.get(session);
    const page = known ?? new Page();
    this.#pages.set(session, page);
    const letter = session.split('#')[0].at(-1);
    page.called(socket, life);
    socket.ended = () => {
      if (page.has(socket)) page.end();
    };
    this.emit(`${session}:called`, true);
    socket.heard = (message) => {
      if (!page.has(socket)) return;
      page.heard += 1;
      if (message.type === 'answer') return page.answered(message);
      if (message.type === 'began') {
        page.confirm();
        this.#ledger.began(session, letter, message.k, message.write);
        this.#history?.began(session, message.k, message.write);
      } else if (['stored', 'refused', 'unknown'].includes(message.type)) {
        this.#ledger.ended(session, message.k, message.type, message.code);
        this.#history?.ended(session, message.k, message.type);
        if (message.type === 'stored') this.emit('stored');
      } else if (message.type === 'dropped') {
        this.#ledger.ended(session, message.k, 'gone');
        this.#history?.ended(session, message.k, 'dropped');
      } else if (message.type === 'ready') {
        page.isReady = true;
        this.#history?.opened(session);
        this.emit(`${session}:ready`, message);
      } else if (message.type === 'trouble') this.troubles.push(`${session}: ${message.what}`);
      else if (message.type === 'event' && ['restarted', 'conflict', 'failed', 'storage'].includes(message.event)) this.troubles.push(`${session}: ${message.event} ${JSON.stringify(message.value)}`);
    };
  }
}
