// `npm run check-history -- [--every-kind] FILE…`: judges exported histories (docs/histories.md). The last line is JSON; the exit
// code is 1 when something was found, and with `--every-kind` also when the histories gave one of the judges nothing to look at.

import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { History, split } from './read.mjs';
import { judgeServer } from './server.mjs';
import { judgeSessions } from './sessions.mjs';
import { kinds } from './violations.mjs';

const shownMost = 30;

/** All histories of a text: `{ histories, events, found: [{ code, at, what }], judged: {} }`. */
export function check(content) {
  const total = { histories: 0, events: 0, found: [], judged: {} };
  for (const lines of split(content)) {
    const history = new History(lines);
    // What is no history can't be judged as one.
    if (history.violations.found.length === 0) {
      judgeServer(history);
      judgeSessions(history);
    }
    total.histories += 1;
    total.events += history.events.length;
    total.found.push(...history.violations.found.map((found) => ({ ...found, seed: history.header.seed })));
    for (const [name, count] of Object.entries(history.violations.judged)) total.judged[name] = (total.judged[name] ?? 0) + count;
  }
  return total;
}

function main(args) {
  const files = args.filter((arg) => arg !== '--every-kind');
  if (files.length === 0) {
    console.error('Which file? node tests/histories/check.mjs [--every-kind] FILE…');
    process.exit(2);
  }
  const sum = { histories: 0, events: 0, violations: 0, codes: {}, judged: {} };
  for (const file of files) {
    let result;
    try {
      result = check(readFileSync(file, 'utf8'));
    } catch (error) {
      result = { histories: 0, events: 0, found: [{ code: 'form', at: 0, what: error.message }], judged: {} };
    }
    for (const { code, at, what, seed } of result.found.slice(0, shownMost)) console.log(`${file}:${at}: ${code}: ${what}${seed === undefined ? '' : ` (seed ${seed})`}`);
    if (result.found.length > shownMost) console.log(`${file}: ${result.found.length - shownMost} more`);
    sum.histories += result.histories;
    sum.events += result.events;
    sum.violations += result.found.length;
    for (const { code } of result.found) sum.codes[code] = (sum.codes[code] ?? 0) + 1;
    for (const [name, count] of Object.entries(result.judged)) sum.judged[name] = (sum.judged[name] ?? 0) + count;
  }
  const idle = args.length > files.length ? kinds.filter((kind) => !sum.judged[kind]) : [];
  if (idle.length > 0) console.log(`Nothing to look at for: ${idle.join(', ')}`);
  console.log(JSON.stringify(sum));
  process.exitCode = sum.violations > 0 || sum.histories === 0 || idle.length > 0 ? 1 : 0;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) main(process.argv.slice(2));
