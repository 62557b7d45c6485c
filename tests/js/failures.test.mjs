import assert from 'node:assert/strict';
import { test } from 'node:test';
import { failureReport, failuresIn } from '../../xtask/failures.mjs';

const playwright = `
Running 3 tests using 2 workers

  ✓  1 tests/e2e/a.spec.mjs:3:1 › a: good (6ms)
  ✘  2 tests/e2e/b.spec.mjs:2:1 › b: s1: sent once (15.4s)


  1) tests/e2e/b.spec.mjs:2:1 › b: s1: sent once ───────────────────────────────────────────────────

    \x1b[31mError: expect(received).toEqual(expected)\x1b[39m // deep equality

      Object {
    -   "storage": "quota",
    +   "storage": "ok",
      }

    > 2 | await expect(1).toBe(2);
        |                 ^
        at /somewhere/tests/e2e/b.spec.mjs:2:113

    attachment #1: server (text/plain) ─────────────────────────────────────────────────────────────
    a line of the server's log
    ────────────────────────────────────────────────────────────────────────────────────────────────

    Error Context: target/e2e/b/error-context.md

  2) tests/e2e/c.spec.mjs:4:1 › c: a title that leaves no room for a line behind it, as most titles of this project's tests do

    Test timeout of 500ms exceeded.

  2 failed
    tests/e2e/b.spec.mjs:2:1 › b: s1: sent once ────────────────────────────────────────────────────
  1 passed (6.9s)
`;

const cargo = `
running 3 tests
test tests::good ... ok
test tests::l2_gone ... FAILED

failures:

---- tests::l2_gone stdout ----
step 1
step 2

thread 'tests::l2_gone' (29042) panicked at src/lib.rs:4:52:
assertion \`left == right\` failed
  left: 2
 right: 3
stack backtrace:
   0: __rustc::rust_begin_unwind
             at /rustc/library/std/src/panicking.rs:689:5
note: Some details are omitted, run with \`RUST_BACKTRACE=full\` for a verbose backtrace.


failures:
    tests::l2_gone

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.19s

error: test failed, to rerun pass \`--lib\`
`;

const wasm = `
test idb_suite::i3_bad ... FAIL

failures:

---- idb_suite::i3_bad output ----
    error output:
        panicked at tests/idb_suite/mod.rs:250:5:
        assertion failed: !exists("vanished").await

        Stack:

        @http://127.0.0.1:43941/wasm-bindgen-test:914:34
        20675@<?>:wasm-function[20675]

failures:

    idb_suite::i3_bad

test result: FAILED. 17 passed; 1 failed; 0 ignored; 0 filtered out; finished in 1.52s
`;

const compiler = `warning: unused variable: \`y\`
 --> src/lib.rs:9:3
error[E0308]: mismatched types
 --> src/lib.rs:4:52
  |
4 | let x: u8 = "";
error: could not compile \`c\` (lib) due to 1 previous error; 1 warning emitted
`;

const node = `✖ a thing is b (18.5ms)
  Error: boom
ℹ pass 2
ℹ fail 1

✖ failing tests:

test at a.test.mjs:5:27
✖ a thing is b (18.5ms)
  Error: boom
  second line
      at TestContext.<anonymous> (file:///a.test.mjs:5:57)

test at b.test.mjs:1:1
✖ /b.test.mjs (395.9ms)
  'test failed'
`;

const titles = (output) => failuresIn(output).map(({ title }) => title);

test('each failed test of each runner is found once, with its own name', () => {
  assert.deepEqual(titles(playwright), [
    'tests/e2e/b.spec.mjs:2:1 › b: s1: sent once',
    "tests/e2e/c.spec.mjs:4:1 › c: a title that leaves no room for a line behind it, as most titles of this project's tests do",
  ]);
  assert.deepEqual(titles(cargo), ['tests::l2_gone']);
  assert.deepEqual(failuresIn(wasm), [
    { title: 'idb_suite::i3_bad', lines: ['        panicked at tests/idb_suite/mod.rs:250:5:', '        assertion failed: !exists("vanished").await'] },
  ]);
  assert.deepEqual(titles(node), ['a thing is b', '/b.test.mjs']);
  assert.deepEqual(titles(compiler), ['error[E0308]: mismatched types']);
});

test('an error is told without what stands around it: stacks, logs, what a test printed before', () => {
  assert.deepEqual(failureReport([{ name: 'native', output: cargo }, { name: 'javascript', output: node }, { name: 'end-to-end', output: playwright }]).split('\n'), [
    'native failed:',
    '  ✘ tests::l2_gone',
    "    thread 'tests::l2_gone' (29042) panicked at src/lib.rs:4:52:",
    '    assertion `left == right` failed',
    '      left: 2',
    '     right: 3',
    'javascript failed:',
    '  ✘ a thing is b',
    '    Error: boom',
    '    second line',
    '  ✘ /b.test.mjs',
    "    'test failed'",
    'end-to-end failed:',
    '  ✘ tests/e2e/b.spec.mjs:2:1 › b: s1: sent once',
    '    Error: expect(received).toEqual(expected) // deep equality',
    '      Object {',
    '    -   "storage": "quota",',
    '    +   "storage": "ok",',
    '      }',
    '    > 2 | await expect(1).toBe(2);',
    '        |                 ^',
    "  ✘ tests/e2e/c.spec.mjs:4:1 › c: a title that leaves no room for a line behind it, as most titles of this project's tests do",
    '    Test timeout of 500ms exceeded.',
  ]);
});

test('output of another kind is told by its last lines', () => {
  const output = Array.from({ length: 100 }, (_, n) => `line ${n}`).join('\n');
  assert.deepEqual(failuresIn(output), [{ title: 'its last lines', lines: Array.from({ length: 25 }, (_, n) => `line ${n + 75}`) }]);
  // Tests that passed, and a program that ended badly all the same.
  assert.deepEqual(titles('test result: ok. 3 passed; 0 failed\nerror: test failed, to rerun pass `--lib`\n'), ['its last lines']);
});

test('many failures share the room, and every one is named', () => {
  const panic = (n) => `---- t${n} stdout ----\nthread 't${n}' panicked at x.rs:1:1:\n${'more\n'.repeat(40)}`;
  const report = (count) => failureReport([{ name: 'native', output: Array.from({ length: count }, (_, n) => panic(n)).join('') }]).split('\n');
  assert.equal(report(1).length, 2 + 25);
  assert.ok(report(5).length <= 50 && report(5).length > 40);
  assert.equal(report(30).filter((line) => line.startsWith('  ✘ ')).length, 30);
  assert.equal(report(31).at(-1), '  … and 1 more');
});
