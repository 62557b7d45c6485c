// A browser as processes: started in a session of its own, looked into by role, and ended as a power cut of the app would.

import { spawn } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { setTimeout as elapse } from 'node:timers/promises';

const pollMs = 5;
const goneMs = 60_000;
const running = new Set();
// What a failed run leaves behind would eat the machine of the next one.
process.once('exit', () => {
  for (const { pid } of running) end(-pid);
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1));

/** Signals a process, or a group when negative; one that is gone already is what was wanted. */
function end(pid) {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

/** Everything that a program started, however often it forked: its whole session. */
export class Processes {
  #child;
  #output = '';
  exited;

  constructor(program, args, { env = {}, stdio = ['ignore', 'pipe', 'pipe'] } = {}) {
    this.#child = spawn(program, args, { detached: true, stdio, env: { ...process.env, ...env } });
    running.add(this.#child);
    const keep = (text) => (this.#output = (this.#output + text).slice(-4_000));
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream?.setEncoding('utf8').on('data', keep);
    this.exited = new Promise((done) => this.#child.once('error', done).once('exit', done));
  }

  /** Nobody waits for it: this process may end before it does. */
  unref() {
    this.#child.unref();
  }

  get stdio() {
    return this.#child.stdio;
  }

  /** The end of what it said. */
  get output() {
    return this.#output;
  }

  /** `{pid, command}` of all that live, the first one included. */
  list() {
    const found = [];
    for (const name of readdirSync('/proc')) {
      if (!/^\d+$/.test(name)) continue;
      try {
        // Behind the name, which may hold anything: state, parent, group, session.
        const [state, , , session] = readFileSync(`/proc/${name}/stat`, 'latin1').split(') ').pop().split(' ');
        if (Number(session) !== this.#child.pid || state === 'Z') continue;
        found.push({ pid: Number(name), command: readFileSync(`/proc/${name}/cmdline`, 'latin1').replaceAll('\0', ' ') });
      } catch {
        // It ended while it was looked at.
      }
    }
    return found;
  }

  /** Ends one of the processes whose command fits. Gives whether there was one. */
  killOne(pattern, random) {
    const fitting = this.list().filter(({ command }) => pattern.test(command));
    if (fitting.length === 0) return false;
    end(fitting[Math.floor(random() * fitting.length)].pid);
    return true;
  }

  /** SIGKILL for all at once. Resolves when none is left, so that nobody holds a file of the profile. */
  async kill() {
    end(-this.#child.pid);
    await this.exited;
    for (const deadline = Date.now() + goneMs; ; await elapse(pollMs)) {
      const left = this.list();
      if (left.length === 0) break;
      if (Date.now() > deadline) throw new Error(`a process does not end: ${left[0].command}`);
      for (const { pid } of left) end(pid);
    }
    running.delete(this.#child);
  }
}
