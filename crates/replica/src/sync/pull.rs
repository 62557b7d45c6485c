//! Pulling: a page comes in and is stored with its cursor; at head, checksums.

use super::{STALE_MAX, error_of, known_epoch};
use crate::Replica;
use crate::db::{Committing, commit_base};
use crate::host::{Host, HttpResponse, NetworkError};
use crate::report::{Change, Tally};
use landfall_core::overruled::plan_overruled;
use landfall_core::plan::OutboxTxn;
use landfall_core::plant::{Plant, planted};
use landfall_core::recover::plan_no_access;
use landfall_core::schedule::{Answer, Next, Trigger, page_limit};
use landfall_protocol::codec::{from_json, to_json};
use landfall_protocol::{
    CollectionName, ErrorBody, ErrorCode, Listed, PROTOCOL, Pair, PullRequest, RecordId, RecordKey, Set, limits,
};
use landfall_storage::compact::plan_repair;
use landfall_storage::ingest::{Ingest, MISMATCH_MS, Page, plan_resync, stamps};
use landfall_storage::{BaseTxn, Manifest, Missing};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

/// Cursor and pairs to pull anew, as they were when a pull began.
type Asked = (Option<String>, Vec<Pair>);

/// Pages on their way into the base.
type Storing<'a> = Option<Pin<Box<dyn Future<Output = Answer> + 'a>>>;

const DAMAGED: &str = "This device's copy differs from the server's; it will be pulled anew.";

/// Pages become one transaction with the one that brings them over this size: larger runs, fewer of them.
fn store_bytes(budget: usize) -> usize {
    (budget / 8).clamp(512 * 1024, 4 * 1024 * 1024)
}
/// What a byte of a page takes on its way: its text, its records, their rows.
const BYTE_BYTES: usize = 3;
/// One step of a pull asks for no further page after this time.
const STEP_MS: u64 = 5_000;
impl<H: Host> Replica<H> {
    /// Pages until the head, or until something else is due. While some are stored, those behind them are asked for: what
    /// came ahead in vain is thrown away, for it stands on a cursor that is not there. In memory are at most the pages of two
    /// transactions.
    pub(super) async fn pull(self: &Rc<Self>) -> Answer {
        let mut asked = {
            let db = self.db.borrow();
            (db.base.manifest.cursor.clone(), db.base.manifest.resync.clone())
        };
        let full = match self.settings.pull_bytes {
            0 => store_bytes(self.db.borrow().base.budget),
            bytes => bytes,
        };
        let started = self.host.now();
        let mut pages: Vec<Page> = Vec::new();
        // Of these pages, and of those that are being stored.
        let (mut bytes, mut storing_bytes, mut count) = (0, 0, 0);
        // Of the last page of this step.
        let mut epoch = None;
        let (mut storing, mut stored): (Storing<'_>, Answer) = (None, Answer::Done { more: true });
        let (mut is_over, mut failed) = (false, None);
        loop {
            let goes_on = !is_over
                && loop {
                    let sent_at = self.host.now();
                    let sent = self.send("POST", "/pull", Some(self.pull_body(&asked, pages.last())));
                    let response = match beside(&mut storing, &mut stored, sent).await {
                        Ok(response) => response,
                        Err(NetworkError) => {
                            if self.host.now().get() >= sent_at.get() + limits::HEADERS_MS_MAX {
                                self.page_limit.set(page_limit(self.page_limit.get(), false));
                            }
                            failed = Some(Answer::Lost);
                            break false;
                        }
                    };
                    if !matches!(stored, Answer::Done { .. }) {
                        return stored;
                    }
                    if response.status != 200 {
                        if epoch.is_none() {
                            return self.pull_refused(&asked, &response).await;
                        }
                        // Asked again when the pages before are stored.
                        break false;
                    }
                    let Some(page) = from_json::<Page>(&response.body) else {
                        failed = Some(self.malformed("pull"));
                        break false;
                    };
                    self.page_limit.set(page_limit(self.page_limit.get(), true));
                    let is_first = epoch.is_none();
                    let own = epoch.take().or_else(|| known_epoch(&self.db.borrow()).cloned());
                    if own.is_some_and(|own| own != page.epoch) {
                        if !is_first {
                            break false;
                        }
                        if self.is_overtaken(&asked) {
                            return Answer::Stale;
                        }
                        let error = ErrorBody { epoch: Some(page.epoch.clone()), ..ErrorBody::default() };
                        return self.pull_reset(error).await;
                    }
                    let is_granted_anew = !page.access.added.is_empty() || !page.access.removed.is_empty();
                    if is_granted_anew && !is_first {
                        // What it takes away the pages before it still cover: asked again, it is stored by itself.
                        break false;
                    }
                    bytes += response.body.len();
                    self.db.borrow().base.reserved.set(BYTE_BYTES * (storing_bytes + bytes));
                    count += page.changes.values().map(Vec::len).sum::<usize>();
                    count += page.tombstones.values().map(Vec::len).sum::<usize>();
                    self.push_change(Change::Progress { phase: "pull", done: count as u64, total: count as u64 });
                    let is_last = !page.has_more || is_granted_anew || self.host.now().get() > started.get() + STEP_MS;
                    epoch = Some(page.epoch.clone());
                    pages.push(page);
                    if is_last {
                        break false;
                    }
                    if bytes > full && !planted(Plant::PullsToHeadInMemory) {
                        // Neither what waits to be sent nor a context that closes waits for the head.
                        break !self.is_closed() && self.next() != Next::Push;
                    }
                };
            is_over = !goes_on;
            storing_bytes = std::mem::take(&mut bytes);
            if let Some(storing) = storing.take() {
                stored = storing.await;
            }
            if !matches!(stored, Answer::Done { .. }) {
                return stored;
            }
            let Some(last) = pages.last() else { return failed.unwrap_or(stored) };
            let next = (Some(last.cursor.clone()), Vec::new());
            let asked = std::mem::replace(&mut asked, next);
            storing = Some(Box::pin(self.store_pages(asked, std::mem::take(&mut pages))));
        }
    }

    /// Asks for what follows the cursor, or the page before.
    fn pull_body(&self, asked: &Asked, before: Option<&Page>) -> String {
        let db = self.db.borrow();
        let request = PullRequest {
            protocol: PROTOCOL,
            user: self.config.user.clone(),
            client_id: db.state.client.client_id.clone(),
            cursor: before.map_or_else(|| asked.0.clone(), |page| Some(page.cursor.clone())),
            collections: self.wanted(&db.base.manifest),
            limit: self.page_limit.get(),
            resync: if before.is_some() { Vec::new() } else { asked.1.clone() },
        };
        to_json(&request)
    }

    /// While an answer was under way another context may have pulled further: on top of that, a page's old rows would
    /// shadow newer ones, and a reset would throw away what was just begun.
    fn is_overtaken(&self, asked: &Asked) -> bool {
        let db = self.db.borrow();
        (&db.base.manifest.cursor, &db.base.manifest.resync) != (&asked.0, &asked.1)
    }

    async fn pull_refused(self: &Rc<Self>, asked: &Asked, response: &HttpResponse) -> Answer {
        let error = error_of(response);
        if response.status == 409 && error.code == ErrorCode::RESET_REQUIRED {
            if self.is_overtaken(asked) {
                return Answer::Stale;
            }
            return self.pull_reset(error).await;
        }
        self.refusal(response, &error).await
    }

    /// Stores pages with the cursor of the last one, and does what is due when that was the last there is.
    async fn store_pages(self: &Rc<Self>, asked: Asked, mut pages: Vec<Page>) -> Answer {
        if planted(Plant::AccessStaysVisible) {
            pages.iter_mut().for_each(|page| page.access.removed.clear());
        }
        {
            let mut db = self.db.borrow_mut();
            for stamp in pages.iter().flat_map(stamps) {
                db.state.hlc.observe(&stamp.clamped(self.host.now().get(), limits::HLC_AHEAD_MS_MAX));
            }
        }
        // Before the cursor that leads over it: said again it is told once, passed over never.
        let overruled = pages.iter().flat_map(|page| &page.overruled).cloned().listed();
        if !overruled.is_empty() {
            let now = self.host.now();
            let plan = |replica: &Self| {
                let db = replica.db.borrow();
                plan_overruled(&db.state, &db.base, &db.conflicts, &overruled, now)
            };
            if let Err(answer) = self.commit(plan).await {
                return answer;
            }
        }
        let mut ingest = Ingest::new(pages);
        let (removed, news) = match self.commit_pages(&asked, &mut ingest).await {
            Ok(told) => told,
            Err(answer) => return answer,
        };
        let tally = self.tally.get();
        self.tally.set(Tally { pulled: tally.pulled + news, ..tally });
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
        if !self.has_unsent() {
            // Nothing is left that could have failed; it may be another context that sent it.
            *self.last_error.borrow_mut() = None;
        }
        let Some(page) = ingest.pages().last() else { return Answer::Stale };
        if !page.has_more
            && let Err(answer) = self.at_head(page).await
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

    /// Gives the pairs that the pages took away, and how many records they brought.
    async fn commit_pages(&self, asked: &Asked, ingest: &mut Ingest) -> Result<(Vec<Pair>, u64), Answer> {
        for _ in 0..STALE_MAX {
            let plan = self.plan_pages(asked, ingest).await?;
            let told = (plan.removed.clone(), plan.news);
            match commit_base(&self.host, &self.db, plan).await {
                Committing::Done(touched) => {
                    self.changed(touched);
                    return Ok(told);
                }
                Committing::Stale => self.catch_up().await?,
                Committing::Failed(error) => return Err(self.storage_failed(error.into())),
            }
        }
        Err(Answer::Stale)
    }

    async fn plan_pages(&self, asked: &Asked, ingest: &mut Ingest) -> Result<BaseTxn, Answer> {
        loop {
            // The pages belong to a cursor that is not there any more, or come from behind a backup of the server that another
            // context's push has named since.
            let epoch = ingest.pages().first().map(|page| &page.epoch);
            let is_of_another = known_epoch(&self.db.borrow()).is_some_and(|own| Some(own) != epoch);
            if is_of_another || self.is_overtaken(asked) {
                return Err(Answer::Stale);
            }
            let plan = {
                let db = self.db.borrow();
                let own = |pair: &Pair, id: &RecordId| {
                    if db.state.settled_by_key.is_empty() {
                        return None;
                    }
                    let key = RecordKey { scope: pair.0.clone(), collection: pair.1.clone(), id: id.clone() };
                    db.state.settled_of(&key).filter_map(|settled| settled.mutation.outcome.as_ref()?.version).max()
                };
                ingest.plan(&db.base, &self.settings.schema, &own, self.host.now())
            };
            match plan {
                Ok(plan) => return Ok(plan),
                Err(Missing) => self.missed().await?,
            };
        }
    }

    /// The collections to ask for: those of this context, and those that another one has pulled. A tab of an older version
    /// of the app knows fewer, and the server would take what is not asked for as given up, for all tabs.
    pub(super) fn wanted(&self, manifest: &Manifest) -> Vec<CollectionName> {
        let pulled = manifest.pairs.iter().map(|row| &row.pair.1);
        let all: Set<&CollectionName> = self.config.collections.keys().chain(pulled).collect();
        all.into_iter().cloned().listed()
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
            let plan = plan_resync(&self.db.borrow().base, &self.settings.schema, &pair, MISMATCH_MS, now);
            match plan {
                Some(plan) => self.commit_base_plan(plan).await?,
                None => self.note_error("checksum", DAMAGED),
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
        Ok(())
    }

    pub(super) fn mismatch(&self, page: &Page) -> Vec<Pair> {
        let db = self.db.borrow();
        let mut mismatch = Vec::new();
        for (scope, collections) in &page.checksums {
            for (collection, sum) in collections {
                let pair = Pair(scope.clone(), collection.clone());
                let Some(row) = db.base.manifest.pair(&pair) else { continue };
                // Another context may have pulled further since this page was stored: its sum is of then.
                let then = page.covered.get(scope).and_then(|collections| collections.get(collection));
                if row.covered.as_ref() == then && row.sum != *sum {
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

    /// Brings back what damaged rows lost. What could not be dealt with now is kept for the next step.
    pub(super) async fn repair(&self) -> Result<(), Answer> {
        loop {
            let Some(id) = self.damaged.borrow().last().copied() else { return Ok(()) };
            // Whose it is can be told only by runs that are in memory, and another context may just have changed them.
            self.db.borrow().base.touch_runs();
            if self.missed().await? {
                continue;
            }
            let plan = plan_repair(&self.db.borrow().base, &self.settings.schema, id, self.host.now());
            match plan {
                Some(plan) => match commit_base(&self.host, &self.db, plan).await {
                    Committing::Done(touched) => {
                        self.changed(touched);
                        // Records come back with a pull, which nothing else may ask for in minutes.
                        self.trigger(Trigger::Poke);
                    }
                    Committing::Stale => return self.catch_up().await,
                    Committing::Failed(error) => return Err(self.storage_failed(error.into())),
                },
                None if self.db.borrow().base.owner(id).is_some() => {
                    // Too soon: a later step tries again.
                    self.note_error("checksum", DAMAGED);
                    return Ok(());
                }
                None => {}
            }
            self.damaged.borrow_mut().retain(|other| *other != id);
        }
    }

    /// A pull was told to start over. Of another epoch, the push side must hear the ledger first, or acknowledged writes
    /// that the backup lost would be forgotten.
    pub(super) async fn pull_reset(self: &Rc<Self>, error: ErrorBody) -> Answer {
        let own = known_epoch(&self.db.borrow()).cloned();
        let other_epoch =
            !planted(Plant::LedgerNotAsked) && own.is_some() && error.epoch.is_some() && own != error.epoch;
        if !other_epoch {
            if self.db.borrow().base.manifest.cursor.is_none() {
                // It starts cold already.
                return self.malformed("pull");
            }
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
                    self.reset(&client_id, own.as_ref(), error).await
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

/// Waits for `work`, and lets the storing of pages go on meanwhile; what that came to goes to `stored`.
async fn beside<T>(storing: &mut Storing<'_>, stored: &mut Answer, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|context| {
        // First, so that the request is under way when the pages are looked at.
        let done = work.as_mut().poll(context);
        if done.is_pending()
            && let Some(begun) = storing
            && let Poll::Ready(answer) = begun.as_mut().poll(context)
        {
            (*stored, *storing) = (answer, None);
        }
        done
    })
    .await
}
