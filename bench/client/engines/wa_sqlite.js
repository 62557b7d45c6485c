// wa-sqlite in a worker of its own, on OPFS (OPFSCoopSyncVFS), SQLite's defaults: rollback journal, synchronous=FULL.

import { pulledPages } from '../wire.js';

export default {
  async open(name) {
    const worker = new Worker(new URL('./wa_sqlite_worker.js', import.meta.url), { type: 'module' });
    const waiting = new Map();
    let asked = 0;
    worker.onmessage = ({ data: { id, result, error } }) => {
      const { resolve, reject } = waiting.get(id);
      waiting.delete(id);
      error === undefined ? resolve(result) : reject(new Error(error));
    };
    const call = (method, ...given) =>
      new Promise((resolve, reject) => {
        waiting.set(++asked, { resolve, reject });
        worker.postMessage({ id: asked, method, given });
      });
    worker.onerror = (event) => {
      for (const { reject } of waiting.values()) reject(new Error(event.message));
    };
    await call('open', name);
    return {
      put: (record) => call('put', [record]),
      putConcurrently: (records) => Promise.all(records.map((record) => call('put', [record]))),
      load: (records) => call('put', records),
      async ingest(count) {
        for await (const records of pulledPages(count)) await call('ingest', records);
      },
      get: (id) => call('get', id),
      query: (supplier, limit) => call('query', supplier, limit),
      scan: (below) => call('scan', below),
      wasmBytes: () => call('wasmBytes'),
      async close() {
        await call('close');
        worker.terminate();
      },
    };
  },
};
