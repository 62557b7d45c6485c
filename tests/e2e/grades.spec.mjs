// The grades page: the seven test cases of its document, and what its other sections ask of the page.

import { gunzipSync } from 'node:zlib';
import { desktop, looks, offlineWords, openPage, pagesSend, part, phone, pick, sticksOut, switchNetwork, violations } from './support/page.mjs';
import { eventually, expect, test } from './support/test.mjs';

const scope = 'school:demo';
const scores = async (server) => Object.fromEntries((await server.records(scope, 'student_ecr_item_scores')).map(({ fields }) => [`${fields.student_id} ${fields.ecr_item_id}`, fields.score]));
const grades = async (server) => Object.fromEntries((await server.records(scope, 'student_running_grades')).map(({ fields }) => [fields.student_id, fields.grade]));
const line = (page, student, sheet = 'scores') => page.getByTestId(`sheet-${sheet}`).locator(`[data-student="${student}"]`);
const cell = (page, student, sheet) => line(page, student, sheet).getByTestId('cell');
const state = (page, student) => line(page, student).getByTestId('record-state');

async function openClass(device, signedIn = false) {
  const page = await openPage(device, '/grades/');
  if (!signedIn) await pick(page, 'tess');
  await expect(part(page, 'status')).toHaveText('All synced');
  return page;
}

async function enter(page, student, score, sheet) {
  await cell(page, student, sheet).fill(String(score));
  await cell(page, student, sheet).press('Enter');
}

function pushes(page) {
  const bodies = [];
  page.on('request', (request) => {
    if (!request.url().endsWith('/v1/sync/push')) return;
    const bytes = request.postDataBuffer();
    bodies.push({ gzip: bytes[0] === 0x1f, ...JSON.parse(String(bytes[0] === 0x1f ? gunzipSync(bytes) : bytes)) });
  });
  return bodies;
}

test('grades case 1: a score that was edited offline has its state in its row and is synced when online', async ({ server, newDevice }) => {
  const page = await openClass(await newDevice(server.origin, phone));
  await switchNetwork(page, false);
  await enter(page, 's-01', 18);
  await expect(state(page, 's-01')).toHaveText('Waiting to sync');
  await expect(part(page, 'pending').first()).toHaveText('1 change waiting');
  await expect(part(page, 'offline-message')).toHaveText(offlineWords);
  await page.reload();
  await expect(cell(page, 's-01')).toHaveValue('18');
  await expect(state(page, 's-01')).toHaveText('Waiting to sync');
  expect(await scores(server)).toEqual({});
  await switchNetwork(page, true);
  await expect(state(page, 's-01')).toHaveText('Synced');
  expect(await scores(server)).toEqual({ 's-01 quiz-1': 18 });
});

test('grades case 2: an edit while another is being synced is queued behind it, and the last one stands', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, desktop);
  await pagesSend(device);
  const page = await openClass(device);
  // The first push is held at the door while the second edit is made.
  let release;
  const held = new Promise((done) => (release = done));
  let pushed = 0;
  await page.route('**/v1/sync/push', async (route) => {
    if (pushed++ === 0) await held;
    await route.continue();
  });
  await enter(page, 's-02', 10);
  await expect(state(page, 's-02')).toHaveText('Syncing');
  await enter(page, 's-02', 12);
  release();
  await expect(state(page, 's-02')).toHaveText('Synced');
  await expect(cell(page, 's-02')).toHaveValue('12');
  await eventually(() => scores(server)).toEqual({ 's-02 quiz-1': 12 });
});

test('grades case 3: many rapid edits go in one request, and of one cell only the last value', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, desktop);
  await pagesSend(device);
  const page = await openClass(device);
  const sent = pushes(page);
  await switchNetwork(page, false);
  for (const score of [1, 2, 3, 4, 5]) await enter(page, 's-03', score);
  await page.getByTestId('tab-grades').click();
  await page.getByTestId('fill-grades').fill('80');
  await page.getByTestId('fill-grades-go').click();
  await expect(cell(page, 's-08', 'grades')).toHaveValue('80');
  await switchNetwork(page, true);
  await eventually(async () => (await server.records(scope, 'student_running_grades')).length).toBe(8);
  await eventually(() => scores(server)).toEqual({ 's-03 quiz-1': 5 });
  const mutations = sent.flatMap(({ mutations }) => mutations);
  // Thirteen edits: the first of a cell was ready to be sent when the network went, the other four became one.
  expect(mutations.length).toBeLessThanOrEqual(10);
  expect(sent.length).toBeLessThanOrEqual(2);
});

test('grades case 4: the connection drops in the middle of a sync, which goes on after the last part that arrived', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, desktop);
  await pagesSend(device);
  const page = await openClass(device);
  await switchNetwork(page, false);
  await page.evaluate(() => Promise.all(Array.from({ length: 120 }, (_, i) => landfallDemo.db.collection('student_ecr_item_scores').put({ id: `x${i}`, school_id: 'demo', student_id: `x${i}`, ecr_item_id: 'exam', score: i % 100 }))));
  const answered = [];
  let dropped = false;
  await page.route('**/v1/sync/push', async (route) => {
    if (answered.length === 1 && !dropped) {
      dropped = true;
      return route.abort('connectionreset');
    }
    answered.push(route.request());
    await route.continue();
  });
  await switchNetwork(page, true);
  await eventually(async () => Object.keys(await scores(server)).length).toBe(120);
  expect(dropped).toBe(true);
  const { audit } = await server.ledger('tess');
  expect(audit).toHaveLength(120);
});

test('grades case 5: of two devices that edit one score the later edit stands; the earlier is shown beside it, kept by hand one by one or for all at once', async ({ server, newDevice }) => {
  const [first, second] = await Promise.all([newDevice(server.origin, desktop), newDevice(server.origin, desktop)]);
  const [early, late] = await Promise.all([openClass(first), openClass(second)]);
  const all = (score) => ({ 's-01 quiz-1': score, 's-02 quiz-1': score, 's-03 quiz-1': score });
  for (const student of ['s-01', 's-02', 's-03']) await enter(early, student, 5);
  await expect(state(late, 's-03')).toHaveText('Synced');
  await expect(part(early, 'status')).toHaveText('All synced');
  await Promise.all([switchNetwork(early, false), switchNetwork(late, false)]);
  for (const student of ['s-01', 's-02', 's-03']) {
    await enter(early, student, 7);
    await enter(late, student, 9);
  }
  await switchNetwork(late, true);
  await eventually(() => scores(server)).toEqual(all(9));
  // It arrives later and was made earlier.
  await switchNetwork(early, true);
  const list = early.locator('landfall-conflicts');
  await expect(list).toHaveAttribute('data-count', '3');
  await expect(part(list, 'local').first()).toHaveText('7');
  await expect(part(list, 'server').first()).toHaveText('9');
  expect(await scores(server)).toEqual(all(9));
  expect(await violations(early)).toEqual([]);
  await part(part(list, 'item').filter({ hasText: 'Alvarez' }), 'keep-local').click();
  await eventually(async () => (await scores(server))['s-01 quiz-1']).toBe(7);
  await expect(list).toHaveAttribute('data-count', '2');
  await part(list, 'all-server').click();
  await expect(list).toBeHidden();
  await expect(part(early, 'status')).toHaveText('All synced');
  expect(await scores(server)).toEqual({ ...all(9), 's-01 quiz-1': 7 });
});

/** Two teachers' devices at the same running grades; the first one's changes are at the server before the second one is back online. */
async function twoTeachers(server, newDevice, before, [theirs, mine]) {
  const [first, second] = await Promise.all([newDevice(server.origin, desktop), newDevice(server.origin, desktop)]);
  const [there, here] = await Promise.all([openClass(first), openClass(second)]);
  for (const page of [there, here]) await page.getByTestId('tab-grades').click();
  for (const [student, grade] of Object.entries(before)) await enter(there, student, grade, 'grades');
  await eventually(() => grades(server)).toEqual(before);
  for (const [student, grade] of Object.entries(before)) await expect(cell(here, student, 'grades')).toHaveValue(String(grade));
  await Promise.all([switchNetwork(there, false), switchNetwork(here, false)]);
  for (const [student, grade] of Object.entries(theirs)) await enter(there, student, grade, 'grades');
  for (const [student, grade] of Object.entries(mine)) await enter(here, student, grade, 'grades');
  await switchNetwork(there, true);
  await eventually(() => grades(server)).toEqual({ ...before, ...theirs });
  await switchNetwork(here, true);
  return { there, here, list: here.locator('landfall-conflicts') };
}

test('grades case 5: a running grade that somebody else changed first is the teacher’s choice before anything is written: local, server, merged, or all at once', async ({ server, newDevice }) => {
  const before = { 's-01': 70, 's-02': 70, 's-03': 70, 's-04': 70 };
  const theirs = { 's-01': 81, 's-02': 82, 's-03': 83, 's-04': 84, 's-05': 85 };
  // The last one is made on both devices: two new records of one grade.
  const { here, there, list } = await twoTeachers(server, newDevice, before, [theirs, { 's-01': 91, 's-02': 92, 's-03': 93, 's-04': 94, 's-05': 95 }]);
  await expect(list).toHaveAttribute('data-count', '5');
  // Theirs stand, here too; mine are kept beside them and nothing of it is written.
  expect(await grades(server)).toEqual(theirs);
  await expect(cell(here, 's-05', 'grades')).toHaveValue('85');
  await expect(line(here, 's-05', 'grades').getByTestId('cell-hint')).toHaveText('Yours is 95: please choose');
  await expect(part(here, 'status')).toHaveText('5 need attention');
  expect(await violations(here)).toEqual([]);
  const item = (name) => part(list, 'item').filter({ hasText: name });
  await expect(item('Alvarez')).toContainText('Nothing is overwritten until you choose.');
  await expect(part(item('Alvarez'), 'local')).toHaveText('91');
  await expect(part(item('Alvarez'), 'server')).toHaveText('81');
  await here.reload();
  await expect(list).toHaveAttribute('data-count', '5');
  expect(await grades(server)).toEqual(theirs);

  await part(item('Alvarez'), 'keep-local').press('Enter');
  await eventually(() => grades(server)).toEqual({ ...theirs, 's-01': 91 });
  // By keyboard one goes on with the next one, without a way back to the list.
  await expect(item('Bautista')).toBeFocused();
  await here.keyboard.press('Tab');
  await expect(part(item('Bautista'), 'keep-server')).toBeFocused();
  await here.keyboard.press('Enter');
  await expect(list).toHaveAttribute('data-count', '3');
  await part(item('Castro'), 'review').click();
  await expect(part(list, 'dialog')).toBeVisible();
  expect(await violations(here)).toEqual([]);
  await part(part(list, 'dialog'), 'pick-local').check();
  await part(list, 'save-merged').click();
  await eventually(() => grades(server)).toEqual({ ...theirs, 's-01': 91, 's-03': 93 });
  await expect(list).toHaveAttribute('data-count', '2');
  await part(list, 'all-local').click();
  const chosen = { 's-01': 91, 's-02': 82, 's-03': 93, 's-04': 94, 's-05': 95 };
  await eventually(() => grades(server)).toEqual(chosen);
  await expect(list).toBeHidden();
  await expect(part(here, 'status')).toHaveText('All synced');
  for (const page of [here, there]) for (const [student, grade] of Object.entries(chosen)) await expect(cell(page, student, 'grades')).toHaveValue(String(grade));
});

test('grades: while a running grade waits for a choice its cell takes no number, also not with everybody’s, and is free again after it', async ({ server, newDevice }) => {
  const { here } = await twoTeachers(server, newDevice, { 's-01': 70 }, [{ 's-01': 80 }, { 's-01': 90 }]);
  await expect(line(here, 's-01', 'grades').getByTestId('cell-hint')).toHaveText('Yours is 90: please choose');
  await expect(cell(here, 's-01', 'grades')).toHaveAttribute('readonly');
  await here.getByTestId('fill-grades').fill('75');
  await here.getByTestId('fill-grades-go').click();
  const others = Object.fromEntries(['s-02', 's-03', 's-04', 's-05', 's-06', 's-07', 's-08'].map((student) => [student, 75]));
  await eventually(() => grades(server)).toEqual({ 's-01': 80, ...others });
  await expect(line(here, 's-01', 'grades').getByTestId('cell-hint')).toHaveText('Not saved: somebody else was first, please choose');
  await here.getByTestId('tab-queue').click();
  await expect(here.getByTestId('queue')).toContainText('Somebody else was first: please choose');
  await here.getByTestId('tab-grades').click();
  await part(here.locator('landfall-conflicts'), 'keep-server').click();
  await expect(line(here, 's-01', 'grades').getByTestId('cell-hint')).toHaveText('');
  await enter(here, 's-01', 88, 'grades');
  await eventually(async () => (await grades(server))['s-01']).toBe(88);
});

test('grades case 6: a thousand edits are sent in parts of fifty, compressed, while the page answers', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, desktop);
  await pagesSend(device);
  const page = await openClass(device);
  const sent = pushes(page);
  await switchNetwork(page, false);
  await page.evaluate(() => Promise.all(Array.from({ length: 1000 }, (_, i) => landfallDemo.db.collection('student_ecr_item_scores').put({ id: `x${i}`, school_id: 'demo', student_id: `x${i}`, ecr_item_id: 'exam', score: i % 100 }))));
  await switchNetwork(page, true);
  await enter(page, 's-04', 11);
  await eventually(async () => Object.keys(await scores(server)).length, 60_000).toBe(1001);
  const large = sent.filter(({ mutations }) => mutations.length > 20);
  expect(Math.max(...sent.map(({ mutations }) => mutations.length))).toBeLessThanOrEqual(50);
  expect(large.every(({ gzip }) => gzip)).toBe(true);
});

test('grades case 7: after a long time offline only what changed is fetched', async ({ server, newDevice }) => {
  const [first, second] = await Promise.all([newDevice(server.origin, desktop), newDevice(server.origin, desktop)]);
  const [here, there] = await Promise.all([openClass(first), openClass(second)]);
  await here.evaluate(() => Promise.all(Array.from({ length: 300 }, (_, i) => landfallDemo.db.collection('student_ecr_item_scores').put({ id: `x${i}`, school_id: 'demo', student_id: `x${i}`, ecr_item_id: 'exam', score: 1 }))));
  await eventually(() => there.evaluate(() => landfallDemo.db.collection('student_ecr_item_scores').query().count())).toBe(300);
  await there.close();
  await enter(here, 's-05', 14);
  await expect(state(here, 's-05')).toHaveText('Synced');
  const pulled = [];
  second.context.on('response', async (response) => response.url().endsWith('/v1/sync/pull') && pulled.push(await response.json().catch(() => null)));
  const again = await openClass(second, true);
  await expect(cell(again, 's-05')).toHaveValue('14');
  const changes = () => pulled.filter(Boolean).flatMap((body) => Object.values(body.changes ?? {}).flat());
  // The page may show it before the test has its copy of the answer.
  await eventually(() => changes().some(({ fields }) => fields.score === 14)).toBe(true);
  expect(changes().length).toBeLessThan(10);
});

test('grades: what the server refuses stays in its cell with the reason, and is mended there', async ({ server, newDevice }) => {
  const page = await openClass(await newDevice(server.origin, phone));
  await enter(page, 's-06', -1);
  await expect(line(page, 's-06').getByTestId('cell-hint')).toContainText('Not saved');
  await enter(page, 's-06', 1500);
  await expect(line(page, 's-06').getByTestId('cell-hint')).toHaveText('Refused: must be at most 1000');
  await expect(cell(page, 's-06')).toHaveValue('1500');
  await expect(part(page, 'status')).toHaveText('1 needs attention');
  await page.getByTestId('tab-queue').click();
  await expect(page.getByTestId('queue').locator('tbody tr')).toHaveAttribute('data-status', 'failed');
  await expect(page.getByTestId('queue')).toContainText('Score must be at most 1000');
  await page.getByTestId('tab-scores').click();
  await enter(page, 's-06', 15);
  await expect(state(page, 's-06')).toHaveText('Synced');
  await expect(part(page, 'status')).toHaveText('All synced');
  expect(await scores(server)).toEqual({ 's-06 quiz-1': 15 });
});

test('grades: what arrives while a cell is marked to be typed over leaves it marked, and what is typed is what is stored', async ({ server, newDevice }) => {
  const [first, second] = await Promise.all([newDevice(server.origin, desktop), newDevice(server.origin, desktop)]);
  const [here, there] = await Promise.all([openClass(first), openClass(second)]);
  await enter(here, 's-01', 5);
  await expect(state(there, 's-01')).toHaveText('Synced');
  await cell(here, 's-01').selectText();
  await enter(there, 's-01', 7);
  await eventually(() => here.evaluate(async () => (await landfallDemo.db.collection('student_ecr_item_scores').get('s-01.quiz-1')).score)).toBe(7);
  await here.keyboard.type('9');
  await expect(cell(here, 's-01')).toHaveValue('9');
  await here.keyboard.press('Enter');
  await expect(cell(there, 's-01')).toHaveValue('9');
  expect(await scores(server)).toEqual({ 's-01 quiz-1': 9 });
});

test('grades: Sync Now shows its progress and says what it did', async ({ server, newDevice }) => {
  const page = await openClass(await newDevice(server.origin, desktop));
  await part(page, 'sync-now').click();
  await expect(part(page, 'result')).toHaveText('Everything was up to date.');
  await expect(part(page, 'last-sync')).toContainText('Synced');
});

for (const [name, size] of Object.entries(looks)) {
  test(`grades: axe-core finds nothing on a ${name}, in every tab`, async ({ server, newDevice }) => {
    const page = await openClass(await newDevice(server.origin, size));
    await enter(page, 's-01', 18);
    await expect(state(page, 's-01')).toHaveText('Synced');
    for (const tab of ['scores', 'grades', 'queue']) {
      await page.getByTestId(`tab-${tab}`).click();
      expect(await violations(page)).toEqual([]);
      expect(await sticksOut(page)).toBe(0);
    }
  });
}
