// The attendance page, as a person uses it.

import { password } from './support/device.mjs';
import { desktop, offlineWords, openPage, part, phone, pick, violations } from './support/page.mjs';
import { eventually, expect, test } from './support/test.mjs';

const openApp = (device) => openPage(device, '/attendance/');

async function signIn(page) {
  await pick(page, 'ada');
  await expect(part(page, 'status')).toHaveText('All synced');
}

const attendance = async (server) => (await server.records('user:ada', 'attendance')).map(({ fields }) => fields);

/** The value that a `datetime-local` field shows for an instant, in the page's own time zone. */
const local = (page, instant) => page.evaluate((instant) => {
  const at = new Date(instant);
  return new Date(at - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}, instant);

/** Offline both write a note on one record; the first device is back first. */
async function bothWrite(server, [first, second], [here, there]) {
  await Promise.all([first.offline(), second.offline()]);
  for (const [page, note] of [[here, 'From here'], [there, 'From there']]) {
    await page.getByTestId('note').fill(note);
    await page.getByTestId('note').blur();
    await expect(page.getByTestId('record-note')).toHaveText(note);
  }
  await first.offline(false);
  await eventually(async () => (await attendance(server))[0].note).toBe('From here');
  await second.offline(false);
}

test('attendance: l1 l5: clocked in offline, reloaded offline, synced when the network returns, synced on demand', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, phone);
  const page = await openApp(device);
  await signIn(page);
  await expect(page.getByTestId('records-empty')).toBeVisible();

  await device.offline();
  await expect(part(page, 'offline-message')).toHaveText(offlineWords);
  await page.getByTestId('note').fill('Early shift');
  await page.getByRole('button', { name: 'Clock in' }).click();
  const record = page.getByTestId('record');
  await expect(record).toHaveCount(1);
  await expect(record.getByTestId('record-state')).toHaveText('Waiting to sync');
  await expect(record.getByTestId('record-note')).toHaveText('Early shift');
  await expect(part(page, 'pending')).toHaveText('1 change waiting');
  await expect(page.getByRole('button', { name: 'Clock out' })).toBeVisible();

  await page.reload();
  await expect(part(page, 'offline-message')).toHaveText(offlineWords);
  await expect(record.getByTestId('record-state')).toHaveText('Waiting to sync');
  await expect(part(page, 'status')).toHaveText('You are offline');
  await part(page, 'sync-now').click();
  await expect(part(page, 'result')).toHaveText(offlineWords);
  await page.getByRole('button', { name: 'Clock out' }).click();
  await expect(page.getByRole('button', { name: 'Clock in' })).toBeVisible();
  expect(await attendance(server)).toEqual([]);

  await device.offline(false);
  await expect(record.getByTestId('record-state')).toHaveText('Synced');
  await expect(part(page, 'offline-message')).toHaveCount(0);
  await expect(part(page, 'status')).toHaveText('All synced');
  await expect(part(page, 'pending')).toHaveText('Nothing waiting');
  const [stored] = await attendance(server);
  expect(stored).toMatchObject({ note: 'Early shift', conflict_resolution_strategy: 'server_wins', metadata: { app_version: '1.0.0' } });
  expect(Date.parse(stored.clock_out)).toBeGreaterThan(Date.parse(stored.clock_in));

  await part(page, 'sync-now').click();
  await expect(part(page, 'result')).toHaveText('Everything was up to date.');
  await expect(part(page, 'last-sync')).toContainText('Synced');
});

test('attendance: c3: a shift that ends before it began is refused with the field and the reason, mended and synced', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, desktop);
  const page = await openApp(device);
  await signIn(page);
  await page.getByRole('button', { name: 'Clock in' }).click();
  const record = page.getByTestId('record');
  await expect(record.getByTestId('record-state')).toHaveText('Synced');

  await record.getByTestId('record-edit').click();
  await page.getByTestId('edit-clock-out').fill(await local(page, Date.now() - 3_600_000));
  await expect(page.getByTestId('edit-hint')).toHaveText('Clock out is before clock in; the server will refuse it.');
  await page.getByTestId('edit-save').click();
  const item = page.getByTestId('attention-item');
  await expect(item).toHaveCount(1);
  await expect(item.getByTestId('attention-field')).toHaveText('Clock out');
  await expect(item.getByTestId('attention-reason')).toHaveText('must be later than the clock-in');
  await expect(part(page, 'status')).toHaveText('1 needs attention');
  // Rolled back: the shift still runs, here as at the server.
  await expect(page.getByRole('button', { name: 'Clock out' })).toBeVisible();
  expect(await violations(page)).toEqual([]);

  await item.getByTestId('attention-edit').click();
  await expect(page.getByTestId('edit-clock-out')).toHaveAttribute('aria-invalid', 'true');
  expect(await violations(page)).toEqual([]);
  await page.getByTestId('edit-clock-out').fill(await local(page, Date.now() + 120_000));
  await page.getByTestId('edit-save').click();
  await expect(item).toHaveCount(0);
  await expect(record.getByTestId('record-state')).toHaveText('Synced');
  await expect(part(page, 'status')).toHaveText('All synced');
  await eventually(async () => (await attendance(server)).map(({ clock_in, clock_out }) => Date.parse(clock_out) > Date.parse(clock_in))).toEqual([true]);
});

test('attendance: everything on the way can be reached and used with the keyboard alone', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, desktop);
  const page = await openApp(device);
  const focused = () => page.evaluate(() => {
    let active = document.activeElement;
    while (active?.shadowRoot?.activeElement) active = active.shadowRoot.activeElement;
    return active?.dataset?.testid ?? active?.getAttribute('part') ?? active?.className ?? '';
  });
  const tabTo = async (name) => {
    const passed = [];
    while ((await focused()) !== name) {
      await page.keyboard.press('Tab');
      passed.push(await focused());
      expect(passed.length, `${name} is not reached: ${passed.join(' ')}`).toBeLessThan(40);
    }
  };
  await page.keyboard.press('Tab');
  expect(await focused()).toBe('skip-link');
  await tabTo('login-by-name');
  await page.keyboard.press('Enter');
  await tabTo('login-user');
  await page.keyboard.type('ada');
  await tabTo('login-password');
  await page.keyboard.type('wrong');
  await page.keyboard.press('Enter');
  await expect(page.getByTestId('login-error')).toHaveText('User name or password is not right.');
  await tabTo('login-password');
  await page.keyboard.press('ControlOrMeta+A');
  await page.keyboard.type(password);
  await page.keyboard.press('Enter');
  await expect(part(page, 'status')).toHaveText('All synced');
  await tabTo('clock-button');
  await page.keyboard.press('Enter');
  await expect(page.getByRole('button', { name: 'Clock out' })).toBeVisible();
  await expect(page.locator('#announcer')).toContainText('Clocked in at');
  await tabTo('record-edit');
  await page.keyboard.press('Enter');
  await expect(page.getByTestId('edit-dialog')).toBeVisible();
  await tabTo('edit-note');
  await page.keyboard.type('By keyboard');
  await tabTo('edit-save');
  await page.keyboard.press('Space');
  await expect(page.getByTestId('edit-dialog')).toHaveCount(0);
  await expect(page.getByTestId('record-note')).toHaveText('By keyboard');
  expect(await focused()).toBe('record-edit');
  await tabTo('sync-now');
  await page.keyboard.press('Enter');
  await expect(part(page, 'result')).toBeVisible();
  await eventually(async () => (await attendance(server)).map(({ note }) => note)).toEqual(['By keyboard']);
});

for (const [name, size] of Object.entries({ phone, desktop, 'dark phone': { ...phone, colorScheme: 'dark' } })) {
  test(`attendance: axe-core finds nothing on a ${name}, signed out, online and offline`, async ({ server, newDevice }, testInfo) => {
    const device = await newDevice(server.origin, size);
    const page = await openApp(device);
    await expect(page.getByTestId('login-screen')).toBeVisible();
    expect(await violations(page)).toEqual([]);
    await signIn(page);
    await page.getByRole('button', { name: 'Clock in' }).click();
    await expect(page.getByTestId('record-state')).toHaveText('Synced');
    expect(await violations(page)).toEqual([]);
    await device.offline();
    await page.getByRole('button', { name: 'Clock out' }).click();
    await page.getByRole('button', { name: 'Clock in' }).click();
    await expect(page.getByTestId('record')).toHaveCount(2);
    await expect(part(page, 'offline-message')).toBeVisible();
    expect(await violations(page)).toEqual([]);
    // Nothing sticks out at the side.
    expect(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)).toBe(0);
    await page.screenshot({ path: testInfo.outputPath(`attendance-${name.replace(' ', '-')}.png`), fullPage: true });
    await page.getByTestId('menu-button').click();
    expect(await violations(page)).toEqual([]);
    await page.getByTestId('log-out').click();
    await expect(page.getByTestId('logout-dialog')).toBeVisible();
    expect(await violations(page)).toEqual([]);
  });
}

test('attendance: e: c2: a record that somebody else changed first says so and keeps what was not taken', async ({ server, newDevice }) => {
  const [first, second] = await Promise.all([newDevice(server.origin, desktop), newDevice(server.origin, phone)]);
  const [here, there] = await Promise.all([openApp(first), openApp(second)]);
  await Promise.all([signIn(here), signIn(there)]);
  await here.getByRole('button', { name: 'Clock in' }).click();
  await expect(there.getByTestId('record-state')).toHaveText('Synced');
  await bothWrite(server, [first, second], [here, there]);
  const conflicts = there.locator('landfall-conflicts');
  await expect(part(conflicts, 'local')).toHaveText('From there');
  await expect(part(conflicts, 'server')).toHaveText('From here');
  await expect(there.getByTestId('record-note')).toHaveText('From here');
  expect(await violations(there)).toEqual([]);
  await part(conflicts, 'keep-local').click();
  await expect(here.getByTestId('record-note')).toHaveText('From there');
  await expect(conflicts).toBeHidden();
});

test('attendance: a record says itself whose change stands: with client_wins the one that arrives later does', async ({ server, newDevice }) => {
  const [first, second] = await Promise.all([newDevice(server.origin, desktop), newDevice(server.origin, phone)]);
  const [here, there] = await Promise.all([openApp(first), openApp(second)]);
  await Promise.all([signIn(here), signIn(there)]);
  await here.getByRole('button', { name: 'Clock in' }).click();
  await expect(there.getByTestId('record-state')).toHaveText('Synced');
  await here.getByTestId('record-edit').click();
  await here.getByTestId('edit-strategy').selectOption('client_wins');
  await here.getByTestId('edit-save').click();
  await eventually(async () => (await attendance(server))[0].conflict_resolution_strategy).toBe('client_wins');
  await expect(part(here, 'status')).toHaveText('All synced');
  await eventually(() => there.evaluate(async () => (await landfallDemo.db.collection('attendance').query().get())[0].conflict_resolution_strategy)).toBe('client_wins');
  await bothWrite(server, [first, second], [here, there]);
  await expect(here.getByTestId('record-note')).toHaveText('From there');
  expect((await attendance(server))[0].note).toBe('From there');
  await expect(there.locator('landfall-conflicts')).toBeHidden();
});

for (const [name, size] of Object.entries({ phone, desktop })) {
  test(`attendance: on a ${name} an administrator sees what waits, what lost, what fails and on which device, and nobody else does`, async ({ server, newDevice }) => {
    const [first, second, office] = await Promise.all([newDevice(server.origin, size), newDevice(server.origin, desktop), newDevice(server.origin, size)]);
    const [here, there] = [await openApp(first), await openApp(second)];
    for (const page of [here, there]) await signIn(page);
    await expect(here.getByTestId('tab-admin')).toHaveCount(0);
    await here.getByRole('button', { name: 'Clock in' }).click();
    await expect(there.getByTestId('record-state')).toHaveText('Synced');
    await bothWrite(server, [first, second], [here, there]);
    await part(there.locator('landfall-conflicts'), 'keep-server').click();
    await expect(there.locator('landfall-conflicts')).toBeHidden();
    await there.getByTestId('record-edit').click();
    await there.getByTestId('edit-clock-out').fill(await local(there, Date.now() - 3_600_000));
    await there.getByTestId('edit-save').click();
    await expect(there.getByTestId('attention-item')).toHaveCount(1);

    const page = await openApp(office);
    await pick(page, 'root-demo');
    await page.getByTestId('tab-admin').click();
    await expect(page.getByTestId('admin-conflicts')).toContainText('ada: attendance');
    await expect(page.getByTestId('admin-conflicts')).toContainText('Note: From there ↔ From here');
    await expect(page.getByTestId('admin-failures')).toContainText('Clock out');
    await expect(page.getByTestId('admin-devices').locator('.row')).not.toHaveCount(0);
    expect(await violations(page)).toEqual([]);
    expect(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)).toBe(0);
  });
}

test('attendance: c2: a record that asks for an administrator waits for one, who decides once, and its owner’s devices follow', async ({ server, newDevice }) => {
  const [own, office] = await Promise.all([newDevice(server.origin, phone), newDevice(server.origin, desktop)]);
  const page = await openApp(own);
  await signIn(page);
  // As a client of the older kind sends it: once as it was, then another one of the same shift, for review.
  const post = (clockOut, syncVersion, strategy) => page.evaluate(async (record) => {
    const { token } = await (await fetch('/auth/refresh', { method: 'POST' })).json();
    const response = await fetch('/api/attendance/sync', { method: 'POST', headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` }, body: JSON.stringify({ records: [record] }) });
    return response.json();
  }, { facilityId: 'main', clockIn: '2024-01-01T08:00:00Z', clockOut, deviceId: 'device_123', clientTimestamp: '2024-01-01T08:00:00Z', syncVersion, conflictResolutionStrategy: strategy });
  expect(await post('2024-01-01T17:00:00Z', 1, 'server_wins')).toMatchObject({ synced: 1, conflicts: 0 });
  expect(await post('2024-01-01T19:00:00Z', 7, 'manual')).toMatchObject({ synced: 0, conflicts: 1, data: { conflicts: [{ status: 'pending_review' }] } });
  await expect(page.getByTestId('record')).toHaveCount(1);
  expect((await attendance(server))[0].clock_out).toBe('2024-01-01T17:00:00Z');

  const admin = await openApp(office);
  await pick(admin, 'root-demo');
  await admin.getByTestId('tab-admin').click();
  const conflicts = admin.getByTestId('admin-conflicts');
  await expect(conflicts).toContainText('ada: attendance, pending review');
  expect(await violations(admin)).toEqual([]);
  await admin.getByTestId('decide-local').click();
  await expect(admin.getByTestId('decide-local')).toHaveCount(0);
  await eventually(async () => (await attendance(server))[0].clock_out).toBe('2024-01-01T19:00:00Z');
  await eventually(() => page.evaluate(async () => (await landfallDemo.db.collection('attendance').query().get())[0].clock_out)).toBe('2024-01-01T19:00:00Z');
});

test('attendance: with manual chosen on the page nobody’s change is lost and nobody’s is taken: both values wait for an administrator, and the loser is told', async ({ server, newDevice }) => {
  const [first, second, office] = await Promise.all([newDevice(server.origin, desktop), newDevice(server.origin, phone), newDevice(server.origin, desktop)]);
  const [here, there] = await Promise.all([openApp(first), openApp(second)]);
  await Promise.all([signIn(here), signIn(there)]);
  await here.getByRole('button', { name: 'Clock in' }).click();
  await expect(here.getByTestId('record-state')).toHaveText('Synced');
  await here.getByTestId('record-edit').click();
  await expect(here.getByTestId('edit-strategy').locator('option')).toHaveText(['What reached the server first stands', 'My change stands', 'An administrator decides']);
  await here.getByTestId('edit-strategy').selectOption('manual');
  await here.getByTestId('edit-save').click();
  await eventually(() => there.evaluate(async () => (await landfallDemo.db.collection('attendance').query().get())[0]?.conflict_resolution_strategy)).toBe('manual');
  await bothWrite(server, [first, second], [here, there]);
  const told = there.locator('landfall-conflicts');
  await expect(told).toContainText('An administrator decides which of both is to stand');
  await expect(part(told, 'local')).toHaveText('From there');
  await expect(there.getByTestId('record-note')).toHaveText('From here');
  await expect(part(told, 'keep-local')).toHaveCount(0);
  expect(await violations(there)).toEqual([]);
  const [waiting] = await server.records('user:ada', '_conflicts');
  expect(waiting.fields).toMatchObject({ status: 'pending', set: { note: 'From there' }, server: { note: 'From here' } });

  const admin = await openApp(office);
  await pick(admin, 'root-demo');
  await admin.getByTestId('tab-admin').click();
  await admin.getByTestId('decide-local').click();
  for (const page of [here, there]) await expect(page.getByTestId('record-note')).toHaveText('From there');
  await part(told, 'seen').click();
  await expect(told).toBeHidden();
  expect((await attendance(server))[0].note).toBe('From there');
});

test('attendance: c2: an administrator decides in the browser for the author, for the server, or field by field; who comes second is told, and what the first one said stands', async ({ server, newDevice }) => {
  const [first, second, office, otherOffice] = await Promise.all([phone, desktop, desktop, phone].map((size) => newDevice(server.origin, size)));
  const [here, there] = await Promise.all([openApp(first), openApp(second)]);
  await Promise.all([signIn(here), signIn(there)]);
  const times = (hour) => `2024-01-01T${hour}:00:00.000Z`;
  const change = (page, note, hour) => page.evaluate(async ([note, clock_out]) => {
    for (const id of ['a', 'b', 'c']) await landfallDemo.db.collection('attendance').update(id, { note, clock_out });
  }, [note, times(hour)]);
  await here.evaluate(([clock_in, clock_out]) => Promise.all(['a', 'b', 'c'].map((id) => landfallDemo.db.collection('attendance').put({ id, facility_id: 'main', clock_in, clock_out, note: id, conflict_resolution_strategy: 'manual' }))), [times('08'), times('16')]);
  await eventually(() => there.evaluate(() => landfallDemo.db.collection('attendance').query().count())).toBe(3);
  await Promise.all([first.offline(), second.offline()]);
  await change(here, 'Theirs', '17');
  await change(there, 'Mine', '19');
  await first.offline(false);
  await eventually(async () => (await attendance(server)).map(({ note }) => note)).toEqual(['Theirs', 'Theirs', 'Theirs']);
  await second.offline(false);
  await expect(there.locator('landfall-conflicts')).toHaveAttribute('data-count', '3');

  const admins = [];
  for (const device of [office, otherOffice]) {
    const page = await openApp(device);
    await pick(page, 'root-demo');
    admins.push(page);
  }
  const [one, two] = admins;
  // The second administrator's list is of before the first one's words, until he has spoken himself.
  let listed;
  let spoken = false;
  await two.route('**/v1/admin/conflicts', async (route) => {
    if (spoken) return route.continue();
    const response = await route.fetch();
    listed ??= await response.text();
    return route.fulfill({ response, body: listed });
  });
  await two.route('**/v1/admin/conflicts/decide', (route) => {
    spoken = true;
    return route.continue();
  });
  for (const page of admins) {
    await page.getByTestId('tab-admin').click();
    await expect(page.getByTestId('decide-local')).toHaveCount(3);
  }
  const record = async (id) => (({ note, clock_out }) => [note, clock_out])((await server.records('user:ada', 'attendance')).find((row) => row.id === id).fields);
  /** Which record the first row that waits is about: they were written at once, in no order that a person knows. */
  const ids = (await server.records('user:ada', '_conflicts')).map(({ id, fields }) => [id, fields.record_id]);
  const row = (page, recordId) => page.locator(`[data-key="review ${ids.find(([, about]) => about === recordId)[0]}"]`);

  await row(one, 'a').getByTestId('decide-local').click();
  await expect(one.getByTestId('decide-local')).toHaveCount(2);
  expect(await record('a')).toEqual(['Mine', times('19')]);
  await row(one, 'b').getByTestId('decide-server').click();
  await expect(one.getByTestId('decide-local')).toHaveCount(1);
  expect(await record('b')).toEqual(['Theirs', times('17')]);
  await row(one, 'c').getByTestId('decide-merged').click();
  expect(await violations(one)).toEqual([]);
  await one.getByTestId('merge-note-local').check();
  await one.getByTestId('decision-save').click();
  await expect(one.getByTestId('decide-local')).toHaveCount(0);
  expect(await record('c')).toEqual(['Mine', times('17')]);
  await expect(one.getByTestId('admin-conflicts')).toContainText('field by field, by root-demo');

  await row(two, 'c').getByTestId('decide-local').click();
  await expect(two.getByTestId('admin-said')).toHaveText('Somebody else has decided this already. What they decided stands.');
  await expect(two.getByTestId('decide-local')).toHaveCount(0);
  expect(await violations(two)).toEqual([]);
  expect(await record('c')).toEqual(['Mine', times('17')]);
  for (const page of [here, there]) await eventually(() => page.evaluate(async () => (await landfallDemo.db.collection('attendance').query({ orderBy: 'id' }).get()).map(({ note }) => note))).toEqual(['Mine', 'Theirs', 'Mine']);
});
