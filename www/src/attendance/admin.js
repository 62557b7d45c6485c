// The administrator's view: who has something waiting, what conflicts there are, what keeps failing, and on which devices.

import { barChart } from '../shell/chart.js';
import { announce, h, setText } from '../shell/dom.js';
import { exactTime, relative } from '../shell/format.js';
import { ask, decide } from './admin-api.js';
import { fieldNames } from './shifts.js';

const shownMost = 50;
const refreshMs = 15_000;
const codes = { validation: 'Not valid', forbidden: 'Not allowed', not_future: 'In the future', duplicate: 'Already there', gone: 'Deleted before', missing_parent: 'Refers to nothing' };

export function adminPanel({ onError }) {
  const tiles = h('dl', { class: 'tiles', testid: 'admin-overview' });
  const pending = listOf('admin-pending', 'Waiting on devices');
  const conflicts = listOf('admin-conflicts', 'Conflicts');
  const failures = listOf('admin-failures', 'What keeps failing');
  const devices = listOf('admin-devices', 'Devices');
  const chart = h('div', { class: 'card chart-card', hidden: true });
  const said = h('p', { class: 'said said--wait', role: 'status', testid: 'admin-said', hidden: true });
  const element = h('section', { class: 'column', 'aria-labelledby': 'admin-title' },
    h('div', { class: 'section-head section-head--wrap' }, h('h2', { id: 'admin-title' }, 'Everybody’s sync'), h('button', { type: 'button', class: 'button', testid: 'admin-refresh', onclick: () => refresh() }, 'Refresh')),
    said, tiles, pending.element, conflicts.element, failures.element, chart, devices.element);
  let timer;

  async function refresh() {
    try {
      const [overview, waiting, lost, failed, known] = await Promise.all(['overview', 'pending', 'conflicts', 'failures', 'devices'].map(ask));
      draw(overview, waiting, lost, failed, known);
      said.hidden = true;
    } catch (error) {
      // Without a connection there is nothing to review; what is shown is as old as it says.
      setText(said, error instanceof TypeError ? 'The server cannot be reached. What is shown here is what it said last.' : error.message);
      said.hidden = false;
      if (!(error instanceof TypeError || error instanceof Error)) onError(error);
    }
  }

  function draw(overview, waiting, { reviews, lost }, failed, known) {
    const facts = [['Devices', overview.devices], ['Active now', overview.active_devices], ['Waiting', overview.pending], ['Failed', overview.failed]];
    tiles.replaceChildren(...facts.map(([name, value]) => h('div', { class: 'tile' }, h('dt', {}, name), h('dd', {}, String(value)))));
    pending.show(waiting.rows, ({ user, device_count: count, pending_count: waits, failed_count: fails, last_sync: last }) => [user, `${waits} waiting, ${fails} failed on ${count} ${count === 1 ? 'device' : 'devices'}, last sync ${last ? relative(last) : 'never'}`], 'Nobody has anything waiting.');
    conflicts.show([...reviews.map(reviewOf), ...lost.rows.map(lostOf)], ({ title, facts: more }) => [title, ...more], 'No conflicts.', actionsOf);
    failures.show(failed.rows, ({ at, collection, code, field, count }) => [`${codes[code] ?? code}${field ? `: ${fieldNames[field] ?? field}` : ''}`, `${count} times in the hour of ${exactTime(at)}`, collection], 'Nothing has failed.');
    const bars = byCode(failed.rows);
    chart.hidden = bars.length === 0;
    chart.replaceChildren(h('h3', {}, 'Refusals by reason'), barChart({ title: 'Refusals by reason', bars }));
    devices.show(known.rows, ({ user, device, is_active: active, last_sync: last, pending_count: waits, failed_count: fails }) => [`${user}: ${device || 'a device'}`, active ? 'active' : 'silent', last ? `synced ${relative(last)}` : 'never synced', `${waits} waiting, ${fails} failed`], 'No devices yet.');
  }

  /** Only what waits for an administrator has something to decide. */
  function actionsOf({ review }) {
    if (!review) return null;
    const button = (decision, text, kind) => h('button', { type: 'button', class: `button ${kind}`, testid: `decide-${decision}`, onclick: () => settle(review, decision) }, text);
    return h('div', { class: 'actions' }, button('server', 'Keep the server’s', 'button--primary'), button('local', 'Take the author’s', ''));
  }

  async function settle(review, decision) {
    try {
      const { status, code } = await decide(review, decision);
      announce(status === 'rejected' ? (code === 'already_decided' ? 'Somebody decided this already.' : `Not decided: ${code}.`) : 'Decided.');
      await refresh();
    } catch (error) {
      setText(said, error instanceof TypeError ? 'The server cannot be reached; nothing was decided.' : error.message);
      said.hidden = false;
    }
  }

  return {
    element,
    refresh,
    start: () => (timer = setInterval(() => document.visibilityState === 'visible' && element.checkVisibility() && refresh(), refreshMs)),
    stop: () => clearInterval(timer),
  };
}

function listOf(name, title) {
  const list = h('ol', { class: 'card rows', testid: name, 'aria-labelledby': `${name}-title` });
  const element = h('section', { class: 'column', 'aria-labelledby': `${name}-title` }, h('h3', { id: `${name}-title` }, title), list);
  const show = (rows, words, none, actions = () => null) => list.replaceChildren(...(rows.length === 0 ? [h('li', { class: 'row' }, h('p', { class: 'soft' }, none))] : rows.slice(0, shownMost).map((row) => {
    const [head, ...facts] = words(row);
    return h('li', { class: 'row' }, h('div', { class: 'row__main' }, h('p', { class: 'row__title' }, head), h('p', { class: 'row__facts' }, facts.filter(Boolean).map((fact) => h('span', {}, fact))), actions(row)));
  })));
  return { element, show };
}

/** A conflict that waits for a reviewer. */
const reviewOf = ({ scope, id, fields }) => ({
  review: fields.status === 'decided' ? null : { scope, id },
  title: `${fields.author ?? 'Somebody'}: ${fields.collection}, ${fields.status === 'decided' ? 'decided' : 'pending review'}`,
  facts: [...values(fields.set, fields.server), fields.at && exactTime(fields.at)],
});

/** A value that lost, as the server kept it. */
const lostOf = ({ at, user, collection, mutation, outcome }) => ({ title: `${user}: ${collection}, ${outcome.status ?? 'lost'}`, facts: [...values(mutation.set, outcome.record), exactTime(at)] });

/** Each side of the fields that were sent. */
const values = (sent, kept) => Object.entries(sent ?? {}).map(([field, value]) => `${fieldNames[field] ?? field}: ${text(value)} ↔ ${text((kept?.fields ?? kept)?.[field])}`);
const text = (value) => (value === null || value === undefined || value === '' ? '—' : typeof value === 'object' ? JSON.stringify(value) : String(value));

function byCode(rows) {
  const sums = new Map();
  for (const { code, count } of rows) sums.set(code, (sums.get(code) ?? 0) + count);
  return [...sums].map(([code, value]) => ({ label: codes[code] ?? code, value, tone: 'bad' })).slice(0, 6);
}
