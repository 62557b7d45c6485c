// docs/systems.md names a test for what each system asks: each must be there, under that name.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));
const text = readFileSync(`${root}docs/systems.md`, 'utf8');
const named = [...text.matchAll(/`([\w/-]+(?:\.spec|\.test)?) › ([^`]+)`/g)].map(([, file, name]) => ({ file, name }));

/** Where a test of this file may be. */
function paths(file) {
  if (file.endsWith('.spec')) return [`tests/e2e/${file}.mjs`];
  if (file.endsWith('.test')) return [`tests/js/${file}.mjs`];
  const [crate, ...rest] = file.split('/');
  return [`crates/${crate}/tests/${rest.join('/')}.rs`, `crates/${crate}/src/${rest.join('/')}.rs`];
}

test('every test that docs/systems.md names is there', () => {
  assert.ok(named.length > 90, `${named.length} tests are named`);
  const missing = named.filter(({ file, name }) => {
    const found = paths(file).map((path) => root + path).filter(existsSync);
    return !found.some((path) => readFileSync(path, 'utf8').includes(name));
  });
  assert.deepEqual(missing, []);
});

test('every row of docs/systems.md has a test, or says that it is open or planned', () => {
  const rows = text.split('\n').filter((line) => line.startsWith('| ') && !line.startsWith('| Asked') && !line.startsWith('| ---'));
  assert.deepEqual(rows.filter((row) => !row.includes(' › ') && !/\*(open|planned)\*/.test(row) && !row.includes('.spec')), []);
});
