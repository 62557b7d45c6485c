// Benchmarks of the client: Landfall and its peers in headless Chromium, the same records and the same harness for all.
//
// Prints a table and, as the last line, JSON. Options:
//
//   --engines A,B      only these (all; `local` for those that need no package: Landfall, hand-written, floors)
//   --only A,B         only these figures
//   --rounds N         rounds, the median counts (3)
//   --size N,M         records in a database (100000); several show how cost grows
//   --million          the figures of a million records too
//   --timeout SECONDS  for one task of one engine (180; five times that with a million records)
//   --svg              writes how cost grows to docs/performance-*.svg; wants several sizes
//   --sqlite-backend   Chromium with IndexedDB on SQLite
//   --report           what docs/performance.md shows of this machine, in one go of some fifteen minutes: Landfall, hand-written and
//                      floors on both back ends (--rounds 2 if it is not given), then Landfall from 1,000 to a million records, with
//                      --svg. The last line has the first back end's figures, and `sqlite` and `growth` beside them
//   --profile FILE     writes a CPU profile of the first figure of --only (with --engines landfall --rounds 1)
//   --json             only the last line; Ctrl-C ends the run after the engine under way, and it still prints
//   --wasm FILE        the engine's module to use instead of that in dist/
//
// Needs the built package (dist/, or LANDFALL_DIST), Chromium (LANDFALL_CHROMIUM, or on PATH) and, for the peers, the packages of
// bench/package.json (`npm ci --prefix bench`; `npm run bench` does it). Profiles are on disk, below TMPDIR: in a private
// window IndexedDB is in memory, and then nothing here would mean anything.

import { engines, usualSize } from './client/catalog.mjs';
import { bundlePeers, versionsOf } from './client/peers.mjs';
import { measure, namesAt } from './client/run.mjs';
import { options, root } from './lib.mjs';
import { writePlots } from './svg.mjs';

const given = options({ engines: '', only: '', rounds: 0, report: false, size: String(usualSize), million: false, svg: false, 'sqlite-backend': false, json: false, timeout: 180, wasm: '', profile: '' });

const local = Object.keys(engines).filter((name) => !engines[name].peer);
if (given.report) given.engines ||= 'local';
given.rounds ||= given.report ? 2 : 3;
const names = given.engines === 'local' ? local : given.engines ? given.engines.split(',') : Object.keys(engines);
const sizes = given.size.split(',').map(Number);
const only = given.only ? given.only.split(',') : undefined;
const peers = names.filter((name) => engines[name]?.peer);

for (const name of names) if (!engines[name]) throw new Error(`there is no engine ${name}: ${Object.keys(engines).join(', ')}`);
for (const size of sizes) if (!Number.isSafeInteger(size) || size < 1000) throw new Error('--size: at least 1000 records; a supplier has one in a thousand');
const known = namesAt(sizes, given.million);
for (const name of only ?? []) if (!known.includes(name)) throw new Error(`there is no figure ${name}: ${known.join(', ')}`);
if (given.profile && (names.length > 1 || !only || given.rounds > 1)) throw new Error('--profile wants one engine, --only and --rounds 1');
if (given.svg && sizes.length < 2) throw new Error('--svg wants several sizes');

const growthSizes = [1_000, 10_000, 100_000, 1_000_000];
const say = (text) => given.json || console.log(text);

await bundlePeers(peers);
const asked = { names, only, rounds: given.rounds, sizes, withMillion: given.million, sqlite: given['sqlite-backend'], wasm: given.wasm || undefined, profile: given.profile || undefined, taskSeconds: given.timeout, say };
const result = await measured(asked);
if (given.report) {
  result.sqlite = await measured({ ...asked, sqlite: true });
  result.growth = await measured({ ...asked, names: ['landfall'], rounds: 1, sizes: growthSizes });
  plot(result.growth, growthSizes);
}
if (given.svg) plot(result, sizes);
console.log(JSON.stringify({ ...result, versions: versionsOf(peers) }));

/** One run and its table. */
async function measured(wanted) {
  const found = await measure(wanted);
  say(table(found));
  const { spread, ...kept } = found;
  return kept;
}

function plot(found, of) {
  for (const file of writePlots(found, of, `${root}/docs`)) say(`wrote ${file}`);
}

/** Each figure with every engine: median, and from where to where; then why something is missing. */
function table({ workloads, spread, left_out: leftOut, chromium, idb_backend: backend, load, load_after: after, rounds }) {
  const lines = ['', `Chromium ${chromium}, IndexedDB on ${backend}, load ${load} before and ${after} after, median of ${rounds} (smallest … largest)`, ''];
  for (const [figure, of] of Object.entries(workloads)) {
    lines.push(figure);
    for (const [engine, value] of Object.entries(of)) lines.push(`  ${engine.padEnd(20)} ${String(value).padStart(10)}   (${spread[figure][engine].join(' … ')})`);
    for (const [engine, why] of Object.entries(leftOut[figure] ?? {})) if (of[engine] === undefined) lines.push(`  ${engine.padEnd(20)} ${'–'.padStart(10)}   ${why}`);
  }
  return `${lines.join('\n')}\n`;
}
