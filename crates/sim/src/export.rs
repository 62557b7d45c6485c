//! A history as data for outside checkers, in the form of docs/histories.md: what people did and saw, outcomes as devices
//! stored them, the server's log, and the faults that end a guarantee.
//!
//! It notes what happens and judges nothing. Rows of `_conflicts` are left out.

use crate::checks;
use crate::model::{Plain, StateAt};
use crate::world::{SimReplica, World};
use landfall_core::rows::Entry;
use landfall_core::view;
use landfall_protocol::{Op, Outcome, Pair, RecordId, RecordKey, ResultStatus};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What was noted so far.
#[derive(Default)]
pub struct Record {
    /// One counter of begins and ends.
    count: u64,
    /// By the count at their end.
    lines: BTreeMap<u64, Value>,
    /// The write event that an entry belongs to, by profile and entry, who wrote it and when; and whether it was told.
    writes: BTreeMap<(usize, u64), Written>,
    told: BTreeSet<String>,
    write_count: u64,
    /// The effect line of each (epoch, scope, position).
    effects: BTreeMap<(String, String, u64), u64>,
    /// Who is who, by owner.
    places: BTreeMap<u32, Value>,
    /// Whose transaction reaches the disk.
    pub committing: u32,
    /// Something of `_conflicts` took a position.
    has_rows: bool,
    pub at_rest: bool,
    /// Something took effect after everybody had arrived.
    has_moved: bool,
    is_drained: bool,
}

/// An entry by its profile and place.
pub type Stored = (usize, u64, Entry);

struct Written {
    name: String,
    owner: u32,
    start: u64,
    /// Of several changes of its record in one transaction, which one it is.
    part: Option<usize>,
}

fn value_of(fields: &Plain) -> Value {
    let parsed = fields.iter().map(|(name, text)| (name.clone(), serde_json::from_str(text).unwrap_or(Value::Null)));
    Value::Object(parsed.collect::<Map<String, Value>>())
}

fn is_row(collection: &str) -> bool {
    collection.starts_with('_')
}

fn op_of(entry: &Entry) -> Value {
    let mut op =
        json!({ "scope": entry.scope.as_str(), "collection": entry.collection.as_str(), "id": entry.id.as_str() });
    op["op"] = json!(match entry.op {
        Op::Create => "create",
        Op::Update => "update",
        Op::Delete => "delete",
    });
    if entry.op != Op::Delete {
        op["value"] = value_of(&crate::model::said(&entry.set));
    }
    if !entry.unset.is_empty() {
        op["unset"] = json!(entry.unset);
    }
    op
}

impl Record {
    pub fn tick(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn line(&mut self, start: u64, mut event: Value) {
        let end = self.tick();
        event["start"] = json!(start);
        event["end"] = json!(end);
        self.lines.insert(end, event);
    }

    pub fn fault(&mut self, fault: &str, more: Value) {
        let start = self.tick();
        let mut event = json!({ "type": "fault", "fault": fault, "device": null, "session": null });
        if let (Value::Object(event), Value::Object(more)) = (&mut event, more) {
            event.extend(more);
        }
        self.line(start, event);
    }

    pub fn opened(&mut self, owner: u32, mut place: Value, start: u64) {
        self.places.insert(owner, place.clone());
        place["type"] = json!("open");
        self.line(start, place);
    }

    /// Entries of a log row got their places: of a transaction all are one write. `again`: the engine queued them itself, and
    /// they are what they were.
    pub fn appended(&mut self, profile: usize, first: u64, entries: &[Entry], again: bool) {
        let mut group: Option<String> = None;
        let (owner, start) = (self.committing, self.tick());
        for (entry, id) in entries.iter().zip(first..) {
            let before = entry.place.or(entry.origin).filter(|_| again);
            let before = before.and_then(|id| self.writes.get(&(profile, id.get())));
            let before = before.map(|it| (it.name.clone(), it.part));
            let same =
                |other: &Entry| entry.group.is_some() && other.group == entry.group && other.key() == entry.key();
            let part = entries.iter().zip(first..).filter(|(other, at)| *at < id && same(other)).count();
            let is_one = entries.iter().filter(|other| same(other)).count() < 2;
            if before.is_none() && (entry.group.is_none() || group != entry.group.as_ref().map(|it| it.0.clone())) {
                self.write_count += 1;
            }
            group = entry.group.as_ref().map(|it| it.0.clone());
            let new = || (format!("w{}", self.write_count), (!is_one).then_some(part));
            let (name, part) = before.unwrap_or_else(new);
            self.writes.insert((profile, id), Written { name, owner, start, part });
        }
    }

    /// An app's call that ended: one event for each write of it.
    pub fn written(&mut self, place: &Value, start: u64, status: &str, entries: &[Stored]) {
        self.tell(place, start, status, entries, false);
    }

    fn tell(&mut self, place: &Value, start: u64, status: &str, entries: &[Stored], again: bool) {
        let mut events: BTreeMap<u64, (String, Vec<&Stored>)> = BTreeMap::new();
        for written in entries.iter().filter(|(.., entry)| !is_row(entry.collection.as_str())) {
            let Some(name) = self.writes.get(&(written.0, written.1)).map(|it| it.name.clone()) else { continue };
            let number = name[1..].parse().unwrap_or(0);
            events.entry(number).or_insert_with(|| (name, Vec::new())).1.push(written);
        }
        for (name, members) in events.into_values() {
            if !self.told.insert(name.clone()) {
                continue;
            }
            let mut event = place.clone();
            event["type"] = json!("write");
            event["write"] = json!(name);
            event["status"] = json!(status);
            event["group"] = json!(members[0].2.group.as_ref().map(|group| group.0.clone()));
            event["ops"] = members.iter().map(|(.., entry)| op_of(entry)).collect();
            if again {
                let origins = members.iter().filter_map(|(profile, _, entry)| Some((*profile, entry.origin?.get())));
                let mut origins: Vec<String> =
                    origins.filter_map(|at| self.writes.get(&at)).map(|it| it.name.clone()).collect();
                origins.extend(event["ops"].as_array().into_iter().flatten().flat_map(|op| self.all_with(op)));
                origins.sort_unstable();
                origins.dedup();
                origins.retain(|origin| *origin != name);
                event["retry_of"] = match origins.as_slice() {
                    [] => Value::Null,
                    [one] => json!(one),
                    all => json!(all),
                };
            }
            self.line(start, event);
        }
    }

    /// The writes of the record that carry one of these values, each of which an app writes once. What several writes came
    /// to, with what was there before where a deleted record is made anew, is one value that a person writes again.
    fn all_with(&self, op: &Value) -> Vec<String> {
        let Some(values) = op["value"].as_object() else { return Vec::new() };
        let place = |op: &Value| [op["scope"].clone(), op["collection"].clone(), op["id"].clone()];
        let same = |other: &Value| {
            place(other) == place(op)
                && values.iter().any(|(field, value)| value.is_number() && other["value"][field] == *value)
        };
        let lines = self.lines.values().filter(|line| line["type"] == "write");
        let found = lines.filter(|line| line["ops"].as_array().is_some_and(|ops| ops.iter().any(same)));
        found.filter_map(|line| line["write"].as_str().map(str::to_owned)).collect()
    }

    /// A call of which nothing is stored, by its own words.
    fn said(&mut self, place: &Value, start: u64, status: &str, ops: Vec<Value>) {
        for op in ops {
            self.write_count += 1;
            let mut event = place.clone();
            event["type"] = json!("write");
            event["write"] = json!(format!("w{}", self.write_count));
            event["status"] = json!(status);
            event["group"] = Value::Null;
            event["ops"] = json!([op]);
            self.line(start, event);
        }
    }

    /// What a person wrote again.
    pub fn written_again(&mut self, entries: &[Stored]) {
        let place = self.places.get(&self.committing).cloned().unwrap_or_default();
        let start = self.tick();
        self.tell(&place, start, "stored", entries, true);
    }

    /// A context dies: what it stored and did not live to say is of unknown fate to its people.
    pub fn unsaid(&mut self, owner: u32, durable: &dyn Fn(usize, u64) -> Option<Entry>) {
        let open = self.writes.iter().filter(|(_, it)| it.owner == owner && !self.told.contains(&it.name));
        let open: Vec<(usize, u64, u64)> = open.map(|((profile, id), it)| (*profile, *id, it.start)).collect();
        let place = self.places.get(&owner).cloned().unwrap_or_default();
        let entries: Vec<Stored> =
            open.iter().filter_map(|(profile, id, _)| Some((*profile, *id, durable(*profile, *id)?))).collect();
        let start = open.iter().map(|(.., start)| *start).min().unwrap_or(0);
        self.written(&place, start, "unknown", &entries);
    }

    pub fn owners(&self) -> Vec<u32> {
        self.places.keys().copied().collect()
    }

    /// The last word on a mutation, as its device stores it.
    pub fn outcome(
        &mut self,
        profile: usize,
        entries: &[u64],
        key: &RecordKey,
        (client, epoch): (&str, Option<String>),
        word: Result<&Outcome, &str>,
    ) {
        if is_row(key.collection.as_str()) || entries.is_empty() {
            return;
        }
        let mut writes: Vec<String> = Vec::new();
        for name in entries.iter().filter_map(|id| self.writes.get(&(profile, *id))).map(|it| &it.name) {
            if !writes.contains(name) {
                writes.push(name.clone());
            }
        }
        if writes.is_empty() {
            return;
        }
        let outcome = word.ok();
        let status = match word {
            Err(word) => word,
            Ok(outcome) => match outcome.status {
                ResultStatus::Applied => "applied",
                ResultStatus::Merged => "merged",
                ResultStatus::Superseded => "superseded",
                ResultStatus::Recreated => "recreated",
                ResultStatus::Conflict => "conflict",
                ResultStatus::Rejected | ResultStatus::AlreadySettled | ResultStatus::KeyReused => "rejected",
            },
        };
        let version = outcome.and_then(|it| it.version).map(|it| it.get());
        let part = entries.first().filter(|_| entries.len() == 1).and_then(|id| self.writes.get(&(profile, *id))?.part);
        let mut op = json!({
            "scope": key.scope.as_str(), "collection": key.collection.as_str(), "id": key.id.as_str(), "version": version,
        });
        if let Some(part) = part {
            op["part"] = json!(part);
        }
        let start = self.tick();
        self.line(
            start,
            json!({
                "type": "outcome", "device": format!("p{profile}"), "writes": writes, "group": null, "client": client,
                "seq": outcome.map(|it| it.seq.get()), "epoch": epoch, "status": status,
                "code": outcome.and_then(|it| it.code.clone()),
                "position": outcome.and_then(|it| it.position).map(|it| it.get()),
                "ops": [op],
            }),
        );
    }

    /// What the server wrote; a push has one position in a scope, and one line.
    pub fn effect(&mut self, epoch: String, key: &RecordKey, state: &StateAt) {
        if std::mem::take(&mut self.at_rest) {
            // So it was no rest.
            self.has_moved = true;
            for read in self.lines.values_mut().filter(|line| line["at_rest"] == true) {
                read["at_rest"] = json!(false);
            }
        }
        if is_row(key.collection.as_str()) {
            self.has_rows = true;
            return;
        }
        let mut op = json!({
            "collection": key.collection.as_str(), "id": key.id.as_str(), "version": state.version,
            "deleted": state.fields.is_none(), "seq": state.seq,
        });
        if let Some(fields) = &state.fields {
            op["value"] = value_of(fields);
        }
        if state.is_indirect {
            op["indirect"] = json!(true);
        }
        let at = (epoch, key.scope.as_str().to_owned(), state.position);
        if let Some(Value::Array(ops)) =
            self.effects.get(&at).and_then(|end| self.lines.get_mut(end)).and_then(|line| line.get_mut("ops"))
        {
            ops.push(op);
            return;
        }
        let (epoch, scope, position) = &at;
        let event = json!({
            "type": "effect", "epoch": epoch, "scope": scope, "position": position, "group": null,
            "client": state.client, "seq": state.seq, "ops": [op],
        });
        let start = self.tick();
        self.line(start, event);
        self.effects.insert(at, self.count);
    }
}

/// Who says something: session, device and user of a context.
pub fn place(world: &World, profile: usize, owner: u32) -> Value {
    let slot = world.profile(profile).contexts.borrow().iter().find(|(_, it)| it.owner == owner).map_or(0, |it| *it.0);
    json!({
        "session": format!("p{profile}/{slot}#{owner}"), "device": format!("p{profile}"),
        "user": world.profile(profile).user.clone(),
    })
}

/// A context is gone; what it stored is told now.
pub fn dies(world: &World, owner: u32) {
    let mut model = world.model.borrow_mut();
    if let Some(mut record) = model.record.take() {
        record.unsaid(owner, &|profile, id| model.profiles[profile].durable.get(&id).cloned());
        model.record = Some(record);
    }
}

/// What a context shows at this instant of every record that there ever was.
pub fn read(world: &World, profile: usize, replica: &SimReplica, start: u64) {
    let mut model = world.model.borrow_mut();
    if model.profiles[profile].is_torn {
        return;
    }
    let Some(mut record) = model.record.take() else { return };
    let db = replica.db.borrow();
    let mut keys: BTreeSet<RecordKey> = db.state.lanes.keys().cloned().collect();
    for (pair, records) in &model.truth.states {
        let key = |id: &RecordId| RecordKey { scope: pair.0.clone(), collection: pair.1.clone(), id: id.clone() };
        keys.extend(records.keys().map(key));
    }
    let mut ops = Vec::new();
    let mut parked: BTreeSet<String> = BTreeSet::new();
    let held = checks::held(replica, &model.truth);
    for key in keys.iter().filter(|key| !is_row(key.collection.as_str())) {
        // What is pulled anew shows what was there before.
        if db.base.manifest.pair(&key.pair()).is_none_or(|row| row.covered.is_none() || row.cold) {
            continue;
        }
        let seen = view::view(&db.state, &db.base, key).filter(|seen| !seen.deleted);
        let on =
            view::server_view(&db.state, &db.base, key).map(|seen| seen.version.get()).filter(|version| *version > 0);
        let (scope, collection, id) = (key.scope.as_str(), key.collection.as_str(), key.id.as_str());
        let mut op =
            json!({ "op": "read", "scope": scope, "collection": collection, "id": id, "found": seen.is_some() });
        op["version"] = json!(on);
        if let Some(seen) = seen {
            op["value"] = value_of(&crate::model::said(&seen.fields));
        }
        ops.push(op);
        if held.contains(key) || db.state.parked_by_key.contains_key(key) {
            parked.insert(format!("{scope}/{collection}/{id}"));
        }
    }
    let mut event = place(world, profile, replica.host.owner);
    event["type"] = json!("read");
    event["status"] = json!("ok");
    event["epoch"] = json!(db.base.manifest.epoch.as_ref().map(|epoch| epoch.0.clone()));
    event["at_rest"] = json!(record.at_rest);
    event["parked"] = json!(parked);
    event["ops"] = json!(ops);
    if record.at_rest && !db.state.entries.is_empty() {
        record.is_drained = false;
    }
    record.line(start, event);
    drop(db);
    model.record = Some(record);
}

/// Everybody has arrived.
pub fn rests(world: &World) {
    if let Some(record) = &mut world.model.borrow_mut().record {
        (record.at_rest, record.has_moved, record.is_drained) = (true, false, true);
    }
}

/// Whether the server changed since everybody had arrived.
pub fn has_moved(world: &World) -> bool {
    world.model.borrow().record.as_ref().is_some_and(|record| record.has_moved)
}

/// The whole text: header, events in the order of their ends, the server's state.
pub fn finish(world: &World) -> Option<String> {
    let mut model = world.model.borrow_mut();
    let mut record = model.record.take()?;
    let mut last: BTreeMap<&str, BTreeMap<&str, BTreeMap<&str, Value>>> = BTreeMap::new();
    let mut text = String::new();
    for owner in record.owners() {
        record.unsaid(owner, &|profile, id| model.profiles[profile].durable.get(&id).cloned());
    }
    for (Pair(scope, collection), records) in &model.truth.states {
        for (id, states) in records.iter().filter(|_| !is_row(collection.as_str())) {
            let Some(StateAt { version, fields: Some(fields), .. }) = states.last() else { continue };
            let value = json!({ "version": version, "value": value_of(fields) });
            let records = last.entry(scope.as_str()).or_default().entry(collection.as_str()).or_default();
            records.insert(id.as_str(), value);
        }
    }
    // What an app writes once is a number; all other values are written on purpose by several.
    let mut common: BTreeSet<String> = BTreeSet::new();
    for line in record.lines.values().filter(|line| line["type"] == "write") {
        for op in line["ops"].as_array().into_iter().flatten() {
            let values = op["value"].as_object().into_iter().flat_map(Map::values);
            common.extend(values.filter(|value| !value.is_number()).map(Value::to_string));
        }
    }
    common.extend(["\"merged\"".to_owned(), "\"reviewed\"".to_owned(), "null".to_owned(), "false".to_owned()]);
    let common: Vec<Value> = common.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
    let header = json!({
        "form": "landfall-history", "form_version": 1, "source": "simulator", "seed": world.setup.seed,
        "complete_server": !record.has_rows, "drained": record.is_drained, "own_outcomes": true, "common_values": common,
    });
    let end = json!({ "final": last, "epoch": world.server.borrow().epoch().0 });
    for line in std::iter::once(&header).chain(record.lines.values()).chain([&end]) {
        text.push_str(&line.to_string());
        text.push('\n');
    }
    Some(text)
}

/// An app's call that is under way. If its context dies, what it stored is told at the end, as of unknown fate.
pub struct Writing {
    world: std::rc::Rc<World>,
    profile: usize,
    place: Value,
    start: u64,
    /// Entries that were there before it.
    after: u64,
}

impl Writing {
    pub fn begin(world: &std::rc::Rc<World>, profile: usize, owner: u32) -> Option<Self> {
        let place = place(world, profile, owner);
        let mut model = world.model.borrow_mut();
        let after = model.profiles[profile].durable.keys().next_back().copied().unwrap_or(0);
        let start = model.record.as_mut()?.tick();
        Some(Self { world: std::rc::Rc::clone(world), profile, place, start, after })
    }

    /// It resolved with these entries. Where it should not have, what it said is all there is.
    pub fn stored(self, ids: &[u64], said: Vec<Value>) {
        let mut model = self.world.model.borrow_mut();
        let entries: Vec<Stored> = model.profiles[self.profile]
            .durable
            .range(self.after + 1..)
            .filter(|(id, _)| ids.contains(id))
            .map(|(id, entry)| (self.profile, *id, entry.clone()))
            .collect();
        let Some(record) = &mut model.record else { return };
        if entries.is_empty() && !ids.is_empty() {
            record.said(&self.place, self.start, "stored", said);
        } else {
            record.written(&self.place, self.start, "stored", &entries);
        }
    }

    pub fn refused(self, said: Vec<Value>) {
        if let Some(record) = &mut self.world.model.borrow_mut().record {
            record.said(&self.place, self.start, "refused", said);
        }
    }
}
