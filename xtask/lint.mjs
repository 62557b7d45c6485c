// `npm run lint`: what can be said without running anything. The stages are those of `npm test`.

import { main, run } from './lib.mjs';

main(() => run('node', ['xtask/test.mjs', '--only', 'lock-files,format,clippy,clippy-wasm,types'], { quiet: false }));
