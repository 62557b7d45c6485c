// `npm test`: all set-up, then every check of the project as a stage. A failed stage does not stop the later ones, so that
// one run shows everything; a failed build does. At the end stands what failed, by name and with its error, for whom only the
// end of a long log is kept. The last line counts stages: `N passed, 0 failed`.
// Options: --only name[,name] runs these stages alone; --list names them.

import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { build } from './build.mjs';
import { failureReport } from './failures.mjs';
import { Failure, checkPrerequisites, ensureBrowser, ensureNpm, ensureOther, ensureRust, ensureTools, filesBelow, log, main, root, run, seconds } from './lib.mjs';
import { checkLockFiles } from './locks.mjs';
import { buildServer } from './start.mjs';

const logDirectory = join(root, 'target', 'xtask', 'logs');
const browserTestTimeoutSeconds = 180;
/** For each target; .ci/run asks for more. */
const fuzzSeconds = process.env.LANDFALL_FUZZ_SECONDS ?? '3';

/** Of the simulator; docs/proof.md says how many were played. */
const simulatorHistories = process.env.LANDFALL_SIM_HISTORIES ?? '10000';
/** So many histories pay for a second compilation of the simulator. */
const trainedFrom = 50_000;
/** Seeds of which the histories are exported and judged from outside: some 30 KB each. */
const exportedSeeds = process.env.LANDFALL_EXPORTED_SEEDS ?? '2000';

const setUp = {
  rust: () => ensureRust(),
  npm: () => ensureNpm(),
  tools: () => ensureTools('all'),
  browser: () => ensureBrowser(),
  firefox: () => ensureOther('firefox'),
  webkit: () => ensureOther('webkit'),
};

/**
 * The stages in order. `needs`: the set-up it waits for. `count`: how many cases its output
 * reports, where none means failure. `build: true`: without it nothing later can say anything. A set-up that gives `skip`
 * says why the stage cannot run here.
 */
const stages = [
  { name: 'lock-files', work: checkLockFiles },
  { name: 'format', work: () => command('cargo', ['fmt', '--all', '--check']) },
  { name: 'clippy', work: () => command('cargo', ['clippy', '--quiet', '--workspace', '--all-targets', '--', '-D', 'warnings']) },
  {
    name: 'clippy-wasm',
    work: () => command('cargo', ['clippy', '--quiet', '-p', 'landfall', '--target', 'wasm32-unknown-unknown', '--all-targets', '--', '-D', 'warnings']),
  },
  { name: 'build', needs: ['npm', 'tools'], build: true, work: buildAll },
  { name: 'types', needs: ['npm'], work: () => command('node', ['js/build.mjs', '--check']) },
  { name: 'native', count: cargoCount, work: () => command('cargo', ['test', '--workspace', '--no-fail-fast']) },
  { name: 'fuzz', count: cargoCount, work: () => command('node', ['xtask/fuzz.mjs', '--seconds', fuzzSeconds]) },
  { name: 'wasm', needs: ['tools', 'browser'], count: cargoCount, work: wasmTests },
  { name: 'wasm-firefox', needs: ['npm', 'tools', 'firefox'], count: cargoCount, work: wasmTestsInFirefox },
  // WebKitGTK's driver speaks as Safari's does.
  { name: 'wasm-webkit', needs: ['tools', 'webkit'], count: cargoCount, work: ({ WebKitWebDriver }) => wasmTestsIn(['--safari', '--safaridriver', WebKitWebDriver], ['xvfb-run', '-a']) },
  { name: 'javascript', needs: ['npm'], count: nodeCount, work: () => nodeTests('tests/js') },
  { name: 'packaging', needs: ['npm'], count: nodeCount, work: () => nodeTests('tests/packaging') },
  { name: 'histories', count: nodeCount, work: () => nodeTests('tests/histories') },
  { name: 'simulator', work: () => simulator('--histories', simulatorHistories) },
  { name: 'histories-simulator', work: simulatorExport },
  { name: 'simulator-plants', work: () => simulator('--plants') },
  { name: 'simulator-wasm', work: () => simulator('--wasm-equality') },
  { name: 'end-to-end', needs: ['npm', 'browser'], count: playwrightCount, work: endToEnd },
  { name: 'end-to-end-firefox', needs: ['npm', 'firefox'], count: playwrightCount, work: endToEndInFirefox },
  { name: 'engine-chromium', needs: ['npm', 'browser'], count: nodeCount, work: ({ browser }) => engine('chromium', { LANDFALL_CHROMIUM: browser }) },
  { name: 'engine-firefox', needs: ['npm', 'firefox'], count: nodeCount, work: ({ firefox }) => engine('firefox', { LANDFALL_FIREFOX: firefox }) },
  { name: 'engine-webkit', needs: ['npm', 'webkit'], count: nodeCount, work: ({ MiniBrowser }) => engine('webkit', { LANDFALL_WEBKIT: MiniBrowser }) },
  { name: 'kill-judge', count: nodeCount, work: () => nodeTests('tests/kill') },
  { name: 'kill-plants', needs: ['npm', 'browser'], work: ({ browser }) => kill({ LANDFALL_CHROMIUM: browser }, '--browser', 'chromium', '--plants', '--seed', '5') },
  { name: 'kill-chromium', needs: ['npm', 'browser'], work: ({ browser }) => kill({ LANDFALL_CHROMIUM: browser }, '--browser', 'chromium', '--rounds', '12') },
  { name: 'kill-chromium-sqlite', needs: ['npm', 'browser'], work: ({ browser }) => kill({ LANDFALL_CHROMIUM: browser }, '--browser', 'chromium', '--sqlite-idb', '--rounds', '12') },
  { name: 'kill-firefox', needs: ['npm', 'firefox'], work: ({ firefox }) => kill({ LANDFALL_FIREFOX: firefox }, '--browser', 'firefox', '--rounds', '6') },
  { name: 'kill-webkit', needs: ['npm', 'webkit'], work: ({ MiniBrowser }) => kill({ LANDFALL_WEBKIT: MiniBrowser }, '--browser', 'webkit', '--rounds', '6') },
  { name: 'bench-ratios', needs: ['npm', 'browser'], work: benchRatios },
  { name: 'size', needs: ['npm'], work: () => command('node', ['xtask/size.mjs']) },
];

// ---- the stages that take more than a line -------------------------------------------------------------------------

/** Every stage's work gives `{ ok, output }`. */
const command = (program, args, env = {}) => run(program, args, { env, check: false });
const simulator = (...args) => command('node', ['xtask/sim.mjs', ...(Number(simulatorHistories) < trainedFrom ? [] : ['--trained']), ...args]);

async function buildAll() {
  const server = buildServer(['--workspace', '--bins']);
  server.catch(() => {});
  await build();
  await server;
  return { ok: true, output: '' };
}

/** What the simulator plays, judged by the program that shares nothing with it. */
async function simulatorExport() {
  const history = historyFile();
  const exported = await simulator('--export', history, '--seed', '1', '--histories', exportedSeeds);
  return exported.ok ? judged(exported, history, '--every-kind') : exported;
}

function historyFile() {
  mkdirSync(logDirectory, { recursive: true });
  return join(logDirectory, `history-${process.hrtime.bigint()}.ndjson`);
}

/** Judges the histories that a run has exported; they are kept if something was found. */
async function judged(run, history, ...options) {
  const result = await command('node', ['tests/histories/check.mjs', ...options, history]);
  if (result.ok) rmSync(history);
  return { ok: result.ok, output: `${run.output}\n${result.output}` };
}

function wasmTests({ driver }) {
  return wasmTestsIn(['--chrome', '--chromedriver', driver]);
}

function wasmTestsIn(browser, before = []) {
  const [program, ...args] = [...before, 'wasm-pack', 'test', '--headless', ...browser, '--mode', 'no-install'];
  return command(program, args, { WASM_BINDGEN_TEST_TIMEOUT: String(browserTestTimeoutSeconds) });
}

function wasmTestsInFirefox({ firefox }) {
  const target = 'wasm32-unknown-unknown';
  const env = {
    LANDFALL_FIREFOX: firefox,
    WASM_BINDGEN_TEST_TIMEOUT: String(browserTestTimeoutSeconds),
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER: `node ${join(root, 'xtask/wasm-firefox.mjs')}`,
  };
  return command('cargo', ['test', '--target', target, '-p', 'landfall'], env);
}

function nodeTests(directory) {
  // Listed here because node 20 knows no patterns.
  const files = filesBelow([directory]).filter((file) => /\.test\.m?js$/.test(file));
  return files.length === 0 ? { ok: true, output: '' } : command('node', ['--test', '--test-reporter=spec', ...files]);
}

async function endToEnd({ browser }) {
  // After the build stage this finds nothing to do; run alone, the stage tests what is there now.
  await buildAll();
  return playwright({ LANDFALL_CHROMIUM: browser });
}

/** What needs neither Chromium's debugger nor an offline worker: in Firefox the switch for offline leaves workers online. */
async function endToEndInFirefox({ firefox }) {
  await buildAll();
  const core = ['bad-input', 'd-two-tabs', 'faults', 'i-transaction'].map((name) => `tests/e2e/${name}.spec.mjs`);
  return playwright({ LANDFALL_FIREFOX: firefox }, ...core, '--grep-invert', '@chromium');
}

function playwright(browser, ...args) {
  const env = { CI: '1', LANDFALL_SERVER: join(root, 'target/debug/landfall-server'), ...browser };
  return command('playwright', ['test', '-c', 'tests/e2e/playwright.config.ts', '--reporter=list', ...args], env);
}

/** The core in one engine: offline, two tabs, and all ways to send without Background Sync. */
async function engine(name, program) {
  await buildAll();
  return command('node', ['--test', '--test-reporter=spec', 'tests/engines/core.test.mjs'], { LANDFALL_ENGINE: name, ...program });
}

/** A few rounds with killed browsers; the many are in docs/proof.md. */
async function kill(program, ...args) {
  await buildAll();
  const history = historyFile();
  const rounds = await command('node', ['tests/kill/main.mjs', ...args, ...(args.includes('--plants') ? [] : ['--export', history])], program);
  return !rounds.ok || args.includes('--plants') ? rounds : judged(rounds, history);
}

/** Landfall and hand-written IndexedDB in one run; nobody else, so the peers' packages are not asked for. */
async function benchRatios({ browser }) {
  await buildAll();
  return command('node', ['bench/ratios.mjs'], { LANDFALL_CHROMIUM: browser });
}

// ---- how many cases an output reports ------------------------------------------------------------------------------

const sum = (output, pattern) => [...output.matchAll(pattern)].reduce((total, match) => total + Number(match[1]), 0);
function cargoCount(output) {
  return sum(output, /^test result: ok\. (\d+) passed/gm);
}
function nodeCount(output) {
  return sum(output, /^ℹ pass (\d+)$/gm);
}
function playwrightCount(output) {
  return sum(output, /^ +(\d+) passed/gm);
}

// ---- running them --------------------------------------------------------------------------------------------------

/** Starts the set-up that the chosen stages need; it goes on beside the static checks, which time nothing. */
function beginSetUp(chosen) {
  const needed = new Set(chosen.flatMap((stage) => stage.needs ?? []));
  const begun = {};
  begun.rust = setUp.rust();
  for (const name of needed) begun[name] = name === 'tools' ? begun.rust.then(setUp.tools) : setUp[name]();
  for (const promise of Object.values(begun)) promise.catch(() => {});
  return begun;
}

async function runStage(stage, begun) {
  const began = Date.now();
  log(`${stage.name} …`);
  let result;
  try {
    const ready = Object.assign({}, ...(await Promise.all(['rust', ...(stage.needs ?? [])].map((name) => begun[name]))));
    if (ready.skip) {
      log(`${stage.name}: skipped, ${ready.skip}`);
      return { ...stage, skip: ready.skip };
    }
    result = await stage.work(ready);
  } catch (error) {
    result = { ok: false, output: error instanceof Failure ? error.message : String(error.stack) };
  }
  mkdirSync(logDirectory, { recursive: true });
  writeFileSync(join(logDirectory, `${stage.name}.log`), result.output);
  const cases = stage.count?.(result.output);
  if (result.ok && cases === 0) result = { ok: false, output: `${result.output}\nNo test ran.` };
  if (!result.ok) process.stderr.write(`\n${result.output.trimEnd()}\n\n`);
  const detail = cases === undefined ? '' : `, ${cases} tests`;
  log(`${stage.name}: ${result.ok ? 'ok' : 'FAILED'} (${seconds(began)}${detail})`);
  return { ...stage, ok: result.ok, output: result.output, detail, took: seconds(began) };
}

async function test() {
  const { values } = parseArgs({ options: { only: { type: 'string' }, list: { type: 'boolean' } } });
  if (values.list) return console.log(stages.map((stage) => stage.name).join('\n'));
  const only = values.only?.split(',');
  const unknown = only?.filter((name) => !stages.some((stage) => stage.name === name)) ?? [];
  if (unknown.length > 0) throw new Failure(`no such stage: ${unknown.join(', ')}. There are: ${stages.map((stage) => stage.name).join(', ')}`);
  const chosen = stages.filter((stage) => !only || only.includes(stage.name));

  checkPrerequisites();
  const begun = beginSetUp(chosen);
  const done = [];
  for (const stage of chosen) {
    const result = await runStage(stage, begun);
    done.push(result);
    if (stage.build && !result.ok) break;
  }

  console.log('');
  for (const { name, ok, detail, took, skip } of done) {
    console.log(skip ? `  skipped ${name.padEnd(18)} ${skip}` : `  ${ok ? 'ok    ' : 'FAILED'}  ${name.padEnd(18)}${took.padStart(9)}${detail}`);
  }
  for (const stage of chosen.slice(done.length)) console.log(`  not run ${stage.name.padEnd(18)} the build failed`);
  const ran = done.filter((stage) => !stage.skip);
  const failed = ran.filter((stage) => !stage.ok);
  if (failed.length > 0) console.log(`\n${failureReport(failed)}`);
  console.log(`\n${ran.length - failed.length} passed, ${failed.length} failed`);
  if (failed.length > 0) process.exitCode = 1;
}

main(test);
