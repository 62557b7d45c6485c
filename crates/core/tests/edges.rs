//! Verdicts and joins at their edges: what stands is told apart from what only looks the same.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;

use lab::{Lab, NOW, applied, fields, json, key, rejected, superseded};
use landfall_core::authority::{Situation, Stored, Verdict, decide};
use landfall_core::fixup::plan_retry;
use landfall_core::overruled::plan_overruled;
use landfall_core::policy::{Policy, Rule, Way};
use landfall_core::settle::local_values;
use landfall_protocol::{
    ClientId, Fields, Map, Mutation, Object, Op, Outcome, Overruled, Position, RejectCode, ResultStatus, Seq, Stamp,
    Version,
};
use std::collections::BTreeSet;

fn of(json: &str) -> Fields {
    serde_json::from_str(json).unwrap()
}

/// A record at version 4, last written by seq 2 of client `c`.
fn record(json: &str, deleted: bool) -> Stored {
    Stored {
        version: Version(4),
        fields: of(json),
        deleted,
        stamp: Stamp::new(1, 0, "c"),
        client: ClientId::from("c"),
        seq: Seq(2),
        role: String::new(),
        marks: None,
    }
}

struct Ask<'a> {
    policy: Rule,
    client: &'a str,
    op: Op,
    set: &'a str,
    unset: &'a [&'a str],
    base: Option<u64>,
    after: Option<u64>,
    outcome: Option<Outcome>,
}

const ASK: Ask<'static> = Ask {
    policy: Rule::ServerWins,
    client: "c",
    op: Op::Update,
    set: "{}",
    unset: &[],
    base: None,
    after: None,
    outcome: None,
};

fn ask(stored: Option<&Stored>, ask: Ask<'_>) -> Verdict {
    let mutation = Mutation {
        seq: Seq(9),
        scope: "s:1".into(),
        collection: "notes".into(),
        id: "r".into(),
        op: ask.op,
        set: of(ask.set),
        unset: ask.unset.iter().map(|name| (*name).to_owned()).collect(),
        base: ask.base.map(Version),
        after: ask.after.map(Seq),
        prev: Fields::new(),
        stamp: Stamp::new(5, 0, ask.client),
        group: None,
        origin: None,
    };
    let policy = Policy { way: Way::Whole(ask.policy), ..Policy::default() };
    let situation = Situation {
        policy: &policy,
        stored,
        version_floor: Version::ZERO,
        client: &ClientId::from(ask.client),
        writer: ask.client,
        roles: &BTreeSet::new(),
        after: ask.outcome.as_ref(),
        after_base: Version::ZERO,
        position: Position(1),
        stamp: &mutation.stamp,
    };
    decide(&situation, &mutation)
}

fn word(verdict: &Verdict) -> (ResultStatus, bool) {
    (verdict.outcome.status, verdict.effect.is_some())
}

#[test]
fn l5_what_stands_on_an_own_write_is_current_exactly_while_that_write_is_the_last_or_its_version_stands() {
    use ResultStatus::{Applied, Superseded};
    let live = record(r#"{"a":1}"#, false);
    let stands = |client: &'static str, after: u64, outcome: Outcome| {
        word(&ask(Some(&live), Ask { client, set: r#"{"a":2}"#, after: Some(after), outcome: Some(outcome), ..ASK }))
    };
    assert_eq!(stands("c", 2, applied(2, 4)), (Applied, true));
    assert_eq!(
        stands("c", 2, superseded(2, 3, "{}")),
        (Applied, true),
        "it was the last to write, whatever is said of it"
    );
    assert_eq!(stands("c", 1, applied(1, 4)), (Applied, true), "its version stands");
    assert_eq!(stands("c", 1, applied(1, 3)), (Superseded, false));
    assert_eq!(stands("d", 2, applied(2, 3)), (Superseded, false), "another client's seq is another's");
    assert_eq!(stands("c", 1, superseded(1, 4, "{}")), (Superseded, false), "what lost did not know of what won");
    let blocked =
        |outcome: Option<Outcome>| ask(Some(&live), Ask { set: r#"{"a":2}"#, after: Some(2), outcome, ..ASK });
    assert_eq!(blocked(None).outcome.code.as_deref(), Some(RejectCode::BLOCKED));
    assert_eq!(blocked(Some(rejected(2, RejectCode::VALIDATION))).outcome.by, Some(Seq(2)));
}

#[test]
fn r5_a_create_on_a_known_tombstone_is_written_also_with_the_values_of_before_and_an_update_is_not() {
    let gone = record(r#"{"a":1}"#, true);
    let create = ask(Some(&gone), Ask { op: Op::Create, set: r#"{"a":1}"#, base: Some(4), ..ASK });
    assert_eq!(word(&create), (ResultStatus::Applied, true));
    assert_eq!(create.effect.unwrap().stored.version, Version(5));
    let update = ask(Some(&gone), Ask { set: r#"{"a":2}"#, base: Some(4), ..ASK });
    assert_eq!((word(&update), update.outcome.deleted), ((ResultStatus::Superseded, false), true));
    assert_eq!(update.outcome.record, None);
    let delete = ask(Some(&gone), Ask { op: Op::Delete, base: Some(1), ..ASK });
    assert_eq!(
        (word(&delete), delete.outcome.deleted, delete.outcome.record),
        ((ResultStatus::Applied, false), true, None)
    );
}

#[test]
fn c1_what_asks_for_what_is_there_changes_nothing_and_what_only_resembles_it_does() {
    let live = record(r#"{"a":1,"b":2}"#, false);
    let late = |op: Op, set: &'static str, unset: &'static [&'static str]| {
        word(&ask(Some(&live), Ask { op, set, unset, base: Some(1), ..ASK })).0
    };
    use ResultStatus::{Applied, Superseded};
    assert_eq!(late(Op::Update, r#"{"a":1}"#, &[]), Applied);
    assert_eq!(late(Op::Update, r#"{"a":1}"#, &["c"]), Applied);
    assert_eq!(late(Op::Update, r#"{"a":1}"#, &["b"]), Superseded);
    assert_eq!(late(Op::Update, r#"{"a":2}"#, &[]), Superseded);
    assert_eq!(late(Op::Create, r#"{"a":1,"b":2}"#, &[]), Applied);
    assert_eq!(late(Op::Create, r#"{"a":1}"#, &[]), Superseded);
    let seen = ask(Some(&live), Ask { set: r#"{"a":1}"#, base: Some(1), ..ASK });
    assert_eq!(seen.outcome.record, Some(Object::of(&live.fields)), "its client holds something older");
}

#[test]
fn c1_a_delete_that_wins_shows_no_record_and_an_update_that_wins_shows_it() {
    let live = record(r#"{"a":1}"#, false);
    let delete = ask(Some(&live), Ask { policy: Rule::ClientWins, op: Op::Delete, base: Some(1), ..ASK });
    assert_eq!((word(&delete), delete.outcome.record), ((ResultStatus::Applied, true), None));
    let update = ask(Some(&live), Ask { policy: Rule::ClientWins, set: r#"{"b":2}"#, base: Some(1), ..ASK });
    assert_eq!(update.outcome.record, Some(fields(r#"{"a":1,"b":2}"#)));
    let plain = ask(Some(&live), Ask { set: r#"{"b":2}"#, base: Some(4), ..ASK });
    assert_eq!(plain.outcome.record, None, "its author knows what it makes of it");
}

/// Op, fields, and what is taken out.
type Write = (Op, &'static str, &'static [&'static str]);

fn joined(writes: &[Write], pulled: bool) -> Vec<(Op, String, Vec<String>)> {
    let mut lab = Lab::new();
    if pulled {
        lab.pulled("r", 4, r#"{"a":1,"b":1}"#);
    }
    for (op, set, unset) in writes {
        let mut entry = lab.entry(*op, "r", set);
        entry.unset = unset.iter().map(|name| (*name).to_owned()).collect();
        lab.log(vec![entry]);
    }
    lab.build();
    let word = |it: Mutation<Object>| (it.op, serde_json::to_string(&it.set).unwrap(), it.unset);
    lab.mutations().into_iter().map(word).collect()
}

#[test]
fn l5_joined_edits_take_out_what_the_last_one_took_out_and_set_what_the_last_one_set() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let update: fn(&'static str, &'static [&'static str]) -> Write = |set, unset| (Op::Update, set, unset);
    let out = joined(&[update("{}", &["a"]), update("{}", &["b", "a"])], true);
    assert_eq!(out, [(Op::Update, "{}".to_owned(), names(&["a", "b"]))]);
    let back = joined(&[update("{}", &["a", "b"]), update(r#"{"a":2}"#, &[])], true);
    assert_eq!(back, [(Op::Update, r#"{"a":2}"#.to_owned(), names(&["b"]))]);
    let gone = joined(&[update(r#"{"a":2,"b":2}"#, &[]), update("{}", &["a"])], true);
    assert_eq!(gone, [(Op::Update, r#"{"b":2}"#.to_owned(), names(&["a"]))]);
    // In a record that is made whole there is nothing to take out.
    let whole = joined(&[(Op::Create, r#"{"a":1,"b":1}"#, &[]), update("{}", &["a"])], false);
    assert_eq!(whole, [(Op::Create, r#"{"b":1}"#.to_owned(), Vec::new())]);
    let anew = joined(&[update("{}", &["a"]), (Op::Delete, "{}", &[])], true);
    assert_eq!(anew, [(Op::Delete, "{}".to_owned(), Vec::new())]);
}

#[test]
fn l5_what_was_made_and_deleted_unheard_is_never_sent_and_what_others_may_have_is_deleted() {
    let both: [Write; 2] = [(Op::Create, r#"{"a":1}"#, &[]), (Op::Delete, "{}", &[])];
    assert!(joined(&both, false).is_empty());
    assert_eq!(joined(&both, true).iter().map(|it| it.0).collect::<Vec<_>>(), [Op::Delete]);
    // Of a record that was there once, by an outcome, a delete is sent too.
    let mut lab = Lab::new();
    lab.write(Op::Create, "r", "{}");
    lab.build();
    lab.settle(vec![rejected(1, RejectCode::VALIDATION)]);
    lab.write(Op::Create, "r", r#"{"a":1}"#);
    lab.write(Op::Delete, "r", "{}");
    lab.build();
    assert_eq!(lab.mutations().iter().map(|it| it.op).collect::<Vec<_>>(), [Op::Delete]);
}

#[test]
fn c1_a_stale_change_goes_again_by_itself_only_where_nobody_touched_its_fields() {
    let stale = |set: &str, unset: &[&str], now: &str| {
        let mut lab = Lab::new();
        lab.pulled("r", 4, r#"{"a":1,"b":1}"#);
        let mut entry = lab.entry(Op::Update, "r", set);
        entry.unset = unset.iter().map(|name| (*name).to_owned()).collect();
        lab.log(vec![entry]);
        lab.build();
        let mut outcome = rejected(1, RejectCode::STALE);
        (outcome.version, outcome.record) = (Some(Version(5)), Some(fields(now)));
        lab.settle(vec![outcome]);
        (lab.state.parked.len(), lab.state.entries.len())
    };
    let (goes_again, parks) = ((0, 1), (1, 0));
    assert_eq!(stale(r#"{"a":2}"#, &[], r#"{"a":1,"b":9}"#), goes_again);
    assert_eq!(stale(r#"{"a":2}"#, &[], r#"{"a":9,"b":1}"#), parks);
    assert_eq!(stale(r#"{"a":2}"#, &["b"], r#"{"a":1,"b":9}"#), parks);
    assert_eq!(stale(r#"{"a":2}"#, &["b"], r#"{"a":1,"b":1,"c":3}"#), goes_again);
    assert_eq!(stale(r#"{"a":2}"#, &[], r#"{"b":1}"#), parks, "somebody took it out");
    assert_eq!(stale(r#"{"z":2}"#, &[], r#"{"a":1,"b":1}"#), parks, "of a new field nothing is known");
}

#[test]
fn s5_what_stands_on_a_refused_create_parks_with_its_whole_groups() {
    let mut lab = Lab::new();
    let create = lab.write(Op::Create, "r", r#"{"a":1}"#);
    lab.build();
    lab.group("g", &[(Op::Update, "r", r#"{"b":2}"#), (Op::Create, "s", "{}")]);
    lab.write(Op::Update, "s", r#"{"c":3}"#);
    lab.write(Op::Create, "t", "{}");
    lab.settle(vec![rejected(1, RejectCode::VALIDATION)]);
    let rows: Vec<(Vec<&str>, &str)> = lab
        .state
        .parked
        .values()
        .map(|row| (row.changes.iter().map(|it| it.entry.id.as_str()).collect(), row.reason.code.as_str()))
        .collect();
    assert_eq!(
        rows,
        [(vec!["r"], RejectCode::VALIDATION), (vec!["r", "s"], RejectCode::BLOCKED), (vec!["s"], RejectCode::BLOCKED)]
    );
    assert_eq!(lab.state.entries.values().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["t"]);
    let stamp = || Stamp::new(2_000_000, 0, "c1");
    let txn = plan_retry(&lab.state, &lab.base, create, None, &mut { stamp }, NOW).unwrap();
    lab.apply(txn);
    assert_eq!(lab.seen("r").unwrap(), r#"{"a":1,"b":2}"#, "and goes again behind it");
}

#[test]
fn a_person_is_shown_the_values_that_a_change_makes_of_what_was_there() {
    let mut lab = Lab::new();
    let mut update = lab.entry(Op::Update, "r", r#"{"a":2}"#);
    update.unset = vec!["b".to_owned()];
    let before = fields(r#"{"a":1,"b":1,"c":1}"#);
    assert_eq!(local_values(Some(&before), &update), fields(r#"{"a":2,"c":1}"#));
    assert_eq!(local_values(None, &update), fields(r#"{"a":2}"#));
    let create = lab.entry(Op::Create, "r", r#"{"z":1}"#);
    assert_eq!(local_values(Some(&before), &create), fields(r#"{"z":1}"#));
    assert!(lab.state.lanes.get(&key("r")).is_none());
}

#[test]
fn c2_what_somebody_undid_is_kept_once_under_an_id_that_is_nobody_elses() {
    let loss = |id: &str, position: u64, record: Option<&str>| Overruled {
        scope: "user:u".into(),
        collection: "notes".into(),
        id: id.into(),
        position: Position(position),
        at: NOW,
        op: Op::Update,
        code: "overruled".to_owned(),
        fields: json(r#"{"a":1}"#),
        record: record.map(json),
    };
    let losses = [loss("r", 5, Some(r#"{"a":9}"#)), loss("r", 6, None), loss("s", 5, Some("{}"))];
    let mut lab = Lab::new();
    let (txn, events) = plan_overruled(&lab.state, &lab.base, &Map::new(), &losses, NOW).unwrap();
    assert_eq!(events.len(), 3);
    lab.apply(txn);
    let ids: BTreeSet<u64> = lab.conflicts.values().map(|row| row.entry.get()).collect();
    assert_eq!(ids.len(), 3, "each can be named by itself");
    // Above all that a log can give, and small enough to be a number in JavaScript.
    assert!(ids.iter().all(|id| (1 << 52..1 << 53).contains(id)), "{ids:?}");
    assert_eq!(lab.conflicts.values().filter(|row| row.outcome.deleted).count(), 1);
    let kept: Map<_, _> = lab.conflicts.clone().into_iter().collect();
    assert!(plan_overruled(&lab.state, &lab.base, &kept, &losses, NOW).is_none(), "the page came again");
}
