// The demo's pages, as a person uses them.

import { readFileSync } from 'node:fs';

const axe = readFileSync(new URL('../../../node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
export const offlineWords = "You are offline. Your changes have been saved and will be synced when you're back online.";
/** Without transitions: axe-core would judge colours that are on their way. */
const reducedMotion = 'reduce';
export const phone = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2, reducedMotion };
export const desktop = { viewport: { width: 1280, height: 800 }, reducedMotion };
/** Where pages are looked at for what a screen reader cannot use. */
export const looks = { phone, desktop, 'dark phone': { ...phone, colorScheme: 'dark' } };

/** A tab at this address, once the worker is there. */
export async function openPage(device, path) {
  const page = await device.context.newPage();
  await page.goto(path);
  await page.evaluate(async () => void (await navigator.serviceWorker.ready));
  return page;
}

/** From now on no page of this device asks its worker to send: what is sent is sent by pages, where a test hears and holds it. */
export const pagesSend = (device) => device.context.addInitScript(() => {
  SyncManager.prototype.register = async () => {};
});

/** Signs a demo person in by their button. */
export async function pick(page, user) {
  await page.getByTestId(`demo-login-${user}`).click();
  await page.getByTestId('home').waitFor();
}

/** A part of a shared element. `within`: a page or a locator. */
export const part = (within, name) => within.locator(`[part~="${name}"]`);

/** Presses the network switch. */
export async function switchNetwork(page, on) {
  const button = page.getByTestId('network-switch');
  if ((await button.getAttribute('aria-checked')) !== String(on)) await button.click();
}

/** What axe-core says is wrong, in short; nothing is the right answer. */
export async function violations(page) {
  // As an expression of the debugger: the page's own policy lets no foreign script in.
  await page.evaluate(axe);
  return page.evaluate(async () => (await axe.run(document)).violations.map(({ id, nodes }) => [id, nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`)]));
}

/** How far the page sticks out at the side; 0 is the right answer. */
export const sticksOut = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
