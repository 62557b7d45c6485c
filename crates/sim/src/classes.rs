//! The classes of faults: each has a name, is counted where it takes effect, and must be in a part of all histories.

use std::collections::BTreeMap;

/// Of a hundred histories, in so many each class must have taken effect.
pub const LEAST_PERCENT: f64 = 5.0;

/// What may happen to a world. A name is noted where the fault did something, not where it was drawn.
pub const CLASSES: [&str; 52] = [
    // Requests on their way.
    "request_lost",
    "answer_lost",
    "duplicated",
    "replayed_hours_later",
    "reordered",
    "answer_cut",
    "slow",
    "corrupt_in_transit",
    "answered_500",
    // Partitions.
    "cut_off",
    "cut_push",
    "cut_pull",
    "cut_live",
    // The live channel.
    "half_open",
    "poke_lost",
    "poke_doubled",
    "poke_late",
    "poke_stray",
    // The server.
    "crash_before_commit",
    "crash_after_commit",
    "server_down",
    "server_clock_back",
    "restore",
    "storm_429",
    "storm_503",
    "pruned",
    "tombstones_cleaned_while_away",
    "server_upgrade",
    // Contexts.
    "killed",
    "died_before_commit",
    "died_after_commit",
    "died_in_flight",
    "worker_stopped_in_flush",
    "frozen_with_lock",
    "two_flushers",
    "notice_lost",
    "client_upgrade",
    "power_cut",
    // Disks.
    "row_store_abort",
    "connection_lost_after_commit",
    "connection_lost_before_commit",
    "quota",
    "evicted",
    "profile_cloned",
    "corrupt_at_rest",
    // Clocks.
    "clock_backwards",
    "clock_stuck",
    "clock_off_by_a_year",
    // Who one is.
    "token_expired",
    "user_switched",
    "revoke",
    "role_taken",
];

/// In how many of a hundred histories something of this kind happened.
pub fn percent(kinds: &BTreeMap<&'static str, u64>, kind: &str, histories: u64) -> f64 {
    kinds.get(kind).copied().unwrap_or(0) as f64 * 100.0 / histories.max(1) as f64
}

/// Classes that are too rare.
pub fn rare(kinds: &BTreeMap<&'static str, u64>, histories: u64) -> Vec<(&'static str, f64)> {
    let shares = CLASSES.into_iter().map(|class| (class, percent(kinds, class, histories)));
    shares.filter(|(_, share)| *share < LEAST_PERCENT).collect()
}
