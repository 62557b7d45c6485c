// Makes the glue copy long strings into the module as the browser does it, not character by character.
//
// The generated loop is quick once it is compiled and slow before: a row of 50 KB took it milliseconds when a page opened.

/** Below so many characters the loop is quicker than the call. */
const short = 64;

const loop = `    for (; offset < len; offset++) {
        const code = arg.charCodeAt(offset);
        if (code > 0x7F) break;
        mem[ptr + offset] = code;
    }
    if (offset !== len) {
        if (offset !== 0) {
            arg = arg.slice(offset);
        }
`;

// `read`: characters, `offset`: bytes. They are the same until there is one that is not ASCII.
const whole = `    let read = 0;
    if (len < ${short}) {
        for (; offset < len; offset++) {
            const code = arg.charCodeAt(offset);
            if (code > 0x7F) break;
            mem[ptr + offset] = code;
        }
        read = offset;
    } else {
        ({ read, written: offset } = cachedTextEncoder.encodeInto(arg, mem.subarray(ptr, ptr + len)));
    }
    if (read !== len) {
        if (read !== 0) {
            arg = arg.slice(read);
        }
`;

export function copyWhole(glue) {
  const parts = glue.split(loop);
  if (parts.length !== 2) throw new Error(`the glue copies strings in ${parts.length - 1} loops of the known shape`);
  return parts.join(whole);
}
