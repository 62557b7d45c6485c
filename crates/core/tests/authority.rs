//! The verdict for server-wins, case by case.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.
#![allow(clippy::type_complexity)] // A table reads best as one literal.

use landfall_core::authority::{Situation, Stored, decide};
use landfall_core::policy::Policy;
use landfall_protocol::{
    ClientId, Fields, Mutation, Op, Outcome, Position, RecordId, ResultStatus, Seq, Stamp, Version,
};
use std::collections::BTreeSet;

fn fields(json: &str) -> Fields {
    serde_json::from_str(json).unwrap()
}

fn mutation(op: Op, set: &str, base: Option<u64>, after: Option<u64>) -> Mutation {
    Mutation {
        seq: Seq(7),
        scope: "user:u".into(),
        collection: "notes".into(),
        id: RecordId::from("r"),
        op,
        set: fields(set),
        unset: Vec::new(),
        base: base.map(Version),
        after: after.map(Seq),
        prev: Fields::new(),
        stamp: Stamp::new(1, 0, "me"),
        group: None,
        origin: None,
    }
}

fn stored(version: u64, deleted: bool, json: &str) -> Stored {
    Stored {
        version: Version(version),
        fields: fields(json),
        deleted,
        stamp: Stamp::new(5_000, 0, "other"),
        client: ClientId::from("other"),
        seq: Seq(1),
        role: String::new(),
        marks: None,
    }
}

fn judge(
    stored: Option<&Stored>,
    mutation: &Mutation,
    after: Option<&Outcome>,
) -> (ResultStatus, Option<Stored>, Outcome) {
    let client = ClientId::from("me");
    let situation = Situation {
        policy: &Policy::default(),
        stored,
        version_floor: Version(0),
        client: &client,
        writer: "u me",
        roles: &BTreeSet::new(),
        after,
        after_base: Version::ZERO,
        position: Position(9),
        stamp: &mutation.stamp,
    };
    let verdict = decide(&situation, mutation);
    (verdict.outcome.status, verdict.effect.map(|effect| effect.stored), verdict.outcome)
}

#[test]
fn c1_server_wins_case_by_case() {
    use ResultStatus::{Applied, Rejected, Superseded};
    let there = stored(4, false, r#"{"a":1}"#);
    let gone = stored(4, true, r#"{"a":1}"#);
    // what, stored, mutation, status, version afterwards (None: no effect)
    let cases: &[(&str, Option<&Stored>, Mutation, ResultStatus, Option<u64>)] = &[
        ("create on nothing", None, mutation(Op::Create, r#"{"a":2}"#, Some(0), None), Applied, Some(1)),
        ("create on create", Some(&there), mutation(Op::Create, r#"{"a":2}"#, Some(0), None), Superseded, None),
        ("equal create on create", Some(&there), mutation(Op::Create, r#"{"a":1.0}"#, Some(0), None), Applied, None),
        ("update on current", Some(&there), mutation(Op::Update, r#"{"a":2}"#, Some(4), None), Applied, Some(5)),
        ("update on updated", Some(&there), mutation(Op::Update, r#"{"a":2}"#, Some(3), None), Superseded, None),
        ("equal update on updated", Some(&there), mutation(Op::Update, r#"{"a":1}"#, Some(3), None), Applied, None),
        ("update on deleted", Some(&gone), mutation(Op::Update, r#"{"a":2}"#, Some(3), None), Superseded, None),
        ("update on nothing", None, mutation(Op::Update, r#"{"a":2}"#, Some(3), None), Rejected, None),
        ("delete on nothing", None, mutation(Op::Delete, "{}", Some(3), None), Applied, None),
        ("delete on current", Some(&there), mutation(Op::Delete, "{}", Some(4), None), Applied, Some(5)),
        ("delete on updated", Some(&there), mutation(Op::Delete, "{}", Some(3), None), Superseded, None),
        ("delete on deleted", Some(&gone), mutation(Op::Delete, "{}", Some(3), None), Applied, None),
        (
            "create on a tombstone that was seen",
            Some(&gone),
            mutation(Op::Create, r#"{"b":1}"#, Some(4), None),
            Applied,
            Some(5),
        ),
        (
            "create on a tombstone that was not",
            Some(&gone),
            mutation(Op::Create, r#"{"b":1}"#, Some(0), None),
            Superseded,
            None,
        ),
    ];
    for (what, stored, mutation, status, version) in cases {
        let (found, effect, _) = judge(*stored, mutation, None);
        assert_eq!(found, *status, "{what}");
        assert_eq!(effect.map(|stored| stored.version.get()), *version, "{what}");
    }
}

#[test]
fn s4_after_holds_while_the_predecessor_is_the_last_writer_and_fails_when_another_came_between() {
    let mut mine = stored(4, false, r#"{"a":1}"#);
    (mine.client, mine.seq) = (ClientId::from("me"), Seq(6));
    let mut outcome = Outcome::new(Seq(6), ResultStatus::Applied);
    outcome.version = Some(Version(4));
    let follow = mutation(Op::Update, r#"{"a":2}"#, None, Some(6));
    assert_eq!(judge(Some(&mine), &follow, Some(&outcome)).0, ResultStatus::Applied);
    let theirs = stored(5, false, r#"{"a":3}"#);
    assert_eq!(judge(Some(&theirs), &follow, Some(&outcome)).0, ResultStatus::Superseded);
    let refused = Outcome::rejected(Seq(6), "validation", "No.");
    let (status, effect, outcome) = judge(Some(&mine), &follow, Some(&refused));
    assert_eq!((status, outcome.code.as_deref(), outcome.by), (ResultStatus::Rejected, Some("blocked"), Some(Seq(6))));
    assert!(effect.is_none());
}

#[test]
fn i4_a_current_base_wins_whatever_the_clocks_say_and_the_stored_stamp_grows() {
    let there = stored(4, false, r#"{"a":1}"#);
    let late = mutation(Op::Update, r#"{"a":2}"#, Some(4), None);
    let (_, effect, _) = judge(Some(&there), &late, None);
    assert!(effect.unwrap().stamp > there.stamp);
}

#[test]
fn r5_a_version_is_never_used_twice_across_delete_and_clean_up() {
    let client = ClientId::from("me");
    let create = mutation(Op::Create, "{}", Some(0), None);
    let situation = Situation {
        policy: &Policy::default(),
        stored: None,
        version_floor: Version(41),
        client: &client,
        writer: "u me",
        roles: &BTreeSet::new(),
        after: None,
        after_base: Version::ZERO,
        position: Position(1),
        stamp: &create.stamp,
    };
    assert_eq!(decide(&situation, &create).effect.unwrap().stored.version, Version(42));
}
