// Analytics of what is on this device: they need no network, and change the moment something arrives.

import { announce, h } from '../shell/dom.js';
import { barChart } from '../shell/chart.js';
import { stateName } from '../shell/states.js';

const barsMost = 8;
const today = () => new Date().toISOString().slice(0, 10);

export function analyticsPanel({ db, data, store, onError }) {
  const tiles = h('dl', { class: 'tiles', testid: 'analytics-tiles' });
  const charts = h('div', { class: 'charts' });
  const name = h('input', { id: 'kpi-name', class: 'control', maxlength: 200, required: true, value: 'Sales', testid: 'kpi-name' });
  const value = h('input', { id: 'kpi-value', class: 'control', type: 'number', step: 'any', required: true, testid: 'kpi-value' });
  const element = h('section', { class: 'column', 'aria-labelledby': 'analytics-title' },
    h('div', { class: 'section-head' }, h('h2', { id: 'analytics-title' }, 'Analytics')),
    tiles, charts,
    h('form', { class: 'card form', testid: 'kpi-form', onsubmit: save },
      h('h3', {}, 'Today’s number'),
      h('div', { class: 'form-grid' }, h('div', { class: 'field' }, h('label', { for: 'kpi-name' }, 'Which'), name), h('div', { class: 'field' }, h('label', { for: 'kpi-value' }, 'How much'), value)),
      h('div', { class: 'actions' }, h('button', { type: 'submit', class: 'button button--primary', testid: 'kpi-save' }, 'Save'))));

  async function save(event) {
    event.preventDefault();
    const known = (data.kpi_data ?? []).find((kpi) => kpi.name === name.value.trim() && kpi.date === today());
    try {
      const kpis = db.collection('kpi_data');
      await (known ? kpis.update(known.id, { value: Number(value.value) }) : kpis.create({ store_id: store, name: name.value.trim(), value: Number(value.value), date: today() }));
      value.value = '';
      announce('Saved.');
    } catch (error) {
      onError(error);
    }
  }

  function update() {
    const submissions = data.submissions ?? [];
    const completed = submissions.filter(({ status }) => status === 'completed');
    const waiting = submissions.filter((submission) => !['synced', 'settled'].includes(stateName(submission)));
    const facts = [['Forms', (data.forms ?? []).length], ['Completed', completed.length], ['In progress', submissions.length - completed.length], ['Waiting to sync', waiting.length]];
    tiles.replaceChildren(...facts.map(([label, number]) => h('div', { class: 'tile' }, h('dt', {}, label), h('dd', { testid: `stat-${label.toLowerCase().replaceAll(' ', '-')}` }, String(number)))));
    const perForm = (data.forms ?? []).slice(0, barsMost).map((form) => ({ label: short(form.title), value: completed.filter(({ form_id: id }) => id === form.id).length }));
    const kpis = [...(data.kpi_data ?? [])].sort((a, b) => (`${a.date}${a.name}` < `${b.date}${b.name}` ? -1 : 1)).slice(-barsMost).map((kpi) => ({ label: short(kpi.name), value: kpi.value, tone: 'ok' }));
    charts.replaceChildren(
      card('Completed by form', barChart({ title: 'Completed submissions by form', bars: perForm, testid: 'chart-forms' }), perForm.length === 0),
      card('Numbers of the store', barChart({ title: 'Numbers of the store', bars: kpis, testid: 'chart-kpis' }), kpis.length === 0));
  }

  return { element, update };
}

const card = (title, chart, empty) => h('div', { class: 'card chart-card' }, h('h3', {}, title), empty ? h('p', { class: 'soft' }, 'Nothing to show yet.') : chart);
const short = (text) => (text.length > 9 ? `${text.slice(0, 8)}…` : text);
