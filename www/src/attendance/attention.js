// What needs a person: writes that the server refused, each with its reason and a way on.

import { fieldNames, titleOf, wanted } from './shifts.js';
import { ask, h, icon, reconcile } from '../shell/dom.js';
import { count } from '../shell/format.js';
import { editDialog } from './edit-dialog.js';

const shownMost = 20;

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

/** `[{field, message}]` of a refusal, whether the server named fields or only a reason. */
function errorsOf({ reason, state }) {
  const fields = reason?.fields;
  if (Array.isArray(fields) && fields.length > 0) return fields.map((error) => ({ field: error?.field ?? null, message: String(error?.message ?? error) }));
  if (fields && typeof fields === 'object' && Object.keys(fields).length > 0) return Object.entries(fields).map(([field, message]) => ({ field, message: String(message) }));
  return [{ field: null, message: reason?.message || reason?.code || (state === 'failed' ? 'No answer that helps.' : 'No reason was given.') }];
}
