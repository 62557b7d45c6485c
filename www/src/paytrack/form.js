// The form of one record. It asks the server first: what the server says is shown in the form, and a refusal is mended in it,
// as the same entry. Without a server the record is stored here and the form says so.

import { announce, h, icon, setText, showDialog } from '../shell/dom.js';
import { entities } from './entities.js';

export function entityForm({ db, collection, record, entry, company, rows, onError }) {
  const { one, fields } = entities[collection];
  const records = db.collection(collection);
  /** The refused entry that this form goes on with. */
  let refused = entry?.id ?? null;
  const inputs = new Map();
  const errors = new Map();
  const said = h('p', { class: 'said said--bad', role: 'alert', testid: 'form-said', hidden: true });
  const save = h('button', { type: 'submit', class: 'button button--primary', testid: 'form-save' }, 'Save');

  const form = h('form', { class: 'form', novalidate: true, testid: 'entity-form', onsubmit: submitted },
    h('div', { class: 'form-grid' }, fields.map(fieldOf)),
    said,
    h('div', { class: 'actions' },
      save,
      h('button', { type: 'button', class: 'button button--quiet', testid: 'form-cancel', onclick: () => dialog.close() }, 'Cancel'),
      record && !entry && h('button', { type: 'button', class: 'button button--danger', testid: 'form-delete', onclick: remove }, 'Delete')),
  );
  const dialog = h('dialog', { 'aria-labelledby': 'form-title', testid: 'entity-dialog' }, h('h2', { id: 'form-title' }, `${record ? 'Edit' : 'New'} ${one}`), form);
  if (entry) showErrors(entry.reason?.fields, entry.reason?.message);
  showDialog(dialog);
  inputs.get(fields[0].name).focus();

  function fieldOf({ name, label, type, of, choices, required, maxlength, min, step, hint, initial }) {
    const id = `field-${name}`;
    const described = `${id}-error${hint ? ` ${id}-hint` : ''}`;
    const props = { id, name, class: 'control', testid: `field-${name}`, required, 'aria-describedby': described };
    const value = record?.[name] ?? (record ? '' : (initial?.() ?? ''));
    const options = choices ?? (of && (rows[of] ?? []).map((row) => [row.id, row.name]));
    const input = options
      ? h('select', props, h('option', { value: '' }, 'Please choose'), options.map(([key, text]) => h('option', { value: key, selected: key === value }, text)))
      : h('input', { ...props, type, maxlength, min, step, value, autocomplete: 'off' });
    const error = h('p', { id: `${id}-error`, class: 'field__error', testid: `error-${name}` });
    inputs.set(name, input);
    errors.set(name, error);
    return h('div', { class: 'field' }, h('label', { for: id }, label), input, error, hint && h('p', { id: `${id}-hint`, class: 'soft' }, hint));
  }

  function values() {
    return Object.fromEntries(fields.map(({ name, type }) => {
      const text = inputs.get(name).value.trim();
      return [name, type === 'number' ? (text === '' ? null : Number(text)) : text];
    }));
  }

  async function submitted(event) {
    event.preventDefault();
    const wanted = values();
    const missing = fields.filter(({ name, required }) => required && (wanted[name] === '' || wanted[name] === null));
    showErrors(Object.fromEntries(missing.map(({ name }) => [name, 'is required'])));
    if (missing.length > 0) return inputs.get(missing[0].name).focus();
    save.disabled = true;
    setText(save, 'Saving…');
    try {
      await write(wanted);
    } catch (error) {
      if (error.code === 'invalid_record') showErrors(error.details?.fields, error.message);
      else (dialog.close(), onError(error));
    } finally {
      save.disabled = false;
      setText(save, 'Save');
    }
  }

  async function write(wanted) {
    if (refused !== null) {
      const before = refused;
      const known = await db.outbox.list();
      const old = known.find(({ id }) => id === before)?.fields ?? {};
      const changes = Object.fromEntries(Object.entries(wanted).filter(([name, value]) => old[name] !== value));
      await (Object.keys(changes).length > 0 ? db.outbox.edit(before, changes) : db.outbox.retry(before));
      return done('Sent again.');
    }
    const changes = record && Object.fromEntries(Object.entries(wanted).filter(([name, value]) => value !== (record[name] ?? '')));
    if (changes && Object.keys(changes).length === 0) return dialog.close();
    const result = await (record ? records.update(record.id, changes) : records.create({ ...wanted, company_id: company() }));
    if (result.status === 'rejected') {
      refused = result.entry;
      return showErrors(result.fields, result.message);
    }
    done({
      applied: 'Saved by the server.',
      merged: 'Saved, and put together with somebody else’s change.',
      superseded: 'Somebody else was first: their value was kept. Yours is under “Changed by someone else”.',
      conflict: 'Somebody else was first. Please decide under “Changed by someone else”.',
      stored: 'Saved on this device. It goes to the server when it can be reached.',
    }[result.status]);
  }

  function done(text) {
    dialog.close();
    announce(text);
    document.dispatchEvent(new CustomEvent('paytrack-said', { detail: text }));
  }

  async function remove() {
    try {
      const { status, message } = await records.delete(record.id);
      if (status === 'rejected') return showErrors({}, message);
      done(status === 'stored' ? 'Deleted on this device; the server is told when it can be reached.' : 'Deleted.');
    } catch (error) {
      dialog.close();
      onError(error);
    }
  }

  function showErrors(found = {}, message = '') {
    for (const [name, input] of inputs) {
      const text = found?.[name];
      setText(errors.get(name), text ? String(text) : '');
      if (text) input.setAttribute('aria-invalid', 'true');
      else input.removeAttribute('aria-invalid');
    }
    const unnamed = Object.keys(found ?? {}).length === 0 ? message : Object.entries(found).filter(([name]) => !inputs.has(name)).map(([name, text]) => `${name} ${text}`).join('; ');
    said.hidden = !unnamed;
    said.replaceChildren(icon('warning'), ` ${unnamed || ''}`);
  }
}
