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
use landfall_core::recover::{plan_fork, plan_reset};
use landfall_core::retry::{plan_counted, plan_too_large};
use landfall_core::rows::InFlight;
use landfall_core::schedule::Answer;
use landfall_core::settle::{SettlePlan, plan_settle};
use landfall_protocol::codec::{from_json, to_json};
use landfall_protocol::{ClientId, Epoch, ErrorBody, ErrorCode, Ledger, Outcome, PROTOCOL, PushRequest, PushResponse};
use landfall_storage::ingest::plan_cold;
use std::rc::Rc;

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
        let sent: Vec<InFlight> = match self.db.borrow().state.descriptors.get(&row_key) {
            Some(descriptor) => descriptor.sending().to_vec(),
            None => return Answer::Stale,
        };
        let client_id = self.db.borrow().state.client.client_id.clone();
        let body = self.push_body(&sent);
        self.push_change(Change::Progress { phase: "push", done: 0, total: sent.len() as u64 });
        let response = match self.send("POST", "/push", Some(body)).await {
            Ok(response) => response,
            Err(NetworkError) => return Answer::Lost,
        };
        if response.status == 200 {
            return self.settle(&client_id, &row_key, &sent, &response).await;
        }
        let error = error_of(&response);
        if response.status == 409 && error.code == ErrorCode::CLIENT_FORK {
            return self.fork(&client_id).await;
        }
        if response.status == 409 && error.code == ErrorCode::RESET_REQUIRED {
            return self.reset(&client_id, error).await;
        }
        if response.status == 413 {
            let now = self.host.now();
            let plan = |replica: &Self| {
                let db = replica.db.borrow();
                Some((plan_too_large(&db.state, &db.base, &row_key, now), Vec::new()))
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
            mutations: sent.iter().map(InFlight::wire).collect(),
        };
        to_json(&request)
    }

    pub(super) async fn settle(
        &self,
        client_id: &ClientId,
        row_key: &str,
        sent: &[InFlight],
        response: &HttpResponse,
    ) -> Answer {
        let Some(answer) = from_json::<PushResponse>(&response.body) else { return self.malformed("push") };
        let results: Option<Vec<Outcome>> = answer.results.iter().map(|text| from_json(text.text())).collect();
        let Some(results) = results else { return self.malformed("push") };
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
                plan_settle(&db.state, &db.base, row_key, sent, &results, &answer.epoch, self.host.now())
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
            match commit_outbox(&self.host, &self.db, txn).await {
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
    /// a crash in between only repeats the first step.
    pub(super) async fn reset(&self, old: &ClientId, error: ErrorBody) -> Answer {
        let Some(epoch) = error.epoch else { return self.malformed("push") };
        let ledger = error.ledger.unwrap_or(Ledger { known: false, ..Ledger::default() });
        let client_id = self.new_client_id();
        let now = self.host.now();
        let plan = |replica: &Self| {
            let db = replica.db.borrow();
            if db.state.client.client_id != *old || db.base.manifest.epoch.as_ref() == Some(&epoch) {
                // Another context has heard the same and done it.
                return None;
            }
            Some(plan_reset(&db.state, &db.base, &ledger, &epoch, client_id.clone(), now))
        };
        if let Err(answer) = self.commit(plan).await {
            return answer;
        }
        if self.db.borrow().base.manifest.epoch.as_ref() == Some(&epoch) {
            return Answer::Done { more: true };
        }
        self.cold(Some(epoch)).await
    }

    pub(super) async fn cold(&self, epoch: Option<Epoch>) -> Answer {
        let before = self.db.borrow().base.manifest.epoch.clone();
        for _ in 0..STALE_MAX {
            let current = self.db.borrow().base.manifest.epoch.clone();
            if current != before && current == epoch {
                // Another context has begun the cold start, and may have pulled by now.
                return Answer::Done { more: true };
            }
            let now = self.host.now();
            let plan = plan_cold(&self.db.borrow().base, &self.settings.schema, epoch.clone(), now);
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
        let now = self.host.now();
        let plan = |replica: &Self| {
            let db = replica.db.borrow();
            Some((plan_counted(&db.state, &db.base, &replica.config, &row_key, now), Vec::new()))
        };
        // Not counted is no harm: the next answer counts.
        let _ = self.commit(plan).await;
    }
}
