//! Records in reach: the manifest, the rows of it that are in memory, and what a computation missed.
//!
//! Everything that reads the base is synchronous and may miss rows. A miss is noted and the computation gives up
//! ([`Missing`]); its caller reads the rows named by [`Records::missing`] in one transaction, hands them over
//! ([`Records::give`]) and runs it again. So rules never wait, and what is needed together is read together.

use crate::edit::{BaseTxn, entries_of};
use crate::manifest::{Manifest, PRIMARY, PairRow};
use crate::page::{Location, Page};
use crate::row::{RowError, RowKind, decode};
use crate::rowstore::{Key, StoreName};
use crate::run::{Run, RunRef};
use crate::segment::Block;
use landfall_protocol::map::sort;
use landfall_protocol::{Listed, Map};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Rows that are needed are not in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing;

/// A row of the base by what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowId {
    /// Id and revision.
    Run(u64, u64),
    Page(u64),
    Segment(u64),
}

impl RowId {
    /// Where it is kept.
    pub fn place(self) -> (StoreName, Key) {
        match self {
            Self::Run(id, _) => (StoreName::Idx, run_key(id)),
            Self::Page(id) => (StoreName::Idx, page_key(id)),
            Self::Segment(id) => (StoreName::Seg, Key::Number(id)),
        }
    }
}

pub(crate) fn run_key(id: u64) -> Key {
    Key::text(named("run/", id))
}
pub(crate) fn page_key(id: u64) -> Key {
    Key::text(named("page/", id))
}
fn named(prefix: &str, id: u64) -> String {
    let mut name = String::from(prefix);
    name.push_str(&landfall_protocol::codec::padded(id, 16));
    name
}

/// A row in memory.
#[derive(Clone, Debug)]
enum Loaded {
    Run(Rc<Run>),
    Page(Rc<Page>),
    Segment(Rc<Block>),
    /// Can't be used: kept where it is, reported, read as if it had nothing.
    Broken,
}

#[derive(Clone, Debug)]
struct Cached {
    row: Loaded,
    bytes: usize,
    used: Cell<u64>,
}

/// Memory that is given to rows unless the app says otherwise, bytes.
pub const BUDGET_BYTES: usize = 32 * 1024 * 1024;

/// Rows that are asked for in one go: a sixteenth of the budget, for these and those before them are in use and come on top
/// of it. What is needed beyond is asked for when these are there.
fn rows_max(budget: usize) -> usize {
    (budget / 16).clamp(256 * 1024, 4 * 1024 * 1024) / (18 * 1024)
}

/// The base as one context knows it.
#[derive(Clone, Debug)]
pub struct Records {
    pub manifest: Manifest,
    cache: RefCell<Map<RowId, Cached>>,
    bytes: Cell<usize>,
    clock: Cell<u64>,
    /// The clock when the last missed row was given, and at the one before: what was used since is in use.
    given: Cell<u64>,
    floor: Cell<u64>,
    pub budget: usize,
    /// Of it, what something else holds for now: counted with the next row that is kept.
    pub reserved: Cell<usize>,
    missing: RefCell<Vec<RowId>>,
}

impl Default for Records {
    fn default() -> Self {
        Self {
            manifest: Manifest { next_row: 1, ..Manifest::default() },
            cache: RefCell::default(),
            bytes: Cell::new(0),
            clock: Cell::new(0),
            given: Cell::new(0),
            floor: Cell::new(0),
            budget: BUDGET_BYTES,
            reserved: Cell::new(0),
            missing: RefCell::default(),
        }
    }
}

impl Records {
    fn loaded(&self, id: RowId) -> Option<Loaded> {
        let cache = self.cache.borrow();
        match cache.get(&id) {
            Some(cached) => {
                self.clock.set(self.clock.get() + 1);
                cached.used.set(self.clock.get());
                Some(cached.row.clone())
            }
            None => {
                let mut missing = self.missing.borrow_mut();
                if missing.len() < rows_max(self.budget) && !missing.contains(&id) {
                    missing.push(id);
                }
                None
            }
        }
    }

    /// A run's row. `None`: missing, as for the other two.
    pub fn run(&self, run: &RunRef) -> Result<Rc<Run>, Missing> {
        match self.loaded(RowId::Run(run.id, run.rev)) {
            Some(Loaded::Run(run)) => Ok(run),
            Some(_) => Ok(Rc::new(Run::default())),
            None => Err(Missing),
        }
    }
    /// A run that is to be changed or merged; `None`: it can't be used, and nothing may take its place.
    pub fn sound(&self, run: &RunRef) -> Result<Option<Rc<Run>>, Missing> {
        match self.loaded(RowId::Run(run.id, run.rev)) {
            Some(Loaded::Run(run)) => Ok(Some(run)),
            Some(_) => Ok(None),
            None => Err(Missing),
        }
    }
    /// A segment; `None`: it can't be used.
    pub fn block(&self, id: u64) -> Result<Option<Rc<Block>>, Missing> {
        match self.loaded(RowId::Segment(id)) {
            Some(Loaded::Segment(block)) => Ok(Some(block)),
            Some(_) => Ok(None),
            None => Err(Missing),
        }
    }
    /// An index page; `None`: it can't be used.
    pub fn page(&self, id: u64) -> Result<Option<Rc<Page>>, Missing> {
        match self.loaded(RowId::Page(id)) {
            Some(Loaded::Page(page)) => Ok(Some(page)),
            Some(_) => Ok(None),
            None => Err(Missing),
        }
    }

    /// A segment as a page of the index that its records lie along; `None`: it can't be used.
    pub fn leaf(&self, run: u64, segment: u64, index: &str) -> Result<Option<Rc<Page>>, Missing> {
        let Some(block) = self.block(segment)? else { return Ok(None) };
        Ok(Some(Rc::new(Page::of(&entries_of(index, &block, run, segment)))))
    }

    /// The rows that were missed since the last call. Empty: whatever ran has all it needs.
    pub fn missing(&self) -> Vec<RowId> {
        self.floor.set(self.given.get());
        std::mem::take(&mut *self.missing.borrow_mut())
    }
    pub fn is_missing(&self) -> bool {
        !self.missing.borrow().is_empty()
    }

    /// Takes a row that was read. `Ok(false)`: it is not the one the manifest means, so the manifest is not the newest.
    /// An error: it can't be used; from now on it reads as having nothing, and the caller reports it.
    pub fn give(&self, id: RowId, text: Option<String>) -> Result<bool, RowError> {
        let Some(text) = text else { return Ok(false) };
        let bytes = text.len();
        let row = match id {
            RowId::Run(_, rev) => {
                decode::<Run>(RowKind::Run, &text).map(|run| (run.rev == rev, Loaded::Run(Rc::new(run))))
            }
            RowId::Page(_) => Page::decode(text).map(|page| (true, Loaded::Page(Rc::new(page)))),
            RowId::Segment(_) => Block::decode(text).map(|block| (true, Loaded::Segment(Rc::new(block)))),
        };
        match row {
            Ok((false, _)) => Ok(false),
            Ok((true, row)) => {
                let bytes = match &row {
                    Loaded::Run(run) => run.bytes(),
                    Loaded::Page(page) => page.bytes(),
                    Loaded::Segment(block) => block.bytes(),
                    Loaded::Broken => bytes,
                };
                self.keep(id, row, bytes);
                self.given.set(self.clock.get());
                Ok(true)
            }
            Err(error) => {
                self.mark_broken(id);
                Err(error)
            }
        }
    }

    /// A row that the newest manifest names is not there, or can't be used.
    pub fn mark_broken(&self, id: RowId) {
        self.keep(id, Loaded::Broken, 64);
    }

    /// Takes a transaction that was committed.
    pub fn adopt(&mut self, txn: &BaseTxn) {
        self.manifest.clone_from(&txn.manifest);
        for (id, run) in &txn.runs {
            self.keep(RowId::Run(*id, run.rev), Loaded::Run(Rc::new(run.clone())), run.bytes());
        }
    }

    fn keep(&self, id: RowId, row: Loaded, bytes: usize) {
        self.clock.set(self.clock.get() + 1);
        let mut cache = self.cache.borrow_mut();
        if let RowId::Run(run, rev) = id {
            // Only the newest revision of a run is of use.
            let old: Vec<RowId> = cache
                .range(RowId::Run(run, 0)..)
                .map(|(id, _)| *id)
                .take_while(|old| matches!(old, RowId::Run(old, at) if *old == run && *at < rev))
                .listed();
            for id in old {
                self.drop_row(&mut cache, id);
            }
        }
        self.drop_row(&mut cache, id);
        cache.insert(id, Cached { row, bytes, used: Cell::new(self.clock.get()) });
        self.bytes.set(self.bytes.get() + bytes);
        if self.bytes.get() + self.reserved.get() > self.budget {
            self.evict(&mut cache);
        }
    }

    fn drop_row(&self, cache: &mut Map<RowId, Cached>, id: RowId) {
        if let Some(old) = cache.remove(&id) {
            self.bytes.set(self.bytes.get() - old.bytes);
        }
    }

    /// Lets go of what was not used for longest, down to fifteen sixteenths of the budget. Runs stay: they are small, and
    /// every read needs them. What the computation that missed rows has used stays too, or it would never end.
    fn evict(&self, cache: &mut Map<RowId, Cached>) {
        let mut by_age: Vec<(u64, RowId)> = Vec::new();
        for (id, cached) in &*cache {
            if !matches!(id, RowId::Run(..)) && cached.used.get() <= self.floor.get() {
                // A page saves more reads than a segment of its size.
                let bonus = if matches!(id, RowId::Page(_)) { 512 } else { 0 };
                by_age.push((cached.used.get() + bonus, *id));
            }
        }
        sort(&mut by_age, &Ord::cmp);
        for (_, id) in by_age {
            if self.bytes.get() + self.reserved.get() <= self.budget / 16 * 15 {
                break;
            }
            self.drop_row(cache, id);
        }
    }

    /// The pair that a row belongs to as the manifest in memory has it, and the index if it is one's. `None`: nothing
    /// that is known names it, so it is of another state.
    pub fn owner(&self, id: RowId) -> Option<(&PairRow, Option<&str>)> {
        let cache = self.cache.borrow();
        let names = |reference: &RunRef| match id {
            RowId::Run(run, rev) => (reference.id, reference.rev) == (run, rev),
            RowId::Page(row) | RowId::Segment(row) => {
                let cached = cache.get(&RowId::Run(reference.id, reference.rev)).map(|cached| &cached.row);
                matches!(cached, Some(Loaded::Run(run)) if run.fence_of(row).is_some())
            }
        };
        for row in &self.manifest.pairs {
            if !matches!(id, RowId::Page(_)) && row.live.iter().chain(&row.staged).any(&names) {
                return Some((row, None));
            }
            for index in &row.indexes {
                let output = index.merging.as_ref().map(|merging| &merging.output);
                if index.live.iter().chain(&index.staged).chain(output).any(&names) {
                    return Some((row, Some(&index.name)));
                }
            }
        }
        None
    }

    /// Asks for the runs' own rows: small, and every read begins with them.
    pub fn touch_runs(&self) {
        for row in &self.manifest.pairs {
            let pages = row.indexes.iter().flat_map(|index| &index.live);
            for reference in row.live.iter().chain(pages) {
                let _ = self.run(reference);
            }
        }
    }

    /// Asks for every live row, as for a walk over all of them.
    pub fn touch_all(&self) {
        for row in &self.manifest.pairs {
            for reference in &row.live {
                let Ok(run) = self.run(reference) else { continue };
                for fence in &run.fences {
                    let _ = self.block(fence.row);
                }
            }
            for reference in row.indexes.iter().flat_map(|index| &index.live) {
                let Ok(run) = self.run(reference) else { continue };
                for fence in &run.fences {
                    let _ = self.page(fence.row);
                }
            }
        }
    }

    /// Bytes of rows in memory, about.
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// True if the slot that an index names is still its record's.
    pub fn is_live(&self, runs: &[RunRef], at: Location) -> Result<bool, Missing> {
        let Some(run) = runs.iter().find(|run| run.id == at.run) else { return Ok(false) };
        let run = self.run(run)?;
        Ok(run.fence_of(at.segment).is_some_and(|fence| !run.fences[fence].dead.has(at.slot as usize)))
    }

    /// Finds the record or tombstone with an id.
    pub fn find(&self, row: &PairRow, staged: bool, id: &str) -> Result<Option<(Location, Rc<Block>)>, Missing> {
        let runs = row.runs(staged);
        let mut missing = false;
        // All candidates are looked at even when one is missing: they are read together then.
        for run in runs.iter().rev().filter(|run| run.sort.is_empty() && run.spans(id)) {
            match self.find_in(run, id) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                Err(Missing) => missing = true,
            }
        }
        if runs.iter().any(|run| !run.sort.is_empty())
            && let Some(index) = row.index(PRIMARY)
        {
            let entries = if staged { &index.staged } else { &index.live };
            for run in entries.iter().rev().filter(|run| run.spans(id)) {
                match self.find_by(runs, run, id) {
                    Ok(None) => {}
                    Ok(found) => return Ok(found),
                    Err(Missing) => missing = true,
                }
            }
        }
        if missing { Err(Missing) } else { Ok(None) }
    }

    fn find_in(&self, reference: &RunRef, id: &str) -> Result<Option<(Location, Rc<Block>)>, Missing> {
        let run = self.run(reference)?;
        let Some(fence) = run.row_of(id).and_then(|at| run.fences.get(at)) else { return Ok(None) };
        let Some(block) = self.block(fence.row)? else { return Ok(None) };
        let slot = block.find(id).filter(|slot| !fence.dead.has(*slot));
        Ok(slot.map(|slot| (Location { run: reference.id, segment: fence.row, slot: slot as u32 }, block)))
    }

    fn find_by(&self, runs: &[RunRef], index: &RunRef, id: &str) -> Result<Option<(Location, Rc<Block>)>, Missing> {
        let run = self.run(index)?;
        for fence in run.fences.iter().skip(run.row_from(id)) {
            if fence.first.as_str() > id {
                break;
            }
            let Some(page) = self.page(fence.row)? else { continue };
            let mut at = page.from(id);
            while at < page.len() && page.key(at) == id {
                let place = page.at(at);
                let is_live = self.is_live(runs, place);
                if is_live.is_err() {
                    // It mostly is; then the segment is needed next.
                    let _ = self.block(place.segment);
                }
                if is_live? {
                    return Ok(self.block(place.segment)?.map(|block| (place, block)));
                }
                at += 1;
            }
        }
        Ok(None)
    }
}
