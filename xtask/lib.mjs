// What the commands share: steps that say what they do, processes, prerequisites and tools. Node only, no packages.
// Invariant: nothing here is done twice. A step that has been done for these very inputs is a file comparison.

import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once as eventOf } from 'node:events';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { delimiter, dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
const stampDirectory = join(root, 'target', 'xtask');
const skipped = new Set(['node_modules', 'target', '.git', 'dist', 'test-results']);
const startedAt = Date.now();
const freePortTriesMost = 100;

/** A failure that has been explained to the person already: no stack trace wanted. */
export class Failure extends Error {}

// ---- saying what happens -------------------------------------------------------------------------------------------

/** One line with the seconds since the command began. */
export function log(text) {
  console.log(`[${((Date.now() - startedAt) / 1000).toFixed(1).padStart(6)} s] ${text}`);
}

export const seconds = (since) => `${((Date.now() - since) / 1000).toFixed(1)} s`;

/** Runs `work` between two lines; the second is left out for work that took no time worth reading. */
export async function step(text, work) {
  const began = Date.now();
  log(`${text} …`);
  const result = await work();
  if (Date.now() - began > 1000) log(`${text}: done in ${seconds(began)}`);
  return result;
}

/** The entry of every command: prints a Failure as one message, anything else as the bug it is. */
export async function main(work) {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => endChildren(signal));
  try {
    await work();
  } catch (error) {
    endChildren();
    console.error(error instanceof Failure ? `\n${error.message}` : error);
    process.exit(1);
  }
}

// ---- processes -----------------------------------------------------------------------------------------------------

const children = new Set();

function endChildren(signal) {
  for (const child of children) child.kill('SIGTERM');
  if (signal) process.exit(128 + { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 }[signal]);
}

/** The environment of every process: our tools first on PATH, nothing that asks or downloads a browser. */
export function environment(extra = {}) {
  const path = [join(toolsRoot(), 'bin'), join(root, 'node_modules', '.bin'), process.env.PATH].join(delimiter);
  return { ...process.env, PATH: path, PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD: '1', npm_config_update_notifier: 'false', ...extra };
}

/**
 * Runs a command to its end and gives `{ ok, output, code }`.
 * `quiet` (the default) keeps the output and prints it only when the command fails; `check: false` leaves failing to the caller.
 */
export function run(command, args, { cwd = root, env = {}, quiet = true, check = true } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env: environment(env), stdio: quiet ? ['ignore', 'pipe', 'pipe'] : ['ignore', 'inherit', 'inherit'] });
    children.add(child);
    let output = '';
    const keep = (chunk) => (output += chunk);
    child.stdout?.setEncoding('utf8').on('data', keep);
    child.stderr?.setEncoding('utf8').on('data', keep);
    child.on('error', (error) => {
      children.delete(child);
      reject(new Failure(`cannot run ${command}: ${error.message}`));
    });
    child.on('close', (code, signal) => {
      children.delete(child);
      const ok = code === 0;
      if (!ok && quiet && check) process.stderr.write(`\n${output.trimEnd()}\n`);
      if (!ok && check) reject(new Failure(`failed (${signal ?? `exit ${code}`}): ${command} ${args.join(' ')}`));
      else resolve({ ok, output, code: code ?? 1 });
    });
  });
}

/** Starts a process that goes on; the caller waits for its end. */
export function start(command, args, { cwd = root, env = {}, stdio = 'inherit' } = {}) {
  const child = spawn(command, args, { cwd, env: environment(env), stdio });
  children.add(child);
  child.on('close', () => children.delete(child));
  return child;
}

/** The first of the programs that is on PATH, as a whole path, or undefined. */
export function which(...programs) {
  const directories = environment().PATH.split(delimiter);
  for (const program of programs) {
    const found = directories.map((directory) => join(directory, program)).find((path) => existsSync(path));
    if (found) return found;
  }
  return undefined;
}

/**
 * Below the ports that systems give to outgoing connections: while a server of such a port is down, the next connection to
 * anywhere may take it, even one to that very port, and the server cannot start again.
 */
const freePorts = [20_000, 31_999];

/** Makes a server listen on a port of 127.0.0.1 that nobody uses, one of `range`, and gives the port. */
export async function listenAnywhere(server, [first, last] = freePorts) {
  for (let tries = 1; ; tries++) {
    const port = first + Math.floor(Math.random() * (last - first + 1));
    server.listen(port, '127.0.0.1');
    try {
      await eventOf(server, 'listening');
      return port;
    } catch (error) {
      if (error.code !== 'EADDRINUSE' || tries === freePortTriesMost) throw error;
    }
  }
}

/** A port like that which nobody uses at this moment. */
export async function freePort(range) {
  const server = createServer();
  const port = await listenAnywhere(server, range);
  server.close();
  await eventOf(server, 'close');
  return port;
}

// ---- stamps: what has been done for which inputs -------------------------------------------------------------------

/** All files below the given paths (relative to the root), sorted; what git ignores by name is left out. */
export function filesBelow(paths) {
  const found = [];
  const visit = (path) => {
    if (!existsSync(path)) return;
    if (!statSync(path).isDirectory()) return void found.push(path);
    for (const name of readdirSync(path)) if (!skipped.has(name)) visit(join(path, name));
  };
  for (const path of paths) visit(join(root, path));
  return found.sort();
}

/** A hash over the names and contents of files, and over any further strings. */
export function hashOf(files, ...more) {
  const hash = createHash('sha256');
  for (const file of files) hash.update(`${relative(root, file).split(sep).join('/')}\0`).update(readFileSync(file)).update('\0');
  for (const text of more) hash.update(`${text}\0`);
  return hash.digest('hex').slice(0, 16);
}

/** Does `work` unless it was done for the same hash and its outputs still exist. The stamp is written after the work, never before. */
export async function stamped(name, hash, outputs, work) {
  const stamp = join(stampDirectory, `${name}.stamp`);
  const done = () => existsSync(stamp) && readFileSync(stamp, 'utf8') === hash && outputs.every((path) => existsSync(join(root, path)));
  if (done()) return false;
  rmSync(stamp, { force: true });
  await work();
  mkdirSync(stampDirectory, { recursive: true });
  writeFileSync(stamp, hash);
  return true;
}

/** Set-up is asked for by every part that needs it and done by the first: one promise per argument. */
function once(work) {
  const begun = new Map();
  return (argument) => {
    if (!begun.has(argument)) begun.set(argument, work(argument));
    return begun.get(argument);
  };
}

// ---- prerequisites -------------------------------------------------------------------------------------------------

const installRust = "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y";
const installNode = 'install Node.js 20.19 or newer: https://nodejs.org/en/download';

/** Names everything that is missing at once, each with the command that installs it. */
export function checkPrerequisites() {
  const missing = [];
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19)) missing.push(`node ${process.versions.node} is too old: ${installNode}`);
  if (!which('npm')) missing.push(`npm is missing: ${installNode}`);
  if (!which('rustup')) missing.push(`rustup is missing: ${installRust}`);
  else if (!which('cargo')) missing.push('cargo is missing: rustup toolchain install');
  if (!which('cc', 'gcc', 'clang')) missing.push('a C compiler is missing (SQLite is built from source): apt-get install -y build-essential');
  if (missing.length > 0) throw new Failure(`Something is missing on this machine:\n${missing.map((line) => `  - ${line}`).join('\n')}`);
}

/** The pinned Rust tool chain with its wasm target and components. */
export const ensureRust = once(async () => {
  const pinned = readFileSync(join(root, 'rust-toolchain.toml'), 'utf8');
  await stamped('rust', hashOf([], pinned, process.env.RUSTUP_TOOLCHAIN ?? '', toolchainDirectory()), [], () =>
    step('setting up Rust and its wasm32 target', async () => {
      if (spawnSync('rustc', ['--version'], { cwd: root }).status !== 0) await run('rustup', ['toolchain', 'install']);
      await run('rustup', ['target', 'add', 'wasm32-unknown-unknown']);
      await run('rustup', ['component', 'add', 'clippy', 'rustfmt', 'rust-src']);
    }),
  );
});

function toolchainDirectory() {
  return spawnSync('rustc', ['--print', 'sysroot'], { cwd: root, encoding: 'utf8' }).stdout ?? '';
}

/** What this machine compiles for by itself, as Rust calls it. */
export const rustHost = () => /^host: (.+)$/m.exec(spawnSync('rustc', ['-vV'], { cwd: root, encoding: 'utf8' }).stdout ?? '')?.[1] ?? '';

/** The tool chain's own reader of what an instrumented program counted. Undefined, and said: it cannot be had here. */
export async function ensureProfiler() {
  const program = join(toolchainDirectory().trim(), 'lib/rustlib', rustHost(), 'bin/llvm-profdata');
  if (!existsSync(program)) await step('adding the profiler to the tool chain', () => run('rustup', ['component', 'add', 'llvm-tools'], { check: false }));
  if (existsSync(program)) return program;
  log('rustup has no llvm-tools here: the simulator is compiled without a profile');
  return undefined;
}

/** The npm packages of the lock file; a tree that npm itself says to be that of the lock file is left alone. */
export const ensureNpm = once(async () => {
  if (!npmIsCurrent('.')) await step('installing the npm packages', () => run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error']));
});

/** The engines that the client's benchmark compares with, by a lock file of their own. Their install scripts do not run. */
export const ensurePeers = once(async () => {
  // One of them asks for a newer Node.js in a part that nothing here runs; what counts is the browser.
  if (!npmIsCurrent('bench')) await step("installing the peers' packages", () => run('npm', ['ci', '--ignore-scripts', '--loglevel=error', '--engine-strict=false'], { cwd: join(root, 'bench') }));
});

function npmIsCurrent(directory) {
  const packagesOf = (path) => JSON.parse(readFileSync(join(root, directory, path), 'utf8')).packages;
  if (!existsSync(join(root, directory, 'node_modules/.package-lock.json'))) return false;
  const { '': _project, ...wanted } = packagesOf('package-lock.json');
  const installed = packagesOf('node_modules/.package-lock.json');
  const same = ([path, entry]) => (installed[path] ? installed[path].integrity === entry.integrity : entry.optional === true);
  return Object.entries(wanted).every(same) && Object.keys(installed).every((path) => Object.hasOwn(wanted, path));
}

// ---- the WebAssembly tools -----------------------------------------------------------------------------------------

/** The directory of exactly these tools, so that two versions of them never meet. */
export function toolsRoot() {
  return join(root, '.tools', hashOf(filesBelow(['tools/Cargo.toml', 'tools/Cargo.lock', 'tools/src'])));
}

/**
 * Builds the tools: `bindgen` is what a build needs, `all` adds wasm-pack and the test runner (and replaces the former).
 * Two commands at once wait for each other at cargo's own lock.
 */
export const ensureTools = once(async (size) => {
  checkToolVersion();
  const bin = join(toolsRoot(), 'bin');
  const wanted = size === 'all' ? ['landfall-bindgen', 'wasm-bindgen', 'wasm-bindgen-test-runner', 'wasm-pack'] : ['landfall-bindgen'];
  if (wanted.every((name) => existsSync(join(bin, name)))) return;
  const features = size === 'all' ? [] : ['--no-default-features', '--features', 'bindgen'];
  const target = join(root, '.tools', 'target');
  await step(size === 'all' ? 'building wasm-pack, wasm-bindgen and the test runner' : 'building the binding generator', () =>
    run('cargo', ['install', '--quiet', '--locked', '--path', 'tools', '--root', toolsRoot(), '--target-dir', target, ...features]),
  );
  if (size === 'all') rmSync(target, { recursive: true, force: true });
});

/** wasm-bindgen's two halves must be of one version; said here in words instead of by a wasm-pack download. */
function checkToolVersion() {
  const lock = join(root, 'Cargo.lock');
  const used = existsSync(lock) && /name = "wasm-bindgen"\nversion = "([^"]+)"/.exec(readFileSync(lock, 'utf8'))?.[1];
  const ours = /wasm-bindgen-cli-support = \{ version = "=([^"]+)"/.exec(readFileSync(join(root, 'tools', 'Cargo.toml'), 'utf8'))?.[1];
  if (used && used !== ours) {
    throw new Failure(`Cargo.lock has wasm-bindgen ${used}, tools/Cargo.toml has ${ours}: cargo update -p wasm-bindgen --precise ${ours}`);
  }
}

// ---- the browser ---------------------------------------------------------------------------------------------------

const findBrowser = () => ({ browser: which('chromium', 'google-chrome', 'google-chrome-stable', 'chromium-browser'), driver: which('chromedriver') });

/** WebKitGTK's own small browser is not on PATH. */
function findMiniBrowser() {
  const libraries = existsSync('/usr/lib') ? readdirSync('/usr/lib').map((name) => join('/usr/lib', name)) : [];
  const found = libraries.flatMap((library) => ['4.1', '4.0'].map((version) => join(library, `webkit2gtk-${version}`, 'MiniBrowser')));
  return which('MiniBrowser') ?? found.find((path) => existsSync(path));
}

/** Other browsers: what of them must be there, and Debian's packages that bring it. WebKitGTK needs a display, and gets xvfb's. */
const others = {
  firefox: { packages: ['firefox-esr'], find: () => ({ firefox: which('firefox', 'firefox-esr') }) },
  webkit: {
    packages: ['webkit2gtk-driver', 'xvfb', 'xauth'],
    find: () => ({ WebKitWebDriver: which('WebKitWebDriver'), 'xvfb-run': which('xvfb-run'), Xvfb: which('Xvfb'), MiniBrowser: findMiniBrowser() }),
  },
};

const mayInstall = () => process.getuid?.() === 0 && which('apt-get') !== undefined;

let installing = Promise.resolve();

/** Debian's packages, one after the other: two installations at once end in an error. */
function install(what, packages) {
  const env = { DEBIAN_FRONTEND: 'noninteractive' };
  const work = () => step(`installing ${what}`, async () => {
    await run('apt-get', ['update', '-q'], { env });
    await run('apt-get', ['install', '-y', '-q', '--no-install-recommends', ...packages], { env });
  });
  const done = installing.then(work);
  installing = done.catch(() => {});
  return done;
}

/** Firefox or WebKitGTK: what is there, or Debian's where we may install it; else `{ skip }` with the reason. */
export const ensureOther = once(async (name) => {
  const { packages, find } = others[name];
  const missing = () => Object.entries(find()).filter(([, path]) => !path).map(([program]) => program);
  if (missing().length === 0) return find();
  const command = `apt-get install ${packages.join(' ')}`;
  if (!mayInstall()) return { skip: `needs ${missing().join(' and ')} (${command}), and may not install it here: not root on Debian` };
  try {
    await install(name, packages);
  } catch (error) {
    return { skip: `needs ${missing().join(' and ')}, and it could not be installed: ${error.message}` };
  }
  return missing().length === 0 ? find() : { skip: `needs ${missing().join(' and ')}, and ${command} did not bring it` };
});

/** Chromium and its driver: those on PATH, or Debian's where we may install them. */
export async function ensureBrowser() {
  let found = findBrowser();
  if (found.browser && found.driver) return found;
  const packages = ['chromium', 'chromium-driver'];
  if (mayInstall()) {
    await install('Chromium and its driver', packages);
    found = findBrowser();
  }
  if (!found.browser || !found.driver) {
    throw new Failure(`The browser tests need chromium (or google-chrome) and chromedriver on PATH: apt-get update && apt-get install -y --no-install-recommends ${packages.join(' ')}`);
  }
  return found;
}
