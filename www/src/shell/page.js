// Starts a system's page: opens the data of whoever is signed in on this device, or asks who it is; then keeps what concerns
// every page (notices, the session, storage, a new version) in step with the database.

import 'landfall/elements';
import { ready as networkKnown } from './network.js';
import { bannerStack, mendedBanner, storageBanner } from './banners.js';
import { announce, ask, h, icon } from './dom.js';
import { count } from './format.js';
import { pageHeader } from './header.js';
import { installButton, registerWorker } from './install.js';
import { loginScreen, signInAgain } from './login.js';
import { countUnsent, logout, onSessionChangedElsewhere, openDatabase, rememberedUser } from './session.js';

const app = document.getElementById('app');

/**
 * `view({ db, person, banners, onError, leave })` gives `{ element, start?, stop? }`: the content of the page for a
 * signed-in person. `start` is called once the element is in the document.
 */
export async function startPage(system, view) {
  const install = installButton();
  let current = null;
  let activate = null;

  async function showHome(person, token) {
    const db = await openDatabase(system, person);
    if (token) await db.token(token);
    // For people who like the console: landfallDemo.db is this page's open database.
    window.landfallDemo = { db };
    current = home({ system, db, person, view, install, onLoggedOut: showLogin });
    app.replaceChildren(...current.elements);
    current.start();
    showUpdate();
  }

  function showLogin() {
    current?.stop();
    current = null;
    delete window.landfallDemo;
    const header = pageHeader({ system, install });
    current = { stop: header.stop };
    app.replaceChildren(header.element, loginScreen({
      system,
      onLoggedIn: async (person) => {
        await showHome(person, person.token);
        header.stop();
        document.getElementById('main').focus({ preventScroll: true });
      },
    }));
  }

  function showUpdate() {
    if (!activate) return;
    current?.banners?.set('update', { kind: 'info', symbol: 'download', text: 'A new version is ready.', action: { label: 'Reload', testid: 'update-reload', run: activate } });
  }

  onSessionChangedElsewhere(() => location.reload());
  registerWorker({
    onWaiting: (run) => {
      activate = run;
      showUpdate();
    },
  });
  await networkKnown;
  const person = rememberedUser();
  if (person) await showHome(person).catch(showFailure);
  else showLogin();
}

/** The content for somebody who has no place in this system. One sign-in counts for all of them, so another is one step away. */
export const nowhere = (text, leave) => ({
  element: h('div', { class: 'card empty', testid: 'nowhere' }, icon('people'), h('p', {}, text), h('button', { type: 'button', class: 'button button--primary', testid: 'switch-person', onclick: leave }, 'Sign in as somebody else')),
});

/** The data cannot be opened: says why, and leaves a way to try again. Nothing is deleted. */
function showFailure(error) {
  console.error(error);
  app.replaceChildren(
    h('main', { id: 'main', class: 'login', testid: 'open-failed' },
      h('h1', {}, 'Your records could not be opened'),
      h('p', {}, error.code === 'newer_schema' ? 'They were written by a newer version of this page. Please reload to get it; nothing is lost.' : `This browser says: ${error.message}`),
      h('div', { class: 'actions' }, h('button', { type: 'button', class: 'button button--primary', onclick: () => location.reload() }, 'Try again')),
    ),
  );
}

function home({ system, db, person, view, install, onLoggedOut }) {
  const banners = bannerStack();
  const ends = [];
  const onError = (error) => {
    if (error.code === 'closed') return;
    console.error(error);
    banners.set('error', { kind: 'bad', symbol: 'warning', text: `That did not work: ${error.message}`, onClose: () => {} });
  };
  const header = pageHeader({ system, person, install, onLeave: () => leave().catch(onError) });
  const content = view({ db, person, banners, onError, leave: () => leave().catch(onError) });
  const main = h('main', { id: 'main', tabindex: '-1', testid: 'home' }, content.element);

  function showStatus(status) {
    banners.set('storage', storageBanner(status.storage, () => db.sync.dismissLoss()));
    banners.set('auth', status.auth === 'auth_required' ? authBanner(status) : null);
    banners.set('foreground', status.needsForeground
      ? { kind: 'wait', symbol: 'sync', text: 'Some changes could not be sent in the background. They are sent while this page is open.' }
      : null);
  }

  function authBanner({ pending }) {
    const kept = pending > 0 ? ` ${count(pending, 'change')} on this device ${pending === 1 ? 'waits' : 'wait'} to be sent and nothing is lost.` : ' You can go on working meanwhile.';
    const run = () => signInAgain({ person, pending: db.sync.status.pending, onLoggedIn: ({ token }) => db.token(token) });
    return { kind: 'wait', symbol: 'key', text: `Please sign in again to sync.${kept}`, action: { label: 'Sign in', testid: 'auth-sign-in', run } };
  }

  async function leave() {
    const unsent = await countUnsent(db, system, person);
    const unsentWords = `${count(unsent, 'change')} ${unsent === 1 ? 'was' : 'were'} not sent yet. Kept ones are sent when you sign in here again; nobody else who signs in can see them.`;
    const answer = await ask(
      unsent === 0
        ? { title: 'Log out?', text: 'Your records can be kept on this device for the next time, or removed from it.', testid: 'logout-dialog', choices: [
            { label: 'Log out', value: 'keep', kind: 'button--primary', testid: 'logout-keep' },
            { label: 'Log out and remove my data', value: 'wipe', testid: 'logout-wipe' },
          ] }
        : { title: 'Log out with unsent changes?', text: unsentWords, testid: 'logout-dialog', choices: [
            { label: 'Log out, keep them here', value: 'keep', kind: 'button--primary', testid: 'logout-keep' },
            { label: 'Log out and delete them', value: 'wipe', kind: 'button--danger', testid: 'logout-wipe' },
          ] },
    );
    if (!answer) return;
    await logout(db, system, person, answer);
    onLoggedOut();
  }

  let connectivity = db.sync.status.connectivity;
  function tellConnection(status) {
    if (connectivity === 'offline' && status.connectivity !== 'offline') announce('You are back online.');
    connectivity = status.connectivity;
  }

  function start() {
    ends.push(
      db.sync.on('status', (status) => (showStatus(status), tellConnection(status))),
      db.sync.on('rejected', (entry) => announce(`A change was refused by the server${entry.reason?.message ? `: ${entry.reason.message}` : ''}.`)),
      db.sync.on('conflict', () => announce('Someone else changed one of these records first.')),
      db.sync.on('failed', () => banners.set('failed', { kind: 'bad', symbol: 'warning', text: 'A change could not be sent in many attempts. It is kept on this device; you can try it again by hand.', onClose: () => {} })),
      db.sync.on('storage', (event) => banners.set('mended', mendedBanner(event))),
      db.sync.on('restarted', ({ error, recovered }) => recovered || onError(error)),
      header.stop,
    );
    content.start?.();
    if (content.stop) ends.push(content.stop);
    showStatus(db.sync.status);
  }

  const stop = () => {
    for (const end of ends.splice(0)) end();
  };
  return { elements: [header.element, banners.element, main], banners, start, stop };
}
