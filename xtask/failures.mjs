// What failed, read from the output of a test runner: names and the essence of each error, for a log of which only the end is kept.

/**
 * How a failure looks: `head` begins one and names it, `end` follows the last. `after`: only what stands below that line.
 * `from`: what a failure printed before that line is not its error. `noise`: lines that say nothing to who reads the end of a log.
 */
const formats = {
  playwright: { head: /^ {2}\d+\) (.+?)(?: ─*)?$/, end: /^ {2}\d+ (failed|flaky|interrupted|skipped|did not run|passed)\b|^ {4}attachment #/, noise: /^ +at |^ +Error Context: / },
  cargo: { head: /^---- (.+) (?:stdout|output) ----$/, end: /^failures:$|^test result: |^stack backtrace:$|^ +Stack:$/, from: /panicked at /, noise: /^note: run with / },
  rustc: { head: /^(error(?:\[E\d+\])?: (?!test failed|could not compile|aborting|\d+ targets? failed).+)$/, end: /^(warning|error)\b/ },
  node: { after: /^✖ failing tests:$/, head: /^✖ (.+) \([\d.]+ms\)$/, end: /^test at /, noise: /^ +at / },
};

const linesMost = 25;
const linesLeast = 4;
const failuresMost = 30;

/** `[{ title, lines }]`: the failures that an output tells of, in its order; of an unknown kind of output its last lines. */
export function failuresIn(output) {
  const lines = output.replace(/\x1b\[[\d;]*m/g, '').trimEnd().split('\n').map((line) => line.trimEnd());
  for (const format of Object.values(formats)) {
    const found = readAs(format, lines);
    if (found.length > 0) return found;
  }
  return [{ title: 'its last lines', lines: lines.slice(-linesMost) }];
}

function readAs({ after, head, end, from, noise }, lines) {
  const found = [];
  let current;
  for (const line of after ? lines.slice(lines.findIndex((line) => after.test(line)) + 1 || lines.length) : lines) {
    const title = head.exec(line)?.[1];
    if (title) found.push((current = { title, lines: [] }));
    else if (end.test(line)) current = undefined;
    else if (line.trim() !== '' && !noise?.test(line)) current?.lines.push(line);
  }
  if (!from) return found;
  return found.map(({ title, lines }) => ({ title, lines: lines.slice(Math.max(0, lines.findIndex((line) => from.test(line)))) }));
}

/** What failed in these stages, `[{ name, output }]`: every one named, its error in as many lines as share out `budget`. */
export function failureReport(stages, budget = 50) {
  const all = stages.map(({ name, output }) => ({ name, failures: failuresIn(output) }));
  let each = linesMost;
  while (each > linesLeast && written(all, each).length > budget) each -= 1;
  return written(all, each).join('\n');
}

function written(stages, each) {
  return stages.flatMap(({ name, failures }) => [
    `${name} failed:`,
    ...failures.slice(0, failuresMost).flatMap(({ title, lines }) => [`  ✘ ${title}`, ...indented(lines.slice(0, each))]),
    ...(failures.length > failuresMost ? [`  … and ${failures.length - failuresMost} more`] : []),
  ]);
}

function indented(lines) {
  const margin = Math.min(...lines.map((line) => line.search(/\S|$/)));
  return lines.map((line) => `    ${line.slice(margin)}`);
}
