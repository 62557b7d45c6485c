// The board of a facility: what is to be done, what is being done, what is done. Everything on it is answered by this device.

import { useConflicts, useLandfall, useMutation, useQuery, useSyncStatus } from 'landfall/react';
import { useMemo, useState } from 'react';
import { announce } from '../shell/dom.js';
import { Card } from './card.jsx';
import { Rollback } from './rollback.jsx';
import { fieldNames, shownValue, stages } from './words.js';

const boardKey = 'landfall-demo:board';
const nameOf = (code) => code[0].toUpperCase() + code.slice(1);

export function Workspace({ person }) {
  const boards = person.facilities ?? [];
  const [board, setBoard] = useState(() => (boards.includes(localStorage.getItem(boardKey)) ? localStorage.getItem(boardKey) : boards[0]));
  const choose = (next) => {
    localStorage.setItem(boardKey, next);
    setBoard(next);
  };
  return (
    <div className="columns columns--wide">
      <div className="column column--aside">
        <Aside person={person} />
      </div>
      <div className="column">
        <div className="section-head">
          <h2 id="board-title">{nameOf(board)}</h2>
          {boards.length > 1 && (
            <div className="field field--inline">
              <label htmlFor="board">Board</label>
              <select id="board" className="control" value={board} data-testid="board" onChange={({ target }) => choose(target.value)}>
                {boards.map((code) => <option key={code} value={code}>{nameOf(code)}</option>)}
              </select>
            </div>
          )}
        </div>
        <Board key={board} board={board} person={person} />
      </div>
    </div>
  );
}

/** The shared elements work in React as anywhere: their database is a property. */
function Aside() {
  const db = useLandfall();
  const { conflicts } = useConflicts();
  const describe = useMemo(() => (entry) => `Task “${{ ...entry.server, ...entry.base, ...entry.local, ...entry.fields }.title ?? 'deleted'}”`, []);
  const fieldName = useMemo(() => (field) => fieldNames[field] ?? field, []);
  return (
    <>
      <landfall-indicator db={db} />
      <p className="soft second">
        See it live: <a href="/workspace/" target="_blank" rel="noopener" data-testid="second-window">open a second window</a> and move a card.
      </p>
      {conflicts.length > 0 && <p className="visually-hidden" data-testid="conflict-count">{conflicts.length}</p>}
      <landfall-conflicts db={db} hide-empty="" tabindex="-1" describe={describe} fieldName={fieldName} format={shownValue} />
      <landfall-pending db={db} hide-empty="" hide-conflicts="" describe={describe} fieldName={fieldName} />
    </>
  );
}

function Board({ board, person }) {
  const { rows, loading, error } = useQuery('tasks', { where: { facility_id: board }, orderBy: [['created_at', 'asc']] });
  const tasks = useMutation('tasks');
  const { connectivity, cold } = useSyncStatus();
  const offline = connectivity === 'offline';

  const move = async (task, stage) => {
    await tasks.update(task.id, { stage });
    announce(`Moved to ${stages.find(({ key }) => key === stage).name}.`);
  };
  const remove = async (task) => {
    await tasks.remove(task.id);
    announce('Deleted.');
  };
  if (error) return <p className="error" role="alert">{error.message}</p>;
  return (
    <>
      <Rollback tasks={tasks} />
      <NewTask board={board} person={person} tasks={tasks} />
      <div className="board" aria-busy={loading} data-testid="tasks">
        {stages.map(({ key, name }, index) => {
          const here = rows.filter(({ stage }) => stage === key);
          return (
            <section key={key} className="stage" aria-labelledby={`stage-${key}`} data-testid={`stage-${key}`}>
              <h3 id={`stage-${key}`} className="stage__title">{name} <span className="soft">{here.length}</span></h3>
              <ol className="stage__cards">
                {here.map((task) => (
                  <Card key={task.id} task={task} offline={offline} before={stages[index - 1]} after={stages[index + 1]} onMove={move} onRemove={remove} onSave={(changes) => tasks.update(task.id, changes)} />
                ))}
              </ol>
              {here.length === 0 && <p className="stage__empty soft">{loading || (cold && !offline) ? 'Loading…' : 'Nothing here.'}</p>}
            </section>
          );
        })}
      </div>
    </>
  );
}

function NewTask({ board, person, tasks }) {
  const [title, setTitle] = useState('');
  const submit = async (event) => {
    event.preventDefault();
    if (!title.trim()) return;
    setTitle('');
    await tasks.put({ facility_id: board, title: title.trim(), stage: 'todo', hours: null, assignee: person.user, note: '', created_at: new Date().toISOString() });
    announce('Task added.');
  };
  return (
    <form className="new-task" onSubmit={submit}>
      <label className="visually-hidden" htmlFor="new-title">New task</label>
      <input id="new-title" className="control" value={title} maxLength={120} placeholder="What is to be done?" autoComplete="off" data-testid="new-title" onChange={({ target }) => setTitle(target.value)} />
      <button type="submit" className="button button--primary" data-testid="new-add">Add</button>
    </form>
  );
}
