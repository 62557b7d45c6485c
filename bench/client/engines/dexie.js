// Dexie: a table with a compound index, a second one as outbox. Its default durability is the browser's (relaxed).

import Dexie, { liveQuery } from 'dexie';
import { pulledPages } from '../wire.js';

export default {
  async open(name) {
    const db = new Dexie(name);
    db.version(1).stores({ items: 'id, [supplier_id+date]', outbox: '++seq' });
    await db.open();
    const { items, outbox } = db;
    const query = (supplier, limit) => items.where('[supplier_id+date]').between([supplier, Dexie.minKey], [supplier, Dexie.maxKey]).limit(limit).toArray();
    const put = (record) =>
      db.transaction('rw', items, outbox, async () => {
        await items.put(record);
        await outbox.add({ op: 'put', id: record.id, at: Date.now() });
      });
    return {
      put,
      putConcurrently: (records) => Promise.all(records.map(put)),
      load: (records) =>
        db.transaction('rw', items, outbox, async () => {
          await items.bulkPut(records);
          await outbox.bulkAdd(records.map(({ id }) => ({ op: 'put', id, at: Date.now() })));
        }),
      async ingest(count) {
        for await (const records of pulledPages(count)) await items.bulkPut(records);
      },
      get: (id) => items.get(id),
      query,
      scan: (below) => items.filter(({ amount }) => amount < below).toArray(),
      async live(supplier, limit, heard) {
        const subscription = liveQuery(() => query(supplier, limit)).subscribe(heard);
        return () => subscription.unsubscribe();
      },
      close: () => db.close(),
    };
  },
};
