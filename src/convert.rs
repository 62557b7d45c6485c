//! Core types ⇄ JavaScript: small structures become plain objects, records and lists go as JSON text.

use landfall_protocol::codec::{ToJson, write_string};
use serde::Serialize;
use wasm_bindgen::JsValue;

/// A plain object as `JSON.parse` would make it.
pub(crate) fn plain<T: Serialize>(value: &T) -> JsValue {
    value.serialize(&serde_wasm_bindgen::Serializer::json_compatible()).unwrap_or(JsValue::NULL)
}

/// An object with these fields.
pub(crate) fn object(fields: &[(&str, &dyn ToJson)]) -> String {
    let mut json = String::from("{");
    for (name, value) in fields {
        if json.len() > 1 {
            json.push(',');
        }
        write_string(&mut json, name);
        json.push(':');
        value.write(&mut json);
    }
    json.push('}');
    json
}
