// What every test has: a server, a network, devices; and what every test checks at its end.

import { test as base, expect } from '@playwright/test';
import { Device } from './device.mjs';
import { Proxy } from './proxy.mjs';
import { Server } from './server.mjs';

export { expect };

export const test = base.extend({
  serverArgs: [[], { option: true }],

  server: async ({ serverArgs }, use, testInfo) => {
    const server = await new Server(serverArgs).start();
    await use(server);
    await server.remove();
    if (testInfo.status !== testInfo.expectedStatus) await testInfo.attach('server', { body: server.log });
  },

  network: async ({ server }, use) => {
    const proxy = await new Proxy(server.port).start();
    await use(proxy);
    await proxy.remove();
  },

  /** `await newDevice(origin, options)`. */
  newDevice: async ({}, use) => {
    const devices = [];
    await use(async (origin, options) => {
      const device = new Device(origin, options);
      devices.push(device);
      return device.start();
    });
    await Promise.all(devices.map((device) => device.remove()));
    expect(devices.flatMap((device) => device.errors), 'errors that nobody caught').toEqual([]);
  },
});

/** What another tab wrote is here before any timer of the engine looks for it (30 s): a notice brought it. */
export const noticedMs = 15_000;

/** Retries until the facts are there. `timeout`, where they are a promise only for so long. */
export const eventually = (facts, timeout = 60_000) => expect.poll(facts, { timeout, intervals: [50, 100, 200] });

/** RFC 8785 in short: keys sorted, no spaces. */
export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  return `{${Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`).join(',')}}`;
}

/** `{[id]: canonical fields}` of what the server holds. */
export const fieldsById = (records) => Object.fromEntries(records.map(({ id, fields }) => [id, canonical(fields)]));

/** S1: every mutation was decided once, and per record in the order of its numbers (S4). Gives the audit. */
export async function expectOnceAndInOrder(server, user) {
  const { audit } = await server.ledger(user);
  const seen = new Set();
  const last = new Map();
  const wrong = [];
  for (const row of [...audit].sort((a, b) => (a.position ?? 0) - (b.position ?? 0))) {
    const mutation = `${row.client_id} ${row.seq}`;
    if (seen.has(mutation)) wrong.push(`decided twice: ${mutation}`);
    seen.add(mutation);
    if (row.position === null) continue;
    const lane = `${row.client_id} ${row.scope} ${row.collection} ${row.id}`;
    if (row.seq <= last.get(lane)) wrong.push(`out of order: ${row.seq} after ${last.get(lane)} of ${lane}`);
    last.set(lane, row.seq);
  }
  expect(wrong).toEqual([]);
  return audit;
}

/** A generator of numbers in [0, 1) that gives the same ones again (mulberry32). */
export function random(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
