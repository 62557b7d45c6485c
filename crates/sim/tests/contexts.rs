//! Several contexts on one disk, one story a seed: notices that come late or never, locks that everybody or nobody gets,
//! compaction under readers. Each read answers what was true at some moment between its begin and its end.

use landfall_core::plant::Plant;
use landfall_protocol::{CollectionName, RecordId};
use landfall_replica::{Query, Row};
use landfall_sim::history::{Kind, Step, What, Write};
use landfall_sim::world::{SHARED, Setup, SimReplica, World};
use landfall_sim::{Ended, History, run_in};
use landfall_storage::faulty::{Call, Fault};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// One profile with three contexts, whose disk takes its time, and another device that keeps it pulling.
fn setup(seed: u64) -> Setup {
    Setup {
        seed,
        users: 2,
        sharing: 2,
        profiles: vec![0, 1],
        slots: 3,
        disk_ms: 12,
        page_limit: 100,
        batch_count: 5,
        attempts_max: 3,
        notices_lost: if seed.is_multiple_of(2) { 0 } else { 500 },
        locks_broken: seed.is_multiple_of(3),
        pokes: true,
        ..Setup::default()
    }
}

fn put(record: u64, value: u64) -> Write {
    Write { kind: Kind::Put, collection: 1, record, fields: vec![("a", value)], bad: false }
}
fn write(profile: usize, slot: u32, writes: Vec<Write>) -> What {
    What::Write { profile, slot, writes, atomic: false }
}
fn after(wait_ms: u64, what: What) -> Step {
    Step { wait_ms, what }
}

fn play(setup: Setup, steps: Vec<Step>, bug: Option<Plant>, prepare: &dyn Fn(&Rc<World>)) -> Ended {
    run_in(&History { setup, steps, newcomers: false, quiet: false }, bug, false, prepare)
}

fn fine(seed: u64, ended: &Ended) {
    if let Some(broken) = &ended.violation {
        panic!("seed {seed}: {} {}", broken.promise, broken.text);
    }
}

/// Three contexts write, the other device too, in runs that lie across each other.
fn busy(rounds: u64) -> Vec<Step> {
    let mut steps: Vec<Step> = (0..3).map(|slot| after(10, What::Open { profile: 0, slot })).collect();
    for round in 1..=rounds {
        let value = round * 10;
        steps.push(after(200, write(1, 0, vec![put(round % 3, value), put(50 + round, value + 1)])));
        steps.push(after(100, write(0, (round % 3) as u32, vec![put(3 + round % 2, value + 2)])));
        steps.push(after(150, What::Read { profile: 0, slot: ((round + 1) % 3) as u32 }));
    }
    steps
}

/// Transactions of the first profile by name, and how many there were.
type Names = Rc<RefCell<BTreeMap<&'static str, u64>>>;

fn count(world: &Rc<World>, names: &Names) {
    let names = Rc::clone(names);
    world.profile(0).plan.decide_by(move |_, call| {
        if let Call::Commit(txn) = call {
            *names.borrow_mut().entry(txn.name).or_default() += 1;
        }
        Fault::None
    });
}

/// Writes and compaction of three contexts at once; without locks there are two flushers and two compactors.
#[test]
fn r1_three_contexts_with_late_and_lost_notices_and_without_locks_end_as_one() {
    let names = Names::default();
    for seed in 0..12 {
        fine(seed, &play(setup(seed), busy(14), None, &|world| count(world, &names)));
    }
    let names = names.borrow();
    for name in ["settle", "checkpoint", "compaction", "index", "sweep"] {
        assert!(names.get(name).is_some_and(|count| *count > 0), "{name} never ran: {names:?}");
    }
}

/// A read takes several looks at the disk; what the app gets is one state, and none from before it asked.
#[test]
fn l5_a_read_while_another_context_compacts_answers_a_state_of_its_own_time() {
    let answers = Rc::new(Cell::new(0));
    for seed in 0..8 {
        let wrong: Rc<RefCell<Option<String>>> = Rc::default();
        let ended = play(setup(seed), busy(14), None, &|world| {
            let (world, wrong, answers) = (Rc::clone(world), Rc::clone(&wrong), Rc::clone(&answers));
            let exec = world.exec.clone();
            exec.spawn(0, 0, async move {
                while !world.is_calm.get() {
                    world.exec.sleep(15).await;
                    for (slot, replica) in world.replicas(0) {
                        let owner = world.profile(0).contexts.borrow().get(&slot).map_or(0, |context| context.owner);
                        let (world, wrong, answers) = (Rc::clone(&world), Rc::clone(&wrong), Rc::clone(&answers));
                        world.exec.clone().spawn(owner, 0, async move {
                            if let Err(text) = ask(&world, &replica).await {
                                wrong.borrow_mut().get_or_insert(text);
                            }
                            answers.set(answers.get() + 1);
                        });
                    }
                }
            });
        });
        fine(seed, &ended);
        assert_eq!(*wrong.borrow(), None, "seed {seed}");
    }
    assert!(answers.get() > 500, "{} answers", answers.get());
}

type Shown = BTreeMap<String, String>;

/// Asks for a collection and compares with what the server's records and this profile's entries were meanwhile.
async fn ask(world: &Rc<World>, replica: &SimReplica) -> Result<(), String> {
    let covered = covered(replica);
    let Ok(answer) = replica.query(&Query::all("tasks")).await else { return Ok(()) };
    let until = world.server.borrow().head(&SHARED.into());
    let mut shown = Shown::new();
    for row in &answer.rows {
        let (id, text) = said(row);
        if shown.insert(id.clone(), text).is_some() {
            return Err(format!("{id} is answered twice"));
        }
    }
    let model = world.model.borrow();
    let pair = landfall_protocol::Pair(SHARED.into(), CollectionName::from("tasks"));
    let none = BTreeMap::new();
    let states = model.truth.states.get(&pair).unwrap_or(&none);
    // Own writes may lie above the server's: any value that this profile ever stored is one it may see.
    let own: BTreeSet<(String, String)> = model.profiles[0]
        .durable
        .values()
        .filter_map(|entry| Some((entry.id.0.clone(), landfall_sim::model::said(&entry.set).get("a")?.clone())))
        .collect();
    for (id, value) in &shown {
        let states = states.get(&RecordId(id.clone())).map_or(&[][..], Vec::as_slice);
        let since = states.iter().rposition(|state| state.position <= covered).unwrap_or(0);
        let fits = states[since..].iter().any(|state| {
            state.position <= until && state.fields.as_ref().and_then(|fields| fields.get("a")) == Some(value)
        });
        if !fits && !own.contains(&(id.clone(), value.clone())) {
            return Err(format!("{id} is answered as {value}, which it was not between {covered} and {until}"));
        }
    }
    // Nothing here is ever deleted: what the base had when the read began must be in the answer.
    let lost = states.iter().find(|(id, states)| {
        states.first().is_some_and(|state| state.position <= covered) && !shown.contains_key(id.as_str())
    });
    match lost {
        Some((id, _)) => Err(format!("{id} was there at {covered} and is not answered")),
        None => Ok(()),
    }
}

fn covered(replica: &SimReplica) -> u64 {
    let db = replica.db.borrow();
    let pair = landfall_protocol::Pair(SHARED.into(), CollectionName::from("tasks"));
    db.base.manifest.pair(&pair).and_then(|row| row.covered).map_or(0, |at| at.get())
}

fn said(row: &Row) -> (String, String) {
    let fields: BTreeMap<String, landfall_protocol::Json> = serde_json::from_str(&row.text).unwrap_or_default();
    (row.place.id.clone(), fields.get("a").map(|value| value.text().to_owned()).unwrap_or_default())
}

/// A frozen tab keeps every lock. Writes are stored and seen all the same; once it is taken for frozen, they arrive.
#[test]
fn l1_a_lock_that_is_never_granted_holds_back_sync_and_nothing_else() {
    for seed in 0..6 {
        let pushed = Rc::new(Cell::new(0));
        let names = Names::default();
        let ended = play(setup(seed), busy(6), None, &|world| {
            world.profile(0).locks.is_stuck.set(true);
            let (names, pushed, calm) = (Rc::clone(&names), Rc::clone(&pushed), Rc::clone(&world.is_calm));
            world.profile(0).plan.decide_by(move |_, call| {
                if let Call::Commit(txn) = call {
                    *names.borrow_mut().entry(txn.name).or_default() += 1;
                    if !calm.get() && matches!(txn.name, "descriptor" | "settle" | "checkpoint") {
                        pushed.set(pushed.get() + 1);
                    }
                }
                Fault::None
            });
        });
        fine(seed, &ended);
        assert_eq!(pushed.get(), 0, "nothing is sent without its lock");
        let names = names.borrow();
        assert!(names.get("append") == Some(&6) && names.contains_key("settle"), "{names:?}");
    }
}

/// The checks above can fail.
#[test]
fn what_two_contexts_do_wrong_together_is_found() {
    for bug in [Plant::OverlayFallsEarly, Plant::RebuildOnRetry, Plant::AckBeyondSettled] {
        let found = (0..12).any(|seed| {
            let mut setup = setup(seed);
            setup.locks_broken = true;
            play(setup, busy(8), Some(bug), &|_| {}).violation.is_some()
        });
        assert!(found, "{bug:?}");
    }
}
