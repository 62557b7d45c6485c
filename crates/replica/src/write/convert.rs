//! From what the app asks to entries: the change it means, as a patch of the view that it stands on.
//!
//! Converting is pure: on the memory as it is, with ids and checks done before. It may be done again, on more.

use super::Call;
use crate::Replica;
use crate::db::Db;
use crate::error::SyncError;
use crate::host::Host;
use crate::write::append::entry_bytes;
use crate::write::{WriteKind, WriteOp};
use landfall_core::rows::Entry;
use landfall_core::view::{self, Seen};
use landfall_protocol::{
    AddAll, CollectionName, GroupId, Hlc, Json, Listed, Map, Object, Op, RecordId, RecordKey, Scope, Version,
    check_depth, limits, same_value,
};

/// A write whose words are in order: what is left depends on the view.
pub(crate) struct Checked {
    kind: WriteKind,
    collection: CollectionName,
    /// `None`: of an update or delete that named none; the one in which the record is seen.
    scope: Option<Scope>,
    pub(super) id: RecordId,
    fields: Object,
}

/// What a write comes to.
pub(super) struct Answer {
    /// Its scope, and which of the new entries it is; none if it changes nothing.
    pub(super) result: Result<(Scope, Option<usize>), SyncError>,
    /// It is an entry or stands on one: true only once the new entries are durable.
    pub(super) waits: bool,
}

/// What queued writes come to.
pub(super) struct Converted {
    pub(super) entries: Vec<Entry>,
    /// Of each call one answer a write, or a single refusal.
    pub(super) answers: Vec<Vec<Answer>>,
    pub(super) immediate: bool,
    /// The clock after the last entry's stamp.
    pub(super) hlc: Hlc,
}

/// New entries by record id, so that a write finds those of its record which go before it.
#[derive(Default)]
struct Chains<'a> {
    /// The newest entry of each id.
    last: Map<&'a RecordId, usize>,
    /// For each entry the one before it with the same id.
    before: Vec<Option<usize>>,
}

impl<'a> Chains<'a> {
    fn add(&mut self, id: &'a RecordId) {
        let at = self.before.len();
        self.before.push(self.last.replace(id, at));
    }

    /// Takes the entries from `count` on back.
    fn shrink(&mut self, entries: &[Entry], count: usize) {
        for (at, entry) in entries.iter().enumerate().skip(count).rev() {
            match self.before.get(at).copied().flatten() {
                Some(before) => {
                    if let Some(last) = self.last.get_mut(&entry.id) {
                        *last = before;
                    }
                }
                None => _ = self.last.remove(&entry.id),
            }
        }
        self.before.truncate(count);
    }

    /// The entries of this id in this collection, oldest first.
    fn of<'b>(&self, entries: &'b [Entry], write: &'a Checked) -> Vec<&'b Entry> {
        let mut found = Vec::new();
        let mut next = self.last.get(&write.id).copied();
        while let Some(entry) = next.and_then(|at| entries.get(at)) {
            if entry.collection == write.collection {
                found.push(entry);
            }
            next = next.and_then(|at| self.before.get(at).copied().flatten());
        }
        found.reverse();
        found
    }
}

impl<H: Host> Replica<H> {
    /// Checks what can be checked without the view, and gives a new record its id.
    pub(super) fn checked(&self, write: WriteOp) -> Result<Checked, SyncError> {
        let WriteOp { op: kind, collection, scope, id, fields } = write;
        if !self.config.collections.contains_key(&collection) {
            return Err(SyncError::new(
                "unknown_collection",
                ["No collection ", &collection.0, " was declared at open."].concat(),
            ));
        }
        let fields = match fields {
            Some(fields) => checked_fields(fields)?,
            None => Object::new(),
        };
        let id = match id {
            Some(id) if id.as_str().len() > limits::ID_BYTES_MAX => {
                return Err(SyncError::new("id_too_long", "An id has at most 128 bytes."));
            }
            Some(id) if !id.as_str().is_empty() => id,
            _ => RecordId(self.uuid()),
        };
        let scope = match (scope, kind) {
            (None, WriteKind::Put | WriteKind::Create) => {
                Some(self.config.scope_of(&collection, &fields).ok_or_else(|| {
                    SyncError::new("missing_scope_field", "A field that the record's scope is made of is missing.")
                })?)
            }
            (scope, _) => scope,
        };
        Ok(Checked { kind, collection, scope, id, fields })
    }

    /// Makes entries of queued writes, in order, each on the view with those before it.
    pub(super) fn convert(&self, calls: &[Call]) -> Converted {
        let db = self.db.borrow();
        let mut made =
            Converted { entries: Vec::new(), answers: Vec::new(), immediate: false, hlc: db.state.hlc.clone() };
        let mut chains = Chains::default();
        for call in calls {
            let first = made.entries.len();
            let mut answers = Vec::new();
            let mut refused = None;
            for write in &call.writes {
                let answer = match write {
                    Ok(write) => self.answer(&db, &mut made, &mut chains, write, call.group.as_ref()),
                    Err(error) => Answer { result: Err(error.clone()), waits: false },
                };
                if call.together && answer.result.is_err() {
                    refused = Some(answer);
                    break;
                }
                answers.push(answer);
            }
            if refused.is_none() && call.group.is_some() {
                let checked = check_group(&made.entries[first..]);
                refused = checked.err().map(|error| Answer { result: Err(error), waits: false });
            }
            if let Some(refused) = refused {
                chains.shrink(&made.entries, first);
                made.entries.truncate(first);
                answers = vec![refused];
            }
            // A group that shrank to one entry needs no atomicity.
            if let [only] = &mut made.entries[first..] {
                only.group = None;
            }
            made.answers.push(answers);
        }
        let mut collections = made.entries.iter().filter_map(|entry| self.config.collections.get(&entry.collection));
        made.immediate = collections.any(|collection| collection.immediate);
        made
    }

    fn answer<'a>(
        &self,
        db: &Db,
        made: &mut Converted,
        chains: &mut Chains<'a>,
        write: &'a Checked,
        group: Option<&GroupId>,
    ) -> Answer {
        let chain = chains.of(&made.entries, write);
        let waits = !chain.is_empty();
        let pending = db.pending();
        let meant = self.meant(db, write, &chain).and_then(|meant| {
            if pending + made.entries.len() >= limits::OUTBOX_COUNT_MAX && meant.change.is_some() {
                return Err(SyncError::new("outbox_full", "Too many changes wait to be sent. Nothing was stored."));
            }
            Ok(meant)
        });
        let Meant { scope, on, change } = match meant {
            Ok(meant) => meant,
            Err(error) => return Answer { result: Err(error), waits },
        };
        let Some(Change { op, set, unset }) = change else { return Answer { result: Ok((scope, None)), waits } };
        let at = made.entries.len();
        made.entries.push(Entry {
            scope: scope.clone(),
            collection: write.collection.clone(),
            id: write.id.clone(),
            op,
            set,
            unset,
            stamp: made.hlc.tick(self.host.now().get(), db.state.client.client_id.as_str()),
            group: group.cloned(),
            on,
            origin: None,
            place: None,
        });
        chains.add(&write.id);
        Answer { result: Ok((scope, Some(at))), waits: true }
    }

    /// What a write means where it stands: on the view and on the new entries of its record.
    fn meant(&self, db: &Db, write: &Checked, chain: &[&Entry]) -> Result<Meant, SyncError> {
        // What comes of this is thrown away if the lane has to be read first.
        db.is_cold(&write.collection, &write.id);
        let scope = match &write.scope {
            Some(scope) => scope.clone(),
            None => self.find_scope(db, write, chain)?,
        };
        let key = RecordKey { scope, collection: write.collection.clone(), id: write.id.clone() };
        let seen = seen_with(db, &key, chain);
        // An undecided entry has no version: this is the server's.
        let on = seen.as_ref().map_or(Version::ZERO, |seen| seen.version);
        let change = change(write.kind, seen.filter(|seen| !seen.deleted), &write.fields)?;
        if change.is_some() {
            check_lane(db, &key, chain)?;
        }
        Ok(Meant { scope: key.scope, on, change })
    }

    /// The scope of a record that was named without one.
    fn find_scope(&self, db: &Db, write: &Checked, chain: &[&Entry]) -> Result<Scope, SyncError> {
        let mut scopes = self.scopes_of(db, &write.collection, &write.id);
        scopes.extend(chain.iter().map(|entry| entry.scope.clone()));
        let mut found = None;
        for scope in scopes {
            let key = RecordKey { scope, collection: write.collection.clone(), id: write.id.clone() };
            if seen_with(db, &key, chain).is_some_and(|seen| !seen.deleted) && found.replace(key.scope).is_some() {
                return Err(SyncError::new("ambiguous_id", "Two scopes have a record with this id; name the scope."));
            }
        }
        found
            .or_else(|| self.config.scope_of(&write.collection, &Object::new()))
            .ok_or_else(|| SyncError::new("not_found", "There is no such record."))
    }
}

fn seen_with(db: &Db, key: &RecordKey, chain: &[&Entry]) -> Option<Seen> {
    let own: Vec<&Entry> = chain.iter().filter(|entry| entry.scope == key.scope).copied().listed();
    view::view_with(&db.state, &db.base, key, &own)
}

/// Room for one more entry in a record's lane: at every look the view is folded from all of them.
fn check_lane(db: &Db, key: &RecordKey, chain: &[&Entry]) -> Result<(), SyncError> {
    let lane = db.state.lanes.get(key).map_or(&[][..], Vec::as_slice);
    if lane.len() + chain.len() < limits::LANE_COUNT_MAX {
        return Ok(());
    }
    let unsent = lane.iter().filter(|id| !db.state.sent.contains_key(id)).count();
    let new = chain.iter().filter(|entry| entry.scope == key.scope).count();
    if unsent + new < limits::LANE_COUNT_MAX {
        return Ok(());
    }
    let message = "Too many changes of this record wait to be sent. Nothing was stored.";
    Err(SyncError::new("lane_full", message).with("id", key.id.as_str()))
}

struct Meant {
    scope: Scope,
    /// The server's version under it.
    on: Version,
    /// `None`: nothing changes.
    change: Option<Change>,
}

struct Change {
    op: Op,
    set: Object,
    unset: Vec<String>,
}

/// The change that the app means, as a patch of what it sees. `None`: nothing changes.
fn change(kind: WriteKind, seen: Option<Seen>, fields: &Object) -> Result<Option<Change>, SyncError> {
    Ok(match (kind, seen) {
        (WriteKind::Put | WriteKind::Create, None) => {
            Some(Change { op: Op::Create, set: fields.clone(), unset: Vec::new() })
        }
        (WriteKind::Create, Some(_)) => {
            return Err(SyncError::new("already_exists", "A record with this id is already there."));
        }
        (WriteKind::Put | WriteKind::Update, Some(seen)) => {
            let (old, mut new) = (seen.fields.parts(), fields.parts());
            let mut unset = Vec::new();
            if kind == WriteKind::Put {
                let gone = old.keys().filter(|name| !new.contains_key(name.as_ref()));
                unset.add_all(gone.map(|name| name.clone().into_owned()));
            }
            new.retain(|name, value| !old.get(name.as_ref()).is_some_and(|old| same_value(old, value)));
            (!new.is_empty() || !unset.is_empty()).then(|| Change { op: Op::Update, set: Object::from(&new), unset })
        }
        (WriteKind::Update, None) => return Err(SyncError::new("not_found", "There is no such record.")),
        (WriteKind::Delete, None) => None,
        (WriteKind::Delete, Some(_)) => Some(Change { op: Op::Delete, set: Object::new(), unset: Vec::new() }),
    })
}

/// The fields of a write, if they are an object that may be stored.
fn checked_fields(fields: Json) -> Result<Object, SyncError> {
    if fields.text().len() > limits::RECORD_BYTES_MAX {
        return Err(SyncError::new("record_too_large", "A record has at most 256 KB of JSON."));
    }
    if check_depth(fields.text(), limits::JSON_DEPTH_MAX).is_err() {
        return Err(SyncError::new("invalid_record", "A record nests at most 64 levels and names no key twice."));
    }
    Object::from_json(fields).ok_or_else(|| SyncError::new("invalid_record", "A record is a JSON object."))
}

fn check_group(entries: &[Entry]) -> Result<(), SyncError> {
    if entries.len() > limits::GROUP_COUNT_MAX {
        return Err(SyncError::new("group_too_large", "A transaction holds at most 100 writes."));
    }
    let bytes: usize = entries.iter().map(entry_bytes).sum();
    if bytes > limits::GROUP_BYTES_MAX {
        return Err(SyncError::new("group_too_large", "A transaction holds at most 256 KB."));
    }
    if entries.windows(2).any(|pair| pair[0].scope != pair[1].scope) {
        return Err(SyncError::new("group_crosses_scopes", "All records of a transaction belong to one scope."));
    }
    Ok(())
}
