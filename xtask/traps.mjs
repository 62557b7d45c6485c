// Makes the glue notice when its instance breaks.
//
// The shipped module has no code for panics: a panic is a trap at once, like the end of its memory or stack, and no hook
// runs. But each way into the module goes through one of its exports, the invocations of closures as well; so the glue
// gets its exports with a guard around each.

/** The glue with the guard, and with `onTrap(listener)` among its exports. */
export function hearTraps(glue) {
  let text = glue;
  for (const instance of ['instance', 'wasmInstance']) {
    const parts = text.split(`wasm = ${instance}.exports;`);
    if (parts.length !== 2) throw new Error(`the glue takes the exports of ${instance} ${parts.length - 1} times`);
    text = parts.join(`wasm = guarded(${instance}.exports);`);
  }
  return text + guard;
}

// Only the innermost call on the stack tells: the others see the same error on its way out, and by then the glue may hold
// the next instance already. `let_go` is the one thing that is asked of a broken instance; it may break again.
const guard = `
let trapped = () => {};
export function onTrap(listener) {
    trapped = listener;
}
function guarded(wasm) {
    let broken = false;
    const guards = {};
    for (const [name, value] of Object.entries(wasm)) {
        guards[name] = typeof value !== 'function' ? value : (...args) => {
            try {
                return value(...args);
            } catch (error) {
                if (!broken && error instanceof WebAssembly.RuntimeError) {
                    broken = true;
                    try {
                        wasm.let_go();
                    } catch {}
                    trapped(error);
                }
                throw error;
            }
        };
    }
    return guards;
}
`;
