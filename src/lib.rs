//! Landfall's WebAssembly module: browser side effects only, no rule of sync.

#[cfg(target_arch = "wasm32")]
pub mod idb;
