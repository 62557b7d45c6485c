//! What the admin page asks, behind the role `admin`: who waits for what, what fails and why, which devices there are,
//! and who did what.
//!
//! Every list is paged by a key of its last row (`next`), never by a number of rows to skip.

use crate::auth::Identity;
use crate::devices::active_since;
use crate::error::ServerError;
use crate::routes::{App, Shared};
use crate::service::now;
use crate::store::{AuditFilter, AuditLine, DeviceRow, FailureCount, LostRow, Snapshot, Store, SystemRecord, Totals};
use crate::store::{HOUR_MS, UserPending};
use axum::extract::{Query, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use landfall_protocol::UnixMillis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The role that may ask.
const ADMIN: &str = "admin";
/// Rows of a page unless asked otherwise, and at most.
const PAGE: u32 = 100;
const PAGE_MAX: u32 = 500;
/// How far back failures are shown unless asked otherwise, ms.
const FAILURES_MS: u64 = 7 * 24 * HOUR_MS;
/// The collection of conflicts that wait for a decision.
const REVIEWS: &str = "_conflicts";

pub fn router(app: &Shared) -> Router<Shared> {
    Router::new()
        .route("/v1/admin/overview", get(overview))
        .route("/v1/admin/pending", get(pending))
        .route("/v1/admin/devices", get(devices))
        .route("/v1/admin/failures", get(failures))
        .route("/v1/admin/audit", get(audit))
        .route("/v1/admin/conflicts", get(conflicts))
        .route_layer(from_fn_with_state(app.clone(), admins_only))
}

async fn admins_only(State(app): State<Shared>, request: Request, next: Next) -> Result<Response, ServerError> {
    app.identify_admin(request.headers())?;
    Ok(next.run(request).await)
}

impl App {
    pub(crate) fn identify_admin(&self, headers: &axum::http::HeaderMap) -> Result<Identity, ServerError> {
        let identity = self.identify(headers)?;
        if identity.roles.contains(ADMIN) {
            Ok(identity)
        } else {
            Err(ServerError::Forbidden("this needs the role admin"))
        }
    }
}

/// Answers with what `look` finds in one state of the database.
async fn read<T: Send + 'static>(
    app: &App,
    look: impl FnOnce(&dyn Snapshot) -> Result<T, crate::store::StoreError> + Send + 'static,
) -> Result<Json<T>, ServerError> {
    app.service.store().read::<_, ServerError, _>(move |db| Ok(look(db)?)).await.map(Json)
}

/// Sums over everybody.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Overview {
    pub server_time: UnixMillis,
    #[serde(flatten)]
    pub totals: Totals,
}

async fn overview(State(app): State<Shared>) -> Result<Json<Overview>, ServerError> {
    let server_time = now();
    read(&app, move |db| Ok(Overview { server_time, totals: db.totals(active_since(server_time))? })).await
}

/// A page of rows, and the key to ask the next one with; absent on the last page.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Page<T, N> {
    pub rows: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<N>,
}

impl<T, N> Page<T, N> {
    fn of(rows: Vec<T>, limit: u32, key: impl FnOnce(&T) -> N) -> Self {
        let is_full = rows.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
        let next = rows.last().filter(|_| is_full).map(key);
        Self { rows, next }
    }
}

fn page_size(limit: Option<u32>) -> u32 {
    limit.unwrap_or(PAGE).clamp(1, PAGE_MAX)
}

#[derive(Deserialize)]
struct PendingAsked {
    #[serde(default)]
    after: String,
    limit: Option<u32>,
}

async fn pending(
    State(app): State<Shared>,
    Query(asked): Query<PendingAsked>,
) -> Result<Json<Page<UserPending, String>>, ServerError> {
    let limit = page_size(asked.limit);
    read(&app, move |db| Ok(Page::of(db.pending_users(&asked.after, limit)?, limit, |row| row.user.clone()))).await
}

/// Where a page of devices begins.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AfterDevice {
    pub after_user: String,
    pub after_client: String,
}

/// A device as the admin page shows it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AdminDevice {
    #[serde(flatten)]
    pub device: DeviceRow,
    pub last_sync: UnixMillis,
    pub is_active: bool,
}

#[derive(Deserialize)]
struct DevicesAsked {
    user: Option<String>,
    #[serde(default)]
    after_user: String,
    #[serde(default)]
    after_client: String,
    limit: Option<u32>,
}

async fn devices(
    State(app): State<Shared>,
    Query(asked): Query<DevicesAsked>,
) -> Result<Json<Page<AdminDevice, AfterDevice>>, ServerError> {
    let (limit, since) = (page_size(asked.limit), active_since(now()));
    read(&app, move |db| {
        let rows = db.devices(asked.user.as_deref(), (&asked.after_user, &asked.after_client), limit)?;
        let rows = rows.into_iter().map(|device| {
            let last_sync = device.last_sync();
            AdminDevice { device, last_sync, is_active: last_sync >= since }
        });
        Ok(Page::of(rows.collect(), limit, |row| AfterDevice {
            after_user: row.device.user.clone(),
            after_client: row.device.client_id.as_str().to_owned(),
        }))
    })
    .await
}

#[derive(Deserialize)]
struct FailuresAsked {
    since: Option<UnixMillis>,
    until: Option<UnixMillis>,
    limit: Option<u32>,
}

/// Refused mutations by hour, collection, code and field: the newest hour first, in it the most frequent.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Failures {
    pub since: UnixMillis,
    pub until: UnixMillis,
    pub rows: Vec<FailureCount>,
    /// There are more rows than were asked for.
    pub is_cut: bool,
}

async fn failures(
    State(app): State<Shared>,
    Query(asked): Query<FailuresAsked>,
) -> Result<Json<Failures>, ServerError> {
    let until = asked.until.unwrap_or_else(now);
    let since = asked.since.unwrap_or(UnixMillis(until.get().saturating_sub(FAILURES_MS)));
    let limit = page_size(asked.limit.or(Some(PAGE_MAX)));
    read(&app, move |db| {
        let rows = db.failures(since, until, limit)?;
        let is_cut = rows.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(Failures { since, until, rows, is_cut })
    })
    .await
}

#[derive(Deserialize)]
struct AuditAsked {
    user: Option<String>,
    collection: Option<String>,
    status: Option<String>,
    code: Option<String>,
    before: Option<u64>,
    limit: Option<u32>,
}

async fn audit(
    State(app): State<Shared>,
    Query(asked): Query<AuditAsked>,
) -> Result<Json<Page<AuditLine, u64>>, ServerError> {
    let AuditAsked { user, collection, status, code, before, limit } = asked;
    let (filter, limit) = (AuditFilter { user, collection, status, code, before }, page_size(limit));
    read(&app, move |db| Ok(Page::of(db.audit_lines(&filter, limit)?, limit, |row| row.id))).await
}

/// Conflicts that wait for a decision, and mutations that lost (newest first). The first page has the waiting ones.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Conflicts {
    /// Records of the system collection `_conflicts`, in all scopes.
    pub reviews: Vec<SystemRecord>,
    /// There are more reviews than one page takes.
    pub reviews_are_cut: bool,
    pub lost: Page<LostRow, u64>,
}

#[derive(Deserialize)]
struct ConflictsAsked {
    user: Option<String>,
    before: Option<u64>,
    limit: Option<u32>,
}

async fn conflicts(
    State(app): State<Shared>,
    Query(asked): Query<ConflictsAsked>,
) -> Result<Json<Conflicts>, ServerError> {
    let limit = page_size(asked.limit);
    read(&app, move |db| {
        let reviews = match asked.before {
            Some(_) => Vec::new(),
            None => db.records_everywhere(REVIEWS, ("", ""), PAGE_MAX)?,
        };
        let reviews_are_cut = reviews.len() >= usize::try_from(PAGE_MAX).unwrap_or(usize::MAX);
        let lost = Page::of(db.lost(asked.user.as_deref(), asked.before, limit)?, limit, |row| row.id);
        Ok(Conflicts { reviews, reviews_are_cut, lost })
    })
    .await
}
