//! What should be true, kept by simpler means than the engine's: every durable entry, every decision, every effect.
//!
//! It hears of each transaction that reached a disk and of each verdict of the server, and compares. It shares row and
//! wire *types* with the engine and none of its rules.

mod family;
mod losses;
mod outbox;
mod policies;
mod profile;
mod restore;
mod settled;
mod truth;
mod verdict;

pub use family::Cascaded;
pub use outbox::Before;
pub use profile::ProfileModel;
pub use truth::{StateAt, Truth, at};
pub use verdict::Verdict;

use crate::export::Record;
use crate::policy::PolicyKind;
use crate::world::OnDelete;
use landfall_protocol::{Fields, Object, Op};
use std::collections::{BTreeMap, BTreeSet};

/// A record's fields as plain JSON texts.
pub type Plain = BTreeMap<String, String>;

pub fn plain(fields: &Fields) -> Plain {
    fields.iter().map(|(name, value)| (name.clone(), value.text().to_owned())).collect()
}

/// The same of an object that the engine keeps as text; read by other code than the engine's.
pub fn said(object: &Object) -> Plain {
    plain(&serde_json::from_str(object.text()).unwrap_or_default())
}

/// What a person writes into `a` where two values clash.
pub const MERGED: &str = "merged";

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub promise: &'static str,
    pub text: String,
}

/// Everything that is known of the world from outside.
#[derive(Default)]
pub struct Model {
    pub violation: Option<Violation>,
    pub truth: Truth,
    pub profiles: Vec<ProfileModel>,
    ever: BTreeMap<(String, u64), Vec<String>>,
    acked_through: BTreeMap<String, u64>,
    /// Effects that a restored backup took back: (client, seq).
    lost: BTreeSet<(String, u64)>,
    pub restores: u64,
    pub policies: BTreeMap<String, PolicyKind>,
    /// Collections that only who has the role may write.
    pub guarded: BTreeSet<&'static str>,
    /// Whether who got this token has the role.
    tokens: BTreeMap<String, bool>,
    /// What deletes do to children, where records have some.
    pub on_delete: OnDelete,
    /// Tasks are known by their field `k`.
    pub is_unique: bool,
    tick: u64,
    /// Kinds of outcomes and ends that are counted by themselves.
    pub kinds: BTreeSet<&'static str>,
    /// Kept only for who exports it.
    pub record: Option<Record>,
    /// A broken promise ends nothing: somebody else is to find it.
    pub goes_on: bool,
}

impl Model {
    pub fn violate(&mut self, promise: &'static str, text: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { promise, text: text() });
        }
    }

    /// Somebody who signed in, or whose token was refreshed, got this.
    pub fn issued(&mut self, token: &str, is_manager: bool) {
        self.tokens.insert(token.to_owned(), is_manager);
    }

    /// A push was answered by something that its batch may be blamed for.
    pub fn faulty_answer(&mut self, profile: usize) {
        self.profiles[profile].faulty_answers += 1;
    }

    /// A moment; later ones are greater.
    pub fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }
}

pub fn patch(before: Option<Plain>, op: Op, set: Plain, unset: &[String]) -> Option<Plain> {
    match op {
        Op::Delete => None,
        Op::Create => Some(set),
        Op::Update => {
            let mut fields = before?;
            for name in unset {
                fields.remove(name);
            }
            fields.extend(set);
            Some(fields)
        }
    }
}
