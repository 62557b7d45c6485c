// A floor: the record and its outbox entry as one row of one append-only store, relaxed. Nothing reads it.

import { openDatabase, transact } from './raw_idb.js';

export const engine = (durability) => ({
  async open(name) {
    const db = await openDatabase(name, (made) => made.createObjectStore('log', { autoIncrement: true }));
    const add = (records) =>
      transact(db, ['log'], durability, (log) => {
        for (const record of records) log.add(JSON.stringify({ op: 'put', id: record.id, at: Date.now(), record }));
      });
    return { put: (record) => add([record]), putConcurrently: (records) => Promise.all(records.map((record) => add([record]))), close: () => db.close() };
  },
});

export default engine('relaxed');
