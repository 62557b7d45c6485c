// `npm run sim -- …`: builds the simulator and runs it with the arguments given, in the program's own words.
//
// `npm run sim -- --wasm-equality` plays 100 seeds natively and in WebAssembly and compares what came of them.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Failure, checkPrerequisites, ensureRust, main, run, start, step } from './lib.mjs';

const program = 'target/sim/landfall-sim';
const build = ['build', '--quiet', '--profile', 'sim', '-p', 'landfall-sim'];

async function ended(child, what) {
  const code = await new Promise((resolve) => child.once('close', (exit) => resolve(exit ?? 1)));
  if (code !== 0) throw new Failure(`${what} ended with exit ${code}.`);
}

async function compareWithWasm(args) {
  const wasm = 'target/wasm32-unknown-unknown/sim/landfall_sim.wasm';
  await step('compiling the simulator to WebAssembly', () => run('cargo', [...build, '--lib', '--target', 'wasm32-unknown-unknown']));
  const directory = await mkdtemp(join(tmpdir(), 'landfall-sim-'));
  try {
    const hashes = join(directory, 'native.jsonl');
    const { output } = await step('playing the seeds natively', () => run(program, args));
    await writeFile(hashes, output);
    await ended(start(process.execPath, ['crates/sim/wasm-equality.mjs', wasm, hashes]), 'The comparison');
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

main(async () => {
  checkPrerequisites();
  await ensureRust();
  await step('compiling the simulator', () => run('cargo', build));
  const args = process.argv.slice(2);
  if (args.includes('--wasm-equality')) await compareWithWasm(args);
  else await ended(start(program, args), 'The simulator');
});
