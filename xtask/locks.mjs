// The lock files: complete, and free of whoever wrote them (no registry's address, no path of a machine).

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root, run } from './lib.mjs';

/** The name by which cargo writes crates.io into every lock file, whatever mirror served it. */
const cratesIo = 'registry+https://github.com/rust-lang/crates.io-index';

export async function checkLockFiles() {
  const wrong = [];
  for (const manifest of ['Cargo.toml', 'tools/Cargo.toml']) {
    const { ok, output } = await run('cargo', ['update', '--workspace', '--locked', '--quiet', '--manifest-path', manifest], { check: false });
    if (!ok) wrong.push(output.trimEnd());
  }
  for (const file of ['Cargo.lock', 'tools/Cargo.lock']) {
    for (const [, source] of readFileSync(join(root, file), 'utf8').matchAll(/^source = "(.+)"$/gm)) {
      if (source !== cratesIo) wrong.push(`${file} names another source: ${source}`);
    }
  }
  for (const file of ['package-lock.json', 'bench/package-lock.json']) {
    const { packages } = JSON.parse(readFileSync(join(root, file), 'utf8'));
    for (const [path, entry] of Object.entries(packages)) {
      if (entry.resolved && !entry.link) wrong.push(`${file}: ${path} names a registry. .npmrc leaves that out: npm install`);
    }
  }
  const { devDependencies = {}, dependencies = {} } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  for (const peer of Object.keys(JSON.parse(readFileSync(join(root, 'bench/package.json'), 'utf8')).dependencies)) {
    if (devDependencies[peer] ?? dependencies[peer]) wrong.push(`package.json has ${peer}: what only the benchmark compares with belongs in bench/package.json`);
  }
  return { ok: wrong.length === 0, output: wrong.join('\n') };
}
