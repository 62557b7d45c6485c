/** The classic script: `importScripts()` it, then call `self.landfallAttach(self, options)` if options are needed. */
import { attach } from './entry.js';

Object.assign(globalThis, { landfallAttach: attach });
