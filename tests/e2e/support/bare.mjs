// A browser that only this file speaks to: Playwright keeps every page that it sees awake, and a frozen one must not be.

import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { args, executablePath } from './device.mjs';

export class BareBrowser {
  #origin;
  #process;
  #profile;
  #exited;
  #calls = new Map();
  #count = 0;

  constructor(origin) {
    this.#origin = origin;
  }

  async start() {
    this.#profile = await mkdtemp(join(tmpdir(), 'landfall-e2e-profile-'));
    const all = [...args, '--headless', '--remote-debugging-pipe', `--user-data-dir=${this.#profile}`, 'about:blank'];
    this.#process = spawn(executablePath, all, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
    this.#exited = new Promise((done) => this.#process.once('exit', done));
    let rest = '';
    this.#process.stdio[4].setEncoding('utf8').on('data', (text) => {
      const messages = (rest + text).split('\0');
      rest = messages.pop();
      for (const message of messages) this.#answered(JSON.parse(message));
    });
    return this;
  }

  /** A tab whose `evaluate` is like that of a page of Playwright. `script` runs before those of the page. */
  async tab(path, script = '') {
    const { targetId } = await this.#send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.#send('Target.attachToTarget', { targetId, flatten: true });
    const send = (method, params) => this.#send(method, params, sessionId);
    await send('Page.enable');
    await send('Page.addScriptToEvaluateOnNewDocument', { source: script });
    await send('Page.navigate', { url: this.#origin + path });
    const evaluate = async (work, argument) => {
      const expression = `(${work})(${JSON.stringify(argument)})`;
      const { result, exceptionDetails: thrown } = await send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
      if (thrown) throw new Error(thrown.exception?.description ?? thrown.text);
      return result.value;
    };
    const state = (state) => send('Page.setWebLifecycleState', { state });
    return { evaluate, freeze: () => state('frozen'), resume: () => state('active'), show: () => send('Page.bringToFront') };
  }

  async remove() {
    this.#process.kill();
    await this.#exited;
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }

  #send(method, params = {}, sessionId) {
    return new Promise((done, failed) => {
      this.#calls.set(++this.#count, { done, failed });
      this.#process.stdio[3].write(`${JSON.stringify({ id: this.#count, method, params, sessionId })}\0`);
    });
  }

  #answered({ id, result, error }) {
    const call = this.#calls.get(id);
    if (error) call?.failed(new Error(error.message));
    else call?.done(result);
    this.#calls.delete(id);
  }
}
