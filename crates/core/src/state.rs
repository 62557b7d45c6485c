//! The outbox as this context knows it: rebuilt from rows, changed only by rows.

use crate::by_record::Lanes;
use crate::rows::{ClientRow, Descriptor, Entry, InFlight, ParkedRow, SettledMutation, SettledRow};
use landfall_protocol::codec::{Reader, padded};
use landfall_protocol::text::cut;
use landfall_protocol::{
    AddAll, ClientId, CollectionName, EntryId, Epoch, Hlc, Map, Object, Pair, Position, RecordKey, Scope, Seq, Set,
    Version,
};

/// The last server state of a record that this client pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseRecord {
    pub version: Version,
    pub deleted: bool,
    /// None of a deleted record.
    pub fields: Object,
}

/// What the outbox's rules ask of the base. Implemented by the replica over its segments.
pub trait Base {
    fn base(&self, key: &RecordKey) -> Option<BaseRecord>;
    /// How far pulls of a pair reach; `None` where the client does not pull it.
    fn covered(&self, pair: &Pair) -> Option<Position>;
    fn epoch(&self) -> Option<&Epoch>;
}

/// What a collection's declaration means to the outbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectionConfig {
    /// Scope template, e.g. `user:{user}`.
    pub scope: String,
    pub priority: i32,
    pub immediate: bool,
    /// Fields that hold the id of a record of another collection.
    pub references: Vec<(String, CollectionName)>,
}

/// What the app chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub user: String,
    pub device: String,
    pub schema_version: u32,
    pub collections: Map<CollectionName, CollectionConfig>,
    pub batch_count: usize,
    pub batch_bytes: usize,
    /// Answers that can be a unit's own fault before it is `failed`.
    pub attempts_max: u32,
    pub push_debounce_ms: u64,
    pub push_every_ms: u64,
    pub pull_every_ms: u64,
}

impl Config {
    pub fn new(user: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            device: String::new(),
            schema_version: 1,
            collections: Map::new(),
            batch_count: landfall_protocol::limits::BATCH_COUNT_DEFAULT,
            batch_bytes: landfall_protocol::limits::BATCH_BYTES_MAX - 16 * 1024,
            attempts_max: 10,
            push_debounce_ms: 250,
            push_every_ms: 30_000,
            pull_every_ms: 300_000,
        }
    }

    /// The scope that a record belongs to, by its collection's template. `None`: a field of the template is missing.
    pub fn scope_of(&self, collection: &CollectionName, fields: &Object) -> Option<Scope> {
        let template = self.collections.get(collection).map_or("user:{user}", |config| config.scope.as_str());
        let mut scope = String::new();
        let mut rest = template;
        while let Some((before, after)) = cut(rest, b'{') {
            scope.push_str(before);
            let (name, tail) = cut(after, b'}')?;
            if name == "user" {
                scope.push_str(&self.user);
            } else {
                let value = fields.get(name)?;
                match Reader::new(value).string() {
                    Some(text) => scope.push_str(&text),
                    None => scope.push_str(value),
                }
            }
            rest = tail;
        }
        scope.push_str(rest);
        Some(Scope(scope))
    }
}

/// The last settled mutation of a record before a given entry: what a follower stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettledRef<'a> {
    pub mutation: &'a SettledMutation,
    pub epoch: Option<&'a Epoch>,
}

/// The outbox in memory. Everything here follows from rows; nothing is only here.
#[derive(Clone, Debug)]
pub struct State {
    pub client: ClientRow,
    /// Undecided entries, by log position.
    pub entries: Map<EntryId, Entry>,
    /// Undecided entries of each record, in lane order.
    pub lanes: Lanes,
    /// In-flight batches by row key.
    pub descriptors: Map<String, Descriptor>,
    /// Which seq an undecided entry travels under.
    pub sent: Map<EntryId, Seq>,
    /// Settled mutations by row key.
    pub settled: Map<String, SettledRow>,
    /// Which settled rows know a record, newest last: (row key, index).
    pub settled_by_key: Map<RecordKey, Vec<(String, usize)>>,
    /// Entries that ended, as long as their log row may still be read.
    pub decided: Set<EntryId>,
    pub parked: Map<String, ParkedRow>,
    /// Parked changes of each record: row keys.
    pub parked_by_key: Map<RecordKey, Set<String>>,
    /// Live log rows: commit id and number of entries.
    pub log_rows: Map<u64, (String, usize)>,
    pub hlc: Hlc,
    /// Undecided entries whose place in their lane is not their place in the log.
    pub placed: usize,
    pub over: Over,
}

/// How often a record came to have something of this client's over its base, and how often the last of it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Over {
    pub came: u64,
    pub left: u64,
}

impl State {
    pub fn new(client: ClientRow) -> Self {
        Self {
            client,
            entries: Map::new(),
            lanes: Lanes::default(),
            descriptors: Map::new(),
            sent: Map::new(),
            settled: Map::new(),
            settled_by_key: Map::new(),
            decided: Set::new(),
            parked: Map::new(),
            parked_by_key: Map::new(),
            log_rows: Map::new(),
            hlc: Hlc::default(),
            placed: 0,
            over: Over::default(),
        }
    }

    /// A new client's first row.
    pub fn first_client(client_id: ClientId, user: &str) -> ClientRow {
        ClientRow {
            rev: 1,
            client_id,
            user: user.to_owned(),
            next_seq: Seq(1),
            acked_through: Seq::ZERO,
            first_push: true,
            pull_first: false,
            requeues: Map::new(),
            hold_until: None,
            held_at: None,
            recent: Vec::new(),
        }
    }

    /// Takes a log row into account. Tells `touched` the records whose view may have changed.
    pub fn add_log_row(
        &mut self,
        log_key: u64,
        commit_id: &str,
        entries: Vec<Entry>,
        touched: &mut dyn FnMut(&RecordKey),
    ) {
        self.log_rows.insert(log_key, (commit_id.to_owned(), entries.len()));
        for (index, entry) in entries.into_iter().enumerate() {
            let id = EntryId::at(log_key, index);
            self.hlc.observe(&entry.stamp);
            // Nearly always it is newer than all that is known.
            let is_last = self.entries.last_key_value().is_none_or(|(last, _)| *last < id);
            if self.decided.contains(&id) || (!is_last && self.entries.contains_key(&id)) {
                continue;
            }
            let key = entry.key();
            touched(&key);
            let place = entry.place.unwrap_or(id);
            let settled = !self.settled_by_key.is_empty() && self.settled_by_key.contains_key(&key);
            let (lane, is_new) = self.lanes.begin(key);
            let at = lane
                .iter()
                .position(|other| self.entries.get(other).and_then(|other| other.place).unwrap_or(*other) > place)
                .unwrap_or(lane.len());
            lane.insert(at, id);
            self.over.came += u64::from(is_new && !settled);
            self.placed += usize::from(entry.place.is_some());
            self.entries.insert(id, entry);
        }
    }

    /// Forgets a log row that was deleted.
    pub fn drop_log_row(&mut self, log_key: u64) {
        if let Some((_, count)) = self.log_rows.remove(&log_key) {
            for index in 0..count {
                let id = EntryId::at(log_key, index);
                self.forget(id);
                self.decided.remove(&id);
            }
        }
    }

    /// An entry leaves memory and its lane.
    fn forget(&mut self, id: EntryId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        self.placed -= usize::from(entry.place.is_some());
        let key = RecordKey { scope: entry.scope, collection: entry.collection, id: entry.id };
        if self.lanes.leave(&key, id) && !self.settled_by_key.contains_key(&key) {
            self.over.left += 1;
        }
    }

    /// Takes a descriptor row into account, or its absence.
    pub fn set_descriptor(&mut self, row_key: &str, descriptor: Option<Descriptor>) -> Vec<RecordKey> {
        let mut touched = Vec::new();
        if let Some(old) = self.descriptors.remove(row_key) {
            for id in old.mutations.iter().flat_map(|mutation| &mutation.entries) {
                self.sent.remove(id);
                touched.add_all(self.entries.get(id).map(Entry::key));
            }
            // After a fork its first batch, of a lower key, may be known before its former one is known to be gone.
            for mutation in self.descriptors.values().flat_map(|row| &row.mutations) {
                self.sent.extend(mutation.entries.iter().map(|id| (*id, mutation.seq)));
            }
        }
        if let Some(new) = descriptor {
            for mutation in &new.mutations {
                for id in &mutation.entries {
                    self.sent.insert(*id, mutation.seq);
                    touched.add_all(self.entries.get(id).map(Entry::key));
                }
            }
            self.descriptors.insert(row_key.to_owned(), new);
        }
        touched
    }

    /// Takes a settled row into account, or its absence (it was trimmed).
    pub fn set_settled(&mut self, row_key: &str, row: Option<SettledRow>) -> Vec<RecordKey> {
        let mut touched = Vec::new();
        if let Some(old) = self.settled.remove(row_key) {
            for mutation in &old.mutations {
                if let Some(rows) = self.settled_by_key.get_mut(&mutation.key) {
                    rows.retain(|(row, _)| row != row_key);
                    if rows.is_empty() {
                        self.settled_by_key.remove(&mutation.key);
                        self.over.left += u64::from(!self.lanes.contains_key(&mutation.key));
                    }
                }
                touched.push(mutation.key.clone());
            }
        }
        if let Some(new) = row {
            for (index, mutation) in new.mutations.iter().enumerate() {
                let rows = self.settled_by_key.entry(mutation.key.clone()).or_default();
                self.over.came += u64::from(rows.is_empty() && !self.lanes.contains_key(&mutation.key));
                let at = rows.partition_point(|(row, at)| (row.as_str(), *at) < (row_key, index));
                rows.insert(at, (row_key.to_owned(), index));
                for id in &mutation.entries {
                    self.decided.insert(*id);
                    self.forget(*id);
                }
                touched.push(mutation.key.clone());
            }
            for (key, commit_id) in &new.gone {
                // A rolled-back disk may have given the key to another row since.
                if self.log_rows.get(key).is_some_and(|(found, _)| found == commit_id) {
                    self.drop_log_row(*key);
                }
            }
            self.settled.insert(row_key.to_owned(), new);
        }
        touched
    }

    /// Takes a parked row into account, or its absence.
    pub fn set_parked(&mut self, row_key: &str, row: Option<ParkedRow>) -> Vec<RecordKey> {
        let mut touched = Vec::new();
        if let Some(old) = self.parked.remove(row_key) {
            for change in &old.changes {
                let key = change.entry.key();
                if let Some(rows) = self.parked_by_key.get_mut(&key) {
                    rows.remove(row_key);
                    if rows.is_empty() {
                        self.parked_by_key.remove(&key);
                    }
                }
                touched.push(key);
            }
        }
        if let Some(new) = row {
            for change in &new.changes {
                let key = change.entry.key();
                self.parked_by_key.entry(key.clone()).or_default().insert(row_key.to_owned());
                touched.push(key);
            }
            self.parked.insert(row_key.to_owned(), new);
        }
        touched
    }

    /// The scopes of all records with something of this client's over their base; one may come twice.
    pub fn each_scope(&self, each: &mut dyn FnMut(&Scope)) {
        self.lanes.scopes().for_each(&mut *each);
        // From one scope's first record to the next one's.
        let mut next = self.settled_by_key.first_key_value();
        while let Some((key, _)) = next {
            each(&key.scope);
            let mut behind = key.scope.0.clone();
            behind.push('\0');
            next = self.settled_by_key.range(RecordKey::new(behind, "", "")..).next();
        }
    }

    /// The settled mutations of a record, oldest first.
    pub fn settled_of<'a>(&'a self, key: &RecordKey) -> impl DoubleEndedIterator<Item = SettledRef<'a>> + use<'a> {
        let rows = self.settled_by_key.get(key).map_or(&[][..], Vec::as_slice);
        rows.iter().filter_map(|(row, index)| {
            let row = self.settled.get(row)?;
            Some(SettledRef { mutation: row.mutations.get(*index)?, epoch: row.epoch.as_ref() })
        })
    }

    /// Undecided entries that travel in no batch yet. A batch may name entries whose log row can't be read: then this is
    /// too low until that batch is settled, and nothing worse.
    pub fn unsent_count(&self) -> usize {
        self.entries.len().saturating_sub(self.sent.len())
    }

    /// How far outcomes may be acknowledged once these seqs have one: the server forgets them then. What is still to be sent of a
    /// batch that was cut stands on what became of the seq that it names in `after` (C1).
    pub fn settled_through(&self, without: &Set<Seq>) -> Seq {
        let open = self
            .descriptors
            .values()
            .flat_map(|descriptor| &descriptor.mutations)
            .filter(|mutation| !without.contains(&mutation.seq))
            .map(InFlight::needs)
            .min();
        Seq(open.unwrap_or(self.client.next_seq).get() - 1)
    }

    /// Row keys in `meta`.
    pub fn descriptor_key(first: Seq) -> String {
        ["desc/", &padded(first.get(), 16)].concat()
    }
    pub fn settled_key(rev: u64) -> String {
        ["acked/", &padded(rev, 16)].concat()
    }
    pub fn parked_key(id: EntryId) -> String {
        ["parked/", &padded(id.get(), 16)].concat()
    }
    pub fn conflict_key(client: &ClientId, seq: Seq) -> String {
        ["conflict/", &padded(seq.get(), 16), "/", &client.0].concat()
    }
}
