//! What a policy makes of a record's history, and people who decide what it left to them.

use super::{Model, Plain, StateAt, Verdict, plain};
use crate::policy::{self, Sent};
use landfall_core::authority::Stored;
use landfall_protocol::limits::HLC_AHEAD_MS_MAX;
use landfall_protocol::{Mutation, RecordKey, ResultStatus};

impl Model {
    /// C1: the outcome is what the policy makes of the record's history. Of what was refused for other reasons, and of
    /// groups that were undone, only that nothing was written.
    pub(super) fn check_policy(&mut self, verdict: &Verdict<'_>, mutation: &Mutation, stands: u64) {
        let outcome = verdict.outcome;
        let code = outcome.code.as_deref();
        let judged = outcome.status != ResultStatus::Rejected || matches!(code, Some("gone" | "stale"));
        let undone = mutation.group.is_some() && verdict.effect.is_none();
        if !outcome.took_effect() && verdict.effect.is_some() {
            self.violate("C1", || format!("{:?} was written as {:?}", mutation.key(), outcome.status));
        }
        if !judged || undone {
            return;
        }
        let kind = self.policies.get(mutation.collection.as_str()).copied().unwrap_or_default();
        let states = self.truth.known_of(&mutation.key());
        let current = states.last().map_or(0, |state| state.version);
        let given = mutation.after.and_then(|after| self.truth.given.get(&(verdict.client.to_owned(), after.get())));
        let is_current = match (mutation.after, given) {
            (None, _) => stands == current,
            (Some(_), None) => return,
            (Some(_), Some(given)) => given.outcome.took_effect() && stands == current,
        };
        let stamp = mutation.stamp.clamped(verdict.now, HLC_AHEAD_MS_MAX);
        let is_manager = self.tokens.get(verdict.token).copied().unwrap_or(false);
        let sent = Sent { mutation, client: verdict.client, is_manager, stamp: &stamp.0, stands, is_current };
        let expected = policy::expected(kind, states, &sent);
        let word = match (outcome.status, outcome.to.as_deref(), code) {
            (ResultStatus::Applied, ..) => "applied",
            (ResultStatus::Merged, ..) => "merged",
            (ResultStatus::Recreated, ..) => "recreated",
            (ResultStatus::Superseded, ..) => "superseded",
            (ResultStatus::Conflict, Some("review"), _) => "review",
            (ResultStatus::Conflict, ..) => "author",
            (ResultStatus::Rejected, _, Some("stale")) => "stale",
            _ => "gone",
        };
        let written = verdict.effect.as_ref().map(|(_, _, fields)| fields.clone());
        if (expected.word, &expected.written) != (word, &written) {
            let seq = mutation.seq;
            self.violate("C1", || {
                format!(
                    "seq {seq} of {} on {:?} ({kind:?}) should be {expected:?} and is {word}: {written:?}",
                    verdict.client,
                    mutation.key()
                )
            });
        }
    }

    /// What the rules say of a decision: one for each conflict, by who has the role.
    pub(super) fn check_decision(&mut self, verdict: &Verdict<'_>, mutation: &Mutation) {
        let is_manager = self.tokens.get(verdict.token).copied().unwrap_or(false);
        let row = self.truth.states_of(&mutation.key()).last().and_then(|state| state.fields.as_ref());
        let is_open = row.is_some_and(|row| row.get("status").is_some_and(|status| status == "\"pending\""));
        let code = verdict.outcome.code.as_deref().unwrap_or_default();
        if code == "already_decided" {
            self.kinds.insert("already_decided");
        }
        let is_decided = verdict.effect.is_some();
        let fits = if is_decided { is_manager && is_open } else { code != "already_decided" || !is_open };
        self.kinds.extend(is_decided.then_some("decided"));
        if !fits {
            let seq = mutation.seq;
            self.violate(if is_manager { "C1" } else { "C4" }, || {
                format!("seq {seq} decides {:?}, open: {is_open}, as {:?}", mutation.id, verdict.outcome)
            });
        }
    }

    /// A conflict waits for a role, or somebody with it has decided.
    pub fn row_written(&mut self, key: &RecordKey, position: u64, stored: &Stored) {
        let state = StateAt {
            position,
            version: stored.version.get(),
            fields: Some(plain(&stored.fields)),
            profile: usize::MAX,
            life: 0,
            client: stored.client.0.clone(),
            seq: stored.seq.get(),
            is_manager: true,
            is_indirect: true,
            stamp: stored.stamp.0.clone(),
            is_create: false,
            entry: 0,
        };
        self.state(key, state);
    }

    /// Somebody with a role decided a conflict; what it made of the record, if anything.
    pub fn reviewed(
        &mut self,
        row: &str,
        key: &RecordKey,
        effect: Option<(u64, u64, Option<Plain>)>,
        stamp: &str,
        (client, seq): (&str, u64),
    ) {
        if !self.truth.reviewed.insert(row.to_owned()) {
            self.violate("C1", || format!("the conflict {row} was decided twice"));
        }
        let Some((position, version, fields)) = effect else { return };
        let before = self.truth.states_of(key).last();
        let is_create = before.is_none_or(|state| state.fields.is_none());
        let state = StateAt {
            position,
            version,
            fields,
            profile: usize::MAX,
            life: 0,
            client: client.to_owned(),
            seq,
            is_manager: true,
            is_indirect: true,
            stamp: stamp.to_owned(),
            is_create,
            entry: 0,
        };
        self.state(key, state);
    }
}
