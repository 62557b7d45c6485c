//! Reading: one record, or those of a collection that fit a condition, as JSON text.
//!
//! The base is searched by [`Search`]; records with something of this client's over their base are looked at here, and
//! both are put in order together. A record whose text needs no patch is handed out as the text it was pulled with.

use crate::Replica;
use crate::db::Db;
use crate::error::SyncError;
use crate::host::Host;
use crate::sync::Running;
use landfall_core::view::{self, RecordState};
use landfall_protocol::codec::{ToJson, write_string};
use landfall_protocol::map::sort;
use landfall_protocol::{AddAll, CollectionName, Listed, Object, Pair, RecordId, RecordKey, Scope, Set, Version};
use landfall_storage::PairRow;
use landfall_storage::query::explain::explain;
use landfall_storage::query::{Cursor, Filter};
use landfall_storage::search::{Hit, Over, Search, asked, plan_for, with_id};
use std::rc::Rc;

pub use landfall_storage::query::{Condition, Order, Query};

/// A found record: its place in the order, its JSON text with its id, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub place: Cursor,
    pub text: Rc<str>,
    pub state: RecordState,
    pub version: Version,
}

impl Row {
    pub(crate) fn write_meta(&self, out: &mut String) {
        out.push_str("[\"");
        out.push_str(self.state.as_str());
        out.push_str("\",");
        self.version.write(out);
        out.push(',');
        write_string(out, &self.place.scope);
        out.push(']');
    }
}

/// Found records, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    pub rows: Vec<Row>,
    /// Where the next page goes on; `None`: these are the last.
    pub next: Option<String>,
}

impl Rows {
    /// `{"rows":[…],"meta":[[state,version,scope],…],"next":…}`
    pub fn to_json(&self) -> String {
        let mut out = String::with_capacity(self.rows.iter().map(|row| row.text.len() + 64).sum());
        out.push('{');
        write_rows(&mut out, &self.rows);
        out.push_str(",\"next\":");
        self.next.write(&mut out);
        out.push('}');
        out
    }
}

/// `"rows":[…],"meta":[…]`
pub(crate) fn write_rows(out: &mut String, rows: &[Row]) {
    let mut mark = "\"rows\":[";
    for row in rows {
        out.push_str(mark);
        out.push_str(&row.text);
        mark = ",";
    }
    out.push_str(if rows.is_empty() { "\"rows\":[],\"meta\":[" } else { "],\"meta\":[" });
    for (at, row) in rows.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        row.write_meta(out);
    }
    out.push(']');
}

/// Answers by the text of their query, and the state that they are of: the texts of the two ordering rows, the end of the
/// log, and how many rows can't be read.
#[derive(Default)]
pub(crate) struct Kept {
    state: (Option<String>, Option<String>, u64, usize),
    answers: Vec<(String, Rc<str>)>,
}

/// So many answers are kept, each of so many bytes at most.
const KEPT_MAX: usize = 4;
const KEPT_BYTES_MAX: usize = 128 * 1024;

impl Kept {
    fn is_of(&self, db: &Db) -> bool {
        let (client, manifest, log_key, unreadable) = &self.state;
        *log_key == db.log_key
            && *unreadable == db.quarantined.len()
            && *client == db.client_text
            && *manifest == db.manifest_text
    }

    fn of(&self, db: &Db, text: &str) -> Option<Rc<str>> {
        let (_, json) = self.answers.iter().find(|(known, _)| known == text)?;
        self.is_of(db).then(|| Rc::clone(json))
    }

    fn keep(&mut self, db: &Db, text: &str, json: &Rc<str>) {
        if !self.is_of(db) {
            self.answers.clear();
            self.state = (db.client_text.clone(), db.manifest_text.clone(), db.log_key, db.quarantined.len());
        }
        if json.len() <= KEPT_BYTES_MAX {
            self.answers.truncate(KEPT_MAX - 1);
            self.answers.insert(0, (text.to_owned(), Rc::clone(json)));
        }
    }
}

/// True for records with something of this client's over their base.
pub(crate) fn is_over(db: &Db, key: &RecordKey) -> bool {
    db.state.lanes.contains_key(key) || db.state.settled_by_key.contains_key(key)
}

/// The view of one record as text. `None`: not there, or rows were missed.
pub(crate) fn seen_text(db: &Db, key: &RecordKey) -> Option<(Version, String)> {
    if db.is_cold(&key.collection, &key.id) {
        return None;
    }
    if !is_over(db, key) {
        let (block, slot) = db.base.held(key)?;
        return Some((block.version(slot), block.fields(slot)?.to_owned()));
    }
    let seen = view::view(&db.state, &db.base, key)?;
    if seen.deleted {
        return None;
    }
    Some((seen.version, seen.fields.text().to_owned()))
}

/// One record as a row, with its fields.
pub(crate) fn row_of(db: &Db, query: &Query, key: &RecordKey, version: Version, fields: &str) -> Row {
    Row {
        place: Cursor::of(&query.order, key.scope.as_str(), key.id.as_str(), fields),
        text: with_id(key.id.as_str(), fields),
        state: view::record_state(&db.state, &db.base, key),
        version,
    }
}

/// True for a record of the collection and scope that a query names.
pub(crate) fn asks(query: &Query, key: &RecordKey) -> bool {
    key.collection == query.collection && query.scope.as_ref().is_none_or(|asked| *asked == key.scope)
}

/// The records that a query asks for and that have something over their base, in no order.
fn changed<'a>(db: &'a Db, query: &Query) -> Vec<&'a RecordKey> {
    let state = &db.state;
    let settled = state.settled_by_key.keys().filter(|key| !state.lanes.contains_key(key));
    state.lanes.keys().chain(settled).filter(|key| asks(query, key)).listed()
}

impl<H: Host> Replica<H> {
    /// The scopes in which a record with this id may be seen.
    pub(crate) fn scopes_of(&self, db: &Db, collection: &CollectionName, id: &RecordId) -> Set<Scope> {
        let mut scopes: Set<Scope> = Set::new();
        scopes.extend(self.config.scope_of(collection, &Object::new()));
        let pairs = db.base.manifest.pairs.iter().map(|row| &row.pair).chain(db.cold_pairs());
        scopes.extend(pairs.filter(|pair| pair.1 == *collection).map(|pair| pair.0.clone()));
        db.state.each_scope(&mut |scope| {
            let key = RecordKey { scope: scope.clone(), collection: collection.clone(), id: id.clone() };
            if is_over(db, &key) {
                scopes.insert(key.scope);
            }
        });
        scopes
    }

    /// The scopes in which a record with this id is seen. Rows may be missed.
    fn scopes_with(&self, db: &Db, collection: &CollectionName, id: &RecordId) -> Vec<Scope> {
        if db.is_cold(collection, id) {
            return Vec::new();
        }
        let there = |scope: &Scope| {
            let key = RecordKey { scope: scope.clone(), collection: collection.clone(), id: id.clone() };
            view::view(&db.state, &db.base, &key).is_some_and(|seen| !seen.deleted)
        };
        self.scopes_of(db, collection, id).into_iter().filter(there).listed()
    }

    /// One record: `{"row":{…},"meta":[…]}`, or `None`.
    pub async fn get(&self, collection: &str, scope: Option<&str>, id: &str) -> Result<Option<String>, SyncError> {
        self.last_read.set(self.host.now().get());
        loop {
            self.check_open()?;
            let found = self.look(collection, scope, id);
            if !self.fetch_missed().await? {
                return found;
            }
        }
    }

    fn look(&self, collection: &str, scope: Option<&str>, id: &str) -> Result<Option<String>, SyncError> {
        let db = self.db.borrow();
        let (collection, id) = (CollectionName::from(collection), RecordId::from(id));
        let scope = match scope {
            Some(scope) => Scope::from(scope),
            None => {
                let mut scopes = self.scopes_with(&db, &collection, &id);
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
        let Some((version, text)) = seen_text(&db, &key) else { return Ok(None) };
        let row = row_of(&db, &Query::all(""), &key, version, &text);
        let mut out = String::with_capacity(row.text.len() + 64);
        out.push_str("{\"row\":");
        out.push_str(&row.text);
        out.push_str(",\"meta\":");
        row.write_meta(&mut out);
        out.push('}');
        Ok(Some(out))
    }

    /// The answer to a query's text, as [`Rows::to_json`] writes it. The last ones are kept as long as they are right: pages
    /// ask the same things again and again.
    pub async fn query_text(&self, text: &str) -> Result<Rc<str>, SyncError> {
        self.check_open()?;
        let known = self.kept.borrow().of(&self.db.borrow(), text);
        if let Some(known) = known {
            self.last_read.set(self.host.now().get());
            return Ok(known);
        }
        // Between the search's last look at the rows and this return nothing is awaited.
        let rows = self.query(&Query::parse(text)?).await?;
        let json = rows.to_json();
        // Of a large answer there are two copies at a time, and no third one.
        drop(rows);
        let json: Rc<str> = json.into();
        self.kept.borrow_mut().keep(&self.db.borrow(), text, &json);
        Ok(json)
    }

    /// The records that fit, in order. Without an order: by scope and id.
    pub async fn query(&self, query: &Query) -> Result<Rows, SyncError> {
        let mut rows = Rows::default();
        self.search(query, &mut rows).await?;
        Ok(rows)
    }

    /// How many records fit.
    pub async fn count(&self, query: &Query) -> Result<u64, SyncError> {
        let query = Query { count: true, limit: None, offset: 0, after: None, ..query.clone() };
        self.search(&query, &mut Rows::default()).await
    }

    /// How a query is carried out, as JSON; of several scopes, in the first one.
    pub fn explain(&self, query: &Query) -> Result<String, SyncError> {
        self.check_query(query)?;
        let db = self.db.borrow();
        let nothing = PairRow::new(Pair(Scope::from(""), query.collection.clone()));
        let row = asked(query, &db.base).next().unwrap_or(&nothing);
        let (plan, infos) = plan_for(query, row, &self.settings.schema);
        Ok(explain(query, &plan, &infos))
    }

    /// Errors: `closed`, `unknown_collection`.
    pub fn check_query(&self, query: &Query) -> Result<(), SyncError> {
        self.check_open()?;
        if self.config.collections.contains_key(&query.collection) {
            return Ok(());
        }
        let mut message = String::from("No such collection was declared at open: ");
        message.push_str(query.collection.as_str());
        Err(SyncError::new("unknown_collection", message))
    }

    async fn search(&self, query: &Query, rows: &mut Rows) -> Result<u64, SyncError> {
        self.check_query(query)?;
        let _reading = Running::begin(&self.reading);
        // Which records have changes is known when all of the log is.
        let is_cold = self.db.borrow().cold_pairs().iter().any(|pair| pair.1 == query.collection);
        if is_cold {
            self.read_log().await?;
        }
        let schema = &self.settings.schema;
        let mut search = Search::new(query.clone(), &self.db.borrow().base, schema);
        let mut known = self.db.borrow().state.over;
        loop {
            self.check_open()?;
            let count = {
                let db = self.db.borrow();
                let state = &db.state;
                // Between two steps a write came in, and its record was counted as the base has it; or the last of one
                // went, and its record was passed over.
                if known.left != state.over.left || (query.count && known != state.over) {
                    search = Search::new(query.clone(), &db.base, schema);
                }
                known = state.over;
                let over = |pair: &Pair, id: &str| {
                    let is_settled = || {
                        let (scope, collection) = (pair.0.clone(), pair.1.clone());
                        state.settled_by_key.contains_key(&RecordKey { scope, collection, id: RecordId::from(id) })
                    };
                    state.lanes.has(&pair.0, &pair.1, id) || (!state.settled_by_key.is_empty() && is_settled())
                };
                let is_found = search.step(&db.base, schema, &over).is_ok();
                if is_found { complete(&db, query, &search, &over, rows) } else { 0 }
            };
            if !self.fetch_missed().await? {
                self.last_read.set(self.host.now().get());
                return Ok(count);
            }
        }
    }
}

/// Puts the base's records and those with something over it together, and makes their texts. Rows may be missed.
fn complete(db: &Db, query: &Query, search: &Search, over: Over<'_>, rows: &mut Rows) -> u64 {
    let changed = changed(db, query);
    let mut filter = Filter::new(&query.conditions);
    let mut count = search.count;
    let mut found: Vec<Hit> = Vec::new();
    for key in &changed {
        let Some((version, text)) = seen_text(db, key) else { continue };
        if !filter.matches(key.id.as_str(), &text) {
            continue;
        }
        count += 1;
        if query.count {
            continue;
        }
        let place = Cursor::of(&query.order, key.scope.as_str(), key.id.as_str(), &text);
        if search.is_past(&place) {
            found.push(Hit { place, at: None, taken: Some((version, with_id(key.id.as_str(), &text))) });
        }
    }
    if query.count {
        return count;
    }
    for hit in &search.found {
        let pair = Pair(Scope::from(hit.place.scope.as_str()), query.collection.clone());
        if changed.is_empty() || !over(&pair, &hit.place.id) {
            found.push(hit.clone());
        }
    }
    if !changed.is_empty() {
        sort(&mut found, &|a, b| a.place.compare(&b.place, &query.order));
    }
    let end = query.limit.map_or(usize::MAX, |limit| query.offset.saturating_add(limit));
    let is_full = found.len() >= end;
    found.truncate(end);
    // All that is missing is asked for before the first text is made.
    for hit in found.iter().skip(query.offset) {
        if let Some(at) = hit.at.filter(|_| hit.taken.is_none()) {
            let _ = db.base.block(at.segment);
        }
    }
    rows.rows = Vec::new();
    if db.base.is_missing() {
        return 0;
    }
    let is_plain = db.state.parked_by_key.is_empty();
    let row = |hit: Hit| {
        let Hit { place, at, taken } = hit;
        let late = || {
            let at = at?;
            let block = db.base.block(at.segment).ok()??;
            let slot = at.slot as usize;
            Some((block.version(slot), with_id(&place.id, block.fields(slot)?)))
        };
        let (version, text) = taken.or_else(late)?;
        let mut state = RecordState::Synced;
        if at.is_none() || !is_plain {
            let (scope, id) = (Scope::from(place.scope.as_str()), RecordId::from(place.id.as_str()));
            let collection = query.collection.clone();
            state = view::record_state(&db.state, &db.base, &RecordKey { scope, collection, id });
        }
        Some(Row { place, text, state, version })
    };
    for hit in found.into_iter().skip(query.offset) {
        rows.rows.add_all(row(hit));
    }
    rows.next = match rows.rows.last() {
        Some(last) if is_full => Some(last.place.to_text(query)),
        _ => None,
    };
    count
}
