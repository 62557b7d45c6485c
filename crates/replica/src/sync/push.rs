//! Pushing: a stored batch goes out, its answer is settled, or the server knows this client otherwise.

use super::{STALE_MAX, error_of, known_epoch};
use crate::Replica;
use crate::db::{Committing, commit_base, commit_outbox};
use crate::host::{Host, HttpResponse, NetworkError};
use crate::report::Change;
use landfall_core::Base;
use landfall_core::batch::plan_batch;
use landfall_core::plan::OutboxTxn;
use landfall_core::plant::{Plant, planted};
use landfall_core::recover::{plan_fork, plan_named, plan_reset};
use landfall_core::retry::{plan_counted, plan_too_large};
use landfall_core::rows::{InFlight, LocalEnd};
use landfall_core::schedule::{Answer, Next, Request};
use landfall_core::settle::{SettlePlan, plan_settle};
use landfall_protocol::codec::{from_json, to_json};
use landfall_protocol::{
    ClientId, Epoch, ErrorBody, ErrorCode, Ledger, Listed, Outcome, PROTOCOL, PushRequest, PushResponse, UnixMillis,
};
use landfall_storage::ingest::plan_cold;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

/// One step sends batches for so long at most, so that other contexts have their turn.
const STEP_MS: u64 = 5_000;

/// A stored batch on its way.
struct Flight<'a> {
    client_id: ClientId,
    /// The server's as it was known when this was sent.
    epoch: Option<Epoch>,
    row_key: String,
    sent: Vec<InFlight>,
    started: UnixMillis,
    response: Pin<Box<dyn Future<Output = Result<HttpResponse, NetworkError>> + 'a>>,
    /// What came back.
    answer: Option<Result<HttpResponse, NetworkError>>,
}

impl Flight<'_> {
    /// Ready when the answer is here.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.answer.is_none() {
            match self.response.as_mut().poll(context) {
                Poll::Ready(answer) => self.answer = Some(answer),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }
}

impl<H: Host> Replica<H> {
    pub(super) async fn push(self: &Rc<Self>) -> Answer {
        if planted(Plant::RebuildOnRetry) && !self.db.borrow().state.descriptors.is_empty() {
            let now = self.host.now();
            let plan = |replica: &Self| {
                let db = replica.db.borrow();
                let mut txn = OutboxTxn::new("rebuild", &db.state);
                txn.descriptors.extend(db.state.descriptors.keys().map(|key| (key.clone(), None)));
                Some((txn.finish(&db.state, &db.base, now), Vec::new()))
            };
            if let Err(answer) = self.commit(plan).await {
                return answer;
            }
        }
        match self.mend_outbox(true).await {
            Ok(false) => {}
            Ok(true) => return Answer::Done { more: true },
            Err(answer) => return answer,
        }
        let row_key = match self.next_descriptor().await {
            Ok(Some(row_key)) => row_key,
            Ok(None) => return Answer::Done { more: false },
            Err(answer) => return answer,
        };
        let until = UnixMillis(self.host.now().get() + STEP_MS);
        let Some(mut flight) = self.take_off(&row_key) else { return Answer::Stale };
        loop {
            poll_fn(|context| flight.poll(context)).await;
            let Some(Ok(response)) = flight.answer.take() else { return Answer::Lost };
            if response.status != 200 && planted(Plant::AnyAnswerIsSuccess) {
                return self.take_for_success(&flight).await;
            }
            if response.status != 200 {
                return self.push_refused(&flight, response).await;
            }
            let mut next = None;
            let answer = self.settle(&flight, &response, until, &mut next).await;
            if !matches!(answer, Answer::Done { more: true }) {
                return answer;
            }
            // Each request counts by itself, whoever holds the lock meanwhile.
            self.schedule.borrow_mut().answered(self.host.now(), Request::Push, answer, flight.started, 0);
            if next.is_none() && self.goes_on(until) {
                next = self.stored_behind("").and_then(|row_key| self.take_off(&row_key));
            }
            flight = match next {
                Some(flight) => flight,
                None => return answer,
            };
        }
    }

    /// The planted bug: what was sent has arrived, the answer need not be read.
    async fn take_for_success(&self, flight: &Flight<'_>) -> Answer {
        let now = self.host.now();
        let plan = |replica: &Self| {
            let db = replica.db.borrow();
            let mut txn = OutboxTxn::new("settle", &db.state);
            for sent in &flight.sent {
                if let Some(mutation) = sent.mutation() {
                    txn.end_locally(&db.base, now, &mutation.key(), sent.entries.clone(), LocalEnd::Replaced);
                }
            }
            txn.descriptors.insert(flight.row_key.clone(), None);
            Some((txn.finish(&db.state, &db.base, now), Vec::new()))
        };
        match self.commit(plan).await {
            Ok(()) => Answer::Done { more: true },
            Err(answer) => answer,
        }
    }

    /// True while this step may send another batch: nobody said otherwise since it began, and it has not taken long.
    fn goes_on(&self, until: UnixMillis) -> bool {
        self.host.now() < until && self.next() == Next::Push && self.db.borrow().unreadable().is_empty()
    }

    /// The first stored batch behind this one.
    fn stored_behind(&self, row_key: &str) -> Option<String> {
        let db = self.db.borrow();
        db.state.descriptors.keys().find(|key| key.as_str() > row_key).cloned()
    }

    /// Sends a stored batch. `None`: it is not there any more.
    fn take_off(&self, row_key: &str) -> Option<Flight<'_>> {
        let (sent, client_id, epoch) = {
            let db = self.db.borrow();
            let sent = db.state.descriptors.get(row_key)?.sending().to_vec();
            (sent, db.state.client.client_id.clone(), known_epoch(&db).cloned())
        };
        let body = self.push_body(&sent);
        self.push_change(Change::Progress { phase: "push", done: 0, total: sent.len() as u64 });
        Some(Flight {
            client_id,
            epoch,
            row_key: row_key.to_owned(),
            sent,
            started: self.host.now(),
            response: Box::pin(self.send("POST", "/push", Some(body))),
            answer: None,
        })
    }

    /// A page is about to end, and what travels ends with it: the stored batch goes once more, and nobody looks at the answer.
    /// These are the same bytes as ever, so they take effect once (S1).
    pub async fn part(&self) {
        if self.schedule.borrow().may_part(self.host.now(), self.facts())
            && let Some(flight) = self.stored_behind("").and_then(|row_key| self.take_off(&row_key))
        {
            let _ = flight.response.await;
        }
    }

    /// What an answer other than 200 means.
    async fn push_refused(self: &Rc<Self>, flight: &Flight<'_>, response: HttpResponse) -> Answer {
        let error = error_of(&response);
        if response.status == 409 && error.code == ErrorCode::CLIENT_FORK {
            return self.fork(&flight.client_id).await;
        }
        if response.status == 409 && error.code == ErrorCode::RESET_REQUIRED {
            return self.reset(&flight.client_id, flight.epoch.as_ref(), error).await;
        }
        if response.status == 413 {
            let now = self.host.now();
            let plan = |replica: &Self| {
                let db = replica.db.borrow();
                Some((plan_too_large(&db.state, &db.base, &flight.row_key, &flight.sent, now)?, Vec::new()))
            };
            return match self.commit(plan).await {
                Ok(()) => Answer::Done { more: true },
                Err(answer) => answer,
            };
        }
        self.refusal(&response, &error).await
    }

    /// The batch to send: a stored one, or a new one stored now.
    pub(super) async fn next_descriptor(&self) -> Result<Option<String>, Answer> {
        for _ in 0..STALE_MAX {
            if let Some(row_key) = self.db.borrow().state.descriptors.keys().next() {
                return Ok(Some(row_key.clone()));
            }
            if self.db.borrow().has_gap() {
                self.catch_up().await?;
                continue;
            }
            let plan = loop {
                let plan = {
                    let db = self.db.borrow();
                    plan_batch(&db.state, &db.base, &self.config, db.is_tight, self.host.now())
                };
                if !self.missed().await? {
                    break plan;
                }
            };
            let Some(plan) = plan else { return Ok(None) };
            match commit_outbox(&self.host, &self.db, plan).await {
                Committing::Done(touched) => self.changed(touched),
                Committing::Stale => self.catch_up().await?,
                Committing::Failed(error) => return Err(self.storage_failed(error.into())),
            }
        }
        Err(Answer::Stale)
    }

    pub(super) fn push_body(&self, sent: &[InFlight]) -> String {
        let db = self.db.borrow();
        let client = &db.state.client;
        let request = PushRequest {
            protocol: PROTOCOL,
            user: self.config.user.clone(),
            client_id: client.client_id.clone(),
            first_push: client.first_push,
            epoch: known_epoch(&db).cloned(),
            device: self.config.device.clone(),
            schema_version: self.config.schema_version,
            acked_through: client.acked_through,
            pending_count: db.state.entries.len() as u64,
            failed_count: db.state.parked.len() as u64,
            mutations: sent.iter().map(InFlight::wire).listed(),
        };
        to_json(&request)
    }

    /// Stores what the server said, and the batch that follows. One that is stored already travels meanwhile, as `ahead`.
    async fn settle<'a>(
        &'a self,
        flight: &Flight<'_>,
        response: &HttpResponse,
        until: UnixMillis,
        ahead: &mut Option<Flight<'a>>,
    ) -> Answer {
        let Flight { client_id, row_key, sent, .. } = flight;
        let Some(answer) = from_json::<PushResponse>(&response.body) else { return self.malformed("push") };
        let results = answer.results.iter().map(|text| from_json::<Outcome>(text.text()).ok_or(())).listed_ok();
        let Ok(results) = results else { return self.malformed("push") };
        let mut tries = 0;
        while tries < STALE_MAX {
            let plan = {
                let db = self.db.borrow();
                if db.state.client.client_id != *client_id {
                    // Another context forked while this push was under way: its answer is about a client that was.
                    return Answer::Stale;
                }
                if db.base.epoch().is_some_and(|epoch| *epoch != answer.epoch) {
                    // Decided by a server that a backup has replaced meanwhile: its successor must be asked.
                    return Answer::Stale;
                }
                if db.state.client.pull_first {
                    // Since this was sent another context has gone by the ledger of a restored server, which may lack just this.
                    return Answer::Stale;
                }
                // What can't be read may have ended what would go next; on a full device outcomes have the room for themselves.
                let goes_on = db.unreadable().is_empty() && !db.is_tight && !db.has_gap();
                let next = goes_on.then_some(&self.config);
                plan_settle(&db.state, &db.base, row_key, sent, &results, &answer.epoch, next, self.host.now())
            };
            match self.missed().await {
                Ok(true) => continue,
                Ok(false) => tries += 1,
                Err(answer) => return answer,
            }
            let (txn, events) = match plan {
                SettlePlan::Commit { txn, events } => (*txn, events),
                // In this transaction and no later one: what another context settled meanwhile is judged again.
                SettlePlan::Fork => {
                    let db = self.db.borrow();
                    plan_fork(&db.state, &db.base, self.new_client_id(), self.host.now())
                }
                SettlePlan::Malformed => return self.malformed("push"),
            };
            if txn.descriptors.is_empty() {
                // Another context settled it.
                return Answer::Done { more: self.has_work() };
            }
            // The first answer says who this client is to the server; nothing goes before that is known.
            let is_known = !self.db.borrow().state.client.first_push;
            let ends = txn.descriptors.get(row_key).is_some_and(Option::is_none) && !txn.client.pull_first;
            if ahead.is_none() && is_known && ends && self.goes_on(until) {
                *ahead = self.stored_behind(row_key).and_then(|row_key| self.take_off(&row_key));
            }
            let mut commit = pin!(commit_outbox(&self.host, &self.db, txn));
            let committed = poll_fn(|context| {
                if let Some(flight) = ahead {
                    // Taken note of; the settle decides when to look at it.
                    let _ = flight.poll(context);
                }
                commit.as_mut().poll(context)
            });
            match committed.await {
                Committing::Done(touched) => {
                    self.changed(touched);
                    self.events(events);
                    let done = sent.len() as u64;
                    self.push_change(Change::Progress { phase: "push", done, total: done });
                    *self.last_error.borrow_mut() = None;
                    self.set_needs_foreground(false);
                    self.storage_ok();
                    return Answer::Done { more: self.has_work() };
                }
                Committing::Stale => {
                    if let Err(answer) = self.catch_up().await {
                        return answer;
                    }
                }
                Committing::Failed(error) => return self.storage_failed(error.into()),
            }
        }
        Answer::Stale
    }

    pub(super) fn has_work(&self) -> bool {
        let db = self.db.borrow();
        !db.state.descriptors.is_empty() || self.sendable(&db)
    }

    /// Goes on as a new client, unless another context has done so meanwhile.
    pub(super) async fn fork(&self, old: &ClientId) -> Answer {
        let client_id = self.new_client_id();
        let now = self.host.now();
        let plan = |replica: &Self| {
            let db = replica.db.borrow();
            if db.state.client.client_id != *old {
                return None;
            }
            Some(plan_fork(&db.state, &db.base, client_id.clone(), now))
        };
        match self.commit(plan).await {
            Ok(()) => Answer::Done { more: true },
            Err(answer) => answer,
        }
    }

    /// The server is of another epoch: first the outbox takes its ledger's word, then the base starts cold. In this order
    /// a crash in between only repeats the first step. `sent`: the epoch that the refused push named.
    pub(super) async fn reset(&self, old: &ClientId, sent: Option<&Epoch>, error: ErrorBody) -> Answer {
        // To the very epoch that it was asked in there is no way back: it would be asked the same again at once.
        let Some(epoch) = error.epoch.filter(|epoch| Some(epoch) != sent) else { return self.malformed("push") };
        let ledger = error.ledger.unwrap_or(Ledger { known: false, ..Ledger::default() });
        let client_id = self.new_client_id();
        let now = self.host.now();
        let plan = |replica: &Self| {
            let db = replica.db.borrow();
            if db.state.client.client_id != *old || known_epoch(&db) != sent {
                // Another context has heard the same and done it, or of an epoch after this one: then this answer came late.
                return None;
            }
            if sent.is_none() {
                return Some(plan_named(&db.state, &db.base, now));
            }
            Some(plan_reset(&db.state, &db.base, &ledger, &epoch, client_id.clone(), now))
        };
        if let Err(answer) = self.commit(plan).await {
            return answer;
        }
        if known_epoch(&self.db.borrow()) != sent {
            return Answer::Done { more: true };
        }
        self.cold(Some(epoch)).await
    }

    pub(super) async fn cold(&self, epoch: Option<Epoch>) -> Answer {
        let before = self.db.borrow().base.manifest.epoch.clone();
        for _ in 0..STALE_MAX {
            let current = self.db.borrow().base.manifest.epoch.clone();
            if current != before {
                // Another context has begun the cold start, of this epoch or one after it, and may have pulled by now.
                return Answer::Done { more: true };
            }
            let now = self.host.now();
            let mut plan = plan_cold(&self.db.borrow().base, &self.settings.schema, epoch.clone(), now);
            if planted(Plant::OldRowsInNewEpoch) && epoch != before {
                plan.manifest.pairs.iter_mut().for_each(|row| row.cold = false);
            }
            match commit_base(&self.host, &self.db, plan).await {
                Committing::Done(touched) => {
                    self.changed(touched);
                    return Answer::Done { more: true };
                }
                Committing::Stale => {
                    if let Err(answer) = self.catch_up().await {
                        return answer;
                    }
                }
                Committing::Failed(error) => return self.storage_failed(error.into()),
            }
        }
        Answer::Stale
    }

    pub(super) async fn count_failure(&self) {
        let Some(row_key) = self.db.borrow().state.descriptors.keys().next().cloned() else { return };
        let rev = self.db.borrow().state.client.rev;
        let now = self.host.now();
        let plan = |replica: &Self| {
            let db = replica.db.borrow();
            if db.state.client.rev != rev {
                // Maybe by this very count: nobody heard of its commit, and it was there.
                return None;
            }
            Some((plan_counted(&db.state, &db.base, &replica.config, &row_key, now), Vec::new()))
        };
        // Not counted is no harm: the next answer counts.
        let _ = self.commit(plan).await;
    }
}
