// What a careful person writes by hand over IndexedDB for the same job, and nothing more: a row for the record where it is
// read, a row for its outbox entry beside it, one transaction, explicit `commit()`, resolved on `complete`.
//
// No second tab, no service worker, no retry, no base beside the view, no checksum, no healing: every one of these would make
// it slower, none would make it faster.

import { batch, pulledPages, push } from '../wire.js';

export const request = (asked) =>
  new Promise((resolve, reject) => {
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });

/** One transaction: `work` asks for what it wants in one turn; resolves when it is complete. */
export function transact(db, stores, durability, work) {
  const transaction = db.transaction(stores, 'readwrite', { durability });
  const done = new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
  });
  work(...stores.map((name) => transaction.objectStore(name)));
  transaction.commit();
  return done;
}

export function openDatabase(name, upgrade) {
  const opening = indexedDB.open(name, 1);
  opening.onupgradeneeded = () => upgrade(opening.result);
  return request(opening);
}

function schema(db) {
  db.createObjectStore('outbox', { autoIncrement: true });
  db.createObjectStore('meta');
  db.createObjectStore('records', { keyPath: 'id' }).createIndex('supplier_id,date', ['supplier_id', 'date']);
}

export const engine = (durability) => ({
  async open(name) {
    const db = await openDatabase(name, schema);
    const putAll = (records) =>
      transact(db, ['records', 'outbox'], durability, (rows, outbox) => {
        for (const record of records) {
          rows.put(record);
          outbox.add({ op: 'put', id: record.id, at: Date.now() });
        }
      });
    const reading = () => db.transaction('records').objectStore('records');
    const query = (supplier, limit) => request(reading().index('supplier_id,date').getAll(IDBKeyRange.bound([supplier], [supplier, []]), limit));
    let heard = () => {};
    return {
      async put(record) {
        await putAll([record]);
        heard();
      },
      putConcurrently: (records) => Promise.all(records.map((record) => putAll([record]))),
      load: putAll,
      async ingest(count) {
        let page = 0;
        for await (const records of pulledPages(count)) {
          page += 1;
          await transact(db, ['records', 'meta'], 'relaxed', (rows, meta) => {
            for (const record of records) rows.put(record);
            meta.put(page, 'cursor');
          });
        }
      },
      get: (id) => request(reading().get(id)),
      query,
      scan: async (below) => (await request(reading().getAll())).filter(({ amount }) => amount < below),
      /** By hand: whoever writes tells whoever shows, and that one asks again. */
      async live(supplier, limit, callback) {
        heard = async () => callback(await query(supplier, limit));
        heard();
        return () => (heard = () => {});
      },
      async drain() {
        for (let seq = 1; ; seq += batch) {
          const transaction = db.transaction(['outbox', 'records']);
          const outbox = transaction.objectStore('outbox');
          const [keys, entries] = await Promise.all([request(outbox.getAllKeys(null, batch)), request(outbox.getAll(null, batch))]);
          if (entries.length === 0) return;
          const rows = db.transaction('records').objectStore('records');
          const records = await Promise.all(entries.map(({ id }) => request(rows.get(id))));
          const results = await push(records, seq);
          await transact(db, ['records', 'outbox'], durability, (settled, waiting) => {
            results.forEach(({ version }, i) => settled.put({ ...records[i], _version: version }));
            waiting.delete(IDBKeyRange.bound(keys[0], keys.at(-1)));
          });
        }
      },
      close: () => db.close(),
    };
  },
});

export default engine('relaxed');
