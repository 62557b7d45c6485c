// PowerSync's web SDK with its own defaults (IDBBatchAtomicVFS, its own worker). Its views write the outbox (`ps_crud`).
//
// Records from a server come only by its service, which is not here: the records that are read are local ones.

import { PowerSyncDatabase, Schema, Table, column } from '@powersync/web';
import { batch, push } from '../wire.js';

const { text, real } = column;
const items = new Table({ supplier_id: text, date: text, status: text, amount: real, title: text, note: text }, { indexes: { supplier_date: ['supplier_id', 'date'] } });
const insert = 'INSERT INTO items (id, supplier_id, date, status, amount, title, note) VALUES (?, ?, ?, ?, ?, ?, ?)';
const valuesOf = ({ id, supplier_id, date, status, amount, title, note }) => [id, supplier_id, date, status, amount, title, note];
const bySupplier = 'SELECT * FROM items WHERE supplier_id = ? ORDER BY date LIMIT ?';

export default {
  async open(name) {
    const db = new PowerSyncDatabase({ schema: new Schema({ items }), database: { dbFilename: `${name}.db` } });
    await db.init();
    const put = (record) => db.execute(insert, valuesOf(record));
    return {
      put,
      putConcurrently: (records) => Promise.all(records.map(put)),
      load: (records) => db.writeTransaction((transaction) => transaction.executeBatch ? transaction.executeBatch(insert, records.map(valuesOf)) : each(transaction, records)),
      get: (id) => db.getOptional('SELECT * FROM items WHERE id = ?', [id]),
      query: (supplier, limit) => db.getAll(bySupplier, [supplier, limit]),
      scan: (below) => db.getAll('SELECT * FROM items WHERE amount < ?', [below]),
      async live(supplier, limit, heard) {
        const stopping = new AbortController();
        db.watch(bySupplier, [supplier, limit], { onResult: (result) => heard(result.rows?._array ?? result.rows?.array ?? result) }, { signal: stopping.signal });
        return () => stopping.abort();
      },
      async drain() {
        for (let seq = 1; ; ) {
          const waiting = await db.getCrudBatch(batch);
          if (!waiting) return;
          await push(waiting.crud.map(({ id, opData }) => ({ id, ...opData })), seq);
          seq += waiting.crud.length;
          await waiting.complete();
        }
      },
      close: () => db.close(),
    };
  },
};

async function each(transaction, records) {
  for (const record of records) await transaction.execute(insert, valuesOf(record));
}
