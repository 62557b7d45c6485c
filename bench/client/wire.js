// What every engine that talks to a server shares: pages of records from it, and mutations to it.

const post = async (url, body) => (await fetch(url, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })).json();

/** The page at `cursor` (null for the first): `{ records, cursor, more }`. The same bytes that Landfall pulls. */
export async function pullPage(count, cursor) {
  const page = await post(`/instant/${count}/pull`, { cursor });
  const records = (page.changes.items ?? []).map(({ id, fields }) => ({ id, ...fields }));
  return { records, cursor: page.cursor, more: page.has_more };
}

/** All pages, one after the other. */
export async function* pulledPages(count) {
  for (let cursor = null, more = true; more; ) {
    const page = await pullPage(count, cursor);
    yield page.records;
    ({ cursor, more } = page);
  }
}

/** How many mutations go in one request. */
export const batch = 100;

/** Sends records as new ones; gives the server's results in their order. */
export async function push(records, firstSeq = 1) {
  const mutations = records.map(({ id, ...set }, i) => ({ seq: firstSeq + i, scope: 'user:bench', collection: 'items', id, op: 'create', set, base: 0 }));
  return (await post('/instant/0/push', { mutations })).results;
}
