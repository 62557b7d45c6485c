// Starts the attendance page: opens the data of whoever is signed in on this device, or asks who it is.

import { h } from './dom.js';
import { homeScreen } from './home.js';
import { installButton, registerWorker } from './install.js';
import { loginScreen } from './parts/login.js';
import { onSessionChangedElsewhere, openDatabase, rememberedUser } from './session.js';

const app = document.getElementById('app');
const install = installButton();
let home = null;
let activate = null;

async function showHome(person, token) {
  const db = await openDatabase(person);
  if (token) await db.token(token);
  // For people who like the console: landfallDemo.db is this page's open database.
  window.landfallDemo = { db };
  home = homeScreen({ db, person, install, onLoggedOut: showLogin });
  app.replaceChildren(home.element);
  home.start();
  showUpdate();
}

function showLogin() {
  home?.stop();
  home = null;
  delete window.landfallDemo;
  const screen = loginScreen({
    onLoggedIn: async (person) => {
      await showHome(person, person.token);
      document.getElementById('main').focus({ preventScroll: true });
    },
  });
  app.replaceChildren(screen);
}

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

function showUpdate() {
  if (!activate) return;
  home?.banners.set('update', { kind: 'info', symbol: 'download', text: 'A new version is ready.', action: { label: 'Reload', testid: 'update-reload', run: activate } });
}

onSessionChangedElsewhere(() => location.reload());
registerWorker({
  onWaiting: (run) => {
    activate = run;
    showUpdate();
  },
});

const person = rememberedUser();
if (person) showHome(person).catch(showFailure);
else showLogin();
