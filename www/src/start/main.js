// The start page: what this is, and the way into the five systems.

import { ready as networkKnown } from '../shell/network.js';
import { h, icon } from '../shell/dom.js';
import { pageHeader } from '../shell/header.js';
import { installButton, registerWorker } from '../shell/install.js';
import { onSessionChangedElsewhere, rememberedUser } from '../shell/session.js';
import { addressOf, systems } from '../shell/systems.js';

const install = installButton();

function card([key, { title, claim, shows, symbol }]) {
  return h('li', { class: 'system card', testid: `system-${key}` },
    h('div', { class: 'system__head' }, h('span', { class: 'mark' }, icon(symbol)), h('h2', {}, h('a', { href: addressOf(key), class: 'system__link' }, title))),
    h('p', {}, claim),
    h('ul', { class: 'system__shows' }, shows.map((text) => h('li', {}, icon('check'), text))),
  );
}

const steps = [
  ['Sign in once', 'Open a system and pick somebody. The sign-in counts for all five; each keeps a database of its own on this device.'],
  ['Switch the network off', 'The switch at the top takes this browser offline for real: no request leaves it, neither from the pages nor from the worker.'],
  ['Go on working', 'Everything is stored here first. Close the tab, open it again: it is still there, and the page still opens.'],
  ['Switch it on again', 'What waited is sent once, in order. What the server refuses stays with its reason until you decide.'],
];

function draw() {
  const person = rememberedUser();
  const header = pageHeader({ install });
  document.getElementById('app').replaceChildren(
    header.element,
    h('main', { id: 'main', tabindex: '-1', class: 'start' },
      h('div', { class: 'start__lead' },
        h('p', { class: 'start__claim' }, 'Every offline write makes landfall.'),
        h('p', {}, 'Five systems on one engine. Each stores what you enter in this browser at once, with or without a network, and brings it to the server exactly once, or tells you why not.'),
        person && h('p', { class: 'soft', testid: 'signed-in' }, `Signed in as ${person.name ?? person.user}.`),
      ),
      h('ul', { class: 'systems', 'aria-label': 'Systems' }, Object.entries(systems).map(card)),
      h('section', { class: 'start__try', 'aria-labelledby': 'try-title' },
        h('h2', { id: 'try-title' }, 'Try it'),
        h('ol', { class: 'steps' }, steps.map(([title, text], i) => h('li', {}, h('span', { class: 'steps__number', 'aria-hidden': 'true' }, String(i + 1)), h('div', {}, h('h3', {}, title), h('p', { class: 'soft' }, text))))),
      ),
      h('footer', { class: 'foot' }, h('a', { href: '/lab.html' }, 'Lab: the bare API in the console')),
    ),
  );
}

await networkKnown;
draw();
onSessionChangedElsewhere(draw);
registerWorker({ onWaiting: (activate) => activate() });
