// What both benchmarks share: arguments, numbers, the machine, a directory for a run.

import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { cpus, loadavg, tmpdir, totalmem } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** `--name value` and `--name`, as an object; anything that `known` does not have is an error. */
export function options(known, args = process.argv.slice(2)) {
  const given = { ...known };
  for (let i = 0; i < args.length; i++) {
    const name = args[i].replace(/^--/, '');
    if (!Object.hasOwn(known, name)) throw new Error(`unknown option ${args[i]}; there are ${Object.keys(known).map((name) => `--${name}`).join(' ')}`);
    if (typeof known[name] === 'boolean') given[name] = true;
    else given[name] = typeof known[name] === 'number' ? Number(args[++i]) : args[++i];
  }
  return given;
}

export const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor((numbers.length - 1) / 2)];

/** Three significant digits, as a number. */
export const rounded = (number) => Number(number.toPrecision(3));

export const machine = () => ({
  cores: cpus().length,
  cpu: cpus()[0]?.model.trim(),
  memory_gb: Math.round(totalmem() / 2 ** 30),
  load_1min: rounded(loadavg()[0]),
});

/** A directory below the system's temporary one (TMPDIR moves it), gone when the process ends. */
export function scratch(name) {
  const directory = mkdtempSync(join(tmpdir(), `${name}-`));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }));
  return directory;
}

export function onPath(...programs) {
  const directories = (process.env.PATH ?? '').split(delimiter);
  for (const program of programs) {
    const found = directories.map((directory) => join(directory, program)).find((path) => existsSync(path));
    if (found) return found;
  }
  return undefined;
}

/** The file system under a directory, where the system says so. */
export function fileSystemOf(directory) {
  if (!existsSync('/proc/mounts')) return undefined;
  const mounts = readFileSync('/proc/mounts', 'utf8').split('\n').map((line) => line.split(' ')).filter(([, at]) => at && (directory === at || directory.startsWith(at === '/' ? '/' : `${at}/`)));
  return mounts.sort(([, a], [, b]) => b.length - a.length)[0]?.[2];
}
