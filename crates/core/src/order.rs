//! What can be sent, in sending order: parents before their children, higher priority first, then oldest; a lane's order
//! and groups kept.
//!
//! Contract: a unit stands behind everything that it needs, and what it needs is in the list or has an outcome. A unit that
//! needs what travels, or what waits for a person, is left out, and with it what stands behind it; all others go.

use crate::lanes::{Coalesced, Unit, coalesce, may_join};
use crate::plant::{Plant, planted};
use crate::rows::Entry;
use crate::state::{Base, Config, State};
use crate::view;
use landfall_protocol::codec::Reader;
use landfall_protocol::map::sort;
use landfall_protocol::{
    AddAll, CollectionName, EntryId, GroupId, Listed, Map, Object, Op, RecordId, RecordKey, Scope, Set,
};

/// What can be sent.
pub fn units(state: &State, base: &dyn Base, config: &Config) -> Vec<Unit> {
    free_units(state, base, config, Set::new())
}

/// The same without those that are `taken`: they travel.
pub(crate) fn free_units(state: &State, base: &dyn Base, config: &Config, taken: Set<EntryId>) -> Vec<Unit> {
    let has_references = config.collections.values().any(|collection| !collection.references.is_empty());
    let mut free = Free {
        state,
        base,
        config,
        travelling: if has_references { taken.clone() } else { Set::new() },
        taken,
        placed: Set::new(),
        held: held_lanes(state),
        units: Vec::new(),
        needs: Vec::new(),
        count: 0,
        has_references: has_references && !planted(Plant::ParentAfterChild),
    };
    // By place: an entry queued again after a restored backup goes where it first was.
    let mut places: Vec<(EntryId, EntryId)> = Vec::new();
    if state.placed > 0 {
        places.add_all(state.entries.iter().map(|(id, entry)| (entry.place.unwrap_or(*id), *id)));
        sort(&mut places, &|a, b| a.cmp(b));
    }
    let mut placed = places.into_iter().map(|(_, id)| id);
    let mut logged = state.entries.keys().copied();
    let order: &mut dyn Iterator<Item = EntryId> = if state.placed > 0 { &mut placed } else { &mut logged };
    // Where nothing goes before anything else, the oldest are the next batch, and the rest need not be looked at.
    let mut priorities = config.collections.values().map(|collection| collection.priority);
    let first = priorities.next();
    let enough = if priorities.all(|other| Some(other) == first) { config.batch_count } else { usize::MAX };
    for id in order {
        if free.count > enough {
            break;
        }
        free.add(id);
    }
    free.by_priority()
}

struct Free<'a> {
    state: &'a State,
    base: &'a dyn Base,
    config: &'a Config,
    /// Stored in a batch before this one, in this transaction.
    travelling: Set<EntryId>,
    /// Looked at already, and those of them that are in `units`.
    taken: Set<EntryId>,
    placed: Set<EntryId>,
    /// Lanes of which nothing goes now.
    held: Set<RecordKey>,
    units: Vec<Unit>,
    /// Beside each unit, the other records that must go before it.
    needs: Vec<Vec<RecordKey>>,
    count: usize,
    has_references: bool,
}

impl Free<'_> {
    /// Adds the unit of this entry, behind what it needs, if it can go now.
    fn add(&mut self, id: EntryId) {
        if self.taken.contains(&id) || self.state.sent.contains_key(&id) {
            return;
        }
        let Some(entry) = self.state.entries.get(&id) else { return };
        let key = entry.key();
        if self.held.contains(&key) {
            return;
        }
        let mut members: Vec<Coalesced> = match &entry.group {
            Some(group) => group_members(self.state, group, id),
            None => {
                let run = self.run_of(&key, id);
                coalesce(self.state, key, &run).into_iter().listed()
            }
        };
        each_entry(&members, &mut |id| _ = self.taken.insert(id));
        let mut waits = members.iter().any(|member| self.held.contains(&member.key));
        let mut needs = Vec::new();
        if self.has_references && !waits {
            let (mut before, mut others) = (Vec::new(), Vec::new());
            for member in &members {
                waits |= self.is_orphan(member);
                before.extend_from_slice(self.lane_before(member));
                others.push(self.before(member));
            }
            let (own, place) = (before.len(), entry.place.unwrap_or(id));
            for others in &others {
                before.extend_from_slice(others);
            }
            for (at, needed) in before.iter().enumerate() {
                self.add(*needed);
                let Some(entry) = self.state.entries.get(needed) else { continue };
                let key = entry.key();
                let travels = self.travelling.contains(needed) || self.state.sent.contains_key(needed);
                waits |= travels || self.held.contains(&key);
                let is_left = !self.placed.contains(needed) && !holds(&members, *needed);
                if !waits && is_left && (at < own || entry.place.unwrap_or(*needed) < place) {
                    // They need each other: then each goes when its turn comes in the log.
                    each_entry(&members, &mut |id| _ = self.taken.remove(&id));
                    return;
                }
                needs.push(key);
            }
            members = in_order(members, others);
        }
        if waits {
            if self.has_references {
                for member in members {
                    self.held.insert(member.key);
                }
            }
            return;
        }
        let mut priority = None;
        for member in &members {
            priority = priority.max(Some(self.priority(&member.key.collection)));
            self.count += usize::from(member.op.is_some());
        }
        each_entry(&members, &mut |id| _ = self.placed.insert(id));
        self.units.push(Unit { group: entry.group.clone(), members, priority: priority.unwrap_or(0) });
        self.needs.push(needs);
    }

    fn priority(&self, collection: &CollectionName) -> i32 {
        self.config.collections.get(collection).map_or(0, |collection| collection.priority)
    }

    /// Predecessors in a lane inherit what follows them, and parents what their children have.
    fn by_priority(self) -> Vec<Unit> {
        let mut units = self.units;
        if units.iter().all(|unit| unit.priority == 0) {
            return units;
        }
        let mut lane_priority: Map<RecordKey, i32> = Map::new();
        for (unit, needs) in units.iter_mut().zip(&self.needs).rev() {
            for member in &unit.members {
                if let Some(priority) = lane_priority.get(&member.key) {
                    unit.priority = unit.priority.max(*priority);
                }
            }
            let mut lift = |key: &RecordKey| {
                let before = lane_priority.get(key).map_or(unit.priority, |before| unit.priority.max(*before));
                lane_priority.insert(key.clone(), before);
            };
            for member in &unit.members {
                lift(&member.key);
            }
            for key in needs {
                lift(key);
            }
        }
        sort(&mut units, &|a, b| b.priority.cmp(&a.priority));
        units
    }

    fn references(&self, collection: &CollectionName) -> &[(String, CollectionName)] {
        self.config.collections.get(collection).map_or(&[], |collection| &collection.references)
    }

    /// Records that these fields refer to, in any scope of which this client has something to send or to mend.
    fn parents(&self, key: &RecordKey, fields: &Object) -> Vec<RecordKey> {
        let mut parents = Vec::new();
        for (field, parent) in self.references(&key.collection) {
            let Some(id) = fields.get(field).and_then(|value| Reader::new(value).string()) else { continue };
            let mut add = |scope: &Scope| {
                let found = RecordKey { scope: scope.clone(), collection: parent.clone(), id: RecordId::from(&*id) };
                if found != *key && !parents.contains(&found) {
                    parents.push(found);
                }
            };
            for scope in self.state.lanes.scopes() {
                add(scope);
            }
            for key in self.state.parked_by_key.keys() {
                add(&key.scope);
            }
        }
        parents
    }

    /// The create of a record that this one refers to waits for a person.
    fn is_orphan(&self, member: &Coalesced) -> bool {
        if matches!(member.op, Some(Op::Create | Op::Update)) && !self.state.parked.is_empty() {
            for parent in self.parents(&member.key, &member.set) {
                let Some(rows) = self.state.parked_by_key.get(&parent) else { continue };
                if rows.iter().any(|row| self.is_parked_create(row, &parent))
                    && self.creates(&parent).is_empty()
                    && view::server_view(self.state, self.base, &parent).is_none_or(|seen| seen.deleted)
                {
                    return true;
                }
            }
        }
        false
    }

    fn is_parked_create(&self, row: &str, key: &RecordKey) -> bool {
        let Some(row) = self.state.parked.get(row) else { return false };
        row.changes.iter().any(|change| change.entry.op == Op::Create && change.entry.key() == *key)
    }

    /// The undecided entries of a lane up to its last create; none if it has none.
    fn creates(&self, key: &RecordKey) -> &[EntryId] {
        let lane = self.lane(key);
        let mut count = 0;
        for (at, id) in lane.iter().enumerate() {
            if self.state.entries.get(id).is_some_and(|entry| entry.op == Op::Create) {
                count = at + 1;
            }
        }
        &lane[..count]
    }

    fn lane(&self, key: &RecordKey) -> &[EntryId] {
        self.state.lanes.get(key).map_or(&[], Vec::as_slice)
    }

    /// What is older in its own lane.
    fn lane_before(&self, member: &Coalesced) -> &[EntryId] {
        let lane = self.lane(&member.key);
        &lane[..lane.iter().position(|id| member.entries.contains(id)).unwrap_or(0)]
    }

    /// The undecided entries of others that go before this one, with what they stand on: creates of what it refers to;
    /// before a delete, what lets go of it.
    fn before(&self, member: &Coalesced) -> Vec<EntryId> {
        let mut before = Vec::new();
        match member.op {
            Some(Op::Create | Op::Update) => {
                for parent in self.parents(&member.key, &member.set) {
                    before.extend_from_slice(self.creates(&parent));
                }
            }
            Some(Op::Delete) if self.is_parent(&member.key.collection) => {
                for entry in self.state.entries.values() {
                    if entry.op != Op::Create && self.lets_go(entry, &member.key) {
                        before.extend_from_slice(self.lane(&entry.key()));
                    }
                }
            }
            Some(Op::Delete) | None => {}
        }
        before
    }

    fn is_parent(&self, collection: &CollectionName) -> bool {
        for child in self.config.collections.values() {
            if child.references.iter().any(|(_, parent)| parent == collection) {
                return true;
            }
        }
        false
    }

    /// What a delete or an update stands on refers to this record, and afterwards it does not.
    fn lets_go(&self, entry: &Entry, parent: &RecordKey) -> bool {
        for (field, collection) in self.references(&entry.collection) {
            let value = entry.set.get(field);
            let changes = entry.op == Op::Delete || value.is_some() || entry.unset.contains(field);
            let names = |value: Option<&str>| {
                value.and_then(|value| Reader::new(value).string()).is_some_and(|id| id == parent.id.as_str())
            };
            if *collection == parent.collection && changes && !names(value) {
                let key = entry.key();
                let record = if key == *parent { None } else { self.base.base(&key) };
                if record.is_some_and(|record| names(record.fields.get(field))) {
                    return true;
                }
            }
        }
        false
    }

    /// Unsent neighbours of a lane, from `first` on, that may be one mutation.
    fn run_of(&self, key: &RecordKey, first: EntryId) -> Vec<EntryId> {
        let Some(lane) = self.state.lanes.get(key) else { return Vec::new() };
        let mut run: Vec<EntryId> = Vec::new();
        for id in lane.iter().skip_while(|id| **id != first) {
            let Some(entry) = self.state.entries.get(id) else { break };
            if self.taken.contains(id) || self.state.sent.contains_key(id) {
                break;
            }
            if let Some(before) = run.last().and_then(|last| self.state.entries.get(last))
                && (!may_join(before, entry) || self.refers_to_later(entry, first))
            {
                break;
            }
            run.push(*id);
        }
        run
    }

    /// Joined to what is older than its parent, it could come to need what needs it.
    fn refers_to_later(&self, entry: &Entry, first: EntryId) -> bool {
        if self.has_references && entry.op == Op::Update {
            for parent in self.parents(&entry.key(), &entry.set) {
                if self.creates(&parent).last().is_some_and(|id| *id > first) {
                    return true;
                }
            }
        }
        false
    }
}

fn each_entry(members: &[Coalesced], each: &mut dyn FnMut(EntryId)) {
    for member in members {
        for id in &member.entries {
            each(*id);
        }
    }
}

fn holds(members: &[Coalesced], id: EntryId) -> bool {
    members.iter().any(|member| member.entries.contains(&id))
}

/// The members of a group, each behind those that it needs (`before`), else as they were written.
fn in_order(mut left: Vec<Coalesced>, mut before: Vec<Vec<EntryId>>) -> Vec<Coalesced> {
    let mut ordered = Vec::new();
    while left.len() > 1 {
        let is_free = |at: usize| {
            let own = &left[at].key;
            !before[at].iter().any(|id| holds(&left, *id)) && !left[..at].iter().any(|other| other.key == *own)
        };
        let at = (0..left.len()).find(|at| is_free(*at)).unwrap_or(0);
        before.remove(at);
        ordered.push(left.remove(at));
    }
    ordered.append(&mut left);
    ordered
}

/// Lanes that wait for a person: their unit used up its attempts (`failed`), or a create of theirs is parked.
fn held_lanes(state: &State) -> Set<RecordKey> {
    let mut held = Set::new();
    for row in state.parked.values() {
        if row.failed {
            held.extend(row.changes.iter().map(|change| change.entry.key()));
        }
    }
    // A group waits with its slowest lane, and so do the lanes behind it.
    loop {
        let mut grown = false;
        let groups: Set<&GroupId> = held
            .iter()
            .flat_map(|key| state.lanes.get(key).into_iter().flatten())
            .filter_map(|id| state.entries.get(id)?.group.as_ref())
            .collect();
        // Most of the time nothing is held; then the outbox, however long, need not be looked through.
        if groups.is_empty() {
            return held;
        }
        let keys: Vec<RecordKey> = state
            .entries
            .values()
            .filter(|entry| entry.group.as_ref().is_some_and(|group| groups.contains(group)))
            .map(Entry::key)
            .listed();
        for key in keys {
            grown |= held.insert(key);
        }
        if !grown {
            return held;
        }
    }
}

/// The members of a group, in the order in which they were written.
fn group_members(state: &State, group: &GroupId, first: EntryId) -> Vec<Coalesced> {
    state
        .entries
        // It may be asked for by any of its members.
        .range(EntryId::at(first.log_key().saturating_sub(8), 0)..)
        .take_while(|(id, _)| id.log_key() <= first.log_key() + 8)
        .filter(|(_, entry)| entry.group.as_ref() == Some(group))
        .filter_map(|(id, entry)| coalesce(state, entry.key(), &[*id]))
        .listed()
}
