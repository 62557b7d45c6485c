// A sheet: one line for each student, with the number that can be edited and how far it has come.

import { announce, h, setText } from '../shell/dom.js';
import { shownState, stateName, stateTag } from '../shell/states.js';
import { idOf, isChoice, students, tables } from './school.js';

/** `cell()`: the fields that say which column is shown; `limit()`: the most points that are usual. */
export function sheet({ db, table, school, cell, limit, label, onError }) {
  const { collection, value, key } = tables[table];
  const records = db.collection(collection);
  const lines = new Map();
  let byStudent = new Map();
  /** What the server refused in this column, by student: it stays in its cell until it is mended. */
  let refused = new Map();
  /** What waits for a choice, by student: somebody else was first. The cell shows what stands. */
  let asked = new Map();
  /** Numbers on their way into the database, by student: newer than what was read. */
  const saving = new Map();
  /** Numbers that were not stored, and why: they stay in their cells until they are mended. */
  const unsaved = new Map();
  let stop = () => {};

  const list = h('ol', { class: 'card rows sheet', testid: `sheet-${table}`, 'aria-label': label });
  for (const { id, name } of students) {
    const input = h('input', { id: `${table}-${id}`, class: 'control sheet__input', type: 'number', inputmode: 'decimal', step: 'any', autocomplete: 'off', 'aria-describedby': `${table}-${id}-hint`, testid: 'cell', onchange: () => save(id), onblur: draw, onkeydown: (event) => leave(event, id) });
    const hint = h('span', { id: `${table}-${id}-hint`, class: 'sheet__hint', testid: 'cell-hint' });
    const state = h('span', { class: 'sheet__state' });
    lines.set(id, { input, hint, state });
    list.append(h('li', { class: 'sheet__line', testid: 'line', 'data-student': id }, h('label', { class: 'sheet__name', for: `${table}-${id}` }, name), input, state, hint));
  }

  function watch() {
    stop();
    saving.clear();
    unsaved.clear();
    stop = records.query({ where: { school_id: school, ...cell() } }).subscribe((rows) => {
      byStudent = new Map(rows.map((row) => [row.student_id, row]));
      draw();
    }, onError);
  }

  function draw() {
    const offline = db.sync.status.connectivity === 'offline';
    for (const { id } of students) {
      const { input, hint, state } = lines.get(id);
      const record = byStudent.get(id);
      const entry = refused.get(id);
      const number = (entry ? entry.fields[value] : record?.[value]) ?? null;
      // What is being typed, or marked to be typed over, stays as it is whatever arrives.
      const text = number === null ? '' : String(number);
      if (document.activeElement !== input && !saving.has(id) && !unsaved.has(id) && input.value !== text) input.value = text;
      const why = unsaved.get(id) ?? (entry ? `Refused: ${entry.reason?.fields?.[value] ?? entry.reason?.message}` : '');
      if (why) input.setAttribute('aria-invalid', 'true');
      else input.removeAttribute('aria-invalid');
      input.readOnly = asked.has(id);
      setText(hint, why || (asked.has(id) ? choiceOf(asked.get(id)) : number !== null && number > limit() ? `More than ${limit()}` : ''));
      const sign = record ? `${stateName(record)} ${shownState(record, offline)}` : '';
      if (state.dataset.sign !== sign) state.replaceChildren(...(record ? [stateTag(record, offline)] : []));
      state.dataset.sign = sign;
    }
  }

  /** The outbox, read anew: what of it needs this person in this column. */
  function update(outbox) {
    const here = outbox.filter((entry) => entry.collection === collection && entry.state === 'parked');
    const cells = here.map((entry) => [{ ...entry.server, ...entry.base, ...entry.local, ...entry.fields }, entry]);
    const column = cells.filter(([fields]) => key.every((field) => fields[field] === cell()[field])).map(([fields, entry]) => [fields.student_id, entry]);
    const before = asked;
    asked = new Map(column.filter(([, entry]) => isChoice(entry)));
    for (const student of before.keys()) if (!asked.has(student)) unsaved.delete(student);
    refused = new Map(column.filter(([, entry]) => !isChoice(entry) && entry.op !== 'delete' && value in entry.fields && !entry.group));
    draw();
  }

  const choiceOf = ({ op, fields }) => (op === 'delete' ? 'You deleted it: please choose' : `Yours is ${fields[value] ?? 'empty'}: please choose`);
  const chooseFirst = 'Not saved: somebody else was first, please choose';

  async function save(student, text = lines.get(student).input.value.trim()) {
    const number = text === '' ? null : Number(text);
    const record = byStudent.get(student);
    const entry = refused.get(student);
    const before = saving.has(student) ? saving.get(student) : ((entry ? entry.fields[value] : record?.[value]) ?? null);
    unsaved.delete(student);
    if (before === number) return draw();
    if (asked.has(student)) {
      // Typed before the other grade was shown: what stands is overwritten by a choice and by nothing else.
      unsaved.set(student, chooseFirst);
      return draw();
    }
    saving.set(student, number);
    try {
      await store(student, number);
    } catch (error) {
      if (error.code !== 'invalid_record') return onError(error);
      unsaved.set(student, `Not saved: ${error.details?.fields?.[value] ?? error.message}`);
      announce(unsaved.get(student));
    } finally {
      if (saving.get(student) === number) saving.delete(student);
      draw();
    }
  }

  function store(student, number) {
    const change = { [value]: number };
    const [entry, record] = [refused.get(student), byStudent.get(student)];
    if (entry) return db.outbox.edit(entry.id, change);
    return record ? records.update(record.id, change) : records.put(fresh(student, number));
  }

  const fresh = (student, number) => ({ id: idOf(table, student, cell()), school_id: school, student_id: student, ...Object.fromEntries(key.map((field) => [field, cell()[field]])), [value]: number });

  /** Everybody the same number. Each by itself: one that somebody else changed first holds up no other. */
  async function fillAll(number) {
    await Promise.all(students.map(({ id }) => save(id, String(number))));
    if (unsaved.size === 0) announce('Filled in for everybody.');
  }

  /** Enter and the arrows go from student to student, as in a paper gradebook. */
  function leave(event, student) {
    const step = { Enter: 1, ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = students.findIndex(({ id }) => id === student) + step;
    const next = students[at] && lines.get(students[at].id).input;
    // Leaving saves; at the end there is nowhere to go to.
    if (next) next.select();
    else event.target.blur();
    if (next) next.focus();
  }

  return { element: list, watch, draw, update, fillAll, stop: () => stop(), averageOf: () => average([...byStudent.values()].map((row) => row[value]).filter((number) => typeof number === 'number')) };
}

const average = (numbers) => (numbers.length === 0 ? null : numbers.reduce((sum, number) => sum + number, 0) / numbers.length);
