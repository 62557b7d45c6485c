// Runs engines and workloads in real Chromium: a browser profile on disk for each engine and round, a process for each session,
// engines in turns who goes first. What fails or takes too long is noted with its reason and stops nobody else.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { machine, median, onPath, root, rounded, scratch } from '../lib.mjs';
import { startBackend } from './backend.mjs';
import { absent, drainMax, engines, figures, leftOutAtMillion, millionFigures, sessions, usualSize } from './catalog.mjs';
import { processorTime, startProfile } from './profile.mjs';

/** With a million records a task may take this many times as long. */
const millionPatience = 5;
const million = 1_000_000;

const browserArguments = ['--no-sandbox', '--disable-dev-shm-usage', '--enable-blink-features=ForceEagerMeasureMemory'];
const sqliteBackend = '--enable-features=IdbSqliteBackingStore,IdbSqliteOnDiskRollout';

/** Rejects when `promise` takes longer; the work itself ends with its browser. */
function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} has not ended in ${ms / 1000} s`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** The first line of what went wrong, without the driver's own words. */
const reason = (error) => String(error?.message ?? error).split('\n')[0].replace(/^page\.evaluate: (Error: )?/, '').slice(0, 300);

/** What IndexedDB really stands on in this profile, whatever was asked for; undefined when it holds none. */
function idbBackendOf(profile) {
  const place = join(profile, 'Default', 'IndexedDB');
  const names = existsSync(place) ? readdirSync(place) : [];
  if (names.length === 0) return undefined;
  return names.some((name) => name.endsWith('.leveldb')) ? 'leveldb' : 'sqlite';
}

export function findChromium() {
  const found = process.env.LANDFALL_CHROMIUM || onPath('chromium', 'google-chrome', 'google-chrome-stable', 'chromium-browser');
  if (!found) throw new Error('no Chromium: name one in LANDFALL_CHROMIUM, or apt-get install -y chromium');
  return found;
}

/** The tasks that the wanted figures need, what they stand on included; undefined for all. */
function tasksFor(wanted, size) {
  const names = Object.entries(figures).filter(([, { name }]) => !wanted || wanted.includes(name(size)));
  const tasks = new Set(names.map(([, { task }]) => task).filter(Boolean));
  if (tasks.has('open_unsent')) tasks.add('load');
  for (const task of ['get', 'query', 'memory', 'query_other']) if (tasks.has(task)) tasks.add('ingest');
  return tasks;
}

const taskOf = (name, size) => Object.values(figures).find((figure) => figure.name(size) === name)?.task;

/** Every name that a figure has at these sizes. */
export const namesAt = (sizes, withMillion) => [...new Set([...sizes.flatMap((size) => Object.values(figures).map(({ name }) => name(size))), ...(withMillion ? Object.values(millionFigures) : [])])];

class Bench {
  constructor(given) {
    Object.assign(this, given);
    this.executablePath = findChromium();
    this.samples = {};
    this.processor = {};
    this.leftOut = {};
    this.turn = 0;
  }

  note(figure, engine, value) {
    ((this.samples[figure] ??= {})[engine] ??= []).push(value);
  }

  miss(figure, engine, why) {
    (this.leftOut[figure] ??= {})[engine] = why;
  }

  launch(directory) {
    return chromium.launchPersistentContext(directory, { executablePath: this.executablePath, headless: true, handleSIGINT: false, handleSIGTERM: false, args: [...browserArguments, ...(this.sqlite ? [sqliteBackend] : [])] });
  }

  /** One process: its page prepares the engine and does the tasks. Gives the names of the tasks that failed. */
  async session(engine, profile, tasks, { argumentsOf, keep, missing, ms }) {
    const failed = [];
    let context;
    try {
      context = await this.launch(profile);
      const page = context.pages()[0] ?? (await context.newPage());
      if (process.env.BENCH_DEBUG) page.on('console', (message) => console.error(engine, message.text()));
      page.on('pageerror', (error) => process.env.BENCH_DEBUG && console.error(`${engine}: ${error.message}`));
      await page.goto(`${this.backend.origin}/client/index.html`);
      await page.waitForFunction(() => window.bench);
      const url = engines[engine].peer ? `/built/${engine}.js` : `/client/engines/${engine}.js`;
      const { floor_ms, code_ms } = await within(60_000, 'the start', page.evaluate(([engine, url]) => window.bench.prepare(engine, url), [engine, url]));
      keep('browser_floor_ms', floor_ms);
      keep('engine_code_ms', code_ms);
      for (const task of tasks) {
        try {
          const spent = await processorTime(page);
          const profiled = this.profile && task === this.profile.task && (await startProfile(page, this.profile.file));
          const results = await within(ms, task, page.evaluate(([task, given]) => window.bench.run(task, ...given), [task.replace('ingest_other', 'ingest'), argumentsOf(task)]));
          if (profiled) await profiled();
          ((this.processor[task] ??= {})[engine] ??= []).push(await spent());
          for (const [figure, value] of Object.entries(results)) keep(figure, value);
        } catch (error) {
          failed.push(task);
          missing(task, reason(error));
          if (/has not ended/.test(error.message)) break;
        }
      }
    } catch (error) {
      for (const task of tasks) {
        failed.push(task);
        missing(task, reason(error));
      }
    } finally {
      // A page that is busy for ever does not let its browser close in peace.
      await within(10_000, 'closing the browser', context?.close() ?? Promise.resolve()).catch(() => this.kill(profile));
      this.idbBackend ??= idbBackendOf(profile);
    }
    return failed;
  }

  /** Ends the processes of this profile's browser and no others. */
  kill(profile) {
    const lines = execFileSync('ps', ['-eo', 'pid=,args='], { encoding: 'utf8', maxBuffer: 2 ** 24 }).split('\n');
    for (const line of lines) {
      const [, pid, args] = /^\s*(\d+) (.*)$/.exec(line) ?? [];
      if (args?.includes(`--user-data-dir=${profile}`)) process.kill(Number(pid), 'SIGKILL');
    }
  }

  async engineRound(engine, size, tasks, names) {
    if (this.stopped) return;
    const began = Date.now();
    const place = join(this.directory, String(this.turn++));
    mkdirSync(place);
    const done = new Set();
    const keep = (figure, value) => names(figure) && this.note(names(figure), engine, value);
    let why;
    const missing = (task, reasonGiven) => {
      why = reasonGiven;
      for (const [figure, of] of Object.entries(figures)) if (of.task === task && names(figure)) this.miss(names(figure), engine, reasonGiven);
    };
    const argumentsOf = (task) => (task.startsWith('drain') ? [Math.min(size, drainMax)] : task === 'ingest_other' ? [size, true] : [size]);
    // Only Landfall lays records along a key; for everybody else the other order is the same database.
    const own = engine === 'landfall' ? sessions : sessions.filter(({ name }) => name !== 'ingest other').map((session) => (session.name === 'query other' ? { ...session, profile: 'pulled', after: 'ingest' } : session));
    for (const { name, profile, after, tasks: all } of this.fewProcesses ? merged(own) : own) {
      const given = all.filter((task) => (task === 'ingest_other' ? tasks.has('query_other') : tasks.has(task)));
      const whyNot = (task) => absent[engine]?.[task] ?? (size === million ? leftOutAtMillion[task] : undefined);
      const wanted = given.filter((task) => !whyNot(task === 'ingest_other' ? 'query_other' : task));
      for (const task of given) if (whyNot(task)) missing(task, whyNot(task));
      if (wanted.length === 0) continue;
      if (after && !done.has(after)) {
        for (const task of wanted) missing(task, `'${after}' failed: ${why ?? 'it did not run'}`);
        continue;
      }
      const failed = await this.session(engine, join(place, profile), wanted, { argumentsOf, keep, missing, ms: this.taskSeconds * 1000 * (size === million ? millionPatience : 1) });
      if (failed.length === 0) done.add(name);
    }
    rmSync(place, { recursive: true, force: true, maxRetries: 5 });
    this.say(`  ${engine} at ${size}: ${((Date.now() - began) / 1000).toFixed(0)} s`);
  }
}

/** One process for each profile, where nothing is asked that wants a fresh one. */
function merged(list) {
  const profiles = [...new Set(list.map(({ profile }) => profile))];
  return profiles.map((profile) => ({ name: profile, profile, tasks: list.filter((session) => session.profile === profile).flatMap(({ tasks }) => tasks) }));
}

/** Everybody goes first in turn, so that nobody profits from the place; every other round goes backwards. */
function turned(list, by) {
  const moved = [...list.slice(by % list.length), ...list.slice(0, by % list.length)];
  return by % 2 === 1 ? moved.reverse() : moved;
}

/**
 * Measures. `names`: the engines; `only`: figures by name (all when undefined); `sizes`: records in a database;
 * `taskSeconds`: how long one task may take (a hundred thousand rows one by one are slow on a small machine).
 * `fewProcesses`: does without the fresh ones, for figures that are the same in a used one.
 * `profile`: where to write a CPU profile of the first figure of `only`.
 * Gives `{ workloads, spread, left_out, processor_ms, rounds, chromium, load, load_after, machine }`: medians, and [smallest, largest] of each.
 */
export async function measure({ names, only, rounds = 3, sizes = [usualSize], withMillion = false, sqlite = false, wasm, profile, fewProcesses = false, taskSeconds = 180, say = () => {} }) {
  const dist = process.env.LANDFALL_DIST || join(root, 'dist');
  if (!existsSync(join(dist, 'index.js'))) throw new Error(`${dist} holds no package: npm run build`);
  const directory = scratch('landfall-bench');
  const before = machine();
  const backend = await startBackend({ dist, wasm });
  const bench = new Bench({ say, sqlite, backend, directory, taskSeconds, fewProcesses, profile: profile && { file: profile, task: taskOf(only?.[0], sizes[0]) } });
  // A long run that is interrupted still tells what it has, after the engine that is under way.
  const stop = () => (bench.stopped = true);
  process.once('SIGTERM', stop).once('SIGINT', stop);
  // Written before anybody asks: what is measured is the client.
  backend.prepare(0, ...sizes, ...(withMillion ? [million] : []));
  const began = Date.now();
  try {
    for (let round = 0; round < rounds; round++) {
      say(`round ${round + 1} of ${rounds}`);
      for (const size of sizes) {
        const named = (figure) => (!only || only.includes(figures[figure].name(size)) ? figures[figure].name(size) : undefined);
        for (const engine of turned(names, round)) await bench.engineRound(engine, size, tasksFor(only, size), named);
      }
      if (withMillion) {
        const named = (figure) => (!only || only.includes(millionFigures[figure]) ? millionFigures[figure] : undefined);
        for (const engine of turned(names, round)) await bench.engineRound(engine, million, new Set(['ingest', 'get']), named);
      }
    }
  } finally {
    process.off('SIGTERM', stop).off('SIGINT', stop);
    await backend.close();
  }
  const each = (of) => {
    const order = namesAt(sizes, withMillion).filter((name) => bench.samples[name]);
    return Object.fromEntries(order.map((figure) => [figure, Object.fromEntries(names.filter((engine) => bench.samples[figure][engine]).map((engine) => [engine, of(bench.samples[figure][engine])]))]));
  };
  return {
    workloads: each((all) => rounded(median(all))),
    spread: each((all) => [rounded(Math.min(...all)), rounded(Math.max(...all))]),
    left_out: bench.leftOut,
    processor_ms: Object.fromEntries(Object.entries(bench.processor).map(([task, of]) => [task, Object.fromEntries(Object.entries(of).map(([engine, all]) => [engine, rounded(Math.min(...all))]))])),
    rounds,
    ...(bench.stopped && { interrupted: true }),
    seconds: Math.round((Date.now() - began) / 1000),
    chromium: execFileSync(bench.executablePath, ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim().replace(/^\D*([\d.]+).*$/, '$1'),
    idb_backend: bench.idbBackend,
    machine: before,
    load: before.load_1min,
    load_after: machine().load_1min,
  };
}
