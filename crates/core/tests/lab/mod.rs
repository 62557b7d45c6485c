//! A client's outbox without a disk: plans are applied to the state as a replica would do it.

#![allow(dead_code)] // Each test file uses its own part.
#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

use landfall_core::plan::OutboxTxn;
use landfall_core::rows::{ConflictRow, Entry, InFlight};
use landfall_core::settle::{Event, SettlePlan, plan_settle};
use landfall_core::state::{Base, BaseRecord, CollectionConfig, Config, State};
use landfall_core::{batch, view};
use landfall_protocol::{
    ClientId, CollectionName, EntryId, Epoch, GroupId, Json, Mutation, Object, Op, Outcome, Pair, Position, RecordId,
    RecordKey, ResultStatus, Scope, Seq, Stamp, UnixMillis, Version,
};
use std::collections::BTreeMap;

pub const NOW: UnixMillis = UnixMillis(1_000_000);

/// The base of one client: records and how far pulls reach.
#[derive(Default)]
pub struct FakeBase {
    pub records: BTreeMap<RecordKey, BaseRecord>,
    pub covered: BTreeMap<Pair, Position>,
    pub epoch: Option<Epoch>,
}

impl Base for FakeBase {
    fn base(&self, key: &RecordKey) -> Option<BaseRecord> {
        self.records.get(key).cloned()
    }
    fn covered(&self, pair: &Pair) -> Option<Position> {
        self.covered.get(pair).copied()
    }
    fn epoch(&self) -> Option<&Epoch> {
        self.epoch.as_ref()
    }
}

pub struct Lab {
    pub state: State,
    pub base: FakeBase,
    pub config: Config,
    /// Settling stores the next batches too.
    pub goes_on: bool,
    pub conflicts: BTreeMap<String, ConflictRow>,
    /// The log as it is stored: commit id and entries.
    pub log_rows: BTreeMap<u64, (String, Vec<Entry>)>,
    next_log_key: u64,
    ticks: u64,
}

pub fn key(id: &str) -> RecordKey {
    RecordKey::new("user:u", "notes", id)
}

pub fn fields(json: &str) -> Object {
    serde_json::from_str(json).unwrap()
}

impl Lab {
    pub fn new() -> Self {
        let mut config = Config::new("u");
        config.collections.insert(CollectionName::from("notes"), Default::default());
        Self {
            state: State::new(State::first_client(ClientId::from("c1"), "u")),
            base: FakeBase::default(),
            config,
            goes_on: false,
            conflicts: BTreeMap::new(),
            log_rows: BTreeMap::new(),
            next_log_key: 1,
            ticks: 0,
        }
    }

    /// A record that was pulled at this version.
    pub fn pulled(&mut self, id: &str, version: u64, json: &str) {
        let record = BaseRecord { version: Version(version), deleted: false, fields: fields(json) };
        self.base.records.insert(key(id), record);
        self.base.covered.insert(key(id).pair(), Position(version));
    }

    pub fn entry(&mut self, op: Op, id: &str, set: &str) -> Entry {
        self.ticks += 1;
        let on = view::server_view(&self.state, &self.base, &key(id)).map_or(Version::ZERO, |seen| seen.version);
        Entry {
            scope: Scope::from("user:u"),
            collection: CollectionName::from("notes"),
            id: RecordId::from(id),
            op,
            set: fields(set),
            unset: Vec::new(),
            stamp: Stamp::new(NOW.get() + self.ticks, 0, "c1"),
            group: None,
            on,
            origin: None,
            place: None,
        }
    }

    /// Appends one log row.
    pub fn log(&mut self, entries: Vec<Entry>) -> Vec<EntryId> {
        let log_key = self.next_log_key;
        self.next_log_key += 1;
        let ids = (0..entries.len()).map(|index| EntryId::at(log_key, index)).collect();
        let commit_id = format!("commit{log_key}");
        self.log_rows.insert(log_key, (commit_id.clone(), entries.clone()));
        self.state.add_log_row(log_key, &commit_id, entries, &mut |_| {});
        ids
    }
    pub fn write(&mut self, op: Op, id: &str, set: &str) -> EntryId {
        let entry = self.entry(op, id, set);
        self.log(vec![entry])[0]
    }
    pub fn group(&mut self, name: &str, writes: &[(Op, &str, &str)]) -> Vec<EntryId> {
        let entries = writes
            .iter()
            .map(|(op, id, set)| {
                let mut entry = self.entry(*op, id, set);
                entry.group = Some(GroupId::from(name));
                entry
            })
            .collect();
        self.log(entries)
    }

    pub fn apply(&mut self, txn: OutboxTxn) {
        assert_eq!(txn.client.rev, self.state.client.rev + 1, "every transaction of the outbox bumps the client row");
        for (row, value) in txn.descriptors {
            self.state.set_descriptor(&row, value);
        }
        for (row, value) in txn.settled {
            self.state.set_settled(&row, value);
        }
        for (row, value) in txn.parked {
            self.state.set_parked(&row, value);
        }
        for (row, value) in txn.conflicts {
            match value {
                Some(value) => _ = self.conflicts.insert(row, value),
                None => _ = self.conflicts.remove(&row),
            }
        }
        for log_key in txn.delete_log {
            self.log_rows.remove(&log_key);
            self.state.drop_log_row(log_key);
        }
        self.state.client = txn.client;
        for entries in txn.append {
            self.log(entries);
        }
    }

    /// Stores the next batch; returns its mutations (none: nothing to send).
    pub fn build(&mut self) -> Vec<InFlight> {
        match batch::plan_batch(&self.state, &self.base, &self.config, false, NOW) {
            Some(txn) => {
                self.apply(txn);
                self.sending()
            }
            None => Vec::new(),
        }
    }
    pub fn sending(&self) -> Vec<InFlight> {
        self.state.descriptors.values().next().map(|descriptor| descriptor.sending().to_vec()).unwrap_or_default()
    }
    pub fn mutations(&self) -> Vec<Mutation<Object>> {
        self.sending().iter().filter_map(InFlight::mutation).collect()
    }

    pub fn settle(&mut self, results: Vec<Outcome>) -> Vec<Event> {
        let row_key = self.state.descriptors.keys().next().unwrap().clone();
        let sent = self.sending();
        let epoch = Epoch::from("e1");
        let next = self.goes_on.then_some(&self.config);
        match plan_settle(&self.state, &self.base, &row_key, &sent, &results, &epoch, next, NOW) {
            SettlePlan::Commit { txn, events } => {
                self.apply(*txn);
                events
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn seen(&self, id: &str) -> Option<String> {
        let seen = view::view(&self.state, &self.base, &key(id)).filter(|seen| !seen.deleted)?;
        Some(serde_json::to_string(&seen.fields).unwrap())
    }
}

pub fn applied(seq: u64, version: u64) -> Outcome {
    let mut outcome = Outcome::new(Seq(seq), ResultStatus::Applied);
    outcome.version = Some(Version(version));
    outcome.position = Some(Position(version));
    outcome
}
pub fn superseded(seq: u64, version: u64, record: &str) -> Outcome {
    let mut outcome = applied(seq, version);
    outcome.status = ResultStatus::Superseded;
    outcome.record = Some(fields(record));
    outcome
}
pub fn rejected(seq: u64, code: &str) -> Outcome {
    Outcome::rejected(Seq(seq), code, "No.")
}
pub fn json(text: &str) -> Json {
    Json::parse(text).unwrap()
}

// ---- parents and children ----

/// `items` refer to `notes` by `note` and to other items by `item`.
pub fn families(priority: i32) -> Lab {
    let mut lab = Lab::new();
    let references = vec![("note".to_owned(), "notes".into()), ("item".to_owned(), "items".into())];
    lab.config.collections.insert("items".into(), CollectionConfig { references, priority, ..Default::default() });
    lab
}

/// Writes a record of `items`.
pub fn item(lab: &mut Lab, op: Op, id: &str, set: &str) -> EntryId {
    let mut entry = lab.entry(op, id, set);
    entry.collection = "items".into();
    lab.log(vec![entry])[0]
}

pub fn item_key(id: &str) -> RecordKey {
    RecordKey::new("user:u", "items", id)
}

pub fn pulled_item(lab: &mut Lab, id: &str, json: &str) {
    let record = BaseRecord { version: Version(1), deleted: false, fields: fields(json) };
    lab.base.records.insert(item_key(id), record);
}

/// What is on its way, as operation and id.
pub fn sent(lab: &Lab) -> Vec<String> {
    let name = |op| match op {
        Op::Create => "+",
        Op::Update => "=",
        Op::Delete => "-",
    };
    lab.mutations().iter().map(|mutation| format!("{}{}", name(mutation.op), mutation.id)).collect()
}

// ---- chance ----

/// Numbers that look drawn (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}
