//! Single stories, told step by step.

use landfall_sim::history::{Kind, Step, What, Write};
use landfall_sim::net::Cut;
use landfall_sim::policy::PolicyKind;
use landfall_sim::world::{OnDelete, Setup};
use landfall_sim::{Ended, History, run};

/// Two users who share a scope, a device each, and nothing that fails by chance.
fn calm(seed: u64) -> Setup {
    Setup {
        seed,
        users: 2,
        sharing: 2,
        profiles: vec![0, 1],
        slots: 2,
        page_limit: 100,
        batch_count: 100,
        attempts_max: 3,
        pokes: true,
        ..Setup::default()
    }
}

fn put(record: u64, value: u64) -> Write {
    Write { kind: Kind::Put, collection: 1, record, fields: vec![("a", value)], bad: false }
}

fn write(profile: usize, writes: Vec<Write>, atomic: bool) -> What {
    What::Write { profile, slot: 0, writes, atomic }
}

fn after(wait_ms: u64, what: What) -> Step {
    Step { wait_ms, what }
}

fn play(setup: Setup, steps: Vec<Step>) -> Ended {
    let ended = run(&History { setup, steps, newcomers: true, quiet: true }, None, true);
    if let Some(broken) = &ended.violation {
        panic!("{} {}\n{}", broken.promise, broken.text, ended.trace.join("\n"));
    }
    ended
}

/// Pushes that the server answered, in order.
fn pushes(ended: &Ended) -> Vec<&String> {
    ended.trace.iter().filter(|line| line.contains("/push {")).collect()
}

#[test]
fn s7_a_server_that_is_down_for_ten_minutes_costs_nothing_but_time() {
    let mut steps = vec![after(100, write(0, vec![put(1, 1)], false)), after(1_000, What::ServerDown { ms: 600_000 })];
    steps.extend((2..10).map(|value| after(30_000, write(0, vec![put(value, value)], false))));
    // Nobody clicks, and no event of the browser helps.
    steps.push(after(600_000, What::Read { profile: 1, slot: 0 }));
    let ended = play(calm(7), steps);
    let during = ended.trace.iter().filter(|line| line.contains("met a server that is down")).count();
    assert!(during >= 10, "it was tried again and again: {during}");
    let sent: String = pushes(&ended).into_iter().cloned().collect();
    for value in 1..10 {
        assert!(sent.contains(&format!("\"id\":\"r{value}\"")), "record {value} has arrived");
    }
}

#[test]
fn s5_a_transaction_is_applied_and_pulled_as_one() {
    let mut setup = calm(5);
    // Smaller than the transaction: neither a batch nor a page may cut it.
    (setup.batch_count, setup.page_limit) = (2, 1);
    let steps = vec![
        after(500, write(0, vec![put(1, 1), put(2, 2), put(3, 3)], true)),
        after(2_000, What::Read { profile: 1, slot: 0 }),
        after(10, write(1, vec![put(1, 4), put(2, 5)], true)),
        after(2_000, What::Read { profile: 0, slot: 0 }),
    ];
    let ended = play(setup, steps);
    let first = pushes(&ended)[0];
    assert_eq!(first.matches("\"group\":").count(), 3, "{first}");
    assert_eq!(first.matches("\"status\":\"applied\"").count(), 3, "{first}");
}

#[test]
fn s5_a_transaction_is_refused_as_one() {
    let bad = Write { bad: true, ..put(2, 2) };
    let steps = vec![
        after(500, write(0, vec![put(1, 1), bad, put(3, 3)], true)),
        after(2_000, What::Read { profile: 0, slot: 0 }),
        after(10, write(0, vec![put(4, 4)], false)),
        after(2_000, What::Read { profile: 1, slot: 0 }),
    ];
    let ended = play(calm(6), steps);
    let first = pushes(&ended)[0];
    assert_eq!(first.matches("\"status\":\"rejected\"").count(), 3, "{first}");
    let sent: String = pushes(&ended).into_iter().cloned().collect();
    assert!(sent.contains("\"status\":\"applied\""), "other writes flow on");
}

#[test]
fn l1_writes_of_a_tab_that_is_killed_at_once_arrive() {
    let mut steps = Vec::new();
    for value in 0..50 {
        steps.push(after(value, write(0, vec![put(value % 5, value + 1)], false)));
        steps.push(after(value % 3, What::Kill { profile: 0, slot: 0 }));
    }
    let mut setup = calm(8);
    setup.disk_ms = 5;
    play(setup, steps);
}

#[test]
fn r1_a_device_that_was_away_catches_up_by_its_timers() {
    let mut steps = vec![after(500, What::Offline { profile: 1, cut: Cut::All, hint: false })];
    steps.extend((1..20).map(|value| after(200, write(0, vec![put(value % 4, value)], false))));
    steps.push(after(60_000, write(1, vec![put(9, 100)], false)));
    play(calm(9), steps);
}

#[test]
fn l5_two_tabs_that_hear_nothing_of_each_other_never_conflict() {
    let mut setup = calm(10);
    setup.notices_lost = 1_000;
    setup.locks_broken = true;
    let steps = (0..40).map(|value| {
        let writes = vec![put(value % 2, value + 1)];
        after(value * 7 % 90, What::Write { profile: 0, slot: (value % 2) as u32, writes, atomic: false })
    });
    let ended = play(setup, steps.collect());
    assert!(!ended.trace.iter().any(|line| line.contains("superseded")), "no conflict of a client with itself");
}

#[test]
fn c1_a_conflict_that_two_devices_decide_at_once_is_decided_once() {
    let mut setup = calm(11);
    (setup.profiles, setup.reviewers) = (vec![0, 0, 1], true);
    setup.policies[1] = PolicyKind::Review;
    let decide = |profile, said| What::Decide { profile, slot: 0, pick: 0, said };
    let steps = vec![
        after(500, What::Offline { profile: 2, cut: Cut::All, hint: false }),
        after(100, write(0, vec![put(1, 1)], false)),
        after(2_000, write(2, vec![put(1, 2)], false)),
        after(100, What::Online { profile: 2 }),
        // Both devices know the conflict, and neither what the other one says.
        after(5_000, decide(0, 0)),
        after(0, decide(1, 2)),
        after(5_000, What::Read { profile: 2, slot: 0 }),
    ];
    let ended = play(setup, steps);
    assert!(ended.kinds.is_superset(&["decided", "already_decided"].into()), "{:?}", ended.kinds);
}

#[test]
fn c1_a_parent_is_deleted_with_its_children_or_not_at_all() {
    for (on_delete, kind) in [(OnDelete::Refuse, "has_children"), (OnDelete::Cascade, "cascade")] {
        let mut setup = calm(12);
        (setup.families, setup.on_delete) = (true, on_delete);
        // Its parent is the task of an even number: r0.
        let child = Write { collection: 2, ..put(1, 2) };
        let steps = vec![
            after(500, write(0, vec![put(0, 1), child], true)),
            // On a device that has pulled both.
            after(5_000, write(1, vec![Write { kind: Kind::Delete, fields: Vec::new(), ..put(0, 0) }], false)),
            after(5_000, What::Read { profile: 0, slot: 0 }),
        ];
        let ended = play(setup, steps);
        assert!(ended.kinds.contains(kind), "{on_delete:?}: {:?}", ended.kinds);
    }
}
