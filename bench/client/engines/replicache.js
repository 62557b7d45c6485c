// Replicache: mutators, its own pusher and puller. A mutation is in memory when it resolves; it is stored a moment later.

import { Replicache } from 'replicache';
import { pulledPages, push } from '../wire.js';

const prefix = 'items/';
const index = 'supplier';
const served = { httpRequestInfo: { httpStatusCode: 200, errorMessage: '' } };
const mutators = {
  async put(tx, record) {
    await tx.set(prefix + record.id, record);
  },
  async putAll(tx, records) {
    for (const record of records) await tx.set(prefix + record.id, record);
  },
};

export default {
  async open(name) {
    const options = { name, mutators, indexes: { [index]: { jsonPointer: '/supplier_id' } }, pullInterval: null, logLevel: 'error' };
    const replicache = new Replicache(options);
    let newest;
    // Reads wait until the client is there.
    await replicache.clientID;
    await replicache.query((tx) => tx.has('nothing'));
    const query = (supplier, limit) => async (tx) => {
      const found = [];
      // Its indexes have one field: the order comes from here.
      for await (const record of tx.scan({ indexName: index, prefix: supplier }).values()) found.push(record);
      return found.sort((a, b) => (a.date < b.date ? -1 : 1)).slice(0, limit);
    };
    const pull = async (puller) => {
      replicache.puller = puller;
      await replicache.pull({ now: true });
    };
    return {
      put: (record) => replicache.mutate.put(record),
      putConcurrently: (records) => Promise.all(records.map((record) => replicache.mutate.put(record))),
      load(records) {
        newest = prefix + records.at(-1).id;
        return replicache.mutate.putAll(records);
      },
      async ingest(count) {
        const patch = [];
        await pull(async () => {
          for await (const records of pulledPages(count)) for (const record of records) patch.push({ op: 'put', key: prefix + record.id, value: record });
          newest = patch.at(-1).key;
          return { ...served, response: { cookie: 1, lastMutationIDChanges: {}, patch } };
        });
      },
      get: (id) => replicache.query((tx) => tx.get(prefix + id)),
      query: (supplier, limit) => replicache.query(query(supplier, limit)),
      scan: (below) =>
        replicache.query(async (tx) => {
          const found = [];
          for await (const record of tx.scan({ prefix }).values()) if (record.amount < below) found.push(record);
          return found;
        }),
      live: async (supplier, limit, heard) => replicache.subscribe(query(supplier, limit), heard),
      async drain() {
        const patch = [];
        let last = {};
        replicache.pusher = async ({ mutations }) => {
          const records = mutations.flatMap(({ args, name: mutator }) => (mutator === 'put' ? [args] : args));
          await push(records);
          for (const record of records) patch.push({ op: 'put', key: prefix + record.id, value: record });
          last = Object.fromEntries(mutations.map(({ clientID, id }) => [clientID, id]));
          return served;
        };
        await replicache.push({ now: true });
        await pull(async () => ({ ...served, response: { cookie: 1, lastMutationIDChanges: last, patch } }));
        const pending = await replicache.experimentalPendingMutations();
        if (pending.length > 0) throw new Error(`${pending.length} mutations are still pending`);
      },
      /** Nothing says when it has stored what it holds, which it does when the page is idle: a second client sees it then. */
      async settled() {
        for (let stored = false; !stored; ) {
          await new Promise((resolve) => requestIdleCallback(resolve));
          const other = new Replicache(options);
          stored = await other.query((tx) => tx.has(newest));
          await other.close();
        }
      },
      close: () => replicache.close(),
    };
  },
};
