//! Errors on their way to JavaScript: plain objects `{code, message, retryable, details?}`.

use crate::convert;
use landfall_replica::SyncError;
use wasm_bindgen::JsValue;

pub(crate) fn thrown(error: SyncError) -> JsValue {
    convert::plain(&error)
}
