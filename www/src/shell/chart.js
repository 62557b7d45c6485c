// Small charts as inline SVG, with the numbers in words for whoever does not see them.

const namespace = 'http://www.w3.org/2000/svg';

function svg(tag, attributes, ...children) {
  const element = document.createElementNS(namespace, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** `bars`: `[{ label, value, tone? }]`, drawn from left to right. `text`: how a value reads. */
export function barChart({ title, bars, text = String, most = Math.max(1, ...bars.map(({ value }) => value)), testid }) {
  const [width, height, gap, foot, head] = [320, 150, 8, 22, 18];
  const step = width / Math.max(bars.length, 1);
  const words = bars.map(({ label, value }) => `${label}: ${text(value)}`).join(', ');
  const root = svg('svg', { viewBox: `0 0 ${width} ${height}`, class: 'chart', role: 'img', 'aria-label': `${title}. ${words || 'No values yet.'}`, ...(testid && { 'data-testid': testid }) });
  root.append(svg('line', { x1: 0, x2: width, y1: height - foot, y2: height - foot, class: 'chart__axis' }));
  bars.forEach(({ label, value, tone = 'primary' }, i) => {
    const tall = Math.max(value > 0 ? 2 : 0, (value / most) * (height - foot - head));
    const wide = Math.max(Math.min(step - gap, 56), 2);
    const [x, y] = [i * step + (step - wide) / 2, height - foot - tall];
    root.append(
      svg('rect', { x, y, width: wide, height: tall, rx: 4, class: `chart__bar chart__bar--${tone}` }),
      svg('text', { x: x + wide / 2, y: y - 5, class: 'chart__value' }, text(value)),
      svg('text', { x: x + wide / 2, y: height - 6, class: 'chart__label' }, label),
    );
  });
  return root;
}
