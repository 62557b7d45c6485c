// The class of the demo: who is in it, and what is graded. In a school this comes from its register, which nobody edits here.

export const students = [
  ['s-01', 'Alvarez, Maria'], ['s-02', 'Bautista, Jose'], ['s-03', 'Castro, Liza'], ['s-04', 'Dela Cruz, Ramon'],
  ['s-05', 'Espinosa, Carla'], ['s-06', 'Flores, Miguel'], ['s-07', 'Garcia, Teresa'], ['s-08', 'Hernandez, Paolo'],
].map(([id, name]) => ({ id, name }));

export const items = [
  { id: 'quiz-1', name: 'Quiz 1', points: 20 },
  { id: 'quiz-2', name: 'Quiz 2', points: 20 },
  { id: 'project', name: 'Project', points: 50 },
  { id: 'exam', name: 'Exam', points: 100 },
];

export const subjects = [['math', 'Mathematics'], ['science', 'Science'], ['english', 'English']].map(([id, name]) => ({ id, name }));
export const quarters = [1, 2, 3, 4];

const nameIn = (list, id) => list.find((one) => one.id === id)?.name ?? id;
export const studentName = (id) => nameIn(students, id);

/** The two tables of the document. `key`: the fields that say which cell a record is. */
export const tables = {
  scores: { collection: 'student_ecr_item_scores', value: 'score', label: 'Score', key: ['ecr_item_id'] },
  grades: { collection: 'student_running_grades', value: 'grade', label: 'Grade', key: ['subject_id', 'quarter'] },
};

/**
 * One record for each cell: two teachers who fill in the same one meet in it. By its natural key, so that a device which has
 * not heard of the other's record makes the same id.
 */
export const idOf = (table, student, cell) => [student, ...tables[table].key.map((field) => cell[field])].join('.');

const fieldNames = { score: 'Score', grade: 'Grade', quarter: 'Quarter', student_id: 'Student', ecr_item_id: 'Item', subject_id: 'Subject', updated_at: 'Changed' };
export const fieldName = (field) => fieldNames[field] ?? field;

/** An entry of the outbox that waits for a choice, because somebody else was first. */
export const isChoice = ({ state, reason }) => state === 'parked' && reason?.code === 'conflict';

/** What an entry or a conflict is about. */
export function describe({ collection, server, base, local, fields, record }) {
  const found = { ...server, ...base, ...local, ...fields };
  const [student, ...rest] = record.split('.');
  const who = studentName(found.student_id ?? student);
  if (collection === 'student_ecr_item_scores') return `${who}, ${nameIn(items, found.ecr_item_id ?? rest[0])}`;
  return `${who}, ${nameIn(subjects, found.subject_id ?? rest[0])}, quarter ${found.quarter ?? rest[1]}`;
}
