// The Insight page: the three data flows of its document, then its eight scenarios.

import { desktop, looks, openPage, pagesSend, part, phone, pick, sticksOut, switchNetwork, violations } from './support/page.mjs';
import { canonical, eventually, expect, test } from './support/test.mjs';

const scope = 'store:demo';
const stored = async (server, table) => (await server.records(scope, table)).map(({ id, fields }) => ({ id, ...fields }));

async function openInsight(device, user, tab) {
  const page = await openPage(device, '/insight/');
  if (user) await pick(page, user);
  if (tab) await page.getByTestId(`tab-${tab}`).click();
  await expect(part(page, 'status')).toHaveText('All synced');
  return page;
}

/** A manager's page and a store's, each on its own device. */
async function both(server, newDevice) {
  const [office, shop] = await Promise.all([newDevice(server.origin, desktop), newDevice(server.origin, phone)]);
  await pagesSend(shop);
  const [mia, sam] = await Promise.all([openInsight(office, 'mia', 'forms'), openInsight(shop, 'sam', 'submissions')]);
  return { mia, sam, office, shop };
}

async function newForm(page, title, questions) {
  await page.getByTestId('new-form').click();
  await page.getByTestId('form-name').fill(title);
  for (const [i, label] of questions.entries()) {
    if (i > 0) await page.getByTestId('add-question').click();
    await page.getByTestId('question-label').nth(i).fill(label);
  }
  await page.getByTestId('form-save').click();
  await expect(page.getByTestId('form').filter({ hasText: title })).toBeVisible();
}

async function handIn(page, title) {
  await page.getByRole('button', { name: `Fill in ${title}` }).click();
  await page.getByTestId('answer').first().check();
  await expect(page.getByTestId('autosave')).toHaveText('Saved on this device.');
  await page.getByTestId('hand-in').click();
  await expect(page.getByTestId('submission').first()).toHaveAttribute('data-status', 'completed');
}

/** Through the page's own database: many records, or what no form does. */
const write = (page, records) => page.evaluate((records) => Promise.all(records.map(([table, record]) => landfallDemo.db.collection(table).put(record))), records);
const count = (page, table) => page.evaluate((table) => landfallDemo.db.collection(table).query().count(), table);
const kpi = (id, value) => ['kpi_data', { id, store_id: 'demo', name: id, value, date: '2026-01-31' }];

test('insight flow 1: a form that a manager writes is whole at the server, confirmed to the manager, and arrives at the store', async ({ server, newDevice }) => {
  const { mia, sam } = await both(server, newDevice);
  await newForm(mia, 'Opening', ['Lights on', 'Till counted']);
  await expect(mia.getByTestId('form').getByTestId('record-state')).toHaveText('Synced');
  expect((await stored(server, 'fields')).map(({ label }) => label).sort()).toEqual(['Lights on', 'Till counted']);
  await expect(sam.getByTestId('checklists')).toContainText('Opening');
});

test('insight flow 2: a submission is stored while it is filled in and sent the moment it is handed in, and the manager’s analytics count it', async ({ server, newDevice }) => {
  const { mia, sam, shop } = await both(server, newDevice);
  await newForm(mia, 'Opening', ['Lights on']);
  await sam.getByRole('button', { name: 'Fill in Opening' }).click();
  await sam.getByTestId('answer').check();
  await expect(sam.getByTestId('autosave')).toHaveText('Saved on this device.');
  // The tab goes in the middle; what was answered is there.
  await sam.close();
  const again = await openInsight(shop, null, 'submissions');
  await expect(again.getByTestId('submission-status')).toHaveText('In progress');
  await again.getByTestId('go-on').click();
  await expect(again.getByTestId('answer')).toBeChecked();
  await again.getByTestId('hand-in').click();
  await eventually(async () => (await stored(server, 'submissions')).map(({ status }) => status)).toEqual(['completed']);
  await mia.getByTestId('tab-analytics').click();
  await expect(mia.getByTestId('stat-completed')).toHaveText('1');
  await expect(mia.getByTestId('chart-forms')).toHaveAttribute('aria-label', /Opening: 1/);
});

test('insight flow 3: submissions made offline queue up, are sent in their order when the network returns, and the queue is empty', async ({ server, newDevice }) => {
  const { mia, sam } = await both(server, newDevice);
  await newForm(mia, 'Opening', ['Lights on']);
  await expect(sam.getByTestId('checklists')).toContainText('Opening');
  await switchNetwork(sam, false);
  await handIn(sam, 'Opening');
  await handIn(sam, 'Opening');
  await expect(sam.getByTestId('submission')).toHaveCount(2);
  expect(await stored(server, 'submissions')).toEqual([]);
  await switchNetwork(sam, true);
  await eventually(async () => (await stored(server, 'submissions')).map(({ status }) => status)).toEqual(['completed', 'completed']);
  expect(await stored(server, 'submission_answers')).toHaveLength(2);
  await expect(part(sam, 'status')).toHaveText('All synced');
  await expect(part(sam, 'pending').first()).toHaveText('Nothing waiting');
});

test('insight scenarios 1, 2: a device that is new fetches everything, and after that only what changed', async ({ server, newDevice }) => {
  const { mia, sam } = await both(server, newDevice);
  await newForm(mia, 'Opening', ['Lights on']);
  await expect(sam.getByTestId('checklists')).toContainText('Opening');
  const third = await newDevice(server.origin, desktop);
  const pulled = [];
  third.context.on('response', async (response) => response.url().endsWith('/v1/sync/pull') && pulled.push(await response.json().catch(() => null)));
  const page = await openInsight(third, 'sam', 'submissions');
  await expect(page.getByTestId('checklists')).toContainText('Opening');
  pulled.length = 0;
  await newForm(mia, 'Closing', ['Lights off']);
  await expect(page.getByTestId('checklists')).toContainText('Closing');
  // The page may show it before the test has its copy of the answer.
  await eventually(() => JSON.stringify(pulled)).toContain('Closing');
  expect(JSON.stringify(pulled)).not.toContain('Opening');
});

test('insight scenario 3: of two changes of one number the later one stands, whatever arrives first, and the earlier one’s author is told', async ({ server, newDevice }) => {
  const { mia, sam } = await both(server, newDevice);
  await write(mia, [kpi('Sales', 1)]);
  await eventually(() => count(sam, 'kpi_data')).toBe(1);
  await Promise.all([switchNetwork(mia, false), switchNetwork(sam, false)]);
  const change = (page, value) => page.evaluate((value) => landfallDemo.db.collection('kpi_data').update('Sales', { value }), value);
  await change(mia, 10);
  await change(sam, 20);
  await switchNetwork(sam, true);
  await eventually(async () => (await stored(server, 'kpi_data'))[0].value).toBe(20);
  await switchNetwork(mia, true);
  const conflict = mia.locator('landfall-conflicts');
  await expect(part(conflict, 'local')).toHaveText('10');
  await expect(part(conflict, 'server')).toHaveText('20');
  expect((await stored(server, 'kpi_data'))[0].value).toBe(20);
});

test('insight scenarios 4, 8: a queue meets failures of the server, waits as told, and is processed without a click', async ({ server, newDevice }) => {
  const { sam } = await both(server, newDevice);
  await switchNetwork(sam, false);
  await write(sam, Array.from({ length: 20 }, (_, i) => kpi(`k${String(i).padStart(2, '0')}`, i)));
  await server.failPushes({ status: 503, count: 2, retryAfterSeconds: 1 });
  await switchNetwork(sam, true);
  await eventually(async () => (await stored(server, 'kpi_data')).length).toBe(20);
  await expect(part(sam, 'status')).toHaveText('All synced');
  const { audit } = await server.ledger('sam');
  expect(audit).toHaveLength(20);
});

test('insight scenario 5: the network is interrupted while it syncs, and what arrived is not sent again', async ({ server, newDevice }) => {
  const { sam } = await both(server, newDevice);
  await switchNetwork(sam, false);
  await write(sam, Array.from({ length: 30 }, (_, i) => kpi(`k${i}`, i)));
  let cut = false;
  // The server takes it, and its answer is lost.
  await sam.route('**/v1/sync/push', async (route) => {
    if (cut) return route.continue();
    cut = true;
    await route.fetch();
    await route.abort('connectionreset');
  });
  await switchNetwork(sam, true);
  await expect(part(sam, 'status')).toHaveText('All synced');
  expect(cut).toBe(true);
  const { audit } = await server.ledger('sam');
  expect(audit).toHaveLength(30);
});

test('insight scenarios 6, 7: several hundred records of two devices at once end alike on both and at the server', async ({ server, newDevice }) => {
  const { mia, sam } = await both(server, newDevice);
  const of = (who) => Array.from({ length: 150 }, (_, i) => kpi(`${who}-${i}`, i));
  await Promise.all([write(mia, of('mia')), write(sam, of('sam'))]);
  await eventually(async () => (await stored(server, 'kpi_data')).length, 60_000).toBe(300);
  const wanted = (await stored(server, 'kpi_data')).map(canonical).sort();
  const all = (page) => page.evaluate(() => landfallDemo.db.collection('kpi_data').query().get());
  for (const page of [mia, sam]) await eventually(async () => (await all(page)).map(canonical).sort()).toEqual(wanted);
});

test('insight: a store has no manager’s tables and cannot write its forms, and the server says so', async ({ server, newDevice }) => {
  const { mia, sam } = await both(server, newDevice);
  await mia.getByTestId('tab-settings').click();
  await mia.getByTestId('setting-goal').fill('5');
  await mia.getByTestId('setting-goal').blur();
  await eventually(async () => (await stored(server, 'settings')).length).toBe(1);
  await expect(sam.getByTestId('tab-settings')).toHaveCount(0);
  await expect(sam.getByTestId('tab-forms')).toHaveCount(0);
  expect(await sam.evaluate(() => {
    try {
      return landfallDemo.db.collection('settings') && 'there';
    } catch ({ code }) {
      return code;
    }
  })).toBe('unknown_collection');
  await write(sam, [['forms', { id: 'forged', store_id: 'demo', title: 'Forged' }]]);
  await expect(part(sam.locator('landfall-pending'), 'item')).toHaveAttribute('data-state', 'parked');
  expect(await stored(server, 'forms')).toEqual([]);
});

test('insight: pulling down on a phone refreshes, and so does the button', async ({ server, newDevice }) => {
  const { sam } = await both(server, newDevice);
  await sam.getByTestId('refresh').click();
  await expect(sam.getByTestId('refreshed')).toHaveText('Nothing new.');
  const pulls = [];
  sam.on('request', (request) => request.url().endsWith('/v1/sync/pull') && pulls.push(request));
  const touch = await sam.context().newCDPSession(sam);
  await touch.send('Input.dispatchTouchEvent', { type: 'touchStart', touchPoints: [{ x: 200, y: 120 }] });
  await touch.send('Input.dispatchTouchEvent', { type: 'touchMove', touchPoints: [{ x: 200, y: 260 }] });
  await touch.send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] });
  await eventually(() => pulls.length).toBeGreaterThan(0);
});

for (const [name, size] of Object.entries(looks)) {
  test(`insight: axe-core finds nothing on a ${name}, as manager in every tab and as store with a checklist open`, async ({ server, newDevice }) => {
    const mia = await openInsight(await newDevice(server.origin, size), 'mia', 'forms');
    await newForm(mia, 'Opening', ['Lights on']);
    for (const tab of ['forms', 'submissions', 'analytics', 'team', 'settings', 'sync']) {
      await mia.getByTestId(`tab-${tab}`).click();
      expect(await violations(mia)).toEqual([]);
      expect(await sticksOut(mia)).toBe(0);
    }
    const sam = await openInsight(await newDevice(server.origin, size), 'sam', 'submissions');
    await sam.getByRole('button', { name: 'Fill in Opening' }).click();
    await expect(sam.getByTestId('checklist-dialog')).toBeVisible();
    expect(await violations(sam)).toEqual([]);
  });
}
