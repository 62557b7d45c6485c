// The switch itself: a button that says whether this browser may use the network.

import { announce, h, icon, setText } from './dom.js';
import { onSwitched, setSwitchedOff, switchedOff } from './network.js';

const explanation = 'Takes this whole browser off the network: all its tabs and its background worker share one outbox. For a second device, open a private window.';

export function networkSwitch() {
  const symbol = h('span', { class: 'network__symbol' });
  const label = h('span', { class: 'network__label' });
  const element = h('button', { type: 'button', class: 'network', role: 'switch', 'aria-label': 'Network', title: explanation, testid: 'network-switch', onclick: press }, symbol, label);

  async function press() {
    const off = !switchedOff();
    await setSwitchedOff(off);
    announce(off ? 'The network is switched off for this browser. What you change is saved here.' : 'The network is switched on.');
  }

  function draw() {
    const off = switchedOff();
    element.setAttribute('aria-checked', String(!off));
    setText(label, off ? 'Offline' : 'Online');
    symbol.replaceChildren(icon(off ? 'offline' : 'wifi'));
  }

  const stop = onSwitched(draw);
  draw();
  return { element, stop };
}
