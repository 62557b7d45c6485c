// Audit and health: how sync has gone, what lost, what was refused, and everything a support person asks for.

import { h } from '../shell/dom.js';
import { barChart } from '../shell/chart.js';
import { exactTime, relative } from '../shell/format.js';
import { entities, fieldName } from './entities.js';

const stepsDrawn = 12;
const percent = (rate) => `${Math.round(100 * rate)} %`;

export function health({ db, onError }) {
  const tiles = h('dl', { class: 'tiles', testid: 'metrics' });
  const charts = h('div', { class: 'charts' });
  const lost = h('ol', { class: 'card rows', testid: 'conflict-history', 'aria-labelledby': 'lost-title' });
  const errors = h('ol', { class: 'card rows', testid: 'error-log', 'aria-labelledby': 'errors-title' });
  const diagnostics = h('landfall-diagnostics');
  const element = h('section', { class: 'column', 'aria-labelledby': 'health-title' },
    h('div', { class: 'section-head section-head--wrap' }, h('h2', { id: 'health-title' }, 'Audit & health'), h('button', { type: 'button', class: 'button', testid: 'health-refresh', onclick: () => refresh() }, 'Refresh')),
    tiles, charts,
    h('h3', { id: 'lost-title' }, 'Conflict history'), lost,
    h('h3', { id: 'errors-title' }, 'Error log'), errors,
    diagnostics);

  async function refresh() {
    try {
      const [metrics, steps, conflicts] = await Promise.all([db.sync.metrics(), db.sync.history({ limit: 200 }), db.conflicts.list()]);
      draw(metrics, steps, conflicts);
      // Takes its picture when it is given a database.
      diagnostics.db = null;
      diagnostics.db = db;
    } catch (error) {
      onError(error);
    }
  }

  function draw(metrics, steps, conflicts) {
    const facts = [
      ['Success rate', percent(metrics.successRate)],
      ['Failure rate', percent(metrics.failureRate)],
      ['Average sync time', `${Math.round(metrics.averageMs)} ms`],
      ['Conflict frequency', percent(metrics.conflictRate)],
      ['Queue length', String(metrics.pending)],
      ['Last success', metrics.lastSuccess === null ? 'never' : relative(metrics.lastSuccess)],
      ['Network', { online: 'Connected', limited: 'Limited', offline: 'Disconnected' }[metrics.connectivity]],
    ];
    tiles.replaceChildren(...facts.map(([name, value]) => h('div', { class: 'tile' }, h('dt', {}, name), h('dd', { testid: `metric-${name.toLowerCase().replaceAll(' ', '-')}` }, value))));
    const recent = steps.slice(0, stepsDrawn).reverse();
    charts.replaceChildren(h('div', { class: 'card chart-card' }, h('h3', {}, 'Time of the last syncs, ms'),
      barChart({ title: 'Time of the last syncs in milliseconds', bars: recent.map(({ step, ms, result }) => ({ label: step === 'push' ? '↑' : '↓', value: Math.round(ms), tone: result === 'done' ? 'primary' : 'bad' })), testid: 'sync-times' })));
    lost.replaceChildren(...rowsOf(conflicts, ({ at, collection, record, local, status }) => [
      `${entities[collection]?.one ?? collection} ${local?.name ?? record}`,
      [exactTime(at), status, ...Object.keys(local ?? {}).map((field) => fieldName(field, collection))],
    ], 'Nobody’s value has lost so far.'));
    errors.replaceChildren(...rowsOf(steps.filter(({ result, rejected }) => result !== 'done' || rejected > 0), ({ at, step, result, code, rejected }) => [
      `${step === 'push' ? 'Sending' : 'Fetching'}: ${result === 'done' ? `${rejected} refused` : result}`,
      [exactTime(at), code],
    ], 'Nothing has gone wrong so far.'));
  }

  return { element, refresh };
}

function rowsOf(list, words, none) {
  if (list.length === 0) return [h('li', { class: 'row' }, h('p', { class: 'soft' }, none))];
  return list.slice(0, 50).map((one) => {
    const [title, facts] = words(one);
    return h('li', { class: 'row' }, h('div', { class: 'row__main' }, h('p', { class: 'row__title' }, title), h('p', { class: 'row__facts' }, facts.filter(Boolean).map((fact) => h('span', {}, fact)))));
  });
}
