// What things are called on the board.

export const stages = [
  { key: 'todo', name: 'To do' },
  { key: 'doing', name: 'Doing' },
  { key: 'done', name: 'Done' },
];

export const fieldNames = { title: 'Title', stage: 'Stage', hours: 'Hours', assignee: 'Assigned to', note: 'Note', created_at: 'Created', facility_id: 'Board' };

export function shownValue(value, field) {
  if (value === null || value === undefined || value === '') return '';
  if (field === 'stage') return stages.find(({ key }) => key === value)?.name ?? String(value);
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
