//! Carrying a query out over the base: by id, along an index, or over all records, a bounded part at a time.
//!
//! A search is a computation that misses rows ([`crate::records`]): it keeps how far it came, and goes on when they are
//! there. What lies over the base is not its business; it leaves those records out and the caller adds them.

use crate::manifest::{PRIMARY, PairRow, Schema};
use crate::page::{Entry, Location, Page};
use crate::query::key::{Range, prefix_len};
use crate::query::plan::IndexAccess;
use crate::query::{Access, Cursor, Filter, IndexInfo, Plan, Query, plan};
use crate::records::{Missing, Records};
use crate::run::{Run, RunRef};
use landfall_protocol::codec::write_string;
use landfall_protocol::map::sort;
use landfall_protocol::{AddAll, Listed, Pair, Version};
use std::cmp::Ordering;
use std::rc::Rc;

/// Entries of an index that are looked up together.
const CHUNK: usize = 256;

/// Of an answer of at most so many records the segments can be in memory together. Of more, or when nobody knows of how
/// many, each text is taken when its segment is looked at, which may go then.
const LATE_MAX: usize = 1_000;

/// A record that fits: its place in the order, and where it is.
#[derive(Clone, Debug)]
pub struct Hit {
    pub place: Cursor,
    /// `None`: it is not in the base; the caller knows its text.
    pub at: Option<Location>,
    /// Its version and JSON with its id, if they were taken already.
    pub taken: Option<(Version, Rc<str>)>,
}

/// A record's JSON with its id in front: `{"id":"…",…}`.
pub fn with_id(id: &str, fields: &str) -> Rc<str> {
    let mut json = String::with_capacity(fields.len() + id.len() + 10);
    json.push_str("{\"id\":");
    write_string(&mut json, id);
    let rest = fields.trim_ascii_start().strip_prefix('{').unwrap_or("}").trim_ascii_start();
    if !rest.starts_with('}') {
        json.push(',');
    }
    json.push_str(rest);
    json.into()
}

/// True for records that the caller adds itself.
pub type Over<'a> = &'a dyn Fn(&Pair, &str) -> bool;

/// A query on its way.
pub struct Search {
    query: Query,
    parts: Vec<Part>,
    pub found: Vec<Hit>,
    /// Records that fit, for a count.
    pub count: u64,
}

/// One pair's share of it.
struct Part {
    row: PairRow,
    plan: Plan,
    filter: Filter,
    way: Way,
    found: usize,
}

enum Way {
    Ids(Vec<String>),
    /// Segments that are not looked at yet: run, fence.
    Scan(Vec<(usize, usize)>),
    /// Nothing was read yet; runs may be missing.
    Begin,
    Index {
        range: usize,
        heads: Option<Vec<Head>>,
        chunk: Vec<Entry>,
    },
}

/// Where a search is in one run of an index, or of records that lie along it.
struct Head {
    run: Rc<Run>,
    /// The run's id, if its rows are segments.
    records: Option<u64>,
    fence: usize,
    page: Option<Rc<Page>>,
    at: usize,
    is_over: bool,
}

/// What is known of a pair's indexes.
fn infos(row: &PairRow) -> Vec<IndexInfo> {
    let mut infos = Vec::new();
    for index in &row.indexes {
        infos.push(IndexInfo {
            name: index.name.clone(),
            fields: index.fields().map(str::to_owned).listed(),
            ready: index.is_ready() && index.name != PRIMARY,
            entries: index.live.iter().map(|run| run.live).sum(),
        });
    }
    infos
}

/// The way that a query takes in one pair, to be carried out or shown.
pub fn plan_for(query: &Query, row: &PairRow, schema: &Schema) -> (Plan, Vec<IndexInfo>) {
    let infos = infos(row);
    let cluster = schema.get(&row.pair.1).map(|declared| declared.cluster.clone()).unwrap_or_default();
    (plan(query, &infos, row.live_count(), &cluster), infos)
}

impl Search {
    pub fn new(query: Query, records: &Records, schema: &Schema) -> Self {
        let mut search = Self { query, parts: Vec::new(), found: Vec::new(), count: 0 };
        search.begin(records, schema);
        search
    }

    fn begin(&mut self, records: &Records, schema: &Schema) {
        self.found = Vec::new();
        self.count = 0;
        self.parts = Vec::new();
        for row in asked(&self.query, records) {
            let (plan, _) = plan_for(&self.query, row, schema);
            let way = match &plan.access {
                Access::Ids(ids) => Way::Ids(ids.clone()),
                Access::Scan => Way::Begin,
                Access::Index(_) => Way::Index { range: 0, heads: None, chunk: Vec::new() },
            };
            let filter = Filter::new(&plan.filter);
            self.parts.push(Part { row: row.clone(), plan, filter, way, found: 0 });
        }
    }

    /// Goes on. When it is done, `found` holds the base's records that fit, in order and no more than are asked for.
    pub fn step(&mut self, records: &Records, schema: &Schema, over: Over<'_>) -> Result<(), Missing> {
        let is_same = |part: &Part| records.manifest.pair(&part.row.pair) == Some(&part.row);
        let rows = asked(&self.query, records).count();
        if rows != self.parts.len() || !self.parts.iter().all(is_same) {
            // Runs that it reads may be gone.
            self.begin(records, schema);
        }
        let wanted = self.wanted();
        let mut parts = std::mem::take(&mut self.parts);
        let mut missing = false;
        for part in &mut parts {
            missing |= self.part(part, records, over, wanted).is_err();
        }
        self.parts = parts;
        if missing {
            return Err(Missing);
        }
        self.cut(wanted);
        Ok(())
    }

    fn wanted(&self) -> usize {
        self.query.limit.map_or(usize::MAX, |limit| limit.saturating_add(self.query.offset))
    }

    /// Sorts what was found and lets go of what no answer needs.
    fn cut(&mut self, wanted: usize) {
        if !self.query.count {
            let order = &self.query.order;
            sort(&mut self.found, &|a, b| a.place.compare(&b.place, order));
            self.found.truncate(wanted);
        }
    }

    fn part(&mut self, part: &mut Part, records: &Records, over: Over<'_>, wanted: usize) -> Result<(), Missing> {
        if matches!(part.way, Way::Begin) {
            let mut all = Vec::new();
            let mut missing = false;
            for (at, reference) in part.row.live.iter().enumerate() {
                match records.run(reference) {
                    Ok(run) => all.add_all((0..run.fences.len()).map(|fence| (at, fence))),
                    Err(Missing) => missing = true,
                }
            }
            if missing {
                return Err(Missing);
            }
            part.way = Way::Scan(all);
        }
        match std::mem::replace(&mut part.way, Way::Begin) {
            Way::Begin => Ok(()),
            Way::Ids(ids) => {
                let mut left = Vec::new();
                for id in ids {
                    if over(&part.row.pair, &id) {
                        continue;
                    }
                    let looked = records.find(&part.row, false, &id).and_then(|found| match found {
                        Some((at, _)) => self.take(part, records, at),
                        None => Ok(()),
                    });
                    if looked.is_err() {
                        left.push(id);
                    }
                }
                let is_done = left.is_empty();
                part.way = Way::Ids(left);
                if is_done { Ok(()) } else { Err(Missing) }
            }
            Way::Scan(todo) => {
                let mut left = Vec::new();
                for (at, fence) in todo {
                    if self.segment(part, records, over, at, fence).is_err() {
                        left.push((at, fence));
                    }
                    if wanted < usize::MAX && self.found.len() > wanted.saturating_mul(2).saturating_add(4096) {
                        self.cut(wanted);
                    }
                }
                let is_done = left.is_empty();
                part.way = Way::Scan(left);
                if is_done { Ok(()) } else { Err(Missing) }
            }
            Way::Index { mut range, mut heads, mut chunk } => {
                let access = match &part.plan.access {
                    Access::Index(access) => access.clone(),
                    Access::Ids(_) | Access::Scan => return Ok(()),
                };
                let result = self.along(part, records, over, wanted, &access, &mut range, &mut heads, &mut chunk);
                part.way = Way::Index { range, heads, chunk };
                result
            }
        }
    }

    /// All live records of one segment.
    fn segment(
        &mut self,
        part: &mut Part,
        records: &Records,
        over: Over<'_>,
        at: usize,
        fence: usize,
    ) -> Result<(), Missing> {
        let Some(reference) = part.row.live.get(at) else { return Ok(()) };
        let run_id = reference.id;
        let run = records.run(reference)?;
        let Some(fence) = run.fences.get(fence) else { return Ok(()) };
        let Some(block) = records.block(fence.row)? else { return Ok(()) };
        for slot in 0..block.len() {
            let Some(text) = block.fields(slot) else { continue };
            let id = block.id(slot);
            if !fence.dead.has(slot) && part.filter.matches(&id, text) && !over(&part.row.pair, &id) {
                let at = Location { run: run_id, segment: fence.row, slot: slot as u32 };
                self.hit(part, &id, text, at, block.version(slot));
            }
        }
        Ok(())
    }

    /// A record whose segment is in memory, if it fits.
    fn take(&mut self, part: &mut Part, records: &Records, at: Location) -> Result<(), Missing> {
        let Some(block) = records.block(at.segment)? else { return Ok(()) };
        let slot = at.slot as usize;
        if let Some(text) = block.fields(slot) {
            let id = block.id(slot);
            if part.filter.matches(&id, text) {
                self.hit(part, &id, text, at, block.version(slot));
            }
        }
        Ok(())
    }

    fn hit(&mut self, part: &mut Part, id: &str, text: &str, at: Location, version: Version) {
        if self.query.count {
            self.count += 1;
            return;
        }
        let place = Cursor::of(&self.query.order, part.row.pair.0.as_str(), id, text);
        if self.is_past(&place) {
            part.found += 1;
            let taken = (self.wanted() > LATE_MAX).then(|| (version, with_id(id, text)));
            self.found.push(Hit { place, at: Some(at), taken });
        }
    }

    /// True for what comes behind the place where the last page ended.
    pub fn is_past(&self, place: &Cursor) -> bool {
        let order = &self.query.order;
        self.query.after.as_ref().is_none_or(|after| place.compare(after, order) == Ordering::Greater)
    }

    #[allow(clippy::too_many_arguments)] // The parts of one `Way`.
    fn along(
        &mut self,
        part: &mut Part,
        records: &Records,
        over: Over<'_>,
        wanted: usize,
        access: &IndexAccess,
        range: &mut usize,
        heads: &mut Option<Vec<Head>>,
        chunk: &mut Vec<Entry>,
    ) -> Result<(), Missing> {
        // A count without conditions left need not see the records.
        let counts = self.query.count && part.filter.is_empty();
        loop {
            let Some(bounds) = access.ranges.get(*range) else { return Ok(()) };
            let is_whole = self.fill(part, records, over, access, bounds, heads, chunk)?;
            if counts {
                self.count += chunk.len() as u64;
                chunk.clear();
            } else {
                self.look_up(part, records, chunk)?;
            }
            if part.plan.early_stop && part.found >= wanted {
                *range = access.ranges.len();
            } else if is_whole {
                *range += 1;
                *heads = None;
            }
        }
    }

    /// Reads the next entries of a range in order. True: these are the last.
    #[allow(clippy::too_many_arguments)]
    fn fill(
        &self,
        part: &Part,
        records: &Records,
        over: Over<'_>,
        access: &IndexAccess,
        bounds: &Range,
        heads: &mut Option<Vec<Head>>,
        chunk: &mut Vec<Entry>,
    ) -> Result<bool, Missing> {
        let Some(index) = part.row.indexes.get(access.index) else { return Ok(true) };
        if heads.is_none() {
            // Its entries are asked whether they live when they are there: those runs are read with the index's own.
            for run in &part.row.live {
                let _ = records.run(run);
            }
            // Records that lie along the index say themselves what its pages say, and are needed anyway, unless they are
            // only counted.
            let is_along = !self.query.count && part.row.live.iter().all(|run| run.sort == index.name);
            let runs = if is_along { &part.row.live } else { &index.live };
            *heads = Some(start(records, runs, is_along, bounds, access.backwards)?);
        }
        let Some(heads) = heads else { return Ok(true) };
        loop {
            let mut missing = false;
            for head in heads.iter_mut() {
                missing |= head.settle(records, &index.name, bounds, access.backwards).is_err();
            }
            if missing {
                return Err(Missing);
            }
            let mut best: Option<usize> = None;
            for (at, head) in heads.iter().enumerate() {
                let Some((page, entry)) = head.current(access.backwards) else { continue };
                let known = best.and_then(|best| heads[best].current(access.backwards));
                let is_better = known.is_none_or(|(other, known)| {
                    let way = page.key(entry).cmp(&other.key(known)).then_with(|| page.id(entry).cmp(&other.id(known)));
                    if access.backwards { way.is_gt() } else { way.is_lt() }
                });
                if is_better {
                    best = Some(at);
                }
            }
            let Some((at, entry)) = best.and_then(|at| Some((at, heads[at].entry(access.backwards)?))) else {
                return Ok(true);
            };
            // A chunk ends where no tie goes on.
            if chunk.len() >= CHUNK {
                let ties = |fields: usize| {
                    let last = chunk.last().map_or("", |last| last.key.as_str());
                    last.get(..prefix_len(last, fields)) == entry.key.get(..prefix_len(&entry.key, fields))
                };
                if !access.run_fields.is_some_and(ties) {
                    return Ok(false);
                }
            }
            let is_live = records.is_live(&part.row.live, entry.at)?;
            heads[at].pass(access.backwards);
            if is_live && !over(&part.row.pair, &entry.id) {
                chunk.push(entry);
            }
        }
    }

    /// Looks at the records of a chunk, all of them when the last one is there.
    fn look_up(&mut self, part: &mut Part, records: &Records, chunk: &mut Vec<Entry>) -> Result<(), Missing> {
        let mut missing = false;
        for entry in chunk.iter() {
            missing |= records.block(entry.at.segment).is_err();
        }
        if missing {
            return Err(Missing);
        }
        for entry in std::mem::take(chunk) {
            self.take(part, records, entry.at)?;
        }
        Ok(())
    }
}

/// The pairs that a query asks.
pub fn asked<'a>(query: &'a Query, records: &'a Records) -> impl Iterator<Item = &'a PairRow> {
    records
        .manifest
        .pairs
        .iter()
        .filter(|row| row.pair.1 == query.collection && query.scope.as_ref().is_none_or(|scope| *scope == row.pair.0))
}

/// The beginning of a range in every run that can have a part of it.
fn start(
    records: &Records,
    runs: &[RunRef],
    are_records: bool,
    bounds: &Range,
    backwards: bool,
) -> Result<Vec<Head>, Missing> {
    let mut heads = Vec::new();
    let mut missing = false;
    for reference in runs.iter().filter(|run| run.last >= bounds.lower && run.first < bounds.upper) {
        let Ok(run) = records.run(reference) else {
            missing = true;
            continue;
        };
        let fence = match backwards {
            false => run.row_from(&bounds.lower),
            true => run.fences.partition_point(|fence| fence.first < bounds.upper).saturating_sub(1),
        };
        let records = are_records.then_some(reference.id);
        heads.push(Head { run, records, fence, page: None, at: usize::MAX, is_over: false });
    }
    if missing { Err(Missing) } else { Ok(heads) }
}

impl Head {
    /// Makes the next entry of the range the current one, or finds that there is none.
    fn settle(&mut self, records: &Records, index: &str, bounds: &Range, backwards: bool) -> Result<(), Missing> {
        while !self.is_over {
            let Some(page) = &self.page else {
                let Some(fence) = self.run.fences.get(self.fence) else {
                    self.is_over = true;
                    break;
                };
                // What can't be read has nothing; it is mended.
                let read = |row: u64| match self.records {
                    Some(run) => records.leaf(run, row, index),
                    None => records.page(row),
                };
                let page = read(fence.row);
                if page.is_err() && !backwards {
                    // A range that ends in the next page needs that one too.
                    let rest = self.run.fences.iter().skip(self.fence + 1);
                    let mut ahead = rest.take_while(|next| next.first < bounds.upper);
                    if let (Some(next), None) = (ahead.next(), ahead.next()) {
                        let _ = read(next.row);
                    }
                }
                let page = page?;
                let len = page.as_ref().map_or(0, |page| page.len());
                let within = |key: &str| page.as_ref().map_or(0, |page| page.from(key));
                self.at = match (self.at == usize::MAX, backwards) {
                    (true, false) => within(&bounds.lower),
                    (true, true) => within(&bounds.upper),
                    (false, false) => 0,
                    (false, true) => len,
                };
                match page {
                    Some(page) => self.page = Some(page),
                    None => self.next_page(backwards),
                }
                continue;
            };
            let is_past = if backwards { self.at == 0 } else { self.at >= page.len() };
            if is_past {
                self.next_page(backwards);
                continue;
            }
            let key = page.key(if backwards { self.at - 1 } else { self.at });
            self.is_over = if backwards { *key < *bounds.lower } else { *key >= *bounds.upper };
            break;
        }
        Ok(())
    }

    fn next_page(&mut self, backwards: bool) {
        self.page = None;
        self.at = 0;
        self.fence = if backwards { self.fence.wrapping_sub(1) } else { self.fence + 1 };
    }

    /// The next entry of the range: its page and place.
    fn current(&self, backwards: bool) -> Option<(&Page, usize)> {
        let page = self.page.as_ref().filter(|_| !self.is_over)?;
        Some((page, if backwards { self.at.checked_sub(1)? } else { self.at }))
    }

    fn entry(&self, backwards: bool) -> Option<Entry> {
        self.current(backwards).map(|(page, at)| page.entry(at))
    }

    fn pass(&mut self, backwards: bool) {
        self.at = if backwards { self.at.saturating_sub(1) } else { self.at + 1 };
    }
}
