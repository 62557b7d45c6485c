// The attendance page of a signed-in person: keeps what is shown in step with the database.

import { announce, ask, h } from '../shell/dom.js';
import { tabSet } from '../shell/tabs.js';
import { adminPanel } from './admin.js';
import { attentionPanel } from './attention.js';
import { clockCard } from './clock-card.js';
import { conflictList } from './conflicts.js';
import { editDialog } from './edit-dialog.js';
import { recordList } from './records.js';
import { openShift } from './shifts.js';

const pageSize = 60;
const outboxDelayMs = 60;
/** How often the list is drawn anew though nothing changed, so that "Today" turns into "Yesterday". */
const dayCheckMs = 60_000;

export function homeScreen({ db, person, onError }) {
  const attendance = db.collection('attendance');
  let records = null;
  let facilities = allFacilities([]);
  let limit = pageSize;
  let hasMore = false;
  let status = db.sync.status;
  let outboxTimer;
  const ends = [];

  const getFacilities = () => facilities;
  const indicator = h('landfall-indicator');
  indicator.db = db;
  const clock = clockCard({ db, onError });
  const attention = attentionPanel({ db, getFacilities, onError });
  const conflicts = conflictList({ db, getFacilities });
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
    readOutboxSoon();
  }

  /** The outbox has no live query; every event that may concern it reads it, once per burst. */
  function readOutboxSoon() {
    outboxTimer ??= setTimeout(async () => {
      outboxTimer = undefined;
      try {
        attention.update(await db.outbox.list());
      } catch (error) {
        onError(error);
      }
    }, outboxDelayMs);
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
        conflicts.update();
        draw();
      }, onError),
      db.sync.on('status', showStatus),
      db.sync.on('rejected', readOutboxSoon),
      db.sync.on('change', readOutboxSoon),
      () => clearInterval(dayTimer),
      () => clearTimeout(outboxTimer),
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
