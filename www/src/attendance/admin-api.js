// What only an administrator may ask: over everybody's devices, straight from the server. It needs a connection.

let session = null;
const marginMs = 5000;

/** A token of one's own: the engine's is not handed out. */
async function token() {
  if (session && session.expires_at - marginMs > Date.now()) return session.token;
  const response = await fetch('/auth/refresh', { method: 'POST' });
  if (!response.ok) throw new Error(response.status === 401 ? 'Please sign in again.' : `The server answered ${response.status}.`);
  session = await response.json();
  return session.token;
}

export const ask = (path) => send(path, {});

/** Decides a conflict that waits for an administrator: `local` is what its author wanted, `server` what stands, `merged` the fields that are to stand. Gives the outcome. */
export const decide = ({ scope, id }, decision, merged) => send('conflicts/decide', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ scope, id, decision, merged }) });

async function send(path, { headers, ...init }) {
  const response = await fetch(`/v1/admin/${path}`, { ...init, headers: { ...headers, authorization: `Bearer ${await token()}` } });
  if (!response.ok) throw new Error(response.status === 403 ? 'Only an administrator may see this.' : `The server answered ${response.status}.`);
  return response.json();
}
