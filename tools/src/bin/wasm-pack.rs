//! The `wasm-pack` command.

fn main() -> anyhow::Result<()> {
    use clap::Parser;
    wasm_pack::command::run_wasm_pack(wasm_pack::Cli::parse().cmd)
}
