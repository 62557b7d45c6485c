// The person's records, grouped by day, each with how far it has come.

import { byDay, worked } from './shifts.js';
import { h, icon, reconcile, setText } from '../shell/dom.js';
import { shownState, stateName, stateTag } from '../shell/states.js';
import { clockTime, dayKey, dayName, duration, exactTime, instant, weekday } from '../shell/format.js';

export function recordList({ onEdit, onMore }) {
  const days = h('div', { class: 'days', testid: 'records' });
  const empty = h('div', { class: 'card empty', testid: 'records-empty', hidden: true }, icon('calendar'), h('p', {}, 'No records yet. Clock in and your first one appears here.'));
  const more = h('button', { type: 'button', class: 'button', testid: 'records-more', hidden: true, onclick: onMore }, 'Show older records');
  const element = h('section', { class: 'column', 'aria-labelledby': 'records-title' },
    h('div', { class: 'section-head' }, h('h2', { id: 'records-title' }, 'Your records')),
    empty,
    days,
    more,
  );

  function update({ records, facilities, hasMore, loading, offline }) {
    const names = new Map(facilities.map(({ code, name }) => [code, name]));
    empty.hidden = records.length > 0 || loading;
    more.hidden = !hasMore;
    reconcile(days, byDay(records), {
      key: (day) => day.day,
      signature: (day) => JSON.stringify([dayName(day.at), day.records.map((record) => signature(record, names, offline))]),
      render: renderDay,
      update: (section, day) => updateDay(section, day, names, offline),
    });
  }

  function updateDay(section, day, names, offline) {
    const [head, list] = section.children;
    setText(head.firstChild, dayName(day.at));
    setText(head.lastChild, day.worked > 0 ? duration(day.worked) : '');
    reconcile(list, day.records, {
      key: (record) => record.id,
      signature: (record) => signature(record, names, offline),
      render: (record) => renderRecord(record, names, offline, onEdit),
    });
  }

  return { element, update };
}

function renderDay({ day }) {
  const id = `day-${day}`;
  return h('section', { class: 'day', testid: 'day', 'data-day': day },
    h('div', { class: 'day__head' }, h('h3', { id }), h('span', { class: 'soft', testid: 'day-total' })),
    h('ol', { class: 'card day__records', 'aria-labelledby': id }),
  );
}

const signature = (record, names, offline) => JSON.stringify([record, stateName(record), shownState(record, offline), names.get(record.facility_id)]);

function renderRecord(record, names, offline, onEdit) {
  const from = instant(record.clock_in);
  const to = instant(record.clock_out);
  const times = timesOf(from, to);
  const facility = names.get(record.facility_id) ?? record.facility_id;
  return h('li', { class: 'record', testid: 'record', 'data-id': record.id, 'data-state': stateName(record) },
    h('div', { class: 'record__main' },
      h('p', { class: 'record__times', testid: 'record-times', title: from === null ? '' : `${exactTime(from)} – ${to === null ? 'now' : exactTime(to)}` },
        h('span', {}, times), to !== null && h('span', { class: 'record__length' }, duration(worked(record)))),
      h('p', { class: 'record__facts' },
        facility && h('span', {}, icon('place'), facility),
        typeof record.latitude === 'number' && typeof record.longitude === 'number' &&
          h('span', { title: `${record.latitude}, ${record.longitude}` }, icon('pin'), 'Location'),
      ),
      record.note && h('p', { class: 'record__note', testid: 'record-note' }, String(record.note)),
      stateTag(record, offline),
    ),
    h('button', { type: 'button', class: 'button button--quiet button--square', testid: 'record-edit', 'aria-label': `Edit ${dayName(from ?? 0)} ${times}`, onclick: () => onEdit(record) }, icon('edit')),
  );
}

/** `08:00 – 16:30`, with the day where the shift ended on another one. */
export function timesOf(from, to) {
  if (from === null) return 'No start time';
  if (to === null) return `${clockTime(from)} – now`;
  return `${clockTime(from)} – ${clockTime(to)}${dayKey(to) === dayKey(from) ? '' : ` (${weekday(to)})`}`;
}
