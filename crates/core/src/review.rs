//! What waits for somebody's decision: rows of the system collection `_conflicts`, and what a decision does.
//!
//! Pure, for the server and the simulator. A row is written with the outcome `conflict(review)` and decided by a mutation
//! on it, at most once: whoever comes second is told so.

use crate::authority::{Loss, Stored, apply_patch};
use crate::plant::{Plant, planted};
use landfall_protocol::codec::{from_json, to_json};
use landfall_protocol::{
    CollectionName, Fields, Json, Mutation, Object, Op, Outcome, RecordId, RecordKey, RejectCode, Scope, UnixMillis,
    Version, hash_text,
};
use std::collections::BTreeSet;

/// The collection of the rows, one in each scope.
pub const CONFLICTS: &str = "_conflicts";

/// Where the conflict of a mutation lies; `writer` as in [`crate::authority::Situation`].
pub fn row_key(scope: &Scope, writer: &str, mutation: &Mutation) -> RecordKey {
    let hash = hash_text(&[writer, " ", &to_json(&mutation.seq)].concat());
    let id: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    RecordKey { scope: scope.clone(), collection: CollectionName::from(CONFLICTS), id: RecordId(id) }
}

/// The row of a new conflict: what its author wanted, and what stands.
pub fn row(mutation: &Mutation, outcome: &Outcome, role: &str, author: &str, at: UnixMillis) -> Fields {
    let op = match mutation.op {
        Op::Create => "create",
        Op::Update => "update",
        Op::Delete => "delete",
    };
    let unset: Vec<String> = mutation.unset.clone();
    let server = outcome.record.as_ref().map_or_else(Json::null, |record| Json::of(record));
    let prev = Object::of(&mutation.prev);
    [
        ("status", Json::string("pending")),
        ("role", Json::string(role)),
        ("collection", Json::of(&mutation.collection)),
        ("record_id", Json::of(&mutation.id)),
        ("op", Json::string(op)),
        ("set", Json::of(&Object::of(&mutation.set))),
        ("unset", Json::of(&unset)),
        ("prev", Json::of(&prev)),
        ("server", server),
        ("server_version", Json::of(&outcome.version.unwrap_or_default())),
        ("author", Json::string(author)),
        ("at", Json::of(&at)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// What a decision does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Refused(Box<Outcome>),
    /// The row as it becomes, and the change of the record, to be judged as the reviewer's own.
    Decided {
        row: Fields,
        change: Option<Box<Mutation>>,
    },
}

/// Who decides, and when.
#[derive(Clone, Copy, Debug)]
pub struct Reviewer<'a> {
    pub sub: &'a str,
    pub roles: &'a BTreeSet<String>,
    pub at: UnixMillis,
}

/// The record that a row speaks of.
pub fn record_key(row: &Stored, scope: &Scope) -> Option<RecordKey> {
    let text = |name: &str| row.fields.get(name).and_then(Json::as_string);
    Some(RecordKey {
        scope: scope.clone(),
        collection: CollectionName(text("collection")?),
        id: RecordId(text("record_id")?),
    })
}

/// True for a row that was decided before `since`: everybody it concerns had the time to see that. One that waits for its
/// decision waits for ever.
pub fn is_over(row: &Fields, since: UnixMillis) -> bool {
    let decided_at: Option<UnixMillis> = row.get("decided_at").and_then(|at| from_json(at.text()));
    row.get("status").and_then(Json::as_string).as_deref() == Some("decided") && decided_at.is_some_and(|at| at < since)
}

/// Judges a mutation of a row. `record` is the record that the row speaks of, as it stands now.
pub fn decide(row: Option<&Stored>, record: Option<&Stored>, by: Reviewer<'_>, mutation: &Mutation) -> Decision {
    let refuse = |code: &str, text: &str| Decision::Refused(Box::new(Outcome::rejected(mutation.seq, code, text)));
    let Some(row) = row.filter(|row| !row.deleted) else {
        return refuse(RejectCode::GONE, "There is nothing to decide here.");
    };
    let text = |name: &str| row.fields.get(name).and_then(Json::as_string).unwrap_or_default();
    if mutation.op != Op::Update || !by.roles.contains(&text("role")) {
        return refuse(RejectCode::FORBIDDEN, "You may not decide this.");
    }
    if text("status") != "pending" && !planted(Plant::ReviewDecidedTwice) {
        return refuse(RejectCode::ALREADY_DECIDED, "Somebody else has decided this already.");
    }
    let said = mutation.set.get("decision").and_then(Json::as_string).unwrap_or_default();
    let object = |json: Option<&Json>| json.and_then(|json| Object::from_json(json.clone())).map(|it| it.fields());
    let change = match said.as_str() {
        "server" => None,
        "local" => Some((text("op"), object(row.fields.get("set")).unwrap_or_default(), unset_of(row))),
        "merged" => match object(mutation.set.get("merged")) {
            Some(merged) => Some(("update".to_owned(), merged, Vec::new())),
            None => return not_valid(mutation, "merged", "must be the fields that are to stand"),
        },
        _ => return not_valid(mutation, "decision", "must be local, server or merged"),
    };
    let mut after = row.fields.clone();
    after.insert("status".to_owned(), Json::string("decided"));
    after.insert("decision".to_owned(), Json::string(&said));
    after.insert("decided_by".to_owned(), Json::string(by.sub));
    after.insert("decided_at".to_owned(), Json::of(&by.at));
    if let Some(merged) = mutation.set.get("merged").filter(|_| said == "merged") {
        after.insert("merged".to_owned(), merged.clone());
    }
    if let Some(record) = record.filter(|record| !record.deleted && change.is_some()) {
        // It may have changed since the row was written: what the decision overwrites is kept (C2).
        after.insert("replaced".to_owned(), Json::of(&Object::of(&record.fields)));
    }
    let change = change.and_then(|(op, set, unset)| changed(row, record, mutation, &op, set, unset)).map(Box::new);
    Decision::Decided { row: after, change }
}

/// The reviewer's change, on the record as it stands.
fn changed(
    row: &Stored,
    record: Option<&Stored>,
    mutation: &Mutation,
    op: &str,
    set: Fields,
    unset: Vec<String>,
) -> Option<Mutation> {
    let key = record_key(row, &mutation.scope)?;
    let is_live = record.is_some_and(|record| !record.deleted);
    let (op, set, unset) = match (op, is_live) {
        ("delete", true) => (Op::Delete, Fields::new(), Vec::new()),
        ("delete", false) => return None,
        (_, true) => (Op::Update, set, unset),
        (_, false) => {
            // It lives again: its last values, and the decision's over them.
            let mut fields = record.map(|record| record.fields.clone()).unwrap_or_default();
            apply_patch(&mut fields, &set, &unset);
            (Op::Create, fields, Vec::new())
        }
    };
    Some(Mutation {
        seq: mutation.seq,
        scope: key.scope,
        collection: key.collection,
        id: key.id,
        op,
        set,
        unset,
        base: Some(record.map_or(Version::ZERO, |record| record.version)),
        after: None,
        prev: Fields::new(),
        stamp: mutation.stamp.clone(),
        group: None,
        origin: None,
    })
}

/// Who loses what by a decision, by user: the author of the conflict what they asked for and do not get, and `record`'s last
/// writer (beside the record) what had stood. `change`: what the decision makes of the record.
pub fn losses(row: &Stored, record: Option<(&Stored, &str)>, change: Option<&Mutation>) -> Vec<Loss> {
    let author = row.fields.get("author").and_then(Json::as_string);
    let asked = asked_and_lost(row, change).map(|loss| Loss { writer: author.clone(), ..loss });
    // Who is given the one of two values of their own has lost nothing to anybody.
    let others = record.filter(|(_, writer)| Some(*writer) != author.as_deref());
    let stood = others.zip(change).and_then(|((record, writer), change)| {
        Some(Loss { writer: Some(writer.to_owned()), ..stood_and_lost(record, change)? })
    });
    asked.into_iter().chain(stood).collect()
}

fn asked_and_lost(row: &Stored, change: Option<&Mutation>) -> Option<Loss> {
    let set = row.fields.get("set").and_then(|set| Object::from_json(set.clone()))?.fields();
    let op = match row.fields.get("op").and_then(Json::as_string)?.as_str() {
        "create" => Op::Create,
        "delete" => Op::Delete,
        _ => Op::Update,
    };
    let fields: Fields = match change {
        Some(change) if op != Op::Delete => {
            set.into_iter().filter(|(name, value)| change.set.get(name) != Some(value)).collect()
        }
        Some(_) => return None,
        None => set,
    };
    (op == Op::Delete || !fields.is_empty()).then_some(Loss { writer: None, op, fields })
}

fn stood_and_lost(record: &Stored, change: &Mutation) -> Option<Loss> {
    if record.deleted {
        return Some(Loss { writer: None, op: Op::Delete, fields: Fields::new() });
    }
    let is_gone = |name: &String| change.op == Op::Delete || change.unset.contains(name);
    let differs = |name: &String, value: &Json| change.set.get(name).is_some_and(|wanted| wanted != value);
    let lost = record.fields.iter().filter(|(name, value)| is_gone(name) || differs(name, value));
    let fields: Fields = lost.map(|(name, value)| (name.clone(), value.clone())).collect();
    (!fields.is_empty()).then_some(Loss { writer: None, op: Op::Update, fields })
}

fn unset_of(row: &Stored) -> Vec<String> {
    row.fields.get("unset").and_then(|unset| from_json(unset.text())).unwrap_or_default()
}

fn not_valid(mutation: &Mutation, field: &str, words: &str) -> Decision {
    let mut outcome = Outcome::rejected(mutation.seq, RejectCode::VALIDATION, "Some values are not valid.");
    outcome.fields.insert(field.to_owned(), words.to_owned());
    Decision::Refused(Box::new(outcome))
}
