// The head of every page: where one is, the network switch, and a menu with the way to everything else.

import { h, icon } from './dom.js';
import { networkSwitch } from './network-switch.js';
import { addressOf, systems } from './systems.js';
import { setTheme, theme, themes } from './theme.js';

const initials = (name) => name.replace(/\(.*/, '').trim().split(/\s+/).map((word) => word[0] ?? '').slice(0, 2).join('').toUpperCase();

/** `person`, `onLeave` and `install` may be missing: the start page has nobody signed in. */
export function pageHeader({ system, person, install, onLeave }) {
  const network = networkSwitch();
  const { title, symbol } = system ? systems[system] : { title: 'Landfall', symbol: null };
  const menu = menuOf({ system, person, install, onLeave });
  const element = h('header', { class: 'top' },
    h('a', { class: 'top__brand', href: '/', 'aria-label': 'Landfall, all systems' }, symbol ? h('span', { class: 'mark' }, icon(symbol)) : h('img', { src: '/favicon.svg', alt: '', width: 36, height: 36 })),
    h('h1', { class: 'top__title' }, title),
    h('nav', { class: 'top__nav', 'aria-label': 'Systems' }, links(system)),
    network.element,
    menu.element,
  );
  return { element, stop: () => (network.stop(), menu.stop()) };
}

const links = (current) => Object.entries(systems).map(([key, { title }]) =>
  h('a', { href: addressOf(key), 'aria-current': key === current && 'page' }, title));

function menuOf({ system, person, install, onLeave }) {
  const name = person ? (person.name ?? person.user) : null;
  const choice = h('select', { id: 'theme', class: 'control', testid: 'theme', onchange: () => setTheme(choice.value) },
    themes.map(([value, label]) => h('option', { value, selected: value === theme() }, label)));
  const element = h('details', { class: 'menu', testid: 'menu' },
    h('summary', { class: 'menu__button', 'aria-label': name ? `Menu of ${name}` : 'Menu', testid: 'menu-button' },
      name ? h('span', { class: 'avatar', 'aria-hidden': 'true' }, initials(name)) : icon('menu')),
    h('div', { class: 'menu__sheet card' },
      name && h('p', {}, h('strong', { testid: 'user-name' }, name), h('span', { class: 'soft' }, ` ${(person.roles ?? []).join(', ')}`)),
      h('nav', { class: 'menu__links', 'aria-label': 'Systems in the menu' }, links(system), h('a', { href: '/lab.html' }, 'Lab')),
      h('div', { class: 'field' }, h('label', { for: 'theme' }, 'Colours'), choice),
      install?.element,
      onLeave && h('button', { type: 'button', class: 'button', testid: 'log-out', onclick: () => ((element.open = false), onLeave()) }, icon('leave'), 'Log out'),
    ),
  );
  const over = new AbortController();
  document.addEventListener('click', ({ target }) => element.contains(target) || (element.open = false), { signal: over.signal });
  element.addEventListener('keydown', ({ key }) => {
    if (key !== 'Escape' || !element.open) return;
    element.open = false;
    element.querySelector('summary').focus();
  });
  return { element, stop: () => over.abort() };
}
