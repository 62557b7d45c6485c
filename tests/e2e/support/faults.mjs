// Makes IndexedDB fail in a page or a worker, transaction by transaction, as browsers do where it cannot be provoked.

/**
 * `context.addInitScript(installFaults)` before the engine is loaded, or `worker.evaluate(installFaults)`. Then, in there,
 * `faults.next('settle', 'lostAfter')` makes the next transaction of that name go wrong; `'read'` is any that only reads.
 * `faults.always(…)` makes all of them, until `faults.clear()`. `faults.hits`: what went wrong, in order; `faults.seen`: names.
 *
 * How: `closed`: `transaction()` throws InvalidStateError. `lostReading`: the connection ends while the transaction reads.
 * `lostBefore`, `lostAfter`: it ends when the commit was asked for; it did not, or did, take place. `unknown`: a request
 * fails with UnknownError. `aborted`: the browser aborts and says no error. `quota`: no room.
 */
export function installFaults() {
  const rules = [];
  const faults = {
    hits: [],
    seen: [],
    next: (name, how, times = 1) => void rules.push({ name, how, times }),
    always: (name, how) => void rules.push({ name, how, times: Infinity }),
    clear: () => void rules.splice(0),
  };
  globalThis.faults = faults;

  const begin = IDBDatabase.prototype.transaction;
  const commit = IDBTransaction.prototype.commit;
  /** What happens instead of the commit of a transaction. */
  const instead = new WeakMap();
  const fail = (transaction) => {
    const act = instead.get(transaction);
    instead.delete(transaction);
    act?.();
    return act !== undefined;
  };

  const lose = (db) => {
    db.close();
    db.onclose?.({ type: 'close' });
  };
  const failRequest = (transaction) => {
    const error = new DOMException('Internal error opening backing store for indexedDB.open.', 'UnknownError');
    transaction.onerror?.({ type: 'error', target: { error } });
    transaction.abort();
  };
  const wrong = {
    lostReading(transaction, db) {
      queueMicrotask(() => lose(db));
    },
    lostBefore(transaction, db) {
      instead.set(transaction, () => {
        transaction.abort();
        lose(db);
      });
    },
    lostAfter(transaction, db) {
      // Before the engine's own listener, which hears nothing.
      transaction.addEventListener('complete', (event) => {
        event.stopImmediatePropagation();
        lose(db);
      });
    },
    unknown(transaction) {
      if (transaction.mode === 'readonly') queueMicrotask(() => failRequest(transaction));
      else instead.set(transaction, () => failRequest(transaction));
    },
    aborted(transaction) {
      if (transaction.mode === 'readonly') queueMicrotask(() => transaction.abort());
      else instead.set(transaction, () => transaction.abort());
    },
    quota(transaction) {
      instead.set(transaction, () => {
        Object.defineProperty(transaction, 'error', { value: new DOMException('no room', 'QuotaExceededError') });
        transaction.abort();
      });
    },
  };

  IDBDatabase.prototype.transaction = function (stores, mode, options) {
    const name = mode === 'readwrite' ? options?.name : 'read';
    faults.seen.push(name);
    const rule = rules.find((rule) => rule.name === name && rule.times > 0);
    if (rule) {
      rule.times -= 1;
      faults.hits.push(`${name} ${rule.how}`);
      if (rule.how === 'closed') throw new DOMException('The database connection is closing.', 'InvalidStateError');
    }
    const transaction = begin.call(this, stores, mode, options);
    if (rule) wrong[rule.how](transaction, this);
    return transaction;
  };
  IDBTransaction.prototype.commit = function () {
    if (!fail(this)) commit.call(this);
  };
  // Where the engine asks for no commit: when it has issued all writes.
  for (const name of ['add', 'put', 'delete']) {
    const write = IDBObjectStore.prototype[name];
    IDBObjectStore.prototype[name] = function (...parameters) {
      if (instead.has(this.transaction)) queueMicrotask(() => fail(this.transaction));
      return write.apply(this, parameters);
    };
  }
}

/** All that can go wrong with a transaction that writes. */
export const ways = ['closed', 'lostReading', 'lostBefore', 'lostAfter', 'unknown', 'aborted', 'quota'];
