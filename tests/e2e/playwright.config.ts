// End-to-end tests: real Chromium, real server process, the built demo. `npm test -- --only end-to-end` builds and runs them.
//
// LANDFALL_CHROMIUM and LANDFALL_SERVER name other programs than the usual ones, LANDFALL_WWW another build of the demo.

import { defineConfig } from '@playwright/test';

export default defineConfig({
  testDir: '.',
  outputDir: '../../target/e2e',
  workers: 2,
  fullyParallel: true,
  forbidOnly: true,
  // Far above what they take: a limit here says that something hangs, not how fast a machine must be.
  timeout: 300_000,
  expect: { timeout: 60_000 },
  reporter: [['list']],
});
