//! The options of `open()`, as the page gives them and as the worker finds them in the database.

use landfall_core::{CollectionConfig, Config};
use landfall_protocol::{CollectionName, Map, limits};
use landfall_replica::Settings;
use serde::Deserialize;

/// `auth`: tokens (from the page, or by a refresh address), or cookies only.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Auth {
    Token {
        #[serde(default)]
        refresh: Option<Refresh>,
    },
    Cookie(#[allow(dead_code)] String), // Its only value is 'cookie', checked by the facade.
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Refresh {
    pub(crate) url: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Collection {
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    priority: i32,
    #[serde(default)]
    batch: Option<usize>,
    #[serde(default)]
    immediate: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Retry {
    #[serde(default)]
    attempts: Option<u32>,
}

/// What js/options.ts writes.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Options {
    pub(crate) name: String,
    pub(crate) user: String,
    pub(crate) url: String,
    pub(crate) auth: Auth,
    pub(crate) collections: Map<String, Collection>,
    #[serde(default)]
    pub(crate) device: Option<String>,
    #[serde(default)]
    pub(crate) schema_version: Option<u32>,
    #[serde(default)]
    pub(crate) durability: Option<String>,
    #[serde(default)]
    pub(crate) retry: Option<Retry>,
}

impl Options {
    pub(crate) fn database(&self) -> String {
        let part = |text: &str| String::from(js_sys::encode_uri_component(text));
        format!("landfall:{}:{}", part(&self.name), part(&self.user))
    }

    pub(crate) fn config(&self) -> Config {
        let mut config = Config::new(self.user.clone());
        config.device = self.device.clone().unwrap_or_default();
        config.schema_version = self.schema_version.unwrap_or(1);
        if let Some(attempts) = self.retry.as_ref().and_then(|retry| retry.attempts) {
            config.attempts_max = attempts;
        }
        for (name, collection) in &self.collections {
            let scope = collection.scope.clone().unwrap_or_else(|| "user:{user}".to_owned());
            config.collections.insert(
                CollectionName(name.clone()),
                CollectionConfig { scope, priority: collection.priority, immediate: collection.immediate },
            );
            if let Some(batch) = collection.batch {
                config.batch_count = config.batch_count.min(batch.clamp(1, limits::BATCH_COUNT_MAX));
            }
        }
        config
    }

    pub(crate) fn settings(&self, patient: bool) -> Settings {
        let (refresh_url, cookie_auth) = match &self.auth {
            Auth::Token { refresh } => (refresh.as_ref().map(|refresh| refresh.url.clone()), false),
            Auth::Cookie(_) => (None, true),
        };
        Settings {
            database: self.database(),
            refresh_url,
            cookie_auth,
            relaxed: self.durability.as_deref() == Some("relaxed"),
            patient,
        }
    }
}
