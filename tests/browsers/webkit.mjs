// WebKitGTK's own small browser. Its automation keeps nothing on disk, so here nobody drives it: pages are opened by their
// address at its start, and hear what to do by a socket of their own.

import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Processes } from './processes.mjs';

/** A display that nobody sees, for all browsers of this process. */
let display;

async function hiddenDisplay() {
  display ??= new Promise((ready, failed) => {
    const server = new Processes('Xvfb', ['-displayfd', '3', '-screen', '0', '1024x768x24', '-nolisten', 'tcp'], { stdio: ['ignore', 'ignore', 'pipe', 'pipe'] });
    server.stdio[3].setEncoding('utf8').once('data', (number) => ready(`:${number.trim()}`));
    server.exited.then(() => failed(new Error(`Xvfb ended: ${server.output}`)));
    // It would keep this process alive.
    server.stdio[2].unref();
    server.stdio[3].unref();
    server.unref();
  });
  return display;
}

export class WebKit {
  static name = 'webkit';
  static parts = { renderer: /WebKitWebProcess/, network: /WebKitNetworkProcess/ };
  #program;
  #processes;
  version = '';

  constructor(program) {
    this.#program = program;
  }

  async start(profile, urls) {
    const display = await hiddenDisplay();
    this.version ||= execFileSync(this.#program, ['--version'], { encoding: 'utf8', env: { ...process.env, DISPLAY: display } }).trim();
    const env = { DISPLAY: display, DBUS_SESSION_BUS_ADDRESS: 'disabled:', NO_AT_BRIDGE: '1', GSETTINGS_BACKEND: 'memory', LIBGL_ALWAYS_SOFTWARE: '1', HOME: profile };
    for (const [name, directory] of [['XDG_DATA_HOME', 'data'], ['XDG_CACHE_HOME', 'cache'], ['XDG_CONFIG_HOME', 'config']]) {
      env[name] = join(profile, directory);
      mkdirSync(env[name], { recursive: true });
    }
    this.#processes = new Processes(this.#program, [`--cookies-file=${join(profile, 'cookies')}`, ...urls], { env });
  }

  killPart(part, random) {
    return this.#processes.killOne(WebKit.parts[part], random);
  }

  kill() {
    return this.#processes.kill();
  }
}
