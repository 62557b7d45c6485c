// The package as an app gets it: packed, installed from the tarball into a project of its own, built by Vite, type-checked.
// Needs dist/ (npm run build), no network and no browser.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { runInNewContext } from 'node:vm';
import { build } from 'vite';

const root = fileURLToPath(new URL('../../', import.meta.url));
const fixtures = fileURLToPath(new URL('./app/', import.meta.url));
const quiet = { npm_config_audit: 'false', npm_config_fund: 'false', npm_config_update_notifier: 'false', npm_config_loglevel: 'error' };
const npm = (cwd, ...args) => execFileSync('npm', args, { cwd, encoding: 'utf8', env: { ...process.env, ...quiet } });

let project;
let installed;
let packed;

before(() => {
  assert.ok(existsSync(join(root, 'dist/index.js')), 'dist/ is not there: npm run build');
  project = mkdtempSync(join(tmpdir(), 'landfall-app-'));
  [packed] = JSON.parse(npm(root, 'pack', '--json', '--pack-destination', project));
  cpSync(fixtures, project, { recursive: true });
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'app', private: true, type: 'module' }));
  npm(project, 'install', '--offline', '--no-package-lock', join(project, packed.filename));
  installed = join(project, 'node_modules/landfall');
});
after(() => rmSync(project, { recursive: true, force: true }));

test('the tarball holds what an app needs and nothing of how it was made', () => {
  const files = packed.files.map(({ path }) => path);
  const wanted = ['package.json', 'LICENSE-MIT', 'LICENSE-APACHE', ...['index.js', 'index.d.ts', 'validate.js', 'validate.d.ts', 'ids.js', 'ids.d.ts', 'service-worker.js', 'service-worker.d.ts', 'service-worker.classic.js', 'landfall_bg.wasm', 'elements.js', 'elements.d.ts', 'react.js', 'react.d.ts'].map((name) => `dist/${name}`)];
  for (const path of wanted) assert.ok(files.includes(path), `${path} is missing`);
  for (const path of files) assert.match(path, /^(package\.json|README\.md|LICENSE-\w+|dist\/[\w.-]+|dist\/types\/[\w/.-]+\.d\.ts)$/);
  for (const path of files) assert.ok(!readFileSync(join(installed, path)).includes(root), `${path} names a directory of the machine it was built on`);
});

test('the engine was bound with its reset function, without which a panic ends every database of the page', () => {
  for (const name of ['index.js', 'service-worker.js', 'service-worker.classic.js']) assert.match(readFileSync(join(installed, 'dist', name), 'utf8'), /new WebAssembly\.Instance\(/);
});

test('the engine that was built tells a trap, and a fresh instance of it works', async () => {
  const glue = await import(pathToFileURL(join(root, 'pkg/landfall.js')).href);
  const answer = (status, type) => new Response(readFileSync(join(root, 'pkg/landfall_bg.wasm')), { status, headers: { 'content-type': type } });
  await assert.rejects(glue.default({ module_or_path: answer(404, 'application/wasm') }), /404/);
  // A server may know no type for it.
  const exports = await glue.default({ module_or_path: answer(200, 'application/octet-stream') });
  const told = [];
  glue.onTrap((error) => told.push(error));
  takeAll(Object.values(exports).find((value) => value instanceof WebAssembly.Memory));
  assert.throws(() => glue.Replica.open('x'.repeat(4_000_000), { event() {} }), WebAssembly.RuntimeError);
  assert.equal(told.length, 1);
  glue.__wbg_reset_state();
  await assert.rejects(glue.Replica.open('{}', { event() {} }), ({ code }) => code === 'invalid_options');
  assert.equal(told.length, 1);
});

/** Takes what a memory can still grow by, so that the next large allocation fails. */
function takeAll(memory) {
  for (let pages = 32_768; pages >= 1; ) {
    try {
      memory.grow(pages);
    } catch {
      pages = Math.floor(pages / 2);
    }
  }
}

test('it installs without any dependency', () => {
  assert.deepEqual(readdirSync(join(project, 'node_modules')).filter((name) => !name.startsWith('.')), ['landfall']);
});

test('importing it in Node does nothing and needs no browser', async () => {
  const landfall = await import(pathToFileURL(join(installed, 'dist/index.js')).href);
  assert.deepEqual(Object.keys(landfall).sort(), ['SyncError', 'isSyncError', 'meta', 'open', 'setWasmUrl', 'syncErrorCodes']);
});

test('the validator out of a JSON Schema compiles nothing, so a strict content security policy allows it', async () => {
  const path = join(installed, 'dist/validate.js');
  assert.doesNotMatch(readFileSync(path, 'utf8'), /\beval\b|new Function|Function\(/);
  const { jsonSchema } = await import(pathToFileURL(path).href);
  assert.equal(jsonSchema({ type: 'object' })['~standard'].validate(1).issues.length, 1);
});

test('the elements and the hooks hold nothing of the engine, and the hooks nothing of React', async () => {
  const text = (name) => readFileSync(join(installed, 'dist', name), 'utf8');
  for (const name of ['elements.js', 'react.js']) assert.doesNotMatch(text(name), /WebAssembly|landfall_bg/);
  assert.match(text('react.js'), /from\s*"react"/);
  assert.doesNotMatch(text('elements.js'), /\bfrom\s*"/);
  assert.doesNotMatch(text('index.js'), /useSyncExternalStore|customElements/);
  const elements = await import(pathToFileURL(join(installed, 'dist/elements.js')).href);
  assert.ok(elements.LandfallIndicator);
});

test('every exported path is there', () => {
  const { exports } = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'));
  const paths = Object.values(exports).flatMap((target) => (typeof target === 'string' ? [target] : Object.values(target)));
  for (const path of paths) assert.ok(existsSync(join(installed, path)), `${path} is missing`);
});

test('Vite builds a page and a worker that share the one module, and changes no byte of it', async () => {
  const { output } = await build({
    root: project,
    configFile: false,
    logLevel: 'error',
    build: {
      write: false,
      assetsInlineLimit: 0,
      rollupOptions: { input: { page: join(project, 'index.html'), sw: join(project, 'sw.js') }, output: { entryFileNames: (chunk) => (chunk.name === 'sw' ? 'sw.js' : 'assets/[name]-[hash].js') } },
    },
  });
  const modules = output.filter(({ fileName }) => fileName.endsWith('.wasm'));
  assert.equal(modules.length, 1);
  assert.ok(Buffer.from(modules[0].source).equals(readFileSync(join(installed, 'dist/landfall_bg.wasm'))));
  const script = (name) => output.find((file) => file.type === 'chunk' && file.name === name);
  for (const name of ['page', 'sw']) assert.ok(script(name).code.includes(modules[0].fileName), `${name} does not find the module`);
  assert.deepEqual(script('sw').dynamicImports, []);
  assert.ok(!output.some(({ fileName }) => fileName.includes('landfall') && fileName.endsWith('.js')), 'the package is bundled into its users');
});

for (const moduleResolution of ['bundler', 'nodenext']) {
  test(`its types are exact under strict, ${moduleResolution}, with the library checked too`, () => {
    const config = {
      compilerOptions: {
        target: 'es2022', module: moduleResolution === 'bundler' ? 'esnext' : 'nodenext', moduleResolution, lib: ['es2023', 'dom', 'dom.iterable'], types: [],
        strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, noEmit: true, skipLibCheck: false, noUnusedLocals: false,
        // React is the app's own; its types stand in for what the app would have installed.
        paths: { react: [join(root, 'node_modules/@types/react/index.d.ts')] },
      },
      files: ['types.ts', 'types-react.ts'],
    };
    const path = join(project, `tsconfig.${moduleResolution}.json`);
    writeFileSync(path, JSON.stringify(config));
    const { status, stdout } = spawnSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', path], { cwd: project, encoding: 'utf8' });
    assert.equal(status, 0, stdout);
  });
}

test('the classic script is one file that runs as such, attaches itself and gives landfallAttach', () => {
  const code = readFileSync(join(installed, 'dist/service-worker.classic.js'), 'utf8');
  const types = [];
  const scope = { addEventListener: (type) => types.push(type), clients: {}, registration: { sync: {} }, location: { href: 'https://app.example/sw.js' }, TextDecoder, TextEncoder, URL, FinalizationRegistry };
  scope.self = scope;
  runInNewContext(`${code}\nself.landfallAttach(self, { budgetMs: 1 });`, scope);
  assert.deepEqual(types.sort(), ['activate', 'message', 'sync']);
});

test('no script waits at its top level or imports later, which a service worker cannot', () => {
  for (const name of ['service-worker.js', 'service-worker.classic.js']) assert.doesNotMatch(readFileSync(join(installed, 'dist', name), 'utf8'), /\bimport\s*\(/);
  // As a function's body an `await` at the top level is a syntax error.
  assert.doesNotThrow(() => new Function(readFileSync(join(installed, 'dist/service-worker.classic.js'), 'utf8')));
});
