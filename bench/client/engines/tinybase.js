// TinyBase: everything in memory, with its IndexedDB persister, which writes what a call of `save()` finds changed.

import { createIndexes, createStore } from 'tinybase';
import { createIndexedDbPersister } from 'tinybase/persisters/persister-indexed-db';
import { pulledPages } from '../wire.js';

const table = 'items';
const index = 'supplier';

export default {
  async open(name) {
    const store = createStore();
    const persister = createIndexedDbPersister(store, name);
    await persister.load();
    const indexes = createIndexes(store).setIndexDefinition(index, table, 'supplier_id', 'date');
    const recordOf = (id) => ({ id, ...store.getRow(table, id) });
    const set = ({ id, ...fields }) => store.setRow(table, id, fields);
    const setAll = (records) => store.transaction(() => records.forEach(set));
    const query = (supplier, limit) => indexes.getSliceRowIds(index, supplier).slice(0, limit).map(recordOf);
    const save = async () => void (await persister.save());
    return {
      async put(record) {
        set(record);
        await save();
      },
      async putConcurrently(records) {
        setAll(records);
        await save();
      },
      async load(records) {
        setAll(records);
        await save();
      },
      async ingest(count) {
        for await (const records of pulledPages(count)) setAll(records);
        await save();
      },
      get: async (id) => (store.hasRow(table, id) ? recordOf(id) : undefined),
      query: async (supplier, limit) => query(supplier, limit),
      async scan(below) {
        const found = [];
        store.forEachRow(table, (id) => {
          if (store.getCell(table, id, 'amount') < below) found.push(recordOf(id));
        });
        return found;
      },
      async live(supplier, limit, heard) {
        const listener = indexes.addSliceRowIdsListener(index, supplier, () => heard(query(supplier, limit)));
        heard(query(supplier, limit));
        return () => indexes.delListener(listener);
      },
      close: () => persister.destroy(),
    };
  },
};
