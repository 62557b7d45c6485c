// What a manager writes: forms with a section and fields, kept as templates if wished.

import { announce, h, icon, reconcile, showDialog } from '../shell/dom.js';
import { shownState, stateTag } from '../shell/states.js';

const types = [['check', 'Done or not'], ['text', 'Words'], ['number', 'A number']];

/** `data`: the rows of every table that this person has, kept up to date by the page. */
export function formsPanel({ db, data, store, onError }) {
  const list = h('ol', { class: 'card rows', testid: 'forms', 'aria-labelledby': 'forms-title' });
  const empty = h('div', { class: 'card empty', testid: 'forms-empty' }, icon('board'), h('p', {}, 'No forms yet. Write the first one.'));
  const element = h('section', { class: 'column', 'aria-labelledby': 'forms-title' },
    h('div', { class: 'section-head section-head--wrap' }, h('h2', { id: 'forms-title' }, 'Forms'),
      h('button', { type: 'button', class: 'button button--primary', testid: 'new-form', onclick: () => open(null) }, icon('plus'), 'New form')),
    empty, list);

  function update(offline) {
    const forms = data.forms ?? [];
    empty.hidden = data.forms === undefined || forms.length > 0;
    list.hidden = forms.length === 0;
    reconcile(list, forms, {
      key: ({ id }) => id,
      signature: (form) => JSON.stringify([form, shownState(form, offline), fieldsOf(form.id).length]),
      render: (form) => h('li', { class: 'row', testid: 'form', 'data-id': form.id },
        h('div', { class: 'row__main' },
          h('p', { class: 'row__title', testid: 'form-title' }, form.title),
          h('p', { class: 'row__facts' }, h('span', {}, `${fieldsOf(form.id).length} questions`), form.description && h('span', {}, form.description)),
          stateTag(form, offline)),
        h('div', { class: 'row__end' }, h('button', { type: 'button', class: 'button button--quiet button--square', 'aria-label': `Edit ${form.title}`, testid: 'form-edit', onclick: () => open(form) }, icon('edit')))),
    });
  }

  const fieldsOf = (form) => (data.fields ?? []).filter(({ form_id: id }) => id === form).sort((a, b) => a.position - b.position);

  function open(form) {
    const title = h('input', { id: 'form-name', class: 'control', required: true, maxlength: 200, value: form?.title ?? '', testid: 'form-name' });
    const description = h('textarea', { id: 'form-description', class: 'control', rows: 2, maxlength: 5000, testid: 'form-description' }, form?.description ?? '');
    const lines = h('ol', { class: 'questions', testid: 'questions' });
    const keep = h('input', { type: 'checkbox', testid: 'keep-template' });
    const templates = data.form_templates ?? [];
    const from = h('select', { id: 'form-template', class: 'control', testid: 'template', onchange: () => useTemplate(from.value) }, h('option', { value: '' }, 'An empty form'), templates.map((template) => h('option', { value: template.id }, template.title)));
    const add = (field) => lines.append(question(field, lines));
    const dialog = h('dialog', { 'aria-labelledby': 'form-dialog-title', testid: 'form-dialog' },
      h('h2', { id: 'form-dialog-title' }, form ? 'Edit form' : 'New form'),
      h('form', { class: 'form', onsubmit: save },
        !form && templates.length > 0 && h('div', { class: 'field' }, h('label', { for: 'form-template' }, 'Start from'), from),
        h('div', { class: 'field' }, h('label', { for: 'form-name' }, 'Title'), title),
        h('div', { class: 'field' }, h('label', { for: 'form-description' }, 'Description'), description),
        h('fieldset', { class: 'plain' }, h('legend', {}, 'Questions'), lines, h('button', { type: 'button', class: 'button', testid: 'add-question', onclick: () => add({}) }, icon('plus'), 'Add a question')),
        !form && h('label', { class: 'check' }, keep, h('span', {}, 'Keep it as a template, too')),
        h('div', { class: 'actions' },
          h('button', { type: 'submit', class: 'button button--primary', testid: 'form-save' }, 'Save'),
          h('button', { type: 'button', class: 'button button--quiet', onclick: () => dialog.close() }, 'Cancel'))));
    for (const field of form ? fieldsOf(form.id) : [{}]) add(field);
    showDialog(dialog);
    title.focus();

    function useTemplate(id) {
      const template = templates.find((one) => one.id === id);
      if (!template) return;
      title.value = template.title;
      lines.replaceChildren();
      for (const field of template.content ?? []) add(field);
    }

    async function save(event) {
      event.preventDefault();
      const wanted = [...lines.children].map(read).filter(({ label }) => label);
      const record = { title: title.value.trim(), description: description.value.trim() };
      dialog.close();
      try {
        await (form ? change(form, record, wanted) : create(record, wanted, keep.checked));
        announce('Form saved.');
      } catch (error) {
        onError(error);
      }
    }
  }

  /** A form, its section and its fields are one: none of them without the others, here and at the server. */
  function create(record, wanted, keep) {
    const [form, section] = [crypto.randomUUID(), crypto.randomUUID()];
    return db.transaction(['forms', 'form_sections', 'fields', 'form_templates'], (tx) => {
      tx.collection('forms').create({ id: form, store_id: store, status: 'active', ...record });
      tx.collection('form_sections').create({ id: section, store_id: store, form_id: form, title: 'Questions', position: 0 });
      wanted.forEach(({ label, type }, position) => tx.collection('fields').create({ store_id: store, form_id: form, section_id: section, label, type, required: false, position }));
      if (keep) tx.collection('form_templates').create({ store_id: store, title: record.title, content: wanted.map(({ label, type }) => ({ label, type })) });
    });
  }

  function change(form, record, wanted) {
    const before = fieldsOf(form.id);
    const section = (data.form_sections ?? []).find(({ form_id: id }) => id === form.id);
    return db.transaction(['forms', 'fields'], (tx) => {
      const changed = Object.fromEntries(Object.entries(record).filter(([name, value]) => value !== (form[name] ?? '')));
      if (Object.keys(changed).length > 0) tx.collection('forms').update(form.id, changed);
      for (const field of before) if (!wanted.some(({ id }) => id === field.id)) tx.collection('fields').delete(field.id);
      wanted.forEach(({ id, label, type }, position) => {
        const old = before.find((field) => field.id === id);
        if (!old) tx.collection('fields').create({ store_id: store, form_id: form.id, ...(section && { section_id: section.id }), label, type, required: false, position });
        else if (old.label !== label || old.type !== type || old.position !== position) tx.collection('fields').update(id, { label, type, position });
      });
    });
  }

  return { element, update };
}

let count = 0;

function question({ id, label = '', type = 'check' }, lines) {
  const n = ++count;
  const item = h('li', { class: 'question', 'data-id': id },
    h('label', { class: 'visually-hidden', for: `question-${n}` }, 'Question'), h('input', { id: `question-${n}`, class: 'control', maxlength: 200, value: label, placeholder: 'Question', testid: 'question-label' }),
    h('label', { class: 'visually-hidden', for: `type-${n}` }, 'Answer'), h('select', { id: `type-${n}`, class: 'control', testid: 'question-type' }, types.map(([value, text]) => h('option', { value, selected: value === type }, text))),
    h('button', { type: 'button', class: 'button button--quiet button--square', 'aria-label': 'Remove this question', onclick: () => (item.remove(), lines.querySelector('input')?.focus()) }, icon('close')));
  return item;
}

const read = (item) => ({ id: item.dataset.id, label: item.querySelector('input').value.trim(), type: item.querySelector('select').value });
