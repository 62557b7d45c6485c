// Landfall against hand-written IndexedDB (strict) in one short run: has a ratio got twice as bad as the one in ratios.json?
//
// The two are measured within seconds of each other, so a slow or busy machine slows both. What looks worse is measured once
// more before it fails: noise does not come twice. `--record` writes the ratios of this machine (the middle of three runs).

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { measure } from './client/run.mjs';
import { median, options, root, rounded } from './lib.mjs';

const file = join(root, 'bench', 'ratios.json');
const size = 10_000;
const worseAtMost = 2;
const rival = 'raw_idb_strict';
const watched = ['stored_write_p50_ms', 'concurrent_1000_writes_per_s', 'ingest_10k_ms', 'query100_warm_10k_ms', 'scan_10k_ms'];

/** How many times as long as the rival Landfall takes, by figure; less is better. */
async function ratios(only) {
  const { workloads, left_out: leftOut } = await measure({ names: ['landfall', rival], only, rounds: 1, sizes: [size], fewProcesses: true, taskSeconds: 30 });
  return Object.fromEntries(
    only.map((figure) => {
      const { landfall, [rival]: other } = workloads[figure] ?? {};
      if (landfall === undefined || other === undefined) throw new Error(`${figure} was not measured: ${JSON.stringify(leftOut[figure])}`);
      return [figure, rounded(figure.endsWith('_per_s') ? other / landfall : landfall / other)];
    }),
  );
}

const { record } = options({ record: false });
if (record) {
  const runs = [await ratios(watched), await ratios(watched), await ratios(watched)];
  const middle = Object.fromEntries(watched.map((figure) => [figure, median(runs.map((run) => run[figure]))]));
  writeFileSync(file, `${JSON.stringify(middle, null, 2)}\n`);
  console.log(middle);
} else {
  const recorded = JSON.parse(readFileSync(file, 'utf8'));
  const tooMuch = (found) => Object.keys(found).filter((figure) => found[figure] > recorded[figure] * worseAtMost);
  const first = await ratios(watched);
  const suspects = tooMuch(first);
  const again = suspects.length > 0 ? await ratios(suspects) : {};
  for (const figure of watched) {
    const second = again[figure] === undefined ? '' : `, then ${again[figure]}`;
    console.log(`${figure}: ${first[figure]}${second} times hand-written; recorded ${recorded[figure]}`);
  }
  const worse = tooMuch(again);
  if (worse.length > 0) {
    console.error(`More than ${worseAtMost} times as bad as in bench/ratios.json, twice in a row: ${worse.join(', ')}`);
    process.exitCode = 1;
  }
}
