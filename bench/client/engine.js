// Landfall through its public API, set up so that nothing but the work that is measured happens.

import { open as openDatabase } from 'landfall';

export const user = 'bench';

/** An hour of a signed-in user. Nobody checks the signature here. */
export const token = () => {
  const part = (value) => btoa(JSON.stringify(value)).replace(/=+$/, '');
  return `${part({ alg: 'none' })}.${part({ sub: user, exp: Math.floor(Date.now() / 1000) + 3600 })}.x`;
};

/** Signed out, so nothing is sent, until `db.token()` says otherwise. */
export const open = (name, options = {}) =>
  openDatabase({
    name,
    user,
    url: '/instant/0',
    auth: { token: () => null },
    collections: { notes: {} },
    serviceWorker: false,
    persist: 'manual',
    ...options,
  });

/** Resolves when the engine has found out that it is signed out, and so has nothing more to do by itself. */
export const atRest = (db) => statusWhere(db, ({ auth }) => auth === 'auth_required');

/** Resolves when nothing waits to be sent. */
export const drained = (db) => statusWhere(db, ({ pending }) => pending === 0);

/** Resolves when the first download is whole and visible. */
export const pulled = (db) => statusWhere(db, ({ cold }) => !cold);

const statusWhere = (db, holds) =>
  new Promise((resolve) => {
    if (holds(db.sync.status)) return void resolve();
    const off = db.sync.on('status', (status) => {
      if (!holds(status)) return;
      off();
      resolve();
    });
  });

export const signedIn = (pulled) => ({ url: `/instant/${pulled}`, auth: { token } });

export const remove = async (db) => {
  await db.logout({ unsynced: 'wipe' });
};
