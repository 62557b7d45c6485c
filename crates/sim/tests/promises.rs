//! Whole histories as tests, named by promise.

use landfall_core::plant::Plant;
use landfall_sim::{History, equality, isolation, plants, run};
use std::collections::BTreeMap;

/// Plays seeds; the first broken promise fails the test with its seed. Gives the faults, and in how many histories each kind
/// of them was.
fn play(seeds: impl Iterator<Item = u64>) -> (u64, BTreeMap<&'static str, u64>) {
    let (mut faults, mut kinds) = (0, BTreeMap::new());
    for seed in seeds {
        let ended = run(&History::generate(seed), None, false);
        if let Some(broken) = ended.violation {
            panic!("seed {seed}: {} {}", broken.promise, broken.text);
        }
        faults += ended.faults;
        ended.kinds.into_iter().for_each(|kind| *kinds.entry(kind).or_default() += 1);
    }
    (faults, kinds)
}

/// Plays seeds as they are now, and as they were before contexts could open on a log that is indexed.
fn play_both(seeds: impl Iterator<Item = u64> + Clone) {
    play(seeds.clone());
    for seed in seeds {
        let mut history = History::generate(seed);
        if history.setup.tail.take().is_some()
            && let Some(broken) = run(&history, None, false).violation
        {
            panic!("seed {seed} without an index: {} {}", broken.promise, broken.text);
        }
    }
}

#[test]
fn all_promises_hold_in_three_hundred_histories_with_ten_faults_each() {
    let (faults, kinds) = play(1_000_000..1_000_300);
    assert!(faults > 3_000, "{faults} faults");
    let often = [
        "already_decided",
        "decided",
        "half_open",
        "poke_doubled",
        "poke_late",
        "poke_lost",
        "poke_stray",
        "resolved",
        "restore",
        "revoke",
        "role_given",
        "role_taken",
    ];
    let some = [("cascade", 9), ("has_children", 9)];
    for (kind, least) in often.into_iter().map(|kind| (kind, 15)).chain(some) {
        let count = kinds.get(kind).copied().unwrap_or(0);
        assert!(count >= least, "{kind} is in {count} of 300 histories");
    }
}

/// Histories that found a bug of the policies, of what a restored server lost, of two lanes that waited for each other, and
/// of a batch that a fork brought. Each of them once.
#[test]
fn r1_s1_s4_c1_histories_that_found_a_bug_hold() {
    play_both([478, 1_257, 1_303, 1_523, 201_211, 1_945, 116_025, 323_746].into_iter());
}

#[test]
fn i1_a_user_hears_the_same_with_and_without_the_others() {
    for seed in 2_000_000..2_000_020 {
        if let Some(broken) = isolation::check(seed, None) {
            panic!("seed {seed}: {} {}", broken.promise, broken.text);
        }
    }
}

#[test]
fn one_seed_gives_one_story() {
    for seed in 0..20 {
        assert_eq!(equality::hash_of(seed), equality::hash_of(seed), "seed {seed}");
    }
}

/// The cheap ones; the rest is found by `landfall-sim --plants`.
#[test]
fn planted_bugs_are_found() {
    let cheap = [
        Plant::RemoveBeforeSettle,
        Plant::HealAppendsTwice,
        Plant::ServerKeepsNoOutcome,
        Plant::GroupSplit,
        Plant::RoleFromPayload,
        Plant::AccessStaysVisible,
        Plant::PokeIsCovered,
        Plant::OldRowsInNewEpoch,
        Plant::CascadeForgotten,
        Plant::ReviewDecidedTwice,
    ];
    for plant in cheap {
        let found = plants::find(plant, 1, 200);
        assert!(found.found.is_some(), "{plant:?}");
    }
}

/// Seeds that broke a promise once. The history of a seed changes with the generator; each is here for the bug that it
/// found, and the scenarios beside it (`scenarios.rs`, the tests of the core) pin what must not come back.
#[test]
fn found_seeds_stay_mended() {
    let found = [
        4,         // R2: of a put and a delete in one push the put won in the base
        10,        // R1: a clock that runs ahead refreshed tokens for ever
        19,        // C1: a follower of a change that lost overwrote what its author had not seen
        21,        // C3: an update and a blind create were sent as an update
        22,        // L5: a gap in the log that could not be read was never read
        54,        // L5: a follower stood on what was there before an own change that had been accepted
        77,        // R1: a clock that went back stretched Retry-After to an hour
        129,       // R1: a poke during a pull was forgotten
        133,       // R2: a page from an old cursor was stored over a newer one
        185,       // S5: discarding a create tore the groups that stood on it
        268,       // R6: a client that had never pulled lost what a restored backup had not
        652,       // I3: a row set aside at an open that failed was not reported
        676,       // R1: a pair taken away during a reset stayed
        911,       // R1: an answer cut short stopped sync until a person looked
        1_191,     // R1: a pair with a wrong checksum was asked for only with the next pull
        1_195,     // S1: a stale read brought back an entry that had ended
        2_898,     // R1: what a damaged segment lost was pulled only minutes later
        4_031,     // S4: what a backup had lost went behind what was written after it
        5_217,     // R1: of two pages stored at once the first brought back what the second took away
        8_073,     // R1: a second damaged row within the hour was forgotten
        15_382,    // R1: a late word of a reset threw away the cold start of another context
        21_364,    // R1: a poke during a pull was forgotten when the clock went back
        41_609,    // R1: a damaged run was repaired only minutes later
        50_013,    // R1: a damaged run of an index was written over by the next pull
        80_674,    // L5: an answer about what another context had settled meanwhile made the client fork
        1_005_774, // R1: the simulator never looked for a damaged run whose finder was killed
    ];
    play_both(found.into_iter());
}
