//! `POST /api/desktop/sync/ecr-scores`, `POST /api/desktop/sync/running-grades`, `GET /api/desktop/sync/status`.
//!
//! The newest `updated_at` wins, clamped to the server's clock: a record that is newer than the server's stands on it, any
//! other one meets it as a stranger. What the server answers as `updated_at` is the stamp that it kept.

use super::{Bases, Class, Judged, Sender, Sent, There, check_count, check_device, sent, time};
use crate::auth::Identity;
use crate::body::read_json;
use crate::error::ServerError;
use crate::rate::Kind;
use crate::routes::{Admitted, App, Shared, with_allowance};
use crate::service::now;
use crate::store::{LostRow, Store, StoreError, Transaction};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};
use landfall_protocol::limits::HLC_AHEAD_MS_MAX;
use landfall_protocol::{UnixMillis, Version};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

const SCORES: &str = "student_ecr_item_scores";
const GRADES: &str = "student_running_grades";
/// The document names no devices: who does not either is this one.
const DEVICE: &str = "desktop";
const DEVICE_HEADER: &str = "x-device-id";
/// Conflicts that the status shows, and losses that are looked through for them.
const CONFLICTS_MAX: usize = 100;
const LOST_READ_MAX: u32 = 500;

pub fn router() -> Router<Shared> {
    Router::new()
        .route("/api/desktop/sync/ecr-scores", post(scores))
        .route("/api/desktop/sync/running-grades", post(grades))
        .route("/api/desktop/sync/status", get(status))
}

/// An array of records; or one under `records`.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "GradesRequest")]
pub enum SyncRequest {
    Records(Vec<Value>),
    Named { records: Vec<Value> },
}

/// What became of the records, in the words of the document.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "GradesResponse")]
pub struct SyncResponse {
    pub success: bool,
    /// The records as the server has them now, with its timestamps.
    pub synced: Vec<Value>,
    /// The server's record was newer and stays.
    pub conflicts: Vec<Conflict>,
    pub errors: Vec<Value>,
    pub last_sync_timestamp: String,
}

/// A record that lost.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "GradesConflict")]
pub struct Conflict {
    pub table_name: String,
    pub record_id: String,
    pub local: Value,
    pub server: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detected_at: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "GradesStatus")]
pub struct StatusResponse {
    /// Null before the first sync.
    pub last_sync_timestamp: Option<String>,
    pub conflicts: Vec<Conflict>,
}

async fn scores(app: State<Shared>, headers: HeaderMap, body: Body) -> Result<Response, ServerError> {
    sync(app, headers, body, SCORES).await
}

async fn grades(app: State<Shared>, headers: HeaderMap, body: Body) -> Result<Response, ServerError> {
    sync(app, headers, body, GRADES).await
}

async fn sync(
    State(app): State<Shared>,
    headers: HeaderMap,
    body: Body,
    table: &'static str,
) -> Result<Response, ServerError> {
    let request: SyncRequest = read_json(&headers, body).await?;
    let Admitted { identity, allowance } = app.admit(&headers, Kind::Grades)?;
    let answer = app.sync_grades(identity, device_of(&headers), request, table).await.map(axum::Json);
    Ok(with_allowance(allowance, answer))
}

/// The device's name, if it says one.
fn device_of(headers: &HeaderMap) -> Option<String> {
    headers.get(DEVICE_HEADER).and_then(|name| name.to_str().ok()).map(str::to_owned)
}

/// The stamps decide.
struct Stamps {
    now: UnixMillis,
}

impl Bases for Stamps {
    fn seen(&self, _: &dyn Transaction, there: &There<'_>, sent: &Sent) -> Result<Option<Version>, StoreError> {
        let stored = &there.row.stored;
        let latest_ms = self.now.get() + HLC_AHEAD_MS_MAX;
        let is_newer = sent.changed_at.is_some_and(|at| Some(at.get().min(latest_ms)) > stored.stamp.millis());
        Ok(is_newer.then_some(stored.version))
    }
}

impl App {
    async fn sync_grades(
        &self,
        identity: Identity,
        device: Option<String>,
        request: SyncRequest,
        table: &'static str,
    ) -> Result<SyncResponse, ServerError> {
        let (SyncRequest::Records(records) | SyncRequest::Named { records }) = request;
        check_count(records.len())?;
        let device = device.unwrap_or_else(|| DEVICE.to_owned());
        check_device(&device)?;
        let read = records.iter().map(|record| sent(table, record.clone())).collect::<Result<Vec<Sent>, _>>()?;
        let (collections, at) = (Arc::clone(self.service.collections()), now());
        let sender = Sender { identity, device, now: at };
        let user = sender.identity.sub.clone();
        let judged = self.service.store().write(move |db| {
            read.iter()
                .map(|sent| sender.send(db, &collections, sent, &Stamps { now: at }))
                .collect::<Result<Vec<_>, _>>()
        });
        let mut answer =
            SyncResponse { success: true, last_sync_timestamp: time::format(at), ..SyncResponse::default() };
        for (record, judged) in records.into_iter().zip(judged.await?) {
            answer.add(table, record, &judged);
        }
        let (synced, conflicts, errors) = (answer.synced.len(), answer.conflicts.len(), answer.errors.len());
        let metrics = self.service.metrics();
        for (class, count) in [("synced", synced), ("conflicts", conflicts), ("errors", errors)] {
            metrics.compat("grades", class, count);
        }
        tracing::info!(user_id = user, table, synced, conflicts, errors, "Desktop sync completed");
        Ok(answer)
    }
}

impl SyncResponse {
    fn add(&mut self, table: &str, record: Value, judged: &Judged) {
        let id = judged.id.as_ref().map(|id| id.as_str().to_owned());
        let server = || judged.server_record().map_or(Value::Null, Value::Object);
        match judged.class() {
            Class::Synced => {
                let mut synced = server();
                if let Value::Object(fields) = &mut synced {
                    fields.insert("synced_at".to_owned(), json!(self.last_sync_timestamp));
                }
                self.synced.push(synced);
            }
            Class::Conflict => self.conflicts.push(Conflict {
                table_name: table.to_owned(),
                record_id: id.unwrap_or_default(),
                local: record,
                server: server(),
                detected_at: None,
            }),
            Class::Error => {
                let mut error = judged.error();
                error.insert("id".to_owned(), id.map_or_else(|| record["id"].clone(), Value::from));
                self.errors.push(Value::Object(error));
            }
        }
    }
}

async fn status(State(app): State<Shared>, headers: HeaderMap) -> Result<Response, ServerError> {
    let Admitted { identity, allowance } = app.admit(&headers, Kind::Grades)?;
    let asked = device_of(&headers).map(|device| super::client_of(&identity.sub, &device));
    let answer = app.service.store().read(move |db| {
        let devices = db.devices(Some(&identity.sub), (&identity.sub, super::CLIENT_PREFIX), LOST_READ_MAX)?;
        let pushes = devices
            .iter()
            .filter(|row| match &asked {
                Some(client) => row.client_id == *client,
                None => row.client_id.as_str().starts_with(super::CLIENT_PREFIX),
            })
            .map(|row| row.last_push);
        let last = pushes.max().filter(|at| *at > UnixMillis(0));
        let lost = db.lost(Some(&identity.sub), None, LOST_READ_MAX)?;
        let conflicts = lost.into_iter().filter_map(|row| conflict_of(&row)).take(CONFLICTS_MAX);
        Ok::<_, ServerError>(StatusResponse {
            last_sync_timestamp: last.map(time::format),
            conflicts: conflicts.collect(),
        })
    });
    Ok(with_allowance(allowance, answer.await.map(axum::Json)))
}

/// What is kept of a mutation of these tables that lost.
fn conflict_of(row: &LostRow) -> Option<Conflict> {
    let table_name = row.collection.as_str();
    (table_name == SCORES || table_name == GRADES).then(|| Conflict {
        table_name: table_name.to_owned(),
        record_id: row.record_id.as_str().to_owned(),
        local: row.mutation.value()["set"].clone(),
        server: row.outcome.value()["record"].clone(),
        detected_at: Some(time::format(row.at)),
    })
}
