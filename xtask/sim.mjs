// `npm run sim -- …`: builds the simulator and runs it with the arguments given, in the program's own words.

import { Failure, checkPrerequisites, ensureRust, main, run, start, step } from './lib.mjs';

main(async () => {
  checkPrerequisites();
  await ensureRust();
  await step('compiling the simulator', () => run('cargo', ['build', '--quiet', '--profile', 'fast', '-p', 'landfall-sim']));
  const child = start('target/fast/landfall-sim', process.argv.slice(2));
  const code = await new Promise((resolve) => child.once('close', (exit) => resolve(exit ?? 1)));
  if (code !== 0) throw new Failure(`The simulator ended with exit ${code}.`);
});
