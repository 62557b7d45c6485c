// Scenario b: the server dies in the middle of a push, or its answer is lost after the commit. The outcome is the same.

import { put, putAll, ready, status, update, view } from './support/device.mjs';
import { canonical, eventually, expect, expectOnceAndInOrder, fieldsById, test } from './support/test.mjs';

const push = '/v1/sync/push';
const notes = (prefix, count) => Array.from({ length: count }, (_, i) => ({ id: `${prefix}${i}`, title: `Note ${prefix}${i}` }));
const settled = async (page) => {
  const { pending, parked } = await status(page);
  return { pending, parked };
};

/** Everything written arrived, once, and page and server say the same. */
async function expectLanded(server, page, written) {
  const stored = await server.records('user:ada', 'notes');
  expect(fieldsById(stored)).toEqual(Object.fromEntries(written.map(({ id, ...fields }) => [id, canonical(fields)])));
  expect(stored.filter(({ version }) => version !== 1)).toEqual([]);
  const audit = await expectOnceAndInOrder(server, 'ada');
  expect(audit.map(({ status, id }) => `${status} ${id}`).sort()).toEqual(written.map(({ id }) => `applied ${id}`).sort());
  await eventually(async () => Object.values(await view(page, 'notes')).filter(({ state }) => state !== 'synced').length).toBe(0);
  expect(Object.keys(await view(page, 'notes'))).toHaveLength(written.length);
}

test('b: s1 s2 s6: a server killed in the middle of a push and restarted has every effect once', async ({ server, network, newDevice }) => {
  const device = await newDevice(network.origin);
  const page = await device.lab('ada');
  const written = [];
  // The instants differ in what the server had: the head of the request, all of it for some time, or the commit behind it.
  const instants = {
    atOnce: async () => {},
    soon: () => fetch(`${server.origin}/healthz`),
    committed: () => eventually(async () => (await server.records('user:ada', 'notes')).length).toBeGreaterThan(300),
  };
  for (const [name, instant] of Object.entries(instants)) {
    let killed;
    const death = new Promise((done) => (killed = done));
    network.accident = (path) => {
      if (path !== push) return 'pass';
      network.accident = () => 'refuse';
      return async () => {
        await instant();
        await server.kill();
        killed();
      };
    };
    const batch = notes(name, 150);
    written.push(...batch);
    await putAll(page, 'notes', batch);
    await death;
    await server.start();
    network.accident = () => 'pass';
    await eventually(() => settled(page)).toEqual({ pending: 0, parked: 0 });
  }
  await expectLanded(server, page, written);
});

test('b: s1 s2: an answer that is lost after the commit is asked for again and changes nothing', async ({ server, network, newDevice }) => {
  const device = await newDevice(network.origin);
  const page = await device.lab('ada');
  const written = [];
  for (let round = 0; round < 3; round++) {
    network.accident = (path) => {
      if (path !== push) return 'pass';
      network.accident = () => 'pass';
      return 'loseAnswer';
    };
    const batch = notes(`r${round}-`, 50);
    written.push(...batch);
    await putAll(page, 'notes', batch);
    await eventually(() => settled(page)).toEqual({ pending: 0, parked: 0 });
  }
  await expectLanded(server, page, written);
  expect(network.count(push)).toBeGreaterThanOrEqual(6);
});

test('b: s1 s4 l5: edits made while the answer is lost follow in order and conflict with nothing', async ({ server, network, newDevice }) => {
  const device = await newDevice(network.origin);
  const page = await device.lab('ada');
  await put(page, 'notes', { id: 'n', title: 'one' });
  await eventually(() => settled(page)).toEqual({ pending: 0, parked: 0 });
  let lost;
  const losing = new Promise((done) => (lost = done));
  network.accident = (path) => {
    if (path !== push) return 'pass';
    network.accident = () => 'refuse';
    return async () => {
      await eventually(async () => (await server.records('user:ada', 'notes'))[0].fields.title).toBe('two');
      lost();
    };
  };
  await update(page, 'notes', 'n', { title: 'two' });
  await losing;
  await update(page, 'notes', 'n', { title: 'three' });
  await page.reload();
  await ready(page);
  await update(page, 'notes', 'n', { body: 'four' });
  network.accident = () => 'pass';
  await eventually(() => settled(page)).toEqual({ pending: 0, parked: 0 });
  const [record] = await server.records('user:ada', 'notes');
  expect(record.fields).toEqual({ title: 'three', body: 'four' });
  expect((await status(page)).conflicts).toBe(0);
  await expectOnceAndInOrder(server, 'ada');
});
