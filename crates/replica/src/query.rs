//! Reading: one record, or those of a collection that fit a condition, as JSON text.
//!
//! A record whose text needs no patch is handed out as the text it was pulled with.

use crate::Replica;
use crate::db::Db;
use crate::error::SyncError;
use crate::host::Host;
use landfall_core::view::{self, RecordState};
use landfall_protocol::{CollectionName, Fields, Json, Map, RecordId, RecordKey, Scope, Set, Version};
use serde::Deserialize;
use serde_json::Value;
use std::cmp::Ordering;

/// What a field must be. All given parts hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    #[serde(default, rename = "eq", deserialize_with = "some")]
    pub equal: Option<Value>,
    #[serde(default, rename = "in")]
    pub one_of: Option<Vec<Value>>,
    #[serde(default)]
    pub gt: Option<Value>,
    #[serde(default)]
    pub gte: Option<Value>,
    #[serde(default)]
    pub lt: Option<Value>,
    #[serde(default)]
    pub lte: Option<Value>,
    #[serde(default)]
    pub prefix: Option<String>,
}

/// `eq: null` asks for null; a missing `eq` asks for nothing.
fn some<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// One key of the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub field: String,
    pub descending: bool,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    pub collection: CollectionName,
    pub scope: Option<Scope>,
    pub conditions: Vec<(String, Condition)>,
    pub order: Vec<Order>,
    pub limit: Option<usize>,
    pub offset: usize,
}

impl Query {
    /// All of a collection.
    pub fn all(collection: &str) -> Self {
        Self {
            collection: CollectionName::from(collection),
            scope: None,
            conditions: Vec::new(),
            order: Vec::new(),
            limit: None,
            offset: 0,
        }
    }

    /// Reads `{collection, scope?, where?, orderBy?, limit?, offset?}`.
    pub fn parse(text: &str) -> Result<Self, SyncError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Raw {
            collection: CollectionName,
            scope: Option<Scope>,
            #[serde(default, rename = "where")]
            conditions: Map<String, Value>,
            order_by: Option<Value>,
            limit: Option<usize>,
            offset: Option<usize>,
        }
        let wrong = |message: String| SyncError::new("invalid_options", message);
        let raw: Raw = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let mut conditions = Vec::new();
        for (field, value) in raw.conditions {
            let condition = match value {
                Value::Object(_) => serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?,
                plain => Condition { equal: Some(plain), ..Condition::default() },
            };
            conditions.push((field, condition));
        }
        let order = match raw.order_by {
            None => Vec::new(),
            Some(Value::String(field)) => vec![Order { field, descending: false }],
            Some(other) => {
                let keys: Vec<(String, String)> =
                    serde_json::from_value(other).map_err(|error| wrong(error.to_string()))?;
                keys.into_iter().map(|(field, way)| Order { field, descending: way == "desc" }).collect()
            }
        };
        Ok(Self {
            collection: raw.collection,
            scope: raw.scope,
            conditions,
            order,
            limit: raw.limit,
            offset: raw.offset.unwrap_or(0),
        })
    }
}

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
    Some((seen.version, serde_json::to_string(&seen.fields).unwrap_or_default()))
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

    /// The records that fit, in order. Without an order: by id.
    pub fn query(&self, query: &Query) -> Result<Rows, SyncError> {
        self.check_open()?;
        if !self.config.collections.contains_key(&query.collection) {
            return Err(SyncError::new(
                "unknown_collection",
                format!("No collection {} was declared at open.", query.collection),
            ));
        }
        let db = self.db.borrow();
        let mut keys: Set<RecordKey> = Set::new();
        for (pair, base) in &db.base.pairs {
            if pair.1 == query.collection && query.scope.as_ref().is_none_or(|scope| *scope == pair.0) {
                let live = base.records.iter().filter(|(_, held)| held.fields.is_some());
                keys.extend(live.map(|(id, _)| RecordKey {
                    scope: pair.0.clone(),
                    collection: pair.1.clone(),
                    id: id.clone(),
                }));
            }
        }
        let changed = db.state.lanes.keys().chain(db.state.settled_by_key.keys());
        keys.extend(
            changed
                .filter(|key| key.collection == query.collection)
                .filter(|key| query.scope.as_ref().is_none_or(|scope| *scope == key.scope))
                .cloned(),
        );
        let mut found: Vec<(Vec<Value>, RecordKey, Version, String)> = Vec::new();
        for key in keys {
            let Some((version, text)) = seen_text(&db, &key) else { continue };
            let mut sort = Vec::new();
            if !query.conditions.is_empty() || !query.order.is_empty() {
                let fields: Map<&str, Json> = match serde_json::from_str(&text) {
                    Ok(fields) => fields,
                    // A field name with an escape can't be borrowed; read it the long way.
                    Err(_) => {
                        let owned: Fields = serde_json::from_str(&text).unwrap_or_default();
                        if !fits(&query.conditions, &key.id, |name| owned.get(name).map(Json::value)) {
                            continue;
                        }
                        sort.extend(
                            query.order.iter().map(|order| sort_value(&key.id, owned.get(&order.field), &order.field)),
                        );
                        found.push((sort, key, version, text));
                        continue;
                    }
                };
                if !fits(&query.conditions, &key.id, |name| fields.get(name).map(Json::value)) {
                    continue;
                }
                sort.extend(
                    query.order.iter().map(|order| sort_value(&key.id, fields.get(order.field.as_str()), &order.field)),
                );
            }
            found.push((sort, key, version, text));
        }
        if !query.order.is_empty() {
            found.sort_by(|a, b| {
                let by = query.order.iter().zip(a.0.iter().zip(&b.0)).map(|(order, (a, b))| {
                    let way = compare(a, b);
                    if order.descending { way.reverse() } else { way }
                });
                by.fold(Ordering::Equal, Ordering::then).then_with(|| a.1.cmp(&b.1))
            });
        }
        let mut rows = Rows::default();
        for (_, key, version, text) in found.into_iter().skip(query.offset).take(query.limit.unwrap_or(usize::MAX)) {
            rows.rows.push(with_id(&key.id, &text));
            let state = view::record_state(&db.state, &db.base, &key);
            rows.meta.push((state, version, key.scope));
        }
        Ok(rows)
    }
}

fn sort_value(id: &RecordId, value: Option<&Json>, field: &str) -> Value {
    if field == "id" {
        return Value::String(id.as_str().to_owned());
    }
    value.map_or(Value::Null, Json::value)
}

fn fits(conditions: &[(String, Condition)], id: &RecordId, value: impl Fn(&str) -> Option<Value>) -> bool {
    conditions.iter().all(|(name, condition)| {
        let value = if name == "id" { Some(Value::String(id.as_str().to_owned())) } else { value(name) };
        holds(condition, &value.unwrap_or(Value::Null))
    })
}

fn holds(condition: &Condition, value: &Value) -> bool {
    let equal = condition.equal.as_ref().is_none_or(|wanted| compare(value, wanted) == Ordering::Equal);
    let one_of =
        condition.one_of.as_ref().is_none_or(|all| all.iter().any(|wanted| compare(value, wanted) == Ordering::Equal));
    // Ranges compare values of one kind only: null is not less than 5.
    let comparable = |wanted: &Value| rank(value) == rank(wanted);
    let range = |wanted: &Option<Value>, holds: fn(Ordering) -> bool| {
        wanted.as_ref().is_none_or(|wanted| comparable(wanted) && holds(compare(value, wanted)))
    };
    let prefix =
        condition.prefix.as_ref().is_none_or(|prefix| value.as_str().is_some_and(|text| text.starts_with(prefix)));
    equal
        && one_of
        && prefix
        && range(&condition.gt, Ordering::is_gt)
        && range(&condition.gte, Ordering::is_ge)
        && range(&condition.lt, Ordering::is_lt)
        && range(&condition.lte, Ordering::is_le)
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

/// Total order of JSON values: null, false, true, numbers, strings, lists, objects.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().unwrap_or(0.0).partial_cmp(&b.as_f64().unwrap_or(0.0)).unwrap_or(Ordering::Equal)
        }
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let differ = a.iter().zip(b).map(|(a, b)| compare(a, b)).find(|way| way.is_ne());
            differ.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            if a == b {
                Ordering::Equal
            } else {
                serde_json::to_string(a).ok().cmp(&serde_json::to_string(b).ok())
            }
        }
        _ => rank(a).cmp(&rank(b)),
    }
}
