//! IndexedDB in a page.
#![cfg(target_arch = "wasm32")]

mod idb_suite;

wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);
