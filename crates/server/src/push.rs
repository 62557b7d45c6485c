//! A push, judged in the transaction that writes it.
//!
//! Invariant: a seq gets its outcome, its effect and its audit row in one commit, at most once (S1). What a
//! repeat is answered is the stored text (S2). A group is undone to its savepoint as soon as one member has no effect (S5).

use crate::auth::Identity;
use crate::collections::{Collection, Collections};
use crate::error::ServerError;
use crate::group::{Unit, units};
use crate::ledger::ledger;
use crate::links;
use crate::mutation::{Content, Element, record_bytes};
use crate::review::is_decision;
use crate::run::Run;
use crate::store::{AuditRow, ClientRow, StoreError, StoredOutcome, Transaction};
use landfall_core::authority::{Situation, Stored, Verdict, decide, superseded};
use landfall_core::policy::{Policy, nanos};
use landfall_protocol::limits::{HLC_AHEAD_MS_MAX, NOT_FUTURE_MS, RECORD_BYTES_MAX};
use landfall_protocol::{
    ClientId, Epoch, Fields, Json, Map, Mutation, Op, Outcome, Position, PushRequest, PushResponse, RecordKey,
    RejectCode, ResultStatus, Scope, Seq, UnixMillis, Version,
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
    if request.epoch.as_ref().is_some_and(|theirs| *theirs != epoch) {
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
        writer: format!("{sub} {}", request.client_id),
        decided: Map::new(),
        run: None,
        heads: Map::new(),
        results: Vec::with_capacity(push.elements.len()),
    };
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
        for member in members {
            answers.push(self.known(member)?);
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

    /// The answer to a seq that has been here before.
    fn known(&self, element: &Element) -> Judged<Option<Json>> {
        if element.seq <= self.acked_through {
            return Ok(Some(to_json(&Outcome::new(element.seq, ResultStatus::AlreadySettled))?));
        }
        if element.seq > self.last_seq && !self.decided.contains_key(&element.seq) {
            return Ok(None);
        }
        let Some(stored) = self.db.outcome(self.sub(), self.client(), element.seq)? else { return Ok(None) };
        // A void settles its seq whatever else was sent under it, before or after.
        let same = stored.hash.is_empty() || element.content == Content::Void || stored.hash == element.hash;
        if !same {
            return Ok(Some(to_json(&Outcome::new(element.seq, ResultStatus::KeyReused))?));
        }
        Ok(Some(Json::parse(&stored.text).map_err(|_| StoreError::Corrupt("an outcome is no JSON"))?))
    }

    /// Judges a group whole: all members take effect or none does.
    fn group(&mut self, members: &[Element]) -> Judged<()> {
        let scope = members.iter().find_map(mutation_of).map(|mutation| mutation.scope.clone());
        if let Some(scope) = scope.filter(|scope| self.push.identity.holds(scope)) {
            // The counter is locked outside the savepoint.
            self.enter(&scope)?;
        }
        let run_before = self.run.clone();
        self.db.savepoint()?;
        let mut answers: Vec<Decided> = Vec::with_capacity(members.len());
        for member in members {
            let decided = self.judge(member)?;
            let took_effect = decided.outcome.took_effect();
            self.decided.insert(member.seq, decided.clone());
            answers.push(decided);
            if !took_effect {
                break;
            }
        }
        let cause = answers.last().map(|last| &last.outcome).filter(|outcome| !outcome.took_effect()).cloned();
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
                    let base = mutation_of(member).map(|mutation| self.base_of(mutation)).unwrap_or_default();
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

    /// Judges one new element and writes its effect.
    fn judge(&mut self, element: &Element) -> Judged<Decided> {
        let mutation = match &element.content {
            Content::Mutation(mutation) => mutation,
            Content::Refused { outcome, .. } => return Ok((**outcome).clone().into()),
            Content::Void => {
                let text = "It was taken back before it arrived.";
                return Ok(Outcome::rejected(element.seq, RejectCode::VOID, text).into());
            }
        };
        if let Some(outcome) = self.not_allowed(mutation) {
            return Ok(outcome.into());
        }
        self.enter(&mutation.scope)?;
        if is_decision(mutation) { self.decide_review(mutation) } else { self.judge_allowed(mutation) }
    }

    /// Judges a mutation that its user may make, and writes its effect into the run.
    pub(crate) fn judge_allowed(&mut self, mutation: &Mutation) -> Judged<Decided> {
        let before = self.stored(mutation)?;
        let stored = before.as_ref();
        let verdict = self.with_situation(mutation, stored, |situation| decide(situation, mutation))?;
        let base = self.base_of(mutation);
        if let Some(role) = &verdict.reviewer {
            self.open_review(mutation, &verdict.outcome, role)?;
        }
        let Some(effect) = verdict.effect else {
            let outcome = self.placed(mutation, verdict.outcome);
            return Ok(Decided { base, ..outcome.into() });
        };
        let mut refused = self.not_valid(mutation, &effect.stored);
        if refused.is_none() && !effect.stored.deleted {
            let fields = &effect.stored.fields;
            refused = links::refusal(self.db, &self.push.identity, self.collections, mutation, stored, fields)?;
        }
        if let Some(refused) = refused {
            return Ok(self.placed(mutation, refused).into());
        }
        if effect.stored.deleted && links::is_parent(self.collections, &mutation.collection) {
            match links::cascade(self.db, self.collections, mutation)? {
                Err(refused) => return Ok(self.placed(mutation, *refused).into()),
                Ok(children) => {
                    for key in children {
                        self.delete_child(&key, &effect.stored)?;
                    }
                }
            }
        }
        let live_before = stored.filter(|stored| !stored.deleted).map(|stored| stored.version);
        self.write(&mutation.key(), &effect.stored, live_before)?;
        let outcome = self.placed(mutation, verdict.outcome);
        Ok(Decided { outcome, base, overwritten: verdict.overwritten })
    }

    fn write(&mut self, key: &RecordKey, stored: &Stored, live_before: Option<Version>) -> Judged<()> {
        let Some(run) = &mut self.run else { return Err(StoreError::Corrupt("BUG: no scope was entered").into()) };
        run.write(self.db, key, stored, live_before, &self.push.identity.sub, self.push.now)?;
        let collection = self.collections.get(&key.collection);
        if let Some(collection) = collection.filter(|known| known.unique.len() > 1 || !known.references.is_empty()) {
            let links = if stored.deleted { Vec::new() } else { links::links(key, collection, &stored.fields) };
            self.db.put_links(key, &links)?;
        }
        Ok(())
    }

    /// A record that goes with its parent.
    fn delete_child(&mut self, key: &RecordKey, parent: &Stored) -> Judged<()> {
        let Some(row) = self.db.record(key)? else { return Ok(()) };
        let before = row.stored.version;
        let floor = self.run.as_ref().map(Run::version_floor).unwrap_or_default();
        let stored = Stored {
            version: before.max(floor).next(),
            deleted: true,
            stamp: parent.stamp.clone().max(row.stored.stamp.clone()),
            client: parent.client.clone(),
            seq: parent.seq,
            ..row.stored
        };
        self.write(key, &stored, Some(before))
    }

    /// The record now, as this push's client may know it.
    fn stored(&self, mutation: &Mutation) -> Judged<Option<Stored>> {
        let found = self.db.record(&mutation.key())?;
        Ok(found.map(|mut row| {
            if row.sub != self.sub() {
                // Another user's client may bear the same id.
                row.stored.client = ClientId::default();
            }
            row.stored
        }))
    }

    /// The version that a mutation without effect stood on, for who comes after it in this push.
    fn base_of(&self, mutation: &Mutation) -> Version {
        let before = mutation.after.and_then(|after| self.decided.get(&after));
        let before = before.map(|before| match before.outcome.took_effect() {
            true => before.outcome.version.unwrap_or_default(),
            false => before.base,
        });
        mutation.base.or(before).unwrap_or_default()
    }

    /// Permission: "not yours" and "not there" are one answer.
    fn not_allowed(&self, mutation: &Mutation) -> Option<Outcome> {
        let refuse = |code: &str, message: &str| Some(Outcome::rejected(mutation.seq, code, message));
        if !self.push.identity.holds(&mutation.scope) {
            return refuse(RejectCode::FORBIDDEN, "You have no access to this.");
        }
        if is_decision(mutation) {
            return None;
        }
        let Some(collection) = self.collections.get(&mutation.collection) else {
            return refuse(RejectCode::UNKNOWN_COLLECTION, "The server does not know this collection.");
        };
        if !collection.template.fits(&mutation.scope) || !collection.may_write(&self.push.identity.roles) {
            return refuse(RejectCode::FORBIDDEN, "You may not write this collection here.");
        }
        None
    }

    /// Size, schema and scope template of what would be stored.
    fn not_valid(&self, mutation: &Mutation, stored: &Stored) -> Option<Outcome> {
        if mutation.op == Op::Delete {
            return None;
        }
        let collection = self.collections.get(&mutation.collection)?;
        if record_bytes(&stored.fields) > RECORD_BYTES_MAX {
            return Some(Outcome::rejected(mutation.seq, RejectCode::TOO_LARGE, "The record is larger than 256 KB."));
        }
        if let Some(outcome) = self.in_future(mutation, collection) {
            return Some(outcome);
        }
        let (code, message, fields) = match collection.template.mismatches(&mutation.scope, &stored.fields) {
            wrong if !wrong.is_empty() && mutation.op == Op::Update => {
                (RejectCode::IMMUTABLE, "These values say whose the record is and cannot change.", wrong)
            }
            wrong if !wrong.is_empty() => (RejectCode::VALIDATION, "Some values are not valid.", wrong),
            _ => (
                RejectCode::VALIDATION,
                "Some values are not valid.",
                collection.refusals(&stored.fields, &self.push.identity.scopes),
            ),
        };
        (!fields.is_empty())
            .then(|| Outcome { fields: fields.into_iter().collect(), ..Outcome::rejected(mutation.seq, code, message) })
    }

    /// Only declared fields are refused for their time, and only when this mutation says it.
    fn in_future(&self, mutation: &Mutation, collection: &Collection) -> Option<Outcome> {
        let limit = i128::from(self.push.now.get() + NOT_FUTURE_MS) * 1_000_000;
        let text = "This time lies in the future. Is the clock of the device right?";
        let mut outcome = Outcome::rejected(mutation.seq, RejectCode::NOT_FUTURE, text);
        for name in &collection.not_future {
            if mutation.set.get(name).and_then(nanos).is_some_and(|time| time > limit) {
                outcome.fields.insert(name.clone(), "lies in the future".to_owned());
            }
        }
        (!outcome.fields.is_empty()).then_some(outcome)
    }

    /// Makes `scope` the scope of the current run, with its counter locked.
    fn enter(&mut self, scope: &Scope) -> Judged<()> {
        if self.run.as_ref().is_some_and(|run| run.scope == *scope) {
            return Ok(());
        }
        self.end_run()?;
        self.run = Some(Run::start(self.db, scope)?);
        Ok(())
    }

    fn end_run(&mut self) -> Judged<()> {
        if let Some(run) = self.run.take() {
            self.heads.insert(run.scope.clone(), run.end(self.db)?);
        }
        Ok(())
    }

    /// Asks the authority.
    fn with_situation(
        &self,
        mutation: &Mutation,
        stored: Option<&Stored>,
        ask: impl FnOnce(&Situation<'_>) -> Verdict,
    ) -> Judged<Verdict> {
        let after = mutation.after.map(|after| self.outcome_of(after, stored)).transpose()?.flatten();
        let stamp = mutation.stamp.clamped(self.push.now.get(), HLC_AHEAD_MS_MAX);
        let run = self.run.as_ref();
        let standard = Policy::default();
        Ok(ask(&Situation {
            policy: self.collections.get(&mutation.collection).map_or(&standard, |known| &known.policy),
            stored,
            version_floor: run.map(|run| run.version_floor()).unwrap_or_default(),
            client: self.client(),
            writer: &self.writer,
            roles: &self.push.identity.roles,
            after: after.as_ref(),
            after_base: self.base_of(mutation),
            position: run.map(Run::next).unwrap_or_default(),
            stamp: &stamp,
        }))
    }

    /// The outcome of an earlier mutation of this client, as far as it is still known.
    fn outcome_of(&self, seq: Seq, stored: Option<&Stored>) -> Judged<Option<Outcome>> {
        if let Some(decided) = self.decided.get(&seq) {
            return Ok(Some(decided.outcome.clone()));
        }
        if let Some(found) = self.db.outcome(self.sub(), self.client(), seq)? {
            let outcome = serde_json::from_str(&found.text);
            return Ok(Some(outcome.map_err(|_| StoreError::Corrupt("an outcome is no JSON"))?));
        }
        // Acknowledged and forgotten; that it was the last to write the record is still to be seen there.
        let last = stored.filter(|stored| stored.client == *self.client() && stored.seq == seq);
        Ok(last.map(|stored| {
            let mut outcome = Outcome::new(seq, ResultStatus::Applied);
            outcome.version = Some(stored.version);
            outcome
        }))
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
        let stored = StoredOutcome { hash, text: answer.text().to_owned() };
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
