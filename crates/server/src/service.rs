//! What the server does, whatever carries the requests.

use crate::auth::Identity;
use crate::collections::Collections;
use crate::devices::Presence;
use crate::error::ServerError;
use crate::links;
use crate::lone::PREFIXES;
use crate::metrics::Metrics;
use crate::mutation::Element;
use crate::pull::{self, Pull};
use crate::push::{self, Push};
use crate::review;
use crate::store::{DeviceReport, Retention, Store, StoreError, prune};
use landfall_protocol::limits::{BATCH_COUNT_MAX, NUMBER_MAX};
use landfall_protocol::{
    ClientId, DeviceStatus, Epoch, Map, PROTOCOL, Position, PullRequest, PullResponse, PushRequest, PushResponse,
    Scope, ServerLimits, StatusResponse, UnixMillis,
};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Devices of a user that the status shows: the newest, of so many.
const DEVICES_MAX: usize = 100;
const DEVICES_READ_MAX: u32 = 1000;

/// The wall clock.
pub fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Push, pull and status over a store.
#[derive(Clone)]
pub struct Service<S> {
    store: S,
    collections: Arc<Collections>,
    presence: Arc<Presence>,
    metrics: Metrics,
}

impl<S: Store> Service<S> {
    pub fn new(store: S, collections: Collections, metrics: Metrics) -> Self {
        Self { store, collections: Arc::new(collections), presence: Arc::default(), metrics }
    }

    pub fn store(&self) -> &S {
        &self.store
    }
    pub fn collections(&self) -> &Arc<Collections> {
        &self.collections
    }
    pub fn presence(&self) -> &Presence {
        &self.presence
    }
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Judges a push of `identity`; every mutation of it gets an outcome.
    pub async fn push(
        &self,
        identity: Identity,
        request: PushRequest,
        device_key: String,
    ) -> Result<PushResponse, ServerError> {
        check_envelope(&identity, &request.user, &request.client_id)?;
        if request.mutations.len() > BATCH_COUNT_MAX {
            return Err(ServerError::TooLarge(format!("a push has at most {BATCH_COUNT_MAX} mutations")));
        }
        if request.acked_through.get() > NUMBER_MAX || request.pending_count.max(request.failed_count) > NUMBER_MAX {
            return Err(ServerError::Malformed("a number is past 2^53-1".to_owned()));
        }
        let elements = request.mutations.iter().map(Element::read).collect::<Result<Vec<_>, _>>()?;
        let failed_count = request.failed_count;
        let failed_is_news = self.presence.failed_is_news(&identity.sub, &request.client_id, failed_count);
        let (sub, client) = (identity.sub.clone(), request.client_id.clone());
        let push = Push { identity, request, elements, device_key, now: now() };
        let collections = Arc::clone(&self.collections);
        let answer = self.store.write(move |db| {
            let answer = push::apply(db, &push, &collections)?;
            if failed_is_news {
                let report = DeviceReport { pending_count: push.request.pending_count, failed_count };
                db.note_report(&push.identity.sub, &push.request.client_id, report, push.now)?;
            }
            Ok::<_, ServerError>(answer)
        });
        let answer = answer.await;
        match &answer {
            Ok(answer) => self.metrics.pushed(answer),
            Err(_) => self.presence.forget(&sub, &client),
        }
        answer
    }

    /// The next page for `identity`.
    pub async fn pull(&self, identity: Identity, request: PullRequest) -> Result<PullResponse, ServerError> {
        check_envelope(&identity, &request.user, &request.client_id)?;
        let (sub, client) = (identity.sub.clone(), request.client_id.clone());
        let pull = Pull { identity, request, now: now() };
        let collections = Arc::clone(&self.collections);
        let page = self.store.read(move |db| pull::page(db, &pull, &collections));
        // Beside each other: the page does not wait for the disk.
        let (page, ()) = tokio::join!(page, self.note_pull(&sub, &client));
        page
    }

    /// Where the user's scopes stand and what their devices last reported. `device_key` tells which one is asking.
    pub async fn status(&self, identity: Identity, device_key: Option<String>) -> Result<StatusResponse, ServerError> {
        self.store
            .read(move |db| {
                let scopes = scope_heads(db, identity.scopes.iter())?;
                let mut rows = db.devices(Some(&identity.sub), ("", ""), DEVICES_READ_MAX)?;
                // One that only pulled has said nothing of itself.
                rows.retain(|row| row.reported_at.get() > 0);
                rows.sort_by_key(|row| std::cmp::Reverse(row.last_sync()));
                rows.truncate(DEVICES_MAX);
                let devices = rows.into_iter().map(|row| DeviceStatus {
                    this_device: !row.device_key.is_empty() && device_key.as_ref() == Some(&row.device_key),
                    last_seen: row.last_sync(),
                    reported_at: Some(row.reported_at),
                    client_id: row.client_id,
                    device: row.device,
                    pending_count: row.pending_count,
                    failed_count: row.failed_count,
                });
                Ok(StatusResponse {
                    server_time: now(),
                    protocol_min: PROTOCOL,
                    protocol_max: PROTOCOL,
                    epoch: db.epoch()?,
                    user: identity.sub,
                    scopes,
                    devices: devices.collect(),
                    limits: Some(ServerLimits::OWN),
                })
            })
            .await
    }

    /// Where these scopes' counters stand.
    pub async fn heads(&self, scopes: Vec<Scope>) -> Result<Map<Scope, Position>, ServerError> {
        self.store.read(move |db| Ok(scope_heads(db, scopes.iter())?)).await
    }

    /// Starts a new epoch, as after a restored backup.
    pub async fn renew_epoch(&self, epoch: Epoch) -> Result<(), ServerError> {
        self.store.write(move |db| Ok(db.renew_epoch(&epoch)?)).await
    }

    /// Brings unique keys and references in line with the declaration. To be called before the first push.
    pub async fn relink(&self) -> Result<(), StoreError> {
        let collections = Arc::clone(&self.collections);
        self.store.write(move |db| links::relink(db, &collections)).await
    }

    /// Cleans up what is older than `retention`.
    pub async fn prune(&self, retention: Retention, now: UnixMillis) -> Result<(), StoreError> {
        review::end_decided(&self.store, &retention, now).await?;
        prune(&self.store, retention, now).await
    }

    /// How long things are kept, with what the collections declare.
    pub fn retention(&self) -> Retention {
        let collections = Arc::clone(&self.collections);
        Retention { by_scope: Some(Arc::new(move |scope| collections.change_log_ms(scope))), ..Retention::default() }
    }
}

fn scope_heads<'a>(
    db: &dyn crate::store::Snapshot,
    scopes: impl Iterator<Item = &'a Scope>,
) -> Result<Map<Scope, Position>, StoreError> {
    scopes.map(|scope| Ok((scope.clone(), db.scope(scope)?.position))).collect()
}

fn check_envelope(identity: &Identity, user: &str, client: &ClientId) -> Result<(), ServerError> {
    if identity.sub != user {
        return Err(ServerError::WrongUser);
    }
    if client.as_str().is_empty() || client.as_str().len() > 64 {
        return Err(ServerError::Malformed("a client_id has between 1 and 64 bytes".to_owned()));
    }
    if let Some(own) = PREFIXES.iter().find(|prefix| client.as_str().starts_with(*prefix)) {
        return Err(ServerError::Malformed(format!("a client_id does not begin with {own}")));
    }
    Ok(())
}
