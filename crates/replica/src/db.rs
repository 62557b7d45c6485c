//! Rows ⇄ state: loading, catching up with other contexts, and committing plans.

use crate::base::PagedBase;
use crate::cold::{Cold, LANES};
use crate::host::{Host, Notice};
use crate::open::QUARANTINE;
use crate::room::give_up;
use landfall_core::State;
use landfall_core::lane_index::LaneIndex;
use landfall_core::plan::{OutboxTxn, SetAside};
use landfall_core::plant::{Plant, planted};
use landfall_core::rows::{ClientRow, ConflictRow, Descriptor, LogRow, ParkedRow, SettledRow};
use landfall_core::settle::Event;
use landfall_protocol::codec::{ToJson, hex, to_json};
use landfall_protocol::text::cut;
use landfall_protocol::{
    AddAll, ClientId, CollectionName, EntryId, Listed, Map, Outcome, Pair, RecordKey, Set, UnixMillis,
};
use landfall_storage::{
    BaseTxn, CommitError, Durability, Key, KeyedRows, Manifest, Read, ReadError, RowError, RowId, RowKind, RowOp,
    RowStore, StoreName, Txn, decode, encode,
};
use std::cell::RefCell;
use std::rc::Rc;

pub const CLIENT: &str = "client";
pub const MANIFEST: &str = "manifest";
pub(crate) const RANGE: usize = 2000;

/// A row that can't be used: kept where it is, reported, never applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    pub store: &'static str,
    pub key: String,
    pub why: &'static str,
}

landfall_protocol::wire_out!(Quarantined { store: Need, key: Need, why: Need });

/// Everything that this context knows of the database.
#[derive(Clone, Debug)]
pub struct Db {
    pub state: State,
    pub base: PagedBase,
    pub conflicts: Map<String, ConflictRow>,
    /// Exact texts of the two ordering rows as last read.
    pub client_text: Option<String>,
    pub manifest_text: Option<String>,
    /// The last log key that was read.
    pub log_key: u64,
    /// While a part of the log is not read.
    pub(crate) cold: Option<Cold>,
    /// The lane index as last read, and its exact text.
    pub(crate) lanes: Option<Rc<LaneIndex>>,
    pub(crate) lanes_text: Option<String>,
    /// A page of it can't be used.
    pub(crate) is_index_broken: bool,
    pub quarantined: Map<(StoreName, String), Quarantined>,
    /// The device had no room, and the filler row has not been seen since: batches stay small.
    pub is_tight: bool,
}

/// Which records a step may have changed in the view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub collections: Set<CollectionName>,
    /// Of these anything may have changed.
    pub whole: Set<CollectionName>,
    /// Of the others these records.
    pub records: Set<RecordKey>,
    pub outbox: bool,
    /// What other contexts settled: their listeners may be gone, a service worker has none.
    pub events: Vec<Event>,
}

/// Records that are named one by one; of more, their collections are.
const NAMED_MAX: usize = 1_000;

impl Touched {
    pub fn keys(&mut self, keys: impl IntoIterator<Item = RecordKey>) {
        for key in keys {
            self.key(&key);
        }
    }
    pub fn key(&mut self, key: &RecordKey) {
        // One of a collection that is named as a whole says nothing new.
        if self.whole.contains(&key.collection) {
            return;
        }
        if !self.collections.contains(&key.collection) {
            self.collections.insert(key.collection.clone());
        }
        if self.records.len() < NAMED_MAX {
            self.records.insert(key.clone());
        } else {
            self.whole.insert(key.collection.clone());
        }
    }
    pub fn pair(&mut self, pair: &Pair) {
        self.collections.insert(pair.1.clone());
        self.whole.insert(pair.1.clone());
    }
    pub fn merge(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        self.collections.extend(other.collections);
        self.whole.extend(other.whole);
        self.keys(other.records);
        self.outbox |= other.outbox;
        self.events.add_all(other.events);
    }
    pub fn is_empty(&self) -> bool {
        self.collections.is_empty() && !self.outbox && self.events.is_empty()
    }
}

/// Rows read in one go to catch up: what is new since the context last looked.
#[derive(Debug, Default)]
struct News {
    client: Option<Option<String>>,
    manifest: Option<Option<String>>,
    /// Changed rows of the outbox by key; `None` = gone.
    outbox: Map<String, Option<String>>,
    log: Vec<(u64, String)>,
    /// Log rows that were deleted without a word that is still there.
    gone: Vec<u64>,
}

impl Db {
    pub fn new(client: ClientRow) -> Self {
        Self {
            state: State::new(client),
            base: PagedBase::default(),
            conflicts: Map::new(),
            client_text: None,
            manifest_text: None,
            log_key: 0,
            cold: None,
            lanes: None,
            lanes_text: None,
            is_index_broken: false,
            quarantined: Map::new(),
            is_tight: false,
        }
    }

    pub(crate) fn quarantine(&mut self, store: StoreName, key: &str, error: RowError) {
        let why = match error {
            RowError::Header => "header",
            RowError::Checksum => "checksum",
            RowError::Kind => "kind",
            RowError::Newer { .. } => "newer",
            RowError::Body => "body",
        };
        if planted(Plant::CorruptReadAsAbsent) {
            return;
        }
        let row = Quarantined { store: store.as_str(), key: key.to_owned(), why };
        self.quarantined.insert((store, key.to_owned()), row);
    }

    /// Applies what was read. The order matters: decisions before log rows, so that no ended entry comes back.
    fn apply(&mut self, news: News) -> Touched {
        let mut touched = Touched::default();
        // What was there when the database was opened is no news.
        let is_open = self.client_text.is_some();
        let mut applied = Vec::new();
        let mut requeued = 0;
        for (key, row) in news.outbox {
            touched.outbox = true;
            if is_open {
                self.hear(&key, row.as_deref(), &mut applied, &mut requeued, &mut touched.events);
            }
            let keys = self.apply_outbox_row(&key, row.as_deref());
            touched.keys(keys);
        }
        if !applied.is_empty() {
            touched.events.insert(0, Event::Applied { entries: applied });
        }
        if requeued > 0 {
            touched.events.push(Event::Requeued { count: requeued });
        }
        if let Some(text) = news.client {
            if let Some(client) = text.as_deref().and_then(|text| decode::<ClientRow>(RowKind::Client, text).ok()) {
                self.state.client = client;
            }
            self.client_text = text;
            touched.outbox = true;
        }
        for log_key in news.gone {
            let entries = self.state.entries.range(EntryId::at(log_key, 0)..);
            let keys = entries.take_while(|(id, _)| id.log_key() == log_key).map(|(_, entry)| entry.key()).listed();
            touched.keys(keys);
            self.state.drop_log_row(log_key);
        }
        for (key, text) in news.log {
            if is_open && key <= self.log_key {
                // Its own write was stored while the rows were read.
                continue;
            }
            self.log_key = self.log_key.max(key);
            touched.outbox = true;
            self.add_log_row(key, &text, &mut |key| touched.key(key));
        }
        if let Some(text) = news.manifest {
            let manifest = match text.as_deref().map(|text| decode::<Manifest>(RowKind::Manifest, text)) {
                Some(Ok(manifest)) => manifest,
                Some(Err(_)) | None => Manifest { next_row: 1, ..Manifest::default() },
            };
            for row in &manifest.pairs {
                // Of what another context pulled only the pair is known.
                let old = self.base.manifest.pair(&row.pair);
                // Begun anew, its records may be others at the position and with the sum of before.
                let now = (row.covered, row.sum, row.cold, row.resync_at);
                if old.is_none_or(|old| (old.covered, old.sum, old.cold, old.resync_at) != now) {
                    touched.pair(&row.pair);
                }
            }
            for row in self.base.manifest.pairs.iter().filter(|row| manifest.pair(&row.pair).is_none()) {
                touched.pair(&row.pair);
            }
            self.base.manifest = manifest;
            self.manifest_text = text;
        }
        touched
    }

    pub(crate) fn add_log_row(&mut self, key: u64, text: &str, touched: &mut dyn FnMut(&RecordKey)) {
        match decode::<LogRow>(RowKind::Log, text) {
            Ok(row) => self.state.add_log_row(key, &row.commit_id, row.entries, touched),
            Err(error) => self.quarantine(StoreName::Log, &to_json(&key), error),
        }
    }

    /// Takes the row of the lane index in, or its absence.
    pub(crate) fn adopt_lanes(&mut self, text: Option<String>) {
        self.quarantined.remove(&(StoreName::Meta, LANES.to_owned()));
        self.lanes = match text.as_deref().map(|text| decode::<LaneIndex>(RowKind::Lanes, text)) {
            Some(Ok(index)) => Some(Rc::new(index)),
            Some(Err(error)) => {
                self.quarantine(StoreName::Meta, LANES, error);
                None
            }
            None => None,
        };
        self.lanes_text = text;
        self.is_index_broken = false;
    }

    /// What a row of another context says to this one's listeners, before it is taken in.
    fn hear(
        &self,
        key: &str,
        text: Option<&str>,
        applied: &mut Vec<EntryId>,
        requeued: &mut u64,
        events: &mut Vec<Event>,
    ) {
        let Some(text) = text else { return };
        let row = key.to_owned();
        match cut(key, b'/').map_or(key, |(kind, _)| kind) {
            "acked" => {
                let Ok(settled) = decode::<SettledRow>(RowKind::Acked, text) else { return };
                let mutations = settled.mutations.iter();
                let took_effect = mutations.filter(|it| it.outcome.as_ref().is_some_and(Outcome::took_effect));
                let entries = took_effect.flat_map(|mutation| &mutation.entries);
                applied.extend(entries.filter(|id| self.may_hold(**id)));
                // What a restored server lost is queued again and leaves its bytes here.
                if let Some(known) = self.state.settled.get(key) {
                    for (was, is) in known.mutations.iter().zip(&settled.mutations) {
                        *requeued += u64::from(was.text.is_some() && is.text.is_none());
                    }
                }
            }
            "conflict" if !self.conflicts.contains_key(key) => events.push(Event::Conflict { row }),
            "parked" => {
                let parked = decode::<ParkedRow>(RowKind::Parked, text);
                if parked.is_ok_and(|parked| self.state.parked.get(key) != Some(&parked)) {
                    events.push(Event::Parked { row });
                }
            }
            _ => {}
        }
    }

    /// Rows of batches and decisions that can't be read: what of the outbox was ended or is under way is not all known.
    pub fn unreadable(&self) -> Vec<String> {
        let keys = self.quarantined.keys().filter(|(store, _)| *store == StoreName::Meta).map(|(_, key)| key);
        keys.filter(|key| key.starts_with("desc/") || key.starts_with("acked/")).cloned().listed()
    }

    /// Why a row of the outbox can't be read; `None` if it can, or is not there.
    pub(crate) fn why_unreadable(&self, key: &str) -> Option<&'static str> {
        self.quarantined.get(&(StoreName::Meta, key.to_owned())).map(|row| row.why)
    }

    pub(crate) fn apply_outbox_row(&mut self, key: &str, text: Option<&str>) -> Vec<RecordKey> {
        if !self.quarantined.is_empty() {
            // What it says now counts: it may be whole again, or somewhere else.
            self.quarantined.remove(&(StoreName::Meta, key.to_owned()));
        }
        macro_rules! row {
            ($kind:expr, $type:ty) => {
                match text.map(|text| decode::<$type>($kind, text)) {
                    Some(Ok(row)) => Some(row),
                    Some(Err(error)) => {
                        self.quarantine(StoreName::Meta, key, error);
                        return Vec::new();
                    }
                    None => None,
                }
            };
        }
        match cut(key, b'/').map_or(key, |(kind, _)| kind) {
            "desc" => {
                let row = row!(RowKind::Descriptor, Descriptor);
                self.state.set_descriptor(key, row)
            }
            "acked" => {
                let row = row!(RowKind::Acked, SettledRow);
                self.state.set_settled(key, row)
            }
            "parked" => {
                let row = row!(RowKind::Parked, ParkedRow);
                self.state.set_parked(key, row)
            }
            "conflict" => {
                match row!(RowKind::Conflict, ConflictRow) {
                    Some(row) => self.conflicts.insert(key.to_owned(), row),
                    None => self.conflicts.remove(key).is_some(),
                };
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// The last row of the log of which anything is known; behind a gap it is beyond `log_key`.
    fn log_end(&self) -> u64 {
        self.state.entries.last_key_value().map_or(0, |(last, _)| last.log_key()).max(self.log_key)
    }

    /// Own writes are known behind some of others that could not be read: no batch may pass those (S4).
    pub(crate) fn has_gap(&self) -> bool {
        self.log_end() > self.log_key
    }

    /// A transaction of the outbox as rows.
    pub fn outbox_rows(&self, plan: &OutboxTxn, commit_ids: &[String], now: UnixMillis) -> (Txn, String) {
        let mut txn = Txn::new(plan.name, Durability::Strict);
        let client = encode(RowKind::Client, &plan.client);
        let is_blind = (planted(Plant::SettleBlind) && plan.name == "settle")
            || (planted(Plant::StaleDescriptor) && plan.name == "descriptor");
        if !is_blind {
            txn.expect(StoreName::Meta, Key::text(CLIENT), self.client_text.clone());
        }
        // The first to name the server's epoch is a pull or an answered push, and it may have named another one since. Until one
        // of them has, each looks at the other's row, or what the server lost in between is not asked for (R6).
        if self.base.manifest.epoch.is_none() {
            txn.expect(StoreName::Meta, Key::text(MANIFEST), self.manifest_text.clone());
        }
        txn.put(StoreName::Meta, Key::text(CLIENT), client.clone());
        fn rows<T: ToJson>(txn: &mut Txn, kind: RowKind, rows: &Map<String, Option<T>>) {
            for (key, row) in rows {
                match row {
                    Some(row) => txn.put(StoreName::Meta, Key::text(key.clone()), encode(kind, row)),
                    None => txn.delete(StoreName::Meta, Key::text(key.clone())),
                }
            }
        }
        rows(&mut txn, RowKind::Descriptor, &plan.descriptors);
        rows(&mut txn, RowKind::Acked, &plan.settled);
        rows(&mut txn, RowKind::Parked, &plan.parked);
        rows(&mut txn, RowKind::Conflict, &plan.conflicts);
        for (entries, commit_id) in plan.append.iter().zip(commit_ids) {
            let row = LogRow { commit_id: commit_id.clone(), at: now, entries: entries.clone() };
            txn.ops.push(RowOp::Append { row: encode(RowKind::Log, &row) });
        }
        for key in &plan.delete_log {
            txn.delete(StoreName::Log, Key::Number(*key));
        }
        for SetAside { key, row, to } in &plan.set_aside {
            txn.expect(StoreName::Meta, Key::text(key.clone()), Some(row.clone()));
            txn.put(StoreName::Meta, Key::text(to.clone()), row.clone());
            txn.delete(StoreName::Meta, Key::text(key.clone()));
        }
        (txn, client)
    }

    /// A transaction of the base as rows. Relaxed: pulled rows can be pulled again, and the cursor goes with them.
    pub fn base_rows(&self, plan: &mut BaseTxn) -> (Txn, String) {
        let mut txn = Txn::new(plan.name, Durability::Relaxed);
        txn.expect(StoreName::Meta, Key::text(MANIFEST), self.manifest_text.clone());
        // As of the outbox.
        if self.base.manifest.epoch.is_none() {
            txn.expect(StoreName::Meta, Key::text(CLIENT), self.client_text.clone());
        }
        let manifest = encode(RowKind::Manifest, &plan.manifest);
        txn.put(StoreName::Meta, Key::text(MANIFEST), manifest.clone());
        // Nobody needs their texts afterwards.
        for (store, key, row) in std::mem::take(&mut plan.put) {
            let is_left_out = store == StoreName::Seg && plan.name == "checkpoint" && planted(Plant::CursorBeforeRows);
            if !is_left_out {
                txn.put(store, key, row);
            }
        }
        for (store, key) in &plan.delete {
            // What can't be read is kept for whoever mends it.
            if !self.quarantined.contains_key(&(*store, key.name())) {
                txn.delete(*store, key.clone());
            }
        }
        (txn, manifest)
    }
}

/// Reads what changed since `db` was last read. Returns what the view must look at again.
pub async fn refresh<H: Host>(host: &H, db: &RefCell<Db>) -> Result<Touched, ReadError> {
    for _ in 0..8 {
        if let Some(touched) = try_refresh(host, db).await? {
            return Ok(touched);
        }
    }
    // Others keep changing it faster than it can be read; what was read so far stands, and the next step looks again.
    Ok(Touched::default())
}

/// Where a row that can't be used is moved to, word for word. `random`: a row of this name may have been moved before.
pub(crate) fn set_aside_key(key: &str, random: u64) -> String {
    [QUARANTINE, key, "/", &hex(random)].concat()
}

/// What was known when the rows were read: an answer is adopted only if it still is.
pub(crate) struct Known {
    client: Option<String>,
    client_id: ClientId,
    manifest: Option<String>,
    rev: u64,
    log_from: u64,
    log_end: u64,
}

impl Known {
    pub(crate) fn of(db: &RefCell<Db>) -> Self {
        let db = db.borrow();
        Self {
            client: db.client_text.clone(),
            client_id: db.state.client.client_id.clone(),
            manifest: db.manifest_text.clone(),
            rev: db.state.client.rev,
            log_from: db.log_key + 1,
            log_end: db.log_end(),
        }
    }

    /// The first questions: the ordering rows, the end of the log, and all rows of the outbox if none is known yet.
    pub(crate) fn reads(&self) -> Vec<Read> {
        let mut reads = ordering_reads(self.log_from);
        if self.client.is_none() {
            reads.add_all(PREFIXES.iter().map(|prefix| Read::prefix(StoreName::Meta, prefix, RANGE)));
        }
        reads
    }
}

const PREFIXES: [&str; 4] = ["acked/", "conflict/", "desc/", "parked/"];

/// One look: the ordering rows and the end of the log in one read, and, where these say that more has changed, a
/// second read of everything that did, ordering rows and log again included. Either is one state by itself.
///
/// `None` = what the second read should have asked for changed meanwhile; look again.
async fn try_refresh<H: Host>(host: &H, db: &RefCell<Db>) -> Result<Option<Touched>, ReadError> {
    let known = Known::of(db);
    let reads = known.reads();
    let found = host.rows().read(&reads).await?;
    take_in(host.rows(), db, known, reads, found).await
}

/// Takes in what was `found` for the questions of [`Known::reads`], and reads on where that says so. `None`: as above.
pub(crate) async fn take_in<R: RowStore>(
    rows: &R,
    db: &RefCell<Db>,
    known: Known,
    mut reads: Vec<Read>,
    mut found: Vec<KeyedRows>,
) -> Result<Option<Touched>, ReadError> {
    let is_first = known.client.is_none();
    let (client, mut manifest) = (one(&found, 0), one(&found, 1));
    // Which rows of the outbox have changed.
    let mut wanted = Vec::new();
    let mut is_whole = is_first;
    if !is_first && client != known.client {
        match client.as_deref().and_then(|text| recent_rows(text, &known)) {
            Some(keys) => wanted.add_all(keys.into_iter().map(|key| Read::one(StoreName::Meta, Key::Text(key)))),
            None => {
                is_whole = true;
                wanted.add_all(PREFIXES.iter().map(|prefix| Read::prefix(StoreName::Meta, prefix, RANGE)));
            }
        }
    }
    let mut log = None;
    if !wanted.is_empty() {
        reads.add_all(wanted);
        loop {
            found = rows.read(&reads).await?;
            if one(&found, 0) != client {
                return Ok(None);
            }
            // A row of outcomes that this context never saw was trimmed, and with it went the word that log rows are gone. It
            // may have stood still for days.
            let is_trimmed = |(read, rows): (&Read, &KeyedRows)| match read {
                Read::One { key: Key::Text(key), .. } if rows.is_empty() && key.starts_with("acked/") => {
                    !db.borrow().state.settled.contains_key(key)
                }
                Read::One { .. } | Read::Range { .. } => false,
            };
            if is_first || log.is_some() || !(is_whole || reads.iter().zip(&found).any(is_trimmed)) {
                break;
            }
            let Some(from) = db.borrow().state.log_rows.first_key_value().map(|(key, _)| *key) else { break };
            log = Some(reads.len());
            let (from, to) = (Key::Number(from), Key::Number(known.log_end));
            reads.push(Read::Range { store: StoreName::Log, from, to, limit: RANGE });
        }
        manifest = one(&found, 1);
    }
    // A range of more rows than one read carries goes on in further ones, as long as nothing else changes.
    let mut is_long = false;
    for (read, part) in reads.iter().zip(&mut found) {
        is_long |= read_on(rows, read, part).await?;
    }
    if is_long {
        let again = rows.read(&ordering_reads(u64::MAX >> 11)).await?;
        if one(&again, 0) != client || one(&again, 1) != manifest {
            return Ok(None);
        }
    }
    let mut db = db.borrow_mut();
    if db.client_text != known.client || db.manifest_text != known.manifest {
        // This context itself committed between the reads: a log row that they found may have ended with that.
        return Ok(None);
    }
    let mut news = News::default();
    if let Some(rows) = log.map(|at| &found[at]) {
        let is_there = |key: &u64| rows.binary_search_by(|(other, _)| other.cmp(&Key::Number(*key))).is_ok();
        news.gone = db.state.log_rows.keys().copied().filter(|key| *key <= known.log_end && !is_there(key)).listed();
    }
    if is_whole {
        news.outbox.extend(outbox_keys(&db).into_iter().map(|key| (key, None)));
    }
    for (read, rows) in reads.into_iter().zip(found).skip(2) {
        if let (Read::One { store: StoreName::Meta, key: Key::Text(key) }, true) = (&read, rows.is_empty()) {
            news.outbox.insert(key.clone(), None);
        }
        for (key, row) in rows {
            match (read.store(), key) {
                (StoreName::Log, Key::Number(key)) => news.log.push((key, row)),
                (StoreName::Meta, Key::Text(key)) => {
                    news.outbox.insert(key, Some(row));
                }
                _ => {}
            }
        }
    }
    news.client = (client != known.client).then_some(client);
    news.manifest = (manifest != known.manifest).then_some(manifest);
    Ok(Some(db.apply(news)))
}

/// The two ordering rows and the end of the log.
fn ordering_reads(log_from: u64) -> Vec<Read> {
    vec![
        Read::one(StoreName::Meta, Key::text(CLIENT)),
        Read::one(StoreName::Meta, Key::text(MANIFEST)),
        log_end(log_from),
    ]
}

fn log_end(from: u64) -> Read {
    Read::Range { store: StoreName::Log, from: Key::Number(from), to: Key::Number(u64::MAX >> 11), limit: RANGE }
}

/// The row of a [`Read::One`].
pub(crate) fn one(found: &[KeyedRows], index: usize) -> Option<String> {
    found.get(index).and_then(|rows| rows.first()).map(|(_, row)| row.clone())
}

/// The rows that changed since, if the client row still remembers all of them. Another client's row says nothing of this
/// one's, and one whose count did not go on is not of this count.
fn recent_rows(client: &str, known: &Known) -> Option<Set<String>> {
    let client = decode::<ClientRow>(RowKind::Client, client).ok()?;
    if client.client_id != known.client_id || client.rev <= known.rev {
        return None;
    }
    let mut all = Set::new();
    for rev in known.rev + 1..=client.rev {
        let (_, keys) = client.recent.iter().find(|(at, _)| *at == rev)?;
        all.extend(keys.iter().cloned());
    }
    Some(all)
}

fn outbox_keys(db: &Db) -> Vec<String> {
    let state = &db.state;
    let keys =
        state.descriptors.keys().chain(state.settled.keys()).chain(state.parked.keys()).chain(db.conflicts.keys());
    keys.cloned().listed()
}

/// Reads the rest of a range that filled its limit. True if there was any to ask for.
pub(crate) async fn read_on<R: RowStore>(rows: &R, read: &Read, found: &mut KeyedRows) -> Result<bool, ReadError> {
    let Read::Range { store, to, limit, .. } = read else { return Ok(false) };
    if found.len() < *limit {
        return Ok(false);
    }
    loop {
        let from = match found.last() {
            Some((Key::Number(key), _)) => Key::Number(key + 1),
            Some((Key::Text(key), _)) => {
                let mut next = key.clone();
                next.push('\u{1}');
                Key::Text(next)
            }
            None => return Ok(true),
        };
        let part = rows.range(*store, &from, to, *limit).await?;
        let is_last = part.len() < *limit;
        found.add_all(part);
        if is_last {
            return Ok(true);
        }
    }
}

/// How a planned transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committing {
    Done(Touched),
    /// The rows it was computed from changed: refresh and plan again.
    Stale,
    Failed(CommitError),
}

/// Commits a plan of the outbox and takes it into the memory.
pub async fn commit_outbox<H: Host>(host: &H, db: &RefCell<Db>, mut plan: OutboxTxn) -> Committing {
    plan.trim_conflicts(&db.borrow().conflicts);
    let appended = !plan.append.is_empty();
    let commit_ids: Vec<String> = plan.append.iter().map(|_| hex(host.random())).listed();
    let (txn, text) = db.borrow().outbox_rows(&plan, &commit_ids, host.now());
    let before = db.borrow().client_text.clone();
    match commit_ordered(host, db, txn, true).await {
        Ok(()) => {}
        Err(CommitError::Stale { .. }) => return Committing::Stale,
        Err(error) => return Committing::Failed(error),
    }
    let mut touched = Touched { outbox: true, ..Touched::default() };
    // Unless another task of this context has read the rows since: what it saw includes these, and maybe what came after.
    if db.borrow().client_text == before {
        let mut db = db.borrow_mut();
        let OutboxTxn { client, descriptors, settled, parked, conflicts, delete_log, set_aside, .. } = plan;
        // As rows are read: what has ended is named once, not for the batch that it leaves too.
        for (key, row) in settled {
            touched.keys(db.state.set_settled(&key, row));
        }
        for (key, row) in descriptors {
            touched.keys(db.state.set_descriptor(&key, row));
        }
        for (key, row) in parked {
            touched.keys(db.state.set_parked(&key, row));
        }
        for (key, row) in conflicts {
            match row {
                Some(row) => db.conflicts.insert(key, row),
                None => db.conflicts.remove(&key).is_some(),
            };
        }
        for key in delete_log {
            db.state.drop_log_row(key);
        }
        for row in set_aside {
            db.quarantined.remove(&(StoreName::Meta, row.key));
        }
        db.state.client = client;
        db.client_text = Some(text);
    }
    // Appended rows come in as every other row of the log does: by reading it. If that fails, the next step reads them.
    if appended && let Ok(more) = refresh(host, db).await {
        touched.merge(more);
    }
    host.notice(&Notice::Outbox { rev: db.borrow().state.client.rev });
    Committing::Done(touched)
}

/// Commits a plan of the base and takes it into the memory.
pub async fn commit_base<H: Host>(host: &H, db: &RefCell<Db>, mut plan: BaseTxn) -> Committing {
    // What writes no rows makes room.
    let makes_room = plan.put.is_empty();
    let (txn, text) = db.borrow().base_rows(&mut plan);
    let before = db.borrow().manifest_text.clone();
    match commit_ordered(host, db, txn, makes_room).await {
        Ok(()) => {}
        Err(CommitError::Stale { .. }) => return Committing::Stale,
        Err(error) => return Committing::Failed(error),
    }
    let mut touched = Touched::default();
    if db.borrow().manifest_text != before {
        // As for the outbox: another task of this context has read these rows already.
        host.notice(&Notice::Base { rev: db.borrow().base.manifest.rev });
        return Committing::Done(touched);
    }
    for pair in plan.flipped.iter().chain(&plan.removed) {
        touched.pair(pair);
    }
    {
        let mut db = db.borrow_mut();
        db.base.adopt(&plan);
        db.manifest_text = Some(text);
    }
    touched.keys(plan.changed);
    host.notice(&Notice::Base { rev: db.borrow().base.manifest.rev });
    Committing::Done(touched)
}

/// Reads rows of the base that a computation missed. Rows that the manifest in memory does not mean, or that are not
/// there, make it read the manifest again.
pub async fn fetch<H: Host>(host: &H, db: &RefCell<Db>, missing: Vec<RowId>) -> Result<Fetched, ReadError> {
    let mut reads = Vec::with_capacity(missing.len());
    for id in &missing {
        let (store, key) = id.place();
        reads.push(Read::one(store, key));
    }
    let rows = host.rows().read(&reads).await?;
    let rev = db.borrow().base.manifest.rev;
    let mut fetched = Fetched::default();
    let mut absent = Vec::new();
    for (id, mut row) in missing.into_iter().zip(rows) {
        let given = db.borrow().base.give(id, row.pop().map(|(_, text)| text));
        match given {
            Ok(true) => {}
            Ok(false) => absent.push(id),
            Err(error) => {
                let (store, key) = id.place();
                db.borrow_mut().quarantine(store, &key.name(), error);
                fetched.damaged.push(id);
            }
        }
    }
    if !absent.is_empty() {
        fetched.touched = refresh(host, db).await?;
        if db.borrow().base.manifest.rev == rev {
            for id in absent {
                // It will not come, so nobody may go on looking for it. Lost is what the newest manifest still needs.
                let is_lost = db.borrow().base.owner(id).is_some();
                db.borrow().base.mark_broken(id);
                if is_lost {
                    let (store, key) = id.place();
                    db.borrow_mut().quarantine(store, &key.name(), RowError::Header);
                    fetched.damaged.push(id);
                }
            }
        }
    }
    Ok(fetched)
}

/// What came of reading missed rows.
#[derive(Debug, Default)]
pub struct Fetched {
    pub touched: Touched,
    /// Rows that can't be used.
    pub damaged: Vec<RowId>,
}

/// Commits, and finds out what became of a commit of unknown fate: its rows say it. `is_small`: on a full device it may have
/// the room that was kept back.
async fn commit_ordered<H: Host>(host: &H, db: &RefCell<Db>, txn: Txn, mut is_small: bool) -> Result<(), CommitError> {
    let mut lost = String::new();
    for _ in 0..3 {
        match host.rows().commit(txn.clone()).await {
            Ok(_) => return Ok(()),
            Err(CommitError::Unknown { message }) => lost = message,
            Err(error) if std::mem::take(&mut is_small) && give_up(host, db, &error).await => continue,
            Err(error) => return Err(error),
        }
        let reads = result_of(&txn, db.borrow().log_key + 1);
        if host.rows().read(&reads).await.is_ok_and(|found| is_stored(&txn, &found)) {
            return Ok(());
        }
    }
    Err(CommitError::Unknown { message: lost })
}

/// Asks for every row that a transaction leaves behind or takes away.
fn result_of(txn: &Txn, log_from: u64) -> Vec<Read> {
    let mut reads = Vec::with_capacity(txn.ops.len());
    for op in &txn.ops {
        reads.push(match op {
            RowOp::Append { .. } => log_end(log_from),
            RowOp::Put { store, key, .. } | RowOp::Delete { store, key } => Read::one(*store, key.clone()),
            RowOp::DeleteRange { store, from, to } => {
                Read::Range { store: *store, from: from.clone(), to: to.clone(), limit: 1 }
            }
        });
    }
    reads
}

/// True if the disk is as a transaction leaves it. Its ordering row alone does not say so: another context that did the same
/// step from the same rows wrote that one letter by letter, beside a batch of other bytes (S1) or another edit (L1).
fn is_stored(txn: &Txn, found: &[KeyedRows]) -> bool {
    txn.ops.iter().zip(found).all(|(op, found)| match op {
        RowOp::Append { row } | RowOp::Put { row, .. } => found.iter().any(|(_, text)| text == row),
        RowOp::Delete { .. } | RowOp::DeleteRange { .. } => found.is_empty(),
    })
}
