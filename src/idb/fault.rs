//! What the browser's errors mean to the engine, decided by their names only.

use landfall_storage::{OpenError, ReadError, StorageFault};
use wasm_bindgen::JsValue;

/// A JavaScript error as its two texts.
#[derive(Clone)]
pub(super) struct Failure {
    pub(super) name: String,
    pub(super) message: String,
}

impl Failure {
    /// Takes a thrown value or an event's error; anything without a name is named `Error`.
    pub(super) fn of(error: &JsValue) -> Self {
        let text = |name: &str| js_sys::Reflect::get(error, &JsValue::from_str(name)).ok()?.as_string();
        Self { name: text("name").unwrap_or_else(|| "Error".to_owned()), message: text("message").unwrap_or_default() }
    }

    pub(super) fn new(name: &str, message: &str) -> Self {
        Self { name: name.to_owned(), message: message.to_owned() }
    }

    /// InvalidStateError: the connection is closed. UnknownError: the browser's backing store failed, in Chromium
    /// "Internal error opening backing store". AbortError without our abort: the connection was forced shut.
    pub(super) fn fault(&self) -> StorageFault {
        match self.name.as_str() {
            "QuotaExceededError" => StorageFault::Quota,
            "InvalidStateError" | "UnknownError" | "AbortError" => StorageFault::ConnectionLost,
            _ => StorageFault::Other,
        }
    }

    /// True if a transaction that ends with this error cannot have been committed, even after it was asked to.
    pub(super) fn proves_abort(&self) -> bool {
        matches!(
            self.name.as_str(),
            "QuotaExceededError"
                | "ConstraintError"
                | "DataError"
                | "DataCloneError"
                | "ReadOnlyError"
                | "NotFoundError"
        )
    }

    pub(super) fn text(&self) -> String {
        let mut text = self.name.clone();
        text.push_str(": ");
        text.push_str(&self.message);
        text
    }

    pub(super) fn read_error(&self) -> ReadError {
        ReadError { fault: self.fault(), message: self.text() }
    }

    /// The error of an open request. A newer schema is told apart by the caller, who can look for its version.
    pub(super) fn open_error(&self) -> OpenError {
        match self.name.as_str() {
            "SecurityError" | "InvalidStateError" => OpenError::Unavailable { message: self.text() },
            _ => OpenError::Failed { fault: self.fault(), message: self.text() },
        }
    }
}
