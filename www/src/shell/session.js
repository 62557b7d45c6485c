// Who is signed in on this device, and that person's databases: one for each system of the demo.
//
// The name of the signed-in user is kept in localStorage, so that the page opens with its data before, and without,
// any answer of the network. Tokens are not kept here: Landfall stores the access token for its worker, and the
// refresh token is an HttpOnly cookie.

import { open } from 'landfall';
import { systems } from './systems.js';

const userKey = 'landfall-demo:user';
const deviceKey = 'landfall-demo:device';
const loginTimeoutMs = 15_000;

export class LoginError extends Error {}

/** `{user, name, roles, scopes, facilities}` of the person signed in on this device, or null. */
export function rememberedUser() {
  try {
    const person = JSON.parse(localStorage.getItem(userKey) ?? 'null');
    return typeof person?.user === 'string' ? person : null;
  } catch {
    return null;
  }
}

const remember = ({ user, name, roles, scopes, facilities }) => localStorage.setItem(userKey, JSON.stringify({ user, name, roles, scopes, facilities }));
const forget = () => localStorage.removeItem(userKey);

/** Calls back when another tab signs somebody in or out. */
export function onSessionChangedElsewhere(callback) {
  addEventListener('storage', (event) => {
    if (event.key === userKey || event.key === null) callback();
  });
}

/** Names this browser profile in the records it makes; not the person. */
export function deviceId() {
  const known = localStorage.getItem(deviceKey);
  if (known) return known;
  const fresh = `web_${crypto.randomUUID()}`;
  localStorage.setItem(deviceKey, fresh);
  return fresh;
}

/**
 * `POST /auth/login`. Resolves with its answer and the codes of the person's `facilities`; rejects with words for the person.
 * `remembered`: this is now the person signed in on this device.
 */
export async function login(user, password, { remembered = true } = {}) {
  const response = await fetch('/auth/login', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ user, password }),
    signal: AbortSignal.timeout(loginTimeoutMs),
  }).catch(() => {
    throw new LoginError('The server cannot be reached. Signing in needs a connection once; after that everything works without one.');
  });
  if (response.status === 401 || response.status === 403) throw new LoginError('User name or password is not right.');
  if (response.status === 429) throw new LoginError('Too many attempts. Please wait a minute and try again.');
  if (!response.ok) throw new LoginError(`The server answered ${response.status}. Please try again in a moment.`);
  const answer = await response.json().catch(() => null);
  if (typeof answer?.token !== 'string') throw new LoginError('The server gave an answer that this page does not understand.');
  const scopes = scopesOf(answer.token);
  const person = { ...answer, scopes, facilities: placesOf({ scopes }, 'facility') };
  if (remembered) remember(person);
  return person;
}

/**
 * The scopes that a token gives access to. Only to show a choice before their records have arrived; the server checks
 * the token itself and believes nobody else's reading of it.
 */
function scopesOf(token) {
  try {
    const payload = token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
    const { scopes } = JSON.parse(atob(payload));
    return Array.isArray(scopes) ? scopes : [];
  } catch {
    return [];
  }
}

/** Of a person's scopes those of a kind, by what comes behind it: `placesOf(person, 'school')` of `school:main` is `main`. */
export const placesOf = ({ scopes = [] }, kind) => scopes.filter((scope) => scope.startsWith(`${kind}:`)).map((scope) => scope.slice(kind.length + 1)).filter(Boolean);

/** Opens the person's database of a system on this device; needs no network. */
export function openDatabase(system, person) {
  const { collections, options } = systems[system];
  return open({
    name: system,
    user: person.user,
    url: '/v1/sync',
    auth: { refresh: { url: '/auth/refresh' } },
    device: deviceName(),
    // A role may need some of a system's collections only.
    collections: typeof collections === 'function' ? collections(person) : collections,
    ...options,
  });
}

/** Those of the other systems that this person has on this device, opened one after the other; each is closed by its visitor. */
async function withOthers(system, person, visit) {
  const names = await indexedDB.databases?.().then((all) => all.map(({ name }) => name), () => []) ?? [];
  for (const other of Object.keys(systems)) {
    if (other === system || !names.includes(`landfall:${other}:${person.user}`)) continue;
    await visit(await openDatabase(other, person));
  }
}

/** How many changes of the person have not reached the server, in all systems. */
export async function countUnsent(db, system, person) {
  const countOf = async (database) => (await database.outbox.list()).length;
  let unsent = await countOf(db);
  await withOthers(system, person, async (other) => {
    unsent += await countOf(other);
    await other.close();
  });
  return unsent;
}

/**
 * Signs out on this device, of all systems. `unsynced`: 'keep' leaves unsent work for the next sign-in of the same person,
 * 'wipe' deletes it. The server's part is tried and not waited for: signing out works offline.
 */
export async function logout(db, system, person, unsynced) {
  await withOthers(system, person, (other) => other.logout({ unsynced }));
  await db.logout({ unsynced });
  forget();
  fetch('/auth/logout', { method: 'POST', keepalive: true }).catch(() => {});
}

export function platform() {
  const hinted = navigator.userAgentData?.platform;
  if (hinted) return hinted.toLowerCase();
  const agent = navigator.userAgent;
  if (/android/i.test(agent)) return 'android';
  if (/iphone|ipad|ipod/i.test(agent)) return 'ios';
  return /windows/i.test(agent) ? 'windows' : /mac os/i.test(agent) ? 'macos' : 'linux';
}

function deviceName() {
  const browser = navigator.userAgentData?.brands?.find(({ brand }) => !/not.?a.?brand/i.test(brand))?.brand ?? 'Browser';
  return `${browser} on ${platform()}`;
}
