//! The steps of sync: push, pull, refresh, probe, compact. Each holds its lock for one request and its settle.

use crate::Replica;
use crate::db::{Committing, Db, commit_base, commit_outbox};
use crate::error::SyncError;
use crate::host::{Host, HttpRequest, HttpResponse, LockWait, NetworkError, Notice, Token};
use crate::report::{Change, FlushReport, Phase, SyncReport};
use landfall_core::Base;
use landfall_core::batch::{plan_batch, units};
use landfall_core::fixup::failed_units;
use landfall_core::plan::OutboxTxn;
use landfall_core::plant::{Plant, planted};
use landfall_core::pull::{self, BaseTxn, Page, Segment};
use landfall_core::recover::{plan_fork, plan_no_access, plan_reset};
use landfall_core::retry::{plan_counted, plan_too_large};
use landfall_core::rows::InFlight;
use landfall_core::schedule::{Answer, Facts, Next, Request, Trigger};
use landfall_core::settle::{Event, SettlePlan, plan_settle};
use landfall_protocol::codec::{from_json, to_json};
use landfall_protocol::{
    ClientId, CollectionName, Epoch, ErrorBody, ErrorCode, ErrorEnvelope, Json, Ledger, Map, Outcome, PROTOCOL,
    PullRequest, PushRequest, PushResponse, RecordId, RecordKey, Scope, Set, UnixMillis, Version, limits,
};
use landfall_storage::{Key, RowKind, RowStore, StoreName, decode, encode};
use std::cell::Cell;
use std::rc::Rc;

const TOKEN: &str = "token";
const STALE_MAX: usize = 6;
/// How often a call that waits for this context's loop looks again.
const BUSY_LOOK_MS: u64 = 20;

/// A request of this context that is under way.
struct Running<'a>(&'a Cell<u32>);

impl<'a> Running<'a> {
    fn begin(count: &'a Cell<u32>) -> Self {
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
        let db = self.db.borrow();
        let facts = Facts {
            in_flight: !db.state.descriptors.is_empty(),
            sendable: self.sendable(&db),
            pull_first: db.state.client.pull_first,
            hold_until: db.state.client.held_until(self.host.now()),
            token_missing: self.token_missing(),
        };
        self.schedule.borrow().next(self.host.now(), facts)
    }

    /// Something waits that is not held back by a failed unit.
    pub(crate) fn sendable(&self, db: &Db) -> bool {
        let held = db.state.parked.values().any(|row| row.failed);
        db.state.unsent_count() > 0 && (!held || !units(&db.state, &self.config).is_empty())
    }

    /// Units that used up their attempts get one more chance at every start, regained network and login.
    async fn rearm(self: &Rc<Self>) {
        if self.rearm.replace(false) {
            let failed = failed_units(&self.db.borrow().state);
            for id in failed {
                // Mended meanwhile by another context: nothing to do.
                let _ = self.retry(id, None).await;
            }
        }
    }

    /// Does what is due, once. Returns when to look again (`None`: at the next trigger).
    pub async fn step(self: &Rc<Self>) -> Option<UnixMillis> {
        self.load_token().await;
        self.rearm().await;
        let started = self.host.now();
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
            None => return Some(UnixMillis(started.get() + 500)),
        };
        let caught_up = self.refresh().await;
        if caught_up.is_ok() && self.next() != next {
            // While this context waited for the lock its holder did it, or was told to hold back.
            return Some(self.host.now());
        }
        let _running = Running::begin(&self.running);
        self.set_phase(phase);
        self.schedule.borrow_mut().begin(request);
        let answer = match caught_up {
            Ok(()) => match request {
                Request::Push => self.push().await,
                Request::Pull => self.pull().await,
                Request::Probe => self.probe().await,
                Request::Refresh => self.refresh_token().await,
            },
            Err(error) => {
                self.storage_said(&error);
                Answer::Storage
            }
        };
        drop(lock);
        self.set_phase(Phase::Idle);
        let jitter = (self.host.random() >> 32) as u32;
        let counts = self.schedule.borrow_mut().answered(self.host.now(), request, answer, started, jitter);
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
                other => return other,
            }
        }
        Some(UnixMillis(self.host.now().get() + 1_000))
    }

    async fn lock(&self, request: Request) -> Option<H::Lock> {
        let work = match request {
            Request::Push | Request::Probe => "push",
            Request::Pull => "pull",
            Request::Refresh => "refresh",
        };
        let wait = if self.settings.patient { LockWait::Millis(10_000) } else { LockWait::IfFree };
        self.host.lock(&format!("{}:{work}", self.settings.database), wait).await
    }

    fn set_phase(&self, phase: Phase) {
        if self.phase.replace(phase) != phase {
            self.push_change(Change::Status);
        }
    }

    fn note_error(&self, code: &str, message: &str) {
        *self.last_error.borrow_mut() = Some((code.to_owned(), message.to_owned()));
    }

    // ---- push ----

    async fn push(self: &Rc<Self>) -> Answer {
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
    async fn next_descriptor(&self) -> Result<Option<String>, Answer> {
        for _ in 0..STALE_MAX {
            if let Some(row_key) = self.db.borrow().state.descriptors.keys().next() {
                return Ok(Some(row_key.clone()));
            }
            let plan = {
                let db = self.db.borrow();
                plan_batch(&db.state, &db.base, &self.config, self.host.now())
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

    fn push_body(&self, sent: &[InFlight]) -> String {
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

    async fn settle(&self, client_id: &ClientId, row_key: &str, sent: &[InFlight], response: &HttpResponse) -> Answer {
        let Some(answer) = from_json::<PushResponse>(&response.body) else { return self.malformed("push") };
        let results: Option<Vec<Outcome>> = answer.results.iter().map(|text| from_json(text.text())).collect();
        let Some(results) = results else { return self.malformed("push") };
        for _ in 0..STALE_MAX {
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
            let (txn, events) = match plan {
                SettlePlan::Commit { txn, events } => (*txn, events),
                SettlePlan::Fork => return self.fork(client_id).await,
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

    fn has_work(&self) -> bool {
        let db = self.db.borrow();
        !db.state.descriptors.is_empty() || self.sendable(&db)
    }

    /// Goes on as a new client, unless another context has done so meanwhile.
    async fn fork(&self, old: &ClientId) -> Answer {
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
    async fn reset(&self, old: &ClientId, error: ErrorBody) -> Answer {
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

    async fn cold(&self, epoch: Option<Epoch>) -> Answer {
        let before = self.db.borrow().base.manifest.epoch.clone();
        for _ in 0..STALE_MAX {
            let now = self.db.borrow().base.manifest.epoch.clone();
            if now != before && now == epoch {
                // Another context has begun the cold start, and may have pulled by now.
                return Answer::Done { more: true };
            }
            let plan = pull::plan_cold(&self.db.borrow().base.manifest, epoch.clone());
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

    async fn count_failure(&self) {
        let Some(row_key) = self.db.borrow().state.descriptors.keys().next().cloned() else { return };
        let now = self.host.now();
        let plan = |replica: &Self| {
            let db = replica.db.borrow();
            Some((plan_counted(&db.state, &db.base, &replica.config, &row_key, now), Vec::new()))
        };
        // Not counted is no harm: the next answer counts.
        let _ = self.commit(plan).await;
    }

    /// Commits a plan of the outbox, planning again while other contexts are faster.
    pub(crate) async fn commit(&self, plan: impl Fn(&Self) -> Option<(OutboxTxn, Vec<Event>)>) -> Result<(), Answer> {
        for _ in 0..STALE_MAX {
            let Some((txn, events)) = plan(self) else { return Ok(()) };
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

    async fn catch_up(&self) -> Result<(), Answer> {
        self.refresh().await.map_err(|error| self.storage_failed(error))
    }

    fn storage_failed(&self, error: SyncError) -> Answer {
        self.storage_said(&error);
        Answer::Storage
    }

    fn events(&self, events: Vec<Event>) {
        for event in events {
            self.push_change(Change::Event(event));
        }
    }

    // ---- pull ----

    async fn pull(self: &Rc<Self>) -> Answer {
        let (asked, body) = {
            let db = self.db.borrow();
            let manifest = &db.base.manifest;
            let request = PullRequest {
                protocol: PROTOCOL,
                user: self.config.user.clone(),
                client_id: db.state.client.client_id.clone(),
                cursor: manifest.cursor.clone(),
                collections: self.wanted(manifest),
                limit: limits::PAGE_COUNT_MAX as u32,
                resync: manifest.resync.clone(),
            };
            let body = to_json(&request);
            ((request.cursor, request.resync), body)
        };
        let response = match self.send("POST", "/pull", Some(body)).await {
            Ok(response) => response,
            Err(NetworkError) => return Answer::Lost,
        };
        // While the answer was under way another context may have pulled further: on top of that, a page's old rows would
        // shadow newer ones, and a reset would throw away what was just begun.
        let is_overtaken = {
            let db = self.db.borrow();
            (&db.base.manifest.cursor, &db.base.manifest.resync) != (&asked.0, &asked.1)
        };
        if response.status != 200 {
            let error = error_of(&response);
            if response.status == 409 && error.code == ErrorCode::RESET_REQUIRED {
                if is_overtaken {
                    return Answer::Stale;
                }
                return self.pull_reset(error).await;
            }
            return self.refusal(&response, &error).await;
        }
        let Some(page) = from_json::<Page>(&response.body) else { return self.malformed("pull") };
        if is_overtaken {
            return Answer::Stale;
        }
        let own = known_epoch(&self.db.borrow()).cloned();
        if own.is_some_and(|own| own != page.epoch) {
            let error = ErrorBody { epoch: Some(page.epoch.clone()), ..ErrorBody::default() };
            return self.pull_reset(error).await;
        }
        {
            let mut db = self.db.borrow_mut();
            for stamp in pull::stamps(&page) {
                db.state.hlc.observe(&stamp.clamped(self.host.now().get(), limits::HLC_AHEAD_MS_MAX));
            }
        }
        self.pulled_count.set(self.pulled_count.get() + self.news(&page));
        let plan = pull::plan_page(&self.db.borrow().base.manifest, &page, self.host.now());
        let removed = plan.removed.clone();
        match commit_base(&self.host, &self.db, plan).await {
            Committing::Done(touched) => self.changed(touched),
            // The page belongs to a cursor that is not there any more.
            Committing::Stale => return Answer::Stale,
            Committing::Failed(error) => return self.storage_failed(error.into()),
        }
        if !removed.is_empty() {
            let now = self.host.now();
            let plan = |replica: &Self| {
                let db = replica.db.borrow();
                plan_no_access(&db.state, &db.base, &removed, now)
            };
            if let Err(answer) = self.commit(plan).await {
                return answer;
            }
        }
        let count =
            page.changes.values().map(Vec::len).sum::<usize>() + page.tombstones.values().map(Vec::len).sum::<usize>();
        self.push_change(Change::Progress { phase: "pull", done: count as u64, total: count as u64 });
        if !self.has_unsent() {
            // Nothing is left that could have failed; it may be another context that sent it.
            *self.last_error.borrow_mut() = None;
        }
        if !page.has_more
            && let Err(answer) = self.at_head(&page).await
        {
            return answer;
        }
        self.storage_ok();
        if !page.has_more {
            self.heads.set(self.heads.get() + 1);
        }
        // A pair whose checksum did not match is asked for at once.
        let resyncs = !self.db.borrow().base.manifest.resync.is_empty();
        Answer::Done { more: page.has_more || resyncs }
    }

    /// The collections to ask for: those of this context, and those that another one has pulled. A tab of an older version
    /// of the app knows fewer, and the server would take what is not asked for as given up, for all tabs.
    fn wanted(&self, manifest: &pull::Manifest) -> Vec<CollectionName> {
        let pulled = manifest.pairs.iter().map(|row| &row.pair.1);
        let all: Set<&CollectionName> = self.config.collections.keys().chain(pulled).collect();
        all.into_iter().cloned().collect()
    }

    /// Records of a page that this device did not know in that version.
    fn news(&self, page: &Page) -> u64 {
        let db = self.db.borrow();
        let known = |scope: &Scope, collection: &CollectionName, id: &RecordId, version: Version| {
            let key = RecordKey { scope: scope.clone(), collection: collection.clone(), id: id.clone() };
            let own = db.state.settled_of(&key).filter_map(|settled| settled.mutation.outcome.as_ref()?.version).max();
            db.base.held(&key).map(|held| held.version).max(own) >= Some(version)
        };
        let mut count = 0;
        for (collection, changes) in &page.changes {
            count +=
                changes.iter().filter(|change| !known(&change.scope, collection, &change.id, change.version)).count();
        }
        for (collection, dead) in &page.tombstones {
            count += dead.iter().filter(|dead| !known(&dead.scope, collection, &dead.id, dead.version)).count();
        }
        count as u64
    }

    fn has_unsent(&self) -> bool {
        let db = self.db.borrow();
        !db.state.descriptors.is_empty() || db.state.unsent_count() > 0
    }

    /// At head: compare checksums, let a fork go on, keep the base tidy.
    async fn at_head(&self, page: &Page) -> Result<(), Answer> {
        let mut mismatch = self.mismatch(page);
        let now = self.host.now();
        while let Some(pair) = mismatch.pop() {
            let plan = pull::plan_resync(&self.db.borrow().base.manifest, &pair, now);
            match plan {
                Some(plan) => self.commit_base_plan(plan).await?,
                None => {
                    self.note_error("checksum", "This device's copy differs from the server's; it will be pulled anew.")
                }
            }
        }
        if self.db.borrow().state.client.pull_first {
            let plan = |replica: &Self| {
                let db = replica.db.borrow();
                let mut txn = OutboxTxn::new("pulled", &db.state);
                txn.client.pull_first = false;
                Some((txn.finish(&db.state, &db.base, now), Vec::new()))
            };
            self.commit(plan).await?;
        }
        self.compact().await
    }

    fn mismatch(&self, page: &Page) -> Vec<landfall_protocol::Pair> {
        let db = self.db.borrow();
        let mut mismatch = Vec::new();
        for (scope, collections) in &page.checksums {
            for (collection, sum) in collections {
                let pair = landfall_protocol::Pair(scope.clone(), collection.clone());
                let Some(row) = db.base.manifest.pair(&pair) else { continue };
                if row.cold || row.covered.is_none() {
                    continue;
                }
                let own = db.base.pairs.get(&pair).map(|pair| pair.sum).unwrap_or_default();
                if own != *sum {
                    mismatch.push(pair);
                }
            }
        }
        mismatch
    }

    async fn commit_base_plan(&self, plan: BaseTxn) -> Result<(), Answer> {
        match commit_base(&self.host, &self.db, plan).await {
            Committing::Done(touched) => {
                self.changed(touched);
                Ok(())
            }
            // Another context was at it; nothing is lost by leaving it to the next round.
            Committing::Stale => self.catch_up().await,
            Committing::Failed(error) => Err(self.storage_failed(error.into())),
        }
    }

    /// One compaction step, if one is due.
    pub async fn compact(&self) -> Result<(), Answer> {
        let due = pull::compactable(&self.db.borrow().base.manifest);
        let Some((pair, references)) = due else { return Ok(()) };
        let mut inputs = Vec::new();
        for reference in references {
            let row = self.host.rows().get(StoreName::Seg, &Key::Number(reference.id)).await;
            let row = row.map_err(|error| self.storage_failed(error.into()))?;
            match row.as_deref().map(|row| decode::<Segment>(RowKind::Segment, row)) {
                Some(Ok(segment)) => inputs.push((reference, segment)),
                // A broken row is never folded away: it stays where it can be looked at, and its pair is pulled anew.
                Some(Err(_)) | None => return Ok(()),
            }
        }
        let plan = pull::plan_compaction(&self.db.borrow().base.manifest, &pair, &inputs);
        self.commit_base_plan(plan).await
    }

    /// A pull was told to start over. Of another epoch, the push side must hear the ledger first, or acknowledged writes
    /// that the backup lost would be forgotten.
    async fn pull_reset(self: &Rc<Self>, error: ErrorBody) -> Answer {
        let own = known_epoch(&self.db.borrow()).cloned();
        let other_epoch = own.is_some() && error.epoch.is_some() && own != error.epoch;
        if !other_epoch {
            return self.cold(error.epoch).await;
        }
        let client_id = self.db.borrow().state.client.client_id.clone();
        let body = self.push_body(&[]);
        match self.send("POST", "/push", Some(body)).await {
            Err(NetworkError) => Answer::Lost,
            // Another context has gone over to the new epoch meanwhile.
            Ok(response) if response.status == 200 => Answer::Stale,
            Ok(response) => {
                let error = error_of(&response);
                if response.status == 409 && error.code == ErrorCode::RESET_REQUIRED {
                    self.reset(&client_id, error).await
                } else if response.status == 409 && error.code == ErrorCode::CLIENT_FORK {
                    let answer = self.fork(&client_id).await;
                    if matches!(answer, Answer::Done { .. }) { self.cold(error.epoch).await } else { answer }
                } else {
                    self.refusal(&response, &error).await
                }
            }
        }
    }

    // ---- probe, token, requests ----

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
        self.note_error("malformed_answer", &format!("The server's answer to {what} could not be read."));
        Answer::Faulty
    }

    async fn send(&self, method: &'static str, path: &str, body: Option<String>) -> Result<HttpResponse, NetworkError> {
        let token = self.token.borrow().as_ref().map(|token| token.token.clone());
        self.host.fetch(HttpRequest { method, path: path.to_owned(), token, body }).await
    }

    fn token_missing(&self) -> bool {
        if self.settings.cookie_auth {
            return false;
        }
        let now = self.host.now().get();
        match &*self.token.borrow() {
            Some(token) => token.expires_at.is_some_and(|at| at.get() <= now),
            None => true,
        }
    }

    /// The token row, which a page or another context wrote.
    async fn load_token(&self) {
        if self.token_known.get() {
            return;
        }
        if let Ok(row) = self.host.rows().get(StoreName::Meta, &Key::text(TOKEN)).await {
            let stored: Option<Token> = row.and_then(|text| decode(RowKind::Token, &text).ok());
            let fresh = stored.is_some() && stored != *self.token.borrow();
            if fresh {
                *self.token.borrow_mut() = stored;
            }
            self.token_known.set(true);
        }
    }

    /// A token came from the app: stored for all contexts. Unless it is `None`, sync goes on.
    pub async fn set_token(&self, token: Option<Token>) -> Result<(), SyncError> {
        // A new token that has expired by this clock says that the clock is wrong (I4): only a 401 can tell then.
        let now = self.host.now();
        let token = token.map(|token| Token { expires_at: token.expires_at.filter(|at| *at > now), ..token });
        let mut txn = landfall_storage::Txn::new("token", landfall_storage::Durability::Relaxed);
        match &token {
            Some(token) => txn.put(StoreName::Meta, Key::text(TOKEN), encode(RowKind::Token, token)),
            None => txn.delete(StoreName::Meta, Key::text(TOKEN)),
        }
        let login = token.is_some();
        *self.token.borrow_mut() = token;
        self.token_known.set(true);
        if login {
            self.trigger(Trigger::Login);
        }
        self.host.rows().commit(txn).await?;
        self.host.notice(&Notice::Token);
        Ok(())
    }

    async fn refresh_token(&self) -> Answer {
        let before = self.token.borrow().clone();
        // Another context may have done it; and at any moment a person may sign in. Either is as good as a refresh.
        let came = |replica: &Self| *replica.token.borrow() != before && !replica.token_missing();
        self.token_known.set(false);
        self.load_token().await;
        if came(self) {
            return Answer::Done { more: false };
        }
        let asked = self.host.ask_token().await.filter(|token| Some(token) != before.as_ref());
        if let Some(token) = asked {
            return self.take_token(token).await;
        }
        let answer = match self.settings.refresh_url.clone() {
            Some(url) => self.refresh_by_url(url).await,
            None if self.settings.cookie_auth => Answer::Done { more: false },
            None => Answer::Unauthorized,
        };
        if came(self) { Answer::Done { more: false } } else { answer }
    }

    async fn refresh_by_url(&self, path: String) -> Answer {
        let body = format!("{{\"user\":{}}}", Json::string(&self.config.user).text());
        let request = HttpRequest { method: "POST", path, token: None, body: Some(body) };
        let response = match self.host.fetch(request).await {
            Ok(response) => response,
            Err(NetworkError) => return Answer::Lost,
        };
        if response.status == 200 {
            return match from_json::<Token>(&response.body) {
                Some(token) => self.take_token(token).await,
                None => self.malformed("refresh"),
            };
        }
        let error = error_of(&response);
        self.note_error(&error.code, &error.message);
        match response.status {
            429 | 503 => Answer::Busy { retry_after_ms: response.retry_after_ms },
            500.. => Answer::Faulty,
            _ => Answer::Unauthorized,
        }
    }

    async fn take_token(&self, token: Token) -> Answer {
        match self.set_token(Some(token)).await {
            Ok(()) => Answer::Done { more: false },
            Err(error) => self.storage_failed(error),
        }
    }

    // ---- on demand ----

    /// Syncs now and waits for the end of it: everything sendable sent, everything new pulled, or the reason why not.
    pub async fn sync_now(self: &Rc<Self>) -> SyncReport {
        self.trigger(Trigger::Now);
        let before = self.counts();
        self.drive(60_000).await;
        self.report_since(before)
    }

    /// The service worker's flush: steps until nothing is sendable, something holds it back, or the budget is used up.
    pub async fn flush(self: &Rc<Self>, budget_ms: u64) -> FlushReport {
        self.trigger(Trigger::SyncEvent);
        self.drive(budget_ms).await;
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

/// The server's epoch as this client last heard it: by a pull, or before the first one by an answered push.
fn known_epoch(db: &Db) -> Option<&Epoch> {
    let settled = || db.state.settled.values().next_back().and_then(|row| row.epoch.as_ref());
    db.base.epoch().or_else(settled)
}

fn error_of(response: &HttpResponse) -> ErrorBody {
    from_json::<ErrorEnvelope>(&response.body).map(|envelope| envelope.error).unwrap_or_else(|| ErrorBody {
        code: format!("http_{}", response.status),
        message: "The server answered with an error.".to_owned(),
        fields: Map::new(),
        ..ErrorBody::default()
    })
}
