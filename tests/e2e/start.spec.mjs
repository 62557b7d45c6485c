// The start page and what all pages share: one sign-in, addresses that open offline, and a network switch that is honest.

import { desktop, looks, offlineWords, openPage, part, pick, sticksOut, switchNetwork, violations } from './support/page.mjs';
import { eventually, expect, test } from './support/test.mjs';

const attendance = async (server) => (await server.records('user:ada', 'attendance')).map(({ fields }) => fields.note);

async function clockIn(page, note) {
  await page.getByTestId('note').fill(note);
  await page.getByRole('button', { name: 'Clock in' }).click();
  await expect(page.getByTestId('record').first()).toBeVisible();
}

for (const [name, size] of Object.entries(looks)) {
  test(`start: axe-core finds nothing on a ${name}, and every system is one link away`, async ({ server, newDevice }) => {
    const device = await newDevice(server.origin, size);
    const page = await openPage(device, '/');
    const systems = page.locator('.system');
    await expect(systems.first()).toBeVisible();
    expect(await violations(page)).toEqual([]);
    expect(await sticksOut(page)).toBe(0);
    for (const link of await page.locator('.system__link').evaluateAll((links) => links.map(({ pathname, textContent }) => [pathname, textContent]))) {
      await page.goto(link[0]);
      await expect(page.getByRole('heading', { level: 1 })).toHaveText(link[1]);
    }
  });
}

test('start: every page opens offline after the first visit of any of them', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, desktop);
  const page = await openPage(device, '/');
  const addresses = await page.locator('.system__link').evaluateAll((links) => links.map(({ pathname }) => pathname));
  await device.offline();
  for (const address of addresses) {
    await page.goto(address);
    await expect(page.getByTestId('login-screen')).toBeVisible();
  }
  await page.goto('/');
  await expect(page.locator('.system')).toHaveCount(addresses.length);
});

test('network switch: what is switched off is off for push, pull and live, also for a worker that was started only now, and survives a reload', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, desktop);
  const page = await openPage(device, '/attendance/');
  const calls = [];
  device.context.on('request', (request) => /\/(v1|auth|api)\//.test(request.url()) && calls.push(request.url()));
  const sockets = [];
  page.on('websocket', (socket) => sockets.push(socket));
  await pick(page, 'ada');
  await expect(part(page, 'status')).toHaveText('All synced');
  await eventually(() => sockets.length).toBe(1);
  const other = await openPage(device, '/attendance/');

  await switchNetwork(page, false);
  await eventually(() => sockets[0].isClosed()).toBe(true);
  await expect(part(page, 'offline-message')).toHaveText(offlineWords);
  await expect(other.getByTestId('network-switch')).toHaveAttribute('aria-checked', 'false');
  await expect(part(other, 'offline-message')).toHaveText(offlineWords);
  calls.length = 0;
  await clockIn(page, 'Switched off');
  await part(page, 'sync-now').click();
  await expect(part(page, 'result')).toHaveText(offlineWords);
  // What a browser says of its own network changes nothing.
  await device.offline();
  await device.offline(false);
  await other.close();
  await page.reload();
  await expect(page.getByTestId('network-switch')).toHaveAttribute('aria-checked', 'false');
  await expect(page.getByTestId('record-state')).toHaveText('Waiting to sync');
  // Whatever worker is asked, also one that was started only now: Background Sync finds the same dead network.
  await device.stopWorkers(page);
  await page.evaluate(() => {
    window.refused = new Promise((done) => new BroadcastChannel('demo-network').addEventListener('message', ({ data }) => data.refused && done(data.refused)));
  });
  await page.evaluate(async () => (await navigator.serviceWorker.ready).active.postMessage({ type: 'landfall-flush', database: 'landfall:attendance:ada' }));
  expect(await page.evaluate(() => window.refused)).toBe('worker');
  const answer = await page.evaluate(() => fetch('/v1/sync/status').then(() => 'answered', (error) => error.name));
  expect(answer).toBe('TypeError');
  expect(await attendance(server)).toEqual([]);
  expect(calls.filter((url) => !url.endsWith('/v1/sync/live'))).toEqual([]);

  await switchNetwork(page, true);
  await expect(page.getByTestId('record-state')).toHaveText('Synced');
  await expect(part(page, 'status')).toHaveText('All synced');
  expect(await attendance(server)).toEqual(['Switched off']);
});

test('start: one sign-in counts for all pages, and signing out ends it on all of them', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, desktop);
  const page = await openPage(device, '/attendance/');
  await pick(page, 'ada');
  const start = await openPage(device, '/');
  await expect(start.getByTestId('signed-in')).toHaveText('Signed in as Ada.');
  await page.getByTestId('menu-button').click();
  await page.getByTestId('log-out').click();
  await page.getByTestId('logout-keep').click();
  await expect(page.getByTestId('login-screen')).toBeVisible();
  await expect(start.getByTestId('signed-in')).toHaveCount(0);
});

test('start: who has no place in a system is told so, and signs in as somebody else in one step', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, desktop);
  const page = await openPage(device, '/grades/');
  await pick(page, 'tess');
  for (const path of ['/paytrack/', '/workspace/', '/insight/']) {
    await page.goto(path);
    await expect(page.getByTestId('nowhere')).toContainText('Tess');
    expect(await violations(page)).toEqual([]);
  }
  await page.getByTestId('switch-person').click();
  await page.getByTestId('logout-keep').click();
  await pick(page, 'sam');
  await expect(page.getByTestId('tab-submissions')).toBeVisible();
});

test('start: the colours follow the device until somebody chooses, and the choice stays', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, { ...desktop, colorScheme: 'dark' });
  const page = await openPage(device, '/');
  const canvas = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  expect(await canvas()).toBe('rgb(13, 21, 23)');
  await page.getByTestId('menu-button').click();
  await page.getByTestId('theme').selectOption('light');
  expect(await canvas()).toBe('rgb(244, 246, 245)');
  await page.reload();
  expect(await canvas()).toBe('rgb(244, 246, 245)');
});
