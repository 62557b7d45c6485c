// The network between browser and server, with accidents, and the line on which pages hear this harness, which has none.
//
// The bytes of a push are the server's and the engine's own; this looks at the address of a request and at nothing else.

import { EventEmitter } from 'node:events';
import { createServer, request as ask } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as elapse } from 'node:timers/promises';
import { listenAnywhere } from '../../xtask/lib.mjs';
import { PageSocket } from './socket.mjs';

/**
 * What may happen to a request:
 * `lostBefore`: the connection ends before the server has heard it; `lostAfter`: the server answers and nobody hears it;
 * `half`: the answer ends in its middle; `twice`: the server gets it once more when it has answered, and the second answer
 * counts; `atOnce`: the server gets it two times at once; `late`: the server gets it once more, much later; `busy`: 503.
 */
export const fates = ['lostBefore', 'lostAfter', 'half', 'twice', 'atOnce', 'late', 'busy'];

const livePath = '/v1/sync/live';
/** The harness's own, and no address of the server. */
export const linePath = '/dev/kill';

/**
 * Events, with the path: `asked` (a request is here), `decided` (the server has answered it, nobody heard that yet) and
 * `told` (the answer is on its way). `page`: a page called, with its socket and the parameters of its address.
 */
export class Network extends EventEmitter {
  #target;
  #server;
  #sockets = new Set();
  #lines = new Set();
  #underWay = new Set();
  #late = [];
  #cut = false;
  #generation = 0;
  port;
  /** How often each accident happened. */
  accidents = {};
  /** Pushes whose repeat was answered otherwise. */
  unequal = [];
  /** `(path) => {fate, beforeMs, afterMs}`: asked for every request to the server that is no file. */
  mood = () => ({});

  constructor(targetPort) {
    super();
    this.#target = targetPort;
  }

  async start() {
    this.#server = createServer((request, response) => void this.#handle(request, response));
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    this.#server.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
    this.port = await listenAnywhere(this.#server);
    return this;
  }

  get origin() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Everything that is open ends, and nothing new is accepted, until `mend()`. */
  cut() {
    this.#cut = true;
    this.#endAll();
  }

  mend() {
    this.#cut = false;
  }

  /** What waits here to go on is lost; resolves when the server has nothing under way any more. */
  async quiet() {
    this.#generation += 1;
    this.#endAll();
    await Promise.allSettled(this.#underWay);
  }

  /** Old requests reach the server now; nobody hears the answers. */
  async replay() {
    const late = this.#late.splice(0);
    this.#note('replayed', late.length);
    for (const { request, body } of late) await this.#forward(request, body).catch(() => {});
  }

  async remove() {
    await this.quiet();
    for (const line of this.#lines) line.destroy();
    this.#server.closeAllConnections();
    await new Promise((done) => this.#server.close(done));
  }

  #note(what, times = 1) {
    this.accidents[what] = (this.accidents[what] ?? 0) + times;
  }

  #endAll() {
    for (const socket of this.#sockets) if (!this.#lines.has(socket)) socket.destroy();
  }

  #upgrade(request, socket, head) {
    const url = new URL(request.url, this.origin);
    if (url.pathname === linePath) {
      this.#lines.add(socket);
      socket.on('close', () => this.#lines.delete(socket));
      return this.emit('page', new PageSocket(request, socket), Object.fromEntries(url.searchParams));
    }
    if (this.#cut || url.pathname !== livePath) return socket.destroy();
    const server = connect(this.#target, '127.0.0.1');
    server.write(`${request.method} ${request.url} HTTP/1.1\r\n${request.rawHeaders.reduce((text, part, i) => text + part + (i % 2 ? '\r\n' : ': '), '')}\r\n`);
    server.write(head);
    server.pipe(socket).pipe(server);
    for (const [one, other] of [[server, socket], [socket, server]]) one.on('error', () => other.destroy()).on('close', () => other.destroy());
  }

  async #handle(request, response) {
    const path = request.url.split('?')[0];
    const generation = this.#generation;
    const over = () => this.#cut || generation !== this.#generation || response.destroyed;
    const end = () => request.socket.destroy();
    request.on('error', () => {});
    response.on('error', () => {});
    try {
      const chunks = [];
      for await (const chunk of request) chunks.push(chunk);
      if (over()) return end();
      const body = Buffer.concat(chunks);
      const toEngine = /^\/(v1|auth)\//.test(path);
      const { fate, beforeMs = 0, afterMs = 0 } = toEngine ? this.mood(path) : {};
      if (fate) this.#note(fate);
      if (toEngine) this.emit('asked', path);
      if (beforeMs) await elapse(beforeMs);
      if (over() || fate === 'lostBefore') return end();
      if (fate === 'busy') return void response.writeHead(503, { 'content-type': 'application/json', 'retry-after': '0' }).end('{"error":{"code":"unavailable","message":"the network says so"}}');
      if (fate === 'late') this.#late.push({ request, body });
      const [answer, again] = await Promise.all([this.#forward(request, body), fate === 'atOnce' ? this.#forward(request, body) : undefined]);
      const repeat = fate === 'twice' ? await this.#forward(request, body) : again;
      if (repeat && path.endsWith('/push')) this.#compare(answer, repeat);
      if (toEngine) this.emit('decided', path);
      if (afterMs) await elapse(afterMs);
      if (over() || fate === 'lostAfter') return end();
      const { status, headers, bytes } = repeat ?? answer;
      response.writeHead(status, headers);
      if (fate === 'half' && bytes.length > 1) return void response.write(bytes.subarray(0, bytes.length >> 1), end);
      response.end(bytes);
      if (toEngine) this.emit('told', path);
    } catch {
      // The server is down, or the browser is gone.
      end();
    }
  }

  /** S2: the same bytes get the same outcomes, or `already_settled` once the client has acknowledged them. */
  #compare(first, second) {
    if (first.status !== 200 || second.status !== 200) return;
    const [one, other] = [first, second].map(({ bytes }) => JSON.parse(bytes).results ?? []);
    one.forEach((result, i) => {
      const [a, b] = [result, other[i]].map((value) => JSON.stringify(value));
      if (a !== b && ![a, b].some((text) => text?.includes('already_settled'))) this.unequal.push(`${a} and then ${b}`);
    });
  }

  #forward({ method, url, headers }, body) {
    const work = new Promise((done, failed) => {
      const outgoing = ask({ host: '127.0.0.1', port: this.#target, method, path: url, headers: { ...headers, connection: 'close' }, agent: false }, (incoming) => {
        const chunks = [];
        incoming.on('data', (chunk) => chunks.push(chunk)).on('error', failed);
        incoming.on('end', () => {
          const kept = { ...incoming.headers, 'content-length': String(Buffer.concat(chunks).length) };
          delete kept.connection;
          delete kept['transfer-encoding'];
          done({ status: incoming.statusCode, headers: kept, bytes: Buffer.concat(chunks) });
        });
      });
      outgoing.on('error', failed);
      outgoing.end(body);
    });
    this.#underWay.add(work);
    const over = () => this.#underWay.delete(work);
    work.then(over, over);
    return work;
  }
}
