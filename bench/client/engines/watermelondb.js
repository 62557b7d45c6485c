// WatermelonDB with its LokiJS adapter as its set-up page has it: no worker, incremental IndexedDB. A write is in memory when it
// resolves and is stored by LokiJS within half a second.

import { Database, Model, Q, appSchema, tableSchema } from '@nozbe/watermelondb';
import lokiAdapter from '@nozbe/watermelondb/adapters/lokijs';
import { synchronize } from '@nozbe/watermelondb/sync';
import { batch, pulledPages, push } from '../wire.js';

const columns = [
  { name: 'supplier_id', type: 'string', isIndexed: true },
  { name: 'date', type: 'string' },
  { name: 'status', type: 'string' },
  { name: 'amount', type: 'number' },
  { name: 'title', type: 'string' },
  { name: 'note', type: 'string' },
];
/** A CommonJS module: how its default comes in depends on who bundles. */
const LokiJSAdapter = lokiAdapter.default ?? lokiAdapter;
const table = 'items';

class Item extends Model {
  static table = table;
}

const plain = ({ _raw: raw }) => Object.fromEntries(['id', ...columns.map(({ name }) => name)].map((name) => [name, raw[name]]));
const filled = (record) => (item) => {
  item._raw.id = record.id;
  for (const { name } of columns) item._setRaw(name, record[name]);
};

export default {
  async open(name) {
    const schema = appSchema({ version: 1, tables: [tableSchema({ name: table, columns })] });
    const adapter = new LokiJSAdapter({ dbName: name, schema, useWebWorker: false, useIncrementalIndexedDB: true });
    const database = new Database({ adapter, modelClasses: [Item] });
    const items = database.get(table);
    // Set up when the first question is answered.
    await items.query().fetchCount();
    const put = (record) => database.write(() => items.create(filled(record)));
    const queryOf = (supplier, limit) => items.query(Q.where('supplier_id', supplier), Q.sortBy('date', Q.asc), Q.take(limit));
    const sync = (pulled, pushChanges) => synchronize({ database, pullChanges: async () => ({ changes: { [table]: { created: pulled, updated: [], deleted: [] } }, timestamp: Date.now() }), pushChanges, sendCreatedAsUpdated: true });
    const loki = () => adapter._driver.loki;
    return {
      put,
      putConcurrently: (records) => Promise.all(records.map(put)),
      load: (records) => database.write(() => database.batch(records.map((record) => items.prepareCreate(filled(record))))),
      async ingest(count) {
        const all = [];
        for await (const records of pulledPages(count)) all.push(...records);
        await sync(all);
      },
      get: async (id) => plain(await items.find(id)),
      query: async (supplier, limit) => (await queryOf(supplier, limit).fetch()).map(plain),
      scan: async (below) => (await items.query(Q.where('amount', Q.lt(below))).fetch()).map(plain),
      async live(supplier, limit, heard) {
        const subscription = queryOf(supplier, limit)
          .observe()
          .subscribe((found) => heard(found.map(plain)));
        return () => subscription.unsubscribe();
      },
      drain: () =>
        sync([], async ({ changes }) => {
          const records = changes[table].created.map(({ _status, _changed, ...record }) => record);
          for (let at = 0; at < records.length; at += batch) await push(records.slice(at, at + batch), at + 1);
        }),
      /** Before the process ends: what LokiJS would have stored by itself. */
      settled: () => new Promise((resolve, reject) => loki().saveDatabase((error) => (error ? reject(error) : resolve()))),
      close: () => new Promise((resolve) => loki().close(resolve)),
    };
  },
};
