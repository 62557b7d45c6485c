// A CPU profile of a page's main thread while it works, and where the time went.

import { writeFileSync } from 'node:fs';

/** Starts; what it gives writes `file` (open it in developer tools) and prints the forty costliest functions. */
export async function startProfile(page, file) {
  const session = await page.context().newCDPSession(page);
  await session.send('Profiler.enable');
  await session.send('Profiler.setSamplingInterval', { interval: 200 });
  await session.send('Profiler.start');
  return async () => {
    const { profile } = await session.send('Profiler.stop');
    writeFileSync(file, JSON.stringify(profile));
    const self = new Map();
    const nodes = new Map(profile.nodes.map((node) => [node.id, node]));
    profile.samples.forEach((id, i) => {
      const { functionName, url } = nodes.get(id).callFrame;
      const key = `${functionName || '(anonymous)'} ${url.split('/').at(-1)}`;
      self.set(key, (self.get(key) ?? 0) + profile.timeDeltas[i] / 1000);
    });
    for (const [key, ms] of [...self].sort(([, a], [, b]) => b - a).slice(0, 40)) console.log(`${ms.toFixed(1).padStart(10)} ms  ${key}`);
  };
}

/**
 * Counts what the page's main thread computes, whoever else has the processor meanwhile: on a busy machine the least of a few rounds
 * still tells two builds apart, where times of the clock do not. What it gives tells the milliseconds since.
 */
export async function processorTime(page) {
  const session = await page.context().newCDPSession(page);
  await session.send('Performance.enable');
  const now = async () => (await session.send('Performance.getMetrics')).metrics.find(({ name }) => name === 'ThreadTime').value * 1000;
  const before = await now();
  return async () => {
    const spent = (await now()) - before;
    await session.detach();
    return spent;
  };
}
