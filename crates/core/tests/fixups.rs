//! What a person does with parked changes, and what the state knows of rows that come twice, late, or from another epoch.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;

use lab::{Lab, NOW, applied, fields, key, rejected, superseded};
use landfall_core::fixup::{Choice, failed_units, plan_discard, plan_resolve, plan_retry};
use landfall_core::retry::plan_counted;
use landfall_core::rows::ClientRow;
use landfall_core::state::State;
use landfall_protocol::{
    EntryId, Epoch, GroupId, Object, Op, Outcome, RejectCode, ResultStatus, Seq, Stamp, UnixMillis, Version,
};
use std::collections::BTreeSet;

fn stamp() -> Stamp {
    Stamp::new(2_000_000, 0, "c1")
}

/// A record at version 4 whose edit of `a` and `b` was refused; what was written behind it meanwhile is still there.
fn refused(behind: &[(&str, &[&str])]) -> (Lab, EntryId) {
    let mut lab = Lab::new();
    lab.pulled("r", 4, r#"{"a":1,"b":1,"c":1,"d":1}"#);
    let mut entry = lab.entry(Op::Update, "r", r#"{"a":2,"b":2}"#);
    entry.unset = vec!["c".to_owned(), "d".to_owned()];
    let id = lab.log(vec![entry])[0];
    lab.build();
    for (set, unset) in behind {
        let mut entry = lab.entry(Op::Update, "r", set);
        entry.unset = unset.iter().map(|name| (*name).to_owned()).collect();
        lab.log(vec![entry]);
    }
    lab.settle(vec![rejected(1, RejectCode::VALIDATION)]);
    (lab, id)
}

fn retried(lab: &mut Lab, id: EntryId) -> (Op, Object, Vec<String>) {
    let txn = plan_retry(&lab.state, &lab.base, id, None, &mut { stamp }, NOW).unwrap();
    let entry = txn.append[0][0].clone();
    assert_eq!((entry.origin, entry.stamp), (Some(id), stamp()));
    lab.apply(txn);
    (entry.op, entry.set, entry.unset)
}

#[test]
fn l5_a_retry_takes_back_nothing_that_was_written_since() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    let (mut lab, id) = refused(&[]);
    assert_eq!(retried(&mut lab, id), (Op::Update, fields(r#"{"a":2,"b":2}"#), names(&["c", "d"])));
    // What waits behind it has set `a` and `c` and taken out `b`.
    let (mut lab, id) = refused(&[(r#"{"a":3,"c":3}"#, &["b"])]);
    assert_eq!(retried(&mut lab, id), (Op::Update, fields("{}"), names(&["d"])));
    // The same, and it was applied before the retry.
    let (mut lab, id) = refused(&[(r#"{"a":3}"#, &[])]);
    lab.build();
    lab.settle(vec![applied(2, 5)]);
    assert_eq!(retried(&mut lab, id).1, fields(r#"{"b":2}"#));
    let (mut lab, id) = refused(&[(r#"{"a":3,"c":3}"#, &["b"])]);
    lab.build();
    lab.settle(vec![applied(2, 5)]);
    assert_eq!(retried(&mut lab, id), (Op::Update, fields("{}"), names(&["d"])));
    // What lost took nothing's place.
    let (mut lab, id) = refused(&[(r#"{"a":3}"#, &[])]);
    lab.build();
    lab.settle(vec![superseded(2, 5, r#"{"a":9}"#)]);
    assert_eq!(retried(&mut lab, id).1, fields(r#"{"a":2,"b":2}"#));
}

#[test]
fn l5_a_retry_of_what_made_a_record_takes_back_nothing_that_was_written_since() {
    // What was written behind the refused one, whether the server has applied that, what goes again, and what is seen then.
    const MADE: &str = r#"{"a":1,"b":1}"#;
    type Written = &'static [(Op, &'static str)];
    let table: [(Written, bool, (Op, &str), &str); 7] = [
        (&[], false, (Op::Create, MADE), MADE),
        (&[(Op::Update, r#"{"a":2}"#)], false, (Op::Create, r#"{"a":2,"b":1}"#), r#"{"a":2,"b":1}"#),
        (&[(Op::Create, r#"{"a":3}"#)], false, (Op::Update, "{}"), r#"{"a":3}"#),
        (&[(Op::Create, r#"{"a":3}"#)], true, (Op::Update, "{}"), r#"{"a":3}"#),
        (&[(Op::Create, r#"{"a":3}"#), (Op::Update, r#"{"c":4}"#)], false, (Op::Update, "{}"), r#"{"a":3,"c":4}"#),
        // Who deletes it and wants it all the same has it as it was.
        (&[(Op::Create, r#"{"a":3}"#), (Op::Delete, "{}")], false, (Op::Create, MADE), MADE),
        (
            &[(Op::Create, r#"{"a":3}"#), (Op::Delete, "{}"), (Op::Create, r#"{"a":4}"#)],
            false,
            (Op::Update, "{}"),
            r#"{"a":4}"#,
        ),
    ];
    for (behind, is_applied, (op, set), wanted) in table {
        let mut lab = Lab::new();
        let id = lab.write(Op::Create, "r", MADE);
        lab.build();
        lab.settle(vec![rejected(1, RejectCode::VALIDATION)]);
        for (op, set) in behind {
            lab.write(*op, "r", set);
        }
        if is_applied {
            lab.build();
            lab.settle(vec![applied(2, 5)]);
        }
        assert_eq!(retried(&mut lab, id), (op, fields(set), Vec::new()), "{behind:?}");
        assert_eq!(lab.seen("r").as_deref(), Some(wanted), "{behind:?}");
    }
}

#[test]
fn r5_who_wants_a_change_of_a_deleted_record_all_the_same_makes_it_anew_and_nobody_else_does() {
    let parked = |outcome: Outcome| {
        let mut lab = Lab::new();
        lab.pulled("r", 4, r#"{"a":1,"b":1}"#);
        let id = lab.write(Op::Update, "r", r#"{"a":2}"#);
        lab.build();
        lab.settle(vec![outcome]);
        let record = lab.base.records.get_mut(&key("r")).unwrap();
        (record.deleted, record.version) = (true, Version(5));
        (lab, id)
    };
    let mut conflict = Outcome::new(Seq(1), ResultStatus::Conflict);
    (conflict.to, conflict.version) = (Some("author".to_owned()), Some(Version(4)));
    let (mut lab, id) = parked(conflict);
    assert_eq!(retried(&mut lab, id), (Op::Create, fields(r#"{"a":2,"b":1}"#), Vec::new()));
    assert_eq!(lab.seen("r").unwrap(), r#"{"a":2,"b":1}"#);
    let (mut lab, id) = parked(rejected(1, RejectCode::VALIDATION));
    assert_eq!(retried(&mut lab, id).0, Op::Update);
    assert_eq!(lab.seen("r"), None);
    assert!(plan_retry(&lab.state, &lab.base, id, None, &mut { stamp }, NOW).is_err(), "it is parked no more");
}

#[test]
fn a_discarded_create_takes_along_what_stands_on_it_with_its_groups_and_nothing_else() {
    let mut lab = Lab::new();
    let create = lab.write(Op::Create, "r", r#"{"a":1}"#);
    let failed = lab.write(Op::Create, "x", "{}");
    lab.build();
    lab.settle(vec![rejected(1, RejectCode::VALIDATION), rejected(2, RejectCode::VALIDATION)]);
    // Behind the refusal: an edit alone, and one in a group that makes a record which has an edit too.
    lab.write(Op::Update, "r", r#"{"b":2}"#);
    lab.group("g", &[(Op::Update, "r", r#"{"c":3}"#), (Op::Create, "s", "{}")]);
    lab.write(Op::Update, "s", r#"{"d":4}"#);
    lab.write(Op::Create, "alone", "{}");
    let (txn, count) = plan_discard(&lab.state, &lab.base, create, NOW).unwrap();
    assert_eq!(count, 5, "the create, an edit, a group of two, and an edit of what the group makes");
    lab.apply(txn);
    let left: Vec<&str> = lab.state.entries.values().map(|entry| entry.id.as_str()).collect();
    assert_eq!(left, ["alone"]);
    assert_eq!(lab.state.parked.values().map(|row| row.id).collect::<Vec<_>>(), [failed], "the other one stays");
    // A record that is there all the same keeps its edits.
    let mut lab = Lab::new();
    let create = lab.write(Op::Create, "r", r#"{"a":1}"#);
    lab.build();
    lab.settle(vec![rejected(1, RejectCode::VALIDATION)]);
    lab.pulled("r", 3, r#"{"z":1}"#);
    lab.write(Op::Update, "r", r#"{"b":2}"#);
    let (txn, count) = plan_discard(&lab.state, &lab.base, create, NOW).unwrap();
    assert_eq!(count, 1);
    lab.apply(txn);
    assert_eq!(lab.seen("r").unwrap(), r#"{"b":2,"z":1}"#);
}

#[test]
fn a_value_that_lost_can_be_written_again_as_what_it_is_now() {
    let choose = |op: Op, choice: Choice<'_>, is_there: bool| {
        let mut lab = Lab::new();
        lab.pulled("r", 4, r#"{"a":1}"#);
        let id = lab.write(op, "r", if op == Op::Delete { "{}" } else { r#"{"a":2}"# });
        lab.build();
        let mut lost = superseded(1, 6, r#"{"a":9}"#);
        if !is_there {
            (lost.record, lost.deleted) = (None, true);
        }
        lab.settle(vec![lost]);
        let kept = lab.conflicts.clone().into_iter().collect();
        let txn = plan_resolve(&lab.state, &lab.base, &kept, id, choice, &mut { stamp }, NOW).unwrap();
        let word =
            txn.append.first().map(|row| (row[0].op, serde_json::to_string(&row[0].set).unwrap(), row[0].on.get()));
        lab.apply(txn);
        assert!(lab.conflicts.is_empty());
        word
    };
    let merged = fields(r#"{"m":1}"#);
    assert_eq!(choose(Op::Update, Choice::Server, true), None);
    assert_eq!(choose(Op::Update, Choice::Local, true), Some((Op::Update, r#"{"a":2}"#.to_owned(), 6)));
    assert_eq!(choose(Op::Update, Choice::Local, false), Some((Op::Create, r#"{"a":2}"#.to_owned(), 6)));
    assert_eq!(choose(Op::Delete, Choice::Local, true).map(|it| it.0), Some(Op::Delete));
    assert_eq!(choose(Op::Update, Choice::Merged(&merged), true), Some((Op::Update, r#"{"m":1}"#.to_owned(), 6)));
}

#[test]
fn s7_units_that_failed_are_known_by_their_ids() {
    let mut lab = Lab::new();
    lab.config.attempts_max = 1;
    let id = lab.write(Op::Create, "r", "{}");
    lab.build();
    assert!(failed_units(&lab.state).is_empty());
    let row = lab.state.descriptors.keys().next().unwrap().clone();
    let txn = plan_counted(&lab.state, &lab.base, &lab.config, &row, NOW);
    lab.apply(txn);
    lab.settle(vec![rejected(1, RejectCode::VOID)]);
    assert_eq!(failed_units(&lab.state), [id]);
}

#[test]
fn l2_a_log_row_that_is_read_twice_or_after_its_entries_ended_adds_nothing() {
    let mut lab = Lab::new();
    let first = lab.entry(Op::Create, "r", r#"{"a":1}"#);
    let second = lab.entry(Op::Update, "r", r#"{"a":2}"#);
    lab.log(vec![first.clone()]);
    lab.log(vec![second.clone()]);
    lab.state.add_log_row(1, "commit1", vec![first.clone()], &mut |_| panic!("it was known"));
    lab.state.add_log_row(2, "commit2", vec![second.clone()], &mut |_| panic!("it was known"));
    assert_eq!(lab.state.lanes.get(&key("r")).unwrap().len(), 2);
    lab.build();
    lab.settle(vec![applied(1, 1)]);
    assert!(lab.state.entries.is_empty());
    // Late, after the settled row was seen: in any order.
    let mut late = Lab::new();
    late.state.add_log_row(2, "commit2", vec![second], &mut |_| {});
    late.state.add_log_row(1, "commit1", vec![first], &mut |_| {});
    assert_eq!(late.seen("r").unwrap(), r#"{"a":2}"#, "the order is that of the log, not of reading it");
    assert!(!late.state.lanes.contains_key(&key("other")) && late.state.lanes.contains_key(&key("r")));
    let mut scopes = BTreeSet::new();
    late.state.each_scope(&mut |scope| _ = scopes.insert(scope.clone()));
    assert_eq!(scopes, BTreeSet::from([key("r").scope]));
}

#[test]
fn r6_an_outcome_of_another_epoch_is_no_overlay_and_one_without_epoch_is() {
    let settled = |epoch: Option<&str>| {
        let mut lab = Lab::new();
        lab.pulled("r", 4, r#"{"a":1}"#);
        lab.write(Op::Update, "r", r#"{"a":2}"#);
        lab.build();
        lab.settle(vec![applied(1, 5)]);
        lab.base.epoch = epoch.map(Epoch::from);
        lab.seen("r").unwrap()
    };
    assert_eq!(settled(Some("e1")), r#"{"a":2}"#);
    assert_eq!(settled(None), r#"{"a":2}"#);
    assert_eq!(settled(Some("e2")), r#"{"a":1}"#);
    // Covered by a pull, or older than the base: it says nothing any more.
    let mut lab = Lab::new();
    lab.pulled("r", 4, r#"{"a":1}"#);
    lab.write(Op::Update, "r", r#"{"a":2}"#);
    lab.build();
    lab.settle(vec![applied(1, 5)]);
    lab.pulled("r", 6, r#"{"a":7}"#);
    assert_eq!(lab.seen("r").unwrap(), r#"{"a":7}"#);
}

#[test]
fn i4_a_wait_ends_with_the_clock_that_it_was_said_by() {
    let mut row: ClientRow = State::first_client("c".into(), "u");
    assert_eq!(row.held_until(UnixMillis(10)), None);
    row.hold_until = Some(UnixMillis(50));
    assert_eq!(row.held_until(UnixMillis(10)), Some(UnixMillis(50)));
    row.held_at = Some(UnixMillis(10));
    assert_eq!(row.held_until(UnixMillis(10)), Some(UnixMillis(50)));
    assert_eq!(row.held_until(UnixMillis(9)), None, "the clock went back");
}

#[test]
fn s5_a_group_that_is_retried_is_one_again() {
    let mut lab = Lab::new();
    let ids = lab.group("g", &[(Op::Create, "a", r#"{"n":1}"#), (Op::Create, "b", r#"{"n":2}"#)]);
    lab.write(Op::Create, "c", "{}");
    lab.build();
    lab.settle(vec![rejected(1, RejectCode::VALIDATION), rejected(2, RejectCode::GROUP_REFUSED), applied(3, 1)]);
    let txn = plan_retry(&lab.state, &lab.base, ids[0], None, &mut { stamp }, NOW).unwrap();
    let groups: BTreeSet<Option<GroupId>> = txn.append.iter().flatten().map(|entry| entry.group.clone()).collect();
    assert_eq!((txn.append.iter().flatten().count(), groups.len()), (2, 1));
    assert!(groups.first().unwrap().is_some());
}

#[test]
fn l4_a_retried_edit_leaves_alone_what_waits_for_another_record_and_a_retried_create_takes_it_along() {
    let mut lab = Lab::new();
    lab.pulled("r", 4, r#"{"a":1}"#);
    let edit = lab.write(Op::Update, "r", r#"{"a":2}"#);
    let create = lab.write(Op::Create, "s", "{}");
    lab.build();
    lab.group("g", &[(Op::Update, "r", r#"{"b":3}"#), (Op::Update, "s", r#"{"b":4}"#)]);
    lab.settle(vec![rejected(1, RejectCode::VALIDATION), rejected(2, RejectCode::VALIDATION)]);
    assert_eq!(lab.state.parked.values().filter(|row| row.reason.code == RejectCode::BLOCKED).count(), 1);
    let goes = |lab: &Lab, id: EntryId| {
        let txn = plan_retry(&lab.state, &lab.base, id, None, &mut { stamp }, NOW).unwrap();
        txn.append.iter().flatten().map(|entry| entry.id.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(goes(&lab, edit), ["r"]);
    assert_eq!(goes(&lab, create), ["s", "r", "s"]);
}
