// Benchmark of the server: the real process on a fresh database, pushed to by landfall-load on the same machine.
//
// Every push is durable when it is answered (SQLite WAL, synchronous=FULL). Prints a table and, as the last line, JSON. Options:
//
//   --connections N        clients with one single push in flight each (64)
//   --batch-connections N  clients with one batch of 100 in flight each (8)
//   --seconds N            length of each part (5)
//   --rounds N             fresh server and database each, the median counts (3)
//   --json                 only the last line
//
// LANDFALL_SERVER names a built landfall-server (landfall-load beside it); else both are built (profile `fast`).

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, fsyncSync, openSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { freePort } from '../xtask/lib.mjs';
import { fileSystemOf, machine, median, options, root, rounded, scratch } from './lib.mjs';

const readyMsMax = 10_000;
const { connections, 'batch-connections': batchConnections, seconds, rounds, json } = options({ connections: 64, 'batch-connections': 8, seconds: 5, rounds: 3, json: false });
const say = (text) => json || console.log(text);

function serverBinary() {
  if (process.env.LANDFALL_SERVER) return process.env.LANDFALL_SERVER;
  const built = spawnSync('cargo', ['build', '--quiet', '--profile', 'fast', '-p', 'landfall-server'], { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  if (built.status !== 0) throw new Error('the server could not be built');
  return join(process.env.CARGO_TARGET_DIR ?? join(root, 'target'), 'fast', 'landfall-server');
}

async function startServer(binary, data) {
  const port = await freePort();
  const args = ['--dev', '--listen', `127.0.0.1:${port}`, '--data', data, '--collections', join(root, 'www/collections.json')];
  const child = spawn(binary, args, { cwd: data, stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, RUST_LOG: 'error' } });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text) => (said += text));
  const url = `http://127.0.0.1:${port}`;
  for (const until = Date.now() + readyMsMax; ; ) {
    if (child.exitCode !== null || Date.now() > until) throw new Error(`the server did not start: ${said}`);
    const answer = await fetch(`${url}/healthz`).catch(() => undefined);
    if (answer?.ok) return { child, url };
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function load(binary, url) {
  const args = ['--url', url, '--connections', connections, '--batch-connections', batchConnections, '--seconds', seconds].map(String);
  const child = spawn(binary, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text) => (said += text));
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`landfall-load ended with exit ${code}`);
  return JSON.parse(said.trim().split('\n').at(-1));
}

/** What one durable commit costs here, ms: 4 KB and fsync, median of 100. */
function fsyncMs(directory) {
  const file = openSync(join(directory, 'fsync'), 'w');
  const block = Buffer.alloc(4096, 1);
  const times = Array.from({ length: 100 }, () => {
    const start = performance.now();
    writeSync(file, block);
    fsyncSync(file);
    return performance.now() - start;
  });
  closeSync(file);
  return median(times);
}

const server = serverBinary();
const generator = join(dirname(server), 'landfall-load');
if (!existsSync(generator)) throw new Error('landfall-load is not beside the server');
const before = machine();
const directory = scratch('landfall-bench-server');
const fsync = rounded(fsyncMs(directory));
say(`${before.cores} cores (${before.cpu}), load ${before.load_1min}, data on ${fileSystemOf(directory)} (4 KB and fsync: ${fsync} ms), ${rounds} rounds of ${seconds} s + ${seconds} s`);

const reports = [];
for (let round = 0; round < rounds; round++) {
  const { child, url } = await startServer(server, scratch('landfall-bench-data'));
  try {
    reports.push(await load(generator, url));
  } finally {
    child.kill('SIGTERM');
    if (child.exitCode === null) await once(child, 'close');
  }
  const { single_pushes_per_s, p50_ms, p99_ms, batched_ops_per_s, batch_p99_ms } = reports.at(-1);
  say(`round ${round + 1}: ${single_pushes_per_s} single pushes/s (p50 ${p50_ms} ms, p99 ${p99_ms} ms), ${batched_ops_per_s} ops/s in batches (p99 ${batch_p99_ms} ms)`);
}

const of = (name) => rounded(median(reports.map((report) => report[name])));
console.log(
  JSON.stringify({
    single_pushes_per_s: of('single_pushes_per_s'),
    p50_ms: of('p50_ms'),
    p99_ms: of('p99_ms'),
    batched_ops_per_s: of('batched_ops_per_s'),
    batch_p99_ms: of('batch_p99_ms'),
    connections,
    batch: reports[0].batch,
    batch_connections: batchConnections,
    fsync_ms: fsync,
    rounds,
    seconds,
    machine: before,
    load_1min_after: machine().load_1min,
  }),
);
