// The precache manifest of a built site, put into its service worker: what workbox-build does, in the part that is needed.

import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join, relative, sep } from 'node:path';

/** Vite's own names (`name-<8 characters>.ext`) change with the content, so they need no revision. */
const hashedName = /-[\w-]{8}\.\w+$/;
const placeholder = 'self.__WB_MANIFEST';

/** `[{ url, revision }]` of every file below `directory`, sorted, for workbox-precaching's `precacheAndRoute`. */
export function precacheManifest(directory, { except = [] } = {}) {
  const files = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const urls = files.map((entry) => relative(directory, join(entry.parentPath, entry.name)).split(sep).join('/'));
  return urls
    .filter((url) => !except.includes(url) && !url.endsWith('.map'))
    .sort()
    .map((url) => ({ url, revision: hashedName.test(url) ? null : createHash('sha256').update(readFileSync(join(directory, url))).digest('hex').slice(0, 16) }));
}

/** Vite plugin: replaces `self.__WB_MANIFEST` in the built `worker` file by the manifest of everything else. */
export function precache({ worker = 'service-worker.js', except = [] } = {}) {
  let directory;
  return {
    name: 'landfall-precache',
    apply: 'build',
    configResolved: (config) => void (directory = join(config.root, config.build.outDir)),
    closeBundle() {
      const file = join(directory, worker);
      const source = readFileSync(file, 'utf8');
      if (!source.includes(placeholder)) throw new Error(`${worker} has no ${placeholder}`);
      writeFileSync(file, source.replace(placeholder, () => JSON.stringify(precacheManifest(directory, { except: [worker, ...except] }))));
    },
  };
}
