// `npm run sim -- …`: builds the simulator and runs it with the arguments given, in the program's own words.
//
// `npm run sim -- --wasm-equality` plays 100 seeds natively and in WebAssembly and compares what came of them.
// `npm run sim -- --trained …` compiles it a second time, by what it did in a thousand histories: a sixth less time for each,
// for a minute and a half more of compiling. Worth it from some 50,000 histories on.

import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Failure, checkPrerequisites, ensureProfiler, ensureRust, filesBelow, hashOf, main, root, run, rustHost, stamped, start, step } from './lib.mjs';

const build = ['build', '--quiet', '--profile', 'sim', '-p', 'landfall-sim'];
/** Seeds that no stage plays: what is trained for is the program, not the test. */
const training = ['--seed', '900000001', '--histories', '1000'];

async function compiled(isTrained) {
  const profiler = isTrained ? await ensureProfiler() : undefined;
  if (profiler) return await compiledByProfile(profiler);
  await step('compiling the simulator', () => run('cargo', build));
  return 'target/sim/landfall-sim';
}

/** Compiled with counters, played, and compiled by what was counted. The flags are for the simulator, not for build scripts, hence the target. */
async function compiledByProfile(profiler) {
  const host = rustHost();
  const below = (directory) => join('target', directory, host, 'sim/landfall-sim');
  const compile = (directory, flags) => run('cargo', [...build, '--target', host, '--target-dir', join('target', directory)], { env: { RUSTFLAGS: flags } });
  const counts = join(root, 'target/training/counts');
  const profile = join(root, 'target/training/simulator.profdata');
  const inputs = filesBelow(['Cargo.toml', 'Cargo.lock', 'rust-toolchain.toml', ...['protocol', 'core', 'storage', 'replica', 'sim'].map((name) => `crates/${name}`)]);
  await stamped('simulator-trained', hashOf(inputs), [below('trained'), profile], async () => {
    rmSync(counts, { recursive: true, force: true });
    mkdirSync(counts, { recursive: true });
    await step('compiling the simulator with counters', () => compile('training', `-Cprofile-generate=${counts}`));
    await step('training', () => run(below('training'), training));
    await run(profiler, ['merge', '-o', profile, ...readdirSync(counts).map((name) => join(counts, name))]);
    // What was never or seldom run is kept apart: the code does not fit the first caches.
    await step('compiling the simulator', () => compile('trained', `-Cprofile-use=${profile} -Cllvm-args=-split-machine-functions`));
  });
  return below('trained');
}

async function ended(child, what) {
  const code = await new Promise((resolve) => child.once('close', (exit) => resolve(exit ?? 1)));
  if (code !== 0) throw new Failure(`${what} ended with exit ${code}.`);
}

async function compareWithWasm(program, args) {
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
  const args = process.argv.slice(2).filter((arg) => arg !== '--trained');
  const program = await compiled(process.argv.includes('--trained'));
  if (args.includes('--wasm-equality')) await compareWithWasm(program, args);
  else await ended(start(program, args), 'The simulator');
});
