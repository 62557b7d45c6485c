//! The same seed gives the same story everywhere: hashes of whole histories, natively and from wasm.

use crate::history::History;
use crate::run::run;

/// Seeds that are compared.
pub const SEEDS: u64 = 100;

/// Over everything that a history sent, heard and stored.
pub fn hash_of(seed: u64) -> u64 {
    run(&History::generate(seed), None, false).hash
}

/// For wasm32, where JavaScript calls it with the two halves of a seed; a `u64` arrives there as a BigInt.
#[allow(unsafe_code)] // An exported name is what makes a function of a module callable; nothing here is unsafe.
#[unsafe(no_mangle)]
pub extern "C" fn trace_hash(seed_hi: u32, seed_lo: u32) -> u64 {
    hash_of(u64::from(seed_hi) << 32 | u64::from(seed_lo))
}
