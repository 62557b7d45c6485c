// RxDB over its Dexie storage. Records from the server and to it go by its replication, which is its outbox.

import { createRxDatabase } from 'rxdb/plugins/core';
import { replicateRxCollection } from 'rxdb/plugins/replication';
import { getRxStorageDexie } from 'rxdb/plugins/storage-dexie';
import { batch, pullPage, push } from '../wire.js';

const text = (maxLength) => ({ type: 'string', maxLength });
const schema = {
  version: 0,
  primaryKey: 'id',
  type: 'object',
  properties: { id: text(40), supplier_id: text(20), date: text(30), status: { type: 'string' }, amount: { type: 'number' }, title: { type: 'string' }, note: { type: 'string' } },
  required: ['id', 'supplier_id', 'date'],
  indexes: [['supplier_id', 'date']],
};
const plain = (documents) => documents.map((document) => document.toJSON());

export default {
  async open(name) {
    const db = await createRxDatabase({ name, storage: getRxStorageDexie(), multiInstance: false });
    const { items } = await db.addCollections({ items: { schema } });
    const queryOf = (supplier_id, limit) => items.find({ selector: { supplier_id }, sort: [{ supplier_id: 'asc' }, { date: 'asc' }], limit });
    const replicate = (options) => replicateRxCollection({ collection: items, replicationIdentifier: 'bench', live: false, retryTime: 1000, ...options });
    const finished = async (replication) => {
      let failure;
      replication.error$.subscribe((error) => (failure = error));
      await replication.awaitInitialReplication();
      if (failure) throw failure;
      await replication.cancel();
    };
    return {
      put: (record) => items.insert(record),
      putConcurrently: (records) => Promise.all(records.map((record) => items.insert(record))),
      async load(records) {
        const { error } = await items.bulkInsert(records);
        if (error.length > 0) throw new Error(`${error.length} records were refused`);
      },
      async ingest(count) {
        const pull = {
          batchSize: 1000,
          async handler(checkpoint) {
            if (checkpoint?.cursor === 'head') return { documents: [], checkpoint };
            const { records, cursor } = await pullPage(count, checkpoint?.cursor ?? null);
            return { documents: records.map((record) => ({ ...record, _deleted: false })), checkpoint: { cursor } };
          },
        };
        await finished(replicate({ pull }));
      },
      get: async (id) => (await items.findOne(id).exec())?.toJSON(),
      query: async (supplier, limit) => plain(await queryOf(supplier, limit).exec()),
      scan: async (below) => plain(await items.find({ selector: { amount: { $lt: below } } }).exec()),
      async live(supplier, limit, heard) {
        const subscription = queryOf(supplier, limit).$.subscribe((documents) => heard(plain(documents)));
        return () => subscription.unsubscribe();
      },
      async drain() {
        let seq = 1;
        const handler = async (rows) => {
          await push(rows.map(({ newDocumentState: { _deleted, ...record } }) => record), seq);
          seq += rows.length;
          return [];
        };
        await finished(replicate({ push: { batchSize: batch, handler } }));
      },
      close: () => db.close(),
    };
  },
};
