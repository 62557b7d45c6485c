// A server that answers at once: the page and the package as files, and push and pull from memory.
//
// `/instant/N/pull` gives N records in pages of a thousand that were written before anybody asked; `/instant/N/push` applies
// everything. It keeps nothing: what is measured is the client.

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { recordOf } from './records.js';

const here = dirname(fileURLToPath(import.meta.url));
/** Where the peers' bundles are; git ignores it. */
export const bundles = join(here, '..', '.built');
const types = { '.html': 'text/html', '.js': 'text/javascript', '.wasm': 'application/wasm' };
/** A page that is isolated has a clock of 5 µs instead of 100. */
const isolated = { 'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp' };
const pageRecords = 1000;
const scope = 'user:bench';
const epoch = 'bench';

const envelope = { server_time: Date.now(), epoch, tombstones: {}, access: { added: [], removed: [] } };

/** The pages of a cold start: staged until the last one covers the pair, as landfall-server gives them. */
function pages(count) {
  const made = [];
  const all = [];
  for (let i = 0; i < count; i++) {
    const { id, ...fields } = recordOf(i);
    all.push({ scope, id, version: 1, position: i + 1, fields });
  }
  // A cold start reads in the order of keys.
  all.sort((a, b) => (a.id < b.id ? -1 : 1));
  for (let from = 0; from < count; from += pageRecords) {
    const changes = all.slice(from, from + pageRecords);
    const last = from + pageRecords >= count;
    const covered = last ? { [scope]: { items: count } } : {};
    made.push(Buffer.from(JSON.stringify({ ...envelope, changes: { items: changes }, cursor: last ? 'head' : String(made.length + 1), covered, has_more: !last })));
  }
  return made;
}

const emptyPage = (count) => Buffer.from(JSON.stringify({ ...envelope, changes: {}, cursor: 'head', covered: { [scope]: { items: count } }, has_more: false }));

function applied(body) {
  const results = body.mutations.map(({ seq }) => ({ seq, status: 'applied', scope, position: seq, version: 1 }));
  return Buffer.from(JSON.stringify({ server_time: Date.now(), epoch, head: { [scope]: results.at(-1)?.position ?? 0 }, results }));
}

/** Listens on a free port of 127.0.0.1. `dist` is the built package; `wasm`, when given, stands in for its module. */
export async function startBackend({ dist, wasm }) {
  const prepared = new Map();
  const pagesOf = (count) => {
    if (!prepared.has(count)) prepared.set(count, { pages: pages(count), empty: emptyPage(count) });
    return prepared.get(count);
  };
  const files = new Map();
  const fileOf = (path) => {
    const [, directory, rest] = /^\/(dist|client|built)\/(.+)$/.exec(path) ?? [];
    if (!directory || normalize(rest).startsWith('..')) return undefined;
    const file = wasm && directory === 'dist' && rest.endsWith('.wasm') ? wasm : join({ dist, client: here, built: bundles }[directory], rest);
    // Read once: a build that replaces it during a run must not change what is measured.
    if (!files.has(path)) files.set(path, readFileSync(file));
    return { body: files.get(path), type: types[extname(rest)] };
  };
  const answer = (path, body) => {
    const [, count, what] = /^\/instant\/(\d+)\/(\w+)$/.exec(path) ?? [];
    if (what === 'push') return applied(body);
    if (what !== 'pull') return undefined;
    const { pages, empty } = pagesOf(Number(count));
    return pages[body.cursor === null ? 0 : Number(body.cursor)] ?? empty;
  };
  const server = createServer((request, response) => {
    const path = new URL(request.url, 'http://localhost').pathname;
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk)).on('end', () => {
      try {
        const whole = Buffer.concat(chunks);
        const json = request.headers['content-encoding'] === 'gzip' ? gunzipSync(whole) : whole;
        const found = request.method === 'POST' ? { body: answer(path, JSON.parse(json)), type: 'application/json' } : fileOf(path);
        if (!found?.body) return void response.writeHead(404).end();
        response.writeHead(200, { ...isolated, 'content-type': found.type, 'content-length': found.body.length, 'cache-control': 'no-cache' }).end(found.body);
      } catch (error) {
        response.writeHead(error.code === 'ENOENT' ? 404 : 500).end(String(error.message));
      }
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    // 127.0.0.1 is a secure context too, but `localhost` is what people use.
    origin: `http://localhost:${server.address().port}`,
    prepare: (...counts) => counts.forEach(pagesOf),
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}
