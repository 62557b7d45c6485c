//! The rules of sync, without clock, randomness or I/O: equal inputs give equal outputs.
pub mod authority;
