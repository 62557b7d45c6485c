// Builds dist/: what the npm package holds. `--check` only type-checks, and needs no engine.
//
//   dist/index.js                    the page's module, minified; finds landfall_bg.wasm beside it
//   dist/service-worker.js           the worker as a module; attaches itself, exports attach()
//   dist/service-worker.classic.js   the same as one classic script, with self.landfallAttach
//   dist/validate.js                 Standard Schemas out of JSON Schemas
//   dist/ids.js                      ids that follow from a unique key
//   dist/elements.js                 custom elements; nothing of the engine, they are given a database
//   dist/react.js                    hooks; nothing of the engine, and React is the app's own
//   dist/*.d.ts, dist/types/         exact types; `any` in one of them fails the build
//
// `new URL('landfall_bg.wasm', import.meta.url)` is left as it stands: every bundler that an app may use finds the module
// by it. (Vite's library mode would put it into the script as text.)

import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { rolldown } from 'rolldown';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const engineGlue = join(root, 'pkg', 'landfall.js');
const engineModule = join(root, 'pkg', 'landfall_bg.wasm');

const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** One script from one entry. `glue` stands in for the engine's glue in tests. */
export async function bundle(entry, { format = 'es', glue = engineGlue, minify = true } = {}) {
  const build = await rolldown({
    input: join(root, entry),
    cwd: root,
    // Its paths are for the type checker: they name a declaration.
    tsconfig: false,
    resolve: { alias: { '#glue': glue } },
    platform: 'browser',
    external: ['react'],
    transform: {
      define: {
        LANDFALL_VERSION: JSON.stringify(version),
        // A classic script has no address of its own; in a worker, the worker's is what it was registered by.
        ...(format === 'iife' && { 'import.meta.url': 'self.location.href' }),
      },
    },
    onLog(level, log, report) {
      // Glue that was made without its reset function: the engine then schedules the fresh instance itself.
      if (log.code === 'IMPORT_IS_UNDEFINED' && log.message.includes('__wbg_reset_state')) return;
      if (level === 'warn') throw new Error(`${entry}: ${log.message}`);
      report(level, log);
    },
  });
  try {
    const { output } = await build.generate({ format, minify, codeSplitting: false });
    if (output.length !== 1) throw new Error(`${entry} became ${output.length} files`);
    return output[0].code;
  } finally {
    await build.close();
  }
}

/** A worker that waits at its top level, or imports later, does not start. */
function checkWorker(name, code) {
  if (/\bimport\s*\(/.test(code)) throw new Error(`${name} has a dynamic import()`);
  if (name.includes('classic') && /\bimport\b|^export\b/m.test(code)) throw new Error(`${name} is not a classic script`);
}

/** The engine that was built must have everything that the scripts call. */
function checkEngine() {
  for (const path of [engineGlue, engineModule]) if (!existsSync(path)) throw new Error(`${relative(root, path)} is not there: build the engine first`);
  const declared = readFileSync(join(root, 'js', 'wasm-module.d.ts'), 'utf8').replace(/^[^]*export class Replica \{([^]*?)\n\}[^]*$/, '$1');
  const built = readFileSync(engineGlue, 'utf8');
  const missing = [...declared.matchAll(/^ {2}(?:static )?(\w+)\(/gm)].map(([, name]) => name).filter((name) => name !== 'constructor' && !new RegExp(`^ +(?:static )?${name}\\(`, 'm').test(built));
  if (missing.length > 0) throw new Error(`pkg/landfall.js lacks what js/wasm-module.d.ts declares: ${missing.join(', ')}`);
}

function tsc(...args) {
  const { status, stdout, stderr, error } = spawnSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', join(root, 'js'), ...args], { cwd: root, encoding: 'utf8' });
  if (error) throw error;
  if (status !== 0) throw new Error(`${stdout}${stderr}`.trim());
}

/** The declarations that the entries reach, below dist/types, and nothing else. */
function writeTypes(dist) {
  const scratch = mkdtempSync(join(root, 'target', 'types-'));
  try {
    tsc('--noEmit', 'false', '--declaration', '--emitDeclarationOnly', '--outDir', scratch);
    const shipped = new Set();
    const visit = (path) => {
      if (shipped.has(path)) return;
      shipped.add(path);
      const text = readFileSync(path, 'utf8');
      const code = text.replace(/\/\*[^]*?\*\/|\/\/.*/g, '');
      if (/\bany\b/.test(code)) throw new Error(`any in ${relative(scratch, path)}: ${code.split('\n').find((line) => /\bany\b/.test(line)).trim()}`);
      for (const [, from] of code.matchAll(/(?:from|import)\s*\(?['"](\.[^'"]+)\.js['"]/g)) visit(`${resolve(dirname(path), from)}.d.ts`);
    };
    const declared = Object.entries(scripts).filter(([name]) => !name.includes('classic')).map(([name, [entry]]) => [name, entry.replace(/\.ts$/, '')]);
    for (const [, entry] of declared) visit(join(scratch, `${entry}.d.ts`));
    for (const path of shipped) {
      const to = join(dist, 'types', relative(scratch, path));
      mkdirSync(dirname(to), { recursive: true });
      copyFileSync(path, to);
    }
    for (const [name, entry] of declared) writeFileSync(join(dist, name.replace(/\.js$/, '.d.ts')), `export * from './types/${entry}.js';\n`);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

const scripts = {
  'index.js': ['js/index.ts', 'es'],
  'validate.js': ['js/json-schema.ts', 'es'],
  'ids.js': ['js/ids.ts', 'es'],
  'elements.js': ['js/elements/index.ts', 'es'],
  'react.js': ['js/react/index.ts', 'es'],
  'service-worker.js': ['service-worker/entry.ts', 'es'],
  'service-worker.classic.js': ['service-worker/classic.ts', 'iife'],
};

async function buildDist() {
  checkEngine();
  mkdirSync(join(root, 'target'), { recursive: true });
  const dist = mkdtempSync(join(root, 'target', 'dist-'));
  try {
    writeTypes(dist);
    for (const [name, [entry, format]] of Object.entries(scripts)) {
      const code = await bundle(entry, { format });
      if (name.startsWith('service-worker')) checkWorker(name, code);
      writeFileSync(join(dist, name), code);
      console.log(`dist/${name}: ${code.length} bytes, ${gzipSync(code, { level: 9 }).length} gzip`);
    }
    cpSync(engineModule, join(dist, 'landfall_bg.wasm'));
    // A temporary directory is its owner's alone.
    chmodSync(dist, 0o755);
    rmSync(join(root, 'dist'), { recursive: true, force: true });
    renameSync(dist, join(root, 'dist'));
  } finally {
    rmSync(dist, { recursive: true, force: true });
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    if (process.argv.includes('--check')) tsc();
    else await buildDist();
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exit(1);
  }
}
