//! The runner that `cargo test` starts for a wasm32 test program: serves it to a browser and reads the result.

fn main() -> anyhow::Result<()> {
    wasm_bindgen_cli::wasm_bindgen_test_runner::run_cli_with_args(std::env::args_os())
}
