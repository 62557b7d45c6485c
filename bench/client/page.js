// The workloads, in the page. Each gives one figure (or several, by name); the driver decides about rounds, order and processes.
//
// An engine's module gives `open(name, options)`, and what that gives has the methods which the engine has a natural way
// for. A workload whose method is missing is not measured; it is never imitated.

import { idOf, recordOf, recordsOf, scanBelow, supplierOf } from './records.js';

const singleWrites = 200;
const concurrentWrites = 1000;
const loadChunk = 10_000;
const liveRecords = 1000;
const liveWrites = 50;
const liveShown = 50;
const reads = 50;
const limit = 100;
/** Everybody's first read of a database at rest. */
const firstRead = 4321;

let engine;
let engineName;

const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor((numbers.length - 1) / 2)];
const must = (condition, what) => {
  if (!condition) throw new Error(`${engineName}: the answer is wrong: ${what}`);
};

/** Milliseconds that `work` takes. */
async function timed(work) {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/** The median of what `work` takes for 0, 1, 2, …, one after the other. */
async function medianOf(count, work) {
  const times = [];
  for (let i = 0; i < count; i++) times.push(await timed(() => work(i)));
  return median(times);
}

/** Some indexes out of `count`, never the same for two kinds of reads. */
const scattered = (count, kind) => Array.from({ length: reads }, (_, i) => ((i * 7919 + kind * 104_729) % count) | 0);

async function checkedGet(db, index) {
  const record = await db.get(idOf(index));
  must(record?.title === recordOf(index).title && record.amount === recordOf(index).amount, `record ${index}`);
}

/** The records of one supplier by date; one in a thousand is of a supplier. */
async function checkedQuery(db, index, count) {
  const found = await db.query(supplierOf(index), limit);
  must(found.length === Math.min(limit, Math.floor((count - 1 - (index % 1000)) / 1000) + 1), `${found.length} records of a supplier`);
  must(found.every(({ supplier_id, date }, i) => supplier_id === supplierOf(index) && (i === 0 || found[i - 1].date <= date)), 'the order of a query');
}

async function withFresh(purpose, work, open = engine.open) {
  const db = await open(`bench-${purpose}`);
  try {
    return await work(db);
  } finally {
    await db.close();
  }
}

async function loadInto(db, count) {
  for (let from = 0; from < count; from += loadChunk) await db.load(recordsOf(from, Math.min(loadChunk, count - from)));
}

/** What an engine still does before a query is answered is a part of getting the records in. */
async function queryable(db, count) {
  if (db.query) await checkedQuery(db, 7, count);
  await db.saved?.();
}

const work = {
  stored_write: () =>
    withFresh('single', async (db) => {
      if (!db.put) return {};
      return { stored_write_p50_ms: await medianOf(singleWrites, (i) => db.put(recordOf(i))) };
    }),

  async concurrent() {
    const times = [];
    for (let round = 0; round < 3; round++) {
      const records = recordsOf(0, concurrentWrites);
      const ms = await withFresh(`concurrent-${round}`, (db) => db.putConcurrently && timed(() => db.putConcurrently(records)));
      if (ms === undefined) return {};
      times.push(ms);
    }
    return { concurrent_1000_writes_per_s: (concurrentWrites / median(times)) * 1000 };
  },

  /** From the call of `put` to the callback with the record in it, first of fifty shown out of a thousand. */
  live: () =>
    withFresh('live', async (db) => {
      if (!db.live) return {};
      const supplier_id = supplierOf(0);
      await db.load(recordsOf(0, liveRecords).map((record) => ({ ...record, supplier_id })));
      let seen = () => {};
      let first;
      const shown = new Promise((resolve) => (first = resolve));
      const stop = await db.live(supplier_id, liveShown, (rows) => {
        if (rows.length === liveShown) first();
        seen(rows);
      });
      await shown;
      const times = [];
      for (let i = 0; i < liveWrites; i++) {
        // Each one earlier than all before, so that it comes in at the front.
        const record = { ...recordOf(liveRecords + i), supplier_id, date: new Date(Date.UTC(2000, 0, 1, 0, liveWrites - i)).toISOString() };
        let stored;
        times.push(
          await timed(() => {
            const heard = new Promise((resolve) => (seen = (rows) => rows[0]?.id === record.id && resolve()));
            stored = db.put(record);
            return heard;
          }),
        );
        await stored;
      }
      await stop();
      return { live_query_1000_ms: median(times) };
    }),

  drain: (count) =>
    withFresh('drain', async (db) => {
      if (!db.drain) return {};
      await loadInto(db, count);
      return { drain_ms: await timed(() => db.drain(count)) };
    }),

  /** The same with a backend in the page that answers at once: reading and settling, without network and server. */
  drain_engine: (count) =>
    engine.openInstant &&
    withFresh(
      'drain-engine',
      async (db) => {
        await loadInto(db, count);
        return { drain_engine_ms: await timed(() => db.drain(count)) };
      },
      engine.openInstant,
    ),

  async load(count) {
    const records = [];
    for (let from = 0; from < count; from += loadChunk) records.push(recordsOf(from, Math.min(loadChunk, count - from)));
    return withFresh('unsent', async (db) => {
      if (!db.load) return {};
      const load_ms = await timed(async () => {
        for (const chunk of records) await db.load(chunk);
        await queryable(db, count);
      });
      await db.settled?.();
      return { load_ms };
    });
  },

  async ingest(count, other) {
    const open = other ? engine.openOther : engine.open;
    const db = await open(other ? 'bench-other' : 'bench-shelf', { count });
    try {
      if (db.ingest) {
        const ingest_ms = await timed(async () => {
          await db.ingest(count);
          await queryable(db, count);
        });
        await db.settled?.();
        const wasm = wasmBytes();
        return other ? {} : { ingest_ms, ...(wasm > 0 && { ingest_wasm_mb: wasm / 2 ** 20 }) };
      }
      if (db.load) {
        await loadInto(db, count);
        await queryable(db, count);
        await db.settled?.();
      }
      return {};
    } finally {
      await db.close();
    }
  },

  // From here on a process that has not seen the database yet.

  async open_unsent(count) {
    let db;
    const open_unsent_ms = await timed(async () => {
      db = await engine.open('bench-unsent');
      if (db.get) await checkedGet(db, firstRead % count);
    });
    await db.close();
    return db.get ? { open_unsent_ms } : {};
  },

  async get(count) {
    let db;
    const open_first_get_ms = await timed(async () => {
      db = await engine.open('bench-shelf', { count });
      if (db.get) await checkedGet(db, firstRead % count);
    });
    if (!db.get) return {};
    const cold = scattered(count, 1);
    const get_cold_ms = await medianOf(reads, (i) => checkedGet(db, cold[i]));
    // Many at a time: one of them is shorter than the clock can tell.
    const times = [];
    for (let i = 0; i < 10; i++) {
      times.push((await timed(async () => {
        for (const index of cold) await db.get(idOf(index));
      })) / reads);
    }
    await db.close();
    return { open_first_get_ms, get_cold_ms, get_warm_ms: median(times) };
  },

  async query(count) {
    let db;
    const open_first_query_ms = await timed(async () => {
      db = await engine.open('bench-shelf', { count });
      if (db.query) await checkedQuery(db, firstRead, count);
    });
    const figures = {};
    if (db.query) {
      figures.open_first_query_ms = open_first_query_ms;
      const cold = scattered(count, 2);
      figures.query100_cold_clustered_ms = await medianOf(10, (i) => checkedQuery(db, cold[i], count));
      figures.query100_warm_ms = await medianOf(20, () => db.query(supplierOf(cold[0]), limit));
    }
    if (db.scan) {
      // Never the same question twice: a kept answer is not a scan.
      const found = [];
      figures.scan_ms = await medianOf(3, async (i) => found.push(await db.scan(scanBelow + i)));
      const amounts = Array.from({ length: count }, (_, i) => recordOf(i).amount);
      found.forEach((records, i) => {
        must(records.every(({ amount }) => amount < scanBelow + i), 'what the scan finds');
        must(records.length === amounts.filter((amount) => amount < scanBelow + i).length, 'how much the scan finds');
      });
    }
    await db.close();
    return figures;
  },

  async query_other(count) {
    const db = await (engine.openOther ? engine.openOther('bench-other', { count }) : engine.open('bench-shelf', { count }));
    if (!db.query) return {};
    await checkedGet(db, firstRead % count);
    const cold = scattered(count, 3);
    const query100_cold_other_ms = await medianOf(10, (i) => checkedQuery(db, cold[i], count));
    await db.close();
    return { query100_cold_other_ms };
  },

  /**
   * The whole page with its workers after a scan and a query, as the browser counts them once it has collected its garbage. It
   * leaves WebAssembly's memory out: that comes from the modules of the page, or from the engine for those of its worker.
   */
  async memory(count) {
    const db = await engine.open('bench-shelf', { count });
    if (!db.scan) return {};
    await db.scan(scanBelow);
    await db.query?.(supplierOf(1), limit);
    const { bytes } = await performance.measureUserAgentSpecificMemory();
    const wasm = wasmBytes() + ((await db.wasmBytes?.()) ?? 0);
    await db.close();
    return { memory_mb: (bytes + wasm) / 2 ** 20, ...(wasm > 0 && { memory_wasm_mb: wasm / 2 ** 20 }) };
  },
};

/** The memories of the modules that this page made. */
const wasmMemories = [];
const wasmBytes = () => wasmMemories.reduce((sum, memory) => sum + memory.buffer.byteLength, 0);
const remember = (result) => {
  for (const exported of Object.values((result.instance ?? result).exports)) if (exported instanceof WebAssembly.Memory) wasmMemories.push(exported);
  return result;
};
for (const name of ['instantiate', 'instantiateStreaming']) {
  const original = WebAssembly[name];
  WebAssembly[name] = async (...given) => remember(await original.apply(WebAssembly, given));
}

/** What the browser itself takes to open any database: one that nobody else uses, with one row. */
async function browserFloor() {
  const opening = indexedDB.open('bench-unrelated', 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore('rows').put('row', 1);
  const answered = (asked) => new Promise((resolve, reject) => {
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
  const db = await answered(opening);
  await answered(db.transaction('rows').objectStore('rows').get(1));
  db.close();
}

window.bench = {
  /** First in every process: the browser's own floor, then the engine's code, fetched, compiled and run once on an empty database. */
  async prepare(name, url) {
    engineName = name;
    const floor_ms = await timed(browserFloor);
    const code_ms = await timed(async () => {
      engine = (await import(url)).default;
      await withFresh('empty', () => {});
    });
    return { floor_ms, code_ms };
  },
  run: async (task, ...given) => (await work[task](...given)) ?? {},
};
