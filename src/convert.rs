//! Lists and records on their way to JavaScript go as JSON text. Objects of JavaScript, looked into by name.

use js_sys::{Function, Reflect};
use landfall_protocol::codec::{ToJson, write_string};
use wasm_bindgen::JsValue;

/// `undefined` when it has none, or is none that could have one.
pub(crate) fn property(of: &JsValue, name: &str) -> JsValue {
    Reflect::get(of, &name.into()).unwrap_or(JsValue::UNDEFINED)
}

/// Calls a listener. One that throws has reported itself to its own page.
pub(crate) fn tell(listener: &Function, text: &str) {
    let _ = listener.call1(&JsValue::UNDEFINED, &text.into());
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
