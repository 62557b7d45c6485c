// The list of one entity: each record with its state, newest or first by name.

import { h, icon, reconcile, setText } from '../shell/dom.js';
import { shownState, stateTag } from '../shell/states.js';
import { amountText, entities } from './entities.js';

const shownMost = 100;

export function entityPanel({ collection, onNew, onEdit }) {
  const { one, many, title, facts, end } = entities[collection];
  const list = h('ol', { class: 'card rows', testid: `rows-${collection}`, 'aria-labelledby': `${collection}-title` });
  const empty = h('div', { class: 'card empty', testid: `empty-${collection}` }, icon('coin'), h('p', {}));
  const count = h('span', { class: 'soft' });
  const element = h('section', { class: 'column', 'aria-labelledby': `${collection}-title` },
    h('div', { class: 'section-head section-head--wrap' },
      h('h2', { id: `${collection}-title` }, many), count,
      h('button', { type: 'button', class: 'button button--primary', testid: `new-${collection}`, onclick: onNew }, icon('plus'), `New ${one}`)),
    empty,
    list,
  );

  /** `rows` is undefined until this device has answered. */
  function update(rows, book, offline) {
    empty.hidden = rows === undefined || rows.length > 0;
    list.hidden = !rows || rows.length === 0;
    setText(empty.lastChild, `No ${many.toLowerCase()} yet.`);
    setText(count, rows && rows.length > shownMost ? `${shownMost} of ${rows.length}` : '');
    reconcile(list, (rows ?? []).slice(0, shownMost), {
      key: (record) => record.id,
      signature: (record) => JSON.stringify([record, shownState(record, offline), title(record, book), facts(record, book, record), endOf(record, book)]),
      render: (record) => render(record, book, offline),
    });
  }

  const endOf = (record, book) => (collection === 'suppliers' ? amountText(book.owed(record.id)) : end?.(record, book));

  function render(record, book, offline) {
    const name = title(record, book);
    return h('li', { class: 'row', testid: `row-${collection}`, 'data-id': record.id },
      h('div', { class: 'row__main' },
        h('p', { class: 'row__title', testid: 'row-title' }, name),
        h('p', { class: 'row__facts' }, facts(record, book, record).filter(Boolean).map((fact) => h('span', {}, fact))),
        stateTag(record, offline)),
      h('div', { class: 'row__end' },
        endOf(record, book) !== undefined && h('span', { testid: 'row-amount', title: collection === 'suppliers' ? 'Owed' : undefined }, endOf(record, book)),
        h('button', { type: 'button', class: 'button button--quiet button--square', testid: 'row-edit', 'aria-label': `Edit ${one} ${name}`, onclick: () => onEdit(record) }, icon('edit'))));
  }

  return { element, update };
}
