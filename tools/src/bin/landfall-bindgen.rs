//! Writes the JavaScript glue and the bound module of one linked wasm file, for `--target web`.
//!
//! Shape: `landfall-bindgen <linked.wasm> <directory> <name>` writes `<name>.js`, `<name>_bg.wasm` and their `.d.ts`.
//! It is the library that the `wasm-bindgen` command is made of, without that command's web server and test runner, so it
//! builds in a third of the time and gives the same bytes.

use anyhow::{Context, bail};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, directory, name] = arguments.as_slice() else {
        bail!("usage: landfall-bindgen <linked.wasm> <directory> <name>");
    };
    Bindgen::new()
        .input_path(input)
        .out_name(name)
        .web(true)?
        // The library's default differs from the command's: without it the glue does not find its module by itself.
        .omit_default_module_path(false)
        // After a panic the facade drops the instance and opens a fresh one.
        .reset_state_function(true)
        .typescript(true)
        .remove_producers_section(true)
        .generate(directory)
        .with_context(|| format!("cannot bind {input}"))
}
