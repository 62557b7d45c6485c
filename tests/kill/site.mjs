// The demo as it is built, with one thing more: its lab page obeys this harness. What is added is in a file that the
// worker keeps for offline use, so that the page does so without a network too.

import { cp, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const page = new URL('page.js', import.meta.url);

/** `backgroundSync: false` takes it away from page and worker, as if the browser had none. */
export async function copySite(built, directory, { backgroundSync = true } = {}) {
  await cp(built, directory, { recursive: true });
  const assets = await readdir(join(directory, 'assets'));
  const labs = assets.filter((name) => /^lab-[\w-]+\.js$/.test(name));
  if (labs.length !== 1) throw new Error(`which of these is the lab's script? ${labs.join(', ')}`);
  const script = join(directory, 'assets', labs[0]);
  if (!backgroundSync) for (const file of [script, join(directory, 'sw.js')]) await writeFile(file, `delete globalThis.ServiceWorkerRegistration.prototype.sync;\n${await readFile(file, 'utf8')}`);
  await writeFile(script, `${await readFile(script, 'utf8')}\n${await readFile(page, 'utf8')}`);
}
