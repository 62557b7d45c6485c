// The workspace page: the sections of the cross-platform document, one after the other, on the React page.

import { gunzipSync } from 'node:zlib';
import { desktop, looks, offlineWords, openPage, pagesSend, part, phone, pick, sticksOut, switchNetwork, violations } from './support/page.mjs';
import { eventually, expect, test } from './support/test.mjs';

const tasks = async (server) => Object.fromEntries((await server.records('facility:main', 'tasks')).map(({ fields }) => [fields.title, fields]));
const titles = async (server) => Object.keys(await tasks(server)).sort();
const card = (page, title) => page.getByTestId('task').filter({ has: page.getByTestId('task-title').getByText(title, { exact: true }) });
const stage = (page, key) => page.getByTestId(`stage-${key}`);

async function openBoard(device, user) {
  const page = await openPage(device, '/workspace/');
  if (user) await pick(page, user);
  await expect(page.getByTestId('tasks')).toBeVisible();
  return page;
}

async function add(page, title) {
  await page.getByTestId('new-title').fill(title);
  await page.getByTestId('new-add').click();
  await expect(card(page, title)).toBeVisible();
}

async function edit(page, title, fields) {
  await card(page, title).getByTestId('task-edit').click();
  for (const [field, value] of Object.entries(fields)) await page.getByTestId(`edit-${field}`).fill(String(value));
  await page.getByTestId('edit-save').click();
}

test('workspace 1, 5, 9: the page works from its own database: offline it writes, says so in the right words, keeps a pending state, and survives a reload', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, phone);
  const page = await openBoard(device, 'ada');
  await add(page, 'Before');
  await expect(card(page, 'Before').getByTestId('record-state')).toHaveText('Synced');
  await switchNetwork(page, false);
  await expect(part(page, 'offline-message')).toHaveText(offlineWords);
  await add(page, 'Offline');
  await expect(card(page, 'Offline').getByTestId('record-state')).toHaveText('Waiting to sync');
  await expect(card(page, 'Offline')).toHaveClass(/task--pending/);
  await page.reload();
  await expect(card(page, 'Offline').getByTestId('record-state')).toHaveText('Waiting to sync');
  await expect(part(page, 'pending')).toHaveText('1 change waiting');
  expect(await titles(server)).toEqual(['Before']);
  await switchNetwork(page, true);
  await expect(card(page, 'Offline').getByTestId('record-state')).toHaveText('Synced');
  expect(await titles(server)).toEqual(['Before', 'Offline']);
});

test('workspace 2: what one device writes shows on another in real time, and in a second window of the same one', async ({ server, newDevice }) => {
  const [first, second] = await Promise.all([newDevice(server.origin, desktop), newDevice(server.origin, desktop)]);
  const [ada, grace] = await Promise.all([openBoard(first, 'ada'), openBoard(second, 'grace')]);
  const window2 = await openBoard(first);
  await add(ada, 'Shared');
  for (const page of [window2, grace]) await expect(stage(page, 'todo').getByText('Shared')).toBeVisible();
  await card(grace, 'Shared').getByTestId('task-forward').click();
  for (const page of [ada, window2]) await expect(stage(page, 'doing').getByText('Shared')).toBeVisible();
});

test('workspace 2, 5, 6: on reconnect the queue goes up in batches, not one by one, and what is pulled is only what changed', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, desktop);
  await pagesSend(device);
  const page = await openBoard(device, 'ada');
  await add(page, 'First');
  await expect(part(page, 'status')).toHaveText('All synced');
  await switchNetwork(page, false);
  for (const n of [1, 2, 3, 4, 5]) await add(page, `Queued ${n}`);
  const requests = [];
  page.on('request', (request) => /\/v1\/sync\/(push|pull)$/.test(request.url()) && requests.push(request));
  await switchNetwork(page, true);
  await eventually(() => titles(server)).toEqual(['First', ...[1, 2, 3, 4, 5].map((n) => `Queued ${n}`)]);
  await expect(part(page, 'status')).toHaveText('All synced');
  const bodies = requests.map((request) => [request.url().split('/').at(-1), JSON.parse(text(request))]);
  const pushes = bodies.filter(([name]) => name === 'push').map(([, body]) => body.mutations.length);
  // The first was put together when the network went; the rest follows at once.
  expect(pushes.length).toBeLessThanOrEqual(2);
  expect(pushes.reduce((sum, count) => sum + count)).toBe(5);
  // A pull says how far it got: none starts from nothing.
  expect(bodies.filter(([name, body]) => name === 'pull' && !body.cursor)).toEqual([]);
});

/** The body of a request, which may be compressed. */
function text(request) {
  const bytes = request.postDataBuffer();
  return String(bytes[0] === 0x1f ? gunzipSync(bytes) : bytes);
}

/** A task that Ada and Grace both have; Ada's edit of it is at the server before Grace's device is back online. */
async function contested({ server, newDevice }, adas, graces) {
  const [first, second] = await Promise.all([newDevice(server.origin, desktop), newDevice(server.origin, phone)]);
  const [ada, grace] = await Promise.all([openBoard(first, 'ada'), openBoard(second, 'grace')]);
  await add(ada, 'Contested');
  await expect(card(grace, 'Contested')).toBeVisible();
  await Promise.all([switchNetwork(ada, false), switchNetwork(grace, false)]);
  await edit(ada, 'Contested', adas);
  await edit(grace, 'Contested', graces);
  await switchNetwork(ada, true);
  await eventually(async () => (await tasks(server)).Contested).toMatchObject(adas);
  await switchNetwork(grace, true);
  return { ada, grace };
}

/** What the server made of a user's changes, in order. */
const verdicts = async (server, user) => (await server.ledger(user)).audit.map(({ status }) => status);

test('workspace 3: an edit of a task that somebody else has changed in another field is refused, and applied anew by itself', async ({ server, newDevice }) => {
  const { ada, grace } = await contested({ server, newDevice }, { note: 'From Ada' }, { hours: 5 });
  for (const page of [ada, grace]) {
    await expect(card(page, 'Contested').getByTestId('task-note')).toHaveText('From Ada');
    await expect(card(page, 'Contested').getByTestId('task-hours')).toHaveText('5 h');
  }
  await expect(part(grace, 'status')).toHaveText('All synced');
  await expect(card(grace, 'Contested').getByTestId('record-state')).toHaveText('Synced');
  await expect(grace.getByTestId('overtaken')).toHaveCount(0);
  await expect(grace.locator('landfall-conflicts')).toBeHidden();
  expect(await tasks(server)).toMatchObject({ Contested: { note: 'From Ada', hours: 5 } });
  expect(await verdicts(server, 'grace')).toEqual(['rejected', 'applied']);
});

test('workspace 3: of two edits of one field offline, the loser is told, sees both values and decides', async ({ server, newDevice }) => {
  const { ada, grace } = await contested({ server, newDevice }, { note: 'From Ada', hours: 3 }, { note: 'From Grace' });
  const told = grace.getByTestId('overtaken');
  await expect(told).toContainText('Someone changed “Contested” before your change arrived.');
  const conflict = grace.locator('landfall-conflicts');
  await expect(part(conflict, 'local')).toHaveText('From Grace');
  await expect(part(conflict, 'server')).toHaveText('From Ada');
  await expect(grace.getByTestId('conflict-count')).toHaveText('1');
  // It is said once.
  await expect(grace.locator('landfall-pending')).toBeHidden();
  await expect(card(grace, 'Contested').getByTestId('task-note')).toHaveText('From Ada');
  await expect(card(grace, 'Contested').getByTestId('record-state')).toHaveText('Needs attention');
  expect(await violations(grace)).toEqual([]);
  // It waits for her, also over a reload, and nothing of hers is at the server.
  await grace.reload();
  await expect(part(conflict, 'local')).toHaveText('From Grace');
  expect(await verdicts(server, 'grace')).toEqual(['rejected']);
  await part(conflict, 'review').click();
  await expect(part(conflict, 'dialog')).toBeVisible();
  expect(await violations(grace)).toEqual([]);
  await part(part(conflict, 'dialog').locator('[data-field="note"]'), 'pick-local').check();
  await part(conflict, 'save-merged').click();
  await expect(card(ada, 'Contested').getByTestId('task-note')).toHaveText('From Grace');
  await expect(card(ada, 'Contested').getByTestId('task-hours')).toHaveText('3 h');
  await expect(conflict).toBeHidden();
  await expect(part(grace, 'status')).toHaveText('All synced');
});

test('workspace 3: the loser of an edit may leave it at what somebody else wrote; then the notice goes and nothing is sent', async ({ server, newDevice }) => {
  const { grace } = await contested({ server, newDevice }, { note: 'From Ada' }, { note: 'From Grace', hours: 8 });
  await grace.getByTestId('overtaken-choose').click();
  const conflict = grace.locator('landfall-conflicts');
  await expect(conflict).toBeFocused();
  await part(conflict, 'keep-server').click();
  await expect(conflict).toBeHidden();
  await expect(grace.getByTestId('overtaken')).toHaveCount(0);
  await expect(part(grace, 'status')).toHaveText('All synced');
  await expect(card(grace, 'Contested').getByTestId('task-note')).toHaveText('From Ada');
  expect((await tasks(server)).Contested).toMatchObject({ note: 'From Ada', hours: null });
  expect(await verdicts(server, 'grace')).toEqual(['rejected']);
});

test('workspace 3: two changes of one transaction, of which somebody else was first with one, are one decision, and say so', async ({ server, newDevice }) => {
  const [first, second] = await Promise.all([newDevice(server.origin, desktop), newDevice(server.origin, phone)]);
  const [ada, grace] = await Promise.all([openBoard(first, 'ada'), openBoard(second, 'grace')]);
  for (const title of ['One', 'Two']) await add(ada, title);
  await expect(card(grace, 'Two')).toBeVisible();
  await Promise.all([switchNetwork(ada, false), switchNetwork(grace, false)]);
  await edit(ada, 'One', { note: 'From Ada' });
  await grace.evaluate(async () => {
    const { db } = landfallDemo;
    const rows = await db.collection('tasks').query().get();
    await db.transaction(['tasks'], (tx) => rows.forEach(({ id }) => tx.collection('tasks').update(id, { note: 'From Grace' })));
  });
  await switchNetwork(ada, true);
  await eventually(async () => (await tasks(server)).One.note).toBe('From Ada');
  await switchNetwork(grace, true);
  const list = grace.locator('landfall-conflicts');
  await expect(part(list, 'together')).toHaveText(Array(2).fill('Written together with one other change: one decision is for all.'));
  // Neither has taken effect without the other.
  expect((await tasks(server)).Two.note).toBe('');
  expect(await violations(grace)).toEqual([]);
  await part(list, 'all-local').click();
  await expect(list).toBeHidden();
  await eventually(async () => Object.values(await tasks(server)).map(({ note }) => note)).toEqual(['From Grace', 'From Grace']);
  await expect(part(list, 'error')).toBeHidden();
});

test('workspace 4: what the server refuses is rolled back to its state, with a message that says why, and can be forgotten', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, desktop);
  const page = await openBoard(device, 'ada');
  await add(page, 'Too long');
  await edit(page, 'Too long', { hours: 8 });
  await expect(card(page, 'Too long').getByTestId('task-hours')).toHaveText('8 h');
  await expect(card(page, 'Too long').getByTestId('record-state')).toHaveText('Synced');
  await switchNetwork(page, false);
  await edit(page, 'Too long', { hours: 50 });
  // Optimistic until the server has spoken.
  await expect(card(page, 'Too long').getByTestId('task-hours')).toHaveText('50 h');
  await switchNetwork(page, true);
  await expect(page.getByTestId('rollback')).toContainText('Your change to “Too long” could not be saved. Hours must be at most 40.');
  await expect(card(page, 'Too long').getByTestId('task-hours')).toHaveText('8 h');
  expect(await violations(page)).toEqual([]);
  await page.getByTestId('rollback-forget').click();
  await expect(page.getByTestId('rollback')).toHaveCount(0);
  await expect(part(page, 'status')).toHaveText('All synced');
});

test('workspace 6, 7: a deletion is a change like any other: it reaches the other device, and both end as the server is', async ({ server, newDevice }) => {
  const [first, second] = await Promise.all([newDevice(server.origin, desktop), newDevice(server.origin, desktop)]);
  const [ada, grace] = await Promise.all([openBoard(first, 'ada'), openBoard(second, 'grace')]);
  for (const title of ['Keep', 'Drop']) await add(ada, title);
  await expect(card(grace, 'Drop')).toBeVisible();
  await switchNetwork(grace, false);
  await card(grace, 'Drop').getByTestId('task-edit').click();
  await grace.getByTestId('edit-delete').click();
  await expect(card(grace, 'Drop')).toHaveCount(0);
  await expect(card(ada, 'Drop')).toBeVisible();
  await switchNetwork(grace, true);
  await expect(card(ada, 'Drop')).toHaveCount(0);
  expect(await titles(server)).toEqual(['Keep']);
  for (const page of [ada, grace]) await expect(page.getByTestId('task-title')).toHaveText(['Keep']);
});

test('workspace 8: what was written offline is sent by the worker when the network returns and no page is open', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, desktop);
  const page = await openBoard(device, 'ada');
  await expect(part(page, 'status')).toHaveText('All synced');
  await device.offline();
  await add(page, 'Left behind');
  await page.close();
  expect(await titles(server)).toEqual([]);
  await device.offline(false);
  await eventually(() => titles(server)).toEqual(['Left behind']);
});

for (const [name, size] of Object.entries(looks)) {
  test(`workspace: axe-core finds nothing on a ${name}, with a form open, online and offline`, async ({ server, newDevice }) => {
    const device = await newDevice(server.origin, size);
    const page = await openBoard(device, 'grace');
    await add(page, 'Look at me');
    await card(page, 'Look at me').getByTestId('task-edit').click();
    expect(await violations(page)).toEqual([]);
    await page.keyboard.press('Escape');
    await switchNetwork(page, false);
    await add(page, 'And at me');
    await expect(part(page, 'offline-message')).toBeVisible();
    expect(await violations(page)).toEqual([]);
    expect(await sticksOut(page)).toBe(0);
  });
}
