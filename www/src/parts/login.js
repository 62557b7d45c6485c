// The sign-in form, as a screen for a device where nobody is signed in and as a dialog when a session has ended.

import { h, icon, showDialog } from '../dom.js';
import { LoginError, login } from '../session.js';

const demoPassword = 'landfall';
const demoLogins = [
  { user: 'ada', name: 'Ada' },
  { user: 'grace', name: 'Grace' },
  { user: 'linus', name: 'Linus' },
];

/** The whole screen. `onLoggedIn` gets what `POST /auth/login` answered. */
export function loginScreen({ onLoggedIn }) {
  const { form, fill } = loginForm({ onLoggedIn, submitLabel: 'Sign in' });
  return h('main', { id: 'main', class: 'login', tabindex: '-1', testid: 'login-screen' },
    h('div', { class: 'login__brand' },
      h('img', { src: '/favicon.svg', alt: '', width: 80, height: 80 }),
      h('h1', {}, 'Landfall Attendance'),
      h('p', { class: 'soft' }, 'Clock in and out anywhere. What you record without a network arrives when it returns.'),
    ),
    h('div', { class: 'card' }, form),
    h('section', { class: 'form', 'aria-labelledby': 'demo-title' },
      h('p', { id: 'demo-title', class: 'soft' }, 'This is a demo. Pick somebody; the password is ', h('strong', {}, demoPassword), '.'),
      h('div', { class: 'demo-logins' },
        demoLogins.map(({ user, name }) =>
          h('button', { type: 'button', class: 'button', testid: `demo-login-${user}`, onclick: () => fill(user, demoPassword) }, name),
        ),
      ),
    ),
    h('footer', { class: 'foot' }, h('a', { href: '/lab.html' }, 'Lab')),
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
