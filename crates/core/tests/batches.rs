//! How a batch is filled and cut, what its mutations carry, and what the state still knows when rows go.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;

use lab::{Lab, NOW, applied, fields, key, superseded};
use landfall_core::policy::{Choice, Policy, Refinement, Rule, Way, nanos};
use landfall_core::recover::plan_no_access;
use landfall_core::retry::{plan_counted, plan_too_large, unit_ends};
use landfall_core::rows::{InFlight, Window};
use landfall_protocol::{GroupId, Json, Map, Op, Scope, limits};
use std::collections::BTreeSet;

fn seqs(sending: &[InFlight]) -> Vec<u64> {
    sending.iter().map(|sent| sent.seq.get()).collect()
}

/// Five notes of the same size, and the bytes that one of them takes in a batch.
fn five() -> (Lab, usize) {
    let mut lab = Lab::new();
    for id in ["a", "b", "c", "d", "e"] {
        lab.write(Op::Create, id, r#"{"t":"0123456789"}"#);
    }
    let mut alone = Lab::new();
    alone.write(Op::Create, "a", r#"{"t":"0123456789"}"#);
    let bytes = alone.build()[0].text.text().len() + 1;
    (lab, bytes)
}

#[test]
fn a_batch_ends_at_its_bytes_and_one_that_is_larger_than_that_goes_alone() {
    let (mut lab, bytes) = five();
    lab.config.batch_bytes = bytes * 2;
    assert_eq!(seqs(&lab.build()), [1, 2]);
    let (mut lab, bytes) = five();
    lab.config.batch_bytes = bytes * 2 - 1;
    assert_eq!(seqs(&lab.build()), [1]);
    let (mut lab, bytes) = five();
    lab.config.batch_bytes = bytes * 3 - 1;
    assert_eq!(seqs(&lab.build()), [1, 2]);
    let (mut lab, _) = five();
    lab.config.batch_bytes = 1;
    assert_eq!(seqs(&lab.build()), [1]);
    let (mut lab, _) = five();
    lab.config.batch_count = 4;
    assert_eq!(seqs(&lab.build()), [1, 2, 3, 4]);
}

#[test]
fn no_more_is_under_way_at_once_than_the_server_keeps_outcomes_for() {
    let mut lab = Lab::new();
    lab.config.batch_count = limits::IN_FLIGHT_MAX * 3 / 4;
    (lab.config.batch_bytes, lab.goes_on) = (usize::MAX, true);
    for n in 0..limits::IN_FLIGHT_MAX * 2 {
        lab.write(Op::Create, &format!("r{n}"), "{}");
    }
    assert_eq!(lab.state.unsent_count(), limits::IN_FLIGHT_MAX * 2);
    lab.build();
    let counts: Vec<usize> = lab.state.descriptors.values().map(|batch| batch.mutations.len()).collect();
    assert_eq!(counts, [limits::IN_FLIGHT_MAX * 3 / 4, limits::IN_FLIGHT_MAX / 4]);
    assert_eq!(lab.state.unsent_count(), limits::IN_FLIGHT_MAX);
}

#[test]
fn c2_a_mutation_carries_what_was_there_of_the_fields_that_it_changes_and_of_no_others() {
    let mut lab = Lab::new();
    lab.pulled("r", 4, r#"{"a":1,"b":2,"c":3}"#);
    let mut entry = lab.entry(Op::Update, "r", r#"{"a":9}"#);
    entry.unset = vec!["b".to_owned()];
    lab.log(vec![entry]);
    lab.build();
    let mutation = lab.mutations().remove(0);
    assert_eq!(mutation.prev, fields(r#"{"a":1,"b":2}"#));
    assert_eq!((mutation.set, mutation.unset), (fields(r#"{"a":9}"#), vec!["b".to_owned()]));
    // What others have pulled meanwhile is not what its writer saw.
    let mut lab = Lab::new();
    lab.pulled("r", 4, r#"{"a":1}"#);
    lab.write(Op::Update, "r", r#"{"a":9}"#);
    lab.pulled("r", 5, r#"{"a":7}"#);
    lab.build();
    let mutation = lab.mutations().remove(0);
    assert_eq!(mutation.base.unwrap().get(), 4);
    assert_eq!(mutation.prev, fields("{}"));
    // Of a delete nothing is sent along.
    let mut lab = Lab::new();
    lab.pulled("r", 4, r#"{"a":1}"#);
    lab.write(Op::Delete, "r", "{}");
    lab.build();
    assert_eq!(lab.mutations().remove(0).prev, fields("{}"));
}

fn counted(lab: &mut Lab) -> (u32, Option<Window>, Vec<u64>) {
    let row = lab.state.descriptors.keys().next().unwrap().clone();
    let txn = plan_counted(&lab.state, &lab.base, &lab.config, &row, NOW);
    lab.apply(txn);
    let descriptor = &lab.state.descriptors[&row];
    (descriptor.attempts, descriptor.window, seqs(&lab.sending()))
}

#[test]
fn s7_a_batch_is_cut_after_three_answers_and_both_halves_at_fault_start_over() {
    let (mut lab, _) = five();
    lab.build();
    assert_eq!(counted(&mut lab), (1, None, vec![1, 2, 3, 4, 5]));
    assert_eq!(counted(&mut lab), (2, None, vec![1, 2, 3, 4, 5]));
    let (attempts, window, sending) = counted(&mut lab);
    assert_eq!((attempts, sending), (3, vec![1, 2, 3]));
    assert_eq!(window, Some(Window { from: 0, to: 3, sibling_failed: false }));
    let (_, window, sending) = counted(&mut lab);
    assert_eq!((window, sending), (Some(Window { from: 3, to: 5, sibling_failed: true }), vec![4, 5]));
    assert_eq!(counted(&mut lab), (0, None, vec![1, 2, 3, 4, 5]));
}

#[test]
fn s7_where_the_second_half_stands_on_the_first_the_first_is_cut_further() {
    let mut lab = Lab::new();
    lab.group("g1", &[(Op::Create, "a", "{}"), (Op::Create, "x", "{}")]);
    lab.group("g2", &[(Op::Create, "b", "{}"), (Op::Update, "a", r#"{"n":1}"#)]);
    lab.write(Op::Create, "c", "{}");
    lab.build();
    assert_eq!(unit_ends(&lab.sending()), [2, 4, 5]);
    for _ in 0..2 {
        counted(&mut lab);
    }
    assert_eq!(counted(&mut lab).2, [1, 2, 3, 4]);
    assert_eq!(counted(&mut lab).2, [5]);

    let mut lab = Lab::new();
    lab.group("g1", &[(Op::Create, "a", "{}"), (Op::Create, "x", "{}")]);
    lab.group("g2", &[(Op::Create, "b", "{}"), (Op::Update, "a", r#"{"n":1}"#)]);
    lab.build();
    for _ in 0..2 {
        counted(&mut lab);
    }
    assert_eq!(counted(&mut lab).2, [1, 2], "a group is not torn");
    // Of the other half nothing can go before that: the first is all there is to look at, from its beginning.
    let (_, window, sending) = counted(&mut lab);
    assert_eq!((window, sending), (Some(Window { from: 0, to: 2, sibling_failed: false }), vec![1, 2]));
}

#[test]
fn a_batch_that_is_too_large_goes_in_halves_and_a_lone_unit_is_given_up() {
    let (mut lab, _) = five();
    lab.build();
    let row = lab.state.descriptors.keys().next().unwrap().clone();
    let mut cut = || {
        let sent = lab.sending();
        let txn = plan_too_large(&lab.state, &lab.base, &row, &sent, NOW).unwrap();
        lab.apply(txn);
        let again = plan_too_large(&lab.state, &lab.base, &row, &sent, NOW);
        assert_eq!(again, None, "s7: one answer cuts once, should nobody hear that this was stored");
        (seqs(&lab.sending()), lab.sending().iter().any(|sent| sent.void))
    };
    assert_eq!(cut(), (vec![1, 2, 3], false));
    assert_eq!(cut(), (vec![1, 2], false));
    assert_eq!(cut(), (vec![1], false));
    assert!(cut().1, "alone it is too large for ever: its seq is voided");
}

#[test]
fn s5_of_a_pair_that_was_taken_away_each_group_parks_whole_and_the_others_stay() {
    let mut lab = Lab::new();
    let mut other = lab.entry(Op::Create, "elsewhere", "{}");
    other.scope = Scope::from("user:v");
    other.group = Some(GroupId::from("g1"));
    let mut mine = lab.entry(Op::Create, "a", "{}");
    mine.group = Some(GroupId::from("g1"));
    lab.log(vec![mine, other]);
    lab.group("g2", &[(Op::Create, "b", "{}"), (Op::Create, "c", "{}")]);
    lab.write(Op::Create, "d", "{}");
    let mut far = lab.entry(Op::Create, "far", "{}");
    far.scope = Scope::from("user:v");
    lab.log(vec![far]);
    let (txn, events) = plan_no_access(&lab.state, &lab.base, &[key("a").pair()], NOW).unwrap();
    lab.apply(txn);
    assert_eq!(events.len(), 3);
    let ids = |row: &landfall_core::rows::ParkedRow| -> Vec<String> {
        row.changes.iter().map(|change| change.entry.id.as_str().to_owned()).collect()
    };
    let parked: BTreeSet<Vec<String>> = lab.state.parked.values().map(ids).collect();
    let expected = [vec!["a", "elsewhere"], vec!["b", "c"], vec!["d"]];
    assert_eq!(parked, expected.map(|unit| unit.into_iter().map(str::to_owned).collect()).into());
    let left: Vec<&str> = lab.state.entries.values().map(|entry| entry.id.as_str()).collect();
    assert_eq!(left, ["far"]);
    assert!(plan_no_access(&lab.state, &lab.base, &[key("a").pair()], NOW).is_none(), "nothing is left to park");
}

#[test]
fn c3_what_is_seen_of_a_record_that_the_server_deleted_or_deleted_and_made_again() {
    let mut lab = Lab::new();
    assert_eq!(lab.seen("r"), None);
    lab.write(Op::Update, "r", r#"{"a":1}"#);
    assert_eq!(lab.seen("r"), None, "a patch of nothing shows nothing");
    lab.write(Op::Create, "r", r#"{"b":2}"#);
    lab.write(Op::Update, "r", r#"{"c":3}"#);
    assert_eq!(lab.seen("r").unwrap(), r#"{"b":2,"c":3}"#);
    lab.write(Op::Delete, "r", "{}");
    lab.write(Op::Update, "r", r#"{"d":4}"#);
    assert_eq!(lab.seen("r"), None);
    lab.write(Op::Create, "r", r#"{"e":5}"#);
    assert_eq!(lab.seen("r").unwrap(), r#"{"e":5}"#, "of its former life nothing is left");

    // An update that was applied to what another one of the lane deleted before shows what it says, not what was there.
    let mut lab = Lab::new();
    lab.pulled("r", 4, r#"{"a":1}"#);
    lab.write(Op::Update, "r", r#"{"b":2}"#);
    lab.build();
    lab.settle(vec![applied(1, 5)]);
    assert_eq!(lab.seen("r").unwrap(), r#"{"a":1,"b":2}"#);
    let mut gone = superseded(1, 5, "{}");
    gone.record = None;
    gone.deleted = true;
    let mut lab = Lab::new();
    lab.pulled("r", 4, r#"{"a":1}"#);
    lab.write(Op::Update, "r", r#"{"b":2}"#);
    lab.build();
    lab.settle(vec![gone]);
    assert_eq!(lab.seen("r"), None);
    lab.write(Op::Update, "r", r#"{"c":3}"#);
    assert_eq!(lab.seen("r"), None);
}

#[test]
fn times_are_read_as_text_and_as_milliseconds_and_nothing_else_is_one() {
    let read = |text: &str| nanos(&Json::parse(text).unwrap());
    assert_eq!(read("1"), Some(1_000_000));
    assert_eq!(read("-2"), Some(-2_000_000));
    assert_eq!(read("999999999999999"), Some(999_999_999_999_999_000_000));
    assert_eq!(read("1000000000000000"), None, "beyond any calendar");
    assert_eq!(read("-1000000000000000"), None);
    assert_eq!(read(r#""1970-01-01T00:00:01Z""#), Some(1_000_000_000));
    assert_eq!(read(r#""soon""#), None);
    assert_eq!(read("true"), None);
    assert_eq!(read("null"), None);
}

#[test]
fn all_roles_that_a_policy_asks_to_decide_are_known_wherever_it_names_them() {
    let review = |role: &str| Rule::Review(role.to_owned());
    let roles = |policy: &Policy| policy.reviewers().into_iter().collect::<Vec<String>>();
    let policy = |way: Way, refinement: Refinement| Policy { way, refinement, ..Policy::default() };
    assert!(roles(&Policy::default()).is_empty());
    assert_eq!(roles(&policy(Way::Whole(review("a")), Refinement::None)), ["a"]);
    assert_eq!(roles(&policy(Way::Merge(review("a")), Refinement::None)), ["a"]);
    let fields = Map::from_iter([("x".to_owned(), review("b")), ("y".to_owned(), Rule::ServerWins)]);
    assert_eq!(roles(&policy(Way::Merge(review("a")), Refinement::Fields(fields))), ["a", "b"]);
    let allowed = Map::from_iter([
        ("strict".to_owned(), Way::Whole(review("c"))),
        ("free".to_owned(), Way::Whole(Rule::ClientWins)),
    ]);
    let choice = Choice { field: "policy".to_owned(), roles: BTreeSet::new(), allowed };
    assert_eq!(roles(&policy(Way::Whole(Rule::ServerWins), Refinement::Record(choice))), ["c"]);
}
