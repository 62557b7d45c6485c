// Changes a record's times, facility and note; only what the person really changed is handed back.

import { h, icon, showDialog } from '../shell/dom.js';
import { fromLocalInput, instant, toLocalInput } from '../shell/format.js';
import { fieldNames, strategies } from './shifts.js';

const futureToleranceMs = 5 * 60_000;

/**
 * `errors`: words by field, shown beside them. `onSave(changes)` and `onDelete()` may throw; the dialog then stays
 * open with the reason. `saveUnchanged`: saving without a change is meant, as with a retry.
 */
export function editDialog({ title, record, facilities, errors = {}, saveLabel = 'Save', saveUnchanged = false, onSave, onDelete }) {
  const fields = {
    clock_in: timeField('Clock in', 'clock_in', record, errors),
    clock_out: timeField('Clock out (empty: still working)', 'clock_out', record, errors),
    facility_id: facilityField(record, facilities, errors),
    note: noteField(record, errors),
    strategy: strategyField(record, errors),
  };
  const failure = h('p', { class: 'error', role: 'alert', testid: 'edit-error', hidden: true });
  const hint = h('p', { class: 'soft', role: 'status', testid: 'edit-hint' });
  const save = h('button', { type: 'submit', class: 'button button--primary', testid: 'edit-save' }, saveLabel);
  const dialog = h('dialog', { 'aria-labelledby': 'edit-title', testid: 'edit-dialog' },
    h('h2', { id: 'edit-title' }, title),
    h('form', { class: 'form', novalidate: true, onsubmit: submitted, oninput: warn },
      fields.clock_in.element,
      fields.clock_out.element,
      fields.facility_id.element,
      fields.note.element,
      fields.strategy.element,
      hint,
      failure,
      h('div', { class: 'actions' },
        save,
        h('button', { type: 'button', class: 'button', testid: 'edit-cancel', onclick: () => dialog.close() }, 'Cancel'),
        onDelete && h('button', { type: 'button', class: 'button button--danger', testid: 'edit-delete', onclick: remove }, 'Delete record'),
      ),
    ),
  );

  async function submitted(event) {
    event.preventDefault();
    const changes = {};
    for (const field of Object.values(fields)) field.read(changes);
    const from = instant('clock_in' in changes ? changes.clock_in : record.clock_in);
    if (from === null) return fail('Please give the time you clocked in.', fields.clock_in.input);
    if (Object.keys(changes).length === 0 && !saveUnchanged) return dialog.close();
    await attempt(() => onSave(changes));
  }

  function remove() {
    return attempt(onDelete);
  }

  async function attempt(work) {
    save.disabled = true;
    try {
      if ((await work()) !== false) dialog.close();
    } catch (error) {
      fail(error.message, save);
    } finally {
      save.disabled = false;
    }
  }

  function fail(message, field) {
    failure.replaceChildren(icon('warning'), h('span', {}, message));
    failure.hidden = false;
    field.focus();
  }

  /** A hint and not a bar: the rules are the server's, and this device's clock may be the wrong one. */
  function warn() {
    const from = fromLocalInput(fields.clock_in.input.value) ?? 0;
    const to = fromLocalInput(fields.clock_out.input.value);
    if (Math.max(from, to ?? 0) > Date.now() + futureToleranceMs) hint.textContent = 'This time is in the future; the server may refuse it.';
    else hint.textContent = to !== null && to < from ? 'Clock out is before clock in; the server will refuse it.' : '';
  }

  warn();
  showDialog(dialog);
  dialog.querySelector('[aria-invalid="true"]')?.focus();
}

function timeField(label, name, record, errors) {
  const stored = instant(record[name]);
  const initial = stored === null ? '' : toLocalInput(stored);
  const input = h('input', { type: 'datetime-local', value: initial, ...control(name, errors) });
  const read = (changes) => {
    if (input.value === initial) return;
    const time = fromLocalInput(input.value);
    changes[name] = time === null ? null : new Date(time).toISOString();
  };
  return { input, read, element: labelled(label, name, input, errors) };
}

function facilityField(record, facilities, errors) {
  const known = facilities.some(({ code }) => code === record.facility_id);
  const options = known ? facilities : [{ code: record.facility_id ?? '', name: record.facility_id || 'None' }, ...facilities];
  const input = h('select', control('facility_id', errors), options.map(({ code, name }) => h('option', { value: code, selected: code === record.facility_id }, name)));
  const read = (changes) => {
    if (input.value !== (record.facility_id ?? '')) changes.facility_id = input.value;
  };
  return { input, read, element: labelled('Facility', 'facility_id', input, errors) };
}

function noteField(record, errors) {
  const input = h('textarea', { rows: 3, maxlength: 500, ...control('note', errors) }, String(record.note ?? ''));
  const read = (changes) => {
    if (input.value.trim() !== (record.note ?? '')) changes.note = input.value.trim();
  };
  return { input, read, element: labelled('Note', 'note', input, errors) };
}

function strategyField(record, errors) {
  const name = 'conflict_resolution_strategy';
  const stored = record[name] ?? 'server_wins';
  const input = h('select', { ...control(name, errors), testid: 'edit-strategy' }, Object.entries(strategies).map(([value, text]) => h('option', { value, selected: value === stored }, text)));
  const read = (changes) => {
    if (input.value !== stored) changes[name] = input.value;
  };
  return { input, read, element: labelled(fieldNames[name], name, input, errors) };
}

const control = (name, errors) => ({
  id: `edit-${name}`,
  class: 'control',
  testid: `edit-${name.replace('_id', '').replace('_', '-')}`,
  'aria-invalid': errors[name] ? 'true' : undefined,
  'aria-describedby': errors[name] ? `edit-${name}-error` : undefined,
});

const labelled = (label, name, input, errors) =>
  h('div', { class: 'field' },
    h('label', { for: `edit-${name}` }, label),
    input,
    errors[name] && h('p', { id: `edit-${name}-error`, class: 'error soft' }, icon('warning'), h('span', {}, errors[name])),
  );
