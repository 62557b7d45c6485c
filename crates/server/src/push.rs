//! A push, judged in the transaction that writes it.
//!
//! Invariant: a seq gets its outcome, its effect and its audit row in one commit, at most once (S1). What a
//! repeat is answered is the stored text (S2). A group is undone to its savepoint as soon as one member has no effect (S5).

mod refusal;
mod verdict;

use crate::auth::Identity;
use crate::collections::Collections;
use crate::error::ServerError;
use crate::group::{Unit, units};
use crate::ledger::ledger;
use crate::mutation::{Content, Element};
use crate::run::Run;
use crate::store::{AuditRow, ClientRow, StoreError, StoredOutcome, Transaction};
use landfall_core::authority::superseded;
use landfall_protocol::{
    ClientId, Epoch, Fields, Json, Map, Mutation, Op, Outcome, Position, PushRequest, PushResponse, RejectCode,
    ResultStatus, Scope, Seq, UnixMillis, Version,
};

/// A push that was read and belongs to a verified user.
pub struct Push {
    pub identity: Identity,
    pub request: PushRequest,
    pub elements: Vec<Element>,
    pub device_key: String,
    pub now: UnixMillis,
}

/// Judges a push and writes what it does.
pub fn apply(db: &dyn Transaction, push: &Push, collections: &Collections) -> Result<PushResponse, ServerError> {
    let (request, sub) = (&push.request, push.identity.sub.as_str());
    let epoch = db.epoch()?;
    let known = db.client(sub, &request.client_id)?;
    // Before the question of a fork: after a restored backup a client that the backup does not know must still learn
    // that nothing of it is there.
    let is_of_another = match &request.epoch {
        Some(theirs) => *theirs != epoch,
        // Maybe a late double of a first push from before a backup was put back, which has forgotten its outcomes.
        None => db.was_restored()?,
    };
    if is_of_another {
        let ledger = ledger(db, sub, &request.client_id, known.as_ref())?;
        return Err(ServerError::ResetRequired { epoch, ledger: Some(Box::new(ledger)) });
    }
    if known.is_none() && (request.acked_through > Seq::ZERO || !request.first_push) {
        return Err(ServerError::ClientFork);
    }
    let known = known.unwrap_or_default();
    let row = client_row(push, &known);
    let acked_through = row.acked_through;
    db.put_client(sub, &request.client_id, &row)?;
    let mut judge = Judge {
        db,
        push,
        collections,
        acked_through,
        last_seq: known.last_seq,
        known: Vec::new(),
        is_copy: false,
        writer: format!("{sub} {}", request.client_id),
        decided: Map::new(),
        run: None,
        heads: Map::new(),
        results: Vec::with_capacity(push.elements.len()),
    };
    judge.known = push.elements.iter().map(|element| judge.recall(element)).collect::<Judged<_>>()?;
    judge.is_copy = judge.known.iter().flatten().any(|known| matches!(known, Known::Reused));
    for unit in units(&push.elements) {
        judge.unit(&unit)?;
    }
    judge.end_run()?;
    // After the verdicts: an `after` in this request may stand on an outcome that it acknowledges.
    if acked_through > known.acked_through {
        db.prune_outcomes(sub, &request.client_id, acked_through)?;
    }
    Ok(judge.answer(epoch))
}

fn client_row(push: &Push, known: &ClientRow) -> ClientRow {
    ClientRow {
        acked_through: known.acked_through.max(push.request.acked_through),
        last_seq: push.elements.iter().map(|element| element.seq).fold(known.last_seq, Seq::max),
        device: push.request.device.chars().take(200).collect(),
        device_key: push.device_key.clone(),
        pending_count: push.request.pending_count,
        last_seen: push.now,
        schema_version: push.request.schema_version,
    }
}

pub(crate) struct Judge<'a> {
    pub(crate) db: &'a dyn Transaction,
    pub(crate) push: &'a Push,
    pub(crate) collections: &'a Collections,
    acked_through: Seq,
    /// No seq above it was decided before this push.
    last_seq: Seq,
    /// Of each element, what was known before this push.
    known: Vec<Option<Known>>,
    /// A seq of this push is known with other bytes: it is of another copy of the client, and nothing of it is judged. An `after`
    /// would name the other copy's mutation.
    is_copy: bool,
    /// User and client.
    pub(crate) writer: String,
    /// What was given in this push, for `after`.
    decided: Map<Seq, Decided>,
    pub(crate) run: Option<Run>,
    heads: Map<Scope, Position>,
    results: Vec<Json>,
}

/// The outcome of an element, and what it did to others.
#[derive(Clone)]
pub(crate) struct Decided {
    pub(crate) outcome: Outcome,
    /// Where it stood.
    pub(crate) base: Version,
    /// What another writer had there (C2).
    pub(crate) overwritten: Fields,
}

/// What is known of a seq that has been here before.
enum Known {
    /// Acknowledged.
    Settled,
    /// Decided, with this outcome.
    Outcome(Json),
    /// With other bytes.
    Reused,
}

impl From<Outcome> for Decided {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, base: Version::ZERO, overwritten: Fields::new() }
    }
}

type Judged<T> = Result<T, ServerError>;

impl Judge<'_> {
    fn sub(&self) -> &str {
        &self.push.identity.sub
    }
    fn client(&self) -> &ClientId {
        &self.push.request.client_id
    }

    fn answer(self, epoch: Epoch) -> PushResponse {
        PushResponse { server_time: self.push.now, epoch, head: self.heads, results: self.results }
    }

    fn unit(&mut self, unit: &Unit) -> Judged<()> {
        let members = &self.push.elements[unit.range.clone()];
        let mut answers = Vec::with_capacity(members.len());
        for (index, member) in unit.range.clone().zip(members) {
            let known = match self.known.get_mut(index).and_then(Option::take) {
                None if self.decided.contains_key(&member.seq) => self.recall(member)?,
                known => known,
            };
            let status = match known {
                Some(Known::Outcome(answer)) => {
                    answers.push(Some(answer));
                    continue;
                }
                Some(Known::Settled) => Some(ResultStatus::AlreadySettled),
                Some(Known::Reused) => Some(ResultStatus::KeyReused),
                None => self.is_copy.then_some(ResultStatus::KeyReused),
            };
            answers.push(status.map(|status| to_json(&Outcome::new(member.seq, status))).transpose()?);
        }
        // A member that was decided before can only come with the whole group, or the group was torn.
        let torn = unit.group && answers.iter().any(Option::is_some);
        let refusal = if torn { Some("A part of this group was decided before.") } else { unit.refusal };
        match refusal {
            Some(reason) => {
                for (member, answer) in members.iter().zip(answers) {
                    let refused = || Outcome::rejected(member.seq, RejectCode::MALFORMED, reason);
                    self.answer_with(member, answer, refused)?;
                }
                Ok(())
            }
            None if unit.group => self.group(members),
            None => {
                for (member, answer) in members.iter().zip(answers) {
                    match answer {
                        Some(answer) => self.results.push(answer),
                        None => {
                            let decided = self.judge(member)?;
                            self.settle(member, decided)?;
                        }
                    }
                }
                Ok(())
            }
        }
    }

    fn answer_with(&mut self, member: &Element, answer: Option<Json>, outcome: impl FnOnce() -> Outcome) -> Judged<()> {
        match answer {
            Some(answer) => self.results.push(answer),
            None => self.settle(member, outcome().into())?,
        }
        Ok(())
    }

    /// What is known of a seq; of one of this push, what was decided earlier in it.
    fn recall(&self, element: &Element) -> Judged<Option<Known>> {
        if element.seq <= self.acked_through {
            return Ok(Some(Known::Settled));
        }
        if element.seq > self.last_seq && !self.decided.contains_key(&element.seq) {
            return Ok(None);
        }
        let Some(stored) = self.db.outcome(self.sub(), self.client(), element.seq)? else { return Ok(None) };
        // A void settles its seq whatever else was sent under it, before or after.
        let same = stored.hash.is_empty() || element.content == Content::Void || stored.hash == element.hash;
        if !same {
            return Ok(Some(Known::Reused));
        }
        let answer = Json::parse(&stored.text).map_err(|_| StoreError::Corrupt("an outcome is no JSON"))?;
        Ok(Some(Known::Outcome(answer)))
    }

    /// Judges a group whole: all members take effect or none does.
    fn group(&mut self, members: &[Element]) -> Judged<()> {
        let scope = members.iter().find_map(mutation_of).map(|mutation| mutation.scope.clone());
        let mut cause = None;
        if let Some(scope) = scope.filter(|scope| self.push.identity.holds(scope)) {
            // The counter is locked outside the savepoint.
            self.enter(&scope)?;
            cause = self.blocked_in(members)?;
        }
        let run_before = self.run.clone();
        self.db.savepoint()?;
        let mut answers: Vec<Decided> = Vec::with_capacity(members.len());
        while cause.is_none()
            && let Some(member) = members.get(answers.len())
        {
            let decided = self.judge(member)?;
            cause = (!decided.outcome.took_effect()).then(|| decided.outcome.clone());
            self.decided.insert(member.seq, decided.clone());
            answers.push(decided);
        }
        match &cause {
            None => self.db.release()?,
            Some(cause) => {
                self.db.rollback()?;
                self.run = run_before;
                for member in members {
                    self.decided.remove(&member.seq);
                }
                answers.clear();
                for member in members {
                    let base =
                        mutation_of(member).map(|mutation| self.base_of(mutation)).transpose()?.unwrap_or_default();
                    let decided = Decided { base, ..self.undone(member, cause)?.into() };
                    self.decided.insert(member.seq, decided.clone());
                    answers.push(decided);
                }
            }
        }
        for (member, decided) in members.iter().zip(answers) {
            self.settle(member, decided)?;
        }
        Ok(())
    }

    /// The outcome of a group's member when `cause` undid the group. What the record is, is looked up again: the group's
    /// own changes of it are gone.
    fn undone(&mut self, member: &Element, cause: &Outcome) -> Judged<Outcome> {
        let Some(mutation) = mutation_of(member) else {
            return Ok(if cause.seq == member.seq { cause.clone() } else { group_refused(member.seq, cause) });
        };
        let mut outcome = if cause.seq == member.seq { cause.clone() } else { group_refused(member.seq, cause) };
        if cause.status == ResultStatus::Superseded || outcome.version.is_some() {
            let stored = self.stored(mutation)?;
            let shown =
                self.with_situation(mutation, stored.as_ref(), |situation| superseded(situation, member.seq))?;
            let Outcome { version, record, deleted, .. } = shown.outcome;
            if cause.status == ResultStatus::Superseded {
                outcome = Outcome::new(member.seq, ResultStatus::Superseded);
            }
            (outcome.version, outcome.record, outcome.deleted) = (version, record, deleted);
        }
        Ok(self.placed(mutation, outcome))
    }

    /// Says where the outcome was decided: at the counter as it stands after its effect.
    pub(crate) fn placed(&self, mutation: &Mutation, mut outcome: Outcome) -> Outcome {
        if let Some(run) = self.run.as_ref().filter(|run| run.scope == mutation.scope) {
            outcome.scope = Some(run.scope.clone());
            outcome.position = Some(run.current());
        }
        outcome
    }

    /// Stores the outcome of an element, with audit and conflict rows.
    fn settle(&mut self, element: &Element, decided: Decided) -> Judged<()> {
        let outcome = &decided.outcome;
        let answer = to_json(outcome)?;
        let hash = if element.content == Content::Void { Vec::new() } else { element.hash.to_vec() };
        let stored = StoredOutcome { hash, text: answer.text().to_owned(), base: decided.base };
        let (sub, client, now) = (self.sub(), self.client(), self.push.now);
        self.db.put_outcome(sub, client, element.seq, &stored, now)?;
        if let Some(mutation) = mutation_of(element) {
            let op = match mutation.op {
                Op::Create => "create",
                Op::Update => "update",
                Op::Delete => "delete",
            };
            let row = AuditRow { at: now, sub, client, key: &mutation.key(), op, outcome };
            self.db.audit(&row)?;
            let may_have_lost =
                matches!(outcome.status, ResultStatus::Superseded | ResultStatus::Conflict | ResultStatus::Merged);
            if may_have_lost || !decided.overwritten.is_empty() {
                self.db.keep_conflict(&row, element.text.text(), &decided.overwritten)?;
            }
        }
        self.decided.insert(element.seq, decided);
        self.results.push(answer);
        Ok(())
    }
}

fn group_refused(seq: Seq, cause: &Outcome) -> Outcome {
    let mut outcome =
        Outcome::rejected(seq, RejectCode::GROUP_REFUSED, "Another change of the same group was refused.");
    outcome.by = Some(cause.seq);
    outcome
}

fn mutation_of(element: &Element) -> Option<&Mutation> {
    match &element.content {
        Content::Mutation(mutation) => Some(mutation),
        Content::Void | Content::Refused { .. } => None,
    }
}

fn to_json(outcome: &Outcome) -> Judged<Json> {
    let text = serde_json::to_string(outcome).map_err(|_| StoreError::Corrupt("an outcome is no JSON"))?;
    Ok(Json::parse(&text).map_err(|_| StoreError::Corrupt("an outcome is no JSON"))?)
}
