//! `POST /v1/admin/conflicts/decide`: a decision about a conflict that waits for a role, for who does not sync its scope.
//!
//! It is a mutation of the row of `_conflicts` by the client `review:{sub}`, judged like one that was synced: the role that the
//! row asks, at most one decision, row and record together.

use crate::auth::Identity;
use crate::body::read_json;
use crate::error::ServerError;
use crate::lone::{self, Speaker};
use crate::routes::{App, Shared};
use crate::service::now;
use crate::store::{Store, StoreError, Transaction};
use axum::Json as Answer;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use landfall_core::review::{CONFLICTS, record_key};
use landfall_protocol::{ClientId, CollectionName, Fields, Json, Object, Outcome, RecordId, RecordKey, Scope, Stamp};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

pub fn router() -> Router<Shared> {
    Router::new().route("/v1/admin/conflicts/decide", post(decide))
}

/// Which conflict, and what is to stand.
#[derive(Clone, Deserialize, JsonSchema)]
pub struct DecideRequest {
    scope: Scope,
    /// Of the row in `_conflicts`.
    id: RecordId,
    /// `local`, `server` or `merged`.
    decision: String,
    /// With `merged`: the fields that are to stand.
    #[serde(default)]
    merged: Option<serde_json::Map<String, Value>>,
}

async fn decide(State(app): State<Shared>, headers: HeaderMap, body: Body) -> Result<Answer<Outcome>, ServerError> {
    let asked: DecideRequest = read_json(&headers, body).await?;
    let identity = app.identify_admin(&headers)?;
    app.decide(identity, asked).await.map(Answer)
}

impl App {
    async fn decide(&self, identity: Identity, asked: DecideRequest) -> Result<Outcome, ServerError> {
        let (collections, at) = (Arc::clone(self.service.collections()), now());
        let client = client_of(&identity.sub);
        let decided = self.service.store().write(move |db| {
            let key = RecordKey {
                scope: asked.scope.clone(),
                collection: CollectionName::from(CONFLICTS),
                id: asked.id.clone(),
            };
            let row = db.record(&key)?.map(|row| row.stored);
            // Who decides need not hold the scope, nor what the record names: its author did.
            let mut identity = identity.clone();
            identity.scopes.insert(asked.scope.clone());
            if let Some(row) = &row
                && let Some(about) = record_key(row, &asked.scope)
                && let Some(collection) = collections.get(&about.collection)
            {
                identity.scopes.extend(collection.named_scope(&proposed(db, &about, &row.fields, &asked)?));
            }
            let mut set = json!({ "decision": asked.decision });
            if let Some(merged) = &asked.merged {
                set["merged"] = Value::Object(merged.clone());
            }
            let base = row.as_ref().map(|row| row.version).unwrap_or_default();
            let mutation = json!({
                "scope": key.scope, "collection": key.collection, "id": key.id, "op": "update", "base": base, "set": set,
                "stamp": Stamp::new(at.get(), 0, client.as_str()),
            });
            let speaker = Speaker { identity: &identity, client: client.clone(), device: "admin", now: at };
            lone::send(db, &collections, speaker, mutation)
        });
        decided.await
    }
}

/// The record as the decision would have it: enough to see which scope it names.
fn proposed(
    db: &dyn Transaction,
    about: &RecordKey,
    row: &Fields,
    asked: &DecideRequest,
) -> Result<Fields, StoreError> {
    let mut fields = db.record(about)?.map(|record| record.stored.fields).unwrap_or_default();
    let set = row.get("set").and_then(|set| Object::from_json(set.clone())).map(|set| set.fields());
    if asked.decision == "local" {
        fields.extend(set.unwrap_or_default());
    }
    for (name, value) in asked.merged.iter().flatten() {
        if let Ok(value) = Json::parse(&value.to_string()) {
            fields.insert(name.clone(), value);
        }
    }
    Ok(fields)
}

/// The client that a person's decisions come from.
fn client_of(sub: &str) -> ClientId {
    let name = format!("review:{sub}");
    if name.len() <= 64 {
        return ClientId(name);
    }
    let hash = landfall_protocol::hash_text(sub);
    ClientId(hash[..16].iter().fold("review:".to_owned(), |name, byte| format!("{name}{byte:02x}")))
}
