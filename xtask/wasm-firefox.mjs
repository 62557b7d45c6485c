// A runner for cargo: the WebAssembly tests in Firefox without geckodriver, which takes minutes to compile. wasm-bindgen's runner
// serves them as a page; this opens it and reads what came of them. LANDFALL_FIREFOX names the program.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as elapse } from 'node:timers/promises';
import { Firefox } from '../tests/browsers/firefox.mjs';
import { freePort } from './lib.mjs';

const pollMs = 100;
const limitMs = 1000 * Number(process.env.WASM_BINDGEN_TEST_TIMEOUT ?? 180);

const port = await freePort();
const served = spawn('wasm-bindgen-test-runner', process.argv.slice(2), { env: { ...process.env, NO_HEADLESS: '1', WASM_BINDGEN_TEST_ADDRESS: `127.0.0.1:${port}` } });
let said = '';
const ready = new Promise((done) => {
  for (const stream of [served.stdout, served.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      said += text;
      if (said.includes(String(port))) done(true);
    });
  }
  served.once('exit', () => done(false));
});

let ok = false;
if (await ready) {
  const profile = mkdtempSync(join(tmpdir(), 'landfall-wasm-'));
  const firefox = new Firefox(process.env.LANDFALL_FIREFOX);
  try {
    await firefox.start(profile, [`http://127.0.0.1:${port}/`]);
    let output = '';
    for (const deadline = Date.now() + limitMs; !/test result: /.test(output); await elapse(pollMs)) {
      if (Date.now() > deadline) throw new Error(`no result within ${limitMs} ms:\n${output}`);
      output = await firefox.evaluate("return document.querySelector('#output')?.textContent ?? ''");
    }
    console.log(output);
    ok = /test result: ok/.test(output);
  } finally {
    await firefox.kill();
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    served.kill();
  }
} else {
  // A file without tests ends by itself.
  console.log(said);
  ok = served.exitCode === 0;
}
process.exit(ok ? 0 : 1);
