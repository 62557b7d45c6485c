// Opens a database by its public API and hands it to the console as `lab`. Nothing here is a part of the app.
//
// `?user=ada&name=lab` opens that database at once, with no network too: the worker's cookie or `lab.login()` brings
// the token. `lab.ready` resolves when it is open.

import { isSyncError, meta, open } from 'landfall';
import { ready as networkKnown } from './shell/network.js';
import { registerWorker } from './shell/install.js';
import { login as logIn } from './shell/session.js';

const logLinesMost = 200;
const events = ['rejected', 'conflict', 'applied', 'auth_required', 'storage', 'restarted'];
const collections = { attendance: {}, facilities: { scope: 'facility:{facility_id}' }, movies: {}, notes: {} };

const parameters = new URLSearchParams(location.search);
const statusOutput = document.getElementById('status');
const logOutput = document.getElementById('log');

const lab = { open, db: null, meta, isSyncError, ready: null, openAs, login };
window.lab = lab;

/** The options that the lab opens a database with; `extra` replaces some. */
function options(user, extra) {
  return {
    name: parameters.get('name') ?? 'lab',
    user,
    url: '/v1/sync',
    auth: { refresh: { url: '/auth/refresh' } },
    device: 'lab',
    collections,
    ...extra,
  };
}

async function openAs(user, extra = {}) {
  await lab.db?.close();
  lab.db = null;
  const db = await open(options(user, extra));
  lab.db = db;
  for (const name of events) db.sync.on(name, (value) => log(name, value));
  db.sync.on('status', showStatus);
  showStatus(db.sync.status);
  log('open', { user, name: extra.name ?? parameters.get('name') ?? 'lab' });
  return db;
}

/** Signs in and gives the open database its token; opens it first where it is not open. */
async function login(user, password) {
  const person = await logIn(user, password, { remembered: false });
  if (!lab.db) await openAs(user);
  await lab.db.token(person.token);
  return { user: person.user, roles: person.roles, expires_at: person.expires_at };
}

function showStatus(status) {
  statusOutput.textContent = JSON.stringify(status, null, 2);
}

function log(name, value) {
  const line = document.createElement('div');
  line.textContent = `${new Date().toISOString().slice(11, 23)} ${name} ${JSON.stringify(value instanceof Error ? value.message : value) ?? ''}`;
  logOutput.append(line);
  while (logOutput.children.length > logLinesMost) logOutput.firstChild.remove();
  logOutput.scrollTop = logOutput.scrollHeight;
}

const form = document.getElementById('login');
form.elements.user.value = parameters.get('user') ?? '';
form.addEventListener('submit', (event) => {
  event.preventDefault();
  login(form.elements.user.value.trim(), form.elements.password.value).then(
    () => log('signed in', form.elements.user.value),
    (error) => log('sign-in failed', error),
  );
});

registerWorker({ onWaiting: (activate) => activate() });
lab.ready = networkKnown.then(() => (parameters.has('user') ? openAs(parameters.get('user')) : null));
lab.ready.catch((error) => log('open failed', error));
