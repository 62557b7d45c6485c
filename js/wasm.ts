/**
 * The only module that imports the engine's glue (`#glue` is pkg/landfall.js).
 *
 * Invariant: at most one instance is alive in this context. After a trap its memory is in an unknown state, so it is never
 * called again: `instanceDied()` drops it, everybody who holds a replica of it is told once, and the next use gets a fresh one.
 */
import * as glue from '#glue';
import { SyncError } from './errors.js';
import type { Hooks, Replica } from './wasm-module.js';

/** @internal */
export type { Hooks, RawStatus, Replica } from './wasm-module.js';

type DeathListener = (error: SyncError) => void;

let url: string | URL | undefined;
let ready: Promise<unknown> | undefined;
let generation = 0;
/** Why there can be no other instance in this context. */
let spent: SyncError | undefined;
const mourners = new Set<DeathListener>();

/** Where `landfall_bg.wasm` is; by default beside the script that this is in. Has no effect once the module is loaded. */
export function setWasmUrl(wasmUrl: string | URL): void {
  url = wasmUrl;
}

/** A worker's own requests pass its caches by, so it looks there itself: an older build's file may be gone from the server. */
async function instantiate(): Promise<unknown> {
  glue.onTrap((error) => void instanceDied(error, generation));
  const address = url ?? new URL('landfall_bg.wasm', import.meta.url);
  const cached = typeof document === 'undefined' && typeof caches !== 'undefined' ? await caches.match(address) : undefined;
  return glue.default({ module_or_path: cached ?? address });
}

async function load(): Promise<typeof glue.Replica> {
  if (spent) throw spent;
  ready ??= instantiate();
  try {
    await ready;
  } catch (cause) {
    ready = undefined;
    throw new SyncError('wasm_unavailable', 'The engine’s WebAssembly module could not be loaded.', { retryable: true, cause });
  }
  return glue.Replica;
}

/** @internal */
export const openReplica = async (optionsJson: string, hooks: Hooks): Promise<Replica> => (await load()).open(optionsJson, hooks);

/** @internal Undefined when there is no such database, or none that a page has opened before. */
export const openStoredReplica = async (database: string, hooks: Hooks): Promise<Replica | undefined> => (await load()).open_stored(database, hooks);

/** @internal Which instance is alive; to be noted before a call whose failure may have to be reported. */
export const liveGeneration = (): number => generation;

/** @internal A trap of the module: a panic, or the end of its memory. */
export const isTrap = (error: unknown): boolean => error instanceof WebAssembly.RuntimeError;

/** @internal The listener hears of every death until it is taken off. */
export function onDeath(listener: DeathListener): () => void {
  mourners.add(listener);
  return () => void mourners.delete(listener);
}

/**
 * @internal Says that the instance of `seen` broke; a second report of one death does nothing.
 *
 * Called by the glue while the trap is still on its way out of the innermost call: the sooner the instance is replaced, the
 * fewer of its own callbacks still run on it. (Those that come later throw at the glue's guard.)
 */
export function instanceDied(cause: unknown, seen: number): SyncError {
  const message = cause instanceof Error ? cause.message : String(cause);
  const error = new SyncError('engine_failed', `The engine broke: ${message}`, { details: { fate: 'unknown' }, cause });
  if (seen !== generation) return error;
  generation++;
  try {
    if (glue.__wbg_reset_state) glue.__wbg_reset_state();
    else spent = error;
  } catch {
    spent = error;
  }
  for (const listener of [...mourners]) listener(error);
  return error;
}
