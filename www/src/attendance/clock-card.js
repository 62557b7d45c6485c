// The one big obvious action: clock in, clock out, and how long the shift has run.

import { addLocation, clockIn, clockOut } from './shifts.js';
import { announce, h, icon, setText } from '../shell/dom.js';
import { clockTime, dayName, exactTime, instant, stopwatch } from '../shell/format.js';

const facilityKey = 'landfall-demo:facility';
const locationKey = 'landfall-demo:location';
const longShiftMs = 16 * 3_600_000;

export function clockCard({ db, onError }) {
  let shift = null;
  let shiftId;
  let facilities = [];
  let working = false;

  const caption = h('p', { class: 'soft', testid: 'shift-since' });
  const elapsed = h('p', { class: 'clock__elapsed', role: 'timer', 'aria-live': 'off', 'aria-label': 'Time in this shift', testid: 'elapsed' }, '0:00:00');
  const place = h('p', { class: 'soft', testid: 'shift-place' });
  const longShift = h('p', { class: 'banner', hidden: true }, icon('warning'), h('span', {}, 'This shift is running for a long time. If you forgot to clock out, do it now and correct the time below.'));
  const facilityField = h('div', { class: 'field' }, h('label', { for: 'facility' }, 'Facility'));
  let facilityInput = null;
  const note = h('textarea', { id: 'note', class: 'control', rows: 2, maxlength: 500, testid: 'note', onchange: saveNote });
  const location = h('input', { type: 'checkbox', testid: 'location', onchange: () => localStorage.setItem(locationKey, location.checked ? 'yes' : 'no') });
  location.checked = localStorage.getItem(locationKey) === 'yes';
  const locationField = h('label', { class: 'check' }, location, h('span', {}, 'Add my location when I clock in'));
  const hint = h('p', { class: 'soft', role: 'status', testid: 'clock-hint' });
  const label = h('span', {});
  const symbol = h('span', { class: 'clock__symbol' });
  const button = h('button', { type: 'button', class: 'button clock__button', testid: 'clock-button', onclick: press }, symbol, label);

  const element = h('section', { class: 'card clock', 'aria-labelledby': 'clock-title', testid: 'clock' },
    h('h2', { id: 'clock-title', class: 'visually-hidden' }, 'Clock'),
    h('div', { class: 'clock__face' }, caption, elapsed, place),
    longShift,
    button,
    h('div', { class: 'clock__fields' },
      facilityField,
      h('div', { class: 'field' }, h('label', { for: 'note' }, 'Note (optional)'), note),
      locationField,
      hint,
    ),
  );

  function update(open) {
    shift = open;
    if (shift?.id !== shiftId) {
      shiftId = shift?.id;
      note.value = shift?.note ?? '';
    } else if (shift && document.activeElement !== note) note.value = shift.note ?? '';
    button.dataset.action = shift ? 'out' : 'in';
    setText(label, shift ? 'Clock out' : 'Clock in');
    symbol.replaceChildren(icon(shift ? 'stop' : 'play'));
    facilityField.hidden = locationField.hidden = Boolean(shift);
    drawFace();
  }

  function drawFace() {
    const from = shift && instant(shift.clock_in);
    const running = shift ? Date.now() - from : 0;
    setText(elapsed, shift ? stopwatch(running) : clockTime(Date.now()));
    elapsed.setAttribute('aria-label', shift ? 'Time in this shift' : 'The time now');
    if (shift) {
      const day = dayName(from);
      setText(caption, `Clocked in ${day === 'Today' ? 'at' : `${day},`} ${clockTime(from)}`);
      caption.title = exactTime(from);
    } else {
      setText(caption, 'You are not clocked in');
      caption.removeAttribute('title');
    }
    setText(place, shift ? facilityName(shift.facility_id) : dayLine());
    longShift.hidden = !(running > longShiftMs);
  }

  /** A choice once facilities have arrived; until then a text field, so that nobody waits for a network to start work. */
  function updateFacilities(next) {
    facilities = next;
    const wantsChoice = facilities.length > 0;
    const chosen = facilityInput?.value || localStorage.getItem(facilityKey) || '';
    if (!facilityInput || (facilityInput.localName === 'select') !== wantsChoice) {
      const props = { id: 'facility', class: 'control', testid: 'facility', onchange: () => localStorage.setItem(facilityKey, facilityInput.value.trim()) };
      const replacement = wantsChoice ? h('select', props) : h('input', { ...props, maxlength: 64, placeholder: 'Code of your facility', autocomplete: 'off' });
      if (facilityInput) facilityInput.replaceWith(replacement);
      else facilityField.append(replacement);
      facilityInput = replacement;
    }
    if (wantsChoice) facilityInput.replaceChildren(...facilities.map(({ code, name }) => h('option', { value: code }, name)));
    facilityInput.value = !wantsChoice || facilities.some(({ code }) => code === chosen) ? chosen : facilities[0].code;
    drawFace();
  }

  const facilityName = (code) => facilities.find((facility) => facility.code === code)?.name ?? code ?? '';

  async function press() {
    if (working) return;
    working = true;
    try {
      await (shift ? stop(shift) : start());
    } catch (error) {
      onError(error);
    } finally {
      working = false;
    }
  }

  async function start() {
    const facilityId = facilityInput.value.trim();
    if (!facilityId) {
      hint.textContent = 'Please say where you are first.';
      facilityInput.focus();
      return;
    }
    hint.textContent = '';
    localStorage.setItem(facilityKey, facilityId);
    const { id } = await clockIn(db, { facilityId, note: note.value.trim() });
    announce(`Clocked in at ${clockTime(Date.now())}.`);
    if (location.checked) locate(id);
  }

  async function stop(record) {
    const written = note.value.trim();
    await clockOut(db, record, { note: written });
    hint.textContent = '';
    announce(`Clocked out at ${clockTime(Date.now())}.`);
  }

  async function locate(id) {
    hint.textContent = 'Looking for your location…';
    const answer = await addLocation(db, id).catch(() => 'unavailable');
    hint.textContent = {
      added: 'Location added.',
      denied: 'No location: this page has no permission for it. Your clock-in is saved without.',
      unavailable: 'No location could be found. Your clock-in is saved without.',
    }[answer];
  }

  async function saveNote() {
    const written = note.value.trim();
    if (!shift || working || written === (shift.note ?? '')) return;
    try {
      await db.collection('attendance').update(shift.id, { note: written });
      announce('Note saved.');
    } catch (error) {
      onError(error);
    }
  }

  const ticker = setInterval(drawFace, 1000);
  update(null);
  updateFacilities([]);
  return { element, update, updateFacilities, stop: () => clearInterval(ticker) };
}

const dayLine = () => new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' }).format();
