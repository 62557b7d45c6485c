//! Pulling: a page comes in and is stored with its cursor; at head, checksums and compaction.

use super::{error_of, known_epoch};
use crate::Replica;
use crate::db::{Committing, commit_base};
use crate::host::{Host, NetworkError};
use crate::report::Change;
use landfall_core::plan::OutboxTxn;
use landfall_core::pull::{self, BaseTxn, Page, Segment};
use landfall_core::recover::plan_no_access;
use landfall_core::schedule::Answer;
use landfall_protocol::codec::{from_json, to_json};
use landfall_protocol::{
    CollectionName, ErrorBody, ErrorCode, PROTOCOL, PullRequest, RecordId, RecordKey, Scope, Set, Version, limits,
};
use landfall_storage::{Key, RowKind, RowStore, StoreName, decode};
use std::rc::Rc;

impl<H: Host> Replica<H> {
    pub(super) async fn pull(self: &Rc<Self>) -> Answer {
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
    pub(super) fn wanted(&self, manifest: &pull::Manifest) -> Vec<CollectionName> {
        let pulled = manifest.pairs.iter().map(|row| &row.pair.1);
        let all: Set<&CollectionName> = self.config.collections.keys().chain(pulled).collect();
        all.into_iter().cloned().collect()
    }

    /// Records of a page that this device did not know in that version.
    pub(super) fn news(&self, page: &Page) -> u64 {
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

    pub(super) fn has_unsent(&self) -> bool {
        let db = self.db.borrow();
        !db.state.descriptors.is_empty() || db.state.unsent_count() > 0
    }

    /// At head: compare checksums, let a fork go on, keep the base tidy.
    pub(super) async fn at_head(&self, page: &Page) -> Result<(), Answer> {
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

    pub(super) fn mismatch(&self, page: &Page) -> Vec<landfall_protocol::Pair> {
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

    pub(super) async fn commit_base_plan(&self, plan: BaseTxn) -> Result<(), Answer> {
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
    pub(super) async fn pull_reset(self: &Rc<Self>, error: ErrorBody) -> Answer {
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
}
