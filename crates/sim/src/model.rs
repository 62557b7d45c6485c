//! What should be true, kept by simpler means than the engine's: every durable entry, every decision, every effect.
//!
//! It hears of each transaction that reached a disk and of each verdict of the server, and compares. It shares row and
//! wire *types* with the engine and none of its rules.

use crate::policy::{self, PolicyKind, Sent};
use crate::world::PARENT;
use landfall_core::rows::{ConflictRow, Descriptor, Entry, LocalEnd, LogRow, ParkedRow, SettledRow};
use landfall_protocol::limits::HLC_AHEAD_MS_MAX;
use landfall_protocol::{Fields, Mutation, Object, Op, Outcome, Pair, RecordId, RecordKey, ResultStatus, Scope};
use landfall_storage::{Key, RowKind, RowOp, StoreName, decode};
use std::collections::{BTreeMap, BTreeSet};

/// A record's fields as plain JSON texts.
pub type Plain = BTreeMap<String, String>;

pub fn plain(fields: &Fields) -> Plain {
    fields.iter().map(|(name, value)| (name.clone(), value.text().to_owned())).collect()
}

/// The same of an object that the engine keeps as text; read by other code than the engine's.
pub fn said(object: &Object) -> Plain {
    plain(&serde_json::from_str(object.text()).unwrap_or_default())
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub promise: &'static str,
    pub text: String,
}

/// A record after one effect.
#[derive(Clone, Debug)]
pub struct StateAt {
    pub position: u64,
    pub version: u64,
    /// `None`: deleted.
    pub fields: Option<Plain>,
    pub profile: usize,
    pub client: String,
    pub seq: u64,
    pub user: String,
    /// The server's clock for it: clamped, and after what was there.
    pub stamp: String,
    pub is_create: bool,
    /// Place in the log of the newest entry that it carries.
    entry: u64,
}

/// A verdict as the server gave it first.
#[derive(Clone, Debug)]
struct Given {
    answer: String,
    outcome: Outcome,
    sent: String,
    /// The version that the mutation stood on, through its predecessors.
    stands: u64,
}

/// The server's side: goes back with a restored backup.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    pub states: BTreeMap<Pair, BTreeMap<RecordId, Vec<StateAt>>>,
    given: BTreeMap<(String, u64), Given>,
    /// (profile, entry as its author knows it) of every effect.
    effected: BTreeSet<(usize, u64)>,
    /// Conflicts that somebody with a role has decided.
    reviewed: BTreeSet<String>,
}

impl Truth {
    pub fn states_of(&self, key: &RecordKey) -> &[StateAt] {
        self.states.get(&key.pair()).and_then(|records| records.get(&key.id)).map_or(&[], Vec::as_slice)
    }
    /// The record after everything up to `position`.
    pub fn at(&self, key: &RecordKey, position: u64) -> Option<&StateAt> {
        at(self.states_of(key), position)
    }
}

pub fn at(states: &[StateAt], position: u64) -> Option<&StateAt> {
    states.iter().rev().find(|state| state.position <= position)
}

/// One browser profile's side: goes back with a rolled-back disk.
#[derive(Clone, Debug, Default)]
pub struct ProfileModel {
    pub user: String,
    pub durable: BTreeMap<u64, Entry>,
    commits: BTreeSet<String>,
    rows: BTreeMap<u64, usize>,
    /// Which row ended an entry, and when (see [`Model::tick`]).
    pub decided: BTreeMap<u64, (String, u64)>,
    /// Which entries travel in these exact bytes.
    sent: BTreeMap<String, Vec<u64>>,
    descriptors: BTreeMap<String, Vec<u64>>,
    /// Outcomes that a settle stored: the entries that it ended.
    stored: BTreeMap<(String, u64), (bool, Vec<u64>)>,
    /// Given up so that what a restored server lost goes before them.
    again: BTreeSet<u64>,
    /// Writes whose promise resolved, and when.
    pub acked: BTreeMap<u64, u64>,
    /// Values of writes whose promise rejected: must never be seen.
    pub rejected: BTreeSet<String>,
    /// Cloned or rolled back: what is its own cannot be told any more.
    pub is_tainted: bool,
    /// A byte of its disk was changed.
    pub is_torn: bool,
    /// Client ids that it had, in order.
    clients: Vec<String>,
    /// Last (manifest rev, epoch, covered) seen.
    pub seen_base: Option<(u64, Option<String>, BTreeMap<Pair, u64>)>,
}

impl ProfileModel {
    pub fn undecided(&self) -> impl Iterator<Item = (&u64, &Entry)> {
        self.durable.iter().filter(|(id, _)| !self.decided.contains_key(id))
    }
}

impl ProfileModel {
    /// The create of what this mutation refers to, written before it, and neither decided nor `earlier` in its batch.
    fn parent_left(&self, mutation: &Mutation<Object>, first: u64, earlier: &BTreeSet<u64>) -> Option<u64> {
        let parent = said(&mutation.set).remove(PARENT)?;
        let makes = |entry: &Entry| {
            let parent = parent.trim_matches('"');
            entry.op == Op::Create && entry.collection.0 == "tasks" && entry.id.as_str() == parent
        };
        let left = |id: &u64| !self.decided.contains_key(id) && !earlier.contains(id);
        let mut before = self.durable.range(..first).filter(|(id, entry)| left(id) && makes(entry));
        before.next().map(|(id, _)| *id)
    }
}

/// A mutation's verdict, as the server tells it.
pub struct Verdict<'a> {
    pub profile: usize,
    pub client: &'a str,
    pub sent: &'a str,
    pub mutation: Option<&'a Mutation>,
    pub outcome: &'a Outcome,
    pub answer: &'a str,
    /// The server's clock.
    pub now: u64,
    /// The stamp that was stored with the effect.
    pub stamp: Option<&'a str>,
    /// What was written: position, version, fields of a live record.
    pub effect: Option<(u64, u64, Option<Plain>)>,
}

/// Everything that is known of the world from outside.
#[derive(Default)]
pub struct Model {
    pub violation: Option<Violation>,
    pub truth: Truth,
    pub profiles: Vec<ProfileModel>,
    ever: BTreeMap<(String, u64), Vec<String>>,
    acked_through: BTreeMap<String, u64>,
    /// Effects that a restored backup took back: (client, seq).
    lost: BTreeSet<(String, u64)>,
    pub restores: u64,
    pub policies: BTreeMap<String, PolicyKind>,
    tick: u64,
}

impl Model {
    pub fn violate(&mut self, promise: &'static str, text: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { promise, text: text() });
        }
    }

    /// A moment; later ones are greater.
    pub fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    // ---- the app's side ----

    /// A write's promise resolved with this entry.
    pub fn acknowledged(&mut self, profile: usize, entry: u64) {
        let tick = self.tick();
        let known = &mut self.profiles[profile];
        if !known.durable.contains_key(&entry) {
            self.violate("L1", || format!("entry {entry} was acknowledged and is not stored"));
            return;
        }
        known.acked.insert(entry, tick);
    }

    /// A write's promise rejected; these values are its own.
    pub fn refused(&mut self, profile: usize, values: impl Iterator<Item = String>) {
        for value in values {
            let known = &mut self.profiles[profile];
            let is_stored = |entry: &Entry| said(&entry.set).values().any(|stored| *stored == value);
            let stored = known.durable.iter().find(|(_, entry)| is_stored(entry)).map(|(id, _)| *id);
            known.rejected.insert(value.clone());
            if let Some(id) = stored {
                self.violate("L3", || format!("the write of {value} was refused and is stored as entry {id}"));
            }
        }
    }

    // ---- the disk's side ----

    /// A transaction reached the disk. `parked_before`: parked rows that it changes or deletes, as they were.
    pub fn committed(
        &mut self,
        profile: usize,
        name: &'static str,
        ops: &[RowOp],
        log_keys: &[u64],
        parked_before: &[ParkedRow],
    ) {
        let mut conflicts: Vec<ConflictRow> = Vec::new();
        let mut parked: BTreeSet<u64> = BTreeSet::new();
        let mut settled: Vec<(String, SettledRow)> = Vec::new();
        for op in ops {
            let RowOp::Put { store: StoreName::Meta, key: Key::Text(key), row } = op else { continue };
            match key.split('/').next().unwrap_or_default() {
                "conflict" => conflicts.extend(decode::<ConflictRow>(RowKind::Conflict, row).ok()),
                "parked" => {
                    let row = decode::<ParkedRow>(RowKind::Parked, row).ok();
                    let entries = row.iter().flat_map(|row| &row.changes).flat_map(|change| &change.entries);
                    parked.extend(entries.map(|id| id.get()));
                }
                "acked" => settled.extend(decode(RowKind::Acked, row).ok().map(|row| (key.clone(), row))),
                "client" => self.client_row(profile, row),
                _ => {}
            }
        }
        for (key, row) in &settled {
            self.settled(profile, name, key, row, &conflicts, &parked);
        }
        let mut keys = log_keys.iter();
        for op in ops {
            match op {
                RowOp::Append { row } => {
                    if let Some(key) = keys.next() {
                        self.appended(profile, name, *key, row);
                    }
                }
                RowOp::Put { store: StoreName::Meta, key: Key::Text(key), row } if key.starts_with("desc/") => {
                    self.descriptor(profile, name, key, Some(row));
                }
                RowOp::Delete { store: StoreName::Meta, key: Key::Text(key) } if key.starts_with("desc/") => {
                    self.descriptor(profile, name, key, None);
                }
                RowOp::Delete { store: StoreName::Log, key: Key::Number(key) } => self.log_deleted(profile, *key),
                _ => {}
            }
        }
        if !parked_before.is_empty() && !matches!(name, "retry" | "discard") {
            for row in parked_before {
                let stays = row.changes.iter().flat_map(|change| &change.entries).all(|id| parked.contains(&id.get()));
                if !stays {
                    self.violate("L4", || format!("{name} dropped the parked unit {}", row.id));
                }
            }
        }
        if name == "retry" && log_keys.is_empty() {
            self.violate("L4", || "a retry queued nothing".to_owned());
        }
    }

    fn client_row(&mut self, profile: usize, row: &str) {
        let Some(at) = row.find("\"client_id\":\"") else { return };
        let rest = &row[at + 13..];
        let id = &rest[..rest.find('"').unwrap_or(0)];
        let clients = &mut self.profiles[profile].clients;
        if clients.last().is_none_or(|last| last != id) {
            clients.push(id.to_owned());
        }
    }

    fn appended(&mut self, profile: usize, name: &'static str, log_key: u64, row: &str) {
        let Ok(row) = decode::<LogRow>(RowKind::Log, row) else { return };
        let known = &mut self.profiles[profile];
        let is_new = known.commits.insert(row.commit_id.clone());
        known.rows.insert(log_key, row.entries.len());
        for (index, entry) in row.entries.iter().enumerate() {
            known.durable.insert(landfall_protocol::EntryId::at(log_key, index).get(), entry.clone());
        }
        let mut values = row.entries.iter().flat_map(|entry| said(&entry.set).into_values());
        let shown = values.find(|value| known.rejected.contains(value));
        if !is_new {
            self.violate("L2", || format!("{name} stored the commit group {} twice", row.commit_id));
        }
        if let Some(value) = shown {
            self.violate("L3", || format!("the value {value} was refused and is stored"));
        }
    }

    fn log_deleted(&mut self, profile: usize, log_key: u64) {
        let known = &self.profiles[profile];
        let count = known.rows.get(&log_key).copied().unwrap_or(0);
        let open = (0..count)
            .map(|index| landfall_protocol::EntryId::at(log_key, index).get())
            .find(|id| !known.decided.contains_key(id));
        if let Some(id) = open {
            self.violate("L4", || format!("log row {log_key} was deleted with the undecided entry {id}"));
        }
    }

    fn descriptor(&mut self, profile: usize, name: &'static str, key: &str, row: Option<&str>) {
        let row = row.and_then(|row| decode::<Descriptor>(RowKind::Descriptor, row).ok());
        let before = self.profiles[profile].descriptors.remove(key).unwrap_or_default();
        let client = self.profiles[profile].clients.last().cloned().unwrap_or_default();
        let mut wrong = None;
        let known = &mut self.profiles[profile];
        let mut now = Vec::new();
        let mut earlier: BTreeSet<u64> = BTreeSet::new();
        for sent in row.iter().flat_map(|row| &row.mutations) {
            now.push(sent.seq.get());
            known.again.extend(sent.again.then_some(sent.seq.get()));
            earlier.extend(sent.entries.iter().map(|id| id.get()));
            let text = sent.text.text();
            let entries: Vec<u64> = sent.entries.iter().map(|id| id.get()).collect();
            if known.sent.contains_key(text) {
                continue;
            }
            if let Some(id) = entries.iter().find(|id| !known.durable.contains_key(id)) {
                wrong = Some(("L2", format!("seq {} carries entry {id}, which is not stored", sent.seq)));
            } else if let Some(id) = entries.iter().find(|id| known.decided.contains_key(id)) {
                wrong = Some(("S1", format!("seq {} carries entry {id}, which was decided", sent.seq)));
            }
            let parts: Vec<&Entry> = entries.iter().filter_map(|id| known.durable.get(id)).collect();
            if let Some(mutation) = sent.mutation()
                && !means_the_same(&parts, &mutation)
            {
                wrong = Some(("C3", format!("seq {} does not say what its entries say: {parts:?}: {text}", sent.seq)));
            }
            if let Some(mutation) = sent.mutation()
                && let Some(id) = entries.first().and_then(|first| known.parent_left(&mutation, *first, &earlier))
            {
                wrong = Some(("S4", format!("seq {} goes before entry {id}, which makes its parent", sent.seq)));
            }
            known.sent.insert(text.to_owned(), entries);
        }
        // The fork's client row is written in the same transaction, so its descriptors belong to the id before.
        let forgets = matches!(name, "fork" | "reset" | "open");
        let clients = known.clients.clone();
        let is_stored = |seq: &u64| clients.iter().any(|client| known.stored.contains_key(&(client.clone(), *seq)));
        if !forgets && let Some(seq) = before.iter().find(|seq| !now.contains(seq) && !is_stored(seq)) {
            wrong = Some(("L4", format!("{name} forgot seq {seq} of {client} without its outcome")));
        }
        if row.is_some() {
            known.descriptors.insert(key.to_owned(), now);
        }
        if let Some((promise, text)) = wrong
            && !self.profiles[profile].is_torn
        {
            self.violate(promise, || text);
        }
    }

    fn settled(
        &mut self,
        profile: usize,
        name: &'static str,
        key: &str,
        row: &SettledRow,
        conflicts: &[ConflictRow],
        parked: &BTreeSet<u64>,
    ) {
        let tick = self.tick();
        let requeues = row.mutations.iter().any(|settled| {
            let seq = settled.outcome.as_ref().map_or(0, |outcome| outcome.seq.get());
            let code = settled.outcome.as_ref().and_then(|outcome| outcome.code.as_deref());
            matches!(code, Some("blocked" | "missing_parent" | "stale"))
                || (code == Some("void") && self.profiles[profile].again.contains(&seq))
        });
        let client = row.client_id.as_str().to_owned();
        for settled in &row.mutations {
            let entries: Vec<u64> = settled.entries.iter().map(|id| id.get()).collect();
            let known = &mut self.profiles[profile];
            let torn = known.is_torn;
            let repeats = entries.iter().all(|id| known.decided.get(id).is_some_and(|(row, _)| row == key));
            if repeats && !entries.is_empty() {
                continue;
            }
            if let Some(id) = entries.iter().find(|id| !known.durable.contains_key(id))
                && !torn
            {
                self.violate("L4", || format!("{name} decided entry {id}, which is not stored"));
                return;
            }
            let known = &mut self.profiles[profile];
            for id in &entries {
                let before = known.decided.insert(*id, (key.to_owned(), tick));
                if let Some((before, _)) = before.filter(|(before, _)| before != key && !torn) {
                    self.violate("L4", || format!("{name} decided entry {id} again, after {before}"));
                    return;
                }
            }
            let all_parked = entries.iter().all(|id| parked.contains(id));
            match (&settled.outcome, settled.local) {
                (Some(outcome), _) => {
                    let seq = outcome.seq.get();
                    known.stored.insert((client.clone(), seq), (outcome.took_effect(), entries.clone()));
                    let text = serde_json::to_string(outcome).unwrap_or_default();
                    let given = self.ever.get(&(client.clone(), seq)).is_some_and(|all| all.contains(&text));
                    if !given {
                        self.violate("L4", || format!("{name} stored an outcome that was never given: {text}"));
                    }
                    match outcome.status {
                        ResultStatus::Applied | ResultStatus::Recreated => {}
                        ResultStatus::Merged => {
                            let text = settled.text.as_ref().map_or("", |text| text.text());
                            let lost = serde_json::from_str::<Mutation>(text)
                                .is_ok_and(|mutation| !holds(outcome.record.as_ref(), &mutation));
                            if lost && !conflicts.iter().any(|kept| kept.seq == outcome.seq) {
                                self.violate("C2", || format!("what a merge dropped of seq {seq} was not kept"));
                            }
                        }
                        ResultStatus::Conflict if outcome.to.as_deref() == Some("review") => {
                            if !conflicts.iter().any(|kept| kept.seq == outcome.seq) || entries.is_empty() {
                                self.violate("C2", || {
                                    format!("seq {seq} of {client} waits for a role and is not kept")
                                });
                            }
                        }
                        ResultStatus::Superseded => {
                            if !conflicts.iter().any(|kept| kept.seq == outcome.seq) {
                                self.violate("C2", || format!("what lost as seq {seq} of {client} was not kept"));
                            }
                        }
                        ResultStatus::Rejected | ResultStatus::Conflict => {
                            if entries.is_empty() && !requeues {
                                self.violate("C3", || format!("seq {seq} of {client} was refused and stays: {text}"));
                            }
                            if !all_parked {
                                self.violate("C2", || format!("seq {seq} of {client} was refused and is not kept"));
                            }
                        }
                        ResultStatus::AlreadySettled | ResultStatus::KeyReused => {
                            self.violate("L4", || format!("{text} was stored as an outcome"));
                        }
                    }
                }
                (None, Some(LocalEnd::Cancelled)) => {
                    let parts: Vec<&Entry> = entries.iter().filter_map(|id| known.durable.get(id)).collect();
                    let left = parts
                        .iter()
                        .fold(None, |record, entry| patch(record, entry.op, said(&entry.set), &entry.unset));
                    let fits = left.is_none() && parts.iter().any(|entry| entry.op == Op::Create);
                    if !fits {
                        self.violate("L4", || format!("{name} cancelled {entries:?}, which is no create and delete"));
                    }
                }
                (None, Some(LocalEnd::Discarded)) if name == "discard" => {}
                (None, Some(LocalEnd::Parked)) if all_parked => {}
                (None, local) => {
                    self.violate("L4", || format!("{name} ended {entries:?} without an outcome: {local:?}"));
                }
            }
        }
    }

    /// The disk lost what relaxed transactions wrote: what of the log is still there says what is durable.
    pub fn power_cut(&mut self, profile: usize, log_keys: &BTreeSet<u64>, acked_keys: &BTreeSet<String>) {
        let known = &mut self.profiles[profile];
        known.seen_base = None;
        known.decided.retain(|_, (key, _)| acked_keys.contains(key));
        let gone: Vec<u64> = known
            .durable
            .keys()
            .filter(|id| !log_keys.contains(&(*id / landfall_protocol::EntryId::PER_ROW)))
            .filter(|id| !known.decided.contains_key(id))
            .copied()
            .collect();
        for id in gone {
            known.durable.remove(&id);
            known.acked.remove(&id);
        }
    }

    // ---- the server's side ----

    /// A push says that its client needs no outcome up to here any more.
    pub fn acknowledged_through(&mut self, profile: usize, client: &str, through: u64) {
        let before = self.acked_through.get(client).copied().unwrap_or(0);
        for seq in before + 1..=through {
            let key = (client.to_owned(), seq);
            let known = &self.profiles[profile];
            if known.is_torn {
                continue;
            }
            if !self.ever.contains_key(&key) {
                self.violate("S2", || format!("{client} acknowledged seq {seq}, which was never answered"));
            } else if !known.stored.contains_key(&key) && !known.is_tainted {
                self.violate("S2", || format!("{client} acknowledged seq {seq} without its outcome stored"));
            }
        }
        if through > before {
            self.acked_through.insert(client.to_owned(), through);
        }
    }

    /// An answer goes out.
    pub fn answered(&mut self, client: &str, seq: u64, sent: &str, outcome: &Outcome, answer: &str) {
        let given = self.truth.given.get(&(client.to_owned(), seq));
        match outcome.status {
            ResultStatus::AlreadySettled => {
                if self.acked_through.get(client).is_none_or(|through| *through < seq) {
                    self.violate("S2", || format!("seq {seq} of {client} is called settled and was not acknowledged"));
                }
            }
            ResultStatus::KeyReused => {
                if given.is_none_or(|given| given.sent == sent) {
                    self.violate("S3", || format!("seq {seq} of {client} is called reused and is not"));
                }
            }
            ResultStatus::Applied
            | ResultStatus::Merged
            | ResultStatus::Superseded
            | ResultStatus::Recreated
            | ResultStatus::Conflict
            | ResultStatus::Rejected => {
                let same = given.is_some_and(|given| given.answer == answer);
                if !same {
                    let first = given.map(|given| given.answer.clone()).unwrap_or_default();
                    self.violate("S2", || format!("seq {seq} of {client}: first {first}, then {answer}"));
                }
            }
        }
    }

    /// A seq got its verdict.
    pub fn decided(&mut self, verdict: &Verdict<'_>) {
        let seq = verdict.outcome.seq.get();
        let id = (verdict.client.to_owned(), seq);
        self.ever.entry(id.clone()).or_default().push(verdict.answer.to_owned());
        if self.truth.given.contains_key(&id) {
            self.violate("S1", || format!("seq {seq} of {} was judged twice", verdict.client));
        }
        let stands = verdict.mutation.map_or(0, |mutation| self.stands(verdict.client, mutation));
        let given = Given {
            answer: verdict.answer.to_owned(),
            outcome: verdict.outcome.clone(),
            sent: verdict.sent.to_owned(),
            stands,
        };
        self.truth.given.insert(id, given);
        let Some(mutation) = verdict.mutation else { return };
        self.check_policy(verdict, mutation, stands);
        match &verdict.effect {
            Some((position, version, fields)) => {
                self.effect(verdict, mutation, *position, *version, fields.as_ref());
            }
            None if verdict.outcome.status == ResultStatus::Superseded => self.superseded(verdict, mutation, stands),
            None => {}
        }
    }

    /// C1: the outcome is what the policy makes of the record's history. Of what was refused for other reasons, and of
    /// groups that were undone, only that nothing was written.
    fn check_policy(&mut self, verdict: &Verdict<'_>, mutation: &Mutation, stands: u64) {
        let outcome = verdict.outcome;
        let code = outcome.code.as_deref();
        let judged = outcome.status != ResultStatus::Rejected || matches!(code, Some("gone" | "stale"));
        let undone = mutation.group.is_some() && verdict.effect.is_none();
        if !outcome.took_effect() && verdict.effect.is_some() {
            self.violate("C1", || format!("{:?} was written as {:?}", mutation.key(), outcome.status));
        }
        if !judged || undone {
            return;
        }
        let kind = self.policies.get(mutation.collection.as_str()).copied().unwrap_or_default();
        let states = self.truth.states_of(&mutation.key());
        let current = states.last().map_or(0, |state| state.version);
        let given = mutation.after.and_then(|after| self.truth.given.get(&(verdict.client.to_owned(), after.get())));
        let is_current = match (mutation.after, given) {
            (None, _) => stands == current,
            (Some(_), None) => return,
            (Some(_), Some(given)) => given.outcome.took_effect() && stands == current,
        };
        let stamp = mutation.stamp.clamped(verdict.now, HLC_AHEAD_MS_MAX);
        let user = self.profiles[verdict.profile].user.as_str();
        let sent = Sent { mutation, client: verdict.client, user, stamp: &stamp.0, stands, is_current };
        let expected = policy::expected(kind, states, &sent);
        let word = match (outcome.status, outcome.to.as_deref(), code) {
            (ResultStatus::Applied, ..) => "applied",
            (ResultStatus::Merged, ..) => "merged",
            (ResultStatus::Recreated, ..) => "recreated",
            (ResultStatus::Superseded, ..) => "superseded",
            (ResultStatus::Conflict, Some("review"), _) => "review",
            (ResultStatus::Conflict, ..) => "author",
            (ResultStatus::Rejected, _, Some("stale")) => "stale",
            _ => "gone",
        };
        let written = verdict.effect.as_ref().map(|(_, _, fields)| fields.clone());
        if (expected.word, &expected.written) != (word, &written) {
            let seq = mutation.seq;
            self.violate("C1", || {
                format!(
                    "seq {seq} of {} on {:?} ({kind:?}) should be {expected:?} and is {word}: {written:?}",
                    verdict.client,
                    mutation.key()
                )
            });
        }
    }

    /// Somebody with a role decided a conflict; what it made of the record, if anything.
    pub fn reviewed(&mut self, row: &str, key: &RecordKey, effect: Option<(u64, u64, Option<Plain>)>, stamp: &str) {
        if !self.truth.reviewed.insert(row.to_owned()) {
            self.violate("C1", || format!("the conflict {row} was decided twice"));
        }
        let Some((position, version, fields)) = effect else { return };
        let before = self.truth.states_of(key).last();
        let is_create = before.is_none_or(|state| state.fields.is_none());
        let state = StateAt {
            position,
            version,
            fields,
            profile: usize::MAX,
            client: "review".to_owned(),
            seq: 0,
            user: policy::MANAGER_USER.to_owned(),
            stamp: stamp.to_owned(),
            is_create,
            entry: 0,
        };
        self.truth.states.entry(key.pair()).or_default().entry(key.id.clone()).or_default().push(state);
    }

    /// The version that a mutation stands on; of a follower, what its predecessor left or stood on itself.
    fn stands(&self, client: &str, mutation: &Mutation) -> u64 {
        let Some(after) = mutation.after else { return mutation.base.map_or(0, |base| base.get()) };
        let Some(given) = self.truth.given.get(&(client.to_owned(), after.get())) else { return u64::MAX };
        if given.outcome.took_effect() {
            given.outcome.version.map_or(0, |version| version.get())
        } else {
            given.stands
        }
    }

    fn effect(
        &mut self,
        verdict: &Verdict<'_>,
        mutation: &Mutation,
        position: u64,
        version: u64,
        fields: Option<&Plain>,
    ) {
        let (profile, client, seq) = (verdict.profile, verdict.client.to_owned(), mutation.seq.get());
        let key = mutation.key();
        let before = self.truth.states_of(&key).last().cloned();
        let current = before.as_ref().map_or(0, |state| state.version);
        if version <= current {
            self.violate("R5", || format!("{key:?} went from version {current} to {version}"));
        }
        let known = &self.profiles[profile];
        let known_user = known.user.clone();
        let entries = known.sent.get(verdict.sent).cloned().unwrap_or_default();
        let place = |id: &u64| known.durable.get(id).and_then(|entry| entry.place).map_or(*id, |place| place.get());
        let newest = entries.iter().map(place).max().unwrap_or(0);
        let roots: Vec<u64> = entries
            .iter()
            .map(|id| known.durable.get(id).and_then(|entry| entry.origin).map_or(*id, |origin| origin.get()))
            .collect();
        let is_own = !known.is_tainted && !known.is_torn;
        let late = self.truth.states_of(&key).iter().find(|state| {
            (state.client == client && state.seq >= seq) || (is_own && state.profile == profile && state.entry > newest)
        });
        if let Some(state) = late.cloned() {
            self.violate("S4", || {
                format!(
                    "seq {seq} of {client} (entry {newest}) took effect on {key:?} after seq {} (entry {})",
                    state.seq, state.entry
                )
            });
        }
        if is_own {
            for root in roots {
                if !self.truth.effected.insert((profile, root)) {
                    self.violate("S1", || format!("entry {root} of profile {profile} took effect twice, now as {seq}"));
                }
            }
        }
        let own = mutation.stamp.clamped(verdict.now, HLC_AHEAD_MS_MAX);
        let stamp = match &before {
            Some(before) if before.stamp >= own.0 => after(&before.stamp, verdict.client),
            Some(_) | None => own.0,
        };
        if verdict.stamp.is_some_and(|stored| stored != stamp) {
            self.violate("I4", || format!("{key:?} should be stamped {stamp} and is {:?}", verdict.stamp));
        }
        let state = StateAt {
            position,
            version,
            fields: fields.cloned(),
            profile,
            client,
            seq,
            user: known_user,
            stamp,
            is_create: mutation.op == Op::Create,
            entry: newest,
        };
        self.truth.states.entry(key.pair()).or_default().entry(key.id).or_default().push(state);
    }

    /// A mutation lost: only another writer can be the reason (L5).
    fn superseded(&mut self, verdict: &Verdict<'_>, mutation: &Mutation, stands: u64) {
        let known = &self.profiles[verdict.profile];
        if known.is_tainted || known.is_torn || self.restores > 0 {
            return;
        }
        let key = mutation.key();
        let states = self.truth.states_of(&key);
        let others = states.iter().any(|state| state.version > stands && state.profile != verdict.profile);
        // Another context deleted the record before this one heard of it: nothing is there to be edited.
        let behind_own_delete = states.last().is_some_and(|state| state.fields.is_none()) && mutation.op == Op::Update;
        // It stood on what lost itself, for a reason that was looked at then.
        let after = mutation.after.and_then(|after| self.truth.given.get(&(verdict.client.to_owned(), after.get())));
        if after.is_some_and(|given| !given.outcome.took_effect()) {
            return;
        }
        // A group loses as a whole.
        if !others && !behind_own_delete && mutation.group.is_none() {
            let current = states.last().map_or(0, |state| state.version);
            self.violate("L5", || {
                format!(
                    "seq {} of {} lost against its own writes on {key:?}: stood on {stands}, is {current}",
                    mutation.seq, verdict.client
                )
            });
        }
    }

    /// All mutations of one request with their verdicts: groups are whole and of one fate.
    pub fn groups(&mut self, profile: usize, items: &[(&Mutation, &str, &Outcome)]) {
        let mut groups: BTreeMap<String, Vec<(u64, bool)>> = BTreeMap::new();
        for (mutation, sent, outcome) in items {
            let Some(group) = &mutation.group else { continue };
            let entries = self.profiles[profile].sent.get(*sent).cloned().unwrap_or_default();
            if entries.is_empty() {
                // Bytes from before its disk was rolled back.
                return;
            }
            let members = groups.entry(group.0.clone()).or_default();
            members.extend(entries.into_iter().map(|entry| (entry, outcome.took_effect())));
        }
        for (group, members) in groups {
            if members.iter().any(|(_, took)| *took != members[0].1) {
                self.violate("S5", || format!("group {group} took effect in part: {members:?}"));
            }
            let known = &self.profiles[profile];
            let row = members[0].0 / landfall_protocol::EntryId::PER_ROW;
            let whole = known
                .durable
                .range(row * landfall_protocol::EntryId::PER_ROW..(row + 1) * landfall_protocol::EntryId::PER_ROW)
                .filter(|(_, entry)| entry.group.as_ref().is_some_and(|other| other.0 == group))
                .count();
            if whole != members.len() && !known.is_tainted && !known.is_torn {
                self.violate("S5", || format!("group {group} travels as {} of {whole} members", members.len()));
            }
        }
    }

    /// A backup of then is the server now.
    pub fn restored(&mut self, backup: Truth) {
        let before = std::mem::replace(&mut self.truth, backup);
        for (id, given) in before.given {
            if given.outcome.took_effect() && !self.truth.given.contains_key(&id) {
                self.lost.insert(id);
            }
        }
        self.restores += 1;
    }

    /// R6: what a restore took back and its client had settled was queued again.
    pub fn check_requeued(&mut self) {
        let mut forgotten = None;
        for (index, known) in self.profiles.iter().enumerate() {
            // The ledger speaks of one client id; a profile that changed its own cannot ask for the former one's.
            if known.is_tainted || known.is_torn || known.clients.len() != 1 {
                continue;
            }
            for id in &self.lost {
                let Some((true, entries)) = known.stored.get(id) else { continue };
                let Some(first) = entries.first() else { continue };
                let root = known.durable.get(first).and_then(|entry| entry.place).map_or(*first, |id| id.get());
                let again = known.durable.values().any(|entry| entry.place.is_some_and(|place| place.get() == root));
                if !again && !self.truth.given.contains_key(id) {
                    forgotten = Some((index, id.clone(), root));
                }
            }
        }
        if let Some((profile, (client, seq), root)) = forgotten {
            self.violate("R6", || {
                format!("the backup lost seq {seq} of {client}; profile {profile} did not queue entry {root} again")
            });
        }
    }

    /// The head of each scope, by what took effect.
    pub fn shown(&self, scope: &Scope) -> u64 {
        let states = self.truth.states.iter().filter(|(pair, _)| pair.0 == *scope);
        states.flat_map(|(_, records)| records.values().flatten()).map(|state| state.position).max().unwrap_or(0)
    }
}

/// The next stamp after one: the server orders a write after what it replaces, whatever the clocks say.
fn after(stamp: &str, client: &str) -> String {
    let part =
        |range: std::ops::Range<usize>| u64::from_str_radix(stamp.get(range).unwrap_or_default(), 16).unwrap_or(0);
    let (millis, counter) = (part(0..12), part(13..17) + 1);
    format!("{:012x}-{:04x}-{client}", millis + counter / 65_536, counter % 65_536)
}

/// A record shows what a mutation asked for.
fn holds(record: Option<&Object>, mutation: &Mutation) -> bool {
    let Some(record) = record.map(said) else { return true };
    let set = plain(&mutation.set);
    set.iter().all(|(name, value)| record.get(name) == Some(value))
        && mutation.unset.iter().all(|name| !record.contains_key(name))
}

pub fn patch(before: Option<Plain>, op: Op, set: Plain, unset: &[String]) -> Option<Plain> {
    match op {
        Op::Delete => None,
        Op::Create => Some(set),
        Op::Update => {
            let mut fields = before?;
            for name in unset {
                fields.remove(name);
            }
            fields.extend(set);
            Some(fields)
        }
    }
}

/// One mutation does to a record what its entries, one after the other, do.
fn means_the_same(entries: &[&Entry], mutation: &Mutation<Object>) -> bool {
    let full: Plain = ["a", "b", "c", "d"].iter().map(|name| ((*name).to_owned(), "\"before\"".to_owned())).collect();
    let samples = [None, Some(Plain::new()), Some(full)];
    let starts_new = entries.first().is_some_and(|entry| entry.op == Op::Create);
    samples.into_iter().filter(|sample| sample.is_none() == starts_new).all(|sample| {
        let one_by_one = entries
            .iter()
            .fold(sample.clone(), |record, entry| patch(record, entry.op, said(&entry.set), &entry.unset));
        one_by_one == patch(sample, mutation.op, said(&mutation.set), &mutation.unset)
    })
}
