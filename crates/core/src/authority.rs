//! The server's verdict on a mutation: a pure function of policy, server state and mutation (C1).
//!
//! The same code judges in the server and in the simulator. It never looks at a clock, never at `prev`, and
//! knows nothing of transactions: the caller reads the record, asks, and writes what [`Verdict::effect`] says in
//! one transaction with the outcome (S1, S6).
//!
//! Order of tests (docs/protocol.md): key and hash, permission and schema are the caller's, before; then `after`/base
//! (current → applied, whatever the clocks), equal fields (applied), policy.

use landfall_protocol::{
    ClientId, Fields, Mutation, Object, Op, Outcome, Position, RejectCode, ResultStatus, Seq, Stamp, Version,
};

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
}

/// Who wins when two writers did not know of each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    #[default]
    ServerWins,
}

/// What the verdict depends on beside the mutation itself.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    pub policy: Policy,
    /// The record now; `None` when it never existed or its tombstone was cleaned up.
    pub stored: Option<&'a Stored>,
    /// Versions start above this, so that none is used twice after a clean-up of tombstones.
    pub version_floor: Version,
    /// The mutation's client.
    pub client: &'a ClientId,
    /// The outcome of the mutation that `after` names, if it has one.
    pub after: Option<&'a Outcome>,
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
}

/// What a mutation meets: the case that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meets {
    /// Nothing is there, and the writer knew it.
    Nothing,
    /// The record is as the writer saw it.
    Current,
    /// The record is not as the writer saw it.
    Changed,
    /// The record was deleted, and the writer did not know.
    Deleted,
    /// The writer saw a record that the server does not know at all.
    Unknown,
}

/// Judges one mutation.
pub fn decide(situation: &Situation<'_>, mutation: &Mutation) -> Verdict {
    if let Some(after) = mutation.after
        && situation.after.is_none_or(|outcome| outcome.status == ResultStatus::Rejected)
    {
        // The edit stands on a predecessor that is not there; the client sends it again on what is.
        let mut outcome = Outcome::rejected(
            mutation.seq,
            RejectCode::BLOCKED,
            "An earlier change of the same record was not applied.",
        );
        outcome.by = Some(after);
        return refused(situation, outcome);
    }
    let meets = meets(situation, mutation);
    match (mutation.op, meets) {
        (Op::Create, Meets::Nothing) => write(situation, mutation, mutation.set.clone()),
        // Its tombstone was cleaned up, or it never was: what is asked for already holds.
        (Op::Delete, Meets::Nothing | Meets::Unknown) => unchanged(situation, mutation),
        (Op::Update, Meets::Nothing | Meets::Unknown) => {
            refused(situation, Outcome::rejected(mutation.seq, RejectCode::GONE, "The record does not exist any more."))
        }
        (Op::Create, Meets::Unknown) => write(situation, mutation, mutation.set.clone()),
        (Op::Create | Op::Update, Meets::Current) => {
            let fields = patched(situation, mutation);
            if situation.stored.is_some_and(|stored| !stored.deleted && stored.fields == fields) {
                return unchanged(situation, mutation);
            }
            write(situation, mutation, fields)
        }
        (Op::Delete, Meets::Current) => write(situation, mutation, Fields::new()),
        (Op::Delete, Meets::Deleted) => unchanged(situation, mutation),
        (Op::Create | Op::Update, Meets::Changed) => {
            if situation.stored.is_some_and(|stored| same_fields(stored, mutation)) {
                return unchanged(situation, mutation);
            }
            clash(situation, mutation)
        }
        (Op::Delete, Meets::Changed) | (Op::Create | Op::Update, Meets::Deleted) => clash(situation, mutation),
    }
}

/// Two writers did not know of each other: the policy's word.
fn clash(situation: &Situation<'_>, mutation: &Mutation) -> Verdict {
    match situation.policy {
        Policy::ServerWins => superseded(situation, mutation.seq),
    }
}

/// The outcome of a mutation that lost: the server's record, or that there is none.
pub fn superseded(situation: &Situation<'_>, seq: Seq) -> Verdict {
    let mut outcome = placed(situation, Outcome::new(seq, ResultStatus::Superseded));
    if let Some(stored) = situation.stored {
        outcome.version = Some(stored.version);
        outcome.deleted = stored.deleted;
        outcome.record = (!stored.deleted).then(|| Object::of(&stored.fields));
    } else {
        outcome.deleted = true;
    }
    Verdict { outcome, effect: None }
}

fn meets(situation: &Situation<'_>, mutation: &Mutation) -> Meets {
    let Some(stored) = situation.stored else {
        return match mutation.base {
            Some(Version::ZERO) => Meets::Nothing,
            _ => Meets::Unknown,
        };
    };
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
fn same_fields(stored: &Stored, mutation: &Mutation) -> bool {
    let set = mutation.set.iter().all(|(name, value)| stored.fields.get(name) == Some(value));
    let unset = mutation.unset.iter().all(|name| !stored.fields.contains_key(name));
    set && unset && (mutation.op != Op::Create || stored.fields.len() == mutation.set.len())
}

fn write(situation: &Situation<'_>, mutation: &Mutation, fields: Fields) -> Verdict {
    let deleted = mutation.op == Op::Delete;
    let version = next_version(situation);
    let mut stamp = situation.stamp.clone();
    if let Some(stored) = situation.stored
        && stored.stamp >= stamp
    {
        // A current base orders this after what is there, whatever the clocks say (section 6).
        let mut clock = landfall_protocol::Hlc::default();
        clock.observe(&stored.stamp);
        stamp = clock.tick(0, situation.client.as_str());
    }
    let kept = match (deleted, situation.stored) {
        (true, Some(stored)) => stored.fields.clone(),
        _ => fields,
    };
    let mut outcome = placed(situation, Outcome::new(mutation.seq, ResultStatus::Applied));
    outcome.version = Some(version);
    outcome.deleted = deleted;
    let stored = Stored { version, fields: kept, deleted, stamp, client: situation.client.clone(), seq: mutation.seq };
    Verdict { outcome, effect: Some(Effect { stored }) }
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
    Verdict { outcome, effect: None }
}

fn refused(situation: &Situation<'_>, outcome: Outcome) -> Verdict {
    Verdict { outcome: placed(situation, outcome), effect: None }
}

fn placed(situation: &Situation<'_>, mut outcome: Outcome) -> Outcome {
    outcome.position = Some(situation.position);
    outcome
}

/// Never restarts, also across delete, clean-up and a restored backup.
fn next_version(situation: &Situation<'_>) -> Version {
    situation.stored.map_or(situation.version_floor, |stored| stored.version.max(situation.version_floor)).next()
}
