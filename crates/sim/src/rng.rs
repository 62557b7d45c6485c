//! The only source of chance: one seed, many streams.

use std::cell::Cell;
use std::rc::Rc;

/// SplitMix64. Clones share the stream, so that two owners never draw the same number.
#[derive(Clone, Debug)]
pub struct Rng(Rc<Cell<u64>>);

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(Rc::new(Cell::new(mix(seed ^ 0x6c61_6e64_6661_6c6c))))
    }
    /// A stream of its own that depends on the seed and `name` only, not on what was drawn before.
    pub fn stream(seed: u64, name: u64) -> Self {
        Self::new(mix(seed).wrapping_add(name.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }
    pub fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        mix(state)
    }
    /// Uniform in `0..n`; 0 for `n` = 0.
    pub fn below(&self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.next() % n }
    }
    /// Uniform in `from..=to`.
    pub fn between(&self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }
    /// True `times` out of `of`.
    pub fn chance(&self, times: u64, of: u64) -> bool {
        times > 0 && self.below(of) < times
    }
    pub fn index(&self, len: usize) -> usize {
        self.below(len as u64) as usize
    }
}
