//! Parked units beside each other: which of them a person's word is about, and what goes along with it.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;

use lab::{Lab, NOW, applied, fields, rejected};
use landfall_core::fixup::{plan_discard, plan_retry};
use landfall_core::plan::OutboxTxn;
use landfall_core::settle::REQUEUES_MAX;
use landfall_protocol::{EntryId, Op, RejectCode, Stamp};
use std::collections::BTreeSet;

fn retry(lab: &Lab, id: EntryId, edits: Option<&str>) -> OutboxTxn {
    let edits = edits.map(fields);
    let stamp = || Stamp::new(2_000_000, 0, "c1");
    plan_retry(&lab.state, &lab.base, id, edits.as_ref(), &mut { stamp }, NOW).unwrap()
}

/// Sends what can go; of these records it is refused so, all else is applied.
fn answer(lab: &mut Lab, refused: &[(&str, &str)]) {
    lab.build();
    let outcomes = lab.mutations().into_iter().map(|mutation| {
        let seq = mutation.seq.get();
        let code = refused.iter().find(|(id, _)| *id == mutation.id.as_str());
        code.map_or_else(|| applied(seq, seq + 10), |(_, code)| rejected(seq, code))
    });
    let outcomes = outcomes.collect();
    lab.settle(outcomes);
}

/// Refused so often for what it stands on that it waits for a person.
fn block(lab: &mut Lab, id: &str) {
    for _ in 0..=REQUEUES_MAX {
        answer(lab, &[(id, RejectCode::BLOCKED)]);
    }
}

/// The units that are parked, by the first of their records and why.
fn parked(lab: &Lab) -> Vec<String> {
    let rows = lab.state.parked.values();
    rows.map(|row| format!("{} {}", row.changes[0].entry.id, row.reason.code)).collect()
}

#[test]
fn a_parked_unit_is_found_by_every_id_that_the_app_ever_had_of_it_and_by_no_other() {
    let mut lab = Lab::new();
    let mut first = lab.group("g", &[(Op::Create, "a", "{}"), (Op::Create, "b", "{}")]);
    let second = lab.group("h", &[(Op::Create, "c", "{}"), (Op::Create, "d", "{}")]);
    let all = ["a", "b", "c", "d"].map(|id| (id, RejectCode::VALIDATION));
    answer(&mut lab, &all);
    let means = |lab: &Lab, id: EntryId| {
        let row = plan_discard(&lab.state, &lab.base, id, NOW).unwrap().0.parked.into_keys().next().unwrap();
        lab.state.parked[&row].changes[0].entry.id.as_str().to_owned()
    };
    for _ in 0..2 {
        assert_eq!(first.iter().map(|id| means(&lab, *id)).collect::<BTreeSet<_>>(), ["a".to_owned()].into());
        assert_eq!(second.iter().map(|id| means(&lab, *id)).collect::<BTreeSet<_>>(), ["c".to_owned()].into());
        // Tried again and refused again it has further ids.
        let txn = retry(&lab, first[1], None);
        lab.apply(txn);
        first.extend(lab.state.entries.keys());
        answer(&mut lab, &all);
    }
    assert!(plan_discard(&lab.state, &lab.base, EntryId::at(99, 0), NOW).is_err());
}

#[test]
fn c3_a_correction_changes_the_fields_that_it_names_and_keeps_the_rest_of_the_change() {
    let refused = || {
        let mut lab = Lab::new();
        lab.pulled("r", 4, r#"{"a":1,"b":1,"c":1,"d":1}"#);
        let mut entry = lab.entry(Op::Update, "r", r#"{"a":2,"b":2}"#);
        entry.unset = vec!["c".to_owned(), "d".to_owned()];
        let id = lab.log(vec![entry])[0];
        answer(&mut lab, &[("r", RejectCode::VALIDATION)]);
        (lab, id)
    };
    for (edits, set, unset) in [
        (r#"{"b":9}"#, r#"{"a":2,"b":9}"#, &["c", "d"][..]),
        (r#"{"c":9}"#, r#"{"a":2,"b":2,"c":9}"#, &["d"]),
        ("{}", r#"{"a":2,"b":2}"#, &["c", "d"]),
    ] {
        let (lab, id) = refused();
        let entry = retry(&lab, id, Some(edits)).append[0][0].clone();
        assert_eq!((entry.op, entry.set), (Op::Update, fields(set)), "{edits}");
        assert_eq!(entry.unset, unset, "{edits}");
    }
}

#[test]
fn s4_a_unit_that_is_tried_again_takes_along_what_was_blocked_behind_it_and_no_other() {
    let mut lab = Lab::new();
    for id in ["a", "b", "z"] {
        lab.pulled(id, 4, "{}");
    }
    let group = lab.group("g", &[(Op::Update, "a", r#"{"n":1}"#), (Op::Update, "b", r#"{"n":1}"#)]);
    answer(&mut lab, &[("a", RejectCode::VALIDATION), ("b", RejectCode::GROUP_REFUSED)]);
    lab.write(Op::Update, "b", r#"{"n":2}"#);
    block(&mut lab, "b");
    lab.write(Op::Update, "z", r#"{"n":2}"#);
    block(&mut lab, "z");
    lab.write(Op::Update, "a", r#"{"n":3}"#);
    answer(&mut lab, &[("a", RejectCode::VALIDATION)]);
    assert_eq!(parked(&lab), ["a validation", "b blocked", "z blocked", "a validation"]);
    let txn = retry(&lab, group[0], None);
    let again: Vec<&str> = txn.append.iter().flatten().map(|entry| entry.id.as_str()).collect();
    assert_eq!(again, ["a", "b", "b"]);
    lab.apply(txn);
    assert_eq!(parked(&lab), ["z blocked", "a validation"]);
}

#[test]
fn l4_a_discarded_create_ends_nothing_that_stands_on_another_one_or_on_what_is_there() {
    let mut lab = Lab::new();
    lab.pulled("alive", 4, "{}");
    lab.pulled("made", 4, "{}");
    let create = lab.write(Op::Create, "r", "{}");
    lab.write(Op::Create, "s", "{}");
    lab.build();
    lab.write(Op::Update, "r", r#"{"n":1}"#);
    lab.write(Op::Update, "s", r#"{"n":1}"#);
    let refused = |seq| rejected(seq, RejectCode::VALIDATION);
    lab.settle(vec![refused(1), refused(2)]);
    // What was refused for a reason of its own is a unit of its own.
    lab.write(Op::Update, "r", r#"{"n":2}"#);
    answer(&mut lab, &[("r", RejectCode::VALIDATION)]);
    let before = ["r validation", "s validation", "r blocked", "s blocked", "r validation"];
    assert_eq!(parked(&lab), before);
    // Behind it a group that has an edit, and a blind create, of records that are there.
    lab.group("g", &[(Op::Update, "r", "{}"), (Op::Update, "alive", r#"{"n":1}"#), (Op::Create, "made", "{}")]);
    lab.write(Op::Update, "alive", r#"{"n":2}"#);
    lab.write(Op::Update, "made", r#"{"n":3}"#);
    let (txn, count) = plan_discard(&lab.state, &lab.base, create, NOW).unwrap();
    assert_eq!(count, 5);
    lab.apply(txn);
    assert_eq!(parked(&lab), ["s validation", "s blocked", "r validation"]);
    let left: Vec<&str> = lab.state.entries.values().map(|entry| entry.id.as_str()).collect();
    assert_eq!(left, ["alive", "made"]);
}
