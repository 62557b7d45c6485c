// Gives what the module and its glue exchange names of one or two letters, in both of them.
//
// The binding generator's names carry a hash and are told nobody: `__wbg_getAllKeys_5f9a1fb9b1fd8c3e`. No tool behind it
// may shorten them, because each sees only one of the two files; and gzip can't shorten a hash. The public names, those of
// the glue's own exports, stay.

import { readModule, writeModule } from './wasm.mjs';

/** `{ bytes, glue }` with short names; throws when the glue is not of the shape that these edits are right for. */
export function shortenNames(bytes, glue) {
  const module = readModule(bytes);
  let text = glue;
  const replace = (pattern, to) => {
    let count = 0;
    text = text.replace(pattern, (...found) => (count++, to(...found)));
    return count;
  };
  const replaceOnce = (name, pattern, to) => {
    const count = replace(pattern, to);
    if (count !== 1) throw new Error(`the glue has ${name} ${count} times`);
  };
  // Packages that bind the same method each bring their own import of it. One entry of the glue is enough; the optimizer
  // then makes one import of those that have its name and type.
  const alike = new Map();
  module.imports.forEach((each, index) => {
    const entry = new RegExp(`^ +${literally(each.name)}(: [^]*?\n {8}\\}\\)?,\n)`, 'm').exec(text);
    const same = entry && `${each.kind} ${each.description.toString('hex')}${entry[1]}`;
    if (same && alike.has(same)) {
      text = text.replace(entry[0], () => '');
      each.name = alike.get(same);
      return;
    }
    const name = shortName(index);
    if (same) alike.set(same, name);
    replaceOnce(each.name, new RegExp(`^( +)${literally(each.name)}: `, 'gm'), (_, indent) => `${indent}${name}: `);
    each.name = name;
  });
  for (const from of new Set(module.imports.map((each) => each.module))) {
    replaceOnce(from, `"${from}": import0`, () => '"a": import0');
  }
  for (const each of module.imports) each.module = 'a';
  // What the glue does not name nobody can reach: the optimizer then drops the code behind it as well.
  module.exports = module.exports.filter((each, index) => {
    const name = shortName(index);
    const used = replace(new RegExp(`\\bwasm\\.${literally(each.name)}\\b`, 'g'), () => `wasm.${name}`) > 0;
    each.name = name;
    return used;
  });
  return { bytes: writeModule(module, module.functions.map((_, index) => index)), glue: text };
}

const literally = (name) => name.replace(/[^\w]/g, '\\$&');

/** a … z, then two letters. Words of the language are among them, and all right: a property may be called so. */
function shortName(index) {
  const letter = (value) => String.fromCharCode(97 + value);
  return index < 26 ? letter(index) : letter(Math.floor(index / 26) - 1) + letter(index % 26);
}
