// The workloads. Each one makes what it needs, measures, and takes it away again; the driver decides rounds and order.
//
// A workload is a list of contenders; each gives one number for one round (or several, by name).

import * as raw from './raw.js';
import { idOf, recordOf, recordsOf } from './records.js';

const engine = () => import('./engine.js');

const singleWrites = 300;
const concurrentWrites = 1000;
const readRecords = 10_000;
const ingestRecords = 100_000;
const warmGets = 1000;
const liveRecords = 1000;
const liveWrites = 100;

let fresh = 0;
const freshName = () => `bench-${Date.now().toString(36)}-${fresh++}`;

const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];

/** Milliseconds that `work` takes. */
async function timed(work) {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

async function withRaw(work) {
  const name = freshName();
  const db = await raw.open(name);
  try {
    return await work(db, name);
  } finally {
    db.close();
    await raw.remove(name);
  }
}

async function withEngine(options, work) {
  const { open, atRest, remove } = await engine();
  const db = await open(freshName(), options);
  try {
    await atRest(db);
    return await work(db, db.collection('notes'));
  } finally {
    await remove(db);
  }
}

/** What `work` gives for 0, 1, 2, …, one after the other. */
async function series(count, work) {
  const values = [];
  for (let i = 0; i < count; i++) values.push(await work(i));
  return values;
}

/** The median of single writes, each awaited. */
const p50 = async (put) =>
  median(
    await series(singleWrites, (i) => {
      const record = recordOf(i);
      return timed(() => put(record));
    }),
  );

const perSecond = (count, ms) => (count / ms) * 1000;
/** A thousand records at once into a fresh database, three times: one commit is short, and so the median of three. */
const concurrent = async (withDatabase, put) => {
  const records = recordsOf(0, concurrentWrites);
  return median(await series(3, () => withDatabase(async (...given) => perSecond(concurrentWrites, await timed(() => put(records, ...given))))));
};

/** Databases with 10,000 pulled records, made once by each contender and read by several workloads. */
const shelves = {
  async landfall() {
    const { open, signedIn, pulled } = await engine();
    const name = freshName();
    const options = signedIn(readRecords);
    const db = await open(name, options);
    await pulled(db);
    // What the timers of this context would do meanwhile is not what is measured.
    await db.close();
    return { name, options };
  },
  async raw_idb() {
    const name = freshName();
    const db = await raw.open(name);
    await raw.pull(db, `/instant/${readRecords}`);
    db.close();
    return { name };
  },
};

const readers = {
  async landfall({ name }) {
    const { open } = await engine();
    const db = await open(name);
    const notes = db.collection('notes');
    return {
      get: (id) => notes.get(id),
      firstByDate: (limit) => notes.query({ orderBy: 'date', limit }).get(),
      all: () => notes.query().get(),
      close: () => db.close(),
    };
  },
  async raw_idb({ name }) {
    const db = await raw.open(name);
    return {
      get: (id) => raw.get(db, id),
      firstByDate: (limit) => raw.firstByDate(db, limit),
      all: () => raw.all(db),
      close: async () => db.close(),
    };
  },
};

const must = (condition, what) => {
  if (!condition) throw new Error(`not what was written: ${what}`);
};

const writes = {
  async stored_write_p50_ms(contender) {
    switch (contender) {
      case 'landfall': return withEngine({}, (_, notes) => p50((record) => notes.put(record)));
      case 'landfall_relaxed': return withEngine({ durability: 'relaxed' }, (_, notes) => p50((record) => notes.put(record)));
      case 'raw_idb': return withRaw((db) => p50((record) => raw.putOneRow(db, record, 'strict')));
      case 'raw_idb_relaxed': return withRaw((db) => p50((record) => raw.putOneRow(db, record, 'relaxed')));
      case 'raw_idb_two_rows': return withRaw((db) => p50((record) => raw.putTwoRows(db, record, 'strict')));
    }
  },
  async concurrent_writes_per_s(contender) {
    switch (contender) {
      case 'landfall': return concurrent((work) => withEngine({}, work), (records, _, notes) => Promise.all(records.map((record) => notes.put(record))));
      case 'raw_idb': return concurrent(withRaw, (records, db) => Promise.all(records.map((record) => raw.putOneRow(db, record, 'strict'))));
      case 'raw_idb_batched': return concurrent(withRaw, (records, db) => raw.putBatch(db, records, 'strict'));
      case 'raw_idb_packed': return concurrent(withRaw, (records, db) => raw.putPacked(db, records, 'strict'));
    }
  },
  async ingest_100k_ms(contender) {
    switch (contender) {
      case 'landfall':
        return withEngine({ url: `/instant/${ingestRecords}` }, async (db, notes) => {
          const { token, pulled } = await engine();
          const ms = await timed(async () => {
            await db.token(token());
            await pulled(db);
          });
          must((await notes.get(idOf(ingestRecords - 1)))?.title === recordOf(ingestRecords - 1).title, 'the last record');
          return ms;
        });
      case 'raw_idb':
        return withRaw(async (db) => {
          const ms = await timed(() => raw.pull(db, `/instant/${ingestRecords}`));
          must((await raw.get(db, idOf(ingestRecords - 1)))?.title === recordOf(ingestRecords - 1).title, 'the last record');
          return ms;
        });
      case 'fetch_only':
        return timed(async () => {
          for (let cursor = null, more = true; more; ) {
            const page = await (await fetch(`/instant/${ingestRecords}/pull`, { method: 'POST', body: JSON.stringify({ cursor }) })).json();
            cursor = page.cursor;
            more = page.has_more;
          }
        });
    }
  },
  drain_1000_ms: (contender) => drain(contender, 1000),
  drain_10k_ms: (contender) => drain(contender, 10_000),
  /** From the call of `put` to the callback of a query that the record is in: the newest fifty of a thousand. */
  async live_query_ms(contender) {
    const shown = 50;
    const before = recordsOf(0, liveRecords);
    // Each one later than the last, so that it comes in at the end of the list.
    const lateOne = (i) => ({ ...recordOf(liveRecords + i), date: new Date(Date.UTC(2030, 0, 1, 0, i)).toISOString() });
    switch (contender) {
      case 'landfall':
        return withEngine({}, async (_, notes) => {
          await Promise.all(before.map((record) => notes.put(record)));
          let heard = () => {};
          const stop = notes.query({ orderBy: [['date', 'desc']], limit: shown }).subscribe((rows) => heard(rows));
          const times = await series(liveWrites, (i) => {
            const record = lateOne(i);
            return timed(async () => {
              const seen = new Promise((resolve) => (heard = (rows) => rows[0]?.id === record.id && resolve()));
              await Promise.all([notes.put(record), seen]);
            });
          });
          stop();
          return median(times);
        });
      case 'raw_idb':
        return withRaw(async (db) => {
          await raw.putRecords(db, before);
          const times = await series(liveWrites, (i) => {
            const record = lateOne(i);
            return timed(async () => {
              await raw.putTwoRows(db, record, 'strict');
              must((await raw.lastByDate(db, shown))[0].id === record.id, 'the newest record');
            });
          });
          return median(times);
        });
    }
  },
  async open_10k_unsent_ms(contender) {
    const records = recordsOf(0, readRecords);
    const name = freshName();
    switch (contender) {
      case 'landfall': {
        const { open, atRest, remove } = await engine();
        const written = await open(name);
        await atRest(written);
        await Promise.all(records.map((record) => written.collection('notes').put(record)));
        await written.close();
        let db;
        const ms = await timed(async () => {
          db = await open(name);
          must((await db.collection('notes').get(idOf(4321)))?.title === recordOf(4321).title, 'a record by id');
        });
        await remove(db);
        return ms;
      }
      case 'raw_idb': {
        const written = await raw.open(name);
        await raw.putRecords(written, records);
        written.close();
        let db;
        const ms = await timed(async () => {
          db = await raw.open(name);
          must((await raw.get(db, idOf(4321)))?.title === recordOf(4321).title, 'a record by id');
        });
        db.close();
        await raw.remove(name);
        return ms;
      }
    }
  },
};

async function drain(contender, count) {
  switch (contender) {
    case 'landfall':
      return withEngine({}, async (db, notes) => {
        const { token, drained } = await engine();
        await Promise.all(recordsOf(0, count).map((record) => notes.put(record)));
        const done = drained(db);
        return timed(async () => {
          await db.token(token());
          await done;
        });
      });
    case 'raw_idb':
      return withRaw(async (db) => {
        await raw.putBatch(db, recordsOf(0, count), 'strict');
        return timed(() => raw.drain(db, '/instant/0'));
      });
  }
}

/** Open, then everything that reads, on one shelf. */
async function reads(contender, shelf) {
  const numbers = {};
  let reader;
  numbers.open_ms = await timed(async () => {
    reader = await readers[contender](shelf);
    must((await reader.get(idOf(4321)))?.title === recordOf(4321).title, 'a record by id');
  });
  const ids = Array.from({ length: warmGets }, (_, i) => idOf((i * 7919) % readRecords));
  for (const id of ids.slice(0, 100)) await reader.get(id);
  numbers.get_warm_us = ((await timed(async () => {
    for (const id of ids) await reader.get(id);
  })) / ids.length) * 1000;
  const repeated = async (work) => {
    await work();
    const times = [];
    for (let i = 0; i < 10; i++) times.push(await timed(work));
    return median(times);
  };
  let found;
  numbers.query_100_ms = await repeated(async () => (found = await reader.firstByDate(100)));
  must(found.length === 100 && found.every((record, i) => i === 0 || found[i - 1].date <= record.date), 'the first hundred by date');
  numbers.scan_10k_ms = await repeated(async () => (found = await reader.all()));
  must(found.length === readRecords, 'all of them');
  await reader.close();
  return numbers;
}

/** The first open of a page: the module is fetched and compiled in it. */
async function firstOpen(contender, shelf) {
  let reader;
  const ms = await timed(async () => {
    reader = await readers[contender](shelf);
    await reader.get(idOf(4321));
  });
  await reader.close();
  return ms;
}

window.bench = {
  measure: (workload, contender) => writes[workload](contender),
  makeShelf: (contender) => shelves[contender](),
  reads,
  firstOpen,
  removeAll: async () => {
    for (const { name } of await indexedDB.databases()) await raw.remove(name);
  },
  /** Loads the engine's module and lets it open once, so that no workload pays for that. */
  warm: () => withEngine({}, async (_, notes) => void (await notes.put(recordOf(0)))),
};
