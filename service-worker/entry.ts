/**
 * The worker script of the package, as a module and as a classic script.
 *
 * Registered as a worker it works by itself; imported by an app's own worker it has attached itself too, and `attach()`
 * changes the options. Anywhere else it does nothing.
 */
import { attach, type AttachTarget } from './attach.js';

export { attach } from './attach.js';
export type { AttachOptions, AttachTarget } from './attach.js';

declare const self: AttachTarget;
if (typeof self === 'object' && 'clients' in self && 'registration' in self) attach(self);
