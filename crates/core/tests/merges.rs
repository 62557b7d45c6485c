//! Merges at their edges: which base a follower has, what counts as later, and whose a field is after a write.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

use landfall_core::authority::{Situation, Stored, decide};
use landfall_core::policy::{By, Clash, Mark, Marks, Met, Plan, Policy, Refinement, Rule, Way, judge, marks_after};
use landfall_protocol::{ClientId, Fields, Map, Mutation, Op, Outcome, Position, ResultStatus, Seq, Stamp, Version};
use std::collections::BTreeSet;

fn fields(json: &str) -> Fields {
    serde_json::from_str(json).unwrap()
}

fn mutation(op: Op, set: &str, after: Option<u64>) -> Mutation {
    Mutation {
        seq: Seq(9),
        scope: "s:1".into(),
        collection: "notes".into(),
        id: "r".into(),
        op,
        set: fields(set),
        unset: Vec::new(),
        base: after.is_none().then_some(Version(1)),
        after: after.map(Seq),
        prev: Fields::new(),
        stamp: Stamp::new(50, 0, "me"),
        group: None,
        origin: None,
    }
}

fn mark(version: u64, writer: &str) -> Mark {
    Mark {
        version: Version(version),
        stamp: Stamp::new(version, 0, writer),
        writer: writer.to_owned(),
        seq: Seq(version),
        role: String::new(),
    }
}

fn marks(floor: u64, by_name: &[(&str, u64, &str)]) -> Marks {
    let by_name = by_name.iter().map(|(name, version, writer)| ((*name).to_owned(), mark(*version, writer)));
    Marks { floor: Version(floor), by_name: by_name.collect() }
}

/// Each field with the version of its mark.
fn versions(marks: &Marks) -> Vec<String> {
    marks.by_name.iter().map(|(name, mark)| format!("{name}{}", mark.version.get())).collect()
}

/// One that lost knows no more than what it stood on, one that took effect knows what it met.
#[test]
fn l5_a_follower_knows_what_its_predecessor_knew_and_no_more() {
    let follows = |status: ResultStatus, version: u64, stood_on: u64, set: &str| {
        let stored = Stored {
            version: Version(5),
            fields: fields(r#"{"a":1,"b":1,"c":1}"#),
            deleted: false,
            stamp: Stamp::new(5, 0, "other"),
            client: ClientId::from("other"),
            seq: Seq(5),
            role: String::new(),
            marks: Some(marks(1, &[("a", 2, "other"), ("b", 3, "me"), ("c", 5, "other")])),
        };
        let mut before = Outcome::new(Seq(8), status);
        before.version = Some(Version(version));
        let mutation = mutation(Op::Update, set, Some(8));
        let situation = Situation {
            policy: &Policy::merge(Rule::ServerWins),
            stored: Some(&stored),
            version_floor: Version::ZERO,
            client: &ClientId::from("me"),
            writer: "me",
            roles: &BTreeSet::new(),
            after: Some(&before),
            after_base: Version(stood_on),
            position: Position(1),
            stamp: &mutation.stamp,
        };
        decide(&situation, &mutation).outcome.status
    };
    use ResultStatus::{Merged, Superseded};
    assert_eq!(follows(Merged, 3, 1, r#"{"a":2}"#), Merged, "its predecessor was put over that");
    assert_eq!(follows(Merged, 3, 1, r#"{"c":2}"#), Superseded, "that came later");
    assert_eq!(follows(Superseded, 5, 1, r#"{"c":2}"#), Superseded, "it lost against what it had not seen");
    assert_eq!(follows(Superseded, 5, 1, r#"{"a":2}"#), Superseded);
    assert_eq!(follows(Superseded, 5, 2, r#"{"a":2}"#), Merged, "that it had seen");
}

/// What becomes of a mutation that meets a record of another client's, with this stamp.
fn plan(policy: &Policy, clash: Clash, op: Op, at_ms: u64) -> Plan {
    let there = fields(r#"{"a":1}"#);
    let theirs = Mark { stamp: Stamp::new(at_ms, 0, "me"), ..mark(5, "other") };
    let mutation = mutation(op, r#"{"a":2}"#, None);
    let met = Met { clash, fields: &there, mark: &theirs, marks: None };
    let by = By { base: Version(1), stamp: &mutation.stamp, writer: "me", seq: mutation.seq, role: "" };
    judge(policy, met, by, &mutation)
}

#[test]
fn c1_of_two_equal_stamps_what_is_there_stays() {
    let last = Policy::whole(Rule::LastStamp);
    let update = |at_ms| plan(&last, Clash::UpdateOnUpdated, Op::Update, at_ms);
    assert_eq!([update(49), update(50), update(51)], [Plan::Take, Plan::Keep, Plan::Keep]);
}

#[test]
fn c1_a_delete_is_judged_whole_and_a_policy_that_merges_never_deletes_what_was_changed() {
    let of_fields = |way: Way| Policy {
        way,
        refinement: Refinement::Fields(Map::from_iter([("b".to_owned(), Rule::ServerWins)])),
        ..Policy::default()
    };
    let whole = |rule| Way::Whole(rule);
    let merge = |rule| Way::Merge(rule);
    let cases = [
        (Policy::whole(Rule::ClientWins), Plan::Take, Plan::Recreate),
        (of_fields(whole(Rule::ClientWins)), Plan::Take, Plan::Recreate),
        (of_fields(whole(Rule::ServerWins)), Plan::Keep, Plan::Keep),
        (Policy::merge(Rule::ClientWins), Plan::Keep, Plan::Keep),
        (of_fields(merge(Rule::ClientWins)), Plan::Keep, Plan::Keep),
    ];
    for (policy, delete, on_deleted) in cases {
        assert_eq!(plan(&policy, Clash::DeleteOnUpdated, Op::Delete, 1), delete, "{policy:?}");
        assert_eq!(plan(&policy, Clash::WriteOnDeleted, Op::Update, 1), on_deleted, "{policy:?}");
    }
}

#[test]
fn c2_a_write_marks_what_it_changes_and_a_new_life_begins_without_the_marks_of_the_former() {
    let before = fields(r#"{"a":1,"b":1,"c":1}"#);
    let known = marks(2, &[("a", 3, "x"), ("b", 4, "x")]);
    let last = mark(5, "x");
    let own = mark(6, "me");
    let written = |op, known: Option<&Marks>, deleted: bool, after: &str| {
        let made = marks_after(op, Some((&before, &last, known, deleted)), &fields(after), &own);
        (made.floor.get(), versions(&made).join(" "))
    };
    let said = |floor: u64, marks: &str| (floor, marks.to_owned());
    let changed = r#"{"a":1,"b":2,"d":1}"#;
    assert_eq!(written(Op::Update, Some(&known), false, changed), said(2, "a3 b6 c6 d6"));
    assert_eq!(written(Op::Create, Some(&known), false, changed), said(2, "a3 b6 c6 d6"), "over what is there");
    assert_eq!(written(Op::Update, Some(&known), true, changed), said(2, "a3 b6 c6 d6"), "it lives on");
    assert_eq!(written(Op::Create, Some(&known), true, changed), said(5, "a6 b6 d6"));
    // Before there were marks each field is as young as the record; and one without a mark is as young as the floor.
    assert_eq!(written(Op::Update, None, false, changed), said(5, "a5 b6 c6 d6"));
    assert_eq!(written(Op::Update, Some(&marks(2, &[])), false, changed), said(2, "b6 c6 d6"));
    let first = marks_after(Op::Create, None, &fields(changed), &own);
    assert_eq!(versions(&first), ["a6", "b6", "d6"]);
}
