// The attendance page of a signed-in person: keeps what is shown in step with the database.

import { openShift } from './attendance.js';
import { announce, ask, h, icon } from './dom.js';
import { count } from './format.js';
import { attentionPanel, conflictPanel } from './parts/attention.js';
import { bannerStack, mendedBanner, storageBanner } from './parts/banners.js';
import { clockCard } from './parts/clock-card.js';
import { editDialog } from './parts/edit-dialog.js';
import { signInAgain } from './parts/login.js';
import { recordList } from './parts/records.js';
import { syncCard } from './parts/sync-card.js';
import { logout } from './session.js';

const pageSize = 60;
const listsDelayMs = 60;
/** How often the list is drawn anew though nothing changed, so that "Today" turns into "Yesterday". */
const dayCheckMs = 60_000;

export function homeScreen({ db, person, install, onLoggedOut }) {
  const attendance = db.collection('attendance');
  let records = null;
  let facilities = allFacilities([]);
  let limit = pageSize;
  let hasMore = false;
  let status = db.sync.status;
  let listsTimer;
  const ends = [];

  const banners = bannerStack();
  const onError = (error) => {
    console.error(error);
    banners.set('error', { kind: 'bad', symbol: 'warning', text: `That did not work: ${error.message}`, onClose: () => {} });
  };
  const getFacilities = () => facilities;
  const sync = syncCard({ db });
  const clock = clockCard({ db, onError });
  const attention = attentionPanel({ db, getFacilities, onError });
  const conflicts = conflictPanel({ db, user: person.user, getFacilities, onError });
  const list = recordList({ onEdit: edit, onMore: showMore });

  const element = h('div', { testid: 'home' },
    h('header', { class: 'top' },
      h('img', { src: '/favicon.svg', alt: '', width: 36, height: 36 }),
      h('h1', {}, 'Attendance'),
      h('div', { class: 'top__user' },
        h('span', { class: 'avatar', 'aria-hidden': 'true' }, initials(person.name ?? person.user)),
        h('span', { class: 'top__name', testid: 'user-name' }, person.name ?? person.user),
        h('button', { type: 'button', class: 'button button--quiet button--square', 'aria-label': 'Log out', title: 'Log out', testid: 'log-out', onclick: leave }, icon('leave')),
      ),
    ),
    banners.element,
    h('main', { id: 'main', class: 'columns', tabindex: '-1' },
      h('div', { class: 'column column--aside' }, sync.element, clock.element),
      h('div', { class: 'column' }, attention.element, conflicts.element, list.element),
    ),
    h('footer', { class: 'foot' }, h('a', { href: '/lab.html' }, 'Lab'), install.element),
  );

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
    sync.update(status);
    banners.set('storage', storageBanner(status.storage));
    banners.set('auth', status.auth === 'auth_required' ? authBanner() : null);
    banners.set('foreground', status.needsForeground
      ? { kind: 'wait', symbol: 'sync', text: 'Some changes could not be sent in the background. They are sent while this page is open.' }
      : null);
    draw();
    readListsSoon();
  }

  function authBanner() {
    const waiting = status.pending;
    const kept = waiting > 0 ? ` ${count(waiting, 'change')} on this device ${waiting === 1 ? 'waits' : 'wait'} to be sent and nothing is lost.` : ' You can go on working meanwhile.';
    return {
      kind: 'wait',
      symbol: 'key',
      text: `Please sign in again to sync.${kept}`,
      action: {
        label: 'Sign in',
        testid: 'auth-sign-in',
        run: () => signInAgain({ person, pending: status.pending, onLoggedIn: ({ token }) => db.token(token) }),
      },
    };
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
        if (error.code !== 'closed') onError(error);
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

  async function leave() {
    const unsent = await db.outbox.list().then((entries) => entries.length, () => 0);
    const unsentWords = `${count(unsent, 'change')} ${unsent === 1 ? 'was' : 'were'} not sent yet. Kept ones are sent when you sign in here again; nobody else who signs in can see them.`;
    const answer = await ask(
      unsent === 0
        ? { title: 'Log out?', text: 'Your records can be kept on this device for the next time, or removed from it.', testid: 'logout-dialog', choices: [
            { label: 'Log out', value: 'keep', kind: 'button--primary', testid: 'logout-keep' },
            { label: 'Log out and remove my data', value: 'wipe', testid: 'logout-wipe' },
          ] }
        : { title: 'Log out with unsent changes?', text: unsentWords, testid: 'logout-dialog', choices: [
            { label: 'Log out, keep them here', value: 'keep', kind: 'button--primary', testid: 'logout-keep' },
            { label: 'Log out and delete them', value: 'wipe', kind: 'button--danger', testid: 'logout-wipe' },
          ] },
    );
    if (!answer) return;
    try {
      await logout(db, answer);
      onLoggedOut();
    } catch (error) {
      onError(error);
    }
  }

  let endRecords = () => {};
  function start() {
    endRecords = watchRecords();
    clock.updateFacilities(facilities);
    ends.push(
      () => endRecords(),
      db.collection('facilities').query({ orderBy: 'name' }).subscribe((rows) => {
        facilities = allFacilities(rows);
        clock.updateFacilities(facilities);
        draw();
      }, onError),
      db.sync.on('status', showStatus),
      db.sync.on('rejected', (entry) => {
        announce(`A change was refused by the server${entry.reason?.message ? `: ${entry.reason.message}` : ''}. See “Needs attention”.`);
        readListsSoon();
      }),
      db.sync.on('conflict', () => {
        announce('Someone changed one of your records first. See “Changed by someone else”.');
        readListsSoon();
      }),
      db.sync.on('change', readListsSoon),
      db.sync.on('storage', (event) => banners.set('mended', mendedBanner(event))),
      db.sync.on('restarted', ({ error, recovered }) => recovered || onError(error)),
    );
    const dayTimer = setInterval(draw, dayCheckMs);
    ends.push(() => clearInterval(dayTimer), () => clearTimeout(listsTimer), sync.stop, clock.stop);
    showStatus(db.sync.status);
  }

  const stop = () => {
    for (const end of ends.splice(0)) end();
  };

  return { element, start, stop, banners };
}

const initials = (name) => name.split(/\s+/).map((word) => word[0] ?? '').slice(0, 2).join('').toUpperCase();
