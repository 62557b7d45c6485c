//! `POST /api/v1/sync/pull`, `POST /api/v1/sync/push`, `GET /api/v1/sync/status`: forms and what stores fill in.
//!
//! A timestamp that a pull answered stands for the cursor that the pull ended at, kept for that device: later pulls go on
//! there, whatever any clock says. A pushed record's author has seen what that cursor covers, and what the device
//! wrote itself. A timestamp that nobody knows covers nothing: everything is sent again, and the policy decides.

mod cursor;

use super::{Class, Judged, Sender, Sent, check_count, check_device, sent, time};
use crate::auth::Identity;
use crate::body::read_json;
use crate::devices::active_since;
use crate::error::ServerError;
use crate::rate::Kind;
use crate::routes::{Admitted, App, Shared, with_allowance};
use crate::service::now;
use crate::store::{Answered, Store, StoreError, Transaction};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};
use cursor::{Changes, Covered};
use landfall_protocol::{CollectionName, PROTOCOL, PullRequest, Scope, UnixMillis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const TABLES: [&str; 9] = [
    "forms",
    "form_sections",
    "fields",
    "form_templates",
    "submissions",
    "submission_answers",
    "team",
    "kpi_data",
    "settings",
];
/// The version of the document's API.
const API_VERSION: &str = "1.0.0";
/// Rows of a page of the pull below.
const PAGE: u32 = 1_000;

pub fn router() -> Router<Shared> {
    Router::new()
        .route("/api/v1/sync/pull", post(pull))
        .route("/api/v1/sync/push", post(push))
        .route("/api/v1/sync/status", get(status))
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "InsightPullRequest")]
pub struct PullAsked {
    device_id: String,
    #[serde(default)]
    last_sync_timestamp: Option<String>,
    tables: Vec<String>,
}

type ByTable = BTreeMap<String, Vec<Value>>;

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "InsightPullResponse")]
pub struct PullAnswer {
    pub success: bool,
    pub timestamp: String,
    pub changes: ByTable,
    /// Always null: a pull has none.
    pub conflicts: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub has_more: bool,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "InsightPushRequest")]
pub struct PushAsked {
    device_id: String,
    #[serde(default)]
    timestamp: Option<String>,
    changes: BTreeMap<String, Vec<Value>>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "InsightPushResponse")]
pub struct PushAnswer {
    pub success: bool,
    pub timestamp: String,
    /// The records as the server has them now.
    pub applied: ByTable,
    pub conflicts: Vec<Conflict>,
    /// Records that cannot be stored, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Value>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "InsightConflict")]
pub struct Conflict {
    pub table: String,
    pub record_id: String,
    pub client_data: Value,
    pub server_data: Value,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "InsightStatus")]
pub struct StatusAnswer {
    pub status: &'static str,
    pub timestamp: String,
    pub version: &'static str,
    pub tables: Vec<&'static str>,
    pub active_devices: usize,
    pub last_sync: BTreeMap<String, String>,
}

async fn pull(State(app): State<Shared>, headers: HeaderMap, body: Body) -> Result<Response, ServerError> {
    let asked: PullAsked = read_json(&headers, body).await?;
    let Admitted { identity, allowance } = app.admit(&headers, Kind::Insight)?;
    Ok(with_allowance(allowance, app.pull_insight(identity, asked).await.map(axum::Json)))
}

async fn push(State(app): State<Shared>, headers: HeaderMap, body: Body) -> Result<Response, ServerError> {
    let asked: PushAsked = read_json(&headers, body).await?;
    let Admitted { identity, allowance } = app.admit(&headers, Kind::Insight)?;
    Ok(with_allowance(allowance, app.push_insight(identity, asked).await.map(axum::Json)))
}

impl App {
    async fn pull_insight(&self, identity: Identity, asked: PullAsked) -> Result<PullAnswer, ServerError> {
        let PullAsked { device_id: device, last_sync_timestamp, tables } = asked;
        check_device(&device)?;
        let known: Vec<CollectionName> =
            TABLES.into_iter().filter(|table| tables.iter().any(|asked| asked == table)).map(Into::into).collect();
        let since = last_sync_timestamp.as_deref().map(moment).transpose()?;
        let collections = Arc::clone(self.service.collections());
        let (reader, name) = (identity.clone(), device.clone());
        let read = self.service.store().read(move |db| {
            let cursor = match since {
                Some(since) => db.compat_cursor(&reader.sub, &name, since)?,
                None => None,
            };
            let device = super::client_of(&reader.sub, &name);
            let asked = PullRequest {
                protocol: PROTOCOL,
                user: reader.sub.clone(),
                client_id: device,
                cursor,
                collections: known.clone(),
                limit: PAGE,
                resync: Vec::new(),
            };
            Changes::read(db, &reader, asked, since.is_some(), &collections)
        });
        let changes = read.await?;
        let count = changes.records.len();
        let (cursor, client) = (changes.cursor.clone(), super::client_of(&identity.sub, &device));
        let (note, name) = (self.note_of(&identity), device.clone());
        let issued = self.service.store().write(move |db| {
            let at = now();
            note.write(db, &name, at)?;
            db.note_pull(&note.sub, &client, at)?;
            Ok::<_, ServerError>(db.issue_compat_cursor(&note.sub, &name, at, Answered::Pull, Some(&cursor))?)
        });
        let timestamp = time::format(issued.await?);
        tracing::info!(device, ?tables, changes = count, has_more = changes.has_more, "Sync pull");
        let has_more = changes.has_more;
        Ok(PullAnswer { success: true, timestamp, changes: changes.by_table(), conflicts: None, has_more })
    }

    async fn push_insight(&self, identity: Identity, asked: PushAsked) -> Result<PushAnswer, ServerError> {
        let PushAsked { device_id: device, timestamp, changes } = asked;
        check_device(&device)?;
        check_count(changes.values().map(Vec::len).sum())?;
        let seen_at = timestamp.as_deref().map(moment).transpose()?;
        let mut records: Vec<(String, Value)> = Vec::new();
        // Parents before what refers to them: the order of the document's list of tables.
        let order = |table: &str| TABLES.iter().position(|known| *known == table).unwrap_or(TABLES.len());
        let mut tables: Vec<(String, Vec<Value>)> = changes.into_iter().collect();
        tables.sort_by_key(|(table, _)| order(table));
        for (table, rows) in tables {
            records.extend(rows.into_iter().map(|row| (table.clone(), row)));
        }
        let read = records
            .iter()
            .map(|(table, record)| {
                // A table of another system is as little here as one that does not exist.
                let name = if TABLES.contains(&table.as_str()) { table } else { "" };
                sent(name, record.clone())
            })
            .collect::<Result<Vec<Sent>, _>>()?;
        let collections = Arc::clone(self.service.collections());
        let note = self.note_of(&identity);
        let sender = Sender { identity, device: device.clone(), now: now() };
        let judged = self.service.store().write(move |db| {
            let (sub, device) = (&sender.identity.sub, &sender.device);
            let cursor = match seen_at {
                Some(at) => db.compat_cursor(sub, device, at)?,
                None => None,
            };
            let bases = Covered::of(db, cursor.as_deref())?;
            let judged =
                read.iter().map(|sent| sender.send(db, &collections, sent, &bases)).collect::<Result<Vec<_>, _>>()?;
            note.write(db, device, sender.now)?;
            // What the device has seen is the same after its push: the new timestamp stands for the same cursor.
            let at = db.issue_compat_cursor(sub, device, sender.now, Answered::Push, cursor.as_deref())?;
            Ok::<_, ServerError>((at, judged))
        });
        let (at, judged) = judged.await?;
        let mut answer = PushAnswer {
            success: true,
            timestamp: time::format(at),
            applied: ByTable::new(),
            conflicts: Vec::new(),
            errors: Vec::new(),
        };
        for ((table, record), judged) in records.into_iter().zip(judged) {
            answer.add(&device, table, record, &judged);
        }
        let (applied, conflicts) = (answer.applied.values().map(Vec::len).sum(), answer.conflicts.len());
        let errors = answer.errors.len();
        let metrics = self.service.metrics();
        for (class, count) in [("synced", applied), ("conflicts", conflicts), ("errors", errors)] {
            metrics.compat("insight", class, count);
        }
        tracing::info!(device, applied, conflicts, errors, "Sync push");
        Ok(answer)
    }

    /// Whose sync is to be noted, and where.
    fn note_of(&self, identity: &Identity) -> Note {
        let collections = self.service.collections();
        let held =
            |scope: &&Scope| TABLES.iter().any(|table| collections.readable(&(*table).into(), scope, &identity.roles));
        Note { sub: identity.sub.clone(), scopes: identity.scopes.iter().filter(held).cloned().collect() }
    }
}

/// A sync of a device is known to all who hold one of its scopes.
struct Note {
    sub: String,
    scopes: Vec<Scope>,
}

impl Note {
    fn write(&self, db: &dyn Transaction, device: &str, at: UnixMillis) -> Result<(), StoreError> {
        self.scopes.iter().try_for_each(|scope| db.note_compat_sync(scope, &self.sub, device, at))
    }
}

/// A timestamp of a request.
fn moment(text: &str) -> Result<UnixMillis, ServerError> {
    time::parse(text)
        .ok_or_else(|| ServerError::Malformed("a timestamp is a date and time such as 2025-12-18T11:00:00Z".to_owned()))
}

impl PushAnswer {
    fn add(&mut self, device: &str, table: String, record: Value, judged: &Judged) {
        let server = || judged.server_record().map_or(Value::Null, Value::Object);
        let id = judged.id.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default();
        match judged.class() {
            Class::Synced => self.applied.entry(table).or_default().push(server()),
            Class::Conflict => {
                tracing::warn!(device, table, record_id = id, "Conflict detected");
                self.conflicts.push(Conflict { table, record_id: id, client_data: record, server_data: server() });
            }
            Class::Error => {
                let mut error = judged.error();
                error.insert("record_id".to_owned(), if id.is_empty() { record["id"].clone() } else { json!(id) });
                error.insert("table".to_owned(), json!(table));
                self.errors.push(Value::Object(error));
            }
        }
    }
}

async fn status(State(app): State<Shared>, headers: HeaderMap) -> Result<Response, ServerError> {
    let Admitted { identity, allowance } = app.admit(&headers, Kind::Insight)?;
    let collections = Arc::clone(app.service.collections());
    let answer = app.service.store().read(move |db| {
        let at = now();
        let is_readable = |table: &&str| {
            identity.scopes.iter().any(|scope| collections.readable(&(**table).into(), scope, &identity.roles))
        };
        let tables: Vec<&'static str> = TABLES.into_iter().filter(is_readable).collect();
        let mut newest: BTreeMap<String, UnixMillis> = BTreeMap::new();
        for scope in &identity.scopes {
            for (device, last_sync) in db.compat_devices(scope)? {
                let known = newest.entry(device).or_default();
                *known = (*known).max(last_sync);
            }
        }
        let active_devices = newest.values().filter(|last_sync| **last_sync >= active_since(at)).count();
        let last_sync = newest.into_iter().map(|(device, last_sync)| (device, time::format(last_sync))).collect();
        Ok::<_, ServerError>(StatusAnswer {
            status: "online",
            timestamp: time::format(at),
            version: API_VERSION,
            tables,
            active_devices,
            last_sync,
        })
    });
    Ok(with_allowance(allowance, answer.await.map(axum::Json)))
}
