// What the server refused: said once, clearly, with the reason. The board already shows the server's state again.

import { useLandfall } from 'landfall/react';
import { fieldNames, shownValue } from './words.js';

function reasons({ reason }) {
  const { fields } = reason ?? {};
  if (fields && typeof fields === 'object' && Object.keys(fields).length > 0) return Object.entries(fields).map(([field, text]) => `${fieldNames[field] ?? field} ${text}`);
  return [reason?.message || reason?.code || 'no reason was given'];
}

export function Rollback({ tasks }) {
  const db = useLandfall();
  const entry = tasks.rejected;
  if (!entry) return null;
  const title = { ...entry.server, ...entry.base, ...entry.local, ...entry.fields }.title ?? 'this task';
  const wanted = Object.entries(entry.fields).map(([field, value]) => `${fieldNames[field] ?? field}: ${shownValue(value, field) || 'empty'}`).join(', ');
  const forget = async () => {
    await db.outbox.discard(entry.id);
    tasks.reset();
  };
  return (
    <div className="banner banner--bad" role="alert" data-testid="rollback">
      <p>
        <strong>Your change to “{title}” could not be saved.</strong> {reasons(entry).join('; ')}. The card shows the server’s state again.
        {entry.op === 'update' && <> You had entered {wanted}.</>}
      </p>
      <button type="button" className="button" data-testid="rollback-keep" onClick={tasks.reset}>Keep it for later</button>
      <button type="button" className="button" data-testid="rollback-forget" onClick={forget}>Forget it</button>
    </div>
  );
}
