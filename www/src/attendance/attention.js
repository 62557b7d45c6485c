// What needs a person: writes that the server refused, and records that somebody else changed first.

import { fieldNames } from './shifts.js';
import { ask, h, icon, reconcile } from '../shell/dom.js';
import { count, exactTime, instant, moment } from '../shell/format.js';
import { editDialog } from './edit-dialog.js';

const shownMost = 20;

/** Refused or given-up writes, each with its reason and a way on. */
export function attentionPanel({ db, getFacilities, onError }) {
  const list = h('div', { class: 'form' });
  const title = h('h2', { id: 'attention-title' });
  const element = h('section', { class: 'card attention', 'aria-labelledby': 'attention-title', testid: 'attention', hidden: true },
    h('div', { class: 'attention__head' }, icon('warning'), title),
    list,
  );
  let entries = [];

  function update(outbox) {
    entries = outbox.filter(({ state }) => state === 'parked' || state === 'failed');
    element.hidden = entries.length === 0;
    title.textContent = entries.length === 1 ? 'Needs attention' : `Needs attention (${entries.length})`;
    reconcile(list, entries.slice(0, shownMost), { key: (entry) => entry.id, signature: (entry) => JSON.stringify([entry, getFacilities()]), render: renderEntry });
  }

  function renderEntry(entry) {
    const errors = errorsOf(entry);
    const editable = entry.op !== 'delete' && entry.collection === 'attendance' && !entry.group;
    return h('article', { class: 'attention__item', testid: 'attention-item', 'data-id': entry.id, 'data-record': entry.record, 'data-code': entry.reason?.code },
      h('h3', {}, titleOf(entry, getFacilities())),
      h('p', { class: 'soft' }, entry.state === 'failed'
        ? `It could not be sent in ${count(entry.attempts, 'attempt')}. It is kept on this device.`
        : 'The server did not take this change. It is kept on this device until you decide.'),
      h('dl', { class: 'reasons' }, errors.map(({ field, message }) =>
        h('div', { class: 'reason' }, h('dt', { testid: 'attention-field' }, fieldNames[field] ?? field ?? 'Reason'), h('dd', { testid: 'attention-reason' }, message)))),
      h('div', { class: 'actions' },
        editable && h('button', { type: 'button', class: 'button button--primary', testid: 'attention-edit', onclick: () => edit(entry) }, 'Edit & retry'),
        (entry.state === 'failed' || !editable) && h('button', { type: 'button', class: 'button', testid: 'attention-retry', onclick: () => attempt(() => db.outbox.retry(entry.id)) }, 'Try again'),
        h('button', { type: 'button', class: 'button button--danger', testid: 'attention-discard', onclick: () => discard(entry) }, 'Discard'),
      ),
    );
  }

  function edit(entry) {
    editDialog({
      title: 'Edit and try again',
      record: wanted(entry),
      facilities: getFacilities(),
      errors: Object.fromEntries(errorsOf(entry).filter(({ field }) => field).map(({ field, message }) => [field, message])),
      saveLabel: 'Save and retry',
      saveUnchanged: true,
      onSave: (changes) => (Object.keys(changes).length === 0 ? db.outbox.retry(entry.id) : db.outbox.edit(entry.id, changes)),
    });
  }

  async function discard(entry) {
    const text = entry.op === 'create'
      ? 'The record was never taken by the server and will be gone from this device. This cannot be undone.'
      : 'Your change will be gone and the record stays as the server has it. This cannot be undone.';
    const choices = [{ label: 'Discard', value: true, kind: 'button--danger', testid: 'discard-confirm' }];
    if (await ask({ title: 'Discard this change?', text, testid: 'discard-dialog', choices })) await attempt(() => db.outbox.discard(entry.id));
  }

  const attempt = (work) => Promise.resolve().then(work).catch(onError);

  /** Opens the refused write of a record, if it has one; so a record is not edited past its own refusal. */
  function editOf(recordId) {
    const entry = entries.find((candidate) => candidate.record === recordId && candidate.op !== 'delete' && !candidate.group);
    if (entry) edit(entry);
    return Boolean(entry);
  }

  return { element, update, editOf };
}

/** Records where another change was first: what was kept, what was not, and the choice to write one's own again. */
export function conflictPanel({ db, user, getFacilities, onError }) {
  const dismissedKey = `landfall-demo:conflicts-seen:${user}`;
  const dismissed = new Set(readList(dismissedKey));
  const list = h('div', { class: 'form' });
  const element = h('section', { class: 'card attention attention--notice', 'aria-labelledby': 'conflicts-title', testid: 'conflicts', hidden: true },
    h('div', { class: 'attention__head' }, icon('people'), h('h2', { id: 'conflicts-title' }, 'Changed by someone else')),
    list,
  );
  let conflicts = [];

  function update(next = conflicts) {
    conflicts = next;
    const shown = conflicts.filter((conflict) => !dismissed.has(nameOf(conflict))).sort((a, b) => b.at - a.at);
    element.hidden = shown.length === 0;
    reconcile(list, shown.slice(0, shownMost), { key: (conflict) => conflict.id, signature: (conflict) => JSON.stringify([conflict, getFacilities()]), render: renderConflict });
  }

  function renderConflict(conflict) {
    const fields = differing(conflict);
    const gone = conflict.server === null;
    return h('article', { class: 'attention__item', testid: 'conflict-item', 'data-id': conflict.id, 'data-record': conflict.record },
      h('p', {}, gone
        ? 'Someone deleted this record first. What you entered was kept here for you to see.'
        : 'Someone changed this record first, so the value on the server was kept. Here are both.'),
      h('p', { class: 'soft' }, exactTime(conflict.at)),
      h('table', { class: 'versus' },
        h('thead', {}, h('tr', {}, ['Field', 'Yours', gone ? 'Server' : 'Kept'].map((name) => h('th', { scope: 'col' }, name)))),
        h('tbody', {}, fields.map((field) => h('tr', {},
          h('th', { scope: 'row' }, fieldNames[field] ?? field),
          h('td', { testid: 'conflict-local' }, shownValue(field, conflict.local?.[field], getFacilities())),
          h('td', { testid: 'conflict-server' }, gone ? 'Deleted' : shownValue(field, conflict.server[field], getFacilities())),
        ))),
      ),
      h('div', { class: 'actions' },
        h('button', { type: 'button', class: 'button button--primary', testid: 'conflict-dismiss', onclick: () => dismiss(conflict) }, gone ? 'OK' : 'Keep theirs'),
        !gone && fields.length > 0 && h('button', { type: 'button', class: 'button', testid: 'conflict-use-mine', onclick: () => takeMine(conflict, fields) }, 'Use mine instead'),
      ),
    );
  }

  function dismiss(seen) {
    dismissed.add(nameOf(seen));
    // Only what the database still lists is worth remembering.
    const listed = new Set(conflicts.map(nameOf));
    localStorage.setItem(dismissedKey, JSON.stringify([...dismissed].filter((name) => listed.has(name))));
    update();
  }

  /** A new write on top of the server's value: seen, decided, and sent like any other. */
  async function takeMine(conflict, fields) {
    try {
      const mine = Object.fromEntries(fields.map((field) => [field, conflict.local[field] ?? null]));
      await db.collection(conflict.collection).update(conflict.record, mine);
      dismiss(conflict);
    } catch (error) {
      onError(error);
    }
  }

  return { element, update };
}

/** Numbers start anew in a new database of the same person; with the time they do not meet. */
const nameOf = ({ id, at }) => `${id}@${at}`;

/** `[{field, message}]` of a refusal, whether the server named fields or only a reason. */
function errorsOf({ reason, state }) {
  const fields = reason?.fields;
  if (Array.isArray(fields) && fields.length > 0) return fields.map((error) => ({ field: error?.field ?? null, message: String(error?.message ?? error) }));
  if (fields && typeof fields === 'object' && Object.keys(fields).length > 0) return Object.entries(fields).map(([field, message]) => ({ field, message: String(message) }));
  return [{ field: null, message: reason?.message || reason?.code || (state === 'failed' ? 'No answer that helps.' : 'No reason was given.') }];
}

/** The record as its author wanted it. */
const wanted = (entry) => ({ ...entry.server, ...entry.base, ...entry.local, ...entry.fields, id: entry.record });

function titleOf(entry, facilities) {
  const record = wanted(entry);
  const at = instant(record.clock_in);
  const what = { create: 'New record', update: 'Change to a record', delete: 'Deleted record' }[entry.op];
  const place = facilities.find(({ code }) => code === record.facility_id)?.name;
  return [what, at !== null && moment(at), place].filter(Boolean).join(' · ');
}

/** The fields that this device sent and the server has otherwise. */
function differing({ local, server }) {
  return Object.keys(local ?? {}).filter((field) => field !== 'id' && JSON.stringify(local[field] ?? null) !== JSON.stringify(server?.[field] ?? null));
}

function shownValue(field, value, facilities) {
  if (value === null || value === undefined || value === '') return '—';
  const at = field === 'clock_in' || field === 'clock_out' || field === 'client_timestamp' ? instant(value) : null;
  if (at !== null) return moment(at);
  if (field === 'facility_id') return facilities.find(({ code }) => code === value)?.name ?? String(value);
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

function readList(key) {
  try {
    const list = JSON.parse(localStorage.getItem(key) ?? '[]');
    return Array.isArray(list) ? list : [];
  } catch {
    return [];
  }
}
