//! What the server does, whatever carries the requests.

use crate::auth::Identity;
use crate::collections::Collections;
use crate::error::ServerError;
use crate::mutation::Element;
use crate::pull::{self, Pull};
use crate::push::{self, Push};
use crate::store::{Retention, Store, StoreError, prune};
use landfall_protocol::limits::{BATCH_COUNT_MAX, NUMBER_MAX};
use landfall_protocol::{
    ClientId, DeviceStatus, Epoch, Map, PROTOCOL, Position, PullRequest, PullResponse, PushRequest, PushResponse,
    Scope, ServerLimits, StatusResponse, UnixMillis,
};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

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
}

impl<S: Store> Service<S> {
    pub fn new(store: S, collections: Collections) -> Self {
        Self { store, collections: Arc::new(collections) }
    }

    pub fn store(&self) -> &S {
        &self.store
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
        if request.acked_through.get() > NUMBER_MAX || request.pending_count > NUMBER_MAX {
            return Err(ServerError::Malformed("a number is past 2^53-1".to_owned()));
        }
        let elements = request.mutations.iter().map(Element::read).collect::<Result<Vec<_>, _>>()?;
        let push = Push { identity, request, elements, device_key, now: now() };
        let collections = Arc::clone(&self.collections);
        self.store.write(move |db| push::apply(db, &push, &collections)).await
    }

    /// The next page for `identity`.
    pub async fn pull(&self, identity: Identity, request: PullRequest) -> Result<PullResponse, ServerError> {
        check_envelope(&identity, &request.user, &request.client_id)?;
        let pull = Pull { identity, request, now: now() };
        let collections = Arc::clone(&self.collections);
        self.store.read(move |db| pull::page(db, &pull, &collections)).await
    }

    /// Where the user's scopes stand and what their devices last reported. `device_key` tells which one is asking.
    pub async fn status(&self, identity: Identity, device_key: Option<String>) -> Result<StatusResponse, ServerError> {
        self.store
            .read(move |db| {
                let scopes = scope_heads(db, identity.scopes.iter())?;
                let devices = db.clients_of(&identity.sub)?.into_iter().map(|(client_id, row)| DeviceStatus {
                    client_id,
                    this_device: device_key.as_ref().is_some_and(|key| *key == row.device_key),
                    device: row.device,
                    last_seen: row.last_seen,
                    pending_count: row.pending_count,
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

    /// Cleans up what is older than `retention`.
    pub async fn prune(&self, retention: Retention, now: UnixMillis) -> Result<(), StoreError> {
        prune(&self.store, retention, now).await
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
    Ok(())
}
