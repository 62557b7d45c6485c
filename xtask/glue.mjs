// Says what the binding generator's glue says in fewer words. It does the same.
//
// The generator writes a loader for every browser and every way to call it, and writes out at each place what one function
// could do. Here it is known how our package calls it (js/wasm.ts).

/** The glue, shortened; throws when it is not of the shape that these edits are right for. */
export function slimGlue(glue) {
  if (glue.includes('__wbg_reinit_scheduled = true')) throw new Error('the glue starts its instance anew by itself');
  let text = glue;
  for (const [pattern, replacement] of edits) {
    const next = text.replace(pattern, replacement);
    if (next === text) throw new Error(`the glue has nothing like ${pattern}`);
    text = next;
  }
  return text + additions;
}

const wholeFunction = (head) => new RegExp(`^${head}\\([^]*?\\n\\}\\n`, 'm');

const edits = [
  // Asked for at every call, and never set: it is the facade that starts the glue anew.
  [/^ +__wbg_call_guard\(\);\n/gm, ''],
  [wholeFunction('function __wbg_call_guard'), ''],
  [/^(let|   ) __wbg_reinit_scheduled = false;\n/gm, ''],
  [/if \(this\.__wbg_inst !== undefined && this\.__wbg_inst !== __wbg_instance_id\) \{\s*throw new Error\([^)]*\);\s*\}/g, 'ofThisInstance(this);'],
  // What the module imports.
  [/: function\(\) \{ return handleError\(function \(([^)]*)\) \{([^]*?)\n {8}\}, arguments\); \},/g, ': caught(($1) => {$2\n        }),'],
  [/^( {8}\w+): function\(([^)]*)\) \{/gm, '$1: ($2) => {'],
  [
    /(?:var|const) (ptr\d) = (?:isLikeNone\(ret\) \? 0 : )?passStringToWasm0\(ret, wasm\.__wbindgen_malloc, wasm\.__wbindgen_realloc\);\s*(?:var|const) (len\d) = WASM_VECTOR_LEN;\s*getDataViewMemory0\(\)\.setInt32\(\(arg0 >>> 0\) \+ 4 \* 1, \2, true\);\s*getDataViewMemory0\(\)\.setInt32\(\(arg0 >>> 0\) \+ 4 \* 0, \1, true\);/g,
    'putText(arg0, ret);',
  ],
  // The loader: below is another.
  [wholeFunction('async function __wbg_load'), ''],
  [wholeFunction('function initSync'), ''],
  [/^let __wbg_init_promise;\n/m, ''],
  [wholeFunction('async function __wbg_init'), ''],
  [wholeFunction('async function __wbg_init_once'), ''],
  [/^export \{ initSync, __wbg_init as default \};\n/m, ''],
];

// The answer is compiled while it arrives; a server that names it by another type makes that fail before it is read.
const additions = `
function ofThisInstance(object) {
    if (object.__wbg_inst !== undefined && object.__wbg_inst !== __wbg_instance_id) {
        throw new Error('Invalid stale object from previous Wasm instance');
    }
}
function caught(f) {
    return (...args) => handleError(f, args);
}
function putText(at, text) {
    const pointer = isLikeNone(text) ? 0 : passStringToWasm0(text, wasm.__wbindgen_malloc, wasm.__wbindgen_realloc);
    getDataViewMemory0().setInt32((at >>> 0) + 4, WASM_VECTOR_LEN, true);
    getDataViewMemory0().setInt32(at >>> 0, pointer, true);
}
export default async function load({ module_or_path: from }) {
    const response = await (from instanceof Response ? from : fetch(from));
    if (!response.ok) throw new Error(response.status + ' ' + response.url);
    const imports = __wbg_get_imports();
    let made;
    try {
        made = await WebAssembly.instantiateStreaming(response, imports);
    } catch (error) {
        if (response.bodyUsed) throw error;
        made = await WebAssembly.instantiate(await response.arrayBuffer(), imports);
    }
    return __wbg_finalize_init(made.instance, made.module);
}
`;
