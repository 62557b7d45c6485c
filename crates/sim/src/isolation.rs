//! I1: what one user's devices send and hear is the same with and without the others, if they share no scope.

use crate::history::{History, What};
use crate::model::Violation;
use crate::run::run;
use landfall_core::plant::Plant;

/// Every so many histories one is played for I1, too.
pub const EVERY: u64 = 40;

/// A history without a shared scope, and the same without the first user's doings.
pub struct Pair {
    pub whole: History,
    pub alone: History,
    others: Vec<usize>,
}

impl Pair {
    pub fn of(seed: u64) -> Self {
        let mut whole = History::generate(seed);
        whole.setup.sharing = 0;
        whole.newcomers = false;
        // A crash falls on whoever pushes next, a clone or a successor takes the next stream of chance, and whose token somebody
        // gets by mistake is no doing of his own: none of it is anybody's data.
        whole.steps.retain(|step| {
            !matches!(
                step.what,
                What::ServerCrash { .. } | What::Clone { .. } | What::Evict { .. } | What::SwitchUser { .. }
            )
        });
        let others: Vec<usize> = (1..whole.setup.users).collect();
        Self { alone: whole.only_users(&others), whole, others }
    }
}

/// Plays both and compares.
pub fn check(seed: u64, bug: Option<Plant>) -> Option<Violation> {
    let Pair { whole, alone, others } = Pair::of(seed);
    let profiles = whole.setup.profiles.clone();
    let mut devices = (0..profiles.len()).filter(|index| others.contains(&profiles[*index]));
    let whole = run(&whole, bug, false);
    if whole.violation.is_some() {
        return whole.violation;
    }
    let alone = run(&alone, bug, false);
    if alone.violation.is_some() {
        return alone.violation;
    }
    let changed = devices.find(|index| whole.transcripts[*index] != alone.transcripts[*index]);
    changed.map(|index| Violation {
        promise: "I1",
        text: format!("profile {index} sends or hears something else when user 0 does nothing"),
    })
}
