// Gives the locals of a linked module numbers that compress well. What the functions do stays the same.
//
// Functions from one generic source often differ in nothing but these numbers, which the optimizer gives by how often each
// is used; and a third of all code is about locals. So, function by function, two locals of the same type trade numbers
// when more of the code is then found in the 32 KB before it, which is what gzip looks at. A number of two bytes stays.

import { readLocals } from './wasm.mjs';

/** What is found again is counted in runs of these many bytes. */
const runLengths = [4, 6, 8, 12];
const longestRun = Math.max(...runLengths);

/** How far back counts. */
const windowBytes = 30_000;

/** Trades are tried again until none helps, at most this often. */
const roundCount = 3;

/** The module with its locals renumbered: as many bytes, in place. */
export function renumberLocals(bytes) {
  const window = new Window();
  for (const each of readLocals(bytes)) {
    for (let round = 0; round < roundCount && trade(each, window); round++);
    window.add(each.code);
  }
  return bytes;
}

/** Whether any two locals of a function have traded numbers. */
function trade({ code, first, types, places }, window) {
  let traded = false;
  for (let one = first; one < places.length; one++) {
    for (let other = one + 1; other < places.length; other++) {
      if (types[one - first] !== types[other - first]) continue;
      const swap = () => {
        [places[one], places[other]] = [places[other], places[one]];
        for (const local of [one, other]) for (const place of places[local]) code[place] = local;
      };
      const ranges = near(places[one], places[other], code.length);
      const before = window.count(code, ranges);
      swap();
      if (window.count(code, ranges) > before) traded = true;
      else swap();
    }
  }
  return traded;
}

/** The parts of a function in which a run may hold one of the places. */
function near(some, others, length) {
  const ranges = [];
  for (const place of [...some, ...others].sort((a, b) => a - b)) {
    const from = Math.max(0, place - longestRun + 1);
    const to = Math.min(length, place + longestRun);
    const last = ranges.at(-1);
    if (last && last.to >= from) last.to = to;
    else ranges.push({ from, to });
  }
  return ranges;
}

/** The runs of the bytes that gzip still sees, by their hashes. */
class Window {
  constructor() {
    this.counts = runLengths.map(() => new Uint16Array(1 << 20));
    this.held = [];
    this.length = 0;
  }
  add(code) {
    this.note(code, 1);
    this.held.push(code);
    this.length += code.length;
    while (this.length > windowBytes && this.held.length > 1) {
      const gone = this.held.shift();
      this.length -= gone.length;
      this.note(gone, -1);
    }
  }
  note(code, by) {
    runLengths.forEach((length, at) => {
      for (let from = 0; from + length <= code.length; from++) this.counts[at][hash(code, from, length)] += by;
    });
  }
  /** How many runs of these parts are in the window. */
  count(code, ranges) {
    let found = 0;
    for (const { from, to } of ranges) {
      for (let at = 0; at < runLengths.length; at++) {
        const counts = this.counts[at];
        const length = runLengths[at];
        for (let start = from; start + length <= to; start++) if (counts[hash(code, start, length)] > 0) found++;
      }
    }
    return found;
  }
}

function hash(code, from, length) {
  let hash = length;
  for (let at = from; at < from + length; at++) hash = Math.imul(hash ^ code[at], 0x9e3779b1) ^ (hash >>> 15);
  return (hash >>> 12) & 0xfffff;
}
