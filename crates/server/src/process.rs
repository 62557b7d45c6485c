//! The running server: opens the store, listens, cleans up hourly, and stops without dropping a push.

use crate::auth::Tokens;
use crate::collections::Collections;
use crate::config::{Config, ConfigError};
use crate::dev::Faults;
use crate::live::Hub;
use crate::metrics::Metrics;
use crate::rate::Limiter;
use crate::routes::{App, router};
use crate::rules::{self, BusinessRules};
use crate::service::{Service, now};
use crate::session::random_hex;
use crate::store::{OnCommit, SqliteStore, Store, StoreError};
use axum::Router;
use axum::serve::ListenerExt;
use landfall_protocol::Epoch;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

const PRUNE_EVERY: Duration = Duration::from_secs(3600);
/// Connections that do not end by themselves are cut this long after the signal.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    service: Service<SqliteStore>,
    closing: watch::Sender<bool>,
}

impl Server {
    /// Opens everything that `config` names and starts to listen.
    pub async fn start(config: &Config) -> Result<Self, ConfigError> {
        Self::start_with(config, rules::none()).await
    }

    /// The same, with rules beside those of the collections file.
    pub async fn start_with(config: &Config, rules: BusinessRules) -> Result<Self, ConfigError> {
        std::fs::create_dir_all(&config.data).map_err(|error| ConfigError::file(&config.data, error))?;
        let tokens = Tokens::new(&config.secret()?, config.access_ttl_seconds, config.leeway_seconds)?;
        let text = std::fs::read_to_string(&config.collections)
            .map_err(|error| ConfigError::file(&config.collections, error))?;
        let collections = Collections::parse(&text)?.with_rules(rules);
        let hub = Arc::new(Hub::default());
        let publisher = Arc::clone(&hub);
        let metrics = Metrics::default();
        let counter = metrics.clone();
        let on_commit: OnCommit = Arc::new(move |commit| {
            publisher.publish(&commit.heads);
            counter.committed(commit);
        });
        let store = SqliteStore::open(&config.data.join("landfall.db"), &new_epoch()?.0, on_commit)?;
        let service = Service::new(store, collections, metrics);
        service.relink().await?;
        if config.restored {
            service.renew_epoch(new_epoch()?).await.map_err(|_| StoreError::Closed)?;
        }
        if config.dev && !config.listen.ip().is_loopback() {
            tracing::warn!(address = %config.listen, "--dev is reachable from other machines: its passwords are public");
        }
        let (closing, closed) = watch::channel(false);
        let app = App {
            service: service.clone(),
            tokens: Arc::new(tokens),
            hub,
            dev: config.dev,
            faults: Mutex::new(Faults::default()),
            limiter: Limiter::new(config.rates()),
            metrics_token: config.metrics_token.clone(),
            closing: closed,
        };
        let router = router(app, config.www.as_deref());
        let fail = |error| ConfigError::Listen { address: config.listen, error };
        let listener = TcpListener::bind(config.listen).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        Ok(Self { listener, address, router, service, closing })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, then finishes what is running and closes the store.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
        let pruner = tokio::spawn(prune_hourly(self.service.clone()));
        let (stopping, mut stopped) = (self.closing.clone(), self.closing.subscribe());
        let signal = async move {
            stop.await;
            stopping.send_replace(true);
        };
        let listener = self.listener.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "nodelay");
            }
        });
        let make = self.router.into_make_service_with_connect_info::<SocketAddr>();
        let serve = axum::serve(listener, make).with_graceful_shutdown(signal);
        let cut = async move {
            if stopped.wait_for(|closing| *closing).await.is_ok() {
                tokio::time::sleep(STOP_TIME_MAX).await;
            }
        };
        let result = tokio::select! {
            result = serve.into_future() => result,
            () = cut => Ok(()),
        };
        pruner.abort();
        self.service.store().close().await;
        result
    }
}

fn new_epoch() -> Result<Epoch, ConfigError> {
    random_hex(8).map(Epoch).map_err(|_| ConfigError::Store(StoreError::Corrupt("no random numbers")))
}

async fn prune_hourly(service: Service<SqliteStore>) {
    let mut tick = tokio::time::interval(PRUNE_EVERY);
    loop {
        tick.tick().await;
        if let Err(error) = service.prune(service.retention(), now()).await {
            tracing::warn!(%error, "clean-up failed; the next hour tries again");
        }
    }
}
