// Tabs by the pattern of the ARIA guide: arrows move, the page remembers which one was open in its address.

import { h } from './dom.js';

/** `tabs`: `[{ key, label, element, shown? }]`. `shown` is called whenever that tab comes into view. */
export function tabSet(label, tabs) {
  const buttons = new Map();
  const panels = new Map();
  const list = h('div', { class: 'tabs', role: 'tablist', 'aria-label': label, onkeydown: move });
  const element = h('div', { class: 'column' }, list);
  for (const { key, label: text, element: content } of tabs) {
    const button = h('button', { type: 'button', role: 'tab', id: `tab-${key}`, class: 'tab', 'aria-controls': `panel-${key}`, testid: `tab-${key}`, onclick: () => open(key) }, text);
    const panel = h('div', { class: 'column', role: 'tabpanel', id: `panel-${key}`, 'aria-labelledby': `tab-${key}`, hidden: true }, content);
    buttons.set(key, button);
    panels.set(key, panel);
    list.append(button);
    element.append(panel);
  }

  function open(key) {
    for (const [other, button] of buttons) {
      const chosen = other === key;
      button.setAttribute('aria-selected', String(chosen));
      button.tabIndex = chosen ? 0 : -1;
      panels.get(other).hidden = !chosen;
    }
    history.replaceState(null, '', `#${key}`);
    // On a phone the strip of tabs is wider than the page.
    buttons.get(key).scrollIntoView({ block: 'nearest', inline: 'nearest' });
    tabs.find((tab) => tab.key === key).shown?.();
  }

  function move(event) {
    const keys = [...buttons.keys()];
    const at = keys.findIndex((key) => buttons.get(key) === document.activeElement);
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: keys.length - 1 }[event.key];
    if (at < 0 || next === undefined) return;
    event.preventDefault();
    const key = keys[(next + keys.length) % keys.length];
    open(key);
    buttons.get(key).focus();
  }

  const asked = location.hash.slice(1);
  return { element, open, start: () => open(buttons.has(asked) ? asked : tabs[0].key) };
}
