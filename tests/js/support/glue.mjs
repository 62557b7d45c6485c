// Stands in for pkg/landfall.js. A test puts its engine into `globalThis.engine`.

export class Replica {
  static open = async (optionsJson, hooks) => globalThis.engine.open(JSON.parse(optionsJson), hooks);
  static open_stored = async (database, hooks) => globalThis.engine.open_stored(database, hooks);
}

export default async function init({ module_or_path }) {
  await globalThis.engine.init?.(module_or_path);
}

export function onTrap(listener) {
  globalThis.engine.trap = (message) => listener(new WebAssembly.RuntimeError(message));
}

export function __wbg_reset_state() {
  globalThis.engine.resets = (globalThis.engine.resets ?? 0) + 1;
}
