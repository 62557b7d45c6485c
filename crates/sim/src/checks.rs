//! The promises, looked at from outside: a context's memory against the model.

use crate::model::{Plain, StateAt, Truth, at, patch, plain, said};
use crate::people::STRANGE;
use crate::world::{COLLECTIONS, LATER, PARENT, SimReplica, World};
use landfall_core::review::CONFLICTS;
use landfall_core::view;
use landfall_protocol::{CollectionName, Op, Pair, Position, RecordId, RecordKey, Scope};
use landfall_replica::Query;
use landfall_storage::{PairRow, Records};
use std::collections::{BTreeMap, BTreeSet};

/// All checks of one context. `since`: the moment at which it began to read; what was true by then it must know.
pub fn context(world: &World, profile: usize, replica: &SimReplica, since: u64) {
    entries(world, profile, replica, since);
    own(world, profile, replica);
    base(world, profile, replica);
    views(world, profile, replica);
    groups(world, profile, replica);
}

/// L5: every entry that was acknowledged is known here. L4: none that ended comes back.
fn entries(world: &World, profile: usize, replica: &SimReplica, since: u64) {
    let mut model = world.model.borrow_mut();
    let known = &model.profiles[profile];
    if known.is_torn {
        return;
    }
    let db = replica.db.borrow();
    let missing = known.acked.iter().find(|(id, tick)| {
        **tick <= since
            && !known.decided.contains_key(id)
            && !db.state.entries.contains_key(&landfall_protocol::EntryId(**id))
    });
    let back = db
        .state
        .entries
        .keys()
        .find(|id| known.decided.get(&id.get()).is_some_and(|(_, tick)| *tick <= since))
        .map(|id| id.get());
    let missing = missing.map(|(id, _)| *id);
    if let Some(id) = missing {
        model.violate("L5", || format!("entry {id} of profile {profile} was acknowledged and is not seen"));
    }
    if let Some(id) = back {
        model.violate("L4", || format!("entry {id} of profile {profile} ended and is seen as undecided"));
    }
}

/// I2: nothing of another user is here.
fn own(world: &World, profile: usize, replica: &SimReplica) {
    let mut model = world.model.borrow_mut();
    let home = format!("user:{}", model.profiles[profile].user);
    let db = replica.db.borrow();
    let strange = db
        .base
        .manifest
        .pairs
        .iter()
        .find(|row| row.pair.0.as_str().starts_with("user:") && row.pair.0.as_str() != home);
    if let Some(row) = strange {
        model.violate("I2", || format!("profile {profile} of {home} holds {:?}", row.pair));
    }
}

/// R2: at `covered` the base is the server's state. R3: it never goes back within an epoch.
fn base(world: &World, profile: usize, replica: &SimReplica) {
    let mut model = world.model.borrow_mut();
    let db = replica.db.borrow();
    let manifest = &db.base.manifest;
    let epoch = manifest.epoch.as_ref().map(|epoch| epoch.0.clone());
    let now: BTreeMap<Pair, u64> =
        manifest.pairs.iter().filter_map(|row| Some((row.pair.clone(), row.covered?.get()))).collect();
    if let Some((rev, then_epoch, then)) = &model.profiles[profile].seen_base
        && *rev <= manifest.rev
        && *then_epoch == epoch
    {
        let back = then.iter().find(|(pair, covered)| now.get(*pair).is_some_and(|now| now < covered));
        if let Some((pair, covered)) = back.map(|(pair, covered)| (pair.clone(), *covered)) {
            model.violate("R3", || format!("profile {profile} went back from {covered} in {pair:?}"));
        }
    }
    if model.profiles[profile].seen_base.as_ref().is_none_or(|(rev, ..)| *rev <= manifest.rev) {
        model.profiles[profile].seen_base = Some((manifest.rev, epoch.clone(), now.clone()));
    }
    if epoch != Some(world.server.borrow().epoch().0) || model.profiles[profile].is_torn {
        return;
    }
    for (pair, covered) in &now {
        if let Some(text) = base_differs(&model.truth, &db.base, pair, *covered) {
            model.violate("R2", || format!("profile {profile} at {covered} of {pair:?}: {text}"));
            return;
        }
    }
}

/// What the base of a pair says that the server at that position did not.
fn base_differs(truth: &crate::model::Truth, base: &Records, pair: &Pair, covered: u64) -> Option<String> {
    let none = BTreeMap::new();
    let states = truth.states.get(pair).unwrap_or(&none);
    let row = base.manifest.pair(pair);
    for (id, states) in states {
        let expected = at(states, covered).and_then(|state| Some((state.version, state.fields.clone()?)));
        let found = row.and_then(|row| base.find(row, false, id.as_str()).ok()?).and_then(|(place, block)| {
            let slot = place.slot as usize;
            let fields: landfall_protocol::Fields = serde_json::from_str(block.fields(slot)?).ok()?;
            Some((block.version(slot).get(), plain(&fields)))
        });
        if expected != found {
            return Some(format!("{id} should be {expected:?} and is {found:?}"));
        }
    }
    let row = row?;
    let mut seen = BTreeSet::new();
    for reference in &row.live {
        let run = base.run(reference).unwrap_or_default();
        for fence in &run.fences {
            let Ok(Some(block)) = base.block(fence.row) else { continue };
            for slot in (0..block.len()).filter(|slot| !fence.dead.has(*slot)) {
                let id = RecordId::from(block.id(slot).as_ref());
                if !states.contains_key(&id) {
                    return Some(format!("{id} is there and never was at the server"));
                }
                if !seen.insert(id.clone()) {
                    return Some(format!("{id} is there twice"));
                }
            }
        }
    }
    None
}

/// The record that a context must show: the server's as far as it knows, then its undecided entries.
fn expected_view(truth: &crate::model::Truth, replica: &SimReplica, key: &RecordKey, covered: u64) -> Option<Plain> {
    let db = replica.db.borrow();
    // What a push did behind an outcome, at the same position, its client hears of with the next pull.
    let mut known = (covered, u64::MAX);
    for settled in db.state.settled_of(key) {
        if settled.epoch != db.base.manifest.epoch.as_ref() {
            continue;
        }
        let Some(outcome) = &settled.mutation.outcome else { continue };
        // Whatever became of it, the outcome said what the record is.
        if let (Some(version), Some(position)) = (outcome.version, outcome.position) {
            known = known.max((position.get(), version.get()));
        }
    }
    let is_known = |state: &&StateAt| (state.position, state.version) <= known;
    let mut record = truth.states_of(key).iter().rev().find(is_known).and_then(|state| state.fields.clone());
    for id in db.state.lanes.get(key).into_iter().flatten() {
        if let Some(entry) = db.state.entries.get(id) {
            record = patch(record, entry.op, said(&entry.set), &entry.unset);
        }
    }
    record
}

/// C3: every view is the server's state and the remaining entries. L3: nothing that was refused is ever seen.
fn views(world: &World, profile: usize, replica: &SimReplica) {
    let mut model = world.model.borrow_mut();
    let db = replica.db.borrow();
    let is_current = db.base.manifest.epoch.as_ref().is_some_and(|epoch| *epoch == world.server.borrow().epoch());
    if !is_current || model.profiles[profile].is_torn {
        return;
    }
    let mut keys: BTreeSet<RecordKey> = db.state.lanes.keys().cloned().collect();
    // What strangers have in scopes of their own changes nothing here, not even what is asked (I1).
    let server = world.server.borrow();
    let granted = server.grants.get(&world.profile(profile).user);
    let is_held = |pair: &Pair| {
        granted.is_some_and(|scopes| scopes.contains(&pair.0))
            || db.base.manifest.pair(pair).is_some()
            || db.state.settled_by_key.keys().any(|key| key.pair() == *pair)
    };
    for (pair, records) in model.truth.states.iter().filter(|(pair, _)| is_held(pair)) {
        keys.extend(records.keys().map(|id| RecordKey {
            scope: pair.0.clone(),
            collection: pair.1.clone(),
            id: id.clone(),
        }));
    }
    let mut live: BTreeMap<CollectionName, BTreeSet<(Scope, RecordId)>> = BTreeMap::new();
    // What was there before a reset stays visible until its pair has flipped.
    let staged = db.base.manifest.pairs.iter().filter(|row| row.covered.is_none());
    let mut unsure: BTreeSet<CollectionName> = staged.map(|row| row.pair.1.clone()).collect();
    for key in keys {
        let Some(covered) = db.base.manifest.pair(&key.pair()).and_then(|row| row.covered) else {
            unsure.insert(key.collection.clone());
            continue;
        };
        let expected = expected_view(&model.truth, replica, &key, covered.get());
        let seen = view::view(&db.state, &db.base, &key).filter(|seen| !seen.deleted).map(|seen| said(&seen.fields));
        if expected.is_some() {
            live.entry(key.collection.clone()).or_default().insert((key.scope.clone(), key.id.clone()));
        }
        if expected != seen {
            let known = |fields: &Option<Plain>| {
                let mut fields = fields.clone();
                fields.as_mut().map(|fields| fields.remove(STRANGE));
                fields
            };
            let promise = if known(&expected) == known(&seen) { "I5" } else { "C3" };
            model
                .violate(promise, || format!("profile {profile} should see {key:?} as {expected:?} and sees {seen:?}"));
            return;
        }
        // Rows of conflicts hold numbers of the server's.
        let seen = seen.filter(|_| key.collection.as_str() != CONFLICTS);
        let refused =
            seen.and_then(|seen| seen.into_values().find(|value| model.profiles[profile].rejected.contains(value)));
        if let Some(value) = refused {
            model.violate("L3", || format!("profile {profile} sees {value}, which was refused"));
            return;
        }
    }
    for name in COLLECTIONS.into_iter().chain([LATER]).filter(|name| is_known(replica, name)) {
        let collection = CollectionName::from(name);
        if unsure.contains(&collection) {
            continue;
        }
        let wanted = live.get(&collection).map_or(0, BTreeSet::len);
        let found = at_once(replica.query(&Query::all(name))).and_then(Result::ok).unwrap_or_default();
        // What is kept of an earlier check holds, or is not given any more.
        let kept = at_once(replica.query_text(&format!("{{\"collection\":\"{name}\"}}"))).and_then(Result::ok);
        if kept.as_deref() != Some(&*found.to_json()) {
            model.violate("C3", || format!("profile {profile} gives an old answer to what is in {name}: {kept:?}"));
        }
        let rows = found.rows;
        if rows.len() != wanted {
            model.violate("C3", || {
                format!("profile {profile} should find {wanted} records in {name} and finds {rows:?}")
            });
        }
    }
}

/// Whether this version of the app knows a collection.
fn is_known(replica: &SimReplica, name: &str) -> bool {
    replica.config.collections.contains_key(&CollectionName::from(name))
}

/// What a future gives without waiting: all rows are in memory (`Replica::warm`).
fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

/// S5: of a group all entries are undecided or none.
fn groups(world: &World, profile: usize, replica: &SimReplica) {
    let mut model = world.model.borrow_mut();
    if model.profiles[profile].is_torn {
        return;
    }
    let db = replica.db.borrow();
    let mut shown: BTreeMap<(String, u64), usize> = BTreeMap::new();
    for (id, entry) in &db.state.entries {
        if let Some(group) = &entry.group {
            *shown.entry((group.0.clone(), id.log_key())).or_default() += 1;
        }
    }
    let torn = shown.into_iter().find(|((group, log_key), count)| {
        let from = log_key * landfall_protocol::EntryId::PER_ROW;
        let row = model.profiles[profile].durable.range(from..from + landfall_protocol::EntryId::PER_ROW);
        row.filter(|(_, entry)| entry.group.as_ref().is_some_and(|other| other.0 == *group)).count() != *count
    });
    if let Some(((group, _), count)) = torn {
        model.violate("S5", || format!("profile {profile} sees {count} entries of group {group} and not the others"));
    }
}

/// R1: why a context has not arrived at the server's state yet. `None`: it has.
pub fn not_converged(world: &World, profile: usize, replica: &SimReplica) -> Option<String> {
    let model = world.model.borrow();
    let server = world.server.borrow();
    let db = replica.db.borrow();
    let user = &model.profiles[profile].user;
    let held = if db.state.entries.is_empty() { BTreeSet::new() } else { held(replica, &model.truth) };
    if let Some((id, entry)) = db.state.entries.iter().find(|(_, entry)| !held.contains(&entry.key())) {
        return Some(format!("entry {id} of {:?} is still undecided", entry.key()));
    }
    if db.base.manifest.epoch.as_ref() != Some(&server.epoch()) {
        return Some(format!("its epoch is {:?}", db.base.manifest.epoch));
    }
    let is_manager = server.managers.contains(user);
    let scopes: Vec<&Scope> = server.grants.get(user).into_iter().flatten().collect();
    for scope in &scopes {
        for name in COLLECTIONS.into_iter().chain([CONFLICTS, LATER]) {
            // Of a collection that this version of the app does not know it has what another context has pulled.
            let is_pulled = db.base.manifest.pairs.iter().any(|row| row.pair.1.as_str() == name);
            if name == LATER && !is_known(replica, name) && !is_pulled {
                continue;
            }
            let pair = Pair((*scope).clone(), CollectionName::from(name));
            if !server.readable(&pair.1, &pair.0, is_manager) {
                continue;
            }
            let covered = db.base.manifest.pair(&pair).and_then(|row| row.covered).map(Position::get);
            if covered != Some(server.head(scope)) {
                return Some(format!("{pair:?} is covered to {covered:?} of {}", server.head(scope)));
            }
            let sum = db.base.manifest.pair(&pair).map(|row| row.sum).unwrap_or_default();
            if sum != server.sum(&pair) {
                return Some(format!("{pair:?} has another checksum"));
            }
        }
    }
    let may_hold =
        |row: &PairRow| scopes.contains(&&row.pair.0) && server.readable(&row.pair.1, &row.pair.0, is_manager);
    if let Some(row) = db.base.manifest.pairs.iter().find(|row| !may_hold(row)) {
        return Some(format!("{:?} was taken away and is still there", row.pair));
    }
    None
}

/// R1: what the disk of a profile holds of the base and the server does not. All its rows are read for it, so it is asked
/// once everybody has arrived.
pub fn stored_differs(world: &World, profile: usize) -> Option<String> {
    let model = world.model.borrow();
    let stored = world.stored_base(profile);
    stored.manifest.pairs.iter().find_map(|row| {
        let text = base_differs(&model.truth, &stored, &row.pair, u64::MAX)?;
        Some(format!("{:?} differs: {text}", row.pair))
    })
}

/// A pair whose rows were flipped twice within an hour is reported, not pulled a second time (docs/protocol.md).
pub fn said_so(world: &World, profile: usize, replica: &SimReplica) -> bool {
    let is_torn = world.model.borrow().profiles[profile].is_torn;
    is_torn && replica.status().last_error.is_some_and(|error| error.code == "checksum")
}

/// Records whose entries wait for a person: a unit that failed for good, and what hangs on it through groups.
pub fn held(replica: &SimReplica, truth: &Truth) -> BTreeSet<RecordKey> {
    let db = replica.db.borrow();
    let failed = db.state.parked.values().filter(|row| row.failed).flat_map(|row| &row.changes);
    let mut held: BTreeSet<RecordKey> = failed.map(|change| change.entry.key()).collect();
    // Children of what waits itself, or whose create is parked.
    let creates = db.state.parked.values().flat_map(|row| &row.changes);
    let creates = creates.filter(|change| change.entry.op == landfall_protocol::Op::Create);
    let orphaned: BTreeSet<RecordKey> = creates.map(|change| change.entry.key()).collect();
    loop {
        let before = held.len();
        let children = db.state.entries.values().filter(|entry| {
            let id = said(&entry.set).remove(PARENT).map(|id| RecordId::from(id.trim_matches('"')));
            let parent = id.map(|id| RecordKey { scope: entry.scope.clone(), collection: "tasks".into(), id });
            parent.is_some_and(|parent| held.contains(&parent) || orphaned.contains(&parent))
        });
        held.extend(children.map(|entry| entry.key()).collect::<Vec<_>>());
        // A parent is deleted behind what leads its children away, and that waits.
        let led_away = held.iter().flat_map(|key| truth.states_of(key)).filter_map(|state| state.fields.as_ref());
        let parents: BTreeSet<&str> =
            led_away.filter_map(|fields| fields.get(PARENT)).map(|id| id.trim_matches('"')).collect();
        let deletes = db.state.entries.values().filter(|entry| {
            entry.op == Op::Delete && entry.collection.0 == "tasks" && parents.contains(entry.id.as_str())
        });
        held.extend(deletes.map(|entry| entry.key()).collect::<Vec<_>>());
        let groups: BTreeSet<_> = db
            .state
            .entries
            .values()
            .filter(|entry| held.contains(&entry.key()))
            .filter_map(|entry| entry.group.clone())
            .collect();
        let more = db.state.entries.values().filter(|entry| entry.group.as_ref().is_some_and(|g| groups.contains(g)));
        held.extend(more.map(|entry| entry.key()).collect::<Vec<_>>());
        if held.len() == before {
            return held;
        }
    }
}
