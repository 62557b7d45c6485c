// Puts the functions of a linked module into the order that compresses best. Their code stays the same.
//
// gzip finds a repetition only in the 32 KB before it, and the module is more than ten times as long; functions that
// were made from one generic source are spread over all of it. So each function is followed by the one that shares
// most with what stands shortly before. That is a greedy walk; where it starts makes half a per cent, so some starts are
// tried and gzip itself decides. Equal modules give equal orders: the numbers are those of a fixed sequence.

import { gzipSync } from 'node:zlib';
import { newIndices, readModule, writeBody, writeModule } from './wasm.mjs';

/** What two functions share is counted in runs of these many bytes; shorter ones are everywhere. A run that few have says more. */
const runLengths = [4, 6, 8];
const weightOf = (havers) => havers ** -0.3;

/** A run that more functions have is the way the compiler begins or ends things, and says nothing about likeness. */
const runFunctionsMax = 1_000;

/** How far back likeness counts: gzip reaches 32 KB, and near repetitions cost fewer bits than far ones. */
const windowBytes = 16_000;

/** A long function shares more than a short one: what it shares is divided by its length, to this power. */
const lengthPower = 0.8;

/** Walks over the bytes as the walk before left them (indices of calls change with the order), then walks from other starts. */
const roundCount = 2;

/** The module with its functions in the best order found, from so many starts. */
export function orderFunctions(bytes, startCount) {
  const module = readModule(bytes);
  let best = { order: module.functions.map((_, index) => index), bytes, size: gzipBytes(bytes) };
  const weigh = (order) => {
    const written = writeModule(module, order);
    const size = gzipBytes(written);
    if (size < best.size) best = { order, bytes: written, size };
  };
  let order = best.order;
  for (let round = 0; round < roundCount; round++) {
    const likeness = new Likeness(module, order);
    order = likeness.walk(likeness.longest());
    weigh(order);
  }
  const likeness = new Likeness(module, best.order);
  for (let start = 1; start <= startCount; start++) weigh(likeness.walk((start * 7919) % module.functions.length));
  return best.bytes;
}

const gzipBytes = (bytes) => gzipSync(bytes, { level: 9 }).length;

/** What the functions of a module have in common, their calls numbered as in `order`. */
class Likeness {
  constructor(module, order) {
    const indices = newIndices(module.importedCount, order);
    const bodies = module.functions.map((body) => writeBody(body, indices));
    this.lengths = bodies.map((body) => body.length);
    this.havers = new Map();
    bodies.forEach((body, index) => {
      for (const run of runsOf(body)) {
        const havers = this.havers.get(run);
        if (havers) havers.push(index);
        else this.havers.set(run, [index]);
      }
    });
    this.runs = bodies.map(() => []);
    for (const [run, havers] of this.havers) {
      if (havers.length > 1 && havers.length <= runFunctionsMax) for (const index of havers) this.runs[index].push(run);
    }
  }

  longest() {
    return this.lengths.indexOf(Math.max(...this.lengths));
  }

  /** All functions, beginning with `start`, each the likest of those left to the window before it. */
  walk(start) {
    const weights = this.lengths.map((length) => 1 / length ** lengthPower);
    const shared = new Float64Array(this.lengths.length);
    const inWindow = new Map();
    const left = new Set(this.lengths.keys());
    const order = [];
    let windowStart = 0;
    let windowLength = 0;
    const count = (index, by) => {
      for (const run of this.runs[index]) {
        const before = inWindow.get(run) ?? 0;
        inWindow.set(run, before + by);
        if (before > 0 && before + by > 0) continue;
        const havers = this.havers.get(run);
        const weight = by * weightOf(havers.length);
        for (const haver of havers) shared[haver] += weight;
      }
    };
    for (let next = start; next >= 0; ) {
      order.push(next);
      left.delete(next);
      count(next, 1);
      windowLength += this.lengths[next];
      while (windowLength > windowBytes && windowStart < order.length - 1) {
        const gone = order[windowStart++];
        windowLength -= this.lengths[gone];
        count(gone, -1);
      }
      next = -1;
      for (const index of left) if (next < 0 || shared[index] * weights[index] > shared[next] * weights[next]) next = index;
    }
    return order;
  }
}

/** A hash of each run of bytes, each once. */
function runsOf(body) {
  const runs = new Set();
  for (const length of runLengths) {
    for (let from = 0; from + length <= body.length; from++) {
      let hash = length;
      for (let at = from; at < from + length; at++) hash = (Math.imul(hash, 0x9e3779b1) ^ body[at] ^ (hash >>> 13)) >>> 0;
      runs.add(hash);
    }
  }
  return runs;
}
