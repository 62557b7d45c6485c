// More records than memory is given: they are pulled, counted, searched, changed and sent, and the module stays small.

import { status } from './support/device.mjs';
import { eventually, expect, test } from './support/test.mjs';

const MB = 2 ** 20;
/** What the module may hold beside its budget: its code's own data, a page under way, an answer. */
const beside = 16 * MB;
/** A small budget, and the default one: records, and the greatest of their texts. */
const devices = [
  { budget: 4 * MB, count: 60_000, last: ['9999', '9998', '9997'] },
  { budget: 32 * MB, count: 160_000, last: ['99999', '99998', '99997'] },
];
const pageRecords = 1_000;

/** From now on the page knows the memory of every module that it makes. */
const watchModules = (context) => context.addInitScript(() => {
  globalThis.modules = [];
  for (const name of ['instantiate', 'instantiateStreaming']) {
    const make = WebAssembly[name].bind(WebAssembly);
    WebAssembly[name] = async (...given) => {
      const made = await make(...given);
      for (const exported of Object.values((made.instance ?? made).exports)) if (exported instanceof WebAssembly.Memory) modules.push(exported);
      return made;
    };
  }
});
const moduleBytes = (page) => page.evaluate(() => modules.reduce((sum, { buffer }) => sum + buffer.byteLength, 0));

for (const { budget, count, last } of devices) test(`memory: i6: far more records than a budget of ${budget / MB} MB are pulled, searched, changed and sent within the budget and 16 MB`, async ({ server, newDevice }) => {
  const device = await newDevice(server.origin);
  await watchModules(device.context);
  const page = await device.lab('ada', { login: false });
  await page.evaluate(async ([memoryBytes, count, pageRecords]) => {
    const filler = 'Nothing that anybody asks for. '.repeat(26);
    const scope = 'user:ada';
    const record = (n) => ({
      scope, id: `r${String(n).padStart(6, '0')}`, version: 1, position: n + 1, stamp: `019aa5a44e80-${n.toString(16).padStart(4, '0').slice(-4)}-server`,
      fields: { rank: (n * 7919) % count, filler: `${n} ${filler}` },
    });
    let position = count;
    const envelope = () => ({ server_time: Date.now(), epoch: 'e1' });
    // What was pushed is pulled once more, as every server gives it; the records come by their numbers, and it behind them.
    const pushed = [];
    const pull = async ({ cursor }) => {
      const from = Number(cursor ?? 0);
      const to = from + (from < count ? Math.min(pageRecords, count - from) : pushed.length - (from - count));
      const items = Array.from({ length: to - from }, (_, at) => (from < count ? record(from + at) : pushed[from - count + at]));
      const covered = { [scope]: { items: to <= count ? to : position } };
      return { ...envelope(), changes: { items }, tombstones: {}, access: { added: from ? [] : [[scope, 'items']], removed: [] }, cursor: String(to), covered, has_more: to < count + pushed.length };
    };
    const apply = ({ seq, id, set }) => {
      const was = record(Number(id.slice(1)));
      pushed.push({ ...was, version: 2, position: ++position, fields: { ...was.fields, ...set } });
      return { seq, status: 'applied', scope, position, version: 2 };
    };
    const push = async ({ mutations }) => ({ ...envelope(), results: mutations.map(apply), head: { [scope]: position } });
    const token = `x.${btoa(JSON.stringify({ sub: 'ada', exp: 4e9 }))}.x`;
    await lab.openAs('ada', {
      name: 'large', url: undefined, transport: { push, pull }, auth: { token: () => token }, serviceWorker: false, persist: 'manual',
      memoryBytes, collections: { items: { indexes: ['rank'] } },
    });
  }, [budget, count, pageRecords]);
  const known = () => page.evaluate(() => lab.db.collection('items').query().count());
  await eventually(known, 120_000).toBe(count);

  const seen = await page.evaluate(async (count) => {
    const items = lab.db.collection('items');
    const ranks = (rows) => rows.map(({ rank }) => rank);
    const holds = { filler: { gte: '3' } };
    // No index has this, so every record is looked at; and one of thirty fits, from nearly every segment.
    const scattered = await items.query({ where: { filler: { gte: '31' , lt: '33' } } }).get();
    const last = await items.query({ where: holds, orderBy: [['filler', 'desc']], limit: 3 }).get();
    await Promise.all(scattered.slice(0, 500).map(({ id }) => items.update(id, { rank: -1 })));
    return {
      scattered: scattered.length,
      last: last.map(({ filler }) => filler.split(' ')[0]),
      first: ranks(await items.query({ where: { rank: { gte: 0 } }, orderBy: 'rank', limit: 3 }).get()),
      changed: await items.query({ where: { rank: -1 } }).count(),
      page: ranks(await items.query({ where: { rank: { gte: count - 2 } }, orderBy: 'rank' }).get()),
    };
  }, count);
  expect(seen).toMatchObject({ scattered: 2_222, last, changed: 500, page: [count - 2, count - 1] });
  expect(seen.first).toHaveLength(3);
  await eventually(async () => (await status(page)).pending).toBe(0);
  const bytes = await moduleBytes(page);
  expect(bytes).toBeGreaterThan(budget / 2);
  expect(bytes).toBeLessThan(budget + beside);
});
