// `npm run kill -- --browser chromium|firefox|webkit --rounds N --seed S [--sqlite-idb] [--profile-rounds N] [--keep-going] [--export FILE]`
// `npm run kill -- --browser … --plants`
//
// Real work in a real browser on a profile on disk, against a real server through a network with accidents; the browser, or
// a part of it, is killed at random moments, and what was acknowledged must be there. The last line is JSON.
// `--plants` makes the page, or the disk, do what a broken engine would: each must be found.
// LANDFALL_CHROMIUM, LANDFALL_FIREFOX and LANDFALL_WEBKIT name the programs, LANDFALL_WWW another build of the demo.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Chromium } from '../browsers/chromium.mjs';
import { Firefox } from '../browsers/firefox.mjs';
import { WebKit } from '../browsers/webkit.mjs';
import { History } from './history.mjs';
import { DatabaseLost, Profile } from './rounds.mjs';
import { copySite } from './site.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const browsers = { chromium: [Chromium, 'LANDFALL_CHROMIUM'], firefox: [Firefox, 'LANDFALL_FIREFOX'], webkit: [WebKit, 'LANDFALL_WEBKIT'] };
/** Of the violations of one profile. */
const shownMost = 8;
/** What is planted, and the codes of which one must be found, within so many rounds. */
const plants = { forget: ['L1'], halfGroup: ['S5'], twice: ['L1', 'S1'], refuse: ['L1', 'L3'], logRow: ['L1'] };
const plantRoundsMost = 4;

const { values } = parseArgs({
  options: {
    browser: { type: 'string', default: 'chromium' },
    rounds: { type: 'string', default: '12' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    'profile-rounds': { type: 'string', default: '20' },
    'sqlite-idb': { type: 'boolean', default: false },
    'keep-going': { type: 'boolean', default: false },
    plants: { type: 'boolean', default: false },
    export: { type: 'string' },
  },
});
const [Browser, variable] = browsers[values.browser] ?? [];
const program = process.env[variable];
if (!program) throw new Error(`--browser is one of ${Object.keys(browsers).join(', ')}, whose program is named by ${Object.values(browsers).map(([, name]) => name).join(', ')}`);
const [rounds, perProfile, seed] = [values.rounds, values['profile-rounds'], values.seed].map(Number);
const sqliteIdb = values['sqlite-idb'];
const began = Date.now();

const add = (sum, counts) => {
  for (const [name, count] of Object.entries(counts)) sum[name] = (sum[name] ?? 0) + count;
};

/** One profile from its first page to its last look. Gives `{profile, violations, isLost}`. */
async function live(site, number, most, plant) {
  const history = values.export && new History(values.export, { seed: seed + number, device: `p${number}`, browser: values.browser });
  const profile = new Profile({ newBrowser: () => new Browser(program, { sqliteIdb }), seed: seed + number, number, site, plant, history });
  const { violations } = profile.ledger;
  let isLost = false;
  try {
    await profile.start();
    while (profile.counts.rounds < most && violations.length === 0) await profile.round();
    if (violations.length === 0) await profile.finish();
  } catch (error) {
    isLost = error instanceof DatabaseLost;
    if (isLost) await profile.finishWithout();
    else violations.push({ code: 'stuck', what: `${error.stack}\n${JSON.stringify(profile.pages?.troubles.slice(-5))}\n${profile.server?.log.slice(-2_000)}` });
  }
  await profile.remove();
  return { profile, violations, isLost };
}

async function kill(site) {
  const total = { rounds: 0, profiles: 0, kills: {}, moments: {}, accidents: {}, acknowledged: 0, found: 0, refused: 0, offlineLooks: 0, shellMissing: 0, thrownAway: 0 };
  const all = [];
  let version;
  console.log(`kill: ${values.browser}${sqliteIdb ? ' with IndexedDB in SQLite' : ''}, ${rounds} rounds, seed ${seed}`);
  while (total.rounds < rounds && (values['keep-going'] || all.length === 0)) {
    const number = total.profiles++;
    const { profile, violations, isLost } = await live(site, number, Math.min(perProfile, rounds - total.rounds));
    const { ledger, counts: { kills, moments, ...counts } } = profile;
    version = profile.version;
    all.push(...violations);
    if (isLost) {
      total.thrownAway += 1;
      console.log(`profile ${number}, seed ${seed + number}: the browser threw the database away in round ${counts.rounds}, and the page says so`);
    }
    add(total, { ...counts, acknowledged: ledger.count('stored') - ledger.found, found: ledger.found, refused: ledger.count('refused') });
    add(total.kills, kills);
    add(total.moments, moments);
    add(total.accidents, profile.network?.accidents ?? {});
    for (const { code, what } of violations.slice(0, shownMost)) console.log(`${code} (seed ${seed + number}): ${what}`);
    console.log(`profile ${number}, seed ${seed + number}: ${total.rounds} rounds, ${total.acknowledged} writes acknowledged, ${((Date.now() - began) / 1000).toFixed(0)} s${violations.length > 0 ? ', VIOLATED' : ''}`);
  }
  const of = (...codes) => all.filter(({ code }) => codes.includes(code)).length;
  console.log(JSON.stringify({
    browser: values.browser, version, sqliteIdb, seed, ...total,
    lost: of('L1'), torn: of('L2', 'S5'), refusedSeen: of('L3'), twice: of('S1', 'S2'), outOfOrder: of('S4'), other: of('L5', 'R1', 'S7', 'trouble'), stuck: of('stuck'),
  }));
  return all.length === 0 && total.rounds >= rounds;
}

async function findPlants(site) {
  let found = 0;
  for (const [name, codes] of Object.entries(plants)) {
    const { profile, violations } = await live(site, 0, plantRoundsMost, name);
    const hit = violations.find(({ code }) => codes.includes(code));
    found += Number(hit !== undefined);
    console.log(`${name}: ${hit ? `found in round ${profile.counts.rounds}: ${hit.code} ${hit.what.slice(0, 120)}` : `NOT FOUND: ${JSON.stringify(violations.slice(0, 3))}`}`);
  }
  console.log(JSON.stringify({ plants: Object.keys(plants).length, found }));
  return found === Object.keys(plants).length;
}

const directory = await mkdtemp(join(tmpdir(), 'landfall-kill-site-'));
let ok = false;
try {
  const site = join(directory, 'site');
  await copySite(resolve(root, process.env.LANDFALL_WWW ?? 'www/dist'), site);
  ok = await (values.plants ? findPlants : kill)(site);
} finally {
  await rm(directory, { recursive: true, force: true });
}
// A display or a socket of a browser that is gone keeps nobody waiting.
process.exit(ok ? 0 : 1);
