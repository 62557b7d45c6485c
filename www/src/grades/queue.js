// The sync queue as the document lists its columns, and what was synced before.

import { h } from '../shell/dom.js';
import { exactTime } from '../shell/format.js';
import { describe, fieldName, isChoice } from './school.js';

const shownMost = 100;
const statusOf = { pending: 'pending', sending: 'syncing', parked: 'failed', failed: 'failed_permanently' };

export function queueTable() {
  const body = h('tbody');
  // What a person looks for comes first: on a narrow page the rest is scrolled to.
  const columns = ['Record', 'Status', 'Error', 'Operation', 'Retries', 'Created', 'Table'];
  const element = h('section', { class: 'card column', 'aria-labelledby': 'queue-title' },
    h('h2', { id: 'queue-title' }, 'Sync queue'),
    h('p', { class: 'soft' }, 'What is on this device and not at the server. What was synced leaves the queue; the last syncs are listed below.'),
    h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Entries of the queue' },
      h('table', { class: 'versus', testid: 'queue' }, h('thead', {}, h('tr', {}, columns.map((name) => h('th', { scope: 'col' }, name)))), body)));

  function update(entries) {
    const none = h('tr', {}, h('td', { colspan: columns.length }, 'The queue is empty.'));
    body.replaceChildren(...(entries.length === 0 ? [none] : entries.slice(0, shownMost).map(line)));
  }

  return { element, update };
}

const line = (entry) => h('tr', { 'data-status': statusOf[entry.state] },
  h('th', { scope: 'row' }, describe(entry)),
  ...[statusOf[entry.state], reasonOf(entry), entry.op, String(entry.attempts), entry.createdAt ? exactTime(entry.createdAt) : '', entry.collection].map((text) => h('td', {}, text)));

function reasonOf(entry) {
  if (isChoice(entry)) return 'Somebody else was first: please choose';
  const { reason } = entry;
  const fields = Object.entries(reason?.fields ?? {}).map(([field, text]) => `${fieldName(field)} ${text}`);
  return fields.join('; ') || (reason?.message ?? '');
}
