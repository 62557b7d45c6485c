// Builds the demo: its pages, and the service worker as an input of its own with a fixed address, /sw.js.

import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { defineConfig } from 'vite';

const root = import.meta.dirname;
const manifestPlaceholder = 'self.__PRECACHE_MANIFEST';
/** Files whose name changes with their content need no revision. */
const hashedName = /^assets\/.+-[\w-]{8}\.\w+$/;

/**
 * Writes the list of files that the service worker precaches into sw.js once everything else is on disk.
 * By hand and not by workbox-build, which would bring some 300 packages for these twenty lines.
 */
function precacheManifest() {
  let directory;
  return {
    name: 'precache-manifest',
    apply: 'build',
    configResolved: (config) => {
      directory = resolve(config.root, config.build.outDir);
    },
    closeBundle: {
      order: 'post',
      sequential: true,
      handler() {
        const entries = readdirSync(directory, { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile())
          .map((entry) => relative(directory, join(entry.parentPath, entry.name)).replaceAll('\\', '/'))
          .filter((path) => path !== 'sw.js' && !path.endsWith('.map'))
          .sort()
          .map((path) => ({ url: `/${path}`, revision: hashedName.test(path) ? null : digest(join(directory, path)) }));
        const file = join(directory, 'sw.js');
        const source = readFileSync(file, 'utf8');
        if (source.split(manifestPlaceholder).length !== 2) this.error(`sw.js must name ${manifestPlaceholder} exactly once`);
        writeFileSync(file, source.replace(manifestPlaceholder, () => JSON.stringify(entries)));
      },
    },
  };
}

const ownPlace = "<!-- the page's own -->";

/** Each page's file holds what is its own: title, description, styles, script. The rest is page.html, for all of them. */
function pageTemplate() {
  return {
    name: 'page-template',
    transformIndexHtml: {
      order: 'pre',
      handler(own, { filename }) {
        if (!Object.values(pages).includes(filename)) return own;
        return readFileSync(join(root, 'page.html'), 'utf8').replace(ownPlace, () => own.trim().replaceAll('\n', '\n    '));
      },
    },
  };
}

/** The start page, and a directory for each system whose page is there. */
const pages = Object.fromEntries(['.', ...readdirSync(root)].filter((name) => existsSync(join(root, name, 'index.html')) && name !== 'dist').map((name) => [name === '.' ? 'index' : name, join(root, name, 'index.html')]));

const digest = (file) => createHash('sha256').update(readFileSync(file)).digest('hex').slice(0, 16);

export default defineConfig({
  root,
  plugins: [pageTemplate(), precacheManifest()],
  oxc: { jsx: { runtime: 'automatic' } },
  build: {
    target: 'es2022',
    outDir: 'dist',
    emptyOutDir: true,
    // The server's content security policy allows files of this origin only, so nothing becomes a data: URL.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rollupOptions: {
      input: { ...pages, lab: join(root, 'lab.html'), sw: join(root, 'sw.js') },
      output: { entryFileNames: (chunk) => (chunk.name === 'sw' ? 'sw.js' : 'assets/[name]-[hash].js') },
    },
  },
  server: { headers: { 'Service-Worker-Allowed': '/' }, proxy: { '/v1': { target: 'http://localhost:8787', ws: true }, '/auth': 'http://localhost:8787', '/api': 'http://localhost:8787' } },
});
