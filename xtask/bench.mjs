// `npm run bench -- client|server [--json]`: side by side with the peers, in real browsers and against real servers.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { build } from './build.mjs';
import { Failure, ensureBrowser, ensurePeers, main, root, run, start, step } from './lib.mjs';

const benches = {
  client: async (options) => {
    await build();
    // Hand-written code and floors are here already; everybody else comes from packages that nothing but this needs.
    if (!options.includes('local')) await ensurePeers();
    const { browser } = await ensureBrowser();
    return { LANDFALL_CHROMIUM: browser };
  },
  server: async () => {
    await step('compiling the server', () => run('cargo', ['build', '--quiet', '--profile', 'fast', '-p', 'landfall-server']));
    return { LANDFALL_SERVER: join(root, 'target/fast/landfall-server') };
  },
};

main(async () => {
  const [name, ...rest] = process.argv.slice(2);
  const script = `bench/${name}.mjs`;
  if (!Object.hasOwn(benches, name ?? '')) throw new Failure('usage: npm run bench -- client|server [--json]');
  if (!existsSync(join(root, script))) throw new Failure(`${script} is not there`);
  const env = await benches[name](rest);
  const child = start('node', [script, ...rest], { env });
  const code = await new Promise((resolve) => child.once('close', (exit) => resolve(exit ?? 1)));
  if (code !== 0) throw new Failure(`${script} ended with exit ${code}.`);
});
