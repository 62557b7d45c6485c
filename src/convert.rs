//! Core types ⇄ JavaScript: small structures become plain objects, records and lists go as JSON text.

use serde::Serialize;
use wasm_bindgen::JsValue;

/// A plain object as `JSON.parse` would make it.
pub(crate) fn plain<T: Serialize>(value: &T) -> JsValue {
    value.serialize(&serde_wasm_bindgen::Serializer::json_compatible()).unwrap_or(JsValue::NULL)
}

pub(crate) fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
