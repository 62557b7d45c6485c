// `npm start`: everything from a bare checkout to the demo in a browser. Options: --port N (8787), --data DIRECTORY (.landfall).

import { createConnection } from 'node:net';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from './build.mjs';
import { Failure, checkPrerequisites, ensureRust, log, main, run, start, step } from './lib.mjs';

const readyTimeoutMs = 30_000;
const readyPollMs = 50;
const stopTimeoutMs = 10_000;

/**
 * The server as developers run it: the profile that is ready soonest. `selection` is what cargo builds: the tests build
 * all programs at once, so that its dependencies are compiled for one set of features instead of two.
 */
export async function buildServer(selection = ['-p', 'landfall-server']) {
  await ensureRust();
  await step('compiling the server', () => run('cargo', ['build', '--quiet', ...selection]));
  return 'target/debug/landfall-server';
}

async function serve() {
  const { values } = parseArgs({ options: { port: { type: 'string', default: '8787' }, data: { type: 'string', default: '.landfall' } } });
  const port = Number(values.port);
  if (!Number.isInteger(port) || port < 1 || port > 65535) throw new Failure(`--port ${values.port} is not a port`);
  checkPrerequisites();
  if (await answers(port)) throw new Failure(`Port ${port} is in use. Another one: npm start -- --port ${port + 1}`);

  const [program] = await Promise.all([buildServer(), build()]);
  const listen = `127.0.0.1:${port}`;
  const server = start(program, ['--dev', '--listen', listen, '--data', values.data, '--www', 'www/dist', '--collections', 'www/collections.json']);
  const ended = new Promise((resolve) => server.once('close', (code, signal) => resolve({ code, signal })));
  let stopping = false;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.removeAllListeners(signal);
    process.on(signal, () => {
      stopping = true;
      server.kill('SIGTERM');
      setTimeout(() => server.kill('SIGKILL'), stopTimeoutMs).unref();
    });
  }
  const ready = await Promise.race([healthy(port), ended.then(() => false)]);
  if (!ready && !stopping) {
    server.kill('SIGTERM');
    throw new Failure(`The server did not answer on http://${listen}/healthz.`);
  }
  if (ready) {
    log('ready');
    console.log(`\n  Landfall demo   http://localhost:${port}\n  Log in as       whoever a page offers, password landfall\n  Stop            Ctrl+C\n`);
  }
  const { code, signal } = await ended;
  if (!stopping) throw new Failure(`The server ended by itself (${signal ?? `exit ${code}`}).`);
}

function answers(port) {
  return new Promise((resolve) => {
    const socket = createConnection({ port, host: '127.0.0.1' });
    const end = (answer) => () => (socket.destroy(), resolve(answer));
    socket.once('connect', end(true)).once('error', end(false));
  });
}

async function healthy(port) {
  for (const deadline = Date.now() + readyTimeoutMs; Date.now() < deadline; ) {
    const response = await fetch(`http://127.0.0.1:${port}/healthz`).catch(() => undefined);
    if (response?.status === 200) return true;
    await new Promise((resolve) => setTimeout(resolve, readyPollMs));
  }
  return false;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) main(serve);
