//! Policies: the table of docs/protocol.md, made by the code that judges, and what the table cannot say.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

use landfall_core::authority::{Situation, Stored, Verdict, decide};
use landfall_core::policy::{Choice, Policy, Refinement, Rule, Way};
use landfall_protocol::limits::HLC_AHEAD_MS_MAX;
use landfall_protocol::{
    ClientId, Fields, Json, Mutation, Op, Outcome, Position, RecordId, ResultStatus, Seq, Stamp, Version,
};
use std::collections::BTreeSet;
use std::fmt::Write;

fn fields(json: &str) -> Fields {
    serde_json::from_str(json).unwrap()
}

/// A record and those who write it, each with a client of their own.
struct Desk {
    policy: Policy,
    stored: Option<Stored>,
    floor: Version,
    seq: u64,
}

/// A mutation to come: who, what, on which version, when.
struct Try<'a> {
    by: &'a str,
    role: &'a str,
    op: Op,
    set: &'a str,
    unset: &'a [&'a str],
    base: u64,
    at_ms: u64,
    now_ms: u64,
    group: bool,
}

const TRY: Try<'static> = Try {
    by: "ada",
    role: "staff",
    op: Op::Update,
    set: "{}",
    unset: &[],
    base: 0,
    at_ms: 1_000_000,
    now_ms: 1_000_000,
    group: false,
};

impl Desk {
    fn new(policy: Policy) -> Self {
        Self { policy, stored: None, floor: Version::ZERO, seq: 0 }
    }

    fn push(&mut self, what: &Try<'_>) -> Verdict {
        self.seq += 1;
        let mutation = Mutation {
            seq: Seq(self.seq),
            scope: "user:u".into(),
            collection: "notes".into(),
            id: RecordId::from("r"),
            op: what.op,
            set: fields(what.set),
            unset: what.unset.iter().map(|name| (*name).to_owned()).collect(),
            base: Some(Version(what.base)),
            after: None,
            prev: Fields::new(),
            stamp: Stamp::new(what.at_ms, 0, what.by),
            group: what.group.then(|| "g".into()),
            origin: None,
        };
        let verdict = decide(
            &Situation {
                policy: &self.policy,
                stored: self.stored.as_ref(),
                version_floor: self.floor,
                client: &ClientId::from(what.by),
                writer: what.by,
                roles: &BTreeSet::from([what.role.to_owned()]),
                after: None,
                after_base: Version::ZERO,
                position: Position(1),
                stamp: &mutation.stamp.clamped(what.now_ms, HLC_AHEAD_MS_MAX),
            },
            &mutation,
        );
        if let Some(effect) = &verdict.effect {
            self.stored = Some(effect.stored.clone());
        }
        verdict
    }

    /// A push that must take effect; the version after it.
    fn put(&mut self, what: &Try<'_>) -> u64 {
        let verdict = self.push(what);
        assert!(verdict.effect.is_some(), "{:?}", verdict.outcome);
        verdict.outcome.version.unwrap().get()
    }

    fn create(policy: Policy, set: &str) -> Self {
        let mut desk = Self::new(policy);
        desk.put(&Try { by: "grace", op: Op::Create, set, ..TRY });
        desk
    }

    fn fields(&self) -> Fields {
        self.stored.as_ref().unwrap().fields.clone()
    }
}

fn word(outcome: &Outcome) -> String {
    let status = format!("{:?}", outcome.status).to_lowercase();
    match (outcome.status, outcome.code.as_deref(), outcome.to.as_deref(), outcome.deleted) {
        (ResultStatus::Rejected, Some(code), _, _) => format!("rejected({code})"),
        (ResultStatus::Conflict, _, Some(to), _) => format!("conflict({to})"),
        (ResultStatus::Superseded, _, _, true) => "superseded(deleted)".to_owned(),
        _ => status,
    }
}

/// The rows of the table: what arrives, and what it meets. Grace writes at 1,000 s; the newer and the older of Ada's
/// clocks are a second beside that.
fn case(policy: &Policy, row: &str, at_ms: u64) -> String {
    let mut desk = Desk::new(policy.clone());
    let grace = |desk: &mut Desk, op: Op, set: &str, base: u64| desk.put(&Try { by: "grace", op, set, base, ..TRY });
    grace(&mut desk, Op::Create, r#"{"a":1,"b":1}"#, 0);
    let (op, set, base) = match row {
        "create on create" => (Op::Create, r#"{"a":2,"c":2}"#, 0),
        "update on updated" => {
            grace(&mut desk, Op::Update, r#"{"a":3}"#, 1);
            (Op::Update, r#"{"a":2,"b":2}"#, 1)
        }
        "update on deleted" => {
            grace(&mut desk, Op::Delete, "{}", 1);
            (Op::Update, r#"{"a":2}"#, 1)
        }
        "delete on updated" => {
            grace(&mut desk, Op::Update, r#"{"a":3}"#, 1);
            (Op::Delete, "{}", 1)
        }
        "delete on deleted" => {
            grace(&mut desk, Op::Delete, "{}", 1);
            (Op::Delete, "{}", 1)
        }
        _ => unreachable!("a row without a case"),
    };
    let before = desk.stored.clone();
    let verdict = desk.push(&Try { op, set, base, at_ms, ..TRY });
    assert_eq!(verdict.effect.is_some(), verdict.outcome.took_effect() && desk.stored != before, "{row}");
    word(&verdict.outcome)
}

fn table() -> String {
    let newer = |rule: Rule| (Policy::whole(rule), 1_001_000);
    let columns = [
        ("server-wins", newer(Rule::ServerWins)),
        ("client-wins", newer(Rule::ClientWins)),
        ("last-write-wins, newer", newer(Rule::LastStamp)),
        ("last-write-wins, older", (Policy::whole(Rule::LastStamp), 999_000)),
        ("merge", (Policy::merge(Rule::ServerWins), 1_001_000)),
        ("reapply", newer(Rule::Reapply)),
        ("manual, author", newer(Rule::Author)),
        ("manual, role", newer(Rule::Review("manager".to_owned()))),
    ];
    let rows = ["create on create", "update on updated", "update on deleted", "delete on updated", "delete on deleted"];
    let mut text = String::from("| |");
    columns.iter().for_each(|(name, _)| write!(text, " {name} |").unwrap());
    text.push_str("\n| --- |");
    columns.iter().for_each(|_| text.push_str(" --- |"));
    for row in rows {
        write!(text, "\n| {row} |").unwrap();
        for (_, (policy, at_ms)) in &columns {
            write!(text, " {} |", case(policy, row, *at_ms)).unwrap();
        }
    }
    text
}

#[test]
fn c1_the_table_of_the_protocol_is_what_the_code_does() {
    let table = table();
    println!("{table}");
    let document = include_str!("../../../docs/protocol.md");
    assert!(document.contains(&table), "docs/protocol.md must hold this table:\n{table}");
}

#[test]
fn c1_a_merge_takes_what_nobody_else_changed_and_settles_each_clash_by_its_rule() {
    let mut desk = Desk::create(Policy::merge(Rule::ServerWins), r#"{"a":1,"b":1,"c":1}"#);
    desk.put(&Try { by: "grace", set: r#"{"a":2}"#, unset: &["c"], base: 1, ..TRY });
    let verdict = desk.push(&Try { set: r#"{"a":9,"b":9}"#, base: 1, ..TRY });
    assert_eq!(word(&verdict.outcome), "merged");
    assert_eq!(desk.fields(), fields(r#"{"a":2,"b":9}"#));
    assert_eq!(verdict.outcome.record.unwrap().fields(), fields(r#"{"a":2,"b":9}"#));
    // A field that was taken away is a change, too.
    let late = desk.push(&Try { set: r#"{"c":9}"#, base: 1, ..TRY });
    assert_eq!((word(&late.outcome), desk.fields().contains_key("c")), ("superseded".to_owned(), false));

    let mut desk = Desk::create(Policy::merge(Rule::ClientWins), r#"{"a":1}"#);
    desk.put(&Try { by: "grace", set: r#"{"a":2}"#, base: 1, ..TRY });
    let verdict = desk.push(&Try { set: r#"{"a":9}"#, base: 1, ..TRY });
    assert_eq!((word(&verdict.outcome), desk.fields()), ("merged".to_owned(), fields(r#"{"a":9}"#)));
    assert_eq!(verdict.overwritten, fields(r#"{"a":2}"#), "C2: what Grace wrote is handed out to be kept");
}

#[test]
fn c1_a_merge_does_not_depend_on_the_order_in_which_disjoint_changes_arrive() {
    let changes = [r#"{"a":2}"#, r#"{"b":2}"#, r#"{"c":2}"#];
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in orders {
        let mut desk = Desk::create(Policy::merge(Rule::Author), r#"{"a":1,"b":1,"c":1}"#);
        for (at, change) in order.iter().enumerate() {
            let by = ["x", "y", "z"][at];
            desk.put(&Try { by, set: changes[*change], base: 1, ..TRY });
        }
        assert_eq!(desk.fields(), fields(r#"{"a":2,"b":2,"c":2}"#));
    }
}

#[test]
fn l5_in_a_merge_an_own_later_edit_never_clashes_with_the_own_earlier_one() {
    let mut desk = Desk::create(Policy::merge(Rule::ServerWins), r#"{"a":1}"#);
    desk.put(&Try { set: r#"{"a":2}"#, base: 1, ..TRY });
    let verdict = desk.push(&Try { set: r#"{"a":3}"#, base: 1, at_ms: 5, ..TRY });
    assert_eq!((word(&verdict.outcome), desk.fields()), ("merged".to_owned(), fields(r#"{"a":3}"#)));
}

#[test]
fn c1_a_collection_that_begins_to_merge_takes_each_field_for_as_young_as_its_record() {
    let mut desk = Desk::create(Policy::default(), r#"{"a":1,"b":1}"#);
    desk.put(&Try { by: "grace", set: r#"{"a":2}"#, base: 1, ..TRY });
    assert!(desk.stored.as_ref().unwrap().marks.is_none(), "no marks where nobody asks for them");
    desk.policy = Policy::merge(Rule::ServerWins);
    assert_eq!(word(&desk.push(&Try { set: r#"{"b":9}"#, base: 1, ..TRY }).outcome), "superseded");
    desk.put(&Try { by: "grace", set: r#"{"a":3}"#, base: 2, ..TRY });
    // From here on there are marks: `b` did not change since version 2.
    assert_eq!(word(&desk.push(&Try { set: r#"{"b":9}"#, base: 2, ..TRY }).outcome), "merged");
    assert_eq!(word(&desk.push(&Try { set: r#"{"a":9}"#, base: 2, ..TRY }).outcome), "superseded");
}

#[test]
fn c1_a_record_made_anew_clashes_with_edits_of_its_former_life() {
    let mut desk = Desk::create(Policy::merge(Rule::ServerWins), r#"{"a":1,"b":1}"#);
    desk.put(&Try { by: "grace", op: Op::Delete, base: 1, ..TRY });
    desk.put(&Try { by: "grace", op: Op::Create, set: r#"{"a":5}"#, base: 2, ..TRY });
    let verdict = desk.push(&Try { set: r#"{"b":9}"#, base: 1, ..TRY });
    assert_eq!((word(&verdict.outcome), desk.fields()), ("superseded".to_owned(), fields(r#"{"a":5}"#)));
}

#[test]
fn c1_two_who_knew_of_the_delete_make_the_record_anew_and_merge() {
    // Found by the simulator (seed 478 of its first run with policies).
    let mut desk = Desk::create(Policy::merge(Rule::ServerWins), r#"{"c":1,"d":1}"#);
    desk.put(&Try { by: "grace", op: Op::Delete, base: 1, ..TRY });
    desk.put(&Try { by: "grace", op: Op::Create, set: r#"{"a":1}"#, base: 2, ..TRY });
    desk.put(&Try { op: Op::Create, set: r#"{"b":2,"d":2}"#, base: 2, ..TRY });
    assert_eq!(desk.fields(), fields(r#"{"a":1,"b":2,"d":2}"#));
}

#[test]
fn c1_a_field_may_have_a_rule_of_its_own() {
    let rules = [("grade", Rule::ClientWins), ("note", Rule::Author)];
    let by_name = rules.into_iter().map(|(name, rule)| (name.to_owned(), rule)).collect();
    let policy = Policy { refinement: Refinement::Fields(by_name), ..Policy::whole(Rule::ServerWins) };
    let mut desk = Desk::create(policy, r#"{"grade":1,"note":"x","name":"n"}"#);
    desk.put(&Try { by: "grace", set: r#"{"grade":2,"name":"m"}"#, base: 1, ..TRY });
    let verdict = desk.push(&Try { set: r#"{"grade":9,"name":"z","note":"y"}"#, base: 1, ..TRY });
    assert_eq!(word(&verdict.outcome), "merged");
    assert_eq!(desk.fields(), fields(r#"{"grade":9,"name":"m","note":"y"}"#));
    // One field that needs a person is enough, and then nothing of the mutation takes effect.
    let verdict = desk.push(&Try { by: "eve", set: r#"{"grade":7,"note":"w"}"#, base: 1, ..TRY });
    assert_eq!((word(&verdict.outcome), desk.fields()["grade"].text()), ("conflict(author)".to_owned(), "9"));
}

#[test]
fn c4_a_role_wins_against_writers_without_it_whatever_the_clocks_say() {
    let refinement = Refinement::Role("manager".to_owned());
    let policy = Policy { refinement, ..Policy::whole(Rule::LastStamp) };
    let push = |first: &str, role: &str, at_ms: u64| {
        let mut desk = Desk::create(policy.clone(), r#"{"a":1}"#);
        desk.put(&Try { by: "grace", role: first, set: r#"{"a":2}"#, base: 1, ..TRY });
        word(&desk.push(&Try { role, set: r#"{"a":9}"#, base: 1, at_ms, ..TRY }).outcome)
    };
    assert_eq!(push("staff", "manager", 1), "applied");
    assert_eq!(push("manager", "staff", 1_001_000), "superseded");
    assert_eq!((push("manager", "manager", 1), push("manager", "manager", 1_001_000)).0, "superseded");
    assert_eq!(push("staff", "staff", 1_001_000), "applied");
}

#[test]
fn c4_a_record_names_its_policy_only_as_the_collection_allows() {
    let allowed = [("client_wins", Way::Whole(Rule::ClientWins)), ("manual", Way::Whole(Rule::Author))];
    let choice = Choice {
        field: "strategy".to_owned(),
        roles: BTreeSet::from(["staff".to_owned()]),
        allowed: allowed.into_iter().map(|(name, way)| (name.to_owned(), way)).collect(),
    };
    let policy = Policy { refinement: Refinement::Record(choice), ..Policy::default() };
    let create = |set: &str, role: &str| {
        let mut desk = Desk::new(policy.clone());
        let verdict = desk.push(&Try { by: "grace", role, op: Op::Create, set, ..TRY });
        (word(&verdict.outcome), desk)
    };
    assert_eq!(create(r#"{"a":1,"strategy":"merge"}"#, "staff").0, "rejected(validation)");
    assert_eq!(create(r#"{"a":1,"strategy":7}"#, "staff").0, "rejected(validation)");
    assert_eq!(create(r#"{"a":1,"strategy":"client_wins"}"#, "guest").0, "rejected(validation)");
    assert_eq!(create(r#"{"a":1,"strategy":null}"#, "guest").0, "applied");
    for (strategy, expected) in [("client_wins", "applied"), ("manual", "conflict(author)")] {
        let (_, mut desk) = create(&format!(r#"{{"a":1,"strategy":"{strategy}"}}"#), "staff");
        desk.put(&Try { by: "grace", role: "guest", set: r#"{"a":2}"#, base: 1, ..TRY });
        assert_eq!(word(&desk.push(&Try { role: "guest", set: r#"{"a":9}"#, base: 1, ..TRY }).outcome), expected);
        let away = desk.push(&Try { role: "guest", unset: &["strategy"], base: 2, ..TRY });
        assert_eq!(word(&away.outcome), "rejected(validation)", "who may not choose may not unchoose");
    }
}

#[test]
fn c1_times_within_the_tolerance_are_equal_and_a_current_base_still_changes_them() {
    let equal_within_ms = [("clock_in".to_owned(), 60_000)].into_iter().collect();
    let policy = Policy { equal_within_ms, ..Policy::whole(Rule::Author) };
    let at = |time: &str| format!(r#"{{"clock_in":"{time}"}}"#);
    let mut desk = Desk::create(policy, &at("2026-01-31T08:00:00Z"));
    let near = desk.push(&Try { op: Op::Create, set: &at("2026-01-31T10:01:00+02:00"), base: 0, ..TRY });
    assert_eq!((word(&near.outcome), near.effect), ("applied".to_owned(), None));
    let far = desk.push(&Try { op: Op::Create, set: &at("2026-01-31T08:01:00.001Z"), base: 0, ..TRY });
    assert_eq!(word(&far.outcome), "conflict(author)");
    desk.put(&Try { set: &at("2026-01-31T08:00:30Z"), base: 1, ..TRY });
    assert_eq!(desk.fields(), fields(&at("2026-01-31T08:00:30Z")));
}

#[test]
fn i4_a_clock_that_is_years_ahead_wins_for_a_minute_and_not_for_ever() {
    let years = 10 * 365 * 24 * 3_600_000;
    let mut desk = Desk::create(Policy::whole(Rule::LastStamp), r#"{"a":1}"#);
    desk.put(&Try { by: "wild", set: r#"{"a":"wild"}"#, base: 1, at_ms: years, ..TRY });
    let soon = TRY.now_ms + HLC_AHEAD_MS_MAX - 1;
    let verdict = desk.push(&Try { set: r#"{"a":"soon"}"#, base: 1, at_ms: soon, now_ms: soon, ..TRY });
    assert_eq!(word(&verdict.outcome), "superseded");
    let later = TRY.now_ms + HLC_AHEAD_MS_MAX + 1;
    let verdict = desk.push(&Try { set: r#"{"a":"later"}"#, base: 1, at_ms: later, now_ms: later, ..TRY });
    assert_eq!((word(&verdict.outcome), desk.fields()["a"].text()), ("applied".to_owned(), "\"later\""));
}

#[test]
fn s4_between_mutations_of_one_client_the_order_is_theirs_and_not_their_clocks() {
    let mut desk = Desk::create(Policy::whole(Rule::LastStamp), r#"{"a":1}"#);
    desk.put(&Try { set: r#"{"a":2}"#, base: 1, at_ms: 9_000_000, ..TRY });
    let verdict = desk.push(&Try { set: r#"{"a":3}"#, base: 1, at_ms: 5, ..TRY });
    assert_eq!((word(&verdict.outcome), desk.fields()), ("applied".to_owned(), fields(r#"{"a":3}"#)));
}

#[test]
fn r5_a_record_is_recreated_above_its_tombstone_and_the_floor_and_not_at_all_when_it_was_cleaned_up() {
    let mut desk = Desk::create(Policy::whole(Rule::ClientWins), r#"{"a":1,"b":1}"#);
    desk.put(&Try { by: "grace", op: Op::Delete, base: 1, ..TRY });
    desk.floor = Version(40);
    let verdict = desk.push(&Try { set: r#"{"a":9}"#, base: 1, ..TRY });
    assert_eq!(word(&verdict.outcome), "recreated");
    assert_eq!((verdict.outcome.version, desk.fields()), (Some(Version(41)), fields(r#"{"a":9,"b":1}"#)));
    desk.stored = None;
    assert_eq!(word(&desk.push(&Try { set: r#"{"a":9}"#, base: 1, ..TRY }).outcome), "rejected(gone)");
}

#[test]
fn c2_a_writer_who_is_overruled_has_his_values_handed_out_to_be_kept() {
    let mut desk = Desk::create(Policy::whole(Rule::ClientWins), r#"{"a":1}"#);
    desk.put(&Try { by: "grace", set: r#"{"a":2}"#, base: 1, ..TRY });
    let verdict = desk.push(&Try { set: r#"{"a":9}"#, base: 1, ..TRY });
    assert_eq!(verdict.overwritten, fields(r#"{"a":2}"#));
    let plain = desk.push(&Try { set: r#"{"a":10}"#, base: 3, ..TRY });
    assert!(plain.overwritten.is_empty(), "a writer who saw the value meant to replace it");
}

/// Who is told what they lost: writer, operation, values as JSON.
fn losses(verdict: &Verdict) -> Vec<(String, Op, String)> {
    let json = |fields: &Fields| serde_json::to_string(fields).unwrap();
    let losses = verdict.overruled.iter();
    losses.map(|loss| (loss.writer.clone().unwrap_or_default(), loss.op, json(&loss.fields))).collect()
}

/// What Grace and then Bob wrote, each a field, without Ada having seen it.
fn two_before(rule: Rule) -> Desk {
    let mut desk = Desk::create(Policy::whole(rule), r#"{"a":1,"b":1,"c":1}"#);
    desk.put(&Try { by: "grace", set: r#"{"a":2}"#, base: 1, ..TRY });
    desk.put(&Try { by: "bob", set: r#"{"b":2}"#, unset: &["c"], base: 2, ..TRY });
    desk
}

#[test]
fn c2_each_author_is_told_what_they_lost_and_nobody_else_anything() {
    for rule in [Rule::ClientWins, Rule::LastArrival, Rule::LastStamp] {
        let grace = ("grace".to_owned(), Op::Update, r#"{"a":2}"#.to_owned());
        let bob = ("bob".to_owned(), Op::Update, r#"{"b":2}"#.to_owned());
        let update = Try { set: r#"{"a":9,"b":9}"#, base: 1, at_ms: 1_000_500, ..TRY };
        assert_eq!(losses(&two_before(rule.clone()).push(&update)), [grace.clone(), bob.clone()], "{rule:?}");
        let seen = Try { base: 3, ..update };
        assert_eq!(losses(&two_before(rule.clone()).push(&seen)), [], "who has seen it means to replace it");
        let half = Try { base: 2, ..update };
        assert_eq!(losses(&two_before(rule.clone()).push(&half)), std::slice::from_ref(&bob), "{rule:?}");
        let same = Try { set: r#"{"a":2,"b":9}"#, ..update };
        assert_eq!(
            losses(&two_before(rule.clone()).push(&same)),
            std::slice::from_ref(&bob),
            "the same value is no loss"
        );
        let back = Try { set: r#"{"c":7}"#, ..update };
        let taken_out = ("bob".to_owned(), Op::Update, r#"{"c":null}"#.to_owned());
        assert_eq!(losses(&two_before(rule.clone()).push(&back)), std::slice::from_ref(&taken_out), "{rule:?}");
        let delete = Try { op: Op::Delete, ..update };
        let both = ("bob".to_owned(), Op::Update, r#"{"b":2}"#.to_owned());
        assert_eq!(losses(&two_before(rule.clone()).push(&delete)), [grace, both], "{rule:?}");
        let mut deleted = two_before(rule);
        deleted.put(&Try { by: "grace", op: Op::Delete, base: 3, ..TRY });
        // Of who wrote a record last only the caller knows more.
        let undone = (String::new(), Op::Delete, "{}".to_owned());
        assert_eq!(losses(&deleted.push(&Try { at_ms: 1_000_500, ..update })), [undone]);
    }
    // Field by field only what clashed, and never one's own.
    let mut merging = Desk::create(Policy::merge(Rule::LastArrival), r#"{"a":1,"b":1}"#);
    merging.put(&Try { by: "grace", set: r#"{"a":2}"#, base: 1, ..TRY });
    merging.put(&Try { set: r#"{"b":3}"#, base: 1, ..TRY });
    let verdict = merging.push(&Try { set: r#"{"a":4,"b":4}"#, base: 1, ..TRY });
    assert_eq!(losses(&verdict), [("grace".to_owned(), Op::Update, r#"{"a":2}"#.to_owned())]);
}

#[test]
fn a_person_and_a_rebase_are_told_what_the_record_is() {
    for (rule, expected) in [(Rule::Reapply, "rejected(stale)"), (Rule::Author, "conflict(author)")] {
        let mut desk = Desk::create(Policy::whole(rule), r#"{"a":1}"#);
        desk.put(&Try { by: "grace", set: r#"{"a":2}"#, base: 1, ..TRY });
        let verdict = desk.push(&Try { set: r#"{"a":9}"#, base: 1, ..TRY });
        assert_eq!((word(&verdict.outcome), verdict.outcome.version), (expected.to_owned(), Some(Version(2))));
        assert_eq!(verdict.outcome.record.unwrap().get("a"), Some(Json::number(2).text()));
    }
    let mut desk = Desk::create(Policy::whole(Rule::Review("manager".to_owned())), r#"{"a":1}"#);
    desk.put(&Try { by: "grace", set: r#"{"a":2}"#, base: 1, ..TRY });
    let verdict = desk.push(&Try { set: r#"{"a":9}"#, base: 1, ..TRY });
    assert_eq!((word(&verdict.outcome), verdict.reviewer.as_deref()), ("conflict(review)".to_owned(), Some("manager")));
    // A group is decided as one: its author takes it up again.
    let verdict = desk.push(&Try { set: r#"{"a":9}"#, base: 1, group: true, ..TRY });
    assert_eq!((word(&verdict.outcome), verdict.reviewer), ("conflict(author)".to_owned(), None));
}
