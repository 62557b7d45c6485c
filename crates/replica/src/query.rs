//! Reading: one record, or those of a collection that fit a condition, as JSON text.
//!
//! A record whose text needs no patch is handed out as the text it was pulled with.

use crate::Replica;
use crate::db::Db;
use crate::error::SyncError;
use crate::host::Host;
use landfall_core::view::{self, RecordState};
use landfall_protocol::codec::{FromJson, Reader, to_json};
use landfall_protocol::map::sorted;
use landfall_protocol::{CollectionName, Fields, Json, Pair, RecordId, RecordKey, Scope, Set, Value, Version};
use landfall_storage::query::Cursor;
use std::borrow::Cow;
use std::cmp::Ordering;

pub use landfall_storage::query::{Condition, Order, Query};

/// Found records: each as JSON text with its id, and its state, version and scope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    pub rows: Vec<String>,
    pub meta: Vec<(RecordState, Version, Scope)>,
}

impl Rows {
    /// `{"rows":[…],"meta":[[state,version,scope],…]}`
    pub fn to_json(&self) -> String {
        let mut json = String::from("{\"rows\":[");
        json.push_str(&self.rows.join(","));
        json.push_str("],\"meta\":[");
        for (index, meta) in self.meta.iter().enumerate() {
            if index > 0 {
                json.push(',');
            }
            json.push_str(&meta_json(meta));
        }
        json.push_str("]}");
        json
    }
}

fn meta_json((state, version, scope): &(RecordState, Version, Scope)) -> String {
    format!("[\"{}\",{},{}]", state.as_str(), version, Json::string(scope.as_str()).text())
}

/// A record's JSON with its id in front: `{"id":"…",…}`.
fn with_id(id: &RecordId, fields: &str) -> String {
    let mut json = String::with_capacity(fields.len() + id.as_str().len() + 10);
    json.push_str("{\"id\":");
    json.push_str(Json::string(id.as_str()).text());
    let rest = fields.trim_start().strip_prefix('{').unwrap_or("}").trim_start();
    if !rest.starts_with('}') {
        json.push(',');
    }
    json.push_str(rest);
    json
}

/// The view of one record as text. `None`: not there.
fn seen_text(db: &Db, key: &RecordKey) -> Option<(Version, String)> {
    let plain = !db.state.lanes.contains_key(key) && !db.state.settled_by_key.contains_key(key);
    if plain {
        let held = db.base.held(key)?;
        return Some((held.version, held.fields.as_ref()?.text().to_owned()));
    }
    let seen = view::view(&db.state, &db.base, key)?;
    if seen.deleted {
        return None;
    }
    Some((seen.version, to_json(&seen.fields)))
}

impl<H: Host> Replica<H> {
    /// The scopes in which a record with this id is seen.
    pub(crate) fn scopes_with(&self, collection: &CollectionName, id: &RecordId) -> Vec<Scope> {
        let db = self.db.borrow();
        let scopes = self.scopes_of(&db, collection);
        let there = |scope: &Scope| {
            let key = RecordKey { scope: scope.clone(), collection: collection.clone(), id: id.clone() };
            view::view(&db.state, &db.base, &key).is_some_and(|seen| !seen.deleted) || self.is_queued(&key)
        };
        scopes.into_iter().filter(there).collect()
    }

    fn is_queued(&self, key: &RecordKey) -> bool {
        self.queued.borrow().contains_key(key)
    }

    fn scopes_of(&self, db: &Db, collection: &CollectionName) -> Set<Scope> {
        let mut scopes: Set<Scope> = Set::new();
        scopes.extend(self.config.scope_of(collection, &Fields::new()));
        scopes.extend(db.base.pairs.keys().filter(|pair| pair.1 == *collection).map(|pair| pair.0.clone()));
        scopes.extend(db.state.lanes.keys().filter(|key| key.collection == *collection).map(|key| key.scope.clone()));
        scopes.extend(
            db.state.settled_by_key.keys().filter(|key| key.collection == *collection).map(|key| key.scope.clone()),
        );
        scopes
    }

    /// One record: `{"row":{…},"meta":[…]}`, or `None`.
    pub fn get(&self, collection: &str, scope: Option<&str>, id: &str) -> Result<Option<String>, SyncError> {
        self.check_open()?;
        let collection = CollectionName::from(collection);
        let id = RecordId::from(id);
        let scope = match scope {
            Some(scope) => Scope::from(scope),
            None => {
                let mut scopes = self.scopes_with(&collection, &id);
                match (scopes.pop(), scopes.is_empty()) {
                    (Some(scope), true) => scope,
                    (Some(_), false) => {
                        return Err(SyncError::new(
                            "ambiguous_id",
                            "Two scopes have a record with this id; name the scope.",
                        ));
                    }
                    (None, _) => return Ok(None),
                }
            }
        };
        let key = RecordKey { scope, collection, id };
        let db = self.db.borrow();
        Ok(seen_text(&db, &key).map(|(version, text)| {
            let state = view::record_state(&db.state, &db.base, &key);
            format!(
                "{{\"row\":{},\"meta\":{}}}",
                with_id(&key.id, &text),
                meta_json(&(state, version, key.scope.clone()))
            )
        }))
    }

    /// The records that fit, in order. Without an order: by id. All of them: `count` is not looked at.
    pub fn query(&self, query: &Query) -> Result<Rows, SyncError> {
        self.check_open()?;
        if !self.config.collections.contains_key(&query.collection) {
            return Err(SyncError::new(
                "unknown_collection",
                format!("No collection {} was declared at open.", query.collection),
            ));
        }
        let db = self.db.borrow();
        let asked = |scope: &Scope, collection: &CollectionName| {
            *collection == query.collection && query.scope.as_ref().is_none_or(|asked| asked == scope)
        };
        // Records with something of this client's over their base; all others are handed out as they were pulled.
        let changed = db.state.lanes.keys().chain(db.state.settled_by_key.keys());
        let changed: Set<&RecordKey> = changed.filter(|key| asked(&key.scope, &key.collection)).collect();
        let changed_ids: Set<&RecordId> = changed.iter().map(|key| &key.id).collect();
        let wanted = query.fields();
        let mut found: Vec<Found<'_>> = Vec::new();
        let mut look = |scope, id, version, text: Cow<'_, str>| {
            let sort = match wanted.is_empty() {
                true => Vec::new(),
                false => {
                    let fields = pick(&wanted, id, &text);
                    if !query.conditions.iter().all(|(name, condition)| condition.holds(fields.of(name))) {
                        return;
                    }
                    query.order.iter().map(|order| fields.of(&order.field).clone()).collect()
                }
            };
            if was_shown(query, scope, id, &text) {
                return;
            }
            // A patched text is made again for the rows that are left in the end: most of a long answer is not.
            found.push(Found { sort, scope, id, version });
        };
        for (Pair(scope, collection), base) in &db.base.pairs {
            if !asked(scope, collection) {
                continue;
            }
            for (id, held) in &base.records {
                let Some(fields) = &held.fields else { continue };
                // Its id alone says most of the time that nothing is over it.
                let key = || RecordKey { scope: scope.clone(), collection: collection.clone(), id: id.clone() };
                let over = changed_ids.contains(&id) && changed.contains(&&key());
                if !over {
                    look(scope, id, held.version, Cow::Borrowed(fields.text()));
                }
            }
        }
        for key in &changed {
            if let Some((version, text)) = seen_text(&db, key) {
                look(&key.scope, &key.id, version, Cow::Owned(text));
            }
        }
        let found = sorted(found, &|a, b| {
            let by = query.order.iter().zip(a.sort.iter().zip(&b.sort)).map(|(order, (a, b))| {
                let way = a.compare(b);
                if order.descending { way.reverse() } else { way }
            });
            by.fold(Ordering::Equal, Ordering::then).then_with(|| (a.scope, a.id).cmp(&(b.scope, b.id)))
        });
        let mut rows = Rows::default();
        for Found { scope, id, version, .. } in
            found.into_iter().skip(query.offset).take(query.limit.unwrap_or(usize::MAX))
        {
            let key = RecordKey { scope: scope.clone(), collection: query.collection.clone(), id: id.clone() };
            let Some((_, text)) = seen_text(&db, &key) else { continue };
            rows.rows.push(with_id(id, &text));
            let state = view::record_state(&db.state, &db.base, &key);
            rows.meta.push((state, version, key.scope));
        }
        Ok(rows)
    }
}

/// A record that fits, before its text is made.
struct Found<'a> {
    sort: Vec<Value>,
    scope: &'a Scope,
    id: &'a RecordId,
    version: Version,
}

/// The fields of one record that a query looks at.
struct Picked<'a>(Vec<(&'a str, Value)>);

impl Picked<'_> {
    fn of(&self, name: &str) -> &Value {
        self.0.iter().find(|(known, _)| *known == name).map_or(&Value::Null, |(_, value)| value)
    }
}

fn pick<'a>(wanted: &[&'a str], id: &RecordId, text: &str) -> Picked<'a> {
    let mut picked = Picked(wanted.iter().map(|name| (*name, Value::Null)).collect());
    // A record is an object; of anything else no field is there.
    Reader::new(text).object(&mut |key, from| match picked.0.iter_mut().find(|(known, _)| *known == key) {
        Some((_, value)) => value.fill(from),
        None => from.skip(),
    });
    if let Some((_, value)) = picked.0.iter_mut().find(|(known, _)| *known == "id") {
        *value = Value::String(id.as_str().to_owned());
    }
    picked
}

/// Whether a record was on an earlier page: it is not behind the place that the query goes on from.
fn was_shown(query: &Query, scope: &Scope, id: &RecordId, text: &str) -> bool {
    query.after.as_ref().is_some_and(|after| {
        let place = Cursor::of(&query.order, scope.as_str(), id.as_str(), text);
        after.compare(&place, &query.order).is_ge()
    })
}
