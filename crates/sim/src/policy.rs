//! What a policy should do, worked out from a record's whole history: shares no rule and no bookkeeping with the engine.
//!
//! The authority keeps marks of fields; here the last change of a field is looked up by comparing one state of the record
//! with the next. The authority resolves bases through its ledger; here the verdicts that were given say what they were.

use crate::model::{Plain, StateAt, patch, plain};
use crate::rng::Rng;
use landfall_core::policy::{Policy, Refinement, Rule};
use landfall_protocol::{Mutation, Op};

/// The role that wins in [`PolicyKind::Manager`], and who has it at first.
pub const MANAGER: &str = "manager";
pub const MANAGER_USER: &str = "u0";

/// The policies of the simulated world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyKind {
    #[default]
    ServerWins,
    ClientWins,
    LastStamp,
    LastArrival,
    Reapply,
    Author,
    Review,
    Merge,
    MergeLast,
    Manager,
}

impl PolicyKind {
    const ALL: [Self; 10] = [
        Self::ServerWins,
        Self::ClientWins,
        Self::LastStamp,
        Self::LastArrival,
        Self::Reapply,
        Self::Author,
        Self::Review,
        Self::Merge,
        Self::MergeLast,
        Self::Manager,
    ];

    /// Every second seed keeps the one policy that there was when it was first played.
    pub fn of_seed(seed: u64) -> [Self; 3] {
        if seed.is_multiple_of(2) {
            return [Self::ServerWins; 3];
        }
        let rng = Rng::stream(seed, 2);
        [(); 3].map(|()| Self::ALL[rng.index(Self::ALL.len())])
    }

    /// The same for the authority.
    pub fn policy(self) -> Policy {
        match self {
            Self::ServerWins => Policy::default(),
            Self::ClientWins => Policy::whole(Rule::ClientWins),
            Self::LastStamp => Policy::whole(Rule::LastStamp),
            Self::LastArrival => Policy::whole(Rule::LastArrival),
            Self::Reapply => Policy::whole(Rule::Reapply),
            Self::Author => Policy::whole(Rule::Author),
            Self::Review => Policy::whole(Rule::Review(MANAGER.to_owned())),
            Self::Merge => Policy::merge(Rule::ServerWins),
            Self::MergeLast => Policy::merge(Rule::LastStamp),
            Self::Manager => Policy { refinement: Refinement::Role(MANAGER.to_owned()), ..Policy::default() },
        }
    }
}

/// What should become of a mutation: a word for the outcome, and the record if it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub word: &'static str,
    /// `Some(None)`: deleted.
    pub written: Option<Option<Plain>>,
}

/// Who sends a mutation, and how it stands.
pub struct Sent<'a> {
    pub mutation: &'a Mutation,
    pub client: &'a str,
    /// By its token.
    pub is_manager: bool,
    /// Clamped by whoever asks.
    pub stamp: &'a str,
    /// The version that it stands on, and whether nothing came between.
    pub stands: u64,
    pub is_current: bool,
}

/// The last word on a field.
struct Change<'a> {
    version: u64,
    by: Option<&'a StateAt>,
}

pub fn expected(kind: PolicyKind, states: &[StateAt], sent: &Sent<'_>) -> Expected {
    let mutation = sent.mutation;
    let set = plain(&mutation.set);
    let write = |word, fields: Option<Plain>| Expected { word, written: Some(fields) };
    let keep = |word| Expected { word, written: None };
    let Some(last) = states.last() else {
        return match mutation.op {
            Op::Create => write("applied", Some(set)),
            Op::Update => keep("gone"),
            Op::Delete => keep("applied"),
        };
    };
    let patched = || patch(last.fields.clone(), mutation.op, set.clone(), &mutation.unset);
    match (&last.fields, mutation.op) {
        (None, Op::Delete) => return keep("applied"),
        (None, Op::Create) if sent.is_current => return write("applied", Some(set)),
        (Some(_), Op::Delete) if sent.is_current => return write("applied", None),
        (Some(there), Op::Create | Op::Update) if sent.is_current => {
            let after = patched();
            return if after.as_ref() == Some(there) { keep("applied") } else { write("applied", after) };
        }
        (Some(there), Op::Create) if *there == set => return keep("applied"),
        (Some(there), Op::Update) if patched().as_ref() == Some(there) => return keep("applied"),
        (None | Some(_), _) => {}
    }
    let revived = || patch(Some(last_values(states)), mutation.op, set.clone(), &mutation.unset);
    let is_newer =
        if last.client == sent.client { last.seq < mutation.seq.get() } else { last.stamp.as_str() < sent.stamp };
    let take = || match (&last.fields, mutation.op) {
        (None, _) => write("recreated", revived()),
        (Some(_), Op::Delete) => write("applied", None),
        (Some(_), Op::Create | Op::Update) => write("applied", patched()),
    };
    let refuse = || keep("superseded");
    match kind {
        PolicyKind::ServerWins => refuse(),
        PolicyKind::ClientWins | PolicyKind::LastArrival => take(),
        PolicyKind::LastStamp if is_newer => take(),
        PolicyKind::LastStamp => refuse(),
        PolicyKind::Reapply => keep("stale"),
        PolicyKind::Review if mutation.group.is_none() => keep("review"),
        PolicyKind::Author | PolicyKind::Review => keep("author"),
        PolicyKind::Manager if sent.is_manager && !last.is_manager => take(),
        PolicyKind::Manager => refuse(),
        PolicyKind::Merge | PolicyKind::MergeLast => match (&last.fields, mutation.op) {
            (None, _) | (Some(_), Op::Delete) => refuse(),
            (Some(there), Op::Create | Op::Update) => merged(kind, states, there, sent, &set),
        },
    }
}

fn merged(kind: PolicyKind, states: &[StateAt], there: &Plain, sent: &Sent<'_>, set: &Plain) -> Expected {
    let mut after = there.clone();
    let names = set.keys().chain(&sent.mutation.unset);
    for name in names {
        if there.get(name) == set.get(name) {
            continue;
        }
        let change = last_change(states, name);
        let own = change.by.is_some_and(|by| by.client == sent.client && by.seq < sent.mutation.seq.get());
        let stamp = change.by.or(states.last()).map_or("", |by| by.stamp.as_str());
        let wins = kind == PolicyKind::MergeLast && stamp < sent.stamp;
        if change.version <= sent.stands || own || wins {
            match set.get(name) {
                Some(value) => _ = after.insert(name.clone(), value.clone()),
                None => _ = after.remove(name),
            }
        }
    }
    let lost_all = after == *there;
    Expected { word: if lost_all { "superseded" } else { "merged" }, written: (!lost_all).then_some(Some(after)) }
}

/// A deleted record's last values.
fn last_values(states: &[StateAt]) -> Plain {
    states.iter().rev().find_map(|state| state.fields.clone()).unwrap_or_default()
}

fn last_change<'a>(states: &'a [StateAt], name: &str) -> Change<'a> {
    let mut change = Change { version: 0, by: None };
    let mut before: Option<&String> = None;
    let mut deleted_at = None;
    for state in states {
        let Some(fields) = &state.fields else {
            deleted_at = Some(state.version);
            continue;
        };
        let now = fields.get(name);
        if let Some(deleted_at) = deleted_at.take().filter(|_| state.is_create) {
            // Another life: what it has is new, and what it has not went with the delete.
            change = match now {
                Some(_) => Change { version: state.version, by: Some(state) },
                None => Change { version: deleted_at, by: None },
            };
        } else if now != before {
            change = Change { version: state.version, by: Some(state) };
        }
        before = now;
    }
    change
}
