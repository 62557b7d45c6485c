// The network between browser and server, with accidents. It works on TCP and looks at the first line of each request.

import { connect, createServer } from 'node:net';
import { setTimeout as elapse } from 'node:timers/promises';
import { listenAnywhere } from '../../../xtask/lib.mjs';
import { ports } from './server.mjs';

const requestLine = /^(GET|POST|PUT|DELETE|HEAD|OPTIONS) (\S+) HTTP\/1\.1\r\n/;

/**
 * What may happen to a request:
 * `pass`; `refuse`: the connection ends before the server has heard anything; `loseAnswer`: the server answers and nobody hears it;
 * or a function that is called when the request is on its way to the server, after which its answer is lost.
 */
export class Proxy {
  #listener;
  #sockets = new Set();
  #target;
  #cut = false;
  /** Paths of all requests that came, in order. */
  requests = [];
  /** `(path) => accident`, asked for every request. May be async. */
  accident = () => 'pass';
  /** How much longer requests to a path take. */
  latencyMs = {};

  constructor(targetPort) {
    this.#target = targetPort;
  }

  async start() {
    this.#listener = createServer((socket) => this.#accept(socket));
    await listenAnywhere(this.#listener, ports);
    return this;
  }

  get origin() {
    return `http://127.0.0.1:${this.#listener.address().port}`;
  }

  count(path) {
    return this.requests.filter((seen) => seen === path).length;
  }

  /** Everything that is open ends, and nothing new is accepted, until `mend()`. */
  cut() {
    this.#cut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend() {
    this.#cut = false;
  }

  async remove() {
    this.cut();
    await new Promise((done) => this.#listener.close(done));
  }

  #accept(client) {
    if (this.#cut) return client.destroy();
    const server = connect(this.#target, '127.0.0.1');
    const end = () => {
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', end);
      socket.on('close', () => {
        this.#sockets.delete(socket);
        end();
      });
    }
    let losing = false;
    // One after the other: an accident may take its time, and bytes must not overtake it.
    let before = Promise.resolve();
    client.on('data', (bytes) => {
      before = before.then(async () => {
        const path = requestLine.exec(bytes.subarray(0, 300).toString('latin1'))?.[2].split('?')[0];
        const accident = path === undefined ? 'pass' : await this.#accidentOf(path);
        if (accident === 'refuse') return end();
        losing ||= accident !== 'pass';
        if (!server.destroyed) server.write(bytes);
        // Not waited for: the rest of the request follows meanwhile.
        if (typeof accident === 'function') Promise.resolve(accident()).then(end, end);
      });
    });
    server.on('data', (bytes) => {
      if (losing) end();
      else if (!client.destroyed) client.write(bytes);
    });
  }

  async #accidentOf(path) {
    this.requests.push(path);
    if (this.latencyMs[path]) await elapse(this.latencyMs[path]);
    return this.accident(path);
  }
}
