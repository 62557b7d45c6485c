// `node tests/kill/raw.mjs --rounds N`: how often Chromium throws IndexedDB away by itself when it is killed. LANDFALL_CHROMIUM names it.
//
// Nothing of Landfall is in it: a page writes rows in strict transactions, the browser is killed, and the next start counts them.
// Chromium says of a database that it made anew because its files were damaged: `dataLoss` of `upgradeneeded`.

import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as elapse } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { listenAnywhere } from '../../xtask/lib.mjs';
import { Chromium } from '../browsers/chromium.mjs';

/** Kills of one profile, and how long it works before each, milliseconds. */
const profileRounds = 40;
const workMs = [150, 650];

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '100' }, 'sqlite-idb': { type: 'boolean', default: false } } });
const program = process.env.LANDFALL_CHROMIUM;
if (!program) throw new Error('LANDFALL_CHROMIUM names the browser');

const page = `<!doctype html><script>
const say = (told) => fetch('/', { method: 'POST', body: JSON.stringify(told) });
const request = indexedDB.open('raw', 1);
let loss = null;
request.onupgradeneeded = ({ dataLoss, dataLossMessage }) => {
  if (dataLoss === 'total') loss = dataLossMessage;
  request.result.createObjectStore('log', { autoIncrement: true });
};
request.onsuccess = () => {
  const count = request.result.transaction('log').objectStore('log').count();
  count.onsuccess = async () => {
    await say({ opened: count.result, loss });
    let stored = 0;
    const write = () => {
      const transaction = request.result.transaction('log', 'readwrite', { durability: 'strict' });
      transaction.objectStore('log').add('x'.repeat(Math.random() * 20_000));
      transaction.oncomplete = () => {
        stored += 1;
        if (stored % 5 === 0) say({ stored });
        write();
      };
    };
    for (let i = 0; i < 4; i++) write();
  };
};
</script>`;

let stored = 0;
const server = createServer(async (request, response) => {
  if (request.method !== 'POST') return response.writeHead(200, { 'content-type': 'text/html' }).end(page);
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  response.end();
  const told = JSON.parse(Buffer.concat(chunks));
  if (told.stored) stored = told.stored;
  else server.emit('opened', told);
});
const url = `http://127.0.0.1:${await listenAnywhere(server)}/`;
const total = { rounds: 0, thrownAway: 0, rowsLost: 0, why: [] };
let [profile, before] = ['', 0];
while (total.rounds < Number(values.rounds)) {
  if (total.rounds % profileRounds === 0) {
    if (profile) await rm(profile, { recursive: true, force: true, maxRetries: 5 });
    [profile, before] = [await mkdtemp(join(tmpdir(), 'landfall-raw-')), 0];
  }
  const browser = new Chromium(program, { sqliteIdb: values['sqlite-idb'] });
  stored = 0;
  const told = once(server, 'opened');
  await browser.start(profile, [url]);
  const [{ opened, loss }] = await told;
  if (loss !== null) {
    total.thrownAway += 1;
    total.why.push(loss);
  } else if (opened < before) total.rowsLost += before - opened;
  await elapse(workMs[0] + Math.random() * (workMs[1] - workMs[0]));
  before = opened + stored;
  await browser.kill();
  total.rounds += 1;
}
await rm(profile, { recursive: true, force: true, maxRetries: 5 });
console.log(JSON.stringify(total));
process.exit(0);
