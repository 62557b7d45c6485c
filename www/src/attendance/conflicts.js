// Records that somebody else changed first: the shared list, in the words of this page.

import { h } from '../shell/dom.js';
import { fieldNames, shownValue, titleOf } from './shifts.js';

const texts = { inReview: 'Someone changed this first. An administrator decides which of both is to stand; meanwhile it is as the server has it.' };
const fieldName = (field) => fieldNames[field] ?? field;

export function conflictList({ db, getFacilities }) {
  const element = h('landfall-conflicts', { 'hide-empty': true });
  Object.assign(element, { db, fieldName, texts });
  /** Facilities are called by their names as soon as these are known. */
  const update = () => Object.assign(element, {
    describe: (conflict) => titleOf(conflict, getFacilities()),
    format: (value, field) => shownValue(field, value, getFacilities()),
  });
  update();
  return { element, update };
}
