// How cost grows, as plain SVG: both axes logarithmic, one line for each engine, readable on a light and on a dark page.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { engines as known, figures } from './client/catalog.mjs';

/** What is plotted, by the page's name of the figure. */
const plotted = {
  load_ms: ['performance-load.svg', 'Local writes, until they answer a query'],
  ingest_ms: ['performance-ingest.svg', 'Records from a server, until they answer a query'],
  open_first_get_ms: ['performance-open.svg', 'Opening in a fresh process, to the first get'],
  open_first_query_ms: ['performance-open-query.svg', 'Opening in a fresh process, to the first query'],
  get_cold_ms: ['performance-get.svg', 'A record not read before in this process'],
  query100_cold_clustered_ms: ['performance-query.svg', 'A hundred records not read before, in order'],
  scan_ms: ['performance-scan.svg', 'Filter over all records'],
};

const width = 760;
const height = 420;
const plot = { left: 64, right: 600, top: 44, bottom: 372 };
/** Told apart on white and on black; in the order of the engines, so that one keeps its colour in every plot. */
const colours = ['#d9480f', '#4c6ef5', '#15aabf', '#868e96', '#adb5bd', '#82c91e', '#e64980', '#be4bdb', '#fab005', '#12b886', '#7950f2', '#a0785a', '#228be6', '#fa5252'];

const number = (value) => (value >= 1 ? value.toLocaleString('en') : String(value));
const escaped = (text) => text.replace(/&/g, '&amp;').replace(/</g, '&lt;');

function chart(title, sizes, lines) {
  const values = lines.flatMap(({ points }) => points.map(([, value]) => value));
  const decades = [Math.floor(Math.log10(Math.min(...values))), Math.ceil(Math.log10(Math.max(...values)))];
  if (decades[0] === decades[1]) decades[1] += 1;
  const [first, last] = [Math.log10(Math.min(...sizes)), Math.log10(Math.max(...sizes))];
  const x = (size) => plot.left + ((Math.log10(size) - first) / (last - first)) * (plot.right - plot.left);
  const y = (value) => plot.bottom - ((Math.log10(value) - decades[0]) / (decades[1] - decades[0])) * (plot.bottom - plot.top);
  const at = (position) => position.toFixed(1);
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="${escaped(title)}">`,
    '<style>text{font:12px system-ui,sans-serif;fill:#333}.grid{stroke:#ddd}.title{font-size:15px;font-weight:600}@media(prefers-color-scheme:dark){text{fill:#ccc}.grid{stroke:#444}}</style>',
    `<text class="title" x="${plot.left}" y="24">${escaped(title)} (ms)</text>`,
  ];
  for (let decade = decades[0]; decade <= decades[1]; decade++) {
    const value = Number(`1e${decade}`);
    parts.push(`<line class="grid" x1="${plot.left}" x2="${plot.right}" y1="${at(y(value))}" y2="${at(y(value))}"/>`, `<text x="${plot.left - 8}" y="${at(y(value) + 4)}" text-anchor="end">${number(value)}</text>`);
  }
  for (const size of sizes) parts.push(`<line class="grid" x1="${at(x(size))}" x2="${at(x(size))}" y1="${plot.top}" y2="${plot.bottom}"/>`, `<text x="${at(x(size))}" y="${plot.bottom + 20}" text-anchor="middle">${number(size)} records</text>`);
  // Names at the ends of the lines, pushed apart where they would overlap.
  let free = -Infinity;
  const ends = lines.map((line) => ({ ...line, end: line.points.at(-1) })).sort((a, b) => b.end[1] - a.end[1]);
  for (const { engine, colour, points, end } of ends) {
    const bold = engine === 'landfall';
    parts.push(`<polyline fill="none" stroke="${colour}" stroke-width="${bold ? 3 : 1.5}" points="${points.map(([size, value]) => `${at(x(size))},${at(y(value))}`).join(' ')}"/>`);
    for (const [size, value] of points) parts.push(`<circle cx="${at(x(size))}" cy="${at(y(value))}" r="${bold ? 4 : 2.5}" fill="${colour}"/>`);
    free = Math.max(y(end[1]) + 4, free + 14);
    parts.push(`<text x="${plot.right + 14}" y="${at(free)}"${bold ? ' font-weight="700"' : ''}><tspan fill="${colour}">●</tspan> ${engine} ${number(end[1])}</text>`);
  }
  parts.push('</svg>');
  return `${parts.join('\n')}\n`;
}

/** Writes a file for each plotted figure that has two sizes or more; gives their paths. */
export function writePlots({ workloads }, sizes, directory) {
  const written = [];
  for (const [figure, [file, title]] of Object.entries(plotted)) {
    const valueOf = (engine, size) => workloads[figures[figure].name(size)]?.[engine];
    const engines = [...new Set(sizes.flatMap((size) => Object.keys(workloads[figures[figure].name(size)] ?? {})))];
    const lines = engines.map((engine) => ({ engine, colour: colours[Object.keys(known).indexOf(engine) % colours.length], points: sizes.map((size) => [size, valueOf(engine, size)]).filter(([, value]) => value > 0) }));
    const drawn = lines.filter(({ points }) => points.length >= 2);
    if (drawn.length === 0) continue;
    writeFileSync(join(directory, file), chart(title, sizes, drawn));
    written.push(join(directory, file));
  }
  return written;
}
