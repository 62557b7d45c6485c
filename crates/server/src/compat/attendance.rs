//! `POST /api/attendance/sync`: shifts of a person, in the JSON of its document.
//!
//! A record is known by `deviceId` and `clientTimestamp`. `syncVersion` is the version that its author has seen; a
//! clock-in that differs by more than a minute is a conflict even at that version, as the document's algorithm has it.

use super::{Bases, Class, Judged, Sender, Sent, There, check_count, check_device, time};
use crate::body::read_json;
use crate::error::ServerError;
use crate::rate::Kind;
use crate::routes::{Admitted, App, Shared, with_allowance};
use crate::service::now;
use crate::store::{Store, StoreError, Transaction};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;
use landfall_protocol::{CollectionName, Outcome, RejectCode, ResultStatus, Seq, Version};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map as Object, Value, json};
use std::time::Instant;

const COLLECTION: &str = "attendance";
/// Clock-ins that differ by no more are the same one, ms.
const SAME_CLOCK_IN_MS: u64 = 60_000;

pub fn router() -> Router<Shared> {
    Router::new().route("/api/attendance/sync", post(sync))
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "AttendanceRequest")]
pub struct SyncRequest {
    records: Vec<Object<String, Value>>,
}

/// The answer, as the document shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AttendanceResponse")]
pub struct SyncResponse {
    pub success: bool,
    pub synced: usize,
    pub conflicts: usize,
    pub errors: usize,
    pub timestamp: String,
    pub data: SyncData,
}

#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "AttendanceData")]
pub struct SyncData {
    pub synced: Vec<Synced>,
    pub conflicts: Vec<Value>,
    pub errors: Vec<Value>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AttendanceSynced")]
pub struct Synced {
    pub id: String,
    /// `created` or `updated`.
    pub action: &'static str,
}

async fn sync(State(app): State<Shared>, headers: HeaderMap, body: Body) -> Result<Response, ServerError> {
    let request: SyncRequest = read_json(&headers, body).await?;
    let Admitted { identity, allowance } = app.admit(&headers, Kind::Attendance)?;
    let answer = app.sync_attendance(identity, request).await.map(axum::Json);
    Ok(with_allowance(allowance, answer))
}

impl App {
    async fn sync_attendance(
        &self,
        identity: crate::auth::Identity,
        request: SyncRequest,
    ) -> Result<SyncResponse, ServerError> {
        let start = Instant::now();
        check_count(request.records.len())?;
        let (collections, at) = (std::sync::Arc::clone(self.service.collections()), now());
        let user = identity.sub.clone();
        let judged = self.service.store().write(move |db| {
            let mut all = Vec::with_capacity(request.records.len());
            // A request may carry what several devices recorded; each is a client of its own.
            for record in &request.records {
                all.push(match read(record) {
                    Ok((device, sent)) => {
                        let sender = Sender { identity: identity.clone(), device, now: at };
                        sender.send(db, &collections, &sent, &Seen)?
                    }
                    Err(outcome) => Judged::refused(*outcome),
                });
            }
            Ok::<_, ServerError>((request.records.clone(), all))
        });
        let (records, judged) = judged.await?;
        let mut data = SyncData::default();
        for (index, (record, judged)) in records.into_iter().zip(judged).enumerate() {
            data.add(index, record, &judged);
        }
        let answer = SyncResponse {
            success: true,
            synced: data.synced.len(),
            conflicts: data.conflicts.len(),
            errors: data.errors.len(),
            timestamp: time::format(at),
            data,
        };
        let (synced, conflicts, errors) = (answer.synced, answer.conflicts, answer.errors);
        let metrics = self.service.metrics();
        for (class, count) in [("synced", synced), ("conflicts", conflicts), ("errors", errors)] {
            metrics.compat("attendance", class, count);
        }
        let duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(user_id = user, synced, conflicts, errors, duration_ms, "Offline sync completed");
        Ok(answer)
    }
}

impl SyncData {
    fn add(&mut self, index: usize, record: Object<String, Value>, judged: &Judged) {
        let id = judged.id.as_ref().map(|id| id.as_str().to_owned());
        match judged.class() {
            Class::Synced => {
                let action = if judged.is_new { "created" } else { "updated" };
                self.synced.push(Synced { id: id.unwrap_or_default(), action });
            }
            Class::Conflict => {
                let status = match judged.outcome.status {
                    ResultStatus::Conflict => "pending_review",
                    _ => "server_wins",
                };
                self.conflicts.push(json!({
                    "id": id, "status": status, "clientRecord": record, "serverRecord": server_record(judged),
                }));
            }
            Class::Error => {
                let mut error = judged.error();
                if let Some(Value::Object(fields)) = error.remove("fields") {
                    let fields: Object<_, _> =
                        fields.into_iter().map(|(name, words)| (wire_name(&name), words)).collect();
                    error.insert("fields".to_owned(), Value::Object(fields));
                }
                error.insert("index".to_owned(), json!(index));
                for name in ["deviceId", "clientTimestamp"] {
                    error.insert(name.to_owned(), record.get(name).cloned().unwrap_or_default());
                }
                self.errors.push(Value::Object(error));
            }
        }
    }
}

/// What the author of a shift has seen of it.
struct Seen;

impl Bases for Seen {
    fn seen(&self, _: &dyn Transaction, there: &There<'_>, sent: &Sent) -> Result<Option<Version>, StoreError> {
        let clock_in = |text: Option<&str>| text.and_then(time::parse).map(|at| at.get());
        let stored = there.row.stored.fields.get("clock_in").and_then(landfall_protocol::Json::as_string);
        let theirs = clock_in(stored.as_deref());
        let ours = clock_in(sent.fields.get("clock_in").and_then(Value::as_str));
        let is_same = theirs.zip(ours).is_none_or(|(theirs, ours)| theirs.abs_diff(ours) <= SAME_CLOCK_IN_MS);
        Ok(sent.seen.filter(|_| is_same))
    }
}

/// Reads a record of a request: its device, and what it says in the collection's words.
fn read(record: &Object<String, Value>) -> Result<(String, Sent), Box<Outcome>> {
    let refuse = |field: &str, words: &str| {
        let mut outcome = Outcome::rejected(Seq::ZERO, RejectCode::VALIDATION, "Some values are not valid.");
        outcome.fields.insert(field.to_owned(), words.to_owned());
        Err(Box::new(outcome))
    };
    let mut fields: Object<String, Value> = record
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (stored_name(name), value.clone()))
        .collect();
    let text = |fields: &Object<String, Value>, name: &str| fields.get(name)?.as_str().map(str::to_owned);
    let Some(device) = text(&fields, "device_id").filter(|device| check_device(device).is_ok()) else {
        return refuse("device_id", "is required");
    };
    if text(&fields, "client_timestamp").and_then(|text| time::parse(&text)).is_none() {
        return refuse("client_timestamp", "must be a date and time such as 2026-01-31T08:00:00Z");
    }
    // Absent means a first version, as the document's default has it.
    let seen = match fields.remove("sync_version") {
        None => Some(Version(1)),
        Some(version) => version.as_u64().map(Version),
    };
    if seen.is_none() {
        return refuse("sync_version", "must be a whole number");
    }
    let id = text(&fields, "id");
    for name in ["id", "synced", "server_timestamp"] {
        fields.remove(name);
    }
    let collection = CollectionName::from(COLLECTION);
    Ok((device, Sent { collection, id, fields, deleted: false, changed_at: None, seen }))
}

/// The server's record in the document's names.
fn server_record(judged: &Judged) -> Value {
    let (Some(row), Some(record)) = (&judged.after, judged.server_record()) else { return Value::Null };
    let mut shown = Object::new();
    for (name, value) in record {
        let name = if name == "updated_at" { "serverTimestamp".to_owned() } else { wire_name(&name) };
        shown.insert(name, value);
    }
    shown.insert("syncVersion".to_owned(), json!(row.stored.version));
    Value::Object(shown)
}

/// `clockIn` is stored as `clock_in`; where the clock-in was is what the document's tables call latitude and longitude.
fn stored_name(wire: &str) -> String {
    match wire {
        "clockInLatitude" => return "latitude".to_owned(),
        "clockInLongitude" => return "longitude".to_owned(),
        _ => {}
    }
    let mut name = String::with_capacity(wire.len() + 4);
    for letter in wire.chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

fn wire_name(stored: &str) -> String {
    match stored {
        "latitude" => return "clockInLatitude".to_owned(),
        "longitude" => return "clockInLongitude".to_owned(),
        _ => {}
    }
    let mut parts = stored.split('_');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        name.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_document_come_back_from_those_that_are_stored() {
        for (wire, stored) in [
            ("facilityId", "facility_id"),
            ("clockIn", "clock_in"),
            ("clockInLatitude", "latitude"),
            ("conflictResolutionStrategy", "conflict_resolution_strategy"),
            ("note", "note"),
        ] {
            assert_eq!((stored_name(wire).as_str(), wire_name(stored).as_str()), (stored, wire));
        }
    }
}
