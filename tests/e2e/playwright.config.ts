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
  timeout: 90_000,
  expect: { timeout: 15_000 },
  reporter: [['list']],
});
