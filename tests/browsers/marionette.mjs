// Firefox's own protocol over TCP, as its driver speaks it: `length:[0, id, command, parameters]`.

import { connect } from 'node:net';
import { once } from 'node:events';

export class Marionette {
  #socket;
  #calls = new Map();
  #count = 0;
  #rest = Buffer.alloc(0);

  async connect(port) {
    this.#socket = connect(port, '127.0.0.1');
    await once(this.#socket, 'connect');
    this.#socket.on('data', (bytes) => this.#heard(bytes));
    this.#socket.on('error', () => {});
    this.#socket.once('close', () => {
      for (const { failed } of this.#calls.values()) failed(new Error('Firefox ended'));
    });
    return this;
  }

  call(command, parameters = {}) {
    return new Promise((done, failed) => {
      const id = ++this.#count;
      this.#calls.set(id, { done, failed });
      const text = JSON.stringify([0, id, command, parameters]);
      this.#socket.write(`${Buffer.byteLength(text)}:${text}`);
    });
  }

  close() {
    this.#socket?.destroy();
  }

  #heard(bytes) {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    for (;;) {
      const colon = this.#rest.indexOf(':');
      const length = Number(this.#rest.subarray(0, colon).toString());
      if (colon < 0 || this.#rest.length < colon + 1 + length) return;
      const message = JSON.parse(this.#rest.subarray(colon + 1, colon + 1 + length).toString());
      this.#rest = this.#rest.subarray(colon + 1 + length);
      // The first one is a greeting.
      if (!Array.isArray(message)) continue;
      const [, id, error, result] = message;
      const call = this.#calls.get(id);
      this.#calls.delete(id);
      if (error) call?.failed(new Error(`${error.error}: ${error.message}`));
      else call?.done(result);
    }
  }
}
