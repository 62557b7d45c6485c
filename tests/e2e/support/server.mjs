// A real server process with a data directory of its own. It can be killed and started again on the same port and data.

import { spawn } from 'node:child_process';
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../../xtask/lib.mjs';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const program = resolve(root, process.env.LANDFALL_SERVER ?? 'target/debug/landfall-server');
/** Of this worker alone: no other one's server or proxy takes the port of a server that is down for a moment. */
export const ports = [0, 999].map((port) => 20_000 + 1_000 * (Number(process.env.TEST_PARALLEL_INDEX ?? 0) % 12) + port);
const www = resolve(root, process.env.LANDFALL_WWW ?? 'www/dist');

export class Server {
  #process;
  #exited;
  #data;
  #args;
  #lines = [];
  #www;
  port;

  /** `site`: another build of the demo. */
  constructor(args = [], { site = www } = {}) {
    this.#args = args;
    this.#www = site;
  }

  get #backup() {
    return `${this.#data}-backup`;
  }

  get origin() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** The last lines of its log, for the report of a test that failed. */
  get log() {
    return this.#lines.slice(-40).join('\n');
  }

  /** `args` replaces the arguments of the last start. */
  async start(args = this.#args) {
    this.#args = args;
    this.#data ??= await mkdtemp(join(tmpdir(), 'landfall-e2e-server-'));
    this.port ??= await freePort(ports);
    const listen = `127.0.0.1:${this.port}`;
    const fixed = ['--dev', '--listen', listen, '--data', this.#data, '--www', this.#www];
    if (!args.includes('--collections')) fixed.push('--collections', join(root, 'www/collections.json'));
    this.#process = spawn(program, [...fixed, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#exited = new Promise((done) => this.#process.once('exit', done));
    createInterface({ input: this.#process.stderr }).on('line', (line) => this.#lines.push(line));
    await new Promise((listening, failed) => {
      createInterface({ input: this.#process.stdout }).on('line', listening);
      this.#process.once('error', failed);
      this.#process.once('exit', (code) => failed(new Error(`the server ended with ${code}:\n${this.log}`)));
    });
    return this;
  }

  /** As a power cut would: nothing is flushed, nobody is told. Resolves when the process is gone. */
  async kill() {
    this.#process.kill('SIGKILL');
    await this.#exited;
  }

  /** A copy of its data, taken while it is down for a moment. */
  async backUp() {
    await this.kill();
    await cp(this.#data, this.#backup, { recursive: true });
    await this.start();
  }

  /** Puts the last backup in the place of its data, and says so to the server. */
  async restore() {
    await this.kill();
    await rm(this.#data, { recursive: true });
    await cp(this.#backup, this.#data, { recursive: true });
    await this.start([...this.#args, '--restored']);
  }

  async remove() {
    if (this.#process) await this.kill();
    if (this.#data) for (const path of [this.#data, this.#backup]) await rm(path, { recursive: true, force: true });
  }

  /** From now on its tokens are others: those that it gave out are answered 401, refresh cookies stay good. */
  async newSecret() {
    const file = join(this.#data, 'another-secret');
    await writeFile(file, `${process.hrtime.bigint()}`.padStart(64, '0'));
    await this.kill();
    await this.start([...this.#args, '--jwt-secret-file', file]);
  }

  async #dev(path, body) {
    const init = body && { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
    const response = await fetch(`${this.origin}/dev/${path}`, init);
    if (!response.ok) throw new Error(`/dev/${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  /** The records of a scope that are not deleted, with version, position and who wrote them. */
  async records(scope, collection) {
    const query = new URLSearchParams({ scope, ...(collection && { collection }) });
    return (await this.#dev(`records?${query}`)).records.filter((record) => !record.deleted);
  }

  /** `{clients, audit, …}` of a user: audit has a row for every mutation that was ever decided. */
  ledger(user) {
    return this.#dev(`ledger?user=${user}`);
  }

  /** The next `count` pushes are answered with `status`. */
  failPushes({ status = 503, count, retryAfterSeconds }) {
    return this.#dev('faults', { status, count, ...(retryAfterSeconds !== undefined && { retry_after: retryAfterSeconds }) });
  }
}
