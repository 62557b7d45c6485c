// The peers' code: bundled for the browser from the packages of bench/package.json, when an engine asks for it.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'vite';
import { root } from '../lib.mjs';
import { bundles } from './backend.mjs';
import { engines } from './catalog.mjs';

const bench = join(root, 'bench');

/** Name and version of everything that these engines come from. */
export function versionsOf(names) {
  const packages = [...new Set(names.flatMap((name) => engines[name].peer ?? []))];
  return Object.fromEntries(packages.map((name) => [name, JSON.parse(readFileSync(join(bench, 'node_modules', name, 'package.json'), 'utf8')).version]));
}

/** One module for each engine, its workers and WebAssembly beside it. */
export async function bundlePeers(names) {
  if (names.length === 0) return;
  if (!existsSync(join(bench, 'node_modules'))) throw new Error('the peers are not installed: npm ci --prefix bench');
  await build({
    configFile: false,
    root: bench,
    base: '/built/',
    logLevel: 'error',
    mode: 'production',
    define: { 'process.env.NODE_ENV': '"production"', global: 'globalThis' },
    worker: { format: 'es' },
    build: {
      outDir: bundles,
      emptyOutDir: true,
      target: 'esnext',
      assetsInlineLimit: 0,
      modulePreload: false,
      rolldownOptions: {
        input: Object.fromEntries(names.map((name) => [name, join(bench, 'client', 'engines', `${name}.js`)])),
        preserveEntrySignatures: 'strict',
        output: { entryFileNames: '[name].js' },
      },
    },
  });
}
