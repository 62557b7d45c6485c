//! Pushes: runs of one transaction each, groups, the ledger of a client, the authority's word on each mutation.

use super::{Caller, ClientLedger, CrashAt, LogRow, Moved, Server, error, ok, to_json};
use crate::model::{Cascaded, Verdict as Seen, plain};
use crate::policy::MANAGER;
use crate::world::Guard;
use landfall_core::authority::{Loss, Situation, Stored, blocked, decide, superseded};
use landfall_core::plant::{Plant, planted};
use landfall_core::policy::Policy;
use landfall_core::review::CONFLICTS;
use landfall_protocol::{
    ClientId, ErrorCode, Json, Mutation, Op, Outcome, Overruled, Position, PushMutation, PushRequest, PushResponse,
    RecordKey, RejectCode, ResultStatus, Scope, Seq, Stamp, UnixMillis, Version, limits,
};
use landfall_replica::HttpResponse;
use std::collections::BTreeSet;

impl Server {
    pub(super) fn push(
        &mut self,
        now: u64,
        profile: usize,
        caller: &Caller,
        body: &str,
    ) -> Option<(HttpResponse, Moved)> {
        let crash = self.crash.take();
        if let Some((CrashAt::BeforeCommit, until)) = crash {
            if let Some(unflushed) = self.unflushed.take() {
                self.data = unflushed;
            }
            self.down_until = until;
            return None;
        }
        let Ok(request) = serde_json::from_str::<PushRequest>(body) else {
            return Some((error(400, ErrorCode::MALFORMED), Moved::new()));
        };
        let user = caller.user.as_str();
        if request.user != user && !planted(Plant::UserNotCompared) {
            return Some((error(403, ErrorCode::WRONG_USER), Moved::new()));
        }
        let client = (user.to_owned(), request.client_id.clone());
        // A push of no epoch may be a late double of a first one from before a backup was put back.
        if request.epoch.as_ref().map_or(self.data.epoch > 1, |theirs| *theirs != self.epoch()) {
            return Some((self.reset_required(&client), Moved::new()));
        }
        let known = self.data.clients.get(&client);
        if known.is_none() && (request.acked_through > Seq::ZERO || !request.first_push) {
            return Some((error(409, ErrorCode::CLIENT_FORK), Moved::new()));
        }
        let mut parsed = Vec::new();
        for text in &request.mutations {
            match PushMutation::parse(text.text()) {
                Ok(mutation) => parsed.push(mutation),
                Err(_) => return Some((error(400, ErrorCode::MALFORMED), Moved::new())),
            }
        }
        self.model.borrow_mut().acknowledged_through(profile, request.client_id.as_str(), request.acked_through.get());
        let ledger = self.data.clients.entry(client.clone()).or_default();
        ledger.acked_through = ledger.acked_through.max(request.acked_through.get());
        let before = self.heads();
        if planted(Plant::AnswerBeforeCommit) {
            self.unflushed = Some(self.data.clone());
        }
        let mut push = Push {
            server: self,
            now,
            profile,
            client: client.clone(),
            caller,
            cascades: Vec::new(),
            is_copy: false,
            run: None,
            results: Vec::new(),
        };
        let is_reused = |(element, text): (&PushMutation, &Json)| push.is_reused(element, text.text());
        push.is_copy = parsed.iter().zip(&request.mutations).any(is_reused);
        let mut at = 0;
        let mut runs = 0;
        while at < parsed.len() {
            let end = unit_end(&parsed, at);
            if push.enter(&parsed[at]) {
                runs += 1;
                if runs == 2
                    && let Some((CrashAt::Between, until)) = crash
                {
                    self.down_until = until;
                    return None;
                }
            }
            push.unit(&parsed[at..end], &request.mutations[at..end]);
            at = end;
        }
        push.review_some();
        let results = push.results;
        if let Some(ledger) = self.data.clients.get_mut(&client) {
            let through = ledger.acked_through;
            ledger.outcomes.retain(|seq, _| *seq > through);
            ledger.bases.retain(|seq, _| seq.get() > through);
        }
        let after = self.heads();
        let moved = after.iter().filter(|(scope, head)| before.get(*scope) != Some(*head));
        let moved: Moved = moved.map(|(scope, head)| (scope.clone(), *head)).collect();
        if let Some((CrashAt::AfterCommit | CrashAt::Between, until)) = crash {
            self.down_until = until;
            return None;
        }
        let head = moved.iter().map(|(scope, head)| (scope.clone(), Position(*head))).collect();
        let answer = PushResponse { server_time: UnixMillis(now), epoch: self.epoch(), head, results };
        Some((ok(&answer), moved))
    }
}

fn unit_end(parsed: &[PushMutation], at: usize) -> usize {
    let group = |element: &PushMutation| match element {
        PushMutation::Mutation(mutation) => mutation.group.clone(),
        PushMutation::Void(_) => None,
    };
    let own = group(&parsed[at]);
    if own.is_none() {
        return at + 1;
    }
    at + parsed[at..].iter().take_while(|element| group(element) == own).count()
}

/// Consecutive mutations of one scope: one transaction, one position.
#[derive(Clone)]
struct Run {
    scope: Scope,
    wrote: bool,
}

pub(super) struct Push<'a> {
    pub(super) server: &'a mut Server,
    pub(super) now: u64,
    profile: usize,
    pub(super) client: (String, ClientId),
    caller: &'a Caller,
    /// Children that went with what the mutation of this seq deleted.
    pub(super) cascades: Vec<(Seq, Cascaded)>,
    /// A seq of it is another copy's: nothing of it is judged.
    is_copy: bool,
    run: Option<Run>,
    results: Vec<Json>,
}

/// What a judged mutation would write: key, record, its position.
pub(super) type Effect = Option<(RecordKey, Stored, u64)>;

impl Push<'_> {
    /// True when a new run begins.
    fn enter(&mut self, element: &PushMutation) -> bool {
        let PushMutation::Mutation(mutation) = element else { return false };
        if self.run.as_ref().is_some_and(|run| run.scope == mutation.scope) {
            return false;
        }
        self.run = Some(Run { scope: mutation.scope.clone(), wrote: false });
        true
    }

    fn ledger(&mut self) -> &mut ClientLedger {
        self.server.data.clients.entry(self.client.clone()).or_default()
    }

    /// Known with other bytes.
    fn is_reused(&self, element: &PushMutation, sent: &str) -> bool {
        let is_void = matches!(element, PushMutation::Void(_)) || planted(Plant::ServerIgnoresHash);
        let Some(ledger) = self.server.data.clients.get(&self.client).filter(|_| !is_void) else { return false };
        let seq = element.seq().get();
        let known = ledger.outcomes.get(&seq).filter(|_| seq > ledger.acked_through);
        known.is_some_and(|(text, _)| !text.is_empty() && text != sent)
    }

    fn known(&mut self, element: &PushMutation, sent: &str) -> Option<Json> {
        let seq = element.seq();
        if self.is_reused(element, sent) {
            return to_json(&Outcome::new(seq, ResultStatus::KeyReused));
        }
        let is_copy = self.is_copy;
        let ledger = self.ledger();
        if seq.get() <= ledger.acked_through {
            return to_json(&Outcome::new(seq, ResultStatus::AlreadySettled));
        }
        match ledger.outcomes.get(&seq.get()) {
            Some((_, answer)) => Some(answer.clone()),
            None if is_copy => to_json(&Outcome::new(seq, ResultStatus::KeyReused)),
            None => None,
        }
    }

    fn unit(&mut self, members: &[PushMutation], texts: &[Json]) {
        let mut judged: Vec<(Outcome, Effect)> = Vec::new();
        let undo = self.server.data.scopes.clone_if(members.len() > 1);
        let run = self.run.clone();
        let first_known: Vec<Option<Json>> =
            members.iter().zip(texts).map(|(member, text)| self.known(member, text.text())).collect();
        if first_known.iter().all(Option::is_some) {
            for (answer, (member, text)) in first_known.into_iter().zip(members.iter().zip(texts)) {
                self.answer(member, text.text(), answer.unwrap_or_else(Json::null));
            }
            return;
        }
        if members.len() > 1 && first_known.iter().any(Option::is_some) {
            // A torn group: what is new of it is refused.
            for (answer, (member, text)) in first_known.into_iter().zip(members.iter().zip(texts)) {
                match answer {
                    Some(answer) => self.answer(member, text.text(), answer),
                    None => {
                        let outcome = Outcome::rejected(member.seq(), RejectCode::MALFORMED, "torn group");
                        self.settle(member, text.text(), outcome, None);
                    }
                }
            }
            return;
        }
        if members.len() > 1 {
            judged.extend(self.blocked_in(members).map(|outcome| (outcome, None)));
        }
        let is_blocked = !judged.is_empty();
        for member in members.iter().take_while(|_| !is_blocked) {
            let one = self.judge(member, &judged);
            let failed = !one.0.took_effect();
            if let Some((key, stored, position)) = &one.1 {
                self.write(key, stored, *position);
            }
            judged.push(one);
            if failed && members.len() > 1 {
                break;
            }
        }
        if let Some(undo) = undo
            && judged.last().is_some_and(|(outcome, _)| !outcome.took_effect())
        {
            self.server.data.scopes = undo;
            self.run = run;
            self.cascades.clear();
            let cause = judged.pop().map(|(outcome, _)| outcome);
            // Those behind the one that failed were not judged: they stood somewhere, too.
            for member in members {
                if let PushMutation::Mutation(mutation) = member {
                    let base = self.base_of(mutation);
                    self.ledger().bases.insert(mutation.seq, base);
                }
            }
            judged = members.iter().map(|member| (self.undone(member, cause.as_ref()), None)).collect();
        }
        let mut answers = Vec::new();
        for ((member, text), (outcome, effect)) in members.iter().zip(texts).zip(judged) {
            answers.push(outcome.clone());
            self.settle(member, text.text(), outcome, effect);
        }
        let items: Vec<(&Mutation, &str, &Outcome)> = members
            .iter()
            .zip(texts)
            .zip(&answers)
            .filter_map(|((member, text), outcome)| match member {
                PushMutation::Mutation(mutation) => Some((&**mutation, text.text(), outcome)),
                PushMutation::Void(_) => None,
            })
            .collect();
        self.server.model.borrow_mut().groups(self.profile, &items);
    }

    /// A member stands on something before the group that was refused: so is the group.
    fn blocked_in(&mut self, members: &[PushMutation]) -> Option<Outcome> {
        members.iter().find_map(|member| {
            let PushMutation::Mutation(mutation) = member else { return None };
            let after = mutation.after.filter(|after| members.iter().all(|other| other.seq() != *after))?;
            let stored = self.stored(&mutation.key());
            let given = self.outcome_of(after, stored.as_ref());
            blocked(mutation, given.as_ref()).map(|outcome| self.placed(mutation, outcome))
        })
    }

    fn undone(&mut self, member: &PushMutation, cause: Option<&Outcome>) -> Outcome {
        let (PushMutation::Mutation(mutation), Some(cause)) = (member, cause) else {
            return Outcome::rejected(member.seq(), RejectCode::MALFORMED, "no group");
        };
        if cause.status == ResultStatus::Superseded {
            let stored = self.stored(&mutation.key());
            let outcome =
                self.with_situation(mutation, stored.as_ref(), None, |situation| superseded(situation, mutation.seq));
            return self.placed(mutation, outcome.outcome);
        }
        if cause.seq == member.seq() {
            let mut cause = cause.clone();
            if cause.version.is_some() {
                // The group's own changes of it are gone.
                let stored = self.stored(&mutation.key());
                let shown = self.with_situation(mutation, stored.as_ref(), None, |now| superseded(now, mutation.seq));
                cause.version = shown.outcome.version;
                cause.record = shown.outcome.record;
                cause.deleted = shown.outcome.deleted;
            }
            return self.placed(mutation, cause);
        }
        let mut outcome = Outcome::rejected(member.seq(), RejectCode::GROUP_REFUSED, "Another change was refused.");
        outcome.by = Some(cause.seq);
        self.placed(mutation, outcome)
    }

    pub(super) fn stored(&self, key: &RecordKey) -> Option<Stored> {
        let records = self.server.data.scopes.get(&key.scope)?.records.get(&key.collection)?;
        records.get(&key.id).map(|(_, stored)| stored.clone())
    }

    fn judge(&mut self, member: &PushMutation, earlier: &[(Outcome, Effect)]) -> (Outcome, Effect) {
        let mutation = match member {
            PushMutation::Void(seq) => return (Outcome::rejected(*seq, RejectCode::VOID, "taken back"), None),
            PushMutation::Mutation(mutation) => mutation,
        };
        if !self.server.may(&self.client.0, &mutation.scope) {
            return (Outcome::rejected(mutation.seq, RejectCode::FORBIDDEN, "no access"), None);
        }
        let is_manager = self.is_manager(mutation);
        if self.server.guard != Guard::Nothing && mutation.collection.as_str() == "stock" && !is_manager {
            return (Outcome::rejected(mutation.seq, RejectCode::FORBIDDEN, "not for this role"), None);
        }
        if !self.server.readable(&mutation.collection, &mutation.scope, is_manager) {
            return (Outcome::rejected(mutation.seq, RejectCode::UNKNOWN_COLLECTION, "unknown"), None);
        }
        if mutation.collection.as_str() == CONFLICTS {
            return self.judge_decision(mutation);
        }
        let stored = self.stored(&mutation.key());
        let mut judged = (**mutation).clone();
        if planted(Plant::ServerIgnoresBase) && stored.is_some() {
            judged.after = None;
            judged.base = stored.as_ref().map(|stored| stored.version);
        }
        let after = judged.after.and_then(|after| {
            let earlier = earlier.iter().map(|(outcome, _)| outcome).find(|outcome| outcome.seq == after).cloned();
            earlier.or_else(|| self.outcome_of(after, stored.as_ref()))
        });
        let verdict =
            self.with_situation(&judged, stored.as_ref(), after.as_ref(), |situation| decide(situation, &judged));
        let base = self.base_of(mutation);
        self.ledger().bases.insert(mutation.seq, base);
        if let Some(role) = &verdict.reviewer {
            self.open_review(mutation, &verdict.outcome, role);
        }
        let Some(effect) = verdict.effect else { return (self.placed(mutation, verdict.outcome), None) };
        if mutation.op != Op::Delete && effect.stored.fields.get("bad").is_some_and(|bad| bad.text() == "true") {
            let mut outcome = Outcome::rejected(mutation.seq, RejectCode::VALIDATION, "Some values are not valid.");
            outcome.fields.insert("bad".to_owned(), "must not be".to_owned());
            return (self.placed(mutation, outcome), None);
        }
        let refused = self.family_refusal(mutation, stored.as_ref(), &effect.stored);
        if let Some(refused) = refused.or_else(|| self.key_refusal(mutation, stored.as_ref(), &effect.stored)) {
            return (self.placed(mutation, refused), None);
        }
        let position = self.take_position();
        self.cascade(mutation, &effect.stored, position);
        self.tell(mutation, position, verdict.overruled);
        (self.placed(mutation, verdict.outcome), Some((mutation.key(), effect.stored, position)))
    }

    /// Whoever lost something is told with the page that brings this.
    fn tell(&mut self, mutation: &Mutation, position: u64, losses: Vec<Loss>) {
        let last = self.stored(&mutation.key()).map(|stored| stored.client).unwrap_or_default();
        let clients = self.server.data.clients.keys();
        let last = clients.into_iter().find(|(_, client)| *client == last).map(|(user, _)| user.clone());
        let scope = self.server.data.scopes.entry(mutation.scope.clone()).or_default();
        for loss in losses {
            let writer = loss.writer.as_deref().and_then(|writer| writer.split(' ').next()).map(str::to_owned);
            let Some(user) = writer.or_else(|| last.clone()) else { continue };
            let (key, position) = (mutation.key(), Position(position));
            let told = |(who, _, told): &(String, ClientId, Overruled)| {
                *who == user && told.position == position && (&told.collection, &told.id) == (&key.collection, &key.id)
            };
            if !scope.overruled.iter().any(told) {
                let RecordKey { scope: of, collection, id } = key;
                let (at, code) = (UnixMillis(self.now), "overruled".to_owned());
                let Loss { op, fields, .. } = loss;
                let told = Overruled { scope: of, collection, id, position, at, op, code, fields, record: None };
                scope.overruled.push((user, self.client.1.clone(), told));
            }
        }
    }

    /// By the token of its sender, whatever it says itself (C4).
    pub(super) fn is_manager(&self, mutation: &Mutation) -> bool {
        self.caller.is_manager || (planted(Plant::RoleFromPayload) && mutation.set.contains_key("role"))
    }

    /// The position of what is written next, from now on the run's.
    pub(super) fn take_position(&mut self) -> u64 {
        let position = self.next_position();
        if let Some(run) = &mut self.run {
            run.wrote = true;
            self.server.data.scopes.entry(run.scope.clone()).or_default().position = position;
        }
        position
    }

    pub(super) fn next_position(&self) -> u64 {
        let Some(run) = &self.run else { return 0 };
        let Some(scope) = self.server.data.scopes.get(&run.scope) else { return 1 };
        if run.wrote { scope.position } else { scope.position + 1 }
    }

    pub(super) fn with_situation<T>(
        &mut self,
        mutation: &Mutation,
        stored: Option<&Stored>,
        after: Option<&Outcome>,
        ask: impl FnOnce(&Situation<'_>) -> T,
    ) -> T {
        let position = Position(self.next_position());
        let floor = self.server.data.scopes.get(&mutation.scope).map_or(0, |scope| scope.version_floor);
        let raw = planted(Plant::LwwByRawClock);
        let clamped = mutation.stamp.clamped(self.now, limits::HLC_AHEAD_MS_MAX);
        let stamp: Stamp = if raw { mutation.stamp.clone() } else { clamped };
        let standard = Policy::default();
        let manager = self.is_manager(mutation);
        let roles: BTreeSet<String> = manager.then(|| MANAGER.to_owned()).into_iter().collect();
        let base = self.base_of(mutation);
        let writer = format!("{} {}", self.client.0, self.client.1);
        ask(&Situation {
            policy: self.server.policies.get(&mutation.collection).unwrap_or(&standard),
            stored,
            version_floor: Version(floor),
            client: &self.client.1,
            writer: &writer,
            roles: &roles,
            after,
            after_base: base,
            position,
            stamp: &stamp,
        })
    }

    /// Where a mutation stands.
    fn base_of(&self, mutation: &Mutation) -> Version {
        let ledger = self.server.data.clients.get(&self.client);
        let before = mutation.after.and_then(|after| ledger?.bases.get(&after).copied());
        mutation.base.or(before).unwrap_or_default()
    }

    fn outcome_of(&mut self, seq: Seq, stored: Option<&Stored>) -> Option<Outcome> {
        let client = self.client.1.clone();
        if let Some((_, text)) = self.ledger().outcomes.get(&seq.get()) {
            return serde_json::from_str(text.text()).ok();
        }
        stored.filter(|stored| stored.client == client && stored.seq == seq).map(|stored| {
            let mut outcome = Outcome::new(seq, ResultStatus::Applied);
            outcome.version = Some(stored.version);
            outcome
        })
    }

    pub(super) fn placed(&mut self, mutation: &Mutation, mut outcome: Outcome) -> Outcome {
        if !self.server.may(&self.client.0, &mutation.scope) {
            // Where a scope stands is nobody's business who does not hold it (I1).
            return outcome;
        }
        outcome.scope = Some(mutation.scope.clone());
        let scope = self.server.data.scopes.entry(mutation.scope.clone()).or_default();
        outcome.position = Some(Position(scope.position));
        outcome
    }

    pub(super) fn write(&mut self, key: &RecordKey, stored: &Stored, position: u64) {
        let scope = self.server.data.scopes.entry(key.scope.clone()).or_default();
        let records = scope.records.entry(key.collection.clone()).or_default();
        let before = records.insert(key.id.clone(), (position, stored.clone()));
        let sum = scope.sums.entry(key.collection.clone()).or_default();
        if let Some((_, before)) = before.filter(|(_, before)| !before.deleted) {
            sum.remove(&key.id, before.version);
        }
        if !stored.deleted {
            sum.add(&key.id, stored.version);
        }
        scope.log.push(LogRow { position, at: self.now, key: key.clone(), stored: stored.clone() });
    }

    fn settle(&mut self, member: &PushMutation, sent: &str, outcome: Outcome, effect: Effect) {
        let seq = member.seq().get();
        if let Some(version) = outcome.version.filter(|_| outcome.took_effect()) {
            self.ledger().bases.insert(member.seq(), version);
        }
        let answer = to_json(&outcome).unwrap_or_else(Json::null);
        let mutation = match member {
            PushMutation::Mutation(mutation) => Some(&**mutation),
            PushMutation::Void(_) => None,
        };
        let kept = if mutation.is_some() { sent.to_owned() } else { String::new() };
        if !planted(Plant::ServerKeepsNoOutcome) {
            self.ledger().outcomes.insert(seq, (kept, answer.clone()));
        }
        let stamp = effect.as_ref().map(|(_, stored, _)| stored.stamp.0.clone());
        let effect = effect.map(|(_, stored, position)| {
            (position, stored.version.get(), (!stored.deleted).then(|| plain(&stored.fields)))
        });
        let cascaded: Vec<Cascaded> =
            self.cascades.extract_if(.., |(of, _)| *of == member.seq()).map(|it| it.1).collect();
        self.server.model.borrow_mut().decided(&Seen {
            profile: self.profile,
            client: self.client.1.as_str(),
            user: &self.client.0,
            token: &self.caller.token,
            sent,
            mutation,
            outcome: &outcome,
            now: self.now,
            stamp: stamp.as_deref(),
            answer: answer.text(),
            effect,
            cascaded: &cascaded,
        });
        self.answer(member, sent, answer);
    }

    fn answer(&mut self, member: &PushMutation, sent: &str, answer: Json) {
        let is_known = self.ledger().outcomes.contains_key(&member.seq().get());
        // What a copy of the client sends is not known and not judged either.
        let is_told = |outcome: &Outcome| outcome.status != ResultStatus::KeyReused || is_known || !self.is_copy;
        if let Some(outcome) = serde_json::from_str::<Outcome>(answer.text()).ok().filter(is_told) {
            let client = self.client.1.as_str();
            let mut model = self.server.model.borrow_mut();
            model.answered(client, member.seq().get(), sent, &outcome, answer.text());
        }
        self.results.push(answer);
    }
}

trait CloneIf: Sized {
    fn clone_if(&self, wanted: bool) -> Option<Self>;
}
impl<T: Clone> CloneIf for T {
    fn clone_if(&self, wanted: bool) -> Option<Self> {
        wanted.then(|| self.clone())
    }
}
