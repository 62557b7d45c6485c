// The PayTrack page: five entities, the server first, and what became of every write.

import { nowhere, startPage } from '../shell/page.js';
import { h } from '../shell/dom.js';
import { placesOf } from '../shell/session.js';
import { tabSet } from '../shell/tabs.js';
import { entities, fieldName, ledger, amountText } from './entities.js';
import { entityForm } from './form.js';
import { health } from './health.js';
import { entityPanel } from './panel.js';
import { sampleButton } from './sample.js';

const companyKey = 'landfall-demo:company';
const shown = ['collections', 'payments', 'suppliers', 'products', 'rates'];
/** More is not looked at on this page. */
const rowsMost = 2000;

startPage('paytrack', ({ db, person, onError, leave }) => {
  const companies = placesOf(person, 'company');
  let company = companies.includes(localStorage.getItem(companyKey)) ? localStorage.getItem(companyKey) : companies[0];
  if (!company) return nowhere(`${person.name} works for no company.`, leave);
  const rows = {};
  let ends = [];

  const indicator = h('landfall-indicator');
  indicator.db = db;
  indicator.texts = { allSynced: 'Connected, all synced', offline: 'Disconnected', waiting: 'Connected, sending' };
  const context = { db, onError, rows, company: () => company, book: () => ledger(rows), status: () => db.sync.status };
  const open = (collection, record, entry) => entityForm({ ...context, collection, record, entry });
  const conflicts = h('landfall-conflicts', { 'hide-empty': true });
  Object.assign(conflicts, { db, describe: titleOf, fieldName, format: shownValue });
  const pending = h('landfall-pending', { 'hide-empty': true, editable: true, 'onlandfall-edit': ({ detail }) => open(detail.collection, { ...detail.server, ...detail.base, ...detail.local, ...detail.fields, id: detail.record }, detail) });
  Object.assign(pending, { db, describe: titleOf, fieldName });

  const totals = h('dl', { class: 'tiles tiles--three', testid: 'totals' });
  const panels = shown.map((collection) => entityPanel({ ...context, collection, onNew: () => open(collection, null), onEdit: (record) => open(collection, record) }));
  const sample = sampleButton(context);
  const report = health(context);
  const tabs = tabSet('PayTrack', [
    ...shown.map((collection, i) => ({ key: collection, label: entities[collection].many, element: panels[i].element })),
    { key: 'health', label: 'Audit & health', element: report.element, shown: report.refresh },
  ]);
  const choice = h('select', { id: 'company', class: 'control', testid: 'company', onchange: () => choose(choice.value) }, companies.map((code) => h('option', { value: code, selected: code === company }, nameOf(code))));

  const element = h('div', { class: 'columns' },
    h('div', { class: 'column column--aside' },
      indicator,
      companies.length > 1 && h('div', { class: 'field' }, h('label', { for: 'company' }, 'Company'), choice),
      totals, conflicts, pending),
    h('div', { class: 'column' }, sample.element, tabs.element),
  );

  function titleOf({ collection, record, server, base, local, fields, op }) {
    const found = rows[collection]?.find(({ id }) => id === record) ?? { ...server, ...base, ...local, ...fields };
    const what = { create: 'New', update: 'Changed', delete: 'Deleted' }[op];
    return `${what} ${entities[collection]?.one ?? collection}: ${entities[collection]?.title(found, ledger(rows)) ?? record}`;
  }

  function shownValue(value, field) {
    if (value === null || value === undefined || value === '') return '';
    if (field === 'supplier_id') return ledger(rows).nameOf('suppliers', value);
    if (field === 'product_id') return ledger(rows).nameOf('products', value);
    return String(value);
  }

  function draw() {
    const book = ledger(rows);
    const offline = db.sync.status.connectivity === 'offline';
    totals.replaceChildren(...[['Collected', book.collected], ['Paid', book.paid], ['Owed', book.collected - book.paid]].map(([name, value]) =>
      h('div', { class: 'tile' }, h('dt', {}, name), h('dd', { testid: `total-${name.toLowerCase()}` }, amountText(value)))));
    panels.forEach((panel, i) => panel.update(rows[shown[i]], book, offline));
    sample.update();
  }

  function watch() {
    ends = shown.map((collection) => db.collection(collection).query({ where: { company_id: company }, orderBy: entities[collection].order, limit: rowsMost }).subscribe((found) => {
      rows[collection] = found;
      draw();
    }, onError));
  }

  function choose(next) {
    company = next;
    localStorage.setItem(companyKey, next);
    stop();
    for (const collection of shown) delete rows[collection];
    watch();
  }

  const stop = () => ends.splice(0).forEach((end) => end());
  let endStatus;
  return {
    element,
    start: () => {
      tabs.start();
      watch();
      endStatus = db.sync.on('status', draw);
      draw();
    },
    stop: () => (stop(), endStatus?.()),
  };
});

const nameOf = (code) => code[0].toUpperCase() + code.slice(1);
