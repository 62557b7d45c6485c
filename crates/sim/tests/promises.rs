//! Whole histories as tests, named by promise.

use landfall_core::plant::Plant;
use landfall_sim::{History, classes, equality, isolation, plants, run};
use std::collections::BTreeMap;

/// Plays seeds; the first broken promise fails the test with its seed. Gives the faults, and in how many histories each kind
/// of them was.
fn play(seeds: impl Iterator<Item = u64>, history_of: impl Fn(u64) -> History) -> (u64, BTreeMap<&'static str, u64>) {
    let (mut faults, mut kinds) = (0, BTreeMap::new());
    for seed in seeds {
        let history = history_of(seed);
        let ended = run(&history, None, false);
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
    play(seeds.clone(), History::early);
    for seed in seeds {
        let mut history = History::early(seed);
        if history.setup.tail.take().is_some()
            && let Some(broken) = run(&history, None, false).violation
        {
            panic!("seed {seed} without an index: {} {}", broken.promise, broken.text);
        }
    }
}

/// What each class must be in, of a hundred histories, the program looks at in thousands of them; here each must be there.
#[test]
fn all_promises_hold_in_three_hundred_histories_with_twenty_faults_each() {
    let (faults, kinds) = play(1_000_000..1_000_300, History::generate);
    assert!(faults > 300 * 20, "{faults} faults");
    for class in classes::CLASSES {
        let count = kinds.get(class).copied().unwrap_or(0);
        assert!(count >= 4, "{class} is in {count} of 300 histories");
    }
}

#[test]
fn a_class_of_faults_that_is_rare_is_named() {
    let kinds = classes::CLASSES.into_iter().map(|class| (class, 100)).collect::<BTreeMap<_, _>>();
    assert!(classes::rare(&kinds, 2_000).is_empty());
    let rare = classes::rare(&kinds, 2_001);
    assert_eq!(rare.len(), classes::CLASSES.len());
    let fewer = kinds.into_iter().filter(|(class, _)| *class != "evicted").collect();
    assert_eq!(classes::rare(&fewer, 2_000), [("evicted", 0.0)]);
}

#[test]
fn histories_have_50_to_500_steps_and_up_to_three_users_devices_and_contexts() {
    for seed in 0..3_000 {
        let History { setup, steps, .. } = History::generate(seed);
        assert!((50..=560).contains(&steps.len()), "seed {seed} has {} steps", steps.len());
        let devices = (0..setup.users).map(|user| setup.profiles.iter().filter(|other| **other == user).count());
        assert!((2..=3).contains(&setup.users) && (1..=3).contains(&setup.slots), "seed {seed}");
        assert!(devices.into_iter().all(|count| (1..=3).contains(&count)), "seed {seed}");
    }
}

/// Histories of the first generation that found a bug of the policies, of what a restored server lost, of two lanes that waited for each other, and
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
        Plant::UnknownIsRejected,
        Plant::OutageCounts,
        Plant::NoticeTrusted,
        Plant::UserNotCompared,
        Plant::UnknownFieldDropped,
        Plant::CleanUpKeepsFloor,
        Plant::TombstoneDroppedEarly,
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

/// The same of the second generation.
#[test]
fn r2_s7_c1_histories_of_the_second_generation_that_found_a_bug_hold() {
    let found = [
        7_763,   // R2: a page's checksum was compared with what another context had pulled since, and the pair pulled anew
        12_463,  // I3: a damaged row of the lane index was no longer said once the index had been made anew
        11_319,  // C1: what followed a loser stood on nothing where the batch was cut between them
        15_436,  // L5: a group that lost let what stood on it pass a refused change before it, which went again
        20_291,  // S7: an answer was counted twice when nobody heard that its count had been stored
        20_363,  // C2: the model took a cleared field that went with its record for a loss
        28_842,  // S4: a late word of a former reset undid what was known of a second one
        42_157,  // S4: as 15,436, in another policy
        52_199,  // S4: a late double of a first push took effect at a restored server
        55_760,  // I1: what strangers have in scopes of their own changed when the simulator read
        71_331,  // L5: what was sent before the first pull was forgotten when the clock jumped ahead
        80_978,  // I6: the simulator counted pages that another context had stored
        114_042, // I6: and those of which another context had stored the next ones, too
        105_502, // L5: the same of a collection that came later
        118_923, // S4: the model took two copies of a profile for one, behind a restored backup
        186_535, // S1: told the epoch, a client that knew none went on as another one, while its other context sent as the first
        250_138, // R6: of a create and its delete that ended here the epoch of the last answered push was forgotten
        263_898, // I3: the context that found the damaged row, said so and mended it died before the simulator looked
        294_302, // R6: as 250,138
        216_919, // L4: a context that stood still while outcomes were trimmed took what had ended for undecided
        218_695, // S1: as 216,919, and sent it again
        457_010, // S7: one answer that a batch was too large cut it twice when nobody heard that its cut had been stored
        460_534, // R6: an answer from before the restore was stored behind another context's reset
        805_576, // S4: as 118,923, of a profile and what it was before it was rolled back
        982_720, // L4: what a damaged row had refused was sent and refused again, and took the place of more in the parked row
        1_192_712, // L4: as 982,720, of what had been tried again since
        1_202_897, // S1: a batch whose commit was lost was taken for stored where another context had given its seqs to other bytes
        1_207_425, // C1: of a copied client's push what stood on a seq of the other copy was judged as if it stood on that
        1_282_119, // R1: seven requests that failed together made a client wait as if they had failed one after the other
        1_307_163, // C2: the model did not know that a group parks whose seq another copy of the profile had used
        1_399_171, // L5: the simulator compared what a damaged row of decisions had ended, before and after its log row was read
        1_535_681, // L5: the model did not know that a record's own writes are unknown to who had lost access and has it back
        1_614_783, // R6: a first pull took another epoch than that of a push which another context had sent meanwhile
        1_719_010, // I3: the simulator waited for word of a damaged row of the base that a restored server's epoch had dropped unread
        1_793_080, // L5, without user 0: a batch passed what another context had written before and a failed read had not shown
        2_171_061, // C1: the server had forgotten, as acknowledged, what a change still to be sent named in `after`
        3_001_103, // C3: the simulator's restored server gave out versions of the former epoch in scopes that it did not know
    ];
    play(found.into_iter(), History::generate);
    // As the program does, which found some of them only so.
    for seed in found.into_iter().filter(|seed| seed.is_multiple_of(isolation::EVERY)) {
        assert_eq!(isolation::check(seed, None), None, "seed {seed}");
    }
}

/// Each promise of docs/promises.md is broken by a plant, and docs/proof.md names all of them beside it.
#[test]
fn docs_proof_names_for_each_promise_the_plants_that_break_it() {
    let proof = include_str!("../../../docs/proof.md");
    let mut wanted: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for plant in Plant::ALL {
        wanted.entry(plant.promise()).or_default().push(format!("`{plant:?}`"));
    }
    let promises = include_str!("../../../docs/promises.md").lines().filter_map(|line| {
        let code = line.strip_prefix("| **")?.split("**").next()?;
        Some(code.to_owned())
    });
    for code in promises {
        let plants = wanted.remove(code.as_str()).unwrap_or_default();
        assert!(!plants.is_empty(), "no planted bug breaks {code}");
        let row = format!("| {code} | {} |", plants.join(", "));
        assert!(proof.contains(&row), "docs/proof.md lacks the row\n{row}");
    }
    assert!(wanted.is_empty(), "docs/promises.md lacks {wanted:?}");
}
