//! What the client makes of the outcomes of policies other than server-wins.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;

use lab::{Lab, NOW, applied, fields, rejected, superseded};
use landfall_core::fixup::{Choice, FixupError, plan_resolve};
use landfall_core::settle::Event;
use landfall_protocol::{EntryId, Op, Outcome, Position, ResultStatus, Stamp, Version};

fn outcome(seq: u64, status: ResultStatus, version: u64, record: &str) -> Outcome {
    Outcome { status, ..superseded(seq, version, record) }
}

fn to(whom: &str, seq: u64, version: u64, record: &str) -> Outcome {
    Outcome { to: Some(whom.to_owned()), ..outcome(seq, ResultStatus::Conflict, version, record) }
}

fn stale(seq: u64, version: u64, record: &str) -> Outcome {
    let known = superseded(seq, version, record);
    Outcome { version: known.version, position: known.position, record: known.record, ..rejected(seq, "stale") }
}

fn resolve(lab: &mut Lab, id: EntryId, choice: Choice<'_>) -> Result<(), FixupError> {
    let kept = lab.conflicts.iter().map(|(row, conflict)| (row.clone(), conflict.clone())).collect();
    let stamp = || Stamp::new(NOW.get() + 500, 0, "c1");
    let txn = plan_resolve(&lab.state, &lab.base, &kept, id, choice, &mut { stamp }, NOW)?;
    lab.apply(txn);
    Ok(())
}

/// A record at version 4 and an update of it under way.
fn sent(set: &str) -> (Lab, EntryId) {
    let mut lab = Lab::new();
    lab.pulled("r", 4, r#"{"a":1,"b":1}"#);
    let id = lab.write(Op::Update, "r", set);
    lab.build();
    (lab, id)
}

#[test]
fn l5_a_merged_or_recreated_record_shows_at_once_and_the_next_edit_stands_on_it() {
    for status in [ResultStatus::Merged, ResultStatus::Recreated] {
        let (mut lab, _) = sent(r#"{"a":2}"#);
        lab.settle(vec![outcome(1, status, 6, r#"{"a":2,"b":7}"#)]);
        assert_eq!(lab.seen("r").unwrap(), r#"{"a":2,"b":7}"#);
        assert!(lab.conflicts.is_empty() && lab.state.entries.is_empty(), "nothing of it was lost");
        lab.write(Op::Update, "r", r#"{"b":8}"#);
        lab.build();
        assert_eq!(lab.mutations()[0].base, Some(Version(6)));
    }
}

#[test]
fn c2_a_merge_that_dropped_a_field_of_mine_keeps_it_and_tells_me() {
    let (mut lab, id) = sent(r#"{"a":2,"b":2}"#);
    let events = lab.settle(vec![outcome(1, ResultStatus::Merged, 6, r#"{"a":9,"b":2}"#)]);
    assert!(matches!(&events[..], [Event::Applied { .. }, Event::Conflict { .. }]), "{events:?}");
    let kept = lab.conflicts.values().next().unwrap();
    assert_eq!((kept.entry, &kept.set), (id, &fields(r#"{"a":2,"b":2}"#)));
}

#[test]
fn c3_a_conflict_for_its_author_parks_with_three_values_and_the_view_shows_the_servers() {
    let (mut lab, _) = sent(r#"{"a":2}"#);
    let events = lab.settle(vec![to("author", 1, 6, r#"{"a":9,"b":1}"#)]);
    assert!(matches!(&events[..], [Event::Parked { .. }]), "{events:?}");
    let row = lab.state.parked.values().next().unwrap();
    assert_eq!(row.reason.code, "conflict");
    let change = &row.changes[0];
    assert_eq!(change.base, Some(fields(r#"{"a":1,"b":1}"#)));
    assert_eq!((&change.entry.set, &change.server), (&fields(r#"{"a":2}"#), &Some(fields(r#"{"a":9,"b":1}"#))));
    assert_eq!(lab.seen("r").unwrap(), r#"{"a":9,"b":1}"#);
}

#[test]
fn c2_the_authors_word_ends_a_conflict_one_way_or_the_other() {
    let merged = fields(r#"{"a":5,"b":5}"#);
    for (choice, sent_next) in [
        (Choice::Local, Some(r#"{"a":2}"#)),
        (Choice::Merged(&merged), Some(r#"{"a":5,"b":5}"#)),
        (Choice::Server, None),
    ] {
        let (mut lab, id) = sent(r#"{"a":2}"#);
        lab.settle(vec![to("author", 1, 6, r#"{"a":9,"b":1}"#)]);
        resolve(&mut lab, id, choice).unwrap();
        assert!(lab.state.parked.is_empty());
        lab.build();
        let next = lab.mutations();
        assert_eq!(next.first().map(|next| next.set.clone()), sent_next.map(fields), "{choice:?}");
        // Who decided has seen what stands: it clashes no more, although nothing was pulled since.
        assert!(next.iter().all(|next| next.base == Some(Version(6))), "{choice:?}");
        assert_eq!(
            resolve(&mut lab, id, Choice::Server),
            Err(FixupError::NotParked),
            "there is nothing left to decide"
        );
    }
}

#[test]
fn c2_a_merge_by_hand_sends_the_fields_that_are_to_stand_and_no_other_of_the_change() {
    let (mut lab, id) = sent(r#"{"a":2,"b":2}"#);
    lab.settle(vec![to("author", 1, 6, r#"{"a":9,"b":9}"#)]);
    resolve(&mut lab, id, Choice::Merged(&fields(r#"{"a":2}"#))).unwrap();
    lab.build();
    let next = &lab.mutations()[0];
    assert_eq!((next.op, &next.set, next.base), (Op::Update, &fields(r#"{"a":2}"#), Some(Version(6))));
    // Two devices made the same record: what stands is changed, not replaced.
    let mut lab = Lab::new();
    let id = lab.write(Op::Create, "r", r#"{"a":2,"b":2}"#);
    lab.build();
    lab.settle(vec![to("author", 1, 6, r#"{"a":9,"b":9}"#)]);
    resolve(&mut lab, id, Choice::Merged(&fields(r#"{"a":2}"#))).unwrap();
    lab.build();
    let next = &lab.mutations()[0];
    assert_eq!((next.op, &next.set, next.base), (Op::Update, &fields(r#"{"a":2}"#), Some(Version(6))));
}

#[test]
fn r5_only_its_author_makes_a_record_anew_that_was_deleted_meanwhile() {
    let (mut lab, id) = sent(r#"{"a":2}"#);
    let mut gone = to("author", 1, 6, "{}");
    (gone.record, gone.deleted) = (None, true);
    lab.settle(vec![gone]);
    assert_eq!(lab.seen("r"), None);
    resolve(&mut lab, id, Choice::Local).unwrap();
    lab.build();
    let next = &lab.mutations()[0];
    assert_eq!((next.op, &next.set, next.base), (Op::Create, &fields(r#"{"a":2,"b":1}"#), Some(Version(6))));
}

#[test]
fn c2_a_change_under_review_leaves_the_outbox_with_a_flag_and_its_lane_goes_on() {
    let (mut lab, id) = sent(r#"{"a":2}"#);
    lab.write(Op::Update, "r", r#"{"b":2}"#);
    let events = lab.settle(vec![to("review", 1, 6, r#"{"a":9,"b":1}"#)]);
    assert!(matches!(&events[..], [Event::Conflict { .. }]), "{events:?}");
    assert!(lab.state.parked.is_empty());
    let kept = lab.conflicts.values().next().unwrap();
    assert_eq!((kept.entry, kept.outcome.to.as_deref()), (id, Some("review")));
    lab.build();
    // The follower's writer did not know of what stands either.
    assert_eq!(lab.mutations()[0].base, Some(Version(4)));
}

#[test]
fn a_stale_change_goes_again_once_on_what_the_server_has_if_nobody_touched_its_fields() {
    let (mut lab, _) = sent(r#"{"a":2}"#);
    let events = lab.settle(vec![stale(1, 6, r#"{"a":1,"b":9}"#)]);
    assert!(events.is_empty(), "{events:?}");
    assert_eq!(lab.seen("r").unwrap(), r#"{"a":2,"b":9}"#, "the patch over what the server has");
    lab.build();
    let again = &lab.mutations()[0];
    assert_eq!((again.base, &again.set), (Some(Version(6)), &fields(r#"{"a":2}"#)));
    // Once: the second time a person looks.
    let events = lab.settle(vec![stale(2, 7, r#"{"a":1,"b":10}"#)]);
    assert!(matches!(&events[..], [Event::Parked { .. }]), "{events:?}");
    assert_eq!(lab.state.parked.values().next().unwrap().reason.code, "stale");
}

#[test]
fn a_stale_change_parks_at_once_when_its_field_changed_or_nobody_knows() {
    let parks = |mut lab: Lab, record: &str| {
        let events = lab.settle(vec![stale(1, 6, record)]);
        assert!(matches!(&events[..], [Event::Parked { .. }]), "{events:?}");
    };
    parks(sent(r#"{"a":2}"#).0, r#"{"a":9,"b":1}"#);
    parks(sent(r#"{"n":2}"#).0, r#"{"a":1,"b":1,"n":5}"#);
    // Pulled between the edit and the batch: what the writer saw is not known any more.
    let mut lab = Lab::new();
    lab.pulled("r", 4, r#"{"a":1}"#);
    lab.write(Op::Update, "r", r#"{"a":2}"#);
    lab.pulled("r", 6, r#"{"a":9}"#);
    lab.build();
    assert_eq!(lab.mutations()[0].base, Some(Version(4)));
    parks(lab, r#"{"a":9}"#);
    let mut lab = Lab::new();
    lab.pulled("r", 4, r#"{"a":1}"#);
    lab.write(Op::Delete, "r", "{}");
    lab.build();
    parks(lab, r#"{"a":9}"#);
}

#[test]
fn c2_a_kept_value_can_still_be_taken_and_is_then_an_edit_like_any_other() {
    let (mut lab, id) = sent(r#"{"a":2}"#);
    lab.settle(vec![superseded(1, 6, r#"{"a":9,"b":1}"#)]);
    assert_eq!(lab.conflicts.len(), 1);
    resolve(&mut lab, id, Choice::Local).unwrap();
    assert!(lab.conflicts.is_empty());
    lab.build();
    let next = &lab.mutations()[0];
    assert_eq!((next.op, next.base, &next.set), (Op::Update, Some(Version(6)), &fields(r#"{"a":2}"#)));
    lab.settle(vec![applied(2, 7)]);
    assert_eq!(lab.seen("r").unwrap(), r#"{"a":2,"b":1}"#);

    let (mut lab, id) = sent(r#"{"a":2}"#);
    lab.settle(vec![superseded(1, 6, r#"{"a":9,"b":1}"#)]);
    resolve(&mut lab, id, Choice::Server).unwrap();
    assert!(lab.conflicts.is_empty() && lab.build().is_empty());
    assert_eq!(lab.seen("r").unwrap(), r#"{"a":9,"b":1}"#);
}

#[test]
fn c3_an_outcome_without_a_record_shows_nothing_of_what_it_refused() {
    let (mut lab, _) = sent(r#"{"a":2}"#);
    let mut bare = to("review", 1, 6, "{}");
    bare.record = None;
    bare.position = Some(Position(6));
    lab.settle(vec![bare]);
    assert_eq!(lab.seen("r").unwrap(), r#"{"a":1,"b":1}"#);
}
