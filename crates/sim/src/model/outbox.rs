//! Transactions of the outbox as they reach a disk: appends, batches, and what is deleted.

use super::{MERGED, Model, Plain, patch, said};
use landfall_core::rows::{ConflictRow, Descriptor, Entry, LogRow, ParkedRow, SettledRow};
use landfall_protocol::{Mutation, Object, Op};
use landfall_storage::{Key, RowKind, RowOp, StoreName, decode};
use std::collections::BTreeSet;

/// Rows that a transaction changes or deletes, as they were.
#[derive(Default)]
pub struct Before {
    pub parked: Vec<ParkedRow>,
    /// What waited for its person when a client began to go on as another one.
    pub kept: Vec<ParkedRow>,
    /// Values that lost and were kept until now.
    pub dropped: Vec<ConflictRow>,
}

impl Model {
    /// A transaction reached the disk.
    pub fn committed(&mut self, profile: usize, name: &'static str, ops: &[RowOp], log_keys: &[u64], before: &Before) {
        let mut conflicts: Vec<ConflictRow> = Vec::new();
        let mut parked: BTreeSet<u64> = BTreeSet::new();
        let mut settled: Vec<(String, SettledRow)> = Vec::new();
        for op in ops {
            let RowOp::Put { store: StoreName::Meta, key: Key::Text(key), row } = op else { continue };
            match key.split('/').next().unwrap_or_default() {
                "conflict" => {
                    self.profiles[profile].told.insert(key.clone());
                    conflicts.extend(decode::<ConflictRow>(RowKind::Conflict, row).ok());
                }
                "parked" => {
                    let row = decode::<ParkedRow>(RowKind::Parked, row).ok();
                    let entries = row.iter().flat_map(|row| &row.changes).flat_map(|change| &change.entries);
                    parked.extend(entries.map(|id| id.get()));
                }
                "acked" => settled.extend(decode(RowKind::Acked, row).ok().map(|row| (key.clone(), row))),
                "client" => self.client_row(profile, row),
                "manifest" => self.cursor_stored(profile, row),
                _ => {}
            }
        }
        let mut waiting = parked.clone();
        for change in before.kept.iter().flat_map(|row| &row.changes) {
            waiting.extend(change.entries.iter().chain(&change.entry.origin).map(|id| id.get()));
        }
        if name == "fork" {
            // What was tried again is named by what it became.
            let again = self.profiles[profile].undecided().filter_map(|(_, entry)| entry.origin);
            waiting.extend(again.map(|id| id.get()));
        }
        for (key, row) in &settled {
            self.settled(profile, name, key, row, &conflicts, &waiting);
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
        if !before.parked.is_empty() && !matches!(name, "retry" | "discard") {
            for row in &before.parked {
                let stays = row.changes.iter().flat_map(|change| &change.entries).all(|id| parked.contains(&id.get()));
                if !stays {
                    self.violate("L4", || format!("{name} dropped the parked unit {}", row.id));
                }
            }
        }
        if name == "resync" && !self.profiles[profile].is_torn {
            // Nothing was damaged: what it was pulled must add up.
            self.violate("R2", || format!("a pair of profile {profile} does not add up to what the server has"));
        }
        if matches!(name, "attempt" | "void" | "too_large") {
            let known = &mut self.profiles[profile];
            known.counted += 1;
            if known.counted > known.faulty_answers {
                let (counted, answers) = (known.counted, known.faulty_answers);
                self.violate("S7", || format!("{name} is blamed on {counted} answers, and there were {answers}"));
            }
        }
        if !before.dropped.is_empty() {
            self.dropped(name, ops, &before.dropped);
        }
        if name == "retry" && log_keys.is_empty() {
            self.violate("L4", || "a retry queued nothing".to_owned());
        }
    }

    /// C2: what lost is kept until its author says what stands, and then his word is in the same transaction.
    fn dropped(&mut self, name: &'static str, ops: &[RowOp], dropped: &[ConflictRow]) {
        let appended = ops.iter().filter_map(|op| match op {
            RowOp::Append { row } => decode::<LogRow>(RowKind::Log, row).ok(),
            RowOp::Put { .. } | RowOp::Delete { .. } | RowOp::DeleteRange { .. } => None,
        });
        let word: Vec<Entry> = appended.flat_map(|row| row.entries).collect();
        let says = |row: &ConflictRow, entry: &Entry| {
            let set = said(&entry.set);
            entry.key() == row.key && (set == said(&row.set) || set.values().any(|value| value.contains(MERGED)))
        };
        // Of several values of one entry the newest is what the person saw.
        let fits = word.is_empty() || dropped.iter().any(|row| word.iter().any(|entry| says(row, entry)));
        if name != "resolve" || !fits {
            self.violate("C2", || format!("{name} dropped {dropped:?} and wrote {word:?}"));
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
        let first = landfall_protocol::EntryId::at(log_key, 0).get();
        if let Some(record) = &mut self.record {
            record.appended(profile, first, &row.entries, name == "reset");
            if name == "retry" || name == "resolve" {
                let entries: Vec<(usize, u64, Entry)> =
                    row.entries.iter().zip(first..).map(|(entry, id)| (profile, id, entry.clone())).collect();
                record.written_again(&entries);
            }
        }
        let known = &mut self.profiles[profile];
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
