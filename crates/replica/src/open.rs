//! Opening a database: one read of everything, and a write only where something is missing or broken.
//!
//! Invariant: what is adopted was one state, the ordering rows and all that they order. Without a whole first read there
//! is no view: an empty one would look like everything was lost.

use crate::cold::{Cold, LANES};
use crate::db::{CLIENT, Db, Known, MANIFEST, RANGE, one, read_on, set_aside_key, take_in};
use crate::error::SyncError;
use crate::host::{Host, LockWait};
use crate::room::FIRST_LOOK_MS;
use crate::sync::TOKEN;
use crate::{Replica, Settings, client_id, report};
use landfall_core::rows::{ClientRow, Descriptor};
use landfall_core::schedule::{Intervals, Schedule};
use landfall_core::{Config, State};
use landfall_protocol::{AddAll, Listed};
use landfall_storage::{
    CommitError, Durability, Key, KeyedRows, Manifest, OpenError, Read, RowError, RowKind, RowStore, StoreName, Txn,
    decode, encode, row,
};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Prefix of rows that could not be used and were moved here, word for word.
pub(crate) const QUARANTINE: &str = "quarantine/";
/// So many of them are named in the status.
const QUARANTINE_COUNT_MAX: usize = 1_000;

/// How often opening looks before it takes the locks under which others settle and pull.
const FREE_LOOKS: u32 = 8;
/// How long it waits for each of them.
const LOAD_LOCK_MS: u64 = 10_000;
/// How often opening tries to make or mend the ordering rows.
const MENDS_MAX: u32 = 8;

/// Log rows of the first look. Most databases have none or a few; where the log is longer, or a part of it need not be read,
/// it takes a second look.
const FIRST_ROWS: usize = 4;

/// Where [`Known::reads`] asks for the log, and for the settled rows and the batches when nothing is known yet.
const LOG_AT: usize = 2;
const ACKED_AT: usize = 3;
const DESCRIPTORS_AT: usize = 5;

impl<H: Host> Replica<H> {
    /// Opens a database: reads its rows, or writes the first one.
    pub async fn open(host: H, config: Config, settings: Settings) -> Result<Rc<Self>, SyncError> {
        Ok(Self::open_with(host, config, settings, &[]).await?.0)
    }

    /// As [`Replica::open`]. `also` names rows of `meta` that the caller wants from the same read, answered in order.
    pub async fn open_with(
        host: H,
        config: Config,
        settings: Settings,
        also: &[&str],
    ) -> Result<(Rc<Self>, Vec<Option<String>>), SyncError> {
        let now = host.now();
        let first = State::first_client(client_id(&host), &config.user);
        let mut db = Db::new(first.clone());
        if settings.memory_bytes > 0 {
            db.base.budget = settings.memory_bytes;
        }
        let intervals =
            Intervals { debounce: config.push_debounce_ms, push: config.push_every_ms, pull: config.pull_every_ms };
        let relaxed = settings.relaxed;
        let replica = Rc::new(Self {
            host,
            config,
            settings,
            db: RefCell::new(db),
            schedule: RefCell::new(Schedule::new(intervals, true, now)),
            queue: RefCell::new(Vec::new()),
            pumping: Cell::new(false),
            relaxed,
            token: RefCell::new(None),
            sent_token: RefCell::new(None),
            asked_at: Cell::default(),
            token_known: Cell::new(false),
            phase: Cell::new(report::Phase::Idle),
            last_error: RefCell::new(None),
            storage: RefCell::new(report::StorageHealth::default()),
            changes: RefCell::default(),
            touched: RefCell::default(),
            closed: Cell::new(false),
            tally: Cell::default(),
            heads: Cell::new(0),
            page_limit: Cell::new(landfall_protocol::limits::PAGE_COUNT_MAX as u32),
            running: Cell::new(0),
            needs_foreground: Cell::new(false),
            damaged: RefCell::default(),
            reading: Cell::new(0),
            last_read: Cell::new(0),
            room_look: Cell::new(now.get() + FIRST_LOOK_MS),
            tidied: Cell::new(now.get()),
            asked_worker: Cell::default(),
            kept: RefCell::default(),
        });
        let rows = replica.load(first, also).await?;
        Ok((replica, rows))
    }

    /// The first read. Answers the rows of `also`.
    ///
    /// A worker that settles one batch after the other changes the ordering row during every read of many rows; after
    /// some tries this context takes the locks under which others settle and pull.
    async fn load(&self, mut first: ClientRow, also: &[&str]) -> Result<Vec<Option<String>>, SyncError> {
        let rows = self.host.rows();
        let mut held = Vec::new();
        let (mut looks, mut mends, mut is_small) = (0, 0, true);
        loop {
            let known = Known::of(&self.db);
            let mut reads = known.reads();
            reads[LOG_AT] = log_from(1, FIRST_ROWS);
            let own = reads.len();
            reads.push(Read::prefix(StoreName::Meta, QUARANTINE, QUARANTINE_COUNT_MAX));
            for name in [LANES, TOKEN].iter().chain(also) {
                reads.push(Read::one(StoreName::Meta, Key::text(*name)));
            }
            // What is asked of `meta` is nearly all that it holds: one range instead of twenty requests.
            let whole = [Read::prefix(StoreName::Meta, "", RANGE), reads[LOG_AT].clone()];
            let mut found = rows.read(if is_small { &whole } else { &reads }).await?;
            if is_small {
                let log = found.pop().unwrap_or_default();
                let meta = found.pop().unwrap_or_default();
                if meta.len() == RANGE {
                    is_small = false;
                    continue;
                }
                found = spread(&reads, meta);
                found[LOG_AT] = log;
            }
            let beside = found.split_off(own);
            reads.truncate(own);
            if !is_whole(&found) {
                mends += 1;
                if mends > MENDS_MAX {
                    return Err(SyncError::new("storage_failed", "The database could not be set up."));
                }
                read_on(rows, &reads[ACKED_AT], &mut found[ACKED_AT]).await?;
                match rows.commit(self.mend(&mut first, &found)?).await {
                    Ok(_) | Err(CommitError::Stale { .. } | CommitError::Unknown { .. }) => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            let through = self.begin_cold(one(&beside, 1));
            let mut is_one_state = true;
            if through > 0 || found[LOG_AT].len() == FIRST_ROWS {
                reads[LOG_AT] = log_from(through + 1, RANGE);
                let mut again = rows.read(&reads[..=LOG_AT]).await?;
                is_one_state = one(&again, 0) == one(&found, 0) && one(&again, 1) == one(&found, 1);
                found[LOG_AT] = again.swap_remove(LOG_AT);
            }
            if is_one_state && let Some(touched) = take_in(rows, &self.db, known, reads, found).await? {
                self.changed(touched);
                // Also what an earlier life of this context set aside: nobody may have heard of it then.
                let set_aside = beside.first().into_iter().flatten().map(|(key, _)| key.name());
                self.storage.borrow_mut().set_aside = set_aside.listed();
                self.adopt_token(one(&beside, 2).as_deref());
                return Ok((3..beside.len()).map(|index| one(&beside, index)).listed());
            }
            looks += 1;
            if looks == FREE_LOOKS {
                for work in ["push", "pull"] {
                    let name = self.lock_name(work);
                    held.add_all(self.host.lock(&name, LockWait::Millis(LOAD_LOCK_MS)).await);
                }
            }
        }
    }

    /// What the lane index covers need not be read now: gives how far it reaches.
    fn begin_cold(&self, lanes: Option<String>) -> u64 {
        let mut db = self.db.borrow_mut();
        db.adopt_lanes(lanes);
        let through = db.lanes.as_ref().map_or(0, |index| index.through);
        db.log_key = through;
        if let Some(index) = db.lanes.clone() {
            db.state.hlc.observe(&index.stamp);
            db.cold = Some(Cold::new(index));
        }
        through
    }

    /// The ordering rows anew: made where they are not there, set aside where they can't be read.
    fn mend(&self, first: &mut ClientRow, found: &[KeyedRows]) -> Result<Txn, SyncError> {
        let (client, manifest) = (one(found, 0), one(found, 1));
        let mut txn = Txn::new("open", Durability::Strict);
        if !is_client(client.as_deref()) {
            txn.expect(StoreName::Meta, Key::text(CLIENT), client.clone());
            if let Some(broken) = client {
                refuse_newer(&broken, RowKind::Client)?;
                txn.put(StoreName::Meta, Key::Text(set_aside_key(CLIENT, self.host.random())), broken);
                first.pull_first = true;
            }
            // Of a row that is broken or gone others may be left. Going on as a new client is the rule for a profile that
            // lost its place: what was in flight goes again after a pull, and the count of decisions goes on above the
            // rows that are named by it, or they would be written over.
            first.rev = found[ACKED_AT].iter().filter_map(|(key, _)| rev_of(key)).max().unwrap_or(0) + 1;
            for (key, text) in &found[DESCRIPTORS_AT] {
                if decode::<Descriptor>(RowKind::Descriptor, text).is_err() {
                    let aside = set_aside_key(&key.name(), self.host.random());
                    txn.put(StoreName::Meta, Key::Text(aside), text.clone());
                }
                txn.delete(StoreName::Meta, key.clone());
                first.pull_first = true;
            }
            txn.put(StoreName::Meta, Key::text(CLIENT), encode(RowKind::Client, first));
        }
        if !is_manifest(manifest.as_deref())
            && let Some(broken) = manifest
        {
            refuse_newer(&broken, RowKind::Manifest)?;
            txn.expect(StoreName::Meta, Key::text(MANIFEST), Some(broken.clone()));
            txn.put(StoreName::Meta, Key::Text(set_aside_key(MANIFEST, self.host.random())), broken);
            // Rows that only the broken one named stay where they are; new ones get other numbers.
            let fresh = Manifest { next_row: self.host.now().get() << 8, ..Manifest::default() };
            txn.put(StoreName::Meta, Key::text(MANIFEST), encode(RowKind::Manifest, &fresh));
        }
        Ok(txn)
    }
}

fn log_from(key: u64, limit: usize) -> Read {
    Read::Range { store: StoreName::Log, from: Key::Number(key), to: Key::Number(u64::MAX >> 11), limit }
}

/// Sorts the rows of a table by the questions that they answer.
fn spread(reads: &[Read], rows: KeyedRows) -> Vec<KeyedRows> {
    let mut answers: Vec<KeyedRows> = reads.iter().map(|_| Vec::new()).listed();
    for (key, row) in rows {
        for (read, answer) in reads.iter().zip(&mut answers) {
            let is_asked = match read {
                Read::One { key: one, .. } => *one == key,
                Read::Range { from, to, .. } => *from <= key && key <= *to,
            };
            if is_asked {
                answer.push((key.clone(), row.clone()));
            }
        }
    }
    answers
}

/// True if both ordering rows can be used as they are.
fn is_whole(found: &[KeyedRows]) -> bool {
    is_client(one(found, 0).as_deref()) && is_manifest(one(found, 1).as_deref())
}

fn is_client(row: Option<&str>) -> bool {
    row.is_some_and(|text| decode::<ClientRow>(RowKind::Client, text).is_ok())
}

/// No manifest is one: of a database that never pulled.
fn is_manifest(row: Option<&str>) -> bool {
    row.is_none_or(|text| decode::<Manifest>(RowKind::Manifest, text).is_ok())
}

/// The count in the key of a row of decisions.
fn rev_of(key: &Key) -> Option<u64> {
    match key {
        Key::Text(text) => text.strip_prefix("acked/")?.parse().ok(),
        Key::Number(_) => None,
    }
}

/// An ordering row that a later version wrote is not broken: that version is asked for, and nothing is changed.
fn refuse_newer(text: &str, kind: RowKind) -> Result<(), SyncError> {
    match row::open(kind, text) {
        Err(RowError::Newer { version }) => {
            Err(OpenError::NewerSchema { found: version, known: kind.version() }.into())
        }
        _ => Ok(()),
    }
}
