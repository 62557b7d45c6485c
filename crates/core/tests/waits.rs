//! What waits: for the outcome of what it needs, or for a person; and what only looks as if it had to.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;

use lab::{Lab, NOW, applied, families, item, pulled_item, rejected, sent};
use landfall_core::CollectionConfig;
use landfall_core::fixup::{failed_units, plan_retry};
use landfall_core::order::units;
use landfall_core::retry::plan_counted;
use landfall_protocol::{Op, RejectCode};

fn settle_with(lab: &mut Lab, code: Option<&str>) {
    let outcome = |seq: u64| code.map_or_else(|| applied(seq, seq + 10), |code| rejected(seq, code));
    let outcomes = lab.sending().iter().map(|sent| outcome(sent.seq.get())).collect();
    lab.settle(outcomes);
}

/// Sends what can go; the server refuses it.
fn refuse(lab: &mut Lab) {
    lab.build();
    settle_with(lab, Some(RejectCode::VALIDATION));
}

#[test]
fn s4_a_child_that_was_written_before_its_parent_waits_for_the_outcome_of_the_parent_too() {
    let mut lab = families(0);
    lab.config.batch_count = 1;
    item(&mut lab, Op::Create, "child", r#"{"note":"parent"}"#);
    lab.write(Op::Create, "parent", "{}");
    lab.build();
    assert_eq!((sent(&lab), lab.state.descriptors.len()), (vec!["+parent".to_owned()], 1), "not in the same step");
    assert!(lab.build().is_empty(), "and not in a later one");
    settle_with(&mut lab, None);
    lab.build();
    assert_eq!(sent(&lab), ["+child"]);
}

/// A lane whose unit used up its attempts holds the groups that touch it, the lanes of these, and so on.
#[test]
fn s7_what_stands_behind_a_failed_unit_waits_with_its_groups_and_goes_when_it_is_tried_again() {
    for mut lab in [Lab::new(), families(0)] {
        lab.config.attempts_max = 1;
        lab.pulled("a", 4, "{}");
        lab.write(Op::Update, "a", r#"{"n":1}"#);
        lab.build();
        let row = lab.state.descriptors.keys().next().unwrap().clone();
        let txn = plan_counted(&lab.state, &lab.base, &lab.config, &row, NOW);
        lab.apply(txn);
        settle_with(&mut lab, Some(RejectCode::VOID));
        lab.write(Op::Update, "a", r#"{"m":1}"#);
        lab.group("g", &[(Op::Update, "a", r#"{"m":2}"#), (Op::Create, "b", "{}")]);
        lab.group("h", &[(Op::Update, "b", r#"{"m":3}"#), (Op::Create, "c", "{}")]);
        lab.write(Op::Update, "c", r#"{"m":4}"#);
        lab.write(Op::Create, "free", "{}");
        lab.build();
        assert_eq!(sent(&lab), ["+free"]);
        settle_with(&mut lab, None);
        assert!(lab.build().is_empty());
        let failed = failed_units(&lab.state)[0];
        let mut clock = lab.state.hlc.clone();
        let txn = plan_retry(&lab.state, &lab.base, failed, None, &mut || clock.tick(1, "c1"), NOW).unwrap();
        lab.apply(txn);
        lab.build();
        assert_eq!(sent(&lab), ["=a", "=a", "+b", "=b", "+c", "=c", "=a"]);
    }
}

#[test]
fn s4_a_child_waits_for_a_parent_that_waits_behind_a_failed_unit_of_its_lane() {
    let mut lab = families(0);
    lab.config.attempts_max = 1;
    lab.write(Op::Create, "parent", "{}");
    lab.build();
    let row = lab.state.descriptors.keys().next().unwrap().clone();
    let txn = plan_counted(&lab.state, &lab.base, &lab.config, &row, NOW);
    lab.apply(txn);
    settle_with(&mut lab, Some(RejectCode::VOID));
    item(&mut lab, Op::Create, "child", r#"{"note":"parent"}"#);
    // Another context makes the parent once more: there is a create again, and it waits with its lane.
    lab.write(Op::Create, "parent", r#"{"again":1}"#);
    assert!(lab.build().is_empty());
}

#[test]
fn a_child_waits_for_a_parked_create_of_its_parent_while_the_server_has_none_and_for_nothing_else() {
    // What is parked of the parent, what the server has by then, whether a child can go.
    let cases = [
        ("create", "nothing", false),
        ("create", "deleted", false),
        ("create", "live", true),
        ("update", "deleted", true),
        ("group", "deleted", true),
    ];
    for (parked, there, goes) in cases {
        let mut lab = families(0);
        if parked != "create" {
            lab.pulled("parent", 3, "{}");
        }
        match parked {
            "create" => _ = lab.write(Op::Create, "parent", "{}"),
            "update" => _ = lab.write(Op::Update, "parent", r#"{"a":1}"#),
            _ => _ = lab.group("g", &[(Op::Update, "parent", r#"{"a":1}"#), (Op::Create, "beside", "{}")]),
        }
        refuse(&mut lab);
        if there != "nothing" {
            lab.pulled("parent", 5, "{}");
            lab.base.records.get_mut(&lab::key("parent")).unwrap().deleted = there == "deleted";
        }
        item(&mut lab, Op::Create, "child", r#"{"note":"parent"}"#);
        lab.build();
        assert_eq!(sent(&lab) == ["+child"], goes, "{parked}, {there}");
    }
}

#[test]
fn a_record_that_names_itself_is_not_its_own_parent() {
    let mut lab = families(0);
    item(&mut lab, Op::Create, "a", "{}");
    refuse(&mut lab);
    item(&mut lab, Op::Update, "a", r#"{"item":"a"}"#);
    lab.build();
    assert_eq!(sent(&lab), ["=a"], "the server says what it thinks of it");
}

/// Before a parent's delete goes what lets go of it; all else keeps its place behind that.
#[test]
fn only_what_lets_go_of_a_record_goes_before_its_delete() {
    let cases: [(Op, &str, &str, [&str; 2]); 6] = [
        (Op::Delete, r#"{"note":"x"}"#, "{}", ["-child", "-x"]),
        (Op::Update, r#"{"note":"x"}"#, r#"{"note":"y"}"#, ["=child", "-x"]),
        (Op::Update, r#"{"note":"x"}"#, r#"{"n":1}"#, ["-x", "=child"]),
        (Op::Update, r#"{"note":"x"}"#, r#"{"note":"x"}"#, ["-x", "=child"]),
        (Op::Update, r#"{"note":"y"}"#, r#"{"note":"z"}"#, ["-x", "=child"]),
        // An item of this name is another record.
        (Op::Update, r#"{"item":"x"}"#, r#"{"item":"y"}"#, ["-x", "=child"]),
    ];
    for (op, before, set, expected) in cases {
        let mut lab = families(0);
        if !before.contains("item") {
            // One collection that refers to one other is enough.
            let references = vec![("note".to_owned(), "notes".into())];
            lab.config.collections.insert("items".into(), CollectionConfig { references, ..Default::default() });
        }
        lab.pulled("x", 3, "{}");
        pulled_item(&mut lab, "child", before);
        lab.write(Op::Delete, "x", "{}");
        item(&mut lab, op, "child", set);
        lab.build();
        assert_eq!(sent(&lab), expected, "{op:?} {before} {set}");
    }
}

#[test]
fn higher_priority_overtakes_a_full_batch_of_others_and_lower_ones_alike() {
    for (notes, items) in [(0, 5), (1, 5), (-5, -1), (-5, 0)] {
        let mut lab = families(items);
        lab.config.collections.insert("notes".into(), CollectionConfig { priority: notes, ..Default::default() });
        lab.config.batch_count = 2;
        for id in ["a", "b", "c", "d"] {
            lab.write(Op::Create, id, "{}");
        }
        item(&mut lab, Op::Create, "urgent", "{}");
        lab.build();
        assert_eq!(sent(&lab), ["+urgent", "+a"], "{notes} {items}");
    }
}

#[test]
fn of_a_long_outbox_the_oldest_are_the_next_batch_and_the_rest_is_not_looked_at() {
    let mut lab = Lab::new();
    lab.config.batch_count = 3;
    for n in 0..50 {
        lab.write(Op::Create, &format!("r{n}"), "{}");
    }
    let found = units(&lab.state, &lab.base, &lab.config);
    let ids: Vec<&str> = found.iter().map(|unit| unit.members[0].key.id.as_str()).collect();
    assert_eq!(ids[..3], ["r0", "r1", "r2"]);
    assert!(ids.len() <= 4, "a look at each of 100,000 for each batch would be felt");
}

/// A create that another context made blindly is one of the run that it stands in: what it needs goes before all of it.
#[test]
fn a_blind_create_that_refers_to_what_was_written_later_is_joined_and_goes_behind_that() {
    let mut lab = families(0);
    pulled_item(&mut lab, "a", "{}");
    item(&mut lab, Op::Update, "a", r#"{"n":1}"#);
    item(&mut lab, Op::Create, "a", r#"{"item":"b"}"#);
    item(&mut lab, Op::Create, "b", "{}");
    lab.build();
    assert_eq!(sent(&lab), ["+b", "+a"]);
}
