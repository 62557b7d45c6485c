//! Decisions about what waits for a person: what becomes of the row and of the record, who may, and who loses what by it.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

use landfall_core::authority::{Loss, Stored};
use landfall_core::review::{Decision, Reviewer, decide, is_over, losses, record_key, row, row_key};
use landfall_protocol::{
    ClientId, Fields, Json, Mutation, Object, Op, Outcome, RecordId, ResultStatus, Scope, Seq, Stamp, UnixMillis,
    Version,
};
use std::collections::BTreeSet;

fn fields(json: &str) -> Fields {
    serde_json::from_str(json).unwrap()
}

fn stored(version: u64, json: &str) -> Stored {
    Stored {
        version: Version(version),
        fields: fields(json),
        deleted: false,
        stamp: Stamp::new(1, 0, "c"),
        client: ClientId::from("c"),
        seq: Seq(1),
        role: String::new(),
        marks: None,
    }
}

fn deleted(version: u64, json: &str) -> Stored {
    Stored { deleted: true, ..stored(version, json) }
}

fn mutation(op: Op, set: &str, unset: &[&str]) -> Mutation {
    Mutation {
        seq: Seq(7),
        scope: Scope::from("s:1"),
        collection: "notes".into(),
        id: RecordId::from("r"),
        op,
        set: fields(set),
        unset: unset.iter().map(|name| (*name).to_owned()).collect(),
        base: Some(Version(1)),
        after: None,
        prev: fields(r#"{"a":0}"#),
        stamp: Stamp::new(5, 0, "c"),
        group: None,
        origin: None,
    }
}

/// The row of a conflict that ada's mutation made.
fn pending(op: Op, set: &str, unset: &[&str]) -> Stored {
    let mut outcome = Outcome::new(Seq(7), ResultStatus::Conflict);
    outcome.version = Some(Version(3));
    outcome.record = Some(Object::of(&fields(r#"{"a":9}"#)));
    let row = row(&mutation(op, set, unset), &outcome, "manager", "ada", UnixMillis(50));
    Stored { fields: row, ..stored(1, "{}") }
}

fn say(row: Option<&Stored>, record: Option<&Stored>, role: &str, op: Op, set: &str) -> Decision {
    let by = Reviewer { sub: "boss", roles: &BTreeSet::from([role.to_owned()]), at: UnixMillis(99) };
    decide(row, record, by, &Mutation { base: Some(Version(1)), ..mutation(op, set, &[]) })
}

fn decided(row: &Stored, record: Option<&Stored>, set: &str) -> (Fields, Option<Mutation>) {
    match say(Some(row), record, "manager", Op::Update, set) {
        Decision::Decided { row, change } => (row, change.map(|change| *change)),
        Decision::Refused(outcome) => panic!("{outcome:?}"),
    }
}

fn code(decision: Decision) -> String {
    match decision {
        Decision::Refused(outcome) => outcome.code.unwrap(),
        Decision::Decided { row, .. } => panic!("{row:?}"),
    }
}

fn text(row: &Fields, name: &str) -> String {
    row.get(name).map_or_else(String::new, |json| json.text().to_owned())
}

const LOCAL: &str = r#"{"decision":"local"}"#;
const SERVER: &str = r#"{"decision":"server"}"#;

#[test]
fn a_row_says_what_was_wanted_what_stands_and_who_is_to_decide() {
    let row = pending(Op::Update, r#"{"a":1}"#, &["b"]);
    let all: Vec<(&str, &str)> = row.fields.iter().map(|(name, value)| (name.as_str(), value.text())).collect();
    let expected = [
        ("at", "50"),
        ("author", r#""ada""#),
        ("collection", r#""notes""#),
        ("op", r#""update""#),
        ("prev", r#"{"a":0}"#),
        ("record_id", r#""r""#),
        ("role", r#""manager""#),
        ("server", r#"{"a":9}"#),
        ("server_version", "3"),
        ("set", r#"{"a":1}"#),
        ("status", r#""pending""#),
        ("unset", r#"["b"]"#),
    ];
    assert_eq!(all, expected);
    assert_eq!(text(&pending(Op::Create, "{}", &[]).fields, "op"), r#""create""#);
    assert_eq!(text(&pending(Op::Delete, "{}", &[]).fields, "op"), r#""delete""#);
    let key = record_key(&row, &Scope::from("s:1")).unwrap();
    assert_eq!((key.scope.as_str(), key.collection.as_str(), key.id.as_str()), ("s:1", "notes", "r"));
    assert_eq!(record_key(&stored(1, "{}"), &Scope::from("s:1")), None);
}

#[test]
fn s1_a_conflict_has_a_place_of_its_own_which_a_repeat_finds_again() {
    let scope = Scope::from("s:1");
    let key = |writer: &str, seq: u64| {
        row_key(&scope, writer, &Mutation { seq: Seq(seq), ..mutation(Op::Update, "{}", &[]) })
    };
    assert_eq!(key("ada c1", 7), key("ada c1", 7));
    assert_eq!(key("ada c1", 7).collection.as_str(), "_conflicts");
    assert_eq!(key("ada c1", 7).id.as_str().len(), 32);
    let all: BTreeSet<_> = [key("ada c1", 7), key("ada c1", 8), key("ada c2", 7), key("grace c1", 7)].into();
    assert_eq!(all.len(), 4);
}

#[test]
fn a_decision_is_made_by_who_has_the_role_once_and_in_the_words_that_there_are() {
    let row = pending(Op::Update, r#"{"a":1}"#, &[]);
    let record = stored(3, r#"{"a":9}"#);
    assert_eq!(code(say(None, None, "manager", Op::Update, LOCAL)), "gone");
    let gone = Stored { deleted: true, ..row.clone() };
    assert_eq!(code(say(Some(&gone), Some(&record), "manager", Op::Update, LOCAL)), "gone");
    assert_eq!(code(say(Some(&row), Some(&record), "staff", Op::Update, LOCAL)), "forbidden");
    assert_eq!(code(say(Some(&row), Some(&record), "manager", Op::Delete, LOCAL)), "forbidden");
    assert_eq!(code(say(Some(&row), Some(&record), "manager", Op::Update, r#"{"decision":"mine"}"#)), "validation");
    assert_eq!(code(say(Some(&row), Some(&record), "manager", Op::Update, r#"{"decision":"merged"}"#)), "validation");
    let (after, _) = decided(&row, Some(&record), SERVER);
    let again = Stored { fields: after, ..row };
    assert_eq!(code(say(Some(&again), Some(&record), "manager", Op::Update, LOCAL)), "already_decided");
}

#[test]
fn c2_a_decision_says_who_made_it_when_and_what_it_replaces() {
    let row = pending(Op::Update, r#"{"a":1}"#, &[]);
    let record = stored(4, r#"{"a":9,"b":2}"#);
    let (after, change) = decided(&row, Some(&record), SERVER);
    let words = ["status", "decision", "decided_by", "decided_at", "merged", "replaced"].map(|name| text(&after, name));
    assert_eq!(words, [r#""decided""#, r#""server""#, r#""boss""#, "99", "", ""]);
    assert_eq!(change, None);

    let (after, change) = decided(&row, Some(&record), LOCAL);
    assert_eq!(text(&after, "replaced"), r#"{"a":9,"b":2}"#);
    assert_eq!(text(&after, "merged"), "");
    let change = change.unwrap();
    assert_eq!((change.op, change.base, change.id.as_str()), (Op::Update, Some(Version(4)), "r"));
    assert_eq!(change.set, fields(r#"{"a":1}"#));

    let (after, change) = decided(&row, Some(&record), r#"{"decision":"merged","merged":{"a":5}}"#);
    assert_eq!(text(&after, "merged"), r#"{"a":5}"#);
    assert_eq!(change.unwrap().set, fields(r#"{"a":5}"#));
    // What is said beside another word is no part of it.
    let (after, _) = decided(&row, Some(&record), r#"{"decision":"local","merged":{"a":5}}"#);
    assert_eq!(text(&after, "merged"), "");
}

#[test]
fn r5_what_was_decided_for_a_deleted_record_brings_it_back_whole_and_a_delete_of_it_changes_nothing() {
    let update = pending(Op::Update, r#"{"a":1}"#, &["b"]);
    let gone = deleted(4, r#"{"a":9,"b":2,"c":3}"#);
    let (after, change) = decided(&update, Some(&gone), LOCAL);
    let change = change.unwrap();
    assert_eq!((change.op, change.base), (Op::Create, Some(Version(4))));
    assert_eq!((change.set, change.unset), (fields(r#"{"a":1,"c":3}"#), Vec::new()));
    assert_eq!(text(&after, "replaced"), "", "nothing stood");
    let (_, change) = decided(&update, None, LOCAL);
    assert_eq!(
        change.map(|change| (change.op, change.base, change.set)),
        Some((Op::Create, Some(Version(0)), fields(r#"{"a":1}"#)))
    );

    let delete = pending(Op::Delete, "{}", &[]);
    assert_eq!(decided(&delete, Some(&gone), LOCAL).1, None);
    assert_eq!(decided(&delete, None, LOCAL).1, None);
    let (_, change) = decided(&delete, Some(&stored(4, r#"{"a":9}"#)), LOCAL);
    assert_eq!(change.map(|change| (change.op, change.set)), Some((Op::Delete, Fields::new())));
    let (_, change) = decided(&update, Some(&stored(4, r#"{"a":9,"b":2}"#)), LOCAL);
    assert_eq!(change.map(|change| change.unset), Some(vec!["b".to_owned()]));
}

#[test]
fn a_row_is_over_when_it_was_decided_before_that_and_one_that_waits_never_is() {
    let row = |status: &str, at: &str| fields(&format!(r#"{{"status":"{status}","decided_at":{at}}}"#));
    assert!(is_over(&row("decided", "99"), UnixMillis(100)));
    assert!(!is_over(&row("decided", "100"), UnixMillis(100)));
    assert!(!is_over(&row("decided", "101"), UnixMillis(100)));
    assert!(!is_over(&row("pending", "1"), UnixMillis(100)));
    assert!(!is_over(&fields(r#"{"status":"decided"}"#), UnixMillis(100)));
    assert!(!is_over(&pending(Op::Update, "{}", &[]).fields, UnixMillis(100)));
}

/// Who loses what, as words.
fn told(row: &Stored, record: Option<(&Stored, &str)>, change: Option<&Mutation>) -> Vec<String> {
    let word = |loss: Loss| {
        let fields: Vec<String> = loss.fields.iter().map(|(name, value)| format!("{name}={}", value.text())).collect();
        format!("{} {:?} {}", loss.writer.unwrap_or_default(), loss.op, fields.join(" "))
    };
    losses(row, record, change).into_iter().map(word).collect()
}

#[test]
fn c2_a_decision_tells_each_author_what_they_do_not_get() {
    let row = pending(Op::Update, r#"{"a":1,"b":2}"#, &[]);
    let record = stored(4, r#"{"a":9,"b":2,"c":3}"#);
    let by_grace = Some((&record, "grace"));
    let change = |op: Op, set: &str, unset: &[&str]| mutation(op, set, unset);
    // The server's value: the author gets nothing of it.
    assert_eq!(told(&row, by_grace, None), ["ada Update a=1 b=2"]);
    // Theirs: what stood is lost where it differs.
    assert_eq!(told(&row, by_grace, Some(&change(Op::Update, r#"{"a":1,"b":2}"#, &[]))), ["grace Update a=9"]);
    // Something else: both lose.
    let both = change(Op::Update, r#"{"a":5,"b":2}"#, &["c"]);
    assert_eq!(told(&row, by_grace, Some(&both)), ["ada Update a=1", "grace Update a=9 c=3"]);
    // Whoever wrote both has lost nothing to anybody.
    assert_eq!(told(&row, Some((&record, "ada")), Some(&both)), ["ada Update a=1"]);
    assert_eq!(told(&row, None, Some(&both)), ["ada Update a=1"]);
    // What is the same is no loss.
    assert_eq!(told(&row, by_grace, Some(&change(Op::Update, r#"{"a":1,"b":2,"c":3}"#, &[]))), ["grace Update a=9"]);
    assert!(
        told(&row, Some((&stored(4, r#"{"a":1}"#), "grace")), Some(&change(Op::Update, r#"{"a":1,"b":2}"#, &[])))
            .is_empty()
    );

    let delete = pending(Op::Delete, "{}", &[]);
    assert_eq!(told(&delete, by_grace, None), ["ada Delete "]);
    assert_eq!(told(&delete, by_grace, Some(&change(Op::Delete, "{}", &[]))), ["grace Update a=9 b=2 c=3"]);
    let gone = deleted(4, r#"{"a":9}"#);
    assert_eq!(
        told(&row, Some((&gone, "grace")), Some(&change(Op::Create, r#"{"a":1,"b":2}"#, &[]))),
        ["grace Delete "]
    );
    let create = pending(Op::Create, r#"{"a":1}"#, &[]);
    assert_eq!(told(&create, by_grace, None), ["ada Create a=1"]);
    let nothing = Stored { fields: Fields::from_iter([("op".to_owned(), Json::string("update"))]), ..row };
    assert!(told(&nothing, None, None).is_empty());
}
