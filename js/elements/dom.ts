/** Building what an element shows. Data only ever becomes text nodes and attributes, never markup. */

type Value = string | number | boolean | null | undefined | ((event: Event) => void);
export type Child = Node | string | null | undefined | false;

/** `h('p', { part: 'text', onclick: f }, 'words', child)`: an element; children that are null or false are left out. */
export function h<K extends keyof HTMLElementTagNameMap>(tag: K, props: Readonly<Record<string, Value>> = {}, ...children: readonly (Child | readonly Child[])[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === 'function') element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children.flat().filter((child): child is Node | string => child !== null && child !== undefined && child !== false));
  return element;
}

/** Shapes on a grid of 24, drawn as lines. */
const shapes = {
  cloud: ['M17.5 19a4.5 4.5 0 0 0 .6-8.96A6.5 6.5 0 0 0 5.6 11.2 4 4 0 0 0 6.5 19z', 'm9 14 2.2 2 3.8-4'],
  offline: ['M2 2l20 20', 'M5.8 9.5A4.8 4.8 0 0 0 6.5 19h10', 'M9.5 5.5A6.5 6.5 0 0 1 18 10a4.5 4.5 0 0 1 2.8 7.2'],
  clock: ['M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z', 'M12 7.5V12l3 2'],
  sync: ['M20 11a8 8 0 0 0-14.3-4L4 9', 'M4 4v5h5', 'M4 13a8 8 0 0 0 14.3 4L20 15', 'M20 20v-5h-5'],
  warning: ['M12 4 2.5 20h19z', 'M12 10v4', 'M12 17h.01'],
  people: ['M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z', 'M2.5 20a6.5 6.5 0 0 1 13 0', 'M16 4.3a3.5 3.5 0 0 1 0 6.4', 'M18 14a6.5 6.5 0 0 1 3.5 6'],
  key: ['M8 19a4 4 0 1 0 0-8 4 4 0 0 0 0 8z', 'M11 12l9-9', 'M16 7l3 3'],
} as const;

export type IconName = keyof typeof shapes;
const svgNamespace = 'http://www.w3.org/2000/svg';

export function icon(name: IconName, turning = false): SVGElement {
  const svg = document.createElementNS(svgNamespace, 'svg');
  for (const [key, value] of Object.entries({ viewBox: '0 0 24 24', class: turning ? 'icon turning' : 'icon', 'aria-hidden': 'true', focusable: 'false' })) svg.setAttribute(key, value);
  for (const shape of shapes[name]) {
    const path = document.createElementNS(svgNamespace, 'path');
    path.setAttribute('d', shape);
    svg.append(path);
  }
  return svg;
}

/** Sets text only where it differs: screen readers repeat a live region that is written to. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Makes `parent` hold one child per item, in order. What did not change stays the same element, and so keeps the focus; where
 * the one with the focus goes, the next one gets it: as a whole, so that a key held down presses none of its buttons.
 */
export function reconcile<T>(parent: Element, items: readonly T[], key: (item: T) => string, render: (item: T) => HTMLElement): void {
  const before = [...parent.children];
  const at = before.findIndex((child) => child.contains((parent.getRootNode() as ShadowRoot).activeElement));
  const old = new Map(before.map((child) => [(child as HTMLElement).dataset['key'], child as HTMLElement]));
  const wanted = items.map((item) => {
    const [id, sign] = [key(item), JSON.stringify(item)];
    const same = old.get(id);
    old.delete(id);
    if (same?.dataset['sign'] === sign) return same;
    const element = render(item);
    element.dataset['key'] = id;
    element.dataset['sign'] = sign;
    same?.replaceWith(element);
    return element;
  });
  for (const gone of old.values()) gone.remove();
  wanted.forEach((element, index) => {
    if (parent.children[index] !== element) parent.insertBefore(element, parent.children[index] ?? null);
  });
  if (before[at]?.isConnected === false) wanted[Math.min(at, wanted.length - 1)]?.focus();
}
