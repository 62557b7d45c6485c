//! IndexedDB in a dedicated worker.
#![cfg(target_arch = "wasm32")]

mod idb_suite;

wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_dedicated_worker);
