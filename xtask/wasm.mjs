// Reads a WebAssembly module into its parts and writes it again with its functions in another order, and finds the
// locals in it. No packages.
// Invariant: what it does not know, it refuses; a module that was read and written without a change is the same bytes.

const sections = { type: 1, import: 2, function: 3, export: 7, start: 8, element: 9, code: 10 };

/** Opcodes by the immediates that follow them. All that stable Rust makes for wasm32, and nothing of vectors or threads. */
const immediates = new Map();
const define = (kind, ...ranges) => {
  for (const [from, to = from] of ranges) for (let opcode = from; opcode <= to; opcode++) immediates.set(opcode, kind);
};
define('none', [0x00, 0x01], [0x05], [0x0a, 0x0b], [0x0f], [0x1a, 0x1b], [0x45, 0xc4], [0xd1]);
define('block', [0x02, 0x04]);
define('index', [0x08], [0x0c, 0x0d], [0x23, 0x26], [0x3f, 0x40], [0xd0]);
define('local', [0x20, 0x22]);
define('table', [0x0e]);
define('call', [0x10], [0x12], [0xd2]);
define('two', [0x11], [0x13], [0x28, 0x3e]);
define('types', [0x1c]);
define('signed', [0x41, 0x42]);
define('four', [0x43]);
define('eight', [0x44]);
define('more', [0xfc]);
/** After 0xfc: how many indices follow. */
const moreIndices = [0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 1, 2, 1, 2, 1, 1, 1];

/**
 * The parts of a module: `functions` as `{ type, pieces, targets }`, the imported functions first in the numbering.
 * A body is its `pieces` with the index of a called function between each two.
 */
export function readModule(bytes) {
  const reader = new Reader(bytes);
  if (Buffer.compare(reader.take(8), header) !== 0) throw new Error('this is no WebAssembly module of version 1');
  const parts = [];
  while (reader.at < bytes.length) {
    const id = reader.byte();
    const length = reader.number();
    parts.push({ id, bytes: reader.take(length) });
  }
  const part = (id) => new Reader(parts.find((each) => each.id === id)?.bytes ?? Buffer.of(0));
  const imports = list(part(sections.import), readImport);
  const types = list(part(sections.function), (from) => from.number());
  const bodies = list(part(sections.code), readBody);
  return {
    parts,
    imports,
    importedCount: imports.filter(({ kind }) => kind === 0).length,
    exports: list(part(sections.export), (from) => ({ name: from.text(), kind: from.byte(), index: from.number() })),
    functions: bodies.map((body, index) => ({ type: types[index], ...body })),
  };
}

/** The module's bytes, its functions in this order: `order[place]` is the number among `functions`. */
export function writeModule(module, order) {
  const { importedCount, functions } = module;
  const indices = newIndices(importedCount, order);
  const vector = (count, bytes) => Buffer.concat([Buffer.from(number(count)), ...bytes]);
  const written = {
    [sections.import]: () => vector(module.imports.length, module.imports.map((each) => Buffer.from([...text(each.module), ...text(each.name), each.kind, ...each.description]))),
    [sections.function]: () => vector(order.length, order.map((index) => Buffer.from(number(functions[index].type)))),
    [sections.export]: () => vector(module.exports.length, module.exports.map(({ name, kind, index }) => Buffer.from([...text(name), kind, ...number(kind === 0 ? indices[index] : index)]))),
    [sections.start]: (bytes) => Buffer.from(number(indices[new Reader(bytes).number()])),
    [sections.element]: (bytes) => writeElements(new Reader(bytes), indices),
    [sections.code]: () => vector(order.length, order.map((index) => writeBody(functions[index], indices))),
  };
  const parts = module.parts.map(({ id, bytes }) => {
    const content = written[id] ? written[id](bytes) : bytes;
    return Buffer.concat([Buffer.from([id, ...number(content.length)]), content]);
  });
  return Buffer.concat([header, ...parts]);
}

/** Where each function, counted with the imported ones, is to be found in this order. */
export function newIndices(importedCount, order) {
  const indices = new Uint32Array(importedCount + order.length);
  for (let index = 0; index < importedCount; index++) indices[index] = index;
  order.forEach((index, place) => (indices[importedCount + index] = importedCount + place));
  return indices;
}

/** One function with its length before it, as the code section has it. */
export function writeBody({ pieces, targets }, indices) {
  const bytes = [];
  pieces.forEach((piece, index) => {
    bytes.push(piece);
    if (index < targets.length) bytes.push(numbers[indices[targets[index]]] ?? Buffer.from(number(indices[targets[index]])));
  });
  const length = bytes.reduce((sum, piece) => sum + piece.length, 0);
  return Buffer.concat([Buffer.from(number(length)), ...bytes]);
}

/**
 * The functions of a module with what they keep in locals: `code`, a view of the bytes behind the declarations; how many
 * parameters come `first`; the `types` of the others; and of each local the places in `code` that name it, as far as its
 * number is one byte.
 */
export function readLocals(bytes) {
  const parts = new Map(readModule(bytes).parts.map(({ id, bytes }) => [id, new Reader(bytes)]));
  const parameters = list(parts.get(sections.type), (from) => {
    const count = from.take(1) && from.take(from.number()).length;
    from.take(from.number());
    return count;
  });
  const types = list(parts.get(sections.function), (from) => from.number());
  let index = 0;
  return list(parts.get(sections.code), (from) => {
    const body = new Reader(from.take(from.number()));
    const declared = list(body, (group) => Array(group.number()).fill(group.byte())).flat();
    const code = body.bytes.subarray(body.at);
    const first = parameters[types[index++]];
    const places = Array.from({ length: Math.min(128, first + declared.length) }, () => []);
    for (const at = new Reader(code); at.at < code.length; ) {
      const { local } = skipInstruction(at);
      if (local >= 0 && code[local] < 128) places[code[local]].push(local);
    }
    return { code, first, types: declared, places };
  });
}

const header = Buffer.from([0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);

/** Reads numbers and texts of a module from one place to another. */
class Reader {
  constructor(bytes, at = 0, end = bytes.length) {
    Object.assign(this, { bytes, at, end });
  }
  byte() {
    if (this.at >= this.end) throw new Error(`the module ends within a part, at ${this.at}`);
    return this.bytes[this.at++];
  }
  /** An unsigned number of at most 32 bits. */
  number() {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = this.byte();
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  }
  skipNumber() {
    while (this.byte() > 127);
  }
  take(length) {
    if (this.at + length > this.end) throw new Error(`the module ends within a part, at ${this.at}`);
    return this.bytes.subarray(this.at, (this.at += length));
  }
  text() {
    return Buffer.from(this.take(this.number())).toString();
  }
  skipLimits() {
    const flags = this.byte();
    if (flags > 1) throw new Error(`limits of kind ${flags}`);
    for (let count = 0; count <= flags; count++) this.skipNumber();
  }
}

/** The bytes of an unsigned number. */
function number(value) {
  const bytes = [];
  do {
    const low = value % 128;
    value = Math.floor(value / 128);
    bytes.push(value > 0 ? low + 128 : low);
  } while (value > 0);
  return bytes;
}

const text = (value) => [...number(Buffer.byteLength(value)), ...Buffer.from(value)];

/** Steps over the instruction that `reader` is at; gives its opcode, and where in it the index of a function or a local is, or -1. */
function skipInstruction(reader) {
  const opcode = reader.byte();
  let call = -1;
  let local = -1;
  switch (immediates.get(opcode)) {
    case 'none':
      break;
    case 'block':
    case 'index':
    case 'signed':
      reader.skipNumber();
      break;
    case 'two':
      reader.skipNumber();
      reader.skipNumber();
      break;
    case 'call':
      call = reader.at;
      reader.skipNumber();
      break;
    case 'local':
      local = reader.at;
      reader.skipNumber();
      break;
    case 'table':
      for (let count = reader.number(); count >= 0; count--) reader.skipNumber();
      break;
    case 'types':
      reader.take(reader.number());
      break;
    case 'four':
      reader.take(4);
      break;
    case 'eight':
      reader.take(8);
      break;
    case 'more': {
      const count = moreIndices[reader.number()];
      if (count === undefined) throw new Error(`an instruction of family 0xfc that is not known, at ${reader.at}`);
      for (let index = 0; index < count; index++) reader.skipNumber();
      break;
    }
    default:
      throw new Error(`instruction 0x${opcode.toString(16)} is not known, at ${reader.at}`);
  }
  return { opcode, call, local };
}

const numbers = Array.from({ length: 1 << 14 }, (_, value) => Buffer.from(number(value)));

function list(reader, read) {
  return Array.from({ length: reader.number() }, () => read(reader));
}

function readImport(reader) {
  const each = { module: reader.text(), name: reader.text(), kind: reader.byte() };
  const from = reader.at;
  if (each.kind === 0) reader.skipNumber();
  else if (each.kind === 1) reader.byte();
  if (each.kind === 1 || each.kind === 2) reader.skipLimits();
  if (each.kind === 3) reader.take(2);
  if (each.kind === 4) reader.take(2);
  return { ...each, description: reader.bytes.subarray(from, reader.at) };
}

function readBody(reader) {
  const bytes = reader.take(reader.number());
  const body = new Reader(bytes);
  for (let count = body.number(); count > 0; count--) {
    body.skipNumber();
    body.byte();
  }
  const pieces = [];
  const targets = [];
  let from = 0;
  while (body.at < bytes.length) {
    const { call } = skipInstruction(body);
    if (call < 0) continue;
    pieces.push(bytes.subarray(from, call));
    targets.push(new Reader(bytes, call).number());
    from = body.at;
  }
  pieces.push(bytes.subarray(from));
  return { pieces, targets };
}

/** Of the kinds of element segments only those are known that list function indices for a table. */
function writeElements(reader, indices) {
  const segments = list(reader, (from) => {
    const kind = from.number();
    if (kind !== 0) throw new Error(`an element segment of kind ${kind}`);
    const start = from.at;
    while (skipInstruction(from).opcode !== 0x0b);
    const offset = from.bytes.subarray(start, from.at);
    const members = list(from, (each) => number(indices[each.number()]));
    return Buffer.from([0, ...offset, ...number(members.length), ...members.flat()]);
  });
  return Buffer.concat([Buffer.from(number(segments.length)), ...segments]);
}
