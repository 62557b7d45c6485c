// Builds what ships: src/ → pkg/ (module and glue), js/ and service-worker/ → dist/ (the npm package), www/ → www/dist.
// Each part is skipped when nothing it reads has changed. `--dev` leaves out optimisation, for the inner loop.

import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { checkPrerequisites, ensureNpm, ensureRust, ensureTools, filesBelow, hashOf, main, root, run, stamped, step, toolsRoot } from './lib.mjs';
import { slimGlue } from './glue.mjs';
import { renumberLocals } from './locals.mjs';
import { shortenNames } from './names.mjs';
import { orderFunctions } from './order.mjs';
import { copyWhole } from './strings.mjs';
import { hearTraps } from './traps.mjs';

/** Crates that are no part of the module: a change to them does not build it anew. */
const nativeOnly = ['server', 'sim'];
/** What is done to the linked module, as files. */
const recipe = ['build', 'glue', 'locals', 'names', 'order', 'strings', 'traps', 'wasm'].map((name) => join(root, `xtask/${name}.mjs`));
const scratch = 'target/xtask/pkg';
const releaseTarget = 'target/module';

/** Everything, with the set-up it needs; the parts that do not wait for one another run at the same time. */
export async function build({ release = true } = {}) {
  checkPrerequisites();
  const npm = ensureNpm();
  const rust = ensureRust();
  // Awaited later, each where it is needed: until then a rejection must not end the process as unhandled.
  for (const promise of [npm, rust]) promise.catch(() => {});
  await buildWasm({ release, rust, npm });
  await buildJs();
  await buildWww();
}

/** pkg/landfall.js, pkg/landfall_bg.wasm and their types. */
export async function buildWasm({ release = true, rust = ensureRust(), npm = ensureNpm() } = {}) {
  const crates = readdirSync(join(root, 'crates')).filter((name) => !nativeOnly.includes(name)).map((name) => `crates/${name}`);
  const sources = filesBelow(['Cargo.toml', 'Cargo.lock', 'rust-toolchain.toml', 'src', ...crates]);
  const hash = hashOf([...sources, join(root, 'package-lock.json'), ...recipe], toolsRoot(), String(release), process.env.RUSTFLAGS ?? '');
  await stamped('wasm', hash, ['pkg/landfall.js', 'pkg/landfall_bg.wasm'], async () => {
    await rust;
    const tools = ensureTools('bindgen');
    tools.catch(() => {});
    await step('compiling the wasm module', () => compile(release));
    await tools;
    await npm;
    await step('binding and optimising the wasm module', () => bind(release));
  });
}

/**
 * The shipped module is built with a standard library of the same flags: a panic traps at once (xtask/traps.mjs hears of
 * it), and the code that would have put its message together is not there: 7 % of the file. The pinned compiler has this
 * behind flags of its nightly versions; RUSTC_BOOTSTRAP lets it take them. Build scripts look at that variable, so what is
 * built with it has a directory of its own.
 */
function compile(release) {
  const args = ['build', '--quiet', '--target', 'wasm32-unknown-unknown', '-p', 'landfall', '--lib'];
  if (!release) return run('cargo', args);
  const flags = [process.env.RUSTFLAGS, '-Zunstable-options', '-Cpanic=immediate-abort', '-Zlocation-detail=none', '-Zfmt-debug=none'];
  const env = { RUSTC_BOOTSTRAP: '1', RUSTFLAGS: flags.filter(Boolean).join(' ') };
  const library = ['-Zbuild-std=std,panic_abort', '-Zbuild-std-features=optimize_for_size'];
  return run('cargo', [...args, '--release', '--target-dir', releaseTarget, ...library], { env });
}

async function bind(release) {
  const linked = `${release ? `${releaseTarget}/wasm32-unknown-unknown/release` : 'target/wasm32-unknown-unknown/debug'}/landfall.wasm`;
  rmSync(join(root, scratch), { recursive: true, force: true });
  mkdirSync(join(root, scratch), { recursive: true });
  await run('landfall-bindgen', [linked, scratch, 'landfall']);
  const glue = join(root, scratch, 'landfall.js');
  writeFileSync(glue, hearTraps(copyWhole(readFileSync(glue, 'utf8'))));
  if (release) await shrink(glue);
  rmSync(join(root, 'pkg'), { recursive: true, force: true });
  renameSync(join(root, scratch), join(root, 'pkg'));
}

/** Names that the module and its glue exchange, then the code, its order and its locals: each makes the next one's work smaller. */
async function shrink(glue) {
  const module = join(root, scratch, 'landfall_bg.wasm');
  const short = shortenNames(readFileSync(module), slimGlue(readFileSync(glue, 'utf8')));
  writeFileSync(glue, short.glue);
  writeFileSync(module, short.bytes);
  // It declares the module's exports by the names that they had.
  rmSync(`${module}.d.ts`);
  // The features come from the module's own section; --all-features writes imports that no browser accepts.
  // Debug names fall away because -g is not given: a third of the file. Functions with one caller stay on their own
  // unless tiny (-ocimfs): large ones need long numbers for their locals, and gzip finds less to share; 7 % of the file.
  // How a load or store is aligned is a hint that browsers' processors do not need, and one byte more to tell code apart.
  // A value that is computed twice in the same words is shorter to gzip than one that is kept in a local (--skip-pass).
  await run('wasm-opt', ['-Oz', '-ocimfs', '20', '--skip-pass=local-cse', '--dealign', '--strip-producers', '--strip-target-features', module, '-o', module]);
  // Renumbered, functions are alike that were not before: another search then finds a third of a per cent.
  writeFileSync(module, orderFunctions(renumberLocals(orderFunctions(readFileSync(module), 8)), 20));
}

/** dist/: what the npm package holds. js/build.mjs knows how. */
export async function buildJs() {
  if (!existsSync(join(root, 'js/build.mjs'))) return;
  const hash = hashOf([...filesBelow(['js', 'service-worker', 'pkg', 'tsconfig.base.json']), ...packageFiles()]);
  await stamped('js', hash, ['dist/index.js', 'dist/index.d.ts'], () => step('building the package', () => run('node', ['js/build.mjs'])));
}

/** www/dist: the demo, which imports `landfall` by its published name only and so needs dist/. */
export async function buildWww() {
  const config = ['www/vite.config.js', 'www/vite.config.mjs', 'www/vite.config.ts'].find((path) => existsSync(join(root, path)));
  if (!config) return;
  const hash = hashOf([...filesBelow(['www']), ...distFiles(), ...packageFiles()]);
  await stamped('www', hash, ['www/dist/index.html'], () => step('building the demo', () => run('vite', ['build', 'www', '--logLevel', 'warn'])));
}

const packageFiles = () => ['package.json', 'package-lock.json'].map((path) => join(root, path));
const distFiles = () => filesBelow(['dist']);

/** The module that the last build made. */
export const wasmFile = () => readFileSync(join(root, 'pkg/landfall_bg.wasm'));

if (import.meta.url === pathToFileURL(process.argv[1]).href) main(() => build({ release: !process.argv.includes('--dev') }));
