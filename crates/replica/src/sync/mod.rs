//! The steps of sync: push, pull, refresh, probe, compact. Each holds its lock for one request and its settle.

mod mend;
mod pull;
mod push;
mod tidy;
mod token;

use crate::Replica;
use crate::db::{Committing, Db, commit_outbox};
use crate::error::SyncError;
use crate::host::{Host, HttpRequest, HttpResponse, LockWait, NetworkError};
use crate::report::{Change, FlushReport, Phase, SyncReport, Tally};
use landfall_core::Base;
use landfall_core::fixup::failed_units;
use landfall_core::order::units;
use landfall_core::plan::OutboxTxn;
use landfall_core::schedule::{Answer, Facts, Next, Request, Trigger};
use landfall_core::settle::Event;
use landfall_protocol::codec::{from_json, padded};
use landfall_protocol::{Epoch, ErrorBody, ErrorCode, ErrorEnvelope, Map, UnixMillis, limits};
use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;

pub(crate) const TOKEN: &str = "token";
const STALE_MAX: usize = 6;
/// How often a call that waits for this context's loop looks again.
const BUSY_LOOK_MS: u64 = 20;
/// How long a step waits that could not read the log.
const STORAGE_LOOK_MS: u64 = 1_000;
/// Somebody who read reads on for so long, as a rule.
const READING_MS: u64 = 250;

/// Something of this context that is under way, counted.
pub(crate) struct Running<'a>(&'a Cell<u32>);

impl<'a> Running<'a> {
    pub(crate) fn begin(count: &'a Cell<u32>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl<H: Host> Replica<H> {
    /// What to do now.
    pub fn next(&self) -> Next {
        if self.is_closed() {
            return Next::Wait(None);
        }
        self.schedule.borrow().next(self.host.now(), self.facts())
    }

    fn facts(&self) -> Facts {
        let db = self.db.borrow();
        Facts {
            in_flight: !db.state.descriptors.is_empty(),
            sendable: self.sendable(&db),
            pull_first: db.state.client.pull_first,
            hold_until: db.state.client.held_until(self.host.now()),
            token_missing: self.token_missing(),
        }
    }

    /// Something waits that is not held back by what waits for a person.
    pub(crate) fn sendable(&self, db: &Db) -> bool {
        let refers = self.config.collections.values().any(|collection| !collection.references.is_empty());
        let held = db.state.parked.values().any(|row| row.failed || refers);
        db.pending() > db.state.sent.len() && (!held || !units(&db.state, &db.base, &self.config).is_empty())
    }

    /// Units that used up their attempts get one more chance.
    async fn rearm(self: &Rc<Self>) {
        let is_due = self.schedule.borrow_mut().rearms(self.host.now());
        if is_due {
            let failed = failed_units(&self.db.borrow().state);
            for id in failed {
                // Mended meanwhile by another context: nothing to do.
                let _ = self.retry(id, None).await;
            }
        }
    }

    /// Boxed, so that the four of them are not laid out within the step and dropped at each of its ends.
    fn request(self: &Rc<Self>, request: Request) -> Pin<Box<dyn Future<Output = Answer> + '_>> {
        match request {
            Request::Push => Box::pin(self.push()),
            Request::Pull => Box::pin(self.pull()),
            Request::Probe => Box::pin(self.probe()),
            Request::Refresh => Box::pin(self.refresh_token()),
        }
    }

    /// Does what is due, once. Returns when to look again (`None`: at the next trigger).
    pub async fn step(self: &Rc<Self>) -> Option<UnixMillis> {
        self.load_token().await;
        if self.whole_log().await.is_err() {
            return Some(UnixMillis(self.host.now().get() + STORAGE_LOOK_MS));
        }
        self.rearm().await;
        // What can't be repaired or set aside now is tried again with the next step.
        let _ = self.repair().await;
        let _ = self.mend_outbox(false).await;
        let began = self.host.now();
        let next = self.next();
        let (request, phase) = match next {
            Next::Push => (Request::Push, Phase::Pushing),
            Next::Pull => (Request::Pull, Phase::Pulling),
            Next::Probe => (Request::Probe, Phase::Idle),
            Next::Refresh => (Request::Refresh, Phase::Idle),
            Next::Wait(until) => return until,
        };
        let lock = match self.lock(request).await {
            Some(lock) => lock,
            // Its holder does the same work; look at what it did.
            None => return Some(UnixMillis(began.get() + 500)),
        };
        let caught_up = self.refresh().await;
        if caught_up.is_ok() && self.next() != next {
            // While this context waited for the lock its holder did it, or was told to hold back.
            return Some(self.host.now());
        }
        let _running = Running::begin(&self.running);
        self.set_phase(phase);
        self.schedule.borrow_mut().begin(request);
        let before = self.tally.get();
        let answer = match caught_up {
            Ok(()) => self.request(request).await,
            Err(error) => {
                self.storage_said(&error);
                Answer::Storage
            }
        };
        // Of a pull that is over.
        self.db.borrow().base.reserved.set(0);
        drop(lock);
        self.set_phase(Phase::Idle);
        let jitter = (self.host.random() >> 32) as u32;
        // A step may have sent several: the last one's answer is what is told.
        let asked = self.asked_at.get();
        let now = self.host.now();
        let counts = self.schedule.borrow_mut().answered(now, request, answer, began.max(asked), jitter);
        if let Some((step, result)) = step_names(request, answer).filter(|_| asked >= began) {
            let said = self.last_error.borrow();
            let code = said.as_ref().filter(|_| result != "done").map(|(code, _)| code.clone());
            let all = self.tally.get();
            let tally = Tally {
                applied: all.applied - before.applied,
                rejected: all.rejected - before.rejected,
                conflicts: all.conflicts - before.conflicts,
                pulled: all.pulled - before.pulled,
            };
            self.push_change(Change::Step { step, result, ms: now.get().saturating_sub(began.get()), tally, code });
        }
        if counts {
            self.count_failure().await;
        }
        self.push_change(Change::Status);
        match answer {
            Answer::Stale => Some(UnixMillis(self.host.now().get() + 20)),
            _ => Some(self.host.now()),
        }
    }

    /// The context's loop: steps until nothing is due, then says when to come back.
    pub async fn run_due(self: &Rc<Self>) -> Option<UnixMillis> {
        for _ in 0..10_000 {
            let until = self.step().await;
            match until {
                Some(at) if at <= self.host.now() && !self.is_closed() => {}
                // Nothing else is due: a little tidying, then another look.
                other => {
                    let Some(pause) = self.tidy().await else { return self.keep_room(other).await };
                    let soon = UnixMillis(self.host.now().get() + pause);
                    return Some(other.map_or(soon, |at| at.min(soon)));
                }
            }
        }
        Some(UnixMillis(self.host.now().get() + 1_000))
    }

    /// True while somebody reads, who should wait for nothing that has time.
    pub fn is_read(&self) -> bool {
        self.reading.get() > 0 || self.host.now().get().saturating_sub(self.last_read.get()) < READING_MS
    }

    async fn lock(&self, request: Request) -> Option<H::Lock> {
        let work = match request {
            Request::Push | Request::Probe => "push",
            Request::Pull => "pull",
            Request::Refresh => "refresh",
        };
        let wait = if self.settings.patient { LockWait::Millis(10_000) } else { LockWait::IfFree };
        self.host.lock(&self.lock_name(work), wait).await
    }

    fn set_phase(&self, phase: Phase) {
        if self.phase.replace(phase) != phase {
            self.push_change(Change::Status);
        }
    }

    fn note_error(&self, code: &str, message: &str) {
        *self.last_error.borrow_mut() = Some((code.to_owned(), message.to_owned()));
    }

    /// Commits a plan of the outbox, planning again while other contexts are faster.
    pub(crate) async fn commit(&self, plan: impl Fn(&Self) -> Option<(OutboxTxn, Vec<Event>)>) -> Result<(), Answer> {
        self.whole_log().await?;
        for _ in 0..STALE_MAX {
            let planned = loop {
                let planned = plan(self);
                if !self.missed().await? {
                    break planned;
                }
            };
            let Some((txn, events)) = planned else { return Ok(()) };
            match commit_outbox(&self.host, &self.db, txn).await {
                Committing::Done(touched) => {
                    self.changed(touched);
                    self.events(events);
                    return Ok(());
                }
                Committing::Stale => self.catch_up().await?,
                Committing::Failed(error) => return Err(self.storage_failed(error.into())),
            }
        }
        Err(Answer::Stale)
    }

    /// Plans of the outbox are made on all of it.
    async fn whole_log(&self) -> Result<(), Answer> {
        self.read_log().await.map_err(|error| self.storage_failed(error))
    }

    /// Reads what the last computation missed. False: nothing, so its result stands.
    async fn missed(&self) -> Result<bool, Answer> {
        self.fetch_missed().await.map_err(|error| self.storage_failed(error))
    }

    async fn catch_up(&self) -> Result<(), Answer> {
        self.refresh().await.map_err(|error| self.storage_failed(error))
    }

    fn storage_failed(&self, error: SyncError) -> Answer {
        self.storage_said(&error);
        Answer::Storage
    }

    fn events(&self, events: Vec<Event>) {
        let mut tally = self.tally.get();
        for event in events {
            match &event {
                Event::Applied { entries } => tally.applied += entries.len() as u64,
                Event::Parked { .. } => tally.rejected += 1,
                Event::Conflict { .. } => tally.conflicts += 1,
                Event::ClientFork | Event::Requeued { .. } => {}
            }
            self.push_change(Change::Event(event));
        }
        self.tally.set(tally);
    }

    async fn probe(&self) -> Answer {
        match self.send("GET", "/status", None).await {
            Err(NetworkError) => Answer::Lost,
            Ok(response) if response.status == 200 => Answer::Done { more: false },
            Ok(response) => {
                let error = error_of(&response);
                self.refusal(&response, &error).await
            }
        }
    }

    /// What an answer other than 200 means for the schedule.
    async fn refusal(&self, response: &HttpResponse, error: &ErrorBody) -> Answer {
        self.note_error(&error.code, &error.message);
        match response.status {
            401 => Answer::Unauthorized,
            403 if error.code == ErrorCode::WRONG_USER => Answer::Unauthorized,
            408 | 425 => Answer::Lost,
            429 | 503 => {
                let retry_after_ms = response.retry_after_ms.or(error.retry_after_ms);
                if let Some(ms) = retry_after_ms {
                    self.hold(ms).await;
                }
                Answer::Busy { retry_after_ms }
            }
            500.. => Answer::Faulty,
            // Not a word of this server: a portal, a proxy, an answer cut short. Nothing that a person must look at yet.
            _ if !ErrorCode::ALL.iter().any(|(code, _)| *code == error.code) => Answer::Faulty,
            _ => Answer::Refused,
        }
    }

    /// Retry-After is honoured by all contexts: it goes into the client row.
    async fn hold(&self, ms: u64) {
        let until = UnixMillis(self.host.now().get() + ms.min(limits::RETRY_AFTER_MS_MAX));
        let now = self.host.now();
        let plan = |replica: &Self| {
            let db = replica.db.borrow();
            let mut txn = OutboxTxn::new("hold", &db.state);
            txn.client.hold_until = Some(until);
            txn.client.held_at = Some(now);
            Some((txn.finish(&db.state, &db.base, now), Vec::new()))
        };
        // This context holds back anyway; the others would at worst ask once more.
        let _ = self.commit(plan).await;
    }

    fn malformed(&self, what: &str) -> Answer {
        self.note_error("malformed_answer", &["The server's answer to ", what, " could not be read."].concat());
        Answer::Faulty
    }

    async fn send(&self, method: &'static str, path: &str, body: Option<String>) -> Result<HttpResponse, NetworkError> {
        self.asked_at.set(self.host.now());
        self.sent_token.borrow_mut().clone_from(&self.token.borrow());
        let token = self.token.borrow().as_ref().map(|token| token.token.clone());
        self.host.fetch(HttpRequest { method, path: path.to_owned(), token, body }).await
    }

    /// Syncs now and waits for the end of it: everything sendable sent, everything new pulled, or the reason why not.
    pub async fn sync_now(self: &Rc<Self>) -> SyncReport {
        self.trigger(Trigger::Now);
        let before = self.counts();
        self.drive(60_000).await;
        self.report_since(before)
    }

    /// The service worker's flush: steps until nothing is sendable, something holds it back, or the budget is used up.
    /// Then a little tidying, which a page may have asked for with a budget of 0.
    pub async fn flush(self: &Rc<Self>, budget_ms: u64) -> FlushReport {
        self.trigger(Trigger::SyncEvent);
        self.drive(budget_ms).await;
        self.tidy_for_pages().await;
        self.flush_report()
    }

    async fn drive(self: &Rc<Self>, budget_ms: u64) {
        let until = self.host.now().get() + budget_ms;
        while self.host.now().get() < until && !self.is_closed() {
            let next = self.step().await;
            match next {
                Some(at) if at <= self.host.now() => {}
                // Another context is at it, or something is due in a moment.
                Some(at) if at.get() < until && at.get() <= self.host.now().get() + 1_000 => {
                    self.host.pause(at.get() - self.host.now().get()).await;
                }
                // This context's own loop is at it.
                _ if self.running.get() > 0 => self.host.pause(BUSY_LOOK_MS).await,
                _ => return,
            }
        }
    }
}

/// The server's epoch as this client last heard it: by a pull, or before the first one by an answered push. What ended without
/// the server, as a create and its delete do, knows of none.
fn known_epoch(db: &Db) -> Option<&Epoch> {
    let settled = || db.state.settled.values().rev().find_map(|row| row.epoch.as_ref());
    db.base.epoch().or_else(settled)
}

/// What the history calls a step and its end. Probes, refreshes and what is done again at once are not in it.
fn step_names(request: Request, answer: Answer) -> Option<(&'static str, &'static str)> {
    let step = match request {
        Request::Push => "push",
        Request::Pull => "pull",
        Request::Probe | Request::Refresh => return None,
    };
    let result = match answer {
        Answer::Done { .. } => "done",
        Answer::Lost => "lost",
        Answer::Unauthorized => "unauthorized",
        Answer::Busy { .. } => "busy",
        Answer::Faulty => "faulty",
        Answer::Refused => "refused",
        Answer::Storage => "storage",
        Answer::Stale => return None,
    };
    Some((step, result))
}

fn error_of(response: &HttpResponse) -> ErrorBody {
    from_json::<ErrorEnvelope>(&response.body).map(|envelope| envelope.error).unwrap_or_else(|| ErrorBody {
        code: ["http_", &padded(u64::from(response.status), 0)].concat(),
        message: "The server answered with an error.".to_owned(),
        fields: Map::new(),
        ..ErrorBody::default()
    })
}
