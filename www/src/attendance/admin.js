// The administrator's view: who has something waiting, what conflicts there are, what keeps failing, and on which devices.

import { barChart } from '../shell/chart.js';
import { announce, h, reconcile, setText } from '../shell/dom.js';
import { exactTime, relative } from '../shell/format.js';
import { ask, decide } from './admin-api.js';
import { decisionDialog } from './decision-dialog.js';
import { fieldNames, shownValue } from './shifts.js';

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
  /** What is said is that nothing could be read; what was said of a decision stays until the next one. */
  let unread = false;

  async function refresh() {
    try {
      const [overview, waiting, lost, failed, known] = await Promise.all(['overview', 'pending', 'conflicts', 'failures', 'devices'].map(ask));
      draw(overview, waiting, lost, failed, known);
      if (unread) said.hidden = true;
      unread = false;
    } catch (error) {
      // Without a connection there is nothing to review; what is shown is as old as it says.
      unread = true;
      say(error instanceof TypeError ? 'The server cannot be reached. What is shown here is what it said last.' : error.message);
      if (!(error instanceof TypeError || error instanceof Error)) onError(error);
    }
  }

  function draw(overview, waiting, { reviews, lost }, failed, known) {
    const facts = [['Devices', overview.devices], ['Active now', overview.active_devices], ['Waiting', overview.pending], ['Failed', overview.failed]];
    tiles.replaceChildren(...facts.map(([name, value]) => h('div', { class: 'tile' }, h('dt', {}, name), h('dd', {}, String(value)))));
    pending.show(waiting.rows, ({ user, device_count: count, pending_count: waits, failed_count: fails, last_sync: last }) => [user, `${waits} waiting, ${fails} failed on ${count} ${count === 1 ? 'device' : 'devices'}, last sync ${last ? relative(last) : 'never'}`], 'Nobody has anything waiting.');
    conflicts.show([...reviews.map(reviewOf), ...lost.rows.filter((row) => !isReview(row)).map(lostOf)], ({ title, facts: more }) => [title, ...more], 'No conflicts.', actionsOf);
    failures.show(failed.rows, ({ at, collection, code, field, count }) => [`${codes[code] ?? code}${field ? `: ${fieldNames[field] ?? field}` : ''}`, `${count} times in the hour of ${exactTime(at)}`, collection], 'Nothing has failed.');
    const bars = byCode(failed.rows);
    chart.hidden = bars.length === 0;
    chart.replaceChildren(h('h3', {}, 'Refusals by reason'), barChart({ title: 'Refusals by reason', bars }));
    devices.show(known.rows, ({ user, device, is_active: active, last_sync: last, pending_count: waits, failed_count: fails }) => [`${user}: ${device || 'a device'}`, active ? 'active' : 'silent', last ? `synced ${relative(last)}` : 'never synced', `${waits} waiting, ${fails} failed`], 'No devices yet.');
  }

  /** Only what waits for an administrator has something to decide. */
  function actionsOf({ review, author, clashes }) {
    if (!review) return null;
    const button = (name, text, onclick, kind = '') => h('button', { type: 'button', class: `button ${kind}`, testid: `decide-${name}`, onclick }, text);
    const fieldByField = () => decisionDialog({ author, fields: clashes, onDecide: (decision, merged) => settle(review, decision, merged) });
    return h('div', { class: 'actions' },
      button('server', 'Keep the server’s', () => settle(review, 'server'), 'button--primary'),
      button('local', 'Take the author’s', () => settle(review, 'local')),
      // Of one field, both have been offered.
      clashes.length > 1 && button('merged', 'Field by field…', fieldByField));
  }

  async function settle(review, decision, merged) {
    said.hidden = true;
    try {
      const { status, code, message } = await decide(review, decision, merged);
      const text = status === 'rejected' ? (code === 'already_decided' ? 'Somebody else has decided this already. What they decided stands.' : `Not decided: ${message || code}`) : 'Decided.';
      await refresh();
      announce(text);
      if (document.activeElement === document.body) conflicts.focus();
      if (status === 'rejected') say(text);
    } catch (error) {
      say(error instanceof TypeError ? 'The server cannot be reached; nothing was decided.' : error.message);
    }
  }

  function say(text) {
    setText(said, text);
    said.hidden = false;
  }

  return {
    element,
    refresh,
    start: () => (timer = setInterval(() => document.visibilityState === 'visible' && element.checkVisibility() && refresh(), refreshMs)),
    stop: () => clearInterval(timer),
  };
}

function listOf(name, title) {
  const list = h('ol', { class: 'card rows', tabindex: '-1', testid: name, 'aria-labelledby': `${name}-title` });
  const element = h('section', { class: 'column', 'aria-labelledby': `${name}-title` }, h('h3', { id: `${name}-title` }, title), list);
  const line = (...content) => h('li', { class: 'row' }, content);
  function show(rows, words, none, actions = () => null) {
    const lines = rows.slice(0, shownMost).map((row, at) => ({ row, said: words(row), key: row.review ? `review ${row.review.id}` : `row ${at}` }));
    // A button that has the focus keeps it over a refresh, and is never another row's.
    reconcile(list, lines.length === 0 ? [{ key: 'none', said: [none] }] : lines, {
      key: ({ key }) => key,
      signature: (item) => JSON.stringify(item),
      render: ({ row, said: [head, ...facts] }) => (row
        ? line(h('div', { class: 'row__main' }, h('p', { class: 'row__title' }, head), h('p', { class: 'row__facts' }, facts.filter(Boolean).map((fact) => h('span', {}, fact))), actions(row)))
        : line(h('p', { class: 'soft' }, head))),
    });
  }
  return { element, show, focus: () => list.focus() };
}

/** A conflict that waits for a reviewer, or what one said of it. */
function reviewOf({ scope, id, fields }) {
  const { author = 'Somebody', collection, status, op, set, unset, server, at, decision, decided_by: by } = fields;
  const isDecided = status === 'decided';
  const clashes = Object.keys(set ?? {}).filter((field) => words(field, set[field]) !== words(field, server?.[field])).map((field) => ({ field, wanted: set[field], stands: server?.[field] }));
  return {
    review: isDecided ? null : { scope, id },
    author,
    // Where one side deleted, or took a field away, it is one or the other.
    clashes: op === 'update' && server && !unset?.length ? clashes : [],
    title: `${author}: ${collection}, ${isDecided ? 'decided' : 'pending review'}`,
    facts: [...values(set, server), isDecided && `${decisions[decision] ?? decision}, by ${by}`, at && exactTime(at)],
  };
}

const decisions = { local: 'the author’s', server: 'the server’s', merged: 'field by field' };

const outcomes = { superseded: 'lost to another change', merged: 'merged', applied: 'wrote over another change', recreated: 'brought a deleted record back', rejected: 'refused for another change', conflict: 'left to its author' };

/** A value that lost or won unseen, as the server kept it. */
const lostOf = ({ at, user, collection, mutation, outcome, overwritten }) => ({ title: `${user}: ${collection}, ${outcomes[outcome.status] ?? outcome.status}`, facts: [...values(mutation.set, { ...(outcome.record?.fields ?? outcome.record), ...overwritten }), exactTime(at)] });

/** What waits for a reviewer is among the reviews. */
const isReview = ({ outcome }) => outcome.to === 'review';

/** Each side of the fields that were sent; one where both say the same. */
const values = (sent, kept) => Object.entries(sent ?? {}).map(([field, value]) => {
  const [mine, theirs] = [words(field, value), words(field, (kept?.fields ?? kept)?.[field])];
  return `${fieldNames[field] ?? field}: ${mine === theirs ? mine : `${mine} ↔ ${theirs}`}`;
});
const words = (field, value) => shownValue(field, value, []) || '—';

function byCode(rows) {
  const sums = new Map();
  for (const { code, count } of rows) sums.set(code, (sums.get(code) ?? 0) + count);
  return [...sums].map(([code, value]) => ({ label: codes[code] ?? code, value, tone: 'bad' })).slice(0, 6);
}
