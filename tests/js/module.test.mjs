// What the build does to the linked module, on a module small enough to be written by hand.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { renumberLocals } from '../../xtask/locals.mjs';
import { shortenNames } from '../../xtask/names.mjs';
import { orderFunctions } from '../../xtask/order.mjs';
import { copyWhole } from '../../xtask/strings.mjs';
import { hearTraps } from '../../xtask/traps.mjs';
import { readLocals, readModule, writeModule } from '../../xtask/wasm.mjs';

const text = (value) => [value.length, ...Buffer.from(value)];
const section = (id, ...content) => [id, content.flat(9).length, ...content.flat(9)];
const body = (...code) => [code.length + 2, 0, ...code, 0x0b];

/** Imports `host`; of its functions, counted after it: 1 gives 41, 2 calls 1 and adds one, 3 calls through the table, 4 traps, 5 lets go. */
const small = Buffer.from([
  ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
  ...section(1, 2, [0x60, 0, 1, 0x7f], [0x60, 0, 0]),
  ...section(2, 1, text('./landfall_bg.js'), text('__wbg_host_1234'), 0, 1),
  ...section(3, 5, [0, 0, 0, 1, 1]),
  ...section(4, 1, 0x70, 0, 1),
  ...section(7, 5, [text('direct'), 0, 2], [text('table'), 0, 3], [text('break_it'), 0, 4], [text('let_go'), 0, 5], [text('__abort'), 0, 1]),
  ...section(9, 1, 0, [0x41, 0, 0x0b], 1, 2),
  ...section(10, 5, body(0x41, 41), body(0x10, 1, 0x41, 1, 0x6a), body(0x41, 0, 0x11, 0, 0), body(0x00), body(0x10, 0)),
]);

const glue = `
let wasm, wasmInstance;
function imports() {
    const import0 = {
        __wbg_host_1234: function() { globalThis.heardByHost++; },
    };
    return {
        "./landfall_bg.js": import0,
    };
}
export const direct = () => wasm.direct();
export const table = () => wasm.table();
export const break_it = () => wasm.break_it();
export const let_go = () => wasm.let_go();
export function first(bytes) {
    const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), imports());
    wasm = instance.exports;
}
export function next(bytes) {
    wasmInstance = new WebAssembly.Instance(new WebAssembly.Module(bytes), imports());
    wasm = wasmInstance.exports;
}
`;

const load = (source) => import(`data:text/javascript,${encodeURIComponent(source)}`);
const exportsOf = (bytes) => new WebAssembly.Instance(new WebAssembly.Module(bytes), { './landfall_bg.js': { __wbg_host_1234() {} } }).exports;

test('a module that is read and written without a change is the same bytes', () => {
  const module = readModule(small);
  assert.equal(module.functions.length, 5);
  assert.deepEqual(writeModule(module, [0, 1, 2, 3, 4]), small);
});

test('a module does the same with its functions in any order', () => {
  const module = readModule(small);
  for (const order of [[4, 3, 2, 1, 0], [1, 3, 0, 4, 2]]) {
    const exports = exportsOf(writeModule(module, order));
    assert.equal(exports.direct(), 42);
    assert.equal(exports.table(), 42);
    assert.throws(() => exports.break_it(), WebAssembly.RuntimeError);
  }
  assert.equal(exportsOf(orderFunctions(small)).table(), 42);
});

test('locals of one type trade numbers until a function repeats the one before it, and it does the same', () => {
  // With an i32, an i64 and an i32 behind the parameter: a = x + 1, b = x * 2, and 10 a + b.
  const using = (a, b) => [3, 1, 0x7f, 1, 0x7e, 1, 0x7f, 0x20, 0, 0x41, 1, 0x6a, 0x21, a, 0x20, 0, 0x41, 2, 0x6c, 0x21, b, 0x20, a, 0x41, 10, 0x6c, 0x20, b, 0x6a, 0x42, 7, 0x21, 2, 0x0b];
  const twice = Buffer.from([
    ...small.subarray(0, 8),
    ...section(1, 1, [0x60, 1, 0x7f, 1, 0x7f]),
    ...section(3, 2, [0, 0]),
    ...section(7, 2, [text('one'), 0, 0], [text('other'), 0, 1]),
    ...section(10, 2, [[using(1, 3), using(3, 1)].map((body) => [body.length, ...body])]),
  ]);
  const codes = () => readLocals(twice).map(({ code }) => code.toString('hex'));
  assert.notEqual(...codes());
  assert.equal(renumberLocals(twice), twice);
  assert.equal(...codes());
  const { one, other } = new WebAssembly.Instance(new WebAssembly.Module(twice)).exports;
  for (const x of [0, 4, -3]) assert.deepEqual([one(x), other(x)], [12 * x + 10, 12 * x + 10]);
});

test('an instruction that is not known is refused', () => {
  const vector = Buffer.from(small);
  vector[vector.lastIndexOf(0x10)] = 0xfd;
  assert.throws(() => readModule(vector), /0xfd is not known/);
});

test('names are short on both sides, and an export that the glue does not use is dropped', async () => {
  const short = shortenNames(small, hearTraps(glue));
  assert.doesNotMatch(short.glue, /__wbg_|landfall_bg|wasm\.direct/);
  assert.deepEqual(WebAssembly.Module.exports(new WebAssembly.Module(short.bytes)).map(({ name }) => name), ['a', 'b', 'c', 'd']);
  const page = await load(short.glue);
  page.first(short.bytes);
  assert.equal(page.direct(), 42);
});

test('glue of another shape is refused', () => {
  assert.throws(() => shortenNames(small, glue.replace('__wbg_host_1234', '__wbg_guest')), /__wbg_host_1234 0 times/);
  assert.throws(() => hearTraps(glue.replace('instance.exports', 'exported')), /instance 0 times/);
});

test('a trap is told once for each instance, after the instance let go, and still thrown', async () => {
  globalThis.heardByHost = 0;
  const page = await load(hearTraps(glue));
  const told = [];
  page.onTrap((error) => {
    told.push([error instanceof WebAssembly.RuntimeError, globalThis.heardByHost]);
    if (told.length === 1) page.next(small);
  });
  page.first(small);
  assert.throws(() => page.break_it(), WebAssembly.RuntimeError);
  assert.deepEqual(told, [[true, 1]]);
  assert.equal(page.direct(), 42);
  for (const _ of [1, 2]) assert.throws(() => page.break_it(), WebAssembly.RuntimeError);
  assert.deepEqual(told, [[true, 1], [true, 2]]);
  delete globalThis.heardByHost;
});

const strings = `
const cachedTextEncoder = new TextEncoder();
export const memory = new Uint8Array(1024);
const getUint8ArrayMemory0 = () => memory;
const [malloc, realloc] = [() => 8, (ptr) => ptr];
export function passString(arg) {
    let len = arg.length;
    let ptr = malloc(len, 1) >>> 0;

    const mem = getUint8ArrayMemory0();

    let offset = 0;

    for (; offset < len; offset++) {
        const code = arg.charCodeAt(offset);
        if (code > 0x7F) break;
        mem[ptr + offset] = code;
    }
    if (offset !== len) {
        if (offset !== 0) {
            arg = arg.slice(offset);
        }
        ptr = realloc(ptr, len, len = offset + arg.length * 3, 1) >>> 0;
        const view = getUint8ArrayMemory0().subarray(ptr + offset, ptr + len);
        const ret = cachedTextEncoder.encodeInto(arg, view);

        offset += ret.written;
        ptr = realloc(ptr, len, offset, 1) >>> 0;
    }
    return memory.slice(ptr, ptr + offset);
}
`;

test('a string of any length and any characters comes into the module whole', async () => {
  const page = await load(copyWhole(strings));
  for (const length of [0, 1, 63, 64, 65, 200]) {
    for (const odd of ['', 'é', '€', '😀', '\ud83d']) {
      for (const before of [0, length >> 1, length]) {
        const text = 'x'.repeat(before) + odd + 'y'.repeat(length - before) + odd;
        assert.deepEqual(page.passString(text), new TextEncoder().encode(text));
      }
    }
  }
  assert.throws(() => copyWhole(strings.replace('0x7F', '0x7f')), /0 loops/);
});
