//! How a history is set up: which faults and rules it has, so that histories differ in kind (swarm testing).

use crate::disk::DiskFaults;
use crate::live::LiveFaults;
use crate::net::LinkFaults;
use crate::policy::PolicyKind;
use crate::rng::Rng;
use crate::world::{Guard, OnDelete, Setup};
use landfall_core::lane_index::Tail;

/// What is drawn once for a whole history. What came later is drawn from streams of its own, or follows from the seed: seeds
/// that do not have it stay the histories that they were.
pub fn setup(seed: u64, rng: &Rng) -> Setup {
    let users = rng.between(2, 3) as usize;
    let sharing = if rng.chance(1, 5) { 0 } else { rng.between(2, users as u64) as usize };
    let mut profiles = Vec::new();
    for user in 0..users {
        let devices = if user == 0 { rng.between(1, 2) } else { 1 + u64::from(rng.chance(1, 6)) };
        profiles.extend((0..devices).map(|_| user));
    }
    let mut link =
        LinkFaults { slow_ms: *[2_000, 20_000, 60_000].get(rng.index(3)).unwrap_or(&2_000), ..LinkFaults::default() };
    let rate = |rng: &Rng, on: u64| if rng.chance(1, on) { rng.between(20, 200) as u32 } else { 0 };
    link.request_lost = rate(rng, 2);
    link.answer_lost = rate(rng, 2);
    link.answer_cut = rate(rng, 4);
    link.duplicated = rate(rng, 2);
    link.slow = rate(rng, 3);
    link.error_500 = rate(rng, 4);
    let mut disk = DiskFaults::default();
    if rng.chance(1, 2) {
        let rate = |rng: &Rng| if rng.chance(1, 2) { rng.between(5, 60) as u32 } else { 0 };
        disk.abort = rate(rng);
        disk.unknown_committed = rate(rng);
        disk.unknown_not_committed = rate(rng);
        disk.read = rate(rng) / 2;
    }
    let roles = Rng::stream(seed, 6);
    let has_roles = sharing > 0 && roles.chance(1, 4);
    let guards = [Guard::Nothing, Guard::Write, Guard::Read];
    let deletes = [OnDelete::Nothing, OnDelete::Refuse, OnDelete::Cascade];
    let parents = Rng::stream(seed, 7);
    let had_families = seed % 4 == 1;
    let families = had_families || parents.chance(3, 10);
    let reviewers = sharing > 0 && Rng::stream(seed, 9).chance(1, 3);
    let mut policies = PolicyKind::of_seed(seed);
    if reviewers {
        policies[1] = PolicyKind::Review;
    }
    Setup {
        seed,
        users,
        sharing,
        profiles,
        slots: rng.between(1, 3) as u32,
        link,
        disk,
        disk_ms: if rng.chance(1, 3) { rng.between(2, 40) } else { 0 },
        locks_broken: rng.chance(1, 4),
        notices_lost: if rng.chance(1, 3) { rng.between(50, 900) as u32 } else { 0 },
        page_limit: if rng.chance(1, 2) { rng.between(1, 8) as usize } else { 100 },
        batch_count: if rng.chance(1, 2) { rng.between(1, 6) as usize } else { 100 },
        attempts_max: rng.between(2, 10) as u32,
        token_ms: rng.chance(1, 3).then(|| rng.between(5_000, 900_000)),
        body_bytes_max: rng.chance(1, 12).then(|| rng.between(600, 2_000) as usize),
        relaxed: rng.chance(1, 10),
        pokes: rng.chance(2, 3),
        live: live(seed),
        filler_bytes: if seed.is_multiple_of(4) { 320 } else { 0 },
        tail: tail(seed),
        families,
        on_delete: match (families, had_families) {
            (false, _) => OnDelete::Nothing,
            (true, true) => deletes[parents.index(3)],
            (true, false) => deletes[(1 + parents.index(3)).min(2)],
        },
        roles: has_roles,
        resolves: if Rng::stream(seed, 8).chance(1, 3) { 8 } else { 0 },
        guard: if has_roles { guards[roles.index(3)] } else { Guard::Nothing },
        policies,
        reviewers,
        unique: !families && Rng::stream(seed, 10).chance(1, 4),
        deep: false,
        dies: 0,
        upgrades: false,
        timed: false,
        strange: false,
    }
}

/// What histories of the second generation have beside, from a stream of its own.
pub fn deepen(setup: &mut Setup) {
    let rng = Rng::stream(setup.seed, 20);
    let rate =
        |percent: u64, from: u64, to: u64| if rng.chance(percent, 100) { rng.between(from, to) as u32 } else { 0 };
    setup.deep = true;
    setup.dies = rate(35, 10, 60);
    setup.link.replayed = rate(9, 50, 200);
    setup.link.corrupt = rate(14, 15, 60);
    setup.upgrades = setup.sharing > 0 && rng.chance(12, 100);
    setup.timed = setup.unique && rng.chance(1, 2);
    setup.strange = rng.chance(1, 5);
    if rng.chance(1, 12) {
        setup.profiles.push(0);
    }
}

/// In every third seed contexts open on a log that is indexed.
fn tail(seed: u64) -> Option<Tail> {
    let rng = Rng::stream(seed, 40);
    let rows = rng.between(1, 6) as usize;
    rng.chance(1, 3).then_some(Tail { rows, entries: rows * 3 })
}

/// Every third seed has a live channel that fails.
fn live(seed: u64) -> LiveFaults {
    let rng = Rng::stream(seed, 4);
    if !rng.chance(1, 3) {
        return LiveFaults::default();
    }
    let rate = |most: u64| if rng.chance(2, 3) { rng.between(20, most) as u32 } else { 0 };
    LiveFaults {
        lost: rate(900),
        doubled: rate(500),
        late: rate(500),
        stray: rate(500),
        late_ms: *[2_000, 20_000, 60_000].get(rng.index(3)).unwrap_or(&2_000),
        half_open: if rng.chance(1, 2) { 3 } else { 0 },
    }
}
