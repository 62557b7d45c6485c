// Plays the simulator's seeds in WebAssembly and compares the hashes with the native ones.
//
//   node crates/sim/wasm-equality.mjs <landfall_sim.wasm> <native hashes as JSON lines>
//
// The last line is {"seeds":100,"equal":100}; anything unequal is named and the exit code is 1.

import { readFile } from 'node:fs/promises';

const [wasmPath, nativePath] = process.argv.slice(2);
const { instance } = await WebAssembly.instantiate(await readFile(wasmPath), {});
const native = (await readFile(nativePath, 'utf8')).trim().split('\n').map((line) => JSON.parse(line));

let equal = 0;
for (const { seed, hash } of native) {
  const found = BigInt.asUintN(64, instance.exports.trace_hash(Math.floor(seed / 2 ** 32), seed >>> 0))
    .toString(16)
    .padStart(16, '0');
  if (found === hash) equal += 1;
  else console.log(`seed ${seed}: ${hash} natively, ${found} in WebAssembly`);
}
console.log(JSON.stringify({ seeds: native.length, equal }));
if (equal !== native.length) process.exitCode = 1;
