//! I1: what one user's devices send and hear is the same with and without the others, if they share no scope.

use crate::history::{History, What};
use crate::model::Violation;
use crate::run::run;
use landfall_core::plant::Plant;

/// Every so many histories one is played for I1, too.
pub const EVERY: u64 = 40;

/// Plays a history without a shared scope twice, the second time without the first user's doings, and compares.
pub fn check(seed: u64, bug: Option<Plant>) -> Option<Violation> {
    let mut history = History::generate(seed);
    history.setup.sharing = 0;
    history.newcomers = false;
    // A crash falls on whoever pushes next, a clone or a successor takes the next stream of chance, and whose token somebody
    // gets by mistake is no doing of his own: none of it is anybody's data.
    history.steps.retain(|step| {
        !matches!(
            step.what,
            What::ServerCrash { .. } | What::Clone { .. } | What::Evict { .. } | What::SwitchUser { .. }
        )
    });
    let others: Vec<usize> = (1..history.setup.users).collect();
    let whole = run(&history, bug, false);
    if whole.violation.is_some() {
        return whole.violation;
    }
    let alone = run(&history.only_users(&others), bug, false);
    if alone.violation.is_some() {
        return alone.violation;
    }
    let devices = history.setup.profiles.iter().enumerate().filter(|(_, user)| others.contains(user));
    let changed = devices.map(|(index, _)| index).find(|index| whole.transcripts[*index] != alone.transcripts[*index]);
    changed.map(|index| Violation {
        promise: "I1",
        text: format!("profile {index} sends or hears something else when user 0 does nothing"),
    })
}
