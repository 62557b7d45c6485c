//! Proof that the checks can fail: every planted bug is found.

use crate::history::History;
use crate::isolation;
use crate::run::run;
use landfall_core::plant::Plant;

/// Histories within which a bug must be found.
pub const HISTORIES_MAX: u64 = 10_000;

/// A planted bug and what became of it.
#[derive(Clone, Debug)]
pub struct Found {
    pub plant: Plant,
    /// How many histories it took, its seed, and the promise that broke; `None`: it was not found.
    pub found: Option<(u64, u64, &'static str)>,
}

/// Plants a bug and runs histories until a promise breaks.
pub fn find(plant: Plant, seed: u64, histories: u64) -> Found {
    let found = (0..histories).find_map(|count| {
        let seed = seed + count;
        let mut violation = run(&History::generate(seed), Some(plant), false).violation;
        if violation.is_none() && seed.is_multiple_of(isolation::EVERY) {
            violation = isolation::check(seed, Some(plant));
        }
        let violation = violation?;
        Some((count + 1, seed, violation.promise))
    });
    Found { plant, found }
}

/// The plant of this name.
pub fn named(name: &str) -> Option<Plant> {
    Plant::ALL.into_iter().find(|plant| format!("{plant:?}").eq_ignore_ascii_case(name))
}
