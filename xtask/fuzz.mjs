// `npm run fuzz -- --seconds 60`: every reader of rows, messages and queries under spoiled texts, each for so long.

import { parseArgs } from 'node:util';
import { Failure, checkPrerequisites, ensureRust, main, run } from './lib.mjs';

/** The optimised build looks at ten times as many texts. */
const build = ['test', '--profile', 'fast', '-p', 'landfall-protocol', '-p', 'landfall-storage', '-p', 'landfall-sim', '--test', 'fuzz'];

main(async () => {
  const { values } = parseArgs({ options: { seconds: { type: 'string', default: '60' } } });
  const seconds = Number(values.seconds);
  if (!(seconds > 0)) throw new Failure(`--seconds ${values.seconds}: a number above 0 is wanted.`);
  checkPrerequisites();
  await ensureRust();
  const env = { LANDFALL_FUZZ_MS: String(Math.round(seconds * 1000)) };
  const { ok } = await run('cargo', [...build, '--no-fail-fast', '--', '--nocapture'], { env, quiet: false, check: false });
  if (!ok) throw new Failure('A reader failed; its text stands above.');
});
