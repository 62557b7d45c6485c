// Building elements without a framework. Data only ever becomes text nodes and attributes, never markup.

const svgNamespace = 'http://www.w3.org/2000/svg';

/** `h('p', { class: 'soft', testid: 'x', onclick: f }, 'text', child)`: an element; null and false children are left out. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'testid') element.dataset.testid = value;
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Shapes on a grid of 24; drawn as lines. */
const shapes = {
  check: ['M20 6 9 17l-5-5'],
  cloud: ['M17.5 19a4.5 4.5 0 0 0 .6-8.96A6.5 6.5 0 0 0 5.6 11.2 4 4 0 0 0 6.5 19z', 'm9 14 2.2 2 3.8-4'],
  offline: ['M2 2l20 20', 'M5.8 9.5A4.8 4.8 0 0 0 6.5 19h10', 'M9.5 5.5A6.5 6.5 0 0 1 18 10a4.5 4.5 0 0 1 2.8 7.2'],
  clock: ['M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z', 'M12 7.5V12l3 2'],
  sync: ['M20 11a8 8 0 0 0-14.3-4L4 9', 'M4 4v5h5', 'M4 13a8 8 0 0 0 14.3 4L20 15', 'M20 20v-5h-5'],
  warning: ['M12 4 2.5 20h19z', 'M12 10v4', 'M12 17h.01'],
  people: ['M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z', 'M2.5 20a6.5 6.5 0 0 1 13 0', 'M16 4.3a3.5 3.5 0 0 1 0 6.4', 'M18 14a6.5 6.5 0 0 1 3.5 6'],
  pin: ['M12 21s7-6.2 7-11.5a7 7 0 1 0-14 0C5 14.8 12 21 12 21z', 'M12 12a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5z'],
  place: ['M4 21V5l8-2v18', 'M12 9l8 2v10', 'M2 21h20', 'M8 8v.01M8 12v.01M8 16v.01M16 14v.01M16 17v.01'],
  edit: ['M4 20h4L19 9l-4-4L4 16z', 'M13.5 6.5l4 4'],
  key: ['M8 19a4 4 0 1 0 0-8 4 4 0 0 0 0 8z', 'M11 12l9-9', 'M16 7l3 3'],
  disk: ['M4 6c0-1.7 3.6-3 8-3s8 1.3 8 3-3.6 3-8 3-8-1.3-8-3z', 'M4 6v12c0 1.7 3.6 3 8 3s8-1.3 8-3V6', 'M4 12c0 1.7 3.6 3 8 3s8-1.3 8-3'],
  leave: ['M14 4H6v16h8', 'M10 12h11', 'm17 8 4 4-4 4'],
  play: ['M7 4.5v15l12-7.5z'],
  stop: ['M6 6h12v12H6z'],
  calendar: ['M4 6h16v14H4z', 'M4 10h16', 'M8 3v4', 'M16 3v4'],
  wifi: ['M2.5 9.5a14 14 0 0 1 19 0', 'M5.8 13a9 9 0 0 1 12.4 0', 'M9 16.5a4.3 4.3 0 0 1 6 0', 'M12 20h.01'],
  book: ['M5 4h11a3 3 0 0 1 3 3v13H8a3 3 0 0 1-3-3z', 'M5 17a3 3 0 0 1 3-3h11', 'M9 8h6'],
  coin: ['M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z', 'M15 9.2c-.6-.8-1.7-1.2-3-1.2-1.8 0-3 .8-3 2s1.2 1.7 3 2 3 .8 3 2-1.2 2-3 2c-1.3 0-2.4-.4-3-1.2', 'M12 6.5v11'],
  board: ['M4 4h16v16H4z', 'M10 4v16', 'M15 9h2', 'M15 13h2', 'M6 9h1.5', 'M6 13h1.5'],
  chart: ['M4 20V4', 'M4 20h16', 'M8 16v-4', 'M12 16V8', 'M16 16v-6'],
  plus: ['M12 5v14', 'M5 12h14'],
  close: ['M6 6l12 12', 'M18 6 6 18'],
  menu: ['M4 7h16', 'M4 12h16', 'M4 17h16'],
  send: ['M21 3 10.5 13.5', 'M21 3l-6.5 18-4-7.5L3 9.5z'],
  download: ['M12 4v11', 'm7.5 11 4.5 4.5 4.5-4.5', 'M5 20h14'],
};

export function icon(name, className = '') {
  const svg = document.createElementNS(svgNamespace, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('class', `icon ${className}`.trim());
  svg.setAttribute('aria-hidden', 'true');
  svg.setAttribute('focusable', 'false');
  for (const shape of shapes[name]) {
    const path = document.createElementNS(svgNamespace, 'path');
    path.setAttribute('d', shape);
    svg.append(path);
  }
  return svg;
}

/** Sets text only where it differs: screen readers repeat a live region that is written to. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Says something to a screen reader, politely and once. */
export function announce(text) {
  const region = document.getElementById('announcer');
  region.textContent = '';
  requestAnimationFrame(() => {
    region.textContent = text;
  });
}

/**
 * Makes `parent` hold one child per item, in order. An element is kept while `signature(item)` is the same, so focus
 * and reading position survive updates of other items. One that differs is brought up to date by `update(element,
 * item)` where there is such a function, else rendered anew; if it had the focus, its successor gets it.
 */
export function reconcile(parent, items, { key, signature, render, update }) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const wanted = items.map((item) => {
    const id = String(key(item));
    const sign = signature(item);
    const before = old.get(id);
    old.delete(id);
    if (before?.dataset.signature === sign) return before;
    const element = before && update ? before : render(item);
    update?.(element, item);
    element.dataset.key = id;
    element.dataset.signature = sign;
    if (before && before !== element) takeOver(before, element);
    return element;
  });
  for (const gone of old.values()) gone.remove();
  wanted.forEach((element, index) => {
    if (parent.children[index] !== element) parent.insertBefore(element, parent.children[index] ?? null);
  });
}

function takeOver(before, after) {
  const focused = before.contains(document.activeElement) ? document.activeElement.dataset.testid : undefined;
  before.replaceWith(after);
  if (focused) after.querySelector(`[data-testid="${CSS.escape(focused)}"]`)?.focus();
}

/** Shows a `<dialog>` modally; when it closes, the element that had the focus gets it back and the dialog goes. */
export function showDialog(dialog, { fallback = () => document.getElementById('main') } = {}) {
  const opener = document.activeElement;
  const openerName = opener?.dataset?.testid;
  const openerRow = opener?.closest?.('[data-key]')?.dataset.key;
  dialog.addEventListener('close', () => {
    dialog.remove();
    // A list may have been drawn anew meanwhile; the button of the same name in the same row stands in.
    const row = openerRow && document.querySelector(`[data-key="${CSS.escape(openerRow)}"]`);
    const again = openerName && (row || document).querySelector(`[data-testid="${CSS.escape(openerName)}"]`);
    (opener?.isConnected ? opener : again || fallback())?.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Asks before something that cannot be taken back; resolves with the chosen value, or null. */
export function ask({ title, text, testid, choices }) {
  return new Promise((resolve) => {
    let answer = null;
    const buttons = choices.map(({ label, value, kind = '', testid: name }) =>
      h('button', { type: 'button', class: `button ${kind}`, testid: name, onclick: () => ((answer = value), dialog.close()) }, label),
    );
    const dialog = h('dialog', { 'aria-labelledby': 'ask-title', 'aria-describedby': 'ask-text', testid },
      h('h2', { id: 'ask-title' }, title),
      h('div', { class: 'form' },
        h('p', { id: 'ask-text' }, text),
        h('div', { class: 'actions' }, buttons, h('button', { type: 'button', class: 'button button--quiet', testid: `${testid}-cancel`, onclick: () => dialog.close() }, 'Cancel')),
      ),
    );
    dialog.addEventListener('close', () => resolve(answer));
    showDialog(dialog);
  });
}
