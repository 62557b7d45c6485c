// What the server refused: said once, clearly, with the reason. The board already shows the server's state again.

import { useConflicts, useLandfall } from 'landfall/react';
import { fieldNames, shownValue } from './words.js';

function reasons({ reason }) {
  const { fields } = reason ?? {};
  if (fields && typeof fields === 'object' && Object.keys(fields).length > 0) return Object.entries(fields).map(([field, text]) => `${fieldNames[field] ?? field} ${text}`);
  return [reason?.message || reason?.code || 'no reason was given'];
}

const titleOf = (entry) => ({ ...entry.server, ...entry.base, ...entry.local, ...entry.fields }).title ?? 'this task';

export function Rollback({ tasks }) {
  const entry = tasks.rejected;
  if (!entry) return null;
  return entry.reason?.code === 'stale' ? <Overtaken entry={entry} onLater={tasks.reset} /> : <Refused entry={entry} tasks={tasks} />;
}

/** Somebody else changed the same fields: until its author has decided. The panel of conflicts has both values. */
function Overtaken({ entry, onLater }) {
  const { conflicts } = useConflicts();
  if (!conflicts.some(({ id }) => id === entry.id)) return null;
  return (
    <div className="banner" role="alert" data-testid="overtaken">
      <p>
        <strong>Someone changed “{titleOf(entry)}” before your change arrived.</strong> The card shows the server’s state again, and what you entered is kept: compare both and choose.
      </p>
      <div className="actions">
        <button type="button" className="button" data-testid="overtaken-choose" onClick={() => document.querySelector('landfall-conflicts').focus()}>Choose</button>
        <button type="button" className="button" data-testid="overtaken-later" onClick={onLater}>Later</button>
      </div>
    </div>
  );
}

function Refused({ entry, tasks }) {
  const db = useLandfall();
  const wanted = Object.entries(entry.fields).map(([field, value]) => `${fieldNames[field] ?? field}: ${shownValue(value, field) || 'empty'}`).join(', ');
  const forget = async () => {
    await db.outbox.discard(entry.id);
    tasks.reset();
  };
  return (
    <div className="banner banner--bad" role="alert" data-testid="rollback">
      <p>
        <strong>Your change to “{titleOf(entry)}” could not be saved.</strong> {reasons(entry).join('; ')}. The card shows the server’s state again.
        {entry.op === 'update' && <> You had entered {wanted}.</>}
      </p>
      <div className="actions">
        <button type="button" className="button" data-testid="rollback-keep" onClick={tasks.reset}>Keep it for later</button>
        <button type="button" className="button" data-testid="rollback-forget" onClick={forget}>Forget it</button>
      </div>
    </div>
  );
}
