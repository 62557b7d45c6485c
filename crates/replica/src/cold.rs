//! A log that is not read yet: what a context does between opening and having read all of it.
//!
//! With many unsent changes the log is long, and the lane index (`core::lane_index`) says where in it a record's changes are.
//! One record is looked at by reading its rows; whatever asks for more than that (a query over records with changes, every step
//! of sync, the outbox as a list) has the whole log read first, in slices, and from then on nothing is cold.
//!
//! Invariant: a lane is used only when all of its undecided entries are in memory. What was read is taken in only while this
//! context's outbox is not newer than it: an entry that ended since must not come back.

use crate::Replica;
use crate::db::{CLIENT, Db, set_aside_key};
use crate::error::SyncError;
use crate::host::Host;
use crate::report::Change;
use landfall_core::State;
use landfall_core::lane_index::{LaneIndex, LanePage, LaneStep, Tail, hash_of, page_of, pages, plan_lanes, rows_of};
use landfall_core::plant::{Plant, planted};
use landfall_core::rows::ClientRow;
use landfall_protocol::{AddAll, CollectionName, EntryId, Listed, Pair, RecordId};
use landfall_storage::{
    CommitError, Durability, Key, KeyedRows, Read, RowKind, RowStore, StoreName, Txn, decode, encode,
};
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;

pub(crate) const LANES: &str = "lanes";

/// Entries that a slice of the log should have: some milliseconds of work.
const SLICE_ENTRIES: usize = 1_500;
/// Log rows of the first slice and of the largest.
const SLICE_ROWS: usize = 16;
const SLICE_ROWS_MAX: usize = 1_024;
/// Of more records than this the rows are not looked up one by one.
const LOOKED_UP_MAX: usize = 64;

/// Boxed, so that none of the many that begin with it holds its machine.
type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T, SyncError>> + 'a>>;

/// The part of the log that is not in memory.
#[derive(Clone, Debug)]
pub(crate) struct Cold {
    index: Rc<LaneIndex>,
    /// Log rows up to here are in memory, by slices.
    read_through: u64,
    slice: usize,
    /// Hashes of records whose lanes are whole.
    known: Vec<u64>,
    /// Those that a computation asked for in vain.
    missing: RefCell<Vec<u64>>,
}

impl Cold {
    pub(crate) fn new(index: Rc<LaneIndex>) -> Self {
        Self { index, read_through: 0, slice: SLICE_ROWS, known: Vec::new(), missing: RefCell::default() }
    }

    /// Undecided entries that are not in memory.
    fn left(&self, state: &State) -> usize {
        let is_in = |id: &&EntryId| id.log_key() <= self.index.through;
        let mut there = state.entries.keys().take_while(is_in).count();
        for (_, row) in state.settled.range(State::settled_key(self.index.rev + 1)..) {
            for mutation in &row.mutations {
                there += mutation.entries.iter().filter(is_in).count();
            }
        }
        (self.index.undecided as usize).saturating_sub(there)
    }
}

impl Db {
    /// Undecided entries, whether they are in memory or not.
    pub(crate) fn pending(&self) -> usize {
        self.state.entries.len() + self.cold.as_ref().map_or(0, |cold| cold.left(&self.state))
    }

    /// True while the lane of this record is not known to be whole; it is then asked for.
    pub(crate) fn is_cold(&self, collection: &CollectionName, id: &RecordId) -> bool {
        let Some(cold) = &self.cold else { return false };
        let hash = hash_of(collection, id);
        if cold.known.contains(&hash) || planted(Plant::ColdLaneTakenAsWhole) {
            return false;
        }
        let mut missing = cold.missing.borrow_mut();
        // Beyond that all of the log is read.
        if missing.len() <= LOOKED_UP_MAX && !missing.contains(&hash) {
            missing.push(hash);
        }
        true
    }

    /// True if an undecided entry may be in the part of the log that is not in memory.
    pub(crate) fn may_hold(&self, id: EntryId) -> bool {
        let is_cold = self.cold.as_ref().is_some_and(|cold| id.log_key() <= cold.index.through);
        self.state.entries.contains_key(&id) || (is_cold && !self.state.decided.contains(&id))
    }

    /// The pairs with records whose changes are not all in memory.
    pub(crate) fn cold_pairs(&self) -> &[Pair] {
        self.cold.as_ref().map_or(&[], |cold| &cold.index.pairs)
    }
}

impl<H: Host> Replica<H> {
    /// Reads rows of the log into memory. `None`: what this context knows of the outbox is newer; read again.
    ///
    /// Afterwards it has heard of all that had ended when they were read.
    async fn adopt_cold(&self, mut reads: Vec<Read>) -> Result<Option<KeyedRows>, SyncError> {
        reads.push(Read::one(StoreName::Meta, Key::text(CLIENT)));
        let mut found = self.host.rows().read(&reads).await?;
        let client = found.pop().and_then(|mut rows| rows.pop()).map(|(_, text)| text);
        let row = client.as_deref().and_then(|text| decode::<ClientRow>(RowKind::Client, text).ok());
        let rev = row.map_or(0, |row| row.rev);
        let is_older = {
            let db = self.db.borrow();
            rev <= db.state.client.rev && client != db.client_text
        };
        if is_older {
            self.refresh().await?;
            return Ok(None);
        }
        let mut rows = KeyedRows::new();
        found.into_iter().for_each(|found| rows.add_all(found));
        for (key, text) in &rows {
            let db = &mut *self.db.borrow_mut();
            if let Key::Number(key) = *key
                && !db.state.log_rows.contains_key(&key)
            {
                db.add_log_row(key, text, &mut |_| {});
            }
        }
        while self.db.borrow().state.client.rev < rev {
            self.refresh().await?;
        }
        Ok(Some(rows))
    }

    /// Reads the lanes that a computation missed. False: there are none.
    pub(crate) fn fetch_lanes(&self) -> Boxed<'_, bool> {
        Box::pin(self.look_up())
    }

    async fn look_up(&self) -> Result<bool, SyncError> {
        let (mut hashes, mut reads) = (Vec::new(), Vec::new());
        if let Some(cold) = &self.db.borrow().cold {
            hashes = cold.missing.take();
            for hash in &hashes {
                for run in &cold.index.runs {
                    reads.push(Read::one(StoreName::Idx, Key::Text(page_of(*run, *hash))));
                }
            }
        }
        if hashes.is_empty() {
            return Ok(false);
        }
        let mut is_known = hashes.len() <= LOOKED_UP_MAX;
        let mut rows: Vec<u64> = Vec::new();
        if is_known {
            let found = self.host.rows().read(&reads).await?;
            let runs = found.len() / hashes.len();
            for (at, mut found) in found.into_iter().enumerate() {
                // Missing: another context made the index anew, or the row was lost.
                let (key, text) = found.pop().unwrap_or((Key::Number(0), String::new()));
                match decode::<LanePage>(RowKind::LanePage, &text) {
                    Ok(page) => {
                        for row in rows_of(&page, hashes[at / runs]) {
                            if !rows.contains(&row) {
                                rows.push(row);
                            }
                        }
                    }
                    Err(error) => {
                        let db = &mut *self.db.borrow_mut();
                        if !text.is_empty() {
                            db.quarantine(StoreName::Idx, &key.name(), error);
                        }
                        db.is_index_broken = true;
                        is_known = false;
                    }
                }
            }
        }
        if !is_known {
            self.read_log().await?;
            return Ok(true);
        }
        let reads = rows.into_iter().map(|row| Read::one(StoreName::Log, Key::Number(row))).listed();
        while self.adopt_cold(reads.clone()).await?.is_none() {}
        if let Some(cold) = &mut self.db.borrow_mut().cold {
            cold.known.add_all(hashes);
        }
        Ok(true)
    }

    /// True while a part of the log is not in memory.
    pub fn is_cold(&self) -> bool {
        self.db.borrow().cold.is_some()
    }

    /// Reads what is left of the log, slice by slice. Afterwards nothing is cold.
    pub fn read_log(&self) -> Boxed<'_, ()> {
        Box::pin(self.read_slices())
    }

    async fn read_slices(&self) -> Result<(), SyncError> {
        loop {
            let (from, to, limit) = match &self.db.borrow().cold {
                Some(cold) => (cold.read_through + 1, cold.index.through, cold.slice),
                None => return Ok(()),
            };
            let read = Read::Range { store: StoreName::Log, from: Key::Number(from), to: Key::Number(to), limit };
            let before = self.db.borrow().state.entries.len();
            let Some(rows) = self.adopt_cold(vec![read]).await? else { continue };
            let mut db = self.db.borrow_mut();
            let count = db.state.entries.len().saturating_sub(before);
            let Some(cold) = &mut db.cold else { return Ok(()) };
            if from > cold.read_through
                && let Some((Key::Number(last), _)) = rows.last()
            {
                cold.read_through = *last;
            }
            cold.slice = if count < SLICE_ENTRIES { (limit * 2).min(SLICE_ROWS_MAX) } else { (limit / 2).max(1) };
            if rows.len() < limit {
                db.cold = None;
                drop(db);
                self.push_change(Change::Status);
            }
        }
    }

    /// Brings the lane index up to date, if it is due. False: it was not.
    pub fn index_lanes(&self) -> Boxed<'_, bool> {
        Box::pin(self.lane_step())
    }

    async fn lane_step(&self) -> Result<bool, SyncError> {
        // Relaxed: without it the log is read.
        let mut txn = Txn::new("lanes", Durability::Relaxed);
        let mut aside = None;
        let text = {
            let db = self.db.borrow();
            // What a later version wrote is its own.
            if db.cold.is_some() || db.why_unreadable(LANES) == Some("newer") {
                return Ok(false);
            }
            let tail = self.settings.tail.unwrap_or(Tail::DEFAULT);
            let step = plan_lanes(&db.state, db.log_key, db.lanes.as_deref(), db.is_index_broken, tail);
            let Some(LaneStep { index, put, gone }) = step else { return Ok(false) };
            txn.expect(StoreName::Meta, Key::text(LANES), db.lanes_text.clone());
            if let (None, Some(broken)) = (&db.lanes, &db.lanes_text) {
                let key = set_aside_key(LANES, self.host.random());
                txn.put(StoreName::Meta, Key::text(key.clone()), broken.clone());
                aside = Some(key);
            }
            for key in gone.into_iter().flat_map(pages) {
                // What can't be read is kept.
                if !db.quarantined.contains_key(&(StoreName::Idx, key.clone())) {
                    txn.delete(StoreName::Idx, Key::Text(key));
                }
            }
            for (key, page) in put {
                txn.put(StoreName::Idx, Key::Text(key), encode(RowKind::LanePage, &page));
            }
            let text = index.as_ref().map(|index| encode(RowKind::Lanes, index));
            match &text {
                Some(text) => txn.put(StoreName::Meta, Key::text(LANES), text.clone()),
                None => txn.delete(StoreName::Meta, Key::text(LANES)),
            }
            text
        };
        let text = match self.host.rows().commit(txn).await {
            Ok(_) => {
                self.storage.borrow_mut().set_aside.add_all(aside);
                text
            }
            // Another context was faster, or nobody knows: what is there now counts.
            Err(CommitError::Stale { .. } | CommitError::Unknown { .. }) => {
                self.host.rows().get(StoreName::Meta, &Key::text(LANES)).await?
            }
            Err(error) => return Err(error.into()),
        };
        self.db.borrow_mut().adopt_lanes(text);
        Ok(true)
    }
}
