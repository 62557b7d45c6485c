// The grades page: scores and running grades of a class, each with its state, and everything that sync asks of a teacher.

import { h, icon, setText } from '../shell/dom.js';
import { nowhere, startPage } from '../shell/page.js';
import { placesOf } from '../shell/session.js';
import { tabSet } from '../shell/tabs.js';
import { queueTable } from './queue.js';
import { describe, fieldName, items, quarters, subjects } from './school.js';
import { sheet } from './sheet.js';

startPage('grades', ({ db, person, onError, leave }) => {
  const [school] = placesOf(person, 'school');
  if (!school) return nowhere(`${person.name} teaches no class.`, leave);
  let item = items[0];
  let [subject] = subjects;
  let [quarter] = quarters;

  const indicator = h('landfall-indicator');
  indicator.db = db;
  const conflicts = h('landfall-conflicts', { 'hide-empty': true });
  Object.assign(conflicts, { db, describe, fieldName, texts: { title: 'Conflicts', waiting: 'Somebody else entered this first. Nothing is overwritten until you choose.', lost: 'Somebody else entered this later, so their number stands.', keepLocal: 'Keep local', keepServer: 'Keep server', allLocal: 'Keep local for all', allServer: 'Keep server for all', review: 'Merge…', local: 'Local', server: 'Server' } });
  const pending = h('landfall-pending', { 'hide-empty': true, 'hide-conflicts': true });
  Object.assign(pending, { db, describe, fieldName });
  const diagnostics = h('landfall-diagnostics');

  const scores = sheet({ db, table: 'scores', school, cell: () => ({ ecr_item_id: item.id }), limit: () => item.points, label: 'Scores', onError });
  const grades = sheet({ db, table: 'grades', school, cell: () => ({ subject_id: subject.id, quarter }), limit: () => 100, label: 'Running grades', onError });
  const queue = queueTable();
  const points = h('span', { class: 'soft', testid: 'points' });

  const choice = (id, label, options, chosen, onChoice) => {
    const select = h('select', { id, class: 'control', testid: id, onchange: () => onChoice(select.value) }, options.map(([value, text]) => h('option', { value, selected: value === String(chosen) }, text)));
    return h('div', { class: 'field' }, h('label', { for: id }, label), select);
  };

  const tabs = tabSet('Grades', [
    {
      key: 'scores', label: 'Scores', shown: () => draw(),
      element: [
        h('div', { class: 'choices' },
          choice('item', 'ECR item', items.map(({ id, name, points: most }) => [id, `${name} (${most} points)`]), item.id, (id) => ((item = items.find((one) => one.id === id)), scores.watch(), draw())),
          fillAll(scores, 'scores')),
        points,
        scores.element,
      ],
    },
    {
      key: 'grades', label: 'Running grades', shown: () => draw(),
      element: [
        h('div', { class: 'choices' },
          choice('subject', 'Subject', subjects.map(({ id, name }) => [id, name]), subject.id, (id) => ((subject = subjects.find((one) => one.id === id)), grades.watch(), draw())),
          choice('quarter', 'Quarter', quarters.map((n) => [String(n), `Quarter ${n}`]), quarter, (n) => ((quarter = Number(n)), grades.watch(), draw())),
          fillAll(grades, 'grades')),
        grades.element,
      ],
    },
    { key: 'queue', label: 'Queue & history', element: [queue.element, diagnostics], shown: () => (draw(), (diagnostics.db = null), (diagnostics.db = db)) },
  ]);

  const element = h('div', { class: 'columns' },
    h('div', { class: 'column column--aside' }, indicator, conflicts, pending),
    h('div', { class: 'column' }, tabs.element),
  );

  async function readOutbox() {
    try {
      const outbox = await db.outbox.list();
      scores.update(outbox);
      grades.update(outbox);
      queue.update(outbox);
    } catch (error) {
      onError(error);
    }
  }

  function draw() {
    readOutbox();
    const average = scores.averageOf();
    setText(points, average === null ? 'Nobody has a score yet.' : `Average ${average.toFixed(1)} of ${item.points}`);
  }

  const ends = [];
  return {
    element,
    start: () => {
      tabs.start();
      scores.watch();
      grades.watch();
      ends.push(db.sync.on('status', draw), db.sync.on('change', () => queueMicrotask(draw)), scores.stop, grades.stop);
      draw();
    },
    stop: () => ends.splice(0).forEach((end) => end()),
  };
});

/** A number for the whole class at once. */
function fillAll(target, name) {
  const input = h('input', { id: `fill-${name}`, class: 'control', type: 'number', min: 0, step: 'any', testid: `fill-${name}` });
  return h('form', {
    class: 'fill',
    onsubmit: (event) => {
      event.preventDefault();
      if (input.value !== '') target.fillAll(Number(input.value));
      input.value = '';
    },
  }, h('div', { class: 'field' }, h('label', { for: `fill-${name}` }, 'Everybody'), input), h('button', { type: 'submit', class: 'button', testid: `fill-${name}-go` }, icon('check'), 'Set'));
}
