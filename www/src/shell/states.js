// What a record's state means to the person who made it, and the tag that says so in a row.

import { meta } from 'landfall';
import { h, icon } from './dom.js';

const states = {
  synced: { tone: 'ok', symbol: 'check', label: 'Synced' },
  settled: { tone: 'ok', symbol: 'check', label: 'Synced' },
  pending: { tone: 'wait', symbol: 'clock', label: 'Waiting to sync' },
  sending: { tone: 'busy', symbol: 'sync', label: 'Syncing' },
  confirming: { tone: 'busy', symbol: 'sync', label: 'Confirming' },
  rejected: { tone: 'bad', symbol: 'warning', label: 'Needs attention' },
  conflict: { tone: 'bad', symbol: 'people', label: 'Needs attention' },
  failed: { tone: 'bad', symbol: 'warning', label: 'Needs attention' },
};

export const stateName = (record) => meta(record)?.state ?? 'pending';
/** What is on its way when the network goes waits like the rest. */
export const shownState = (record, offline) => (offline && stateName(record) === 'sending' ? 'pending' : stateName(record));
export const stateOf = (state) => states[state] ?? states.pending;

export function stateTag(record, offline, testid = 'record-state') {
  const { tone, symbol, label } = stateOf(shownState(record, offline));
  return h('span', { class: `state state--${tone}`, testid }, icon(symbol), label);
}
