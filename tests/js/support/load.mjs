// Gives a test the package's own source as a module: bundled from TypeScript, with a glue that the test plays itself.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { bundle } from '../../../js/build.mjs';

const glue = fileURLToPath(new URL('./glue.mjs', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'landfall-js-'));
after(() => rmSync(directory, { recursive: true, force: true }));
let count = 0;

/** A fresh copy of the module each time: nothing one test left in it is seen by the next. */
export async function load(entry) {
  const path = join(directory, `${count++}.mjs`);
  writeFileSync(path, await bundle(entry, { glue, minify: false }));
  return import(pathToFileURL(path).href);
}

/** Lets everything happen that needs no time. */
export const settled = () => new Promise((resolve) => setImmediate(resolve));
