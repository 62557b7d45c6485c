// An administrator puts together what is to stand: for each field what the author wanted, or what the server has.

import { h, showDialog } from '../shell/dom.js';
import { fieldNames, shownValue } from './shifts.js';

/** `fields`: those in which both differ, `[{ field, wanted, stands }]`. `onDecide(decision, merged)` may end as it likes. */
export function decisionDialog({ author, fields, onDecide }) {
  const side = (name, value, field, text, checked = false) =>
    h('label', { class: 'decision__side' },
      h('input', { type: 'radio', name: field, value: name, checked, testid: `merge-${field}-${name}` }),
      h('span', {}, h('span', { class: 'soft' }, text), h('strong', {}, shownValue(field, value, []) || '—')));
  const rows = fields.map(({ field, wanted, stands }) =>
    h('fieldset', { class: 'decision' }, h('legend', {}, fieldNames[field] ?? field), side('local', wanted, field, `As ${author} wanted`), side('server', stands, field, 'As it is', true)));

  function submitted(event) {
    event.preventDefault();
    const picks = new FormData(event.currentTarget);
    const chosen = fields.filter(({ field }) => picks.get(field) === 'local');
    dialog.close();
    if (chosen.length === 0) return onDecide('server');
    if (chosen.length === fields.length) return onDecide('local');
    return onDecide('merged', Object.fromEntries(chosen.map(({ field, wanted }) => [field, wanted])));
  }

  const dialog = h('dialog', { 'aria-labelledby': 'decision-title', testid: 'decision-dialog' },
    h('h2', { id: 'decision-title' }, 'Decide field by field'),
    h('form', { class: 'form', onsubmit: submitted },
      rows,
      h('div', { class: 'actions' },
        h('button', { type: 'submit', class: 'button button--primary', testid: 'decision-save' }, 'Let these stand'),
        h('button', { type: 'button', class: 'button', onclick: () => dialog.close() }, 'Cancel'))));
  showDialog(dialog);
}
