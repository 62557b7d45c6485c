//! Every call to the disk fails once: each story is told again and again, and each time another call of its first
//! device goes wrong in another way. Then faults stop, and all promises must hold: what was acknowledged is at the
//! server once or parked, what was refused is nowhere, the base is the server's, and no row is lost or left over.
//!
//! In debug builds every third call of the longer stories; all of them in an optimised build or with
//! `LANDFALL_FAILURES=all`.

use landfall_core::lane_index::Tail;
use landfall_core::plant::Plant;
use landfall_sim::history::{Kind, Mend, Step, What, Write};
use landfall_sim::net::Cut;
use landfall_sim::world::{Setup, World};
use landfall_sim::{Ended, History, run_in};
use landfall_storage::faulty::{Call, Fault, flip_byte};
use landfall_storage::memory::Disk;
use landfall_storage::{Key, Manifest, RowId, RowKind, StorageFault, StoreName, decode};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

// ---- how a call goes wrong ------------------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug)]
enum Wrong {
    /// This call fails so, and as many calls after it, if they are reads, do not answer.
    Fails(fn() -> Fault, u64),
    /// The machine stops before the call or after it; what no strict transaction flushed is lost or kept.
    Stops { after: bool, power: bool },
    /// The call is answered, and its context is gone before it does anything else that takes time.
    Dies,
}

const READ: [Wrong; 6] = [
    Wrong::Fails(|| Fault::ReadFails(StorageFault::ConnectionLost), 0),
    Wrong::Fails(|| Fault::ReadFails(StorageFault::Other), 0),
    Wrong::Fails(|| Fault::ReadFails(StorageFault::ConnectionLost), 4),
    Wrong::Stops { after: false, power: false },
    Wrong::Stops { after: false, power: true },
    Wrong::Dies,
];

const COMMIT: [Wrong; 12] = [
    Wrong::Fails(|| Fault::AbortBefore(StorageFault::Quota), 0),
    Wrong::Fails(|| Fault::AbortBefore(StorageFault::ConnectionLost), 0),
    Wrong::Fails(|| Fault::AbortBefore(StorageFault::Other), 0),
    Wrong::Fails(|| Fault::UnknownButCommitted, 0),
    Wrong::Fails(|| Fault::UnknownNotCommitted, 0),
    Wrong::Fails(|| Fault::UnknownButCommitted, 4),
    Wrong::Fails(|| Fault::UnknownNotCommitted, 4),
    Wrong::Stops { after: false, power: false },
    Wrong::Stops { after: false, power: true },
    Wrong::Stops { after: true, power: false },
    Wrong::Stops { after: true, power: true },
    Wrong::Dies,
];

/// The name of each call of the first device: a transaction's, or `None` for a read.
type Calls = Rc<RefCell<Vec<Option<&'static str>>>>;

/// Counts the calls of the first device until the world is healed, and lets one of them go wrong.
fn arm(world: &Rc<World>, calls: &Calls, wrong: Option<(u64, Wrong)>) {
    let (calm, calls, weak) = (Rc::clone(&world.is_calm), Rc::clone(calls), Rc::downgrade(world));
    world.profile(0).plan.decide_by(move |_, call| {
        if calm.get() {
            return Fault::None;
        }
        calls.borrow_mut().push(match call {
            Call::Read(_) => None,
            Call::Commit(txn) => Some(txn.name),
        });
        let number = calls.borrow().len() as u64;
        let Some((at, wrong)) = wrong else { return Fault::None };
        match wrong {
            Wrong::Fails(fault, _) if number == at => fault(),
            Wrong::Fails(_, more) if number > at && number <= at + more => {
                Fault::ReadFails(StorageFault::ConnectionLost)
            }
            Wrong::Fails(..) => Fault::None,
            Wrong::Stops { .. } | Wrong::Dies if number != at => Fault::None,
            Wrong::Stops { after, power } => {
                start_again(weak.upgrade(), power);
                if after { Fault::CrashAfter } else { Fault::CrashBefore }
            }
            Wrong::Dies => {
                start_again(weak.upgrade(), false);
                Fault::None
            }
        }
    });
}

/// As soon as the call that is being made has ended.
fn start_again(world: Option<Rc<World>>, power: bool) {
    let Some(world) = world else { return };
    let exec = world.exec.clone();
    exec.spawn(0, 0, async move {
        if power {
            world.power_cut(0);
        } else {
            world.kill_all(0);
        }
        world.profile(0).plan.reopen();
        world.open(0, 0);
    });
}

// ---- the loop -------------------------------------------------------------------------------------------------------

type Prepare<'a> = &'a dyn Fn(&Rc<World>);

/// Tells a story once without a fault and then with each: see above. `names`: transactions that it must come by.
fn tell(setup: &Setup, steps: &[Step], stride: u64, names: &[&'static str], prepare: Prepare<'_>) {
    let history = History { setup: setup.clone(), steps: steps.to_vec(), newcomers: false, quiet: false };
    let play = |wrong, bug, traces| {
        let calls = Calls::default();
        let ended = run_in(&history, bug, traces, &|world| {
            prepare(world);
            arm(world, &calls, wrong);
        });
        (ended, calls.take())
    };
    let (ended, calls) = play(None, None, false);
    check(&ended, "without a fault", || play(None, None, true).0.trace);
    let seen: BTreeSet<&str> = calls.iter().copied().flatten().collect();
    let unseen: Vec<_> = names.iter().filter(|name| !seen.contains(*name)).collect();
    assert!(unseen.is_empty(), "the story does not come by {unseen:?}, only by {seen:?}");

    let all = !cfg!(debug_assertions) || std::env::var("LANDFALL_FAILURES").is_ok_and(|all| all == "all");
    let stride = if all { 1 } else { stride };
    let mut told = 0;
    for (index, name) in calls.iter().enumerate() {
        let at = index as u64 + 1;
        let kinds: &[Wrong] = if name.is_some() { &COMMIT } else { &READ };
        for (turn, wrong) in kinds.iter().enumerate() {
            // Not every third call, but of every call every third way: so none is passed over.
            if !(at + turn as u64).is_multiple_of(stride) {
                continue;
            }
            let (ended, _) = play(Some((at, *wrong)), None, false);
            assert!(ended.faults > 0, "call {at} did not go wrong");
            let how = format!("call {at} of {} ({}): {wrong:?}", calls.len(), name.unwrap_or("read"));
            check(&ended, &how, || play(Some((at, *wrong)), None, true).0.trace);
            told += 1;
        }
    }
    assert!(told > calls.len(), "{told} stories of {} calls", calls.len());
    println!("{} calls, {told} stories, transactions {seen:?}", calls.len());
}

fn check(ended: &Ended, how: &str, trace: impl FnOnce() -> Vec<String>) {
    if let Some(broken) = &ended.violation {
        panic!("{how}: {} {}\n{}", broken.promise, broken.text, trace().join("\n"));
    }
}

// ---- the stories ----------------------------------------------------------------------------------------------------

/// Two users who share a scope, a device each, small batches and pages.
fn setup(seed: u64) -> Setup {
    Setup {
        seed,
        users: 2,
        sharing: 2,
        profiles: vec![0, 1],
        slots: 2,
        page_limit: 4,
        batch_count: 3,
        attempts_max: 2,
        pokes: true,
        ..Setup::default()
    }
}

fn put(record: u64, value: u64) -> Write {
    Write { kind: Kind::Put, collection: 1, record, fields: vec![("a", value)], bad: false }
}
fn bad(record: u64, value: u64) -> Write {
    Write { bad: true, ..put(record, value) }
}
fn delete(record: u64) -> Write {
    Write { kind: Kind::Delete, fields: Vec::new(), ..put(record, 0) }
}

fn write(profile: usize, writes: Vec<Write>) -> What {
    let atomic = writes.len() > 1;
    What::Write { profile, slot: 0, writes, atomic }
}
fn read(profile: usize) -> What {
    What::Read { profile, slot: 0 }
}
fn mend(how: Mend) -> What {
    What::Mend { profile: 0, slot: 0, pick: 0, how }
}
fn after(wait_ms: u64, what: What) -> Step {
    Step { wait_ms, what }
}

#[test]
fn l1_l4_each_call_of_writing_and_sending_may_fail() {
    let offline = What::Offline { profile: 0, cut: Cut::All, hint: true };
    let steps = [
        after(200, write(0, vec![put(1, 1)])),
        after(5, write(0, vec![put(2, 2), put(3, 3)])),
        after(800, What::Write { profile: 0, slot: 1, writes: vec![put(2, 4)], atomic: false }),
        after(600, offline),
        after(50, write(0, vec![put(1, 5)])),
        after(0, write(1, vec![put(1, 6)])),
        after(800, write(0, vec![delete(3)])),
        after(10, What::Online { profile: 0 }),
        after(900, read(0)),
        after(600, What::Read { profile: 0, slot: 1 }),
    ];
    tell(&setup(1), &steps, 3, &["open", "token", "append", "descriptor", "settle", "checkpoint"], &|_| {});
}

/// The log is indexed, and contexts that open on it look at records, write and sync before they have read it.
#[test]
fn l1_l5_each_call_of_opening_on_an_indexed_log_may_fail() {
    let setup = Setup { tail: Some(Tail { rows: 2, entries: 4 }), ..setup(11) };
    let steps = [
        after(200, What::Offline { profile: 0, cut: Cut::All, hint: true }),
        after(50, write(0, vec![put(1, 1)])),
        after(50, write(0, vec![put(2, 2), put(3, 3)])),
        after(400, write(0, vec![put(1, 4)])),
        after(400, What::Kill { profile: 0, slot: 0 }),
        after(50, What::Open { profile: 0, slot: 1 }),
        after(2, What::Write { profile: 0, slot: 1, writes: vec![delete(2)], atomic: false }),
        after(400, write(0, vec![put(3, 5)])),
        after(400, read(0)),
        after(100, What::Online { profile: 0 }),
        after(1_200, What::Read { profile: 0, slot: 1 }),
    ];
    tell(&setup, &steps, 3, &["append", "lanes", "descriptor", "settle"], &|_| {});
}

#[test]
fn l4_each_call_of_mending_and_waiting_may_fail() {
    let steps = [
        after(200, write(0, vec![bad(1, 1)])),
        after(800, mend(Mend::Edit)),
        after(700, write(0, vec![bad(2, 2), put(3, 3)])),
        after(700, mend(Mend::Discard)),
        after(500, What::Burst { status: 429, ms: 300, retry_after_ms: Some(400) }),
        after(5, write(0, vec![put(1, 4)])),
        after(1_500, What::Burst { status: 500, ms: 4_000, retry_after_ms: None }),
        after(5, write(0, vec![put(4, 5)])),
        after(4_500, What::Online { profile: 0 }),
        after(900, read(0)),
    ];
    let names = ["append", "descriptor", "settle", "retry", "discard", "hold", "attempt"];
    tell(&setup(2), &steps, 3, &names, &|_| {});
}

#[test]
fn r6_each_call_of_a_reset_may_fail() {
    let steps = [
        after(200, write(0, vec![put(1, 1)])),
        after(0, write(1, vec![put(2, 2), put(3, 3)])),
        after(800, What::Backup),
        after(5, write(0, vec![put(1, 4)])),
        after(5, write(0, vec![put(4, 5)])),
        after(900, What::Restore),
        after(5, write(0, vec![put(5, 6)])),
        after(900, What::Prune { keep: 0 }),
        after(5, write(1, vec![put(7, 8)])),
        after(900, read(0)),
    ];
    tell(&setup(3), &steps, 3, &["settle", "checkpoint", "reset", "sweep"], &|_| {});
}

#[test]
fn l4_each_call_of_losing_access_may_fail() {
    let mut two = setup(5);
    two.profiles = vec![0, 0];
    let note = Write { collection: 0, ..put(1, 9) };
    let mut steps = vec![
        after(200, write(0, vec![put(1, 1)])),
        after(900, What::Revoke { user: 0 }),
        // Its other device makes it pull before it has sent what it writes meanwhile.
        after(5, write(1, vec![note])),
        after(5, What::Nothing),
    ];
    steps.extend((2..5).map(|value| after(5, write(0, vec![put(value, value)]))));
    steps.extend([
        after(1_000, What::Grant { user: 0 }),
        after(5, What::Sync { profile: 0, slot: 0 }),
        after(900, mend(Mend::Retry)),
        after(900, read(0)),
    ]);
    tell(&two, &steps, 3, &["no_access", "retry"], &|_| {});
}

#[test]
fn l1_each_call_of_a_fork_may_fail() {
    let steps = [
        after(200, write(0, vec![put(1, 1)])),
        after(800, What::Copy { profile: 0 }),
        after(5, write(0, vec![put(1, 2)])),
        after(5, write(0, vec![put(2, 3), put(3, 4)])),
        after(900, What::Rollback { profile: 0 }),
        after(50, write(0, vec![put(4, 5)])),
        after(5, write(0, vec![put(1, 6)])),
        after(1_500, read(0)),
    ];
    tell(&setup(6), &steps, 3, &["fork", "pulled"], &|_| {});
}

#[test]
fn l4_each_call_of_cutting_a_batch_that_is_too_large_may_fail() {
    let mut small = setup(7);
    (small.batch_count, small.body_bytes_max) = (100, Some(1_100));
    let mut steps = vec![after(100, What::Offline { profile: 0, cut: Cut::All, hint: true })];
    steps.extend((1..7).map(|value| after(5, write(0, vec![put(value, value)]))));
    steps.extend([after(100, What::Online { profile: 0 }), after(3_000, read(0))]);
    tell(&small, &steps, 3, &["descriptor", "too_large", "settle"], &|_| {});
}

#[test]
fn r2_each_call_of_compaction_may_fail() {
    let mut steps = vec![after(200, write(0, vec![put(1, 1)]))];
    // Each run keeps one record of its own and lies across the others.
    for value in 1..14 {
        let writes = vec![put(value % 3, value * 2), put(50 + value, value * 2 + 1)];
        steps.push(after(450, write(1, writes)));
    }
    steps.push(after(900, read(0)));
    tell(&setup(4), &steps, 6, &["checkpoint", "compaction", "index", "sweep"], &|_| {});
}

#[test]
fn i3_each_call_of_a_repair_may_fail() {
    let mut steps = vec![after(200, write(0, vec![put(1, 1)]))];
    steps.extend((2..6).map(|value| after(100, write(1, vec![put(value, value)]))));
    steps.push(after(4_000, What::Nothing));
    tell(&setup(8), &steps, 3, &["repair", "resync"], &|world| {
        let world = Rc::clone(world);
        let exec = world.exec.clone();
        exec.spawn(0, 0, async move {
            world.exec.sleep(1_500).await;
            damage(&world);
            loop {
                world.exec.sleep(400).await;
                look(&world);
            }
        });
    });
}

/// A byte of a segment and of an index run flips while no context is open.
fn damage(world: &Rc<World>) {
    let profile = world.profile(0);
    world.kill_all(0);
    world.model.borrow_mut().profiles[0].is_torn = true;
    let disk = profile.disk.snapshot();
    let index = index_run(&disk).map(RowId::place);
    let segment = disk.rows(StoreName::Seg).next().map(|(key, _)| (StoreName::Seg, key.clone()));
    for (store, key) in index.into_iter().chain(segment) {
        if let Some(mut row) = disk.row(store, &key).map(str::to_owned) {
            flip_byte(&mut row);
            profile.disk.tamper(store, key, Some(row));
        }
    }
    world.open(0, 0);
}

/// A run of an index that is no way to its records.
fn index_run(disk: &Disk) -> Option<RowId> {
    let manifest = decode::<Manifest>(RowKind::Manifest, disk.row(StoreName::Meta, &Key::text("manifest"))?).ok()?;
    let mut indexes = manifest.pairs.iter().flat_map(|pair| &pair.indexes);
    let found = indexes.find(|index| index.name != "id" && index.live.iter().any(|run| run.rows > 0))?;
    found.live.iter().find(|run| run.rows > 0).map(|run| RowId::Run(run.id, run.rev))
}

/// The app reads all there is: damage that nobody meets is not known.
fn look(world: &Rc<World>) {
    let profile = world.profile(0);
    for (slot, replica) in world.replicas(0) {
        let Some(owner) = profile.contexts.borrow().get(&slot).map(|context| context.owner) else { continue };
        world.exec.spawn(owner, 0, async move {
            // What can't be read now is read in a moment.
            let _ = replica.refresh().await;
            let _ = replica.warm().await;
        });
    }
}

#[test]
fn l4_each_call_on_a_full_disk_may_fail() {
    let mut full = setup(10);
    full.filler_bytes = 8 * 1024;
    let steps = [
        after(200, write(0, vec![put(1, 1)])),
        after(6_000, What::Offline { profile: 0, cut: Cut::All, hint: true }),
        after(5, write(0, vec![put(2, 2), put(3, 3)])),
        // Now it is full.
        after(800, write(0, vec![put(4, 4)])),
        after(100, What::Online { profile: 0 }),
        after(5, write(1, vec![put(5, 5)])),
        after(2_000, write(0, vec![delete(2)])),
        after(2_000, read(0)),
        // Now it has room.
        after(62_000, write(0, vec![put(1, 6)])),
        after(900, read(0)),
    ];
    tell(&full, &steps, 3, &["append", "filler", "give_up", "descriptor", "settle", "checkpoint"], &|world| {
        let world = Rc::clone(world);
        let exec = world.exec.clone();
        exec.spawn(0, 0, async move {
            let profile = world.profile(0);
            world.exec.sleep(6_500).await;
            profile.plan.limit_room(&profile.disk, Some(profile.disk.row_bytes() + 20));
            world.exec.sleep(10_000).await;
            profile.plan.limit_room(&profile.disk, None);
        });
    });
}

#[test]
fn the_loop_finds_an_append_that_is_healed_by_a_second_one() {
    let steps = [after(200, write(0, vec![put(1, 1)])), after(800, read(0))];
    let history = History { setup: setup(9), steps: steps.to_vec(), newcomers: false, quiet: false };
    let found = (1..40).filter(|at| {
        let wrong = Some((*at, Wrong::Fails(|| Fault::UnknownButCommitted, 0)));
        let play = |bug| run_in(&history, bug, false, &|world| arm(world, &Calls::default(), wrong)).violation;
        assert!(play(None).is_none(), "call {at} without the bug");
        play(Some(Plant::HealAppendsTwice)).is_some_and(|broken| broken.promise == "L2")
    });
    assert_eq!(found.count(), 1, "one call is the append");
}
