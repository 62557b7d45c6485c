//! Parents and children: what goes before what, what waits, and that everything goes in the end.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;

use lab::{Dice, Lab, applied, families, item, pulled_item, rejected, sent};
use landfall_core::order::units;
use landfall_core::rows::{Entry, InFlight};
use landfall_core::settle::REQUEUES_MAX;
use landfall_protocol::{CollectionName, EntryId, Mutation, Object, Op, Outcome, RecordKey, RejectCode};
use std::collections::BTreeMap;

fn all_applied(lab: &mut Lab) {
    let outcomes = lab.sending().iter().map(|sent| applied(sent.seq.get(), sent.seq.get())).collect();
    lab.settle(outcomes);
}

/// Applied, but these are refused.
fn answer(lab: &mut Lab, refused: &[(&str, &str)]) {
    let outcome = |mutation: &Mutation<Object>| match refused.iter().find(|(id, _)| *id == mutation.id.as_str()) {
        Some((_, code)) => rejected(mutation.seq.get(), code),
        None => applied(mutation.seq.get(), mutation.seq.get()),
    };
    let outcomes: Vec<Outcome> = lab.mutations().iter().map(outcome).collect();
    lab.settle(outcomes);
}

#[test]
fn a_child_that_was_written_before_its_parent_goes_behind_it_and_others_keep_their_places() {
    let mut lab = families(0);
    lab.write(Op::Create, "first", "{}");
    item(&mut lab, Op::Create, "child", r#"{"note":"parent"}"#);
    item(&mut lab, Op::Create, "below", r#"{"item":"child"}"#);
    lab.write(Op::Create, "last", "{}");
    lab.write(Op::Create, "parent", "{}");
    lab.build();
    assert_eq!(sent(&lab), ["+first", "+parent", "+child", "+below", "+last"]);
}

#[test]
fn a_child_of_higher_priority_lifts_its_parents_and_what_they_stand_on() {
    let mut lab = families(5);
    lab.write(Op::Create, "plain", "{}");
    lab.pulled("again", 3, "{}");
    lab.write(Op::Delete, "again", "{}");
    lab.write(Op::Create, "again", "{}");
    item(&mut lab, Op::Create, "child", r#"{"note":"again"}"#);
    lab.build();
    assert_eq!(sent(&lab), ["-again", "+again", "+child", "+plain"]);
}

#[test]
fn a_child_waits_while_the_create_of_its_parent_travels_and_others_go() {
    let mut lab = families(0);
    lab.config.batch_count = 1;
    lab.write(Op::Create, "parent", "{}");
    item(&mut lab, Op::Create, "child", r#"{"note":"parent"}"#);
    lab.write(Op::Create, "other", "{}");
    lab.build();
    let under_way: Vec<usize> = lab.state.descriptors.values().map(|batch| batch.mutations.len()).collect();
    assert_eq!((sent(&lab), under_way), (vec!["+parent".to_owned()], vec![1, 1]), "the other one is stored behind it");
    all_applied(&mut lab);
    assert_eq!(sent(&lab), ["+other"]);
    all_applied(&mut lab);
    lab.build();
    assert_eq!(sent(&lab), ["+child"]);
}

#[test]
fn a_parked_parent_holds_its_dependants_until_it_is_mended_or_given_up_and_others_flow() {
    for retried in [true, false] {
        let mut lab = families(0);
        let parent = lab.write(Op::Create, "parent", "{}");
        lab.build();
        answer(&mut lab, &[("parent", RejectCode::VALIDATION)]);
        item(&mut lab, Op::Create, "child", r#"{"note":"parent"}"#);
        item(&mut lab, Op::Create, "below", r#"{"item":"child"}"#);
        item(&mut lab, Op::Create, "free", r#"{"note":"elsewhere"}"#);
        lab.build();
        assert_eq!(sent(&lab), ["+free"]);
        all_applied(&mut lab);
        assert!(lab.build().is_empty() && units(&lab.state, &lab.base, &lab.config).is_empty(), "nothing can go");
        let mut clock = lab.state.hlc.clone();
        let txn = if retried {
            landfall_core::fixup::plan_retry(&lab.state, &lab.base, parent, None, &mut || clock.tick(1, "c1"), lab::NOW)
        } else {
            landfall_core::fixup::plan_discard(&lab.state, &lab.base, parent, lab::NOW).map(|(txn, _)| txn)
        };
        lab.apply(txn.unwrap());
        lab.build();
        // Given up, the server says what it thinks of the child.
        assert_eq!(sent(&lab), if retried { vec!["+parent", "+child", "+below"] } else { vec!["+child", "+below"] });
    }
}

#[test]
fn a_parked_update_of_a_parent_that_is_there_holds_nobody() {
    let mut lab = families(0);
    lab.pulled("parent", 3, "{}");
    lab.write(Op::Update, "parent", r#"{"a":1}"#);
    lab.build();
    answer(&mut lab, &[("parent", RejectCode::VALIDATION)]);
    item(&mut lab, Op::Create, "child", r#"{"note":"parent"}"#);
    lab.build();
    assert_eq!(sent(&lab), ["+child"]);
}

#[test]
fn children_are_deleted_or_led_away_before_their_parent_is_deleted() {
    let mut lab = families(0);
    lab.pulled("parent", 3, "{}");
    pulled_item(&mut lab, "child", r#"{"note":"parent"}"#);
    pulled_item(&mut lab, "moved", r#"{"note":"parent"}"#);
    pulled_item(&mut lab, "other", r#"{"note":"elsewhere"}"#);
    lab.write(Op::Delete, "parent", "{}");
    item(&mut lab, Op::Delete, "other", "{}");
    item(&mut lab, Op::Update, "moved", r#"{"note":"elsewhere"}"#);
    item(&mut lab, Op::Delete, "child", "{}");
    lab.build();
    assert_eq!(sent(&lab), ["=moved", "-child", "-parent", "-other"]);
}

#[test]
fn the_members_of_a_group_are_put_in_order_too() {
    let mut lab = families(0);
    lab.pulled("old", 3, "{}");
    pulled_item(&mut lab, "gone", r#"{"note":"old"}"#);
    let write = |lab: &mut Lab, op, collection: &str, id: &str, set: &str| {
        let mut entry = lab.entry(op, id, set);
        entry.collection = collection.into();
        entry.group = Some("g".into());
        entry
    };
    let entries = vec![
        write(&mut lab, Op::Create, "items", "child", r#"{"note":"parent"}"#),
        write(&mut lab, Op::Delete, "notes", "old", "{}"),
        write(&mut lab, Op::Create, "notes", "parent", "{}"),
        write(&mut lab, Op::Delete, "items", "gone", "{}"),
        write(&mut lab, Op::Update, "notes", "parent", r#"{"a":1}"#),
    ];
    lab.log(entries);
    lab.build();
    assert_eq!(sent(&lab), ["+parent", "+child", "-gone", "-old", "=parent"]);
}

#[test]
fn two_records_that_refer_to_each_other_go_in_the_order_in_which_they_were_written() {
    let mut lab = families(0);
    item(&mut lab, Op::Create, "a", r#"{"x":1}"#);
    item(&mut lab, Op::Create, "b", r#"{"item":"a"}"#);
    item(&mut lab, Op::Update, "a", r#"{"item":"b"}"#);
    lab.build();
    assert_eq!(sent(&lab), ["+a", "+b", "=a"], "not joined: a would need b, which needs a");
}

/// Of records that need each other the one that was written first goes first; what a restored server lost was written where
/// it first stood, not where it was queued again.
#[test]
fn r1_what_a_restored_server_lost_goes_before_a_younger_group_that_makes_its_parent_anew() {
    let mut lab = families(0);
    lab.pulled("parent", 1, "{}");
    let mut group = vec![lab.entry(Op::Delete, "lost", "{}"), lab.entry(Op::Update, "parent", r#"{"a":1}"#)];
    log(&mut lab, &mut group);
    lab.write(Op::Delete, "parent", "{}");
    lab.write(Op::Create, "parent", "{}");
    let mut child = lab.entry(Op::Create, "child", r#"{"note":"parent"}"#);
    child.collection = "items".into();
    group = vec![lab.entry(Op::Create, "lost", "{}"), child];
    for (at, entry) in group.iter_mut().enumerate() {
        entry.place = Some(EntryId(at as u64));
    }
    log(&mut lab, &mut group);
    lab.build();
    assert_eq!(sent(&lab), ["+lost", "+child", "-lost", "=parent", "-parent", "+parent"]);
}

#[test]
fn a_child_whose_parent_the_server_misses_goes_again_after_a_pull_and_parks_after_five_times() {
    let mut lab = families(0);
    item(&mut lab, Op::Create, "child", r#"{"note":"elsewhere"}"#);
    for _ in 0..REQUEUES_MAX {
        lab.build();
        assert_eq!(sent(&lab), ["+child"]);
        answer(&mut lab, &[("child", RejectCode::MISSING_PARENT)]);
        assert!(lab.state.client.pull_first && lab.state.parked.is_empty());
        lab.state.client.pull_first = false;
    }
    lab.build();
    answer(&mut lab, &[("child", RejectCode::MISSING_PARENT)]);
    assert_eq!(lab.state.parked.values().next().unwrap().reason.code, RejectCode::MISSING_PARENT);
    assert!(lab.state.entries.is_empty());
}

// ---- whatever is written ---------------------------------------------------------------------------------------------

/// A server with references: refuses a child without parent, and has what it took.
#[derive(Default)]
struct Server(BTreeMap<RecordKey, ()>);

impl Server {
    fn judge(&mut self, mutation: &Mutation<Object>) -> Outcome {
        let seq = mutation.seq.get();
        let misses = |field: &str, collection: &str| {
            let id = mutation.set.get(field).map(|value| value.trim_matches('"').to_owned());
            id.is_some_and(|id| !self.0.contains_key(&RecordKey::new("user:u", collection, id.as_str())))
        };
        match mutation.op {
            Op::Delete => _ = self.0.remove(&mutation.key()),
            Op::Create | Op::Update if misses("note", "notes") || misses("item", "items") => {
                return rejected(seq, RejectCode::MISSING_PARENT);
            }
            Op::Create | Op::Update => _ = self.0.insert(mutation.key(), ()),
        }
        applied(seq, seq)
    }
}

impl Server {
    /// A group as one.
    fn judge_all(&mut self, sending: &[InFlight]) -> Vec<Outcome> {
        let mutations: Vec<Mutation<Object>> = sending.iter().map(|flight| flight.mutation().unwrap()).collect();
        let mut outcomes: Vec<Outcome> = Vec::new();
        while outcomes.len() < mutations.len() {
            let at = outcomes.len();
            let group = &mutations[at].group;
            let is_member = |other: &&Mutation<Object>| group.is_some() && other.group == *group;
            let count = mutations[at..].iter().take_while(is_member).count().max(1);
            let before = self.0.clone();
            let mut judged: Vec<Outcome> = mutations[at..at + count].iter().map(|it| self.judge(it)).collect();
            if judged.iter().any(|outcome| !outcome.took_effect()) {
                self.0 = before;
                let refused = |outcome: &mut Outcome| *outcome = rejected(outcome.seq.get(), RejectCode::GROUP_REFUSED);
                judged.iter_mut().filter(|outcome| outcome.took_effect()).for_each(refused);
            }
            outcomes.extend(judged);
        }
        outcomes
    }
}

#[test]
fn whatever_is_written_every_lane_keeps_its_order_no_child_overtakes_its_parent_and_all_of_it_goes() {
    for seed in 0..800 {
        let mut dice = Dice(seed);
        let mut lab = families(dice.below(2) as i32 * 3);
        lab.config.batch_count = 1 + dice.below(6) as usize;
        let ids = ["a", "b", "c", "d"];
        let mut group: Vec<Entry> = Vec::new();
        let mut known: BTreeMap<(bool, &str), bool> = BTreeMap::new();
        for _ in 0..dice.below(14) + 2 {
            let (is_item, id) = (dice.below(2) == 1, ids[dice.below(4) as usize]);
            let is_there = known.get(&(is_item, id)).copied().unwrap_or(false);
            let op = match dice.below(6) {
                0 if is_there => Op::Delete,
                _ if is_there => Op::Update,
                _ => Op::Create,
            };
            known.insert((is_item, id), op != Op::Delete);
            // What is or will be there, or never; items refer to later letters only, so nothing needs itself.
            let above = ids.iter().rposition(|other| *other == id).unwrap_or(0) + 1;
            let set = match (is_item && op != Op::Delete, dice.below(3)) {
                (true, 0) => format!(r#"{{"note":"{}"}}"#, ids[dice.below(4) as usize]),
                (true, 1) if above < 4 => {
                    format!(r#"{{"item":"{}"}}"#, ids[above + dice.below(4 - above as u64) as usize])
                }
                _ => r#"{"x":1}"#.to_owned(),
            };
            let mut entry = lab.entry(op, id, if op == Op::Delete { "{}" } else { &set });
            if is_item {
                entry.collection = "items".into();
            }
            group.push(entry);
            // Groups of up to three; most are one write.
            if dice.below(5) > 0 || group.len() == 3 {
                log(&mut lab, &mut group);
            }
        }
        log(&mut lab, &mut group);
        run(&mut lab, seed);
    }
}

/// Appends what was written as one.
fn log(lab: &mut Lab, group: &mut Vec<Entry>) {
    let mut entries = std::mem::take(group);
    if entries.len() > 1 {
        let name = format!("g{}", lab.state.log_rows.len());
        entries.iter_mut().for_each(|entry| entry.group = Some(name.as_str().into()));
    }
    if !entries.is_empty() {
        lab.log(entries);
    }
}

/// Every member of each group that travels, side by side.
fn whole_groups(lab: &Lab, sending: &[InFlight], seed: u64) {
    let groups: Vec<_> = sending.iter().map(|flight| flight.mutation().unwrap().group).collect();
    for group in groups.iter().flatten() {
        let members = lab.state.entries.values().filter(|entry| entry.group.as_ref() == Some(group)).count();
        let first = groups.iter().position(|other| other.as_ref() == Some(group)).unwrap();
        let run = groups[first..].iter().take_while(|other| other.as_ref() == Some(group)).count();
        assert_eq!(run, members, "seed {seed}: s5: {group:?}");
    }
}

/// Sends everything and looks at every batch.
fn run(lab: &mut Lab, seed: u64) {
    let mut server = Server::default();
    let mut last: BTreeMap<RecordKey, EntryId> = BTreeMap::new();
    for round in 0.. {
        assert!(round < 400, "seed {seed}: something is never sent: {:?}", lab.state.entries);
        lab.state.client.pull_first = false;
        if lab.state.descriptors.is_empty() && lab.build().is_empty() {
            break;
        }
        let sending = lab.sending();
        whole_groups(lab, &sending, seed);
        for (at, flight) in sending.iter().enumerate() {
            let mutation = flight.mutation().unwrap();
            let first = flight.entries.first().copied().unwrap();
            let before = last.insert(mutation.key(), first);
            let again = lab.state.client.requeues.contains_key(&first);
            assert!(again || before.is_none_or(|before| before < first), "seed {seed}: s4: {}", mutation.id);
            for (field, collection) in [("note", "notes"), ("item", "items")] {
                let Some(id) = mutation.set.get(field) else { continue };
                let parent = RecordKey::new("user:u", collection, id.trim_matches('"'));
                let lane = lab.state.lanes.get(&parent).cloned().unwrap_or_default();
                // A create that was written before the child, and is not yet decided or earlier in this batch.
                let late = lane.iter().find(|id| {
                    lab.state.entries.get(id).is_some_and(|entry| entry.op == Op::Create)
                        && **id < first
                        && parent != mutation.key()
                        && !sending[..at].iter().any(|other| other.entries.contains(id))
                });
                assert_eq!(late, None, "seed {seed}: {} overtook its parent", mutation.id);
            }
        }
        let outcomes = server.judge_all(&sending);
        lab.settle(outcomes);
    }
    let held: Vec<CollectionName> = lab.state.entries.values().map(|entry| entry.collection.clone()).collect();
    assert!(held.is_empty() || !lab.state.parked.is_empty(), "seed {seed}: nothing holds what is left: {held:?}");
}
