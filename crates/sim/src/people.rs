//! What people do with an app: write, read, mend what is parked, end conflicts, decide for others.

use crate::checks;
use crate::export::{self, Writing};
use crate::history::{Kind, Mend, Write};
use crate::model::MERGED;
use crate::server::unique::{KEY, id_of, time_text};
use crate::world::{OnDelete, PARENT, SHARED, Setup, SimReplica, World, collection_name};
use landfall_core::fixup::Choice;
use landfall_core::review::CONFLICTS;
use landfall_protocol::{CollectionName, EntryId, Fields, Json, Object, RecordId, RecordKey, Scope};
use landfall_replica::{Query, WriteKind, WriteOp};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::rc::Rc;

/// A field that this version of the app does not know (I5).
pub const STRANGE: &str = "x_of_later";

fn value_text(value: u64) -> String {
    if value == 0 { "\"same\"".to_owned() } else { value.to_string() }
}

fn op_of(write: &Write, setup: &Setup, profile: usize) -> WriteOp {
    let mut fields: Vec<String> =
        write.fields.iter().map(|(name, value)| format!("\"{name}\":{}", value_text(*value))).collect();
    if write.bad {
        fields.push("\"bad\":true".to_owned());
    }
    // A field of another version of the app.
    if setup.strange
        && write.kind != Kind::Delete
        && let Some((_, value)) = write.fields.iter().find(|(_, value)| *value > 0 && value % 3 == 0)
    {
        fields.push(format!("\"{STRANGE}\":{{\"of\":[{value}]}}"));
    }
    // Where deletes have rules, children are of few parents.
    let parents = if setup.on_delete == OnDelete::Nothing { 6 } else { 2 };
    if setup.families
        && collection_name(write.collection) == "stock"
        && let Some((_, value)) = write.fields.first()
    {
        fields.push(format!("\"{PARENT}\":\"r{}\"", value % parents));
    }
    let scope = Scope::from(SHARED);
    let mut id = RecordId(format!("r{}", write.record));
    if setup.unique && collection_name(write.collection) == "tasks" {
        let name = match setup.timed {
            true => time_text(write.record, (profile % 6) as u64),
            false => format!("n{}", write.record),
        };
        let key = format!("\"{KEY}\":\"{name}\"");
        let named = serde_json::from_str(&format!("{{{key}}}")).unwrap_or_default();
        // Now and then an app makes an id of its own, in vain.
        let own = write.kind == Kind::Create && write.fields.first().is_some_and(|(_, value)| value % 8 == 0);
        if let Some(derived) = id_of(&scope, &named).filter(|_| !own) {
            id = derived;
        }
        if matches!(write.kind, Kind::Put | Kind::Create) {
            fields.push(key);
        }
    }
    let op = match write.kind {
        Kind::Put => WriteKind::Put,
        Kind::Create => WriteKind::Create,
        Kind::Update => WriteKind::Update,
        Kind::Delete => WriteKind::Delete,
    };
    WriteOp {
        op,
        collection: CollectionName::from(collection_name(write.collection)),
        scope: None,
        id: Some(id),
        fields: Json::parse(&format!("{{{}}}", fields.join(","))).ok(),
    }
}

/// A write as its app said it, for who exports the history.
fn said_op(op: &WriteOp, user: &str) -> Value {
    let kind = match op.op {
        WriteKind::Put => "put",
        WriteKind::Create => "create",
        WriteKind::Update => "update",
        WriteKind::Delete => "delete",
    };
    let scope = if op.collection.as_str() == "notes" { format!("user:{user}") } else { SHARED.to_owned() };
    let id = op.id.as_ref().map_or("", RecordId::as_str);
    let mut said = json!({ "op": kind, "scope": scope, "collection": op.collection.as_str(), "id": id });
    if op.op != WriteKind::Delete {
        said["value"] = op.fields.as_ref().and_then(|it| serde_json::from_str(it.text()).ok()).unwrap_or_default();
    }
    said
}

pub async fn write(world: &Rc<World>, profile: usize, replica: &SimReplica, writes: &[Write], atomic: bool) {
    let ops: Vec<WriteOp> = writes.iter().map(|write| op_of(write, &world.setup, profile)).collect();
    let writing = Writing::begin(world, profile, replica.host.owner);
    let said = writing.is_some().then(|| ops.iter().map(|op| said_op(op, &world.profile(profile).user)).collect());
    match replica.write(ops, atomic).await {
        Ok(written) => {
            let mut model = world.model.borrow_mut();
            for entry in written.iter().filter_map(|written| written.entry) {
                model.acknowledged(profile, entry.get());
            }
            let ids: Vec<u64> = written.iter().filter_map(|written| written.entry).map(EntryId::get).collect();
            drop(model);
            if let (Some(writing), Some(said)) = (writing, said) {
                writing.stored(&ids, said);
            }
            world.note(profile, || format!("written as {ids:?}"));
        }
        // Its context closed while the fate was open: neither resolved nor known to be absent.
        Err(error) if error.code == "closed" => {}
        Err(error) => {
            world.note(profile, || format!("refused: {} {}", error.code, error.message));
            if let (Some(writing), Some(said)) = (writing, said) {
                writing.refused(said);
            }
            let values = writes.iter().flat_map(|write| &write.fields).filter(|(_, value)| *value > 0);
            world.model.borrow_mut().refused(profile, values.map(|(_, value)| value_text(*value)));
        }
    }
}

/// Somebody who sees what waits for a role decides one of them.
pub async fn decide(world: &Rc<World>, profile: usize, replica: &SimReplica, pick: u64, said: &str) {
    let rows = replica.query(&Query::all(CONFLICTS)).await.map(|found| found.rows).unwrap_or_default();
    let open: Vec<_> = rows.iter().filter(|row| row.text.contains("\"status\":\"pending\"")).collect();
    if open.is_empty() {
        return;
    }
    let row = open[(pick % open.len() as u64) as usize];
    let id = RecordId(row.place.id.clone());
    world.note(profile, || format!("decides {id}: {said}"));
    let op = WriteOp {
        op: WriteKind::Update,
        collection: CollectionName::from(CONFLICTS),
        scope: Some(Scope(row.place.scope.clone())),
        id: Some(id),
        fields: Json::parse(said).ok(),
    };
    if let Ok(written) = replica.write(vec![op], false).await {
        let mut model = world.model.borrow_mut();
        for entry in written.iter().filter_map(|written| written.entry) {
            model.acknowledged(profile, entry.get());
        }
    }
}

/// Somebody says what is to stand.
async fn resolve(world: &Rc<World>, profile: usize, replica: &SimReplica, pick: u64, how: Mend) {
    let items = replica.conflicts();
    if items.is_empty() {
        return;
    }
    let item = &items[(pick % items.len() as u64) as usize];
    world.note(profile, || format!("{how:?} ends the conflict of entry {}", item.id));
    let merged = Object::of(&Fields::from([("a".to_owned(), Json::string(MERGED))]));
    let choice = match how {
        Mend::Local => Choice::Local,
        Mend::Merged => Choice::Merged(&merged),
        Mend::Server | Mend::Retry | Mend::Edit | Mend::Discard => Choice::Server,
    };
    if replica.resolve(item.id, choice).await.is_ok() {
        world.kinds.borrow_mut().insert("resolved");
    }
}

pub async fn mend(world: &Rc<World>, profile: usize, replica: &SimReplica, pick: u64, how: Mend) {
    if matches!(how, Mend::Local | Mend::Server | Mend::Merged) {
        return resolve(world, profile, replica, pick, how).await;
    }
    let items: Vec<EntryId> = replica
        .outbox()
        .await
        .unwrap_or_default()
        .iter()
        .filter(|item| item.reason.is_some())
        .map(|item| item.id)
        .collect();
    if items.is_empty() {
        return;
    }
    let id = items[(pick % items.len() as u64) as usize];
    world.note(profile, || format!("{how:?} of entry {id}"));
    match how {
        Mend::Retry => drop(replica.retry(id, None).await),
        Mend::Edit => {
            let fine = Object::of(&Fields::from([("bad".to_owned(), Json::from(serde_json::Value::Bool(false)))]));
            drop(replica.retry(id, Some(fine)).await);
        }
        Mend::Discard => drop(replica.discard(id).await),
        Mend::Local | Mend::Server | Mend::Merged => {}
    }
}

pub async fn read(world: &Rc<World>, profile: usize, replica: &SimReplica) {
    look_at_some(world, profile, replica).await;
    let since = world.model.borrow_mut().tick();
    let start = world.model.borrow_mut().record.as_mut().map_or(0, export::Record::tick);
    if replica.refresh().await.is_ok() && replica.warm().await.is_ok() {
        checks::context(world, profile, replica, since);
        export::read(world, profile, replica, start);
    }
}

/// L5: where a part of the log is not read yet, a record looks as it does when it is, unless something changed meanwhile.
pub async fn look_at_some(world: &Rc<World>, profile: usize, replica: &SimReplica) {
    // Where a row of decisions can't be read, what it had ended is undecided again once its log row is read: only there the whole
    // log knows less.
    if !replica.is_cold() || !replica.db.borrow().unreadable().is_empty() {
        return;
    }
    let at = |replica: &SimReplica| {
        let db = replica.db.borrow();
        (db.client_text.clone(), db.manifest_text.clone(), db.log_key, db.quarantined.len())
    };
    let keys: BTreeSet<RecordKey> =
        world.model.borrow().profiles[profile].undecided().map(|(_, entry)| entry.key()).collect();
    let from = (world.exec.now_ms() % keys.len().max(1) as u64) as usize;
    let mut looks = Vec::new();
    for key in keys.into_iter().skip(from).take(4) {
        let before = at(replica);
        let (collection, scope, id) = (key.collection.as_str(), key.scope.as_str(), key.id.as_str());
        let seen = replica.get(collection, Some(scope), id).await;
        looks.extend(seen.ok().map(|seen| (key.clone(), before, seen)));
    }
    if replica.read_log().await.is_err() {
        return;
    }
    for (key, before, seen) in looks {
        let again = replica.get(key.collection.as_str(), Some(key.scope.as_str()), key.id.as_str()).await;
        if before == at(replica)
            && let Ok(again) = again
            && again != seen
        {
            let violate = || format!("profile {profile} saw {key:?} as {seen:?}, and with all of the log as {again:?}");
            world.model.borrow_mut().violate("L5", violate);
        }
    }
}
