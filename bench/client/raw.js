// The peer: what a careful person writes by hand over IndexedDB for the same job, and nothing more.
//
// No second tab, no service worker, no retry, no base beside the view, no checksum, no healing: every one of these would make
// it slower, none would make it faster. `durability` and `commit()` are used where they help.

const request = (asked) => new Promise((resolve, reject) => {
  asked.onsuccess = () => resolve(asked.result);
  asked.onerror = () => reject(asked.error);
});
const completed = (transaction) => new Promise((resolve, reject) => {
  transaction.oncomplete = () => resolve();
  transaction.onabort = () => reject(transaction.error);
});

export const open = (name) => {
  const opening = indexedDB.open(name, 1);
  opening.onupgradeneeded = () => {
    const db = opening.result;
    db.createObjectStore('log', { autoIncrement: true });
    db.createObjectStore('outbox', { autoIncrement: true });
    db.createObjectStore('meta');
    db.createObjectStore('records', { keyPath: 'id' }).createIndex('date', 'date');
  };
  return request(opening);
};

export const remove = (name) => request(indexedDB.deleteDatabase(name));

const entryOf = (record) => ({ op: 'put', collection: 'notes', id: record.id, at: Date.now() });

/** The record and its outbox entry as one row, resolved when the transaction is complete. */
export function putOneRow(db, record, durability) {
  const transaction = db.transaction('log', 'readwrite', { durability });
  transaction.objectStore('log').add({ ...entryOf(record), record });
  const done = completed(transaction);
  transaction.commit();
  return done;
}

/** The record where it is read, and its outbox entry beside it. */
export function putTwoRows(db, record, durability) {
  const transaction = db.transaction(['records', 'outbox'], 'readwrite', { durability });
  transaction.objectStore('records').put(record);
  transaction.objectStore('outbox').add(entryOf(record));
  const done = completed(transaction);
  transaction.commit();
  return done;
}

/** All in one transaction, a row for each. */
export function putBatch(db, records, durability) {
  const transaction = db.transaction('log', 'readwrite', { durability });
  const log = transaction.objectStore('log');
  for (const record of records) log.add({ ...entryOf(record), record });
  const done = completed(transaction);
  transaction.commit();
  return done;
}

/** Both rows of each, all in one transaction. */
export function putRecords(db, list) {
  const transaction = db.transaction(['records', 'outbox'], 'readwrite', { durability: 'strict' });
  const [records, outbox] = ['records', 'outbox'].map((name) => transaction.objectStore(name));
  for (const record of list) {
    records.put(record);
    outbox.add(entryOf(record));
  }
  const done = completed(transaction);
  transaction.commit();
  return done;
}

/** All in one transaction, 150 to a row as JSON text: what a log that packs its rows could do at best. */
export function putPacked(db, records, durability) {
  const rows = [];
  for (let at = 0; at < records.length; at += 150) rows.push(JSON.stringify(records.slice(at, at + 150).map((record) => ({ ...entryOf(record), record }))));
  const transaction = db.transaction('log', 'readwrite', { durability });
  const log = transaction.objectStore('log');
  for (const row of rows) log.add(row);
  const done = completed(transaction);
  transaction.commit();
  return done;
}

/** Pages from the server to rows, the cursor in the transaction of its page. */
export async function pull(db, url) {
  let cursor = null;
  for (;;) {
    const page = await post(`${url}/pull`, { cursor });
    const transaction = db.transaction(['records', 'meta'], 'readwrite', { durability: 'relaxed' });
    const records = transaction.objectStore('records');
    for (const { id, version, fields } of page.changes.notes ?? []) records.put({ ...fields, id, _version: version });
    transaction.objectStore('meta').put(page.cursor, 'cursor');
    const done = completed(transaction);
    transaction.commit();
    await done;
    cursor = page.cursor;
    if (!page.has_more) return;
  }
}

/** Sends what is in the log, a hundred at a time; an answer is stored before the next request. */
export async function drain(db, url) {
  let seq = 0;
  for (;;) {
    const reading = db.transaction('log').objectStore('log');
    const [keys, rows] = await Promise.all([request(reading.getAllKeys(null, 100)), request(reading.getAll(null, 100))]);
    if (rows.length === 0) return;
    const mutations = rows.map(({ record: { id, ...set } }) => ({ seq: ++seq, scope: 'user:bench', collection: 'notes', id, op: 'create', set, base: 0 }));
    const { results } = await post(`${url}/push`, { mutations });
    const transaction = db.transaction(['log', 'records'], 'readwrite', { durability: 'strict' });
    const records = transaction.objectStore('records');
    results.forEach(({ version }, i) => records.put({ ...rows[i].record, _version: version }));
    transaction.objectStore('log').delete(IDBKeyRange.bound(keys[0], keys.at(-1)));
    const done = completed(transaction);
    transaction.commit();
    await done;
  }
}

const post = async (url, body) => (await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })).json();

export const get = (db, id) => request(db.transaction('records').objectStore('records').get(id));
export const firstByDate = (db, count) => request(db.transaction('records').objectStore('records').index('date').getAll(null, count));
/** The newest ones; an index gives them backwards only by a cursor. */
export function lastByDate(db, count) {
  const found = [];
  return new Promise((resolve, reject) => {
    const walking = db.transaction('records').objectStore('records').index('date').openCursor(null, 'prev');
    walking.onerror = () => reject(walking.error);
    walking.onsuccess = () => {
      const cursor = walking.result;
      if (cursor) found.push(cursor.value);
      if (cursor && found.length < count) cursor.continue();
      else resolve(found);
    };
  });
}
export const all = (db) => request(db.transaction('records').objectStore('records').getAll());
