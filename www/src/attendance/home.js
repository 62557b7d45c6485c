// The attendance page of a signed-in person: keeps what is shown in step with the database.

import { announce, ask, h } from '../shell/dom.js';
import { tabSet } from '../shell/tabs.js';
import { adminPanel } from './admin.js';
import { attentionPanel, conflictPanel } from './attention.js';
import { clockCard } from './clock-card.js';
import { editDialog } from './edit-dialog.js';
import { recordList } from './records.js';
import { openShift } from './shifts.js';

const pageSize = 60;
const listsDelayMs = 60;
/** How often the list is drawn anew though nothing changed, so that "Today" turns into "Yesterday". */
const dayCheckMs = 60_000;

export function homeScreen({ db, person, onError }) {
  const attendance = db.collection('attendance');
  let records = null;
  let facilities = allFacilities([]);
  let limit = pageSize;
  let hasMore = false;
  let status = db.sync.status;
  let listsTimer;
  const ends = [];

  const getFacilities = () => facilities;
  const indicator = h('landfall-indicator');
  indicator.db = db;
  const clock = clockCard({ db, onError });
  const attention = attentionPanel({ db, getFacilities, onError });
  const conflicts = conflictPanel({ db, user: person.user, getFacilities, onError });
  const list = recordList({ onEdit: edit, onMore: showMore });

  const own = h('div', { class: 'columns' },
    h('div', { class: 'column column--aside' }, indicator, clock.element),
    h('div', { class: 'column' }, attention.element, conflicts.element, list.element),
  );
  const admin = (person.roles ?? []).includes('admin') ? adminPanel({ onError }) : null;
  const tabs = admin && tabSet('Attendance', [
    { key: 'own', label: 'My records', element: own },
    { key: 'admin', label: 'Administration', element: admin.element, shown: admin.refresh },
  ]);
  const element = tabs ? tabs.element : own;

  /** Those of the sign-in, called by their code, until their records say what they are called. */
  function allFacilities(rows) {
    const named = rows.map((row) => ({ code: row.facility_id ?? row.id, name: row.name ?? row.facility_id ?? row.id }));
    const missing = (person.facilities ?? []).filter((code) => !named.some((facility) => facility.code === code));
    return [...named, ...missing.map((code) => ({ code, name: code[0].toUpperCase() + code.slice(1) }))];
  }

  function draw() {
    if (!element.isConnected) return;
    clock.update(openShift(records ?? []));
    list.update({ records: records ?? [], facilities, hasMore, offline: status.connectivity === 'offline', loading: records === null || (records.length === 0 && status?.cold && status.connectivity !== 'offline') });
  }

  function showStatus(next) {
    status = next;
    draw();
    readListsSoon();
  }

  /** The outbox and the conflicts have no live query; every event that may concern them reads both, once per burst. */
  function readListsSoon() {
    listsTimer ??= setTimeout(async () => {
      listsTimer = undefined;
      try {
        const [outbox, lost] = await Promise.all([db.outbox.list(), db.conflicts.list()]);
        attention.update(outbox);
        conflicts.update(lost);
      } catch (error) {
        onError(error);
      }
    }, listsDelayMs);
  }

  function watchRecords() {
    return attendance.query({ orderBy: [['clock_in', 'desc']], limit: limit + 1 }).subscribe((rows) => {
      hasMore = rows.length > limit;
      records = rows.slice(0, limit);
      draw();
    }, onError);
  }

  function showMore() {
    limit += pageSize;
    endRecords();
    endRecords = watchRecords();
  }

  function edit(record) {
    if (attention.editOf(record.id)) return;
    editDialog({
      title: 'Edit record',
      record,
      facilities,
      onSave: async (changes) => {
        await attendance.update(record.id, changes);
        announce('Saved.');
      },
      onDelete: async () => {
        const choices = [{ label: 'Delete', value: true, kind: 'button--danger', testid: 'delete-confirm' }];
        if (!(await ask({ title: 'Delete this record?', text: 'It will be deleted for everybody once this is synced.', testid: 'delete-dialog', choices }))) return false;
        await attendance.delete(record.id);
        announce('Deleted.');
        return true;
      },
    });
  }

  let endRecords = () => {};
  function start() {
    tabs?.start();
    admin?.start();
    endRecords = watchRecords();
    clock.updateFacilities(facilities);
    const dayTimer = setInterval(draw, dayCheckMs);
    ends.push(
      () => endRecords(),
      db.collection('facilities').query({ orderBy: 'name' }).subscribe((rows) => {
        facilities = allFacilities(rows);
        clock.updateFacilities(facilities);
        draw();
      }, onError),
      db.sync.on('status', showStatus),
      db.sync.on('rejected', readListsSoon),
      db.sync.on('conflict', readListsSoon),
      db.sync.on('change', readListsSoon),
      () => clearInterval(dayTimer),
      () => clearTimeout(listsTimer),
      clock.stop,
      () => admin?.stop(),
    );
    showStatus(db.sync.status);
  }

  const stop = () => {
    for (const end of ends.splice(0)) end();
  };

  return { element, start, stop };
}
