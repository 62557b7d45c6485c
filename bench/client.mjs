// Benchmarks of the client: the built package in headless Chromium, side by side with hand-written IndexedDB.
//
// Same browser, same page, same records, one after the other in every round, in turns who goes first; a fresh database for
// each. Prints a table and, as the last line, JSON. Options:
//
//   --rounds N       rounds, the median counts (5)
//   --json           only the last line
//   --only A,B       only these workloads
//   --profile FILE   writes a CPU profile of Landfall's part of the first workload of --only (open it in developer tools)
//   --wasm FILE      the module to use instead of that in dist/ (one with names, for a profile)
//
// Needs the built package (dist/, or LANDFALL_DIST) and Chromium (LANDFALL_CHROMIUM, or on PATH). The browser's profile is on disk, below TMPDIR:
// in a private window IndexedDB is in memory, and then nothing here would mean anything.

import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { startBackend } from './client/backend.mjs';
import { fileSystemOf, machine, median, onPath, options, root, rounded, scratch } from './lib.mjs';

const workloads = {
  stored_write_p50_ms: { contenders: ['landfall', 'raw_idb', 'landfall_relaxed', 'raw_idb_relaxed', 'raw_idb_two_rows'] },
  concurrent_writes_per_s: { contenders: ['landfall', 'raw_idb', 'raw_idb_batched', 'raw_idb_packed'] },
  ingest_100k_ms: { contenders: ['landfall', 'raw_idb', 'fetch_only'] },
  drain_1000_ms: { contenders: ['landfall', 'raw_idb'] },
  drain_10k_ms: { contenders: ['landfall', 'raw_idb'] },
  live_query_ms: { contenders: ['landfall', 'raw_idb'] },
  open_10k_unsent_ms: { contenders: ['landfall', 'raw_idb'] },
};
/** Measured together, on one database with 10,000 records for each contender. */
const readWorkloads = ['open_first_in_page_ms', 'open_ms', 'get_warm_us', 'query_100_ms', 'scan_10k_ms'];

const { rounds, json, only, profile, wasm } = options({ rounds: 5, json: false, only: '', profile: '', wasm: '' });
const wanted = only ? only.split(',') : [...Object.keys(workloads), ...readWorkloads];
for (const name of wanted) if (!workloads[name] && !readWorkloads.includes(name)) throw new Error(`there is no workload ${name}`);

const say = (text) => json || console.log(text);
const samples = {};
const note = (workload, contender, value) => ((samples[workload] ??= {})[contender] ??= []).push(value);

/** Everybody goes first in turn, so that nobody profits from the place. */
const turned = (list, by) => [...list.slice(by % list.length), ...list.slice(0, by % list.length)];

async function startBrowser(directory) {
  const executablePath = process.env.LANDFALL_CHROMIUM || onPath('chromium', 'google-chrome', 'google-chrome-stable', 'chromium-browser');
  if (!executablePath) throw new Error('no Chromium: name one in LANDFALL_CHROMIUM, or apt-get install -y chromium');
  return chromium.launchPersistentContext(directory, { executablePath, headless: true, args: ['--no-sandbox', '--disable-dev-shm-usage'] });
}

/** One workload may take this long; a hundred thousand rows one by one are slow on a small machine. */
const workloadMsMax = 180_000;

/** Runs a method of the page's `bench`, and says which one when it does not end. */
function inPage(page, method, ...args) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${method} ${args.join(' ')} has not ended in ${workloadMsMax / 1000} s`)), workloadMsMax);
  });
  return Promise.race([page.evaluate(([method, args]) => window.bench[method](...args), [method, args]), late]).finally(() => clearTimeout(timer));
}

async function newPage(context, origin) {
  const page = await context.newPage();
  page.on('pageerror', (error) => console.error(`page: ${error.message}`));
  await page.goto(`${origin}/client/index.html`);
  await page.waitForFunction(() => window.bench);
  return page;
}

async function writeRound(page, round) {
  for (const [name, { contenders }] of Object.entries(workloads)) {
    if (!wanted.includes(name)) continue;
    for (const contender of turned(contenders, round)) {
      note(name, contender, await inPage(page, 'measure', name, contender));
    }
    say(`  ${name} done`);
  }
}

async function readRound(context, origin, page, round) {
  for (const contender of turned(['landfall', 'raw_idb'], round)) {
    const shelf = await inPage(page, 'makeShelf', contender);
    const fresh = await newPage(context, origin);
    note('open_first_in_page_ms', contender, await inPage(fresh, 'firstOpen', contender, shelf));
    await fresh.close();
    const numbers = await inPage(page, 'reads', contender, shelf);
    for (const [name, value] of Object.entries(numbers)) note(name, contender, value);
  }
  say('  open, get, query and scan done');
}

/** A CPU profile of one workload of Landfall, and where the time went. */
async function profiled(page) {
  const session = await page.context().newCDPSession(page);
  await session.send('Profiler.enable');
  await session.send('Profiler.setSamplingInterval', { interval: 200 });
  const [name] = wanted;
  const shelf = readWorkloads.includes(name) ? await inPage(page, 'makeShelf', 'landfall') : undefined;
  await session.send('Profiler.start');
  const value = await (shelf ? inPage(page, 'reads', 'landfall', shelf) : inPage(page, 'measure', name, 'landfall'));
  const { profile: recorded } = await session.send('Profiler.stop');
  writeFileSync(profile, JSON.stringify(recorded));
  console.log(name, value);
  const self = new Map();
  const nodes = new Map(recorded.nodes.map((node) => [node.id, node]));
  recorded.samples.forEach((id, i) => {
    const { functionName, url } = nodes.get(id).callFrame;
    const key = `${functionName || '(anonymous)'} ${url.split('/').at(-1)}`;
    self.set(key, (self.get(key) ?? 0) + recorded.timeDeltas[i] / 1000);
  });
  for (const [key, ms] of [...self].sort(([, a], [, b]) => b - a).slice(0, 40)) console.log(`${ms.toFixed(1).padStart(10)} ms  ${key}`);
}

function table(result) {
  const lines = [];
  for (const [workload, numbers] of Object.entries(result)) {
    lines.push(`${workload}`);
    for (const [contender, value] of Object.entries(numbers)) {
      const all = samples[workload][contender];
      lines.push(`  ${contender.padEnd(18)} ${String(value).padStart(10)}   (${rounded(Math.min(...all))} … ${rounded(Math.max(...all))})`);
    }
  }
  return lines.join('\n');
}

const dist = process.env.LANDFALL_DIST || join(root, 'dist');
if (!existsSync(join(dist, 'index.js'))) throw new Error(`${dist} holds no package: npm run build`);
const directory = scratch('landfall-bench');
const before = machine();
const backend = await startBackend({ dist, wasm: wasm || undefined });
backend.prepare(0, 10_000, 100_000);
const context = await startBrowser(directory);
try {
  const version = context.browser()?.version() ?? 'unknown';
  say(`Chromium ${version}, profile on ${fileSystemOf(directory)}, ${before.cores} cores (${before.cpu}), load ${before.load_1min}, ${rounds} rounds`);
  const page = await newPage(context, backend.origin);
  await inPage(page, 'warm');
  if (profile) await profiled(page);
  else {
    for (let round = 0; round < rounds; round++) {
      say(`round ${round + 1} of ${rounds}`);
      await writeRound(page, round);
      if (readWorkloads.some((name) => wanted.includes(name))) await readRound(context, backend.origin, page, round);
      await inPage(page, 'removeAll');
    }
    const order = [...Object.keys(workloads), ...readWorkloads].filter((name) => wanted.includes(name));
    const result = Object.fromEntries(order.map((name) => [name, Object.fromEntries(Object.entries(samples[name]).map(([contender, all]) => [contender, rounded(median(all))]))]));
    say(`\nmedian of ${rounds} (smallest … largest)\n\n${table(result)}\n`);
    console.log(JSON.stringify({ workloads: result, rounds, chromium: version, file_system: fileSystemOf(directory), machine: before, load_1min_after: machine().load_1min }));
  }
} finally {
  await context.close();
  await backend.close();
}
