//! IndexedDB in a service worker.
#![cfg(target_arch = "wasm32")]

mod idb_suite;

wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_service_worker);
