//! The live channel: a WebSocket that says where scopes are now, and nothing else.
//!
//! Pokes are hints; a client that misses one finds out at its next pull. A subscriber that is slow gets the newest
//! position of each scope, not a queue of them.

use crate::auth::Tokens;
use crate::service::Service;
use crate::store::{Heads, Store};
use axum::extract::ws::{Message, WebSocket};
use landfall_protocol::limits::LIVE_PING_MS;
use landfall_protocol::{ClientLiveMessage, LiveMessage, Scope, UnixMillis};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

/// The token must come within this time.
const AUTH_WAIT: Duration = Duration::from_secs(10);
/// A peer that says nothing for this long, not even pong, is gone.
const SILENCE_MAX: Duration = Duration::from_millis(3 * LIVE_PING_MS);

/// Who wants to know about which scope.
#[derive(Default)]
pub struct Hub {
    next: AtomicU64,
    scopes: Mutex<HashMap<Scope, HashMap<u64, Arc<Subscriber>>>>,
}

#[derive(Default)]
struct Subscriber {
    pending: Mutex<Heads>,
    wake: Notify,
}

impl Subscriber {
    fn poke(&self, heads: &Heads) {
        let mut pending = locked(&self.pending);
        for (scope, position) in heads {
            let newest = pending.entry(scope.clone()).or_default();
            *newest = (*newest).max(*position);
        }
        drop(pending);
        self.wake.notify_one();
    }
}

/// Ends with its drop.
pub struct Subscription {
    hub: Arc<Hub>,
    key: u64,
    scopes: BTreeSet<Scope>,
    subscriber: Arc<Subscriber>,
}

impl Hub {
    pub fn subscribe(self: &Arc<Self>, scopes: BTreeSet<Scope>) -> Subscription {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let subscriber = Arc::new(Subscriber::default());
        let mut all = locked(&self.scopes);
        for scope in &scopes {
            all.entry(scope.clone()).or_default().insert(key, Arc::clone(&subscriber));
        }
        drop(all);
        Subscription { hub: Arc::clone(self), key, scopes, subscriber }
    }

    /// Tells the subscribers of the scopes; called after each commit.
    pub fn publish(&self, heads: &Heads) {
        let all = locked(&self.scopes);
        for (scope, position) in heads {
            for subscriber in all.get(scope).into_iter().flat_map(HashMap::values) {
                subscriber.poke(&Heads::from([(scope.clone(), *position)]));
            }
        }
    }
}

impl Subscription {
    /// Positions that were not told yet; waits for one.
    pub async fn next(&self) -> Heads {
        loop {
            let pending = std::mem::take(&mut *locked(&self.subscriber.pending));
            if !pending.is_empty() {
                return pending;
            }
            self.subscriber.wake.notified().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut all = locked(&self.hub.scopes);
        for scope in &self.scopes {
            if let Some(subscribers) = all.get_mut(scope) {
                subscribers.remove(&self.key);
                if subscribers.is_empty() {
                    all.remove(scope);
                }
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a socket needs of the server.
pub struct Live<S> {
    pub service: Service<S>,
    pub tokens: Arc<Tokens>,
    pub hub: Arc<Hub>,
    /// True when the server stops.
    pub closing: watch::Receiver<bool>,
}

/// Why a socket ends, as `bye` says it. `None`: the peer left.
type Farewell = Option<&'static str>;

impl<S: Store> Live<S> {
    /// Serves one socket to its end.
    pub async fn serve(mut self, mut socket: WebSocket) {
        if let Some(code) = self.talk(&mut socket).await {
            drop(say(&mut socket, &LiveMessage::Bye { code: code.to_owned() }).await);
        }
        drop(socket.send(Message::Close(None)).await);
    }

    async fn talk(&mut self, socket: &mut WebSocket) -> Farewell {
        let message = match timeout(AUTH_WAIT, first_text(socket)).await {
            Ok(Some(text)) => text,
            Ok(None) => return None,
            Err(_) => return Some(landfall_protocol::ErrorCode::TIMEOUT),
        };
        let Ok(ClientLiveMessage::Auth { token, user }) = serde_json::from_str(&message) else {
            return Some(landfall_protocol::ErrorCode::MALFORMED);
        };
        let identity = match self.tokens.verify(&token) {
            Ok(identity) if identity.sub == user => identity,
            Ok(_) => return Some(landfall_protocol::ErrorCode::WRONG_USER),
            Err(error) => return Some(error.code()),
        };
        // First subscribe, then look: a commit in between is told twice, never missed.
        let subscription = self.hub.subscribe(identity.scopes.clone());
        let Ok(heads) = self.service.heads(identity.scopes.iter().cloned().collect()).await else {
            return Some(landfall_protocol::ErrorCode::UNAVAILABLE);
        };
        subscription.subscriber.poke(&heads.into_iter().filter(|(_, position)| position.get() > 0).collect());
        if say(socket, &LiveMessage::Ready).await.is_err() {
            return None;
        }
        let end = deadline(self.tokens.last_moment(identity.expires_at), crate::service::now());
        self.relay(socket, &subscription, end).await
    }

    async fn relay(&mut self, socket: &mut WebSocket, subscription: &Subscription, end: Instant) -> Farewell {
        let period = Duration::from_millis(LIVE_PING_MS);
        let mut ping = interval_at(Instant::now() + period, period);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard_at = Instant::now();
        loop {
            tokio::select! {
                heads = subscription.next() => {
                    for (scope, position) in heads {
                        if say(socket, &LiveMessage::Poke { scope, position }).await.is_err() {
                            return None;
                        }
                    }
                }
                message = socket.recv() => match message {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                    Some(Ok(Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => {
                        heard_at = Instant::now();
                    }
                },
                _ = ping.tick() => {
                    if heard_at.elapsed() > SILENCE_MAX || socket.send(Message::Ping(axum::body::Bytes::new())).await.is_err() {
                        return None;
                    }
                }
                () = sleep_until(end) => return Some(landfall_protocol::ErrorCode::TOKEN_EXPIRED),
                () = closed(&mut self.closing) => return Some(landfall_protocol::ErrorCode::UNAVAILABLE),
            }
        }
    }
}

/// Waits until the server stops.
async fn closed(closing: &mut watch::Receiver<bool>) {
    if closing.wait_for(|closing| *closing).await.is_err() {
        tracing::debug!("the server is gone");
    }
}

fn deadline(at: UnixMillis, now: UnixMillis) -> Instant {
    // A year is further than any socket lives and still fits every clock.
    let wait = at.get().saturating_sub(now.get()).min(365 * 24 * 3_600_000);
    Instant::now() + Duration::from_millis(wait)
}

async fn first_text(socket: &mut WebSocket) -> Option<String> {
    loop {
        match socket.recv().await? {
            Ok(Message::Text(text)) => return Some(text.as_str().to_owned()),
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(Message::Binary(_) | Message::Close(_)) | Err(_) => return None,
        }
    }
}

async fn say(socket: &mut WebSocket, message: &LiveMessage) -> Result<(), axum::Error> {
    // A message of texts and numbers always serializes.
    let text = serde_json::to_string(message).unwrap_or_default();
    socket.send(Message::Text(text.into())).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_protocol::Position;

    #[tokio::test]
    async fn i1_a_poke_reaches_only_who_was_granted_the_scope_and_only_the_newest_counts() {
        let hub = Arc::new(Hub::default());
        let ada = hub.subscribe(BTreeSet::from(["user:ada".into(), "facility:7".into()]));
        let grace = hub.subscribe(BTreeSet::from(["user:grace".into()]));
        hub.publish(&Heads::from([("user:ada".into(), Position(1))]));
        hub.publish(&Heads::from([("user:ada".into(), Position(3)), ("facility:7".into(), Position(9))]));
        hub.publish(&Heads::from([("user:ada".into(), Position(2))]));
        let told = ada.next().await;
        assert_eq!(told, Heads::from([("facility:7".into(), Position(9)), ("user:ada".into(), Position(3))]));
        assert!(locked(&grace.subscriber.pending).is_empty());
        drop((ada, grace));
        assert!(locked(&hub.scopes).is_empty());
    }
}
