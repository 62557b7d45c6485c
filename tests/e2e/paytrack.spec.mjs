// The PayTrack page: the twelve tests of its document, from its sync logic to several devices at once.

import { gunzipSync } from 'node:zlib';
import { desktop, looks, offlineWords, openPage, pagesSend, part, phone, pick, sticksOut, switchNetwork, violations } from './support/page.mjs';
import { canonical, eventually, expect, test } from './support/test.mjs';

const scope = 'company:demo';
const stored = async (server, collection) => (await server.records(scope, collection)).map(({ id, fields }) => ({ id, ...fields })).sort((a, b) => (a.id < b.id ? -1 : 1));
const names = async (server) => (await stored(server, 'suppliers')).map(({ name }) => name).sort();

async function openCompany(device, user) {
  const page = await openPage(device, '/paytrack/');
  if (user) await pick(page, user);
  await page.getByTestId('tab-suppliers').click();
  await expect(part(page, 'status')).toHaveText('Connected, all synced');
  return page;
}

async function newSupplier(page, fields) {
  await page.getByTestId('new-suppliers').click();
  await fill(page, fields);
}

async function fill(page, fields) {
  for (const [name, value] of Object.entries(fields)) await page.getByTestId(`field-${name}`).fill(value);
  await page.getByTestId('form-save').click();
}

const row = (page, name) => page.getByTestId('row-suppliers').filter({ has: page.getByTestId('row-title').getByText(name, { exact: true }) });
const state = (page, name) => row(page, name).getByTestId('record-state');

async function editSupplier(page, name, fields) {
  await row(page, name).getByTestId('row-edit').click();
  await fill(page, fields);
}

/** What a push or a pull carried, compressed or not. */
function body(request) {
  const bytes = request.postDataBuffer();
  return JSON.parse(String(bytes[0] === 0x1f ? gunzipSync(bytes) : bytes));
}

function listen(page, name) {
  const bodies = [];
  page.on('request', (request) => request.url().endsWith(`/v1/sync/${name}`) && bodies.push(body(request)));
  return bodies;
}

const write = (page, records) => page.evaluate((records) => Promise.all(records.map(([collection, record]) => landfallDemo.db.collection(collection).create(record))), records);
const supplier = (id, name) => ({ id, company_id: 'demo', name, phone: '', note: '' });

test('paytrack unit, sync logic: a write asks the server first and says what it said; without a server it is stored here and says so', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, phone);
  const page = await openCompany(device, 'carl');
  await newSupplier(page, { name: 'Online' });
  await expect(page.getByTestId('said')).toHaveText('Saved by the server.');
  expect(await names(server)).toEqual(['Online']);
  await expect(state(page, 'Online')).toHaveText('Synced');
  await switchNetwork(page, false);
  await expect(part(page, 'status')).toHaveText('Disconnected');
  await expect(part(page, 'offline-message')).toHaveText(offlineWords);
  await newSupplier(page, { name: 'Offline' });
  await expect(page.getByTestId('said')).toHaveText('Saved on this device. It goes to the server when it can be reached.');
  await expect(state(page, 'Offline')).toHaveText('Waiting to sync');
  expect(await names(server)).toEqual(['Online']);
  await switchNetwork(page, true);
  await expect(state(page, 'Offline')).toHaveText('Synced');
  expect(await names(server)).toEqual(['Offline', 'Online']);
});

test('paytrack unit, conflict detection: two changes of one record on one version are put together field by field; of one field the server’s stands, its author is told and both values are kept', async ({ server, newDevice }) => {
  const [first, second] = await Promise.all([newDevice(server.origin, desktop), newDevice(server.origin, desktop)]);
  const [carl, mia] = await Promise.all([openCompany(first, 'carl'), openCompany(second, 'mia')]);
  for (const name of ['Merged', 'Contested']) {
    await newSupplier(carl, { name });
    await expect(state(mia, name)).toHaveText('Synced');
  }
  await switchNetwork(mia, false);
  await editSupplier(mia, 'Merged', { phone: '+250 788 111 111' });
  await editSupplier(mia, 'Contested', { note: 'From Mia' });
  for (const name of ['Merged', 'Contested']) {
    await editSupplier(carl, name, { note: 'From Carl' });
    await eventually(async () => (await stored(server, 'suppliers')).find((one) => one.name === name).note).toBe('From Carl');
  }
  await switchNetwork(mia, true);
  const conflict = mia.locator('landfall-conflicts');
  await expect(part(conflict, 'local')).toHaveText('From Mia');
  await expect(part(conflict, 'server')).toHaveText('From Carl');
  const found = await stored(server, 'suppliers');
  expect(found.find(({ name }) => name === 'Merged')).toMatchObject({ note: 'From Carl', phone: '+250 788 111 111' });
  expect(found.find(({ name }) => name === 'Contested').note).toBe('From Carl');
  await part(conflict, 'keep-server').click();
  await expect(conflict).toBeHidden();
});

test('paytrack unit, queue management: what waits is sent in its order, parents first, a hundred at most in a request', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, desktop);
  await pagesSend(device);
  const page = await openCompany(device, 'carl');
  await switchNetwork(page, false);
  const date = '2026-01-31';
  // A child without its parent is refused before it is stored.
  const early = await write(page, [['collections', { id: 'early', company_id: 'demo', supplier_id: 's', product_id: 'p', quantity: 1, date }]]).catch(({ message }) => message);
  expect(early).toContain('supplier_id');
  await write(page, [['suppliers', supplier('s', 'Parent')], ['products', { id: 'p', company_id: 'demo', name: 'Milk', unit: 'l' }]]);
  await write(page, Array.from({ length: 120 }, (_, i) => ['collections', { id: `d${String(i).padStart(3, '0')}`, company_id: 'demo', supplier_id: 's', product_id: 'p', quantity: i + 1, date }]));
  const pushes = listen(page, 'push');
  await switchNetwork(page, true);
  await eventually(async () => (await stored(server, 'collections')).filter(({ id }) => id.startsWith('d')).length).toBe(120);
  expect(Math.max(...pushes.map(({ mutations }) => mutations.length))).toBeLessThanOrEqual(100);
  const sent = pushes.flatMap(({ mutations }) => mutations.map(({ collection, id }) => `${collection}/${id}`));
  const own = sent.filter((name) => name.startsWith('collections/d'));
  expect(own).toEqual([...own].sort());
  for (const parent of ['suppliers/s', 'products/p']) expect(sent.indexOf(parent)).toBeLessThan(sent.indexOf('collections/d000'));
});

test('paytrack unit, data transformation: only the fields that changed are sent, with the version that they were changed on', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, desktop);
  await pagesSend(device);
  const page = await openCompany(device, 'carl');
  await newSupplier(page, { name: 'Delta', phone: '+250 788 000 001' });
  await expect(page.getByTestId('said')).toHaveText('Saved by the server.');
  const pushes = listen(page, 'push');
  await editSupplier(page, 'Delta', { note: 'Only this' });
  await eventually(async () => (await stored(server, 'suppliers'))[0].note).toBe('Only this');
  const [mutation] = pushes.flatMap(({ mutations }) => mutations);
  expect(mutation).toMatchObject({ op: 'update', collection: 'suppliers', set: { note: 'Only this' } });
  expect(Object.keys(mutation.set)).toEqual(['note']);
});

test('paytrack integration, full cycle: a whole company is stored as one transaction, arrives at another device, and both count the same', async ({ server, newDevice }) => {
  const [first, second] = await Promise.all([newDevice(server.origin, desktop), newDevice(server.origin, phone)]);
  const [carl, mia] = await Promise.all([openCompany(first, 'carl'), openCompany(second, 'mia')]);
  await carl.getByTestId('sample-fill').click();
  await expect(mia.getByTestId('row-suppliers')).toHaveCount(3);
  await expect(mia.getByTestId('sample')).toBeHidden();
  const totals = (page) => page.getByTestId('totals').locator('dd').allTextContents();
  await eventually(() => totals(mia)).toEqual(['168.35', '20.00', '148.35']);
  expect(await totals(carl)).toEqual(await totals(mia));
});

test('paytrack integration, offline to online: what was made offline refers to itself and arrives whole, after a reload too', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, desktop);
  const page = await openCompany(device, 'carl');
  await switchNetwork(page, false);
  await page.getByTestId('sample-fill').click();
  await expect(page.getByTestId('row-suppliers')).toHaveCount(3);
  await page.getByTestId('tab-payments').click();
  await page.getByTestId('new-payments').click();
  await page.getByTestId('field-supplier_id').selectOption({ label: 'Jean Habimana' });
  await page.getByTestId('field-method').selectOption('cash');
  await page.getByTestId('field-amount').fill('12.5');
  await page.getByTestId('form-save').click();
  await expect(page.getByTestId('row-payments')).toHaveCount(2);
  await page.reload();
  await expect(page.getByTestId('row-payments')).toHaveCount(2);
  await switchNetwork(page, true);
  await expect(part(page, 'status')).toHaveText('Connected, all synced');
  const [suppliers, payments] = [await stored(server, 'suppliers'), await stored(server, 'payments')];
  expect(payments).toHaveLength(2);
  for (const payment of payments) expect(suppliers.map(({ id }) => id)).toContain(payment.supplier_id);
});

test('paytrack integration, conflict scenarios: create and create, update and delete, delete and update end as the server has it, here as there', async ({ server, newDevice }) => {
  const [first, second] = await Promise.all([newDevice(server.origin, desktop), newDevice(server.origin, desktop)]);
  const [carl, mia] = await Promise.all([openCompany(first, 'carl'), openCompany(second, 'mia')]);
  await write(carl, [['suppliers', supplier('update-delete', 'Updated here')], ['suppliers', supplier('delete-update', 'Deleted here')]]);
  await expect(mia.getByTestId('row-suppliers')).toHaveCount(2);
  await switchNetwork(mia, false);
  await write(mia, [['suppliers', supplier('create-create', 'From Mia')]]);
  await mia.evaluate(async () => {
    const suppliers = landfallDemo.db.collection('suppliers');
    await suppliers.update('update-delete', { note: 'late' });
    await suppliers.delete('delete-update');
  });
  await write(carl, [['suppliers', supplier('create-create', 'From Carl')]]);
  await carl.evaluate(async () => {
    const suppliers = landfallDemo.db.collection('suppliers');
    await suppliers.delete('update-delete');
    await suppliers.update('delete-update', { note: 'early' });
  });
  await switchNetwork(mia, true);
  await expect(part(mia, 'pending')).toHaveText('Nothing waiting');
  await eventually(() => names(server)).toEqual(['Deleted here', 'From Carl']);
  for (const page of [carl, mia]) await eventually(async () => (await page.getByTestId('row-suppliers').getByTestId('row-title').allTextContents()).sort()).toEqual(['Deleted here', 'From Carl']);
  const lost = await mia.evaluate(async () => (await landfallDemo.db.conflicts.list()).map(({ record }) => record).sort());
  expect(lost).toEqual(['create-create', 'delete-update', 'update-delete']);
});

test('paytrack integration, error handling: what the server refuses is told by field and mended in the form, and leaves one record', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, desktop);
  const page = await openCompany(device, 'carl');
  await newSupplier(page, { name: 'Refused', phone: 'call me' });
  await expect(page.getByTestId('error-phone')).not.toBeEmpty();
  await expect(page.getByTestId('field-phone')).toHaveAttribute('aria-invalid', 'true');
  expect(await violations(page)).toEqual([]);
  await page.getByTestId('form-cancel').click();
  const item = page.locator('landfall-pending');
  await expect(part(item, 'reason')).toContainText('Phone:');
  await part(item, 'edit').click();
  await fill(page, { phone: '+250 788 123 456' });
  await expect(state(page, 'Refused')).toHaveText('Synced');
  expect((await stored(server, 'suppliers')).map(({ name, phone }) => [name, phone])).toEqual([['Refused', '+250 788 123 456']]);
  expect(await page.evaluate(() => landfallDemo.db.outbox.list())).toEqual([]);
});

test('paytrack end to end, several devices: three of them end with the same records', async ({ server, newDevice }) => {
  const devices = await Promise.all(['carl', 'mia', 'carl'].map(() => newDevice(server.origin, desktop)));
  const pages = await Promise.all(devices.map((device, i) => openCompany(device, ['carl', 'mia', 'carl'][i])));
  await Promise.all(pages.map((page) => switchNetwork(page, false)));
  for (const [i, page] of pages.entries()) await write(page, [['suppliers', supplier(`from-${i}`, `Device ${i}`)], ['suppliers', supplier('same', `Same from ${i}`)]]);
  for (const page of pages) await switchNetwork(page, true);
  const all = (page) => page.evaluate(async () => (await landfallDemo.db.collection('suppliers').query({ orderBy: 'id' }).get()));
  await eventually(async () => (await stored(server, 'suppliers')).length).toBe(4);
  const wanted = (await stored(server, 'suppliers')).map(canonical);
  for (const page of pages) await eventually(async () => (await all(page)).map(canonical)).toEqual(wanted);
});

test('paytrack end to end, network interruption: the connection fails in the middle of sending and nothing is lost or sent twice', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, desktop);
  const page = await openCompany(device, 'carl');
  await switchNetwork(page, false);
  await write(page, Array.from({ length: 250 }, (_, i) => ['suppliers', supplier(`s${i}`, `Supplier ${i}`)]));
  await server.failPushes({ status: 503, count: 2 });
  await switchNetwork(page, true);
  await eventually(async () => (await stored(server, 'suppliers')).length).toBe(250);
  const { audit } = await server.ledger('carl');
  expect(audit.length).toBe(250);
});

test('paytrack end to end, large data: a device that is new pages through all of it and counts right', async ({ server, newDevice }) => {
  const [first, second] = [await newDevice(server.origin, desktop), await newDevice(server.origin, desktop)];
  const carl = await openCompany(first, 'carl');
  await write(carl, [['suppliers', supplier('s', 'Big')], ['products', { id: 'p', company_id: 'demo', name: 'Milk', unit: 'l' }]]);
  const many = Array.from({ length: 1500 }, (_, i) => ['collections', { id: `c${i}`, company_id: 'demo', supplier_id: 's', product_id: 'p', quantity: 1, date: '2026-01-31' }]);
  await write(carl, many);
  await eventually(async () => (await stored(server, 'collections')).length).toBe(1500);
  const mia = await openPage(second, '/paytrack/');
  const pulls = listen(mia, 'pull');
  await pick(mia, 'mia');
  await eventually(() => mia.evaluate(() => landfallDemo.db.collection('collections').query().count())).toBe(1500);
  expect(pulls.length).toBeGreaterThan(1);
});

test('paytrack end to end, concurrent operations: two devices that write at once both keep every write', async ({ server, newDevice }) => {
  const [first, second] = await Promise.all([newDevice(server.origin, desktop), newDevice(server.origin, desktop)]);
  const [carl, mia] = await Promise.all([openCompany(first, 'carl'), openCompany(second, 'mia')]);
  const of = (who) => Array.from({ length: 60 }, (_, i) => ['suppliers', supplier(`${who}-${i}`, `${who} ${i}`)]);
  await Promise.all([write(carl, of('carl')), write(mia, of('mia'))]);
  await eventually(async () => (await stored(server, 'suppliers')).length).toBe(120);
  for (const page of [carl, mia]) await eventually(() => page.evaluate(() => landfallDemo.db.collection('suppliers').query().count())).toBe(120);
});

test('paytrack: audit and health show rates, times, conflicts, errors and the last syncs, and hand over a report without values', async ({ server, newDevice }) => {
  const device = await newDevice(server.origin, desktop);
  const page = await openCompany(device, 'carl');
  await newSupplier(page, { name: 'Secret name' });
  await expect(page.getByTestId('said')).toHaveText('Saved by the server.');
  await newSupplier(page, { name: 'Refused', phone: 'x' });
  await expect(page.getByTestId('error-phone')).not.toBeEmpty();
  await page.getByTestId('form-cancel').click();
  await page.getByTestId('tab-health').click();
  await expect(page.getByTestId('metric-success-rate')).toHaveText('100 %');
  await expect(page.getByTestId('metric-queue-length')).toHaveText('0');
  await expect(page.getByTestId('error-log')).toContainText('1 refused');
  await expect(part(page, 'history').locator('tbody tr')).not.toHaveCount(0);
  expect(await violations(page)).toEqual([]);
  const [download] = await Promise.all([page.waitForEvent('download'), part(page, 'save').click()]);
  const report = await (await download.createReadStream()).toArray().then((parts) => Buffer.concat(parts).toString());
  expect(report).toContain('landfall:paytrack:carl');
  expect(report).not.toContain('Secret name');
});

for (const [name, size] of Object.entries(looks)) {
  test(`paytrack: axe-core finds nothing on a ${name}, in every tab`, async ({ server, newDevice }) => {
    const device = await newDevice(server.origin, size);
    const page = await openCompany(device, 'mia');
    await page.getByTestId('sample-fill').click();
    await expect(page.getByTestId('row-suppliers')).toHaveCount(3);
    for (const tab of ['collections', 'payments', 'suppliers', 'products', 'rates', 'health']) {
      await page.getByTestId(`tab-${tab}`).click();
      expect(await violations(page)).toEqual([]);
      expect(await sticksOut(page)).toBe(0);
    }
  });
}
