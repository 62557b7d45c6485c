// Landfall through its public API, in its default durability (strict), with nothing running but the work that is measured.

import { open as openDatabase } from 'landfall';

const user = 'bench';

/** The one place that says which indexes the bench declares. `cluster` is the key along which records lie together. */
const collections = (cluster) => ({ items: { indexes: [['supplier_id', 'date']], cluster } });
const alongTheQuery = ['supplier_id', 'date'];
const alongAnother = ['status', 'date'];

/** An hour of a signed-in user. Nobody checks the signature here. */
const token = () => {
  const part = (value) => btoa(JSON.stringify(value)).replace(/=+$/, '');
  return `${part({ alg: 'none' })}.${part({ sub: user, exp: Math.floor(Date.now() / 1000) + 3600 })}.x`;
};

/** Resolves when the status is as asked, and rejects when the storage fails meanwhile. */
const statusWhere = (db, holds) =>
  new Promise((resolve, reject) => {
    const look = (status) => {
      if (status.storage.state === 'storage_failed') return void reject(new Error(status.storage.message));
      if (!holds(status)) return;
      off();
      resolve();
    };
    const off = db.sync.on('status', look);
    queueMicrotask(() => look(db.sync.status));
  });

/** A backend in the page that answers at once: it applies everything and has nothing to give. */
const instant = () => {
  const scope = `user:${user}`;
  let position = 0;
  const envelope = () => ({ server_time: Date.now(), epoch: 'bench' });
  const applied = ({ seq }) => ({ seq, status: 'applied', scope, position: ++position, version: 1 });
  return {
    push: async ({ mutations }) => ({ ...envelope(), results: mutations.map(applied), head: { [scope]: position } }),
    pull: async () => ({ ...envelope(), changes: {}, tombstones: {}, access: { added: [], removed: [] }, cursor: 'head', covered: { [scope]: { items: position } }, has_more: false }),
  };
};

/** Signed out, so that nothing is sent, until `db.token()` says otherwise. */
async function open(name, { count = 0, cluster = alongTheQuery, transport } = {}) {
  const backend = transport ? { transport } : { url: `/instant/${count}` };
  const db = await openDatabase({ name, user, ...backend, auth: { token: () => null }, collections: collections(cluster), serviceWorker: false, persist: 'manual' });
  const items = db.collection('items');
  const putAll = (records) => Promise.all(records.map((record) => items.put(record)));
  return {
    put: (record) => items.put(record),
    putConcurrently: putAll,
    load: putAll,
    get: (id) => items.get(id),
    query: (supplier_id, limit) => items.query({ where: { supplier_id }, orderBy: 'date', limit }).get(),
    live: async (supplier_id, limit, heard) => items.query({ where: { supplier_id }, orderBy: 'date', limit }).subscribe(heard),
    scan: (below) => items.query({ where: { amount: { lt: below } } }).get(),
    async ingest() {
      await db.token(token());
      await statusWhere(db, ({ cold }) => !cold);
    },
    async drain() {
      const done = statusWhere(db, ({ pending }) => pending === 0);
      await db.token(token());
      await done;
    },
    close: () => db.close(),
  };
}

export default {
  open,
  /** A database whose records lie along another key than the one that is asked for. */
  openOther: (name, options) => open(name, { ...options, cluster: alongAnother }),
  /** One whose answers come from the page itself, without a request: what is left is the engine's own share of sending. */
  openInstant: (name, options) => open(name, { ...options, transport: instant() }),
};
