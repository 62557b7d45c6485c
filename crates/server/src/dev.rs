//! Test controls of `--dev`: faults on demand, a new epoch, and a look into the database. Loopback only.

use crate::body::read_json;
use crate::error::ServerError;
use crate::routes::{App, Shared};
use crate::service::now;
use crate::session::{check_origin, random_hex};
use crate::store::{Retention, Store};
use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::HeaderMap;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use landfall_protocol::{Epoch, Scope};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::PoisonError;
use std::time::Duration;

/// Pushes that are to fail.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    status: u16,
    count: u32,
    retry_after: Option<Duration>,
}

#[derive(Deserialize)]
struct FaultsAsked {
    #[serde(default = "unavailable")]
    status: u16,
    count: u32,
    /// Seconds.
    retry_after: Option<u64>,
}

fn unavailable() -> u16 {
    503
}

#[derive(Deserialize)]
struct PruneAsked {
    change_log_ms: Option<u64>,
    client_idle_ms: Option<u64>,
    audit_ms: Option<u64>,
}

pub fn router() -> Router<Shared> {
    Router::new()
        .route("/dev/faults", post(set_faults))
        .route("/dev/epoch", post(renew_epoch))
        .route("/dev/prune", post(prune))
        .route("/dev/records", get(records))
        .route("/dev/ledger", get(ledger))
        .layer(from_fn(loopback_only))
}

async fn loopback_only(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Result<Response, ServerError> {
    if !peer.ip().is_loopback() {
        return Err(ServerError::NotFound);
    }
    check_origin(request.headers())?;
    Ok(next.run(request).await)
}

impl App {
    /// The fault that this push is to meet.
    pub(crate) fn take_fault(&self) -> Option<ServerError> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.count = faults.count.checked_sub(1)?;
        Some(ServerError::Fault { status: faults.status, retry_after: faults.retry_after })
    }
}

async fn set_faults(State(app): State<Shared>, headers: HeaderMap, body: Body) -> Result<Json<Value>, ServerError> {
    let asked: FaultsAsked = read_json(&headers, body).await?;
    let retry_after = asked.retry_after.map(Duration::from_secs);
    if !(400..=599).contains(&asked.status) {
        return Err(ServerError::Malformed("a fault has a status from 400 to 599".to_owned()));
    }
    let faults = Faults { status: asked.status, count: asked.count, retry_after };
    *app.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    Ok(Json(json!({ "count": asked.count })))
}

async fn renew_epoch(State(app): State<Shared>) -> Result<Json<Value>, ServerError> {
    let epoch = Epoch(random_hex(8)?);
    app.service.renew_epoch(epoch.clone()).await?;
    Ok(Json(json!({ "epoch": epoch })))
}

async fn prune(State(app): State<Shared>, headers: HeaderMap, body: Body) -> Result<Json<Value>, ServerError> {
    let asked: PruneAsked = read_json(&headers, body).await?;
    let mut retention = Retention::default();
    retention.change_log_ms = asked.change_log_ms.unwrap_or(retention.change_log_ms);
    retention.client_idle_ms = asked.client_idle_ms.unwrap_or(retention.client_idle_ms);
    retention.audit_ms = asked.audit_ms.unwrap_or(retention.audit_ms);
    app.service.prune(retention, now()).await?;
    Ok(Json(json!({})))
}

async fn records(
    State(app): State<Shared>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Json<Value>, ServerError> {
    let Some(scope) = query.get("scope").map(|scope| Scope::new(scope.clone())) else {
        return Err(ServerError::Malformed("which scope?".to_owned()));
    };
    let rows = app.service.store().read::<_, ServerError, _>(move |db| Ok(db.dump_records(&scope)?)).await?;
    let collection = query.get("collection");
    let rows: Vec<_> =
        rows.into_iter().filter(|row| collection.is_none_or(|name| row.collection.as_str() == name)).collect();
    Ok(Json(json!({ "count": rows.len(), "records": rows })))
}

async fn ledger(
    State(app): State<Shared>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Json<Value>, ServerError> {
    let user = query.get("user").cloned();
    app.service
        .store()
        .read(move |db| {
            let counts: BTreeMap<String, u64> = db.counts()?.into_iter().collect();
            let Some(user) = user else { return Ok(Json(json!({ "epoch": db.epoch()?, "counts": counts }))) };
            let mut clients = Vec::new();
            for (client_id, row) in db.clients_of(&user)? {
                clients.push(json!({
                    "client_id": client_id, "acked_through": row.acked_through, "device": row.device,
                    "pending_count": row.pending_count, "last_seen": row.last_seen,
                    "outcomes": db.ledger(&user, &client_id)?,
                }));
            }
            let audit = db.dump_audit(&user)?;
            Ok(Json(json!({ "epoch": db.epoch()?, "counts": counts, "clients": clients, "audit": audit })))
        })
        .await
}
