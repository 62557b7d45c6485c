//! Errors on their way to JavaScript: plain objects `{code, message, retryable, details?}`.

use js_sys::{Object, Reflect};
use landfall_replica::SyncError;
use serde::Serialize;
use serde_wasm_bindgen::Serializer;
use wasm_bindgen::JsValue;

pub(crate) fn thrown(error: SyncError) -> JsValue {
    let thrown = Object::new();
    let set = |name: &str, value: JsValue| {
        // Setting a property of a fresh object cannot fail.
        let _ = Reflect::set(&thrown, &name.into(), &value);
    };
    set("code", error.code.into());
    set("message", error.message.into());
    set("retryable", error.retryable.into());
    // Only what is a map goes through serde: for the fields of structs it keeps a hash table of their names, 1 % of the
    // module.
    if !error.details.is_empty() {
        set("details", error.details.serialize(&Serializer::json_compatible()).unwrap_or(JsValue::NULL));
    }
    thrown.into()
}
