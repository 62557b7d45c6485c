// The sign-in form, as a screen for a device where nobody is signed in and as a dialog when a session has ended.

import { h, icon, showDialog } from './dom.js';
import { LoginError, login } from './session.js';
import { loginsOf, systems } from './systems.js';

const demoPassword = 'landfall';

/** The whole screen of a system. `onLoggedIn` gets what `POST /auth/login` answered. */
export function loginScreen({ system, onLoggedIn }) {
  const { title, claim, symbol } = systems[system];
  const { form, fill } = loginForm({ onLoggedIn, submitLabel: 'Sign in' });
  return h('main', { id: 'main', class: 'login', tabindex: '-1', testid: 'login-screen' },
    h('div', { class: 'login__brand' },
      h('span', { class: 'mark mark--large' }, icon(symbol)),
      h('p', { class: 'login__name' }, title),
      h('p', { class: 'soft' }, claim),
    ),
    h('div', { class: 'login__ways' },
      h('section', { class: 'form', 'aria-labelledby': 'demo-title' },
        h('h2', { id: 'demo-title', class: 'login__title' }, 'Pick somebody'),
        h('div', { class: 'demo-logins' },
          loginsOf(system).map(({ user, name, may }) =>
            h('button', { type: 'button', class: 'demo-login', testid: `demo-login-${user}`, onclick: () => fill(user, demoPassword) },
              h('span', { class: 'avatar', 'aria-hidden': 'true' }, name[0]), h('span', { class: 'demo-login__name' }, name), h('span', { class: 'soft' }, may)),
          ),
        ),
        h('p', { class: 'soft' }, 'One sign-in counts for all five systems. Every password is ', h('strong', {}, demoPassword), '.'),
      ),
      h('details', { class: 'login__form' }, h('summary', { testid: 'login-by-name' }, 'Sign in with a name and password'), h('div', { class: 'card' }, form)),
    ),
    h('footer', { class: 'foot' }, h('a', { href: '/' }, 'All systems'), h('a', { href: '/lab.html' }, 'Lab')),
  );
}

/** Signs the same person in again; nothing that waits to be sent is touched. */
export function signInAgain({ person, pending, onLoggedIn }) {
  const { form } = loginForm({
    user: person.user,
    submitLabel: 'Sign in',
    onLoggedIn: async (answer) => {
      await onLoggedIn(answer);
      dialog.close();
    },
    onCancel: () => dialog.close(),
  });
  const kept = pending > 0 ? `Your ${pending} unsent ${pending === 1 ? 'change stays' : 'changes stay'} on this device and will be sent once you are signed in.` : 'Nothing on this device is lost.';
  const dialog = h('dialog', { 'aria-labelledby': 'again-title', testid: 'sign-in-dialog' },
    h('h2', { id: 'again-title' }, 'Sign in to go on syncing'),
    h('div', { class: 'form' }, h('p', {}, kept), form),
  );
  showDialog(dialog);
}

function loginForm({ user, submitLabel, onLoggedIn, onCancel }) {
  const userInput = h('input', { id: 'login-user', class: 'control', name: 'username', autocomplete: 'username', autocapitalize: 'none', spellcheck: 'false', required: true, value: user, readonly: Boolean(user), testid: 'login-user' });
  const passwordInput = h('input', { id: 'login-password', class: 'control', name: 'password', type: 'password', autocomplete: 'current-password', required: true, testid: 'login-password', autofocus: Boolean(user) });
  const submit = h('button', { type: 'submit', class: 'button button--primary', testid: 'login-submit' }, submitLabel);
  const error = h('p', { id: 'login-error', class: 'error', role: 'alert', testid: 'login-error', hidden: true });

  const form = h('form', { class: 'form', novalidate: true, 'aria-describedby': 'login-error', testid: 'login-form', onsubmit: submitted },
    h('div', { class: 'field' }, h('label', { for: 'login-user' }, 'User name'), userInput),
    h('div', { class: 'field' }, h('label', { for: 'login-password' }, 'Password'), passwordInput),
    error,
    h('div', { class: 'actions' }, submit, onCancel && h('button', { type: 'button', class: 'button button--quiet', testid: 'login-cancel', onclick: onCancel }, 'Not now')),
  );

  async function submitted(event) {
    event.preventDefault();
    const name = userInput.value.trim();
    if (!name || !passwordInput.value) return fail('Please fill in both fields.', name ? passwordInput : userInput);
    submit.disabled = true;
    error.hidden = true;
    try {
      await onLoggedIn(await login(name, passwordInput.value));
    } catch (reason) {
      if (!(reason instanceof LoginError)) console.error(reason);
      fail(reason instanceof LoginError ? reason.message : `Your records could not be opened: ${reason.message}`, passwordInput);
    } finally {
      submit.disabled = false;
    }
  }

  function fail(message, field) {
    error.replaceChildren(icon('warning'), h('span', {}, message));
    error.hidden = false;
    field.focus();
  }

  function fill(name, password) {
    userInput.value = name;
    passwordInput.value = password;
    form.requestSubmit();
  }

  return { form, fill };
}
