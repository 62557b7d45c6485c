//! The server's verdict on a mutation: a pure function of policy, server state and mutation (C1).
//!
//! The same code judges in the server and in the simulator. It never looks at a clock, never at `prev`, and
//! knows nothing of transactions: the caller reads the record, asks, and writes what [`Verdict::effect`] says in
//! one transaction with the outcome (S1, S6).
//!
//! Order of tests (docs/protocol.md): key and hash, permission and schema are the caller's, before; then `after`/base
//! (current → applied, whatever the clocks), equal fields (applied), policy.

use crate::plant::{Plant, planted};
use crate::policy::{By, Clash, Mark, Marks, Merged, Met, Plan, Policy, Refinement, judge, marks_after};
use landfall_protocol::{
    ClientId, Fields, Json, Map, Mutation, Object, Op, Outcome, Position, RejectCode, ResultStatus, Seq, Stamp, Version,
};
use std::collections::BTreeSet;

/// A record as the server keeps it, live or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub version: Version,
    /// Last values; kept for a tombstone too, until clean-up.
    pub fields: Fields,
    pub deleted: bool,
    pub stamp: Stamp,
    /// The mutation that wrote it.
    pub client: ClientId,
    pub seq: Seq,
    /// The role of its writer that counts in the collection's policy; empty without one.
    pub role: String,
    /// Who wrote which field last, where the policy needs it.
    pub marks: Option<Marks>,
}

/// What the verdict depends on beside the mutation itself.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    pub policy: &'a Policy,
    /// The record now; `None` when it never existed or its tombstone was cleaned up.
    pub stored: Option<&'a Stored>,
    /// Versions start above this, so that none is used twice after a clean-up of tombstones.
    pub version_floor: Version,
    /// The mutation's client.
    pub client: &'a ClientId,
    /// The mutation's user and client as one text: client ids are only unique by user.
    pub writer: &'a str,
    /// Of the mutation's user, from the verified token (C4).
    pub roles: &'a BTreeSet<String>,
    /// The outcome of the mutation that `after` names, if it has one.
    pub after: Option<&'a Outcome>,
    /// The version that the mutation which `after` names stood on, as far as is known.
    pub after_base: Version,
    /// Position that this mutation's transaction writes at.
    pub position: Position,
    /// The mutation's stamp, already clamped to the server's clock.
    pub stamp: &'a Stamp,
}

/// The record to write. `None` in a verdict: write nothing, keep the version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    pub stored: Stored,
}

/// Outcome and effect of one mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub outcome: Outcome,
    pub effect: Option<Effect>,
    /// Who is to decide, where the outcome is `conflict(review)`.
    pub reviewer: Option<String>,
    /// Another writer's values that this mutation overwrote without having seen them: kept by the caller (C2).
    pub overwritten: Fields,
    /// Whom it took them from: told by the caller.
    pub overruled: Vec<Loss>,
}

/// What a writer loses to a mutation that had not seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// As [`Situation::writer`]; `None`: whoever wrote the record last, which the caller knows.
    pub writer: Option<String>,
    /// What of it is undone: a delete, or values.
    pub op: Op,
    /// The values; null for one that was taken out.
    pub fields: Fields,
}

impl Verdict {
    fn without_effect(outcome: Outcome) -> Self {
        Self { outcome, effect: None, reviewer: None, overwritten: Fields::new(), overruled: Vec::new() }
    }
}

/// What a mutation meets: the case that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meets {
    /// Nothing is there, or nothing any more, whatever the writer saw.
    Nothing,
    /// The record is as the writer saw it.
    Current,
    /// The record is not as the writer saw it.
    Changed,
    /// The record was deleted, and the writer did not know.
    Deleted,
}

/// The refusal of an edit whose predecessor (`after`, if it has an outcome) was refused: it stands on what is not there,
/// and the client sends it again on what is, behind its predecessor.
///
/// A group is asked this of every member that stands on one before the group, and before anything else: of a group that
/// loses, the followers are judged as they stand, and would pass a predecessor of the group that goes again (S4).
pub fn blocked(mutation: &Mutation, after: Option<&Outcome>) -> Option<Outcome> {
    let by = mutation.after?;
    if after.is_some_and(|outcome| outcome.status != ResultStatus::Rejected) {
        return None;
    }
    let text = "An earlier change of the same record was not applied.";
    let mut outcome = Outcome::rejected(mutation.seq, RejectCode::BLOCKED, text);
    outcome.by = Some(by);
    Some(outcome)
}

/// Judges one mutation.
pub fn decide(situation: &Situation<'_>, mutation: &Mutation) -> Verdict {
    if let Some(outcome) = blocked(mutation, situation.after) {
        return refused(situation, outcome);
    }
    if let Some(outcome) = choice_refused(situation, mutation) {
        return refused(situation, outcome);
    }
    let meets = meets(situation, mutation);
    match (mutation.op, meets) {
        (Op::Create, Meets::Nothing) => plain(situation, mutation, mutation.set.clone()),
        // Its tombstone was cleaned up, or it never was: what is asked for already holds.
        (Op::Delete, Meets::Nothing) => unchanged(situation, mutation),
        (Op::Update, Meets::Nothing) => {
            refused(situation, Outcome::rejected(mutation.seq, RejectCode::GONE, "The record does not exist any more."))
        }
        (Op::Create | Op::Update, Meets::Current) => {
            let fields = patched(situation, mutation);
            if situation.stored.is_some_and(|stored| !stored.deleted && stored.fields == fields) {
                return unchanged(situation, mutation);
            }
            plain(situation, mutation, fields)
        }
        (Op::Delete, Meets::Current) => plain(situation, mutation, Fields::new()),
        (Op::Delete, Meets::Deleted) => unchanged(situation, mutation),
        (Op::Create | Op::Update, Meets::Changed)
            if situation.stored.is_some_and(|stored| same_fields(situation.policy, stored, mutation)) =>
        {
            unchanged(situation, mutation)
        }
        (Op::Create, Meets::Changed) => clash(situation, mutation, Clash::CreateOnCreate),
        (Op::Update, Meets::Changed) => clash(situation, mutation, Clash::UpdateOnUpdated),
        (Op::Create | Op::Update, Meets::Deleted) => clash(situation, mutation, Clash::WriteOnDeleted),
        (Op::Delete, Meets::Changed) => clash(situation, mutation, Clash::DeleteOnUpdated),
    }
}

/// Two writers did not know of each other: the policy's word, carried out.
fn clash(situation: &Situation<'_>, mutation: &Mutation, clash: Clash) -> Verdict {
    let Some(stored) = situation.stored else { return superseded(situation, mutation.seq) };
    let mark = last_mark(situation, stored);
    let role = situation.policy.role_of(situation.roles);
    let met = Met { clash, fields: &stored.fields, mark: &mark, marks: stored.marks.as_ref() };
    let by = By {
        base: base(situation, mutation),
        stamp: situation.stamp,
        writer: situation.writer,
        seq: mutation.seq,
        role: &role,
    };
    let plan = judge(situation.policy, met, by, mutation);
    if planted(Plant::ManualWrites) && plan == Plan::AskAuthor {
        return write(situation, mutation, ResultStatus::Conflict, patched(situation, mutation), true);
    }
    match plan {
        Plan::Keep => superseded(situation, mutation.seq),
        Plan::Take => {
            let fields = if mutation.op == Op::Delete { Fields::new() } else { patched(situation, mutation) };
            let overruled = losses(situation, stored, mutation, &fields);
            let mut verdict = write(situation, mutation, ResultStatus::Applied, fields, true);
            verdict.overwritten = stored.fields.clone();
            Verdict { overruled, ..verdict }
        }
        Plan::Recreate => {
            // A create carries all fields; an update only those that it knew to have changed.
            let fields = patched(situation, mutation);
            let overruled = (mark.writer != situation.writer)
                .then(|| Loss { writer: known(&mark), op: Op::Delete, fields: Fields::new() })
                .into_iter()
                .collect();
            Verdict { overruled, ..write(situation, mutation, ResultStatus::Recreated, fields, true) }
        }
        Plan::Merge(Merged { fields, overwritten, .. }) => {
            let overruled = losses(situation, stored, mutation, &fields);
            let verdict = write(situation, mutation, ResultStatus::Merged, fields, true);
            Verdict { overwritten, overruled, ..verdict }
        }
        Plan::Stale => {
            let text = "Somebody else changed this record meanwhile.";
            let outcome = Outcome::rejected(mutation.seq, RejectCode::STALE, text);
            Verdict::without_effect(shown(situation, outcome))
        }
        Plan::AskAuthor => asked(situation, mutation.seq, "author", None),
        // A group is decided as one, and a reviewer sees one record: its author takes it up again.
        Plan::AskRole(_) if mutation.group.is_some() => asked(situation, mutation.seq, "author", None),
        Plan::AskRole(role) => asked(situation, mutation.seq, "review", Some(role)),
    }
}

fn asked(situation: &Situation<'_>, seq: Seq, to: &str, reviewer: Option<String>) -> Verdict {
    let mut outcome = shown(situation, Outcome::new(seq, ResultStatus::Conflict));
    outcome.to = Some(to.to_owned());
    Verdict { reviewer, ..Verdict::without_effect(outcome) }
}

/// The field that names a record's policy may only say what the collection allows, to whom it allows it.
fn choice_refused(situation: &Situation<'_>, mutation: &Mutation) -> Option<Outcome> {
    let Refinement::Record(choice) = &situation.policy.refinement else { return None };
    let stored = situation.stored.filter(|stored| !stored.deleted);
    let before = stored.and_then(|stored| stored.fields.get(&choice.field));
    let is_unset = mutation.unset.contains(&choice.field) || (mutation.op == Op::Create && before.is_some());
    let after = match mutation.set.get(&choice.field) {
        Some(after) => Some(after),
        None if is_unset => None,
        None => return None,
    };
    let null = Json::null();
    if mutation.op == Op::Delete || after.unwrap_or(&null) == before.unwrap_or(&null) {
        return None;
    }
    let is_known = after.is_none_or(|after| {
        *after == null || after.as_string().is_some_and(|after| choice.allowed.contains_key(after.as_str()))
    });
    let words = match (is_known, choice.roles.is_disjoint(situation.roles)) {
        (true, false) => return None,
        (false, _) => "is no policy that this collection allows",
        (true, true) => "may not be chosen by you",
    };
    let mut outcome = Outcome::rejected(mutation.seq, RejectCode::VALIDATION, "Some values are not valid.");
    outcome.fields.insert(choice.field.clone(), words.to_owned());
    Some(outcome)
}

/// The version that the mutation's writer knew.
fn base(situation: &Situation<'_>, mutation: &Mutation) -> Version {
    match (mutation.base, situation.after) {
        (Some(base), _) => base,
        (None, Some(after)) if after.took_effect() => after.version.unwrap_or_default(),
        (None, _) => situation.after_base,
    }
}

/// Who wrote the record last. Of another client only that it was another one is known.
fn last_mark(situation: &Situation<'_>, stored: &Stored) -> Mark {
    let is_own = stored.client == *situation.client;
    Mark {
        version: stored.version,
        stamp: stored.stamp.clone(),
        writer: if is_own { situation.writer.to_owned() } else { String::new() },
        seq: stored.seq,
        role: stored.role.clone(),
    }
}

/// The writer of a mark, where it is known.
fn known(mark: &Mark) -> Option<String> {
    (!mark.writer.is_empty()).then(|| mark.writer.clone())
}

/// Who loses which values when `after` replaces the record: those that were written after the mutation's base.
fn losses(situation: &Situation<'_>, stored: &Stored, mutation: &Mutation, after: &Fields) -> Vec<Loss> {
    let last = last_mark(situation, stored);
    let base = base(situation, mutation);
    let none = Map::new();
    let by_name = stored.marks.as_ref().map_or(&none, |marks| &marks.by_name);
    let null = Json::null();
    let there = stored.fields.iter();
    // What its writer took out, and the mutation puts back.
    let taken_out = by_name.keys().filter(|name| !stored.fields.contains_key(*name)).map(|name| (name, &null));
    let mut losses: Vec<Loss> = Vec::new();
    for (name, value) in there.chain(taken_out) {
        let mark = by_name.get(name).unwrap_or(&last);
        let stays = value == if mutation.op == Op::Delete { &null } else { after.get(name).unwrap_or(&null) };
        if stays || mark.version <= base || mark.writer == situation.writer {
            continue;
        }
        let writer = known(mark);
        match losses.iter_mut().find(|loss| loss.writer == writer) {
            Some(loss) => _ = loss.fields.insert(name.clone(), value.clone()),
            None => {
                let fields = [(name.clone(), value.clone())].into_iter().collect();
                losses.push(Loss { writer, op: Op::Update, fields });
            }
        }
    }
    losses
}

/// The outcome of a mutation that lost: the server's record, or that there is none.
pub fn superseded(situation: &Situation<'_>, seq: Seq) -> Verdict {
    Verdict::without_effect(shown(situation, Outcome::new(seq, ResultStatus::Superseded)))
}

/// An outcome that shows the record as it stands.
fn shown(situation: &Situation<'_>, outcome: Outcome) -> Outcome {
    let mut outcome = placed(situation, outcome);
    if let Some(stored) = situation.stored {
        outcome.version = Some(stored.version);
        outcome.deleted = stored.deleted;
        outcome.record = (!stored.deleted).then(|| Object::of(&stored.fields));
    } else {
        outcome.deleted = true;
    }
    outcome
}

fn meets(situation: &Situation<'_>, mutation: &Mutation) -> Meets {
    let Some(stored) = situation.stored else { return Meets::Nothing };
    let current = match (mutation.after, mutation.base) {
        // Satisfied iff that mutation was the record's last writer, or the record still is at its outcome's version. One
        // that lost carries the version it lost against: its follower did not know of that any more than itself.
        (Some(after), _) => {
            (stored.client == *situation.client && stored.seq == after)
                || situation
                    .after
                    .is_some_and(|outcome| outcome.took_effect() && outcome.version == Some(stored.version))
        }
        (None, Some(base)) => stored.version == base,
        (None, None) => false,
    };
    match (stored.deleted, current) {
        (true, true) if mutation.op == Op::Create => Meets::Current,
        (true, _) => Meets::Deleted,
        (false, true) => Meets::Current,
        (false, false) => Meets::Changed,
    }
}

/// The record's fields after a mutation that fits it. A create on a tombstone starts from nothing.
fn patched(situation: &Situation<'_>, mutation: &Mutation) -> Fields {
    let mut fields = match (mutation.op, situation.stored) {
        (Op::Update, Some(stored)) => stored.fields.clone(),
        _ => Fields::new(),
    };
    apply_patch(&mut fields, &mutation.set, &mutation.unset);
    fields
}

/// Sets and unsets fields in place.
pub fn apply_patch(fields: &mut Fields, set: &Fields, unset: &[String]) {
    for name in unset {
        fields.remove(name);
    }
    for (name, value) in set {
        fields.insert(name.clone(), value.clone());
    }
}

/// The mutation asks for what is already there.
fn same_fields(policy: &Policy, stored: &Stored, mutation: &Mutation) -> bool {
    let set = mutation.set.iter().all(|(name, value)| policy.same(name, stored.fields.get(name), Some(value)));
    let unset = mutation.unset.iter().all(|name| !stored.fields.contains_key(name));
    set && unset && (mutation.op != Op::Create || stored.fields.len() == mutation.set.len())
}

/// A mutation that fits what is there: its author knows what it makes of it.
fn plain(situation: &Situation<'_>, mutation: &Mutation, fields: Fields) -> Verdict {
    write(situation, mutation, ResultStatus::Applied, fields, false)
}

fn write(
    situation: &Situation<'_>,
    mutation: &Mutation,
    status: ResultStatus,
    fields: Fields,
    shows_record: bool,
) -> Verdict {
    let deleted = mutation.op == Op::Delete;
    let version = if planted(Plant::RecreateBelowFloor) && status == ResultStatus::Recreated {
        Version(1)
    } else {
        next_version(situation)
    };
    let mut stamp = situation.stamp.clone();
    if let Some(stored) = situation.stored
        && stored.stamp >= stamp
    {
        // It comes after what is there, whatever the clocks say (section 6).
        let mut clock = landfall_protocol::Hlc::default();
        clock.observe(&stored.stamp);
        stamp = clock.tick(0, situation.client.as_str());
    }
    let fields = match (deleted, situation.stored) {
        (true, Some(stored)) => stored.fields.clone(),
        _ => fields,
    };
    let role = situation.policy.role_of(situation.roles);
    let seq = mutation.seq;
    let marks = situation.policy.needs_marks().then(|| {
        let writer = situation.writer.to_owned();
        let mark = Mark { version, stamp: stamp.clone(), writer, seq, role: role.clone() };
        let last = situation.stored.map(|stored| last_mark(situation, stored));
        let was = situation.stored.zip(last.as_ref());
        let was = was.map(|(stored, last)| (&stored.fields, last, stored.marks.as_ref(), stored.deleted));
        marks_after(mutation.op, was, &fields, &mark)
    });
    let mut outcome = placed(situation, Outcome::new(seq, status));
    outcome.version = Some(version);
    outcome.deleted = deleted;
    outcome.record = (shows_record && !deleted).then(|| Object::of(&fields));
    let stored = Stored { version, fields, deleted, stamp, client: situation.client.clone(), seq, role, marks };
    Verdict { effect: Some(Effect { stored }), ..Verdict::without_effect(outcome) }
}

/// Applied without a new version.
fn unchanged(situation: &Situation<'_>, mutation: &Mutation) -> Verdict {
    let mut outcome = placed(situation, Outcome::new(mutation.seq, ResultStatus::Applied));
    // Of a record that was cleaned up only the floor is known: no version of it was above that.
    outcome.version = Some(situation.version_floor);
    outcome.deleted = true;
    if let Some(stored) = situation.stored {
        outcome.version = Some(stored.version);
        outcome.deleted = stored.deleted;
        // The base that the client holds may be another one: it needs the record.
        outcome.record = (!stored.deleted).then(|| Object::of(&stored.fields));
    }
    Verdict::without_effect(outcome)
}

fn refused(situation: &Situation<'_>, outcome: Outcome) -> Verdict {
    Verdict::without_effect(placed(situation, outcome))
}

fn placed(situation: &Situation<'_>, mut outcome: Outcome) -> Outcome {
    outcome.position = Some(situation.position);
    outcome
}

/// Never restarts, also across delete, clean-up and a restored backup.
fn next_version(situation: &Situation<'_>) -> Version {
    situation.stored.map_or(situation.version_floor, |stored| stored.version.max(situation.version_floor)).next()
}
