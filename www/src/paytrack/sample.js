// A company to begin with: one press, one transaction.

import { h } from '../shell/dom.js';
import { sample } from './entities.js';

const sayMs = 6000;

/** Also says what became of the last form, where a person looks after it closed. */
export function sampleButton({ db, rows, company, onError }) {
  const said = h('p', { class: 'said', testid: 'said', hidden: true });
  const offer = h('div', { class: 'card empty', testid: 'sample', hidden: true },
    h('p', {}, 'This company has no records yet.'),
    h('button', { type: 'button', class: 'button button--primary', testid: 'sample-fill', onclick: fill }, 'Fill it with an example'));
  let timer;
  document.addEventListener('paytrack-said', ({ detail }) => {
    said.textContent = detail;
    said.classList.toggle('said--wait', detail.includes('device'));
    said.hidden = false;
    clearTimeout(timer);
    timer = setTimeout(() => (said.hidden = true), sayMs);
  });

  async function fill() {
    offer.hidden = true;
    try {
      const records = sample(company());
      await db.transaction(Object.keys(records), (tx) => {
        for (const [collection, list] of Object.entries(records)) for (const record of list) tx.collection(collection).create(record);
      });
    } catch (error) {
      onError(error);
    }
  }

  // While its records have not been downloaded nobody knows that there are none.
  const update = () => (offer.hidden = db.sync.status.cold || !rows.suppliers || rows.suppliers.length > 0 || (rows.products ?? []).length > 0);
  return { element: h('div', { class: 'column' }, said, offer), update };
}
