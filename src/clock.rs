//! The clock and the dice of the browser.

use landfall_protocol::UnixMillis;

/// Milliseconds since 1970 by this device's clock.
pub(crate) fn now() -> UnixMillis {
    UnixMillis(js_sys::Date::now().max(0.0) as u64)
}

/// 64 random bits. `Math.random` is enough: ids need to be unlikely to meet, not unguessable.
pub(crate) fn random() -> u64 {
    let part = || (js_sys::Math::random() * 4_294_967_296.0) as u64;
    (part() << 32) | part()
}
