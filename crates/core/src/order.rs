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
use landfall_protocol::{CollectionName, EntryId, GroupId, Map, Object, Op, RecordId, RecordKey, Set};

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
        places.extend(state.entries.iter().map(|(id, entry)| (entry.place.unwrap_or(*id), *id)));
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
                coalesce(self.state, key, &run).into_iter().collect()
            }
        };
        self.taken.extend(members.iter().flat_map(|member| member.entries.iter().copied()));
        let mut waits = members.iter().any(|member| self.held.contains(&member.key));
        let mut needs = Vec::new();
        if self.has_references && !waits {
            waits = members.iter().any(|member| self.is_orphan(member));
            let own: Vec<EntryId> = members.iter().flat_map(|member| self.lane_before(member)).copied().collect();
            let others: Vec<EntryId> = members.iter().flat_map(|member| self.before(member)).collect();
            let count = own.len();
            for (at, needed) in own.into_iter().chain(others).enumerate() {
                self.add(needed);
                let Some(entry) = self.state.entries.get(&needed) else { continue };
                let key = entry.key();
                let travels = self.travelling.contains(&needed) || self.state.sent.contains_key(&needed);
                waits |= travels || self.held.contains(&key);
                let is_left =
                    !members.iter().any(|member| member.entries.contains(&needed)) && !self.placed.contains(&needed);
                if !waits && is_left && (at < count || needed < id) {
                    // They need each other: then each goes when its turn comes in the log.
                    members.iter().flat_map(|member| &member.entries).for_each(|id| _ = self.taken.remove(id));
                    return;
                }
                needs.push(key);
            }
            members = in_order(self, members);
        }
        if waits {
            if self.has_references {
                self.held.extend(members.into_iter().map(|member| member.key));
            }
            return;
        }
        let priority = members.iter().map(|member| self.priority(&member.key.collection)).max().unwrap_or(0);
        self.placed.extend(members.iter().flat_map(|member| member.entries.iter().copied()));
        self.count += members.iter().filter(|member| member.op.is_some()).count();
        self.units.push(Unit { group: entry.group.clone(), members, priority });
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
            for key in unit.members.iter().map(|member| &member.key).chain(needs) {
                let before = lane_priority.get(key).map_or(unit.priority, |before| unit.priority.max(*before));
                lane_priority.insert(key.clone(), before);
            }
        }
        sort(&mut units, &|a, b| b.priority.cmp(&a.priority));
        units
    }

    /// Records that these fields refer to, in any scope of which this client has something to send or to mend.
    fn parents(&self, key: &RecordKey, fields: &Object) -> Vec<RecordKey> {
        let mut parents = Vec::new();
        let Some(collection) = self.config.collections.get(&key.collection) else { return parents };
        for (field, parent) in &collection.references {
            let Some(id) = fields.get(field).and_then(|value| Reader::new(value).string()) else { continue };
            let mut add = |scope: &landfall_protocol::Scope| {
                let found = RecordKey { scope: scope.clone(), collection: parent.clone(), id: RecordId::from(&*id) };
                if found != *key && !parents.contains(&found) {
                    parents.push(found);
                }
            };
            self.state.lanes.scopes().for_each(&mut add);
            self.state.parked_by_key.keys().for_each(|key| add(&key.scope));
        }
        parents
    }

    /// The create of a record that this one refers to waits for a person.
    fn is_orphan(&self, member: &Coalesced) -> bool {
        member.op.is_some_and(|op| op != Op::Delete)
            && self.parents(&member.key, &member.set).iter().any(|parent| {
                let is_parked = self.state.parked_by_key.get(parent).into_iter().flat_map(Set::iter).any(|row| {
                    let changes = self.state.parked.get(row).map_or(&[][..], |row| &row.changes);
                    changes.iter().any(|change| change.entry.op == Op::Create && change.entry.key() == *parent)
                });
                is_parked
                    && self.creates(parent).is_empty()
                    && view::server_view(self.state, self.base, parent).is_none_or(|seen| seen.deleted)
            })
    }

    /// The undecided entries of a lane up to its last create; none if it has none.
    fn creates(&self, key: &RecordKey) -> &[EntryId] {
        let lane = self.state.lanes.get(key).map_or(&[][..], Vec::as_slice);
        let is_create = |id: &EntryId| self.state.entries.get(id).is_some_and(|entry| entry.op == Op::Create);
        &lane[..lane.iter().rposition(is_create).map_or(0, |at| at + 1)]
    }

    /// What is older in its own lane.
    fn lane_before(&self, member: &Coalesced) -> &[EntryId] {
        let lane = self.state.lanes.get(&member.key).map_or(&[][..], Vec::as_slice);
        &lane[..lane.iter().position(|id| member.entries.contains(id)).unwrap_or(0)]
    }

    /// The undecided entries of others that go before this one, with what they stand on: creates of what it refers to;
    /// before a delete, what lets go of it.
    fn before(&self, member: &Coalesced) -> Vec<EntryId> {
        if member.op.is_some_and(|op| op != Op::Delete) {
            let parents = self.parents(&member.key, &member.set);
            return parents.iter().flat_map(|parent| self.creates(parent)).copied().collect();
        }
        let mut references = self.config.collections.values().flat_map(|child| &child.references);
        if member.op.is_none() || !references.any(|(_, parent)| *parent == member.key.collection) {
            return Vec::new();
        }
        let lets_go = |entry: &&Entry| entry.op != Op::Create && self.lets_go(entry, &member.key);
        let lanes = self.state.entries.values().filter(lets_go).filter_map(|entry| self.state.lanes.get(&entry.key()));
        lanes.flatten().copied().collect()
    }

    /// What a delete or an update stands on refers to this record, and afterwards it does not.
    fn lets_go(&self, entry: &Entry, parent: &RecordKey) -> bool {
        let key = entry.key();
        let references = self.config.collections.get(&entry.collection).map_or(&[][..], |child| &child.references);
        let fields = references.iter().filter(|(_, collection)| *collection == parent.collection);
        let named = |field: &str| {
            entry.op == Op::Delete || entry.set.get(field).is_some() || entry.unset.iter().any(|unset| unset == field)
        };
        let fields: Vec<&str> = fields.map(|(field, _)| field.as_str()).filter(|field| named(field)).collect();
        if fields.is_empty() || key == *parent {
            return false;
        }
        let Some(record) = self.base.base(&key) else { return false };
        let names = |value: &str| Reader::new(value).string().is_some_and(|id| id == parent.id.as_str());
        fields
            .iter()
            .any(|field| record.fields.get(field).is_some_and(names) && !entry.set.get(field).is_some_and(names))
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
        self.has_references
            && entry.op == Op::Update
            && self
                .parents(&entry.key(), &entry.set)
                .iter()
                .any(|parent| self.creates(parent).iter().any(|id| *id > first))
    }
}

/// The members of a group, each behind those that it needs, else as they were written.
fn in_order(free: &Free<'_>, mut members: Vec<Coalesced>) -> Vec<Coalesced> {
    let before: Vec<(Vec<EntryId>, RecordKey)> =
        members.iter().map(|member| (free.before(member), member.key.clone())).collect();
    let mut needs: Vec<(Coalesced, Vec<EntryId>, RecordKey)> =
        members.drain(..).zip(before).map(|(member, (before, key))| (member, before, key)).collect();
    let mut ordered = Vec::new();
    while !needs.is_empty() {
        let is_free = |at: usize| {
            let (_, before, key) = &needs[at];
            let is_left = |id: &EntryId| needs.iter().any(|(other, ..)| other.entries.contains(id));
            !before.iter().any(is_left) && !needs[..at].iter().any(|(_, _, other)| other == key)
        };
        let at = (0..needs.len()).find(|at| is_free(*at)).unwrap_or(0);
        ordered.push(needs.remove(at).0);
    }
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
            .collect();
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
        .collect()
}
