// A floor: a hundred records to a row, as JSON text, strict, without an index. What a log that packs its rows could do at best.

import { pulledPages } from '../wire.js';
import { openDatabase, request, transact } from './raw_idb.js';

const recordsInRow = 100;

export default {
  async open(name) {
    const db = await openDatabase(name, (made) => made.createObjectStore('packs', { autoIncrement: true }));
    const add = (records, durability) => {
      const rows = [];
      for (let at = 0; at < records.length; at += recordsInRow) rows.push(JSON.stringify(records.slice(at, at + recordsInRow)));
      return transact(db, ['packs'], durability, (packs) => rows.forEach((row) => packs.add(row)));
    };
    return {
      putConcurrently: (records) => add(records, 'strict'),
      load: (records) => add(records, 'strict'),
      async ingest(count) {
        for await (const records of pulledPages(count)) await add(records, 'relaxed');
      },
      async scan(below) {
        const rows = await request(db.transaction('packs').objectStore('packs').getAll());
        return rows.flatMap((row) => JSON.parse(row).filter(({ amount }) => amount < below));
      },
      close: () => db.close(),
    };
  },
};
