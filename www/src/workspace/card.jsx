// One task. Moving works by buttons, so that it works with a thumb, a keyboard and a screen reader alike.

import { memo, useEffect, useRef, useState } from 'react';
import { shownState, stateOf } from '../shell/states.js';

function State({ task, offline }) {
  const state = shownState(task, offline);
  const { tone, label } = stateOf(state);
  // A card that is as the server has it needs no word; the others say how far they are.
  return <span className={tone === 'ok' ? 'visually-hidden' : `state state--${tone} state--plain`} data-testid="record-state">{label}</span>;
}

export const Card = memo(function Card({ task, offline, before, after, onMove, onRemove, onSave }) {
  const [editing, setEditing] = useState(false);
  const opener = useRef(null);
  const wasEditing = useRef(false);
  useEffect(() => {
    if (wasEditing.current && !editing) opener.current?.focus();
    wasEditing.current = editing;
  }, [editing]);
  const pending = stateOf(shownState(task, offline)).tone !== 'ok';
  if (editing) return <li className="task card"><EditTask task={task} onSave={onSave} onRemove={onRemove} onClose={() => setEditing(false)} /></li>;
  return (
    <li className={`task card${pending ? ' task--pending' : ''}`} data-testid="task" data-id={task.id}>
      <div className="task__head">
        <h4 className="task__title" data-testid="task-title">{task.title}</h4>
        <button ref={opener} type="button" className="button button--quiet task__edit" aria-label={`Edit ${task.title}`} data-testid="task-edit" onClick={() => setEditing(true)}>Edit</button>
      </div>
      {task.note && <p className="task__note" data-testid="task-note">{task.note}</p>}
      <p className="soft task__facts">
        {task.assignee && <span>{task.assignee}</span>}
        {typeof task.hours === 'number' && <span data-testid="task-hours">{task.hours} h</span>}
        <State task={task} offline={offline} />
      </p>
      <div className="task__moves">
        {before && <button type="button" className="button" data-testid="task-back" onClick={() => onMove(task, before.key)}>← {before.name}</button>}
        {after && <button type="button" className="button" data-testid="task-forward" onClick={() => onMove(task, after.key)}>{after.name} →</button>}
      </div>
    </li>
  );
});

function EditTask({ task, onSave, onRemove, onClose }) {
  const save = async (event) => {
    event.preventDefault();
    const { title, hours, assignee, note } = Object.fromEntries(new FormData(event.currentTarget));
    const wanted = { title: title.trim(), hours: hours === '' ? null : Number(hours), assignee: assignee.trim() || null, note: note.trim() };
    const changes = Object.fromEntries(Object.entries(wanted).filter(([field, value]) => value !== (task[field] ?? (field === 'note' ? '' : null))));
    onClose();
    if (Object.keys(changes).length > 0) await onSave(changes);
  };
  return (
    <form className="form" data-testid="task-form" onSubmit={save} onKeyDown={({ key }) => key === 'Escape' && onClose()}>
      <div className="field"><label htmlFor={`title-${task.id}`}>Title</label><input id={`title-${task.id}`} className="control" name="title" defaultValue={task.title} required maxLength={120} autoFocus data-testid="edit-title" /></div>
      <div className="pair">
        <div className="field"><label htmlFor={`hours-${task.id}`}>Hours</label><input id={`hours-${task.id}`} className="control" name="hours" type="number" min="0" step="any" defaultValue={task.hours ?? ''} aria-describedby={`hint-${task.id}`} data-testid="edit-hours" /></div>
        <div className="field"><label htmlFor={`assignee-${task.id}`}>Assigned to</label><input id={`assignee-${task.id}`} className="control" name="assignee" defaultValue={task.assignee ?? ''} maxLength={64} data-testid="edit-assignee" /></div>
      </div>
      <p className="soft" id={`hint-${task.id}`}>The server takes at most 40 hours. Try 50 to see a rollback.</p>
      <div className="field"><label htmlFor={`note-${task.id}`}>Note</label><textarea id={`note-${task.id}`} className="control" name="note" defaultValue={task.note ?? ''} rows={2} maxLength={1000} data-testid="edit-note" /></div>
      <div className="actions">
        <button type="submit" className="button button--primary" data-testid="edit-save">Save</button>
        <button type="button" className="button button--quiet" onClick={onClose}>Cancel</button>
        <button type="button" className="button button--danger" data-testid="edit-delete" onClick={() => onRemove(task)}>Delete</button>
      </div>
    </form>
  );
}
