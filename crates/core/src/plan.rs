//! What a step of the outbox wants written: typed rows, one transaction, ordered by the client row.

use crate::rows::{ClientRow, ConflictRow, Descriptor, Entry, LocalEnd, ParkedRow, SettledMutation, SettledRow};
use crate::state::{Base, State};
use landfall_protocol::{AddAll, EntryId, Map, Set, UnixMillis, limits};

/// A row of the outbox that can't be read, and the key under which it is kept from now on, word for word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    pub key: String,
    pub row: String,
    pub to: String,
}

/// One transaction of the outbox. The replica encodes it; it commits only if the client row is still at `client.rev − 1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxTxn {
    pub name: &'static str,
    pub client: ClientRow,
    pub descriptors: Map<String, Option<Descriptor>>,
    pub settled: Map<String, Option<SettledRow>>,
    pub parked: Map<String, Option<ParkedRow>>,
    pub conflicts: Map<String, Option<ConflictRow>>,
    /// New log rows, one a group of entries that belong together.
    pub append: Vec<Vec<Entry>>,
    pub delete_log: Vec<u64>,
    pub set_aside: Vec<SetAside>,
}

/// Entries of one log row at most.
pub const ROW_ENTRIES_MAX: usize = 150;

/// How many transactions back the client row remembers which rows changed.
const RECENT_MAX: usize = 24;

impl OutboxTxn {
    pub fn new(name: &'static str, state: &State) -> Self {
        let mut client = state.client.clone();
        client.rev += 1;
        Self {
            name,
            client,
            descriptors: Map::new(),
            settled: Map::new(),
            parked: Map::new(),
            conflicts: Map::new(),
            append: Vec::new(),
            delete_log: Vec::new(),
            set_aside: Vec::new(),
        }
    }

    /// The row of decisions that this transaction writes.
    pub fn settled_row(&mut self, base: &dyn Base, now: UnixMillis) -> &mut SettledRow {
        let key = State::settled_key(self.client.rev);
        let client_id = self.client.client_id.clone();
        self.settled.entry(key).or_insert(None).get_or_insert_with(|| SettledRow {
            client_id,
            epoch: base.epoch().cloned(),
            at: now,
            mutations: Vec::new(),
            gone: Vec::new(),
        })
    }

    /// Ends entries without a word of the server.
    pub fn end_locally(
        &mut self,
        base: &dyn Base,
        now: UnixMillis,
        key: &landfall_protocol::RecordKey,
        entries: Vec<EntryId>,
        end: LocalEnd,
    ) {
        self.settled_row(base, now).mutations.push(SettledMutation {
            key: key.clone(),
            entries,
            text: None,
            base: landfall_protocol::Version::ZERO,
            place: None,
            outcome: None,
            local: Some(end),
        });
    }

    /// Completes the plan: deletes log rows whose last entry ended with it, trims old decisions, remembers what changed.
    #[must_use]
    pub fn finish(mut self, state: &State, base: &dyn Base, now: UnixMillis) -> Self {
        let mut ended: Set<EntryId> = Set::new();
        let mut rows: Set<u64> = Set::new();
        for mutation in self.settled.values().flatten().flat_map(|row| &row.mutations) {
            for id in &mutation.entries {
                ended.insert(*id);
                rows.insert(id.log_key());
            }
        }
        let mut gone = Vec::new();
        for log_key in rows {
            let Some((commit_id, count)) = state.log_rows.get(&log_key) else { continue };
            let mut all = (0..*count).map(|index| EntryId::at(log_key, index));
            if all.all(|id| ended.contains(&id) || state.decided.contains(&id)) {
                self.delete_log.push(log_key);
                gone.push((log_key, commit_id.clone()));
            }
        }
        if !gone.is_empty() {
            self.settled_row(base, now).gone.add_all(gone);
        }
        self.client.requeues.retain(|id, _| !ended.contains(id));
        // An entry's id has room for so many entries a row; a group may go on in the next row.
        for mut row in std::mem::take(&mut self.append) {
            while row.len() > ROW_ENTRIES_MAX {
                let rest = row.split_off(ROW_ENTRIES_MAX);
                self.append.push(std::mem::replace(&mut row, rest));
            }
            self.append.push(row);
        }
        self.trim(state, base, now);
        let mut touched: Vec<String> = Vec::new();
        let mut touch = |key: &String| touched.push(key.clone());
        self.descriptors.keys().for_each(&mut touch);
        self.settled.keys().for_each(&mut touch);
        self.parked.keys().for_each(&mut touch);
        self.conflicts.keys().for_each(&mut touch);
        self.set_aside.iter().for_each(|row| touch(&row.key));
        self.client.recent.push((self.client.rev, touched));
        let excess = self.client.recent.len().saturating_sub(RECENT_MAX);
        self.client.recent.drain(..excess);
        self
    }

    /// Of the values that lost, the newest [`limits::CONFLICT_COUNT_MAX`] are kept; `known` are those that are stored.
    ///
    /// Newest by the time at which they lost: seqs, which their keys begin with, start anew with every fork.
    pub fn trim_conflicts(&mut self, known: &Map<String, ConflictRow>) {
        let added = self.conflicts.iter().filter(|(key, row)| row.is_some() && !known.contains_key(*key)).count();
        let excess = if added > 0 { (known.len() + added).saturating_sub(limits::CONFLICT_COUNT_MAX) } else { 0 };
        for _ in 0..excess {
            let mut oldest: Option<(UnixMillis, &String)> = None;
            for (key, row) in known.iter().filter(|(key, _)| !self.conflicts.contains_key(*key)) {
                if oldest.is_none_or(|(at, _)| row.at < at) {
                    oldest = Some((row.at, key));
                }
            }
            let Some((_, key)) = oldest else { return };
            self.conflicts.insert(key.clone(), None);
            if let Some((_, keys)) = self.client.recent.last_mut() {
                keys.push(key.clone());
            }
        }
    }

    /// Acknowledged mutations stay a day (R6), at most so many, and as long as an overlay or a log row needs them.
    fn trim(&mut self, state: &State, base: &dyn Base, now: UnixMillis) {
        let count: usize = state.settled.values().map(|row| row.mutations.len()).sum();
        let mut excess = count.saturating_sub(limits::ACKED_COUNT_MAX);
        for (row_key, row) in &state.settled {
            let old = now.get().saturating_sub(row.at.get()) > limits::ACKED_MS;
            if !old && excess == 0 {
                break;
            }
            let needed = row.mutations.iter().any(|mutation| {
                let log = mutation
                    .entries
                    .iter()
                    .any(|id| state.log_rows.contains_key(&id.log_key()) && !self.delete_log.contains(&id.log_key()));
                // Where nothing was pulled yet it is all that is known of its record, however old.
                let overlay = mutation.outcome.as_ref().and_then(|outcome| outcome.position).is_some_and(|position| {
                    base.covered(&mutation.key.pair()).map_or(excess == 0, |covered| covered < position)
                });
                log || overlay || state.lanes.contains_key(&mutation.key)
            });
            if needed {
                break;
            }
            excess = excess.saturating_sub(row.mutations.len());
            self.settled.insert(row_key.clone(), None);
        }
    }
}
