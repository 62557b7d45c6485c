//! Hybrid logical clock: wall time for people, a counter for order, the client for ties.

use crate::codec::{FromJson, Reader, ToJson, write_hex};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A point of the hybrid logical clock as text that sorts like the clock:
/// 12 hex digits of milliseconds, 4 of the counter, then the client (`0190f0a1b2c3-0001-c_x7`).
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stamp(pub String);

crate::id::transparent!(Stamp);

impl Stamp {
    pub fn new(millis: u64, counter: u16, client: &str) -> Self {
        let mut text = String::with_capacity(18 + client.len());
        write_hex(&mut text, millis, 12);
        text.push('-');
        write_hex(&mut text, u64::from(counter), 4);
        text.push('-');
        text.push_str(client);
        Self(text)
    }
    /// The wall-clock part; `None` for text that is no stamp.
    pub fn millis(&self) -> Option<u64> {
        u64::from_str_radix(self.0.get(..12)?, 16).ok()
    }
    pub fn counter(&self) -> Option<u16> {
        u16::from_str_radix(self.0.get(13..17)?, 16).ok()
    }
    /// The client that made it.
    pub fn client(&self) -> Option<&str> {
        self.0.get(18..)
    }
    pub fn is_valid(&self) -> bool {
        let bytes = self.0.as_bytes();
        bytes.len() > 18
            && bytes.len() <= 18 + 64
            && bytes[12] == b'-'
            && bytes[17] == b'-'
            && self.millis().is_some()
            && self.counter().is_some()
    }
    /// The same stamp, no further ahead of `now_ms` than `ahead_ms` (I4: no client clock wins for ever).
    #[must_use]
    pub fn clamped(&self, now_ms: u64, ahead_ms: u64) -> Self {
        match (self.millis(), self.counter(), self.client()) {
            (Some(ms), Some(counter), Some(client)) if ms > now_ms + ahead_ms => {
                Self::new(now_ms + ahead_ms, counter, client)
            }
            _ => self.clone(),
        }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The clock itself: greater than every stamp it has seen, whatever the wall clock does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hlc {
    millis: u64,
    counter: u16,
}

impl Hlc {
    /// Makes later stamps greater than `stamp`.
    pub fn observe(&mut self, stamp: &Stamp) {
        if let (Some(ms), Some(counter)) = (stamp.millis(), stamp.counter())
            && (ms, counter) > (self.millis, self.counter)
        {
            (self.millis, self.counter) = (ms, counter);
        }
    }
    /// The latest stamp that it knows of, in the name of `client`.
    pub fn stamp(&self, client: &str) -> Stamp {
        Stamp::new(self.millis, self.counter, client)
    }
    /// A stamp greater than every one before.
    pub fn tick(&mut self, now_ms: u64, client: &str) -> Stamp {
        if now_ms > self.millis {
            (self.millis, self.counter) = (now_ms, 0);
        } else if self.counter == u16::MAX {
            (self.millis, self.counter) = (self.millis + 1, 0);
        } else {
            self.counter += 1;
        }
        Stamp::new(self.millis, self.counter, client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i4_a_stamp_grows_while_the_wall_clock_goes_back() {
        let mut clock = Hlc::default();
        let a = clock.tick(1_000, "c");
        let b = clock.tick(10, "c");
        assert!(b > a);
        clock.observe(&Stamp::new(5_000, 7, "other"));
        assert!(clock.tick(20, "c") > Stamp::new(5_000, 7, "other"));
    }

    #[test]
    fn i4_a_stamp_from_the_future_is_clamped() {
        let wild = Stamp::new(99_000_000, 3, "c");
        assert_eq!(wild.clamped(1_000, 60_000), Stamp::new(61_000, 3, "c"));
        assert_eq!(wild.clamped(98_999_000, 60_000), wild);
    }
}
