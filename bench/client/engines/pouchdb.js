// PouchDB with its default adapter (idb) and pouchdb-find. Every write is in its change log, which is its outbox.

import PouchDB from 'pouchdb-browser';
import find from 'pouchdb-find';
import { pulledPages } from '../wire.js';

PouchDB.plugin(find);

const documentOf = ({ id, ...fields }) => ({ _id: id, ...fields });
const recordOf = ({ _id, _rev, ...fields }) => ({ id: _id, ...fields });

export default {
  async open(name) {
    const db = new PouchDB(name);
    await db.createIndex({ index: { fields: ['supplier_id', 'date'] } });
    const bulk = async (records) => {
      const results = await db.bulkDocs(records.map(documentOf));
      const refused = results.find(({ error }) => error);
      if (refused) throw new Error(refused.message);
    };
    const query = async (supplier_id, limit) => {
      // A bound of dates: without one the planner does not take the order from the index.
      const { docs } = await db.find({ selector: { supplier_id, date: { $gt: null } }, sort: ['supplier_id', 'date'], limit });
      return docs.map(recordOf);
    };
    return {
      put: (record) => db.put(documentOf(record)),
      putConcurrently: (records) => Promise.all(records.map((record) => db.put(documentOf(record)))),
      load: bulk,
      async ingest(count) {
        for await (const records of pulledPages(count)) await bulk(records);
      },
      get: async (id) => recordOf(await db.get(id)),
      query,
      scan: async (below) => (await db.find({ selector: { amount: { $lt: below } }, limit: 1_000_000 })).docs.map(recordOf),
      /** The change feed says that something changed; the query is asked again. */
      async live(supplier, limit, heard) {
        const ask = async () => heard(await query(supplier, limit));
        const feed = db.changes({ since: 'now', live: true }).on('change', ask);
        await ask();
        return () => feed.cancel();
      },
      close: () => db.close(),
    };
  },
};
