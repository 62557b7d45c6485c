// What a store fills in: a submission is stored while it is filled in, and sent the moment it is handed in.

import { announce, h, icon, reconcile, showDialog } from '../shell/dom.js';
import { exactTime, instant } from '../shell/format.js';
import { shownState, stateTag } from '../shell/states.js';

export function checklistPanel({ db, data, store, person, mayFill, onError }) {
  const forms = h('ul', { class: 'cards', testid: 'checklists' });
  const none = h('p', { class: 'card soft', testid: 'checklists-empty' }, 'No forms have arrived yet. Pull to refresh, or wait for the manager.');
  const list = h('ol', { class: 'card rows', testid: 'submissions', 'aria-labelledby': 'submissions-title' });
  const empty = h('div', { class: 'card empty' }, icon('board'), h('p', {}, 'No submissions yet.'));
  const element = h('div', { class: 'column' },
    mayFill && h('section', { class: 'column', 'aria-labelledby': 'fill-title' }, h('div', { class: 'section-head' }, h('h2', { id: 'fill-title' }, 'Fill in')), none, forms),
    h('section', { class: 'column', 'aria-labelledby': 'submissions-title' }, h('div', { class: 'section-head' }, h('h2', { id: 'submissions-title' }, 'Submissions')), empty, list));

  const titleOf = (id) => (data.forms ?? []).find((form) => form.id === id)?.title ?? 'A form';
  const fieldsOf = (id) => (data.fields ?? []).filter((field) => field.form_id === id).sort((a, b) => a.position - b.position);
  const answersOf = (id) => (data.submission_answers ?? []).filter((answer) => answer.submission_id === id);

  function update(offline) {
    none.hidden = data.forms === undefined || data.forms.length > 0;
    reconcile(forms, data.forms ?? [], {
      key: ({ id }) => id,
      signature: (form) => JSON.stringify([form, fieldsOf(form.id).length]),
      render: (form) => h('li', { class: 'card checklist' }, h('h3', {}, form.title), form.description && h('p', { class: 'soft' }, form.description),
        h('button', { type: 'button', class: 'button button--primary', testid: 'fill-in', 'aria-label': `Fill in ${form.title}`, onclick: () => begin(form) }, 'Fill in')),
    });
    const submissions = data.submissions ?? [];
    empty.hidden = data.submissions === undefined || submissions.length > 0;
    list.hidden = submissions.length === 0;
    reconcile(list, submissions.slice(0, 100), {
      key: ({ id }) => id,
      signature: (submission) => JSON.stringify([submission, shownState(submission, offline), titleOf(submission.form_id), answersOf(submission.id).length]),
      render: (submission) => renderSubmission(submission, offline),
    });
  }

  function renderSubmission(submission, offline) {
    const { form_id: form, status, submitted_by: by, started_at: started } = submission;
    const open = status === 'in_progress';
    const at = instant(started);
    return h('li', { class: 'row', testid: 'submission', 'data-status': status },
      h('div', { class: 'row__main' },
        h('p', { class: 'row__title' }, titleOf(form)),
        h('p', { class: 'row__facts' }, h('span', { testid: 'submission-status' }, open ? 'In progress' : 'Completed'), by && h('span', {}, by), at !== null && h('span', {}, exactTime(at)), h('span', {}, `${answersOf(submission.id).length} answers`)),
        stateTag(submission, offline)),
      h('div', { class: 'row__end' }, mayFill && open && h('button', { type: 'button', class: 'button', testid: 'go-on', onclick: () => openForm(submission) }, 'Go on')));
  }

  async function begin(form) {
    try {
      const record = { id: crypto.randomUUID(), store_id: store, form_id: form.id, status: 'in_progress', submitted_by: person.user, started_at: new Date().toISOString() };
      await db.collection('submissions').create(record);
      openForm(record);
    } catch (error) {
      onError(error);
    }
  }

  /** Each answer is stored when it is given; closing the dialog, or the tab, loses none. */
  function openForm(submission) {
    const answers = new Map(answersOf(submission.id).map((answer) => [answer.field_id, answer]));
    const said = h('p', { class: 'soft', role: 'status', testid: 'autosave' }, 'Every answer is saved on this device as you give it.');
    const inputs = fieldsOf(submission.form_id).map((field) => answerOf(field, answers.get(field.id)?.value, (value) => save(field, value)));
    let last = Promise.resolve();
    const dialog = h('dialog', { 'aria-labelledby': 'checklist-title', testid: 'checklist-dialog' },
      h('h2', { id: 'checklist-title' }, titleOf(submission.form_id)),
      h('form', { class: 'form', onsubmit: hand },
        inputs, said,
        h('div', { class: 'actions' },
          h('button', { type: 'submit', class: 'button button--primary', testid: 'hand-in' }, icon('send'), 'Hand in'),
          h('button', { type: 'button', class: 'button button--quiet', testid: 'later', onclick: () => dialog.close() }, 'Go on later'))));
    showDialog(dialog);

    function save(field, value) {
      last = last.then(async () => {
        const id = `${submission.id}.${field.id}`;
        await db.collection('submission_answers').put({ id, store_id: store, submission_id: submission.id, field_id: field.id, value });
        said.textContent = 'Saved on this device.';
      }).catch(onError);
    }

    async function hand(event) {
      event.preventDefault();
      dialog.close();
      try {
        await last;
        await db.collection('submissions').update(submission.id, { status: 'completed', completed_at: new Date().toISOString() });
        announce('Handed in.');
      } catch (error) {
        onError(error);
      }
    }
  }

  return { element, update };
}

function answerOf({ id, label, type }, value, onAnswer) {
  const name = `answer-${id}`;
  if (type === 'check') {
    const input = h('input', { type: 'checkbox', testid: 'answer', onchange: () => onAnswer(input.checked) });
    input.checked = value === true;
    return h('label', { class: 'check' }, input, h('span', {}, label));
  }
  const number = type === 'number';
  const input = h('input', { id: name, class: 'control', type: number ? 'number' : 'text', step: number && 'any', value: value ?? '', testid: 'answer', autocomplete: 'off', onchange: () => onAnswer(number ? (input.value === '' ? null : Number(input.value)) : input.value.trim()) });
  return h('div', { class: 'field' }, h('label', { for: name }, label), input);
}
