// `npm run kill -- --browser chromium|firefox|webkit --rounds N --seed S …`: builds everything and finds or installs the browser;
// the options are those of tests/kill/main.mjs.

import { build } from './build.mjs';
import { Failure, ensureBrowser, ensureOther, main, start } from './lib.mjs';
import { buildServer } from './start.mjs';

/** By name: the environment that tells the rounds where the program is. */
const programs = {
  chromium: async () => ({ LANDFALL_CHROMIUM: (await ensureBrowser()).browser }),
  firefox: async () => found(await ensureOther('firefox'), ({ firefox }) => ({ LANDFALL_FIREFOX: firefox })),
  webkit: async () => found(await ensureOther('webkit'), ({ MiniBrowser }) => ({ LANDFALL_WEBKIT: MiniBrowser })),
};

function found(other, environment) {
  if (other.skip) throw new Failure(`This browser ${other.skip}.`);
  return environment(other);
}

main(async () => {
  const args = process.argv.slice(2);
  const name = args.includes('--browser') ? args[args.indexOf('--browser') + 1] : 'chromium';
  if (!Object.hasOwn(programs, name)) throw new Failure(`--browser is one of ${Object.keys(programs).join(', ')}`);
  const env = await programs[name]();
  await Promise.all([build(), buildServer()]);
  const child = start('node', ['tests/kill/main.mjs', ...args], { env });
  const code = await new Promise((resolve) => child.once('close', (exit) => resolve(exit ?? 1)));
  if (code !== 0) throw new Failure(`The rounds ended with exit ${code}.`);
});
