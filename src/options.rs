//! The options of `open()`, as the page gives them and as the worker finds them in the database.

use landfall_core::{CollectionConfig, Config};
use landfall_protocol::codec::{FromJson, Reader};
use landfall_protocol::{CollectionName, Listed, Map, limits};
use landfall_replica::Settings;
use landfall_storage::{Declared, Schema};

/// `auth`: tokens (from the page, or by a refresh address), or cookies only.
#[derive(Clone, Debug)]
pub(crate) enum Auth {
    Token(Tokens),
    Cookie,
}

#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    refresh: Option<Refresh>,
}

landfall_protocol::wire_in!(Tokens { refresh: Keep });

impl FromJson for Auth {
    fn blank() -> Self {
        Self::Cookie
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        if from.peek() == b'"' {
            // Its only value is 'cookie', checked by the facade.
            return from.string().is_some();
        }
        let mut tokens = Tokens::blank();
        let read = tokens.fill(from);
        *self = Self::Token(tokens);
        read
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Refresh {
    pub(crate) url: String,
}

landfall_protocol::wire_in!(Refresh { url: Need });

#[derive(Clone, Debug)]
pub(crate) struct Collection {
    scope: Option<String>,
    priority: i32,
    batch: Option<usize>,
    immediate: bool,
    indexes: Vec<Vec<String>>,
    cluster: Option<Vec<String>>,
    /// Field and collection.
    references: Vec<Vec<String>>,
}

landfall_protocol::wire_in!(Collection {
    scope: Keep,
    priority: Keep,
    batch: Keep,
    immediate: Keep,
    indexes: Keep,
    cluster: Keep,
    references: Keep
});

#[derive(Clone, Debug)]
pub(crate) struct Retry {
    attempts: Option<u32>,
}

landfall_protocol::wire_in!(Retry { attempts: Keep });

/// What js/options.ts writes.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) name: String,
    pub(crate) user: String,
    pub(crate) url: String,
    pub(crate) auth: Auth,
    pub(crate) collections: Map<String, Collection>,
    pub(crate) device: Option<String>,
    pub(crate) schema_version: Option<u32>,
    pub(crate) durability: Option<String>,
    pub(crate) retry: Option<Retry>,
    pub(crate) memory_bytes: Option<usize>,
    pub(crate) gzip_above_bytes: Option<usize>,
}

landfall_protocol::wire_in!(Options {
    name: Need,
    user: Need,
    url: Need,
    auth: Need,
    collections: Need,
    device: Keep,
    schema_version: Keep,
    durability: Keep,
    retry: Keep,
    memory_bytes: Keep,
    gzip_above_bytes: Keep
});

impl Options {
    pub(crate) fn database(&self) -> String {
        let part = |text: &str| String::from(js_sys::encode_uri_component(text));
        ["landfall:", &part(&self.name), ":", &part(&self.user)].concat()
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
                CollectionConfig {
                    scope,
                    priority: collection.priority,
                    immediate: collection.immediate,
                    references: collection
                        .references
                        .iter()
                        .filter_map(|pair| Some((pair.first()?.clone(), CollectionName(pair.get(1)?.clone()))))
                        .listed(),
                },
            );
            if let Some(batch) = collection.batch {
                config.batch_count = config.batch_count.min(batch.clamp(1, limits::BATCH_COUNT_MAX));
            }
        }
        config
    }

    fn schema(&self) -> Schema {
        let mut schema = Schema::new();
        for (name, collection) in &self.collections {
            let declared = Declared {
                indexes: collection.indexes.clone(),
                cluster: collection.cluster.clone().unwrap_or_default(),
            };
            schema.insert(CollectionName(name.clone()), declared);
        }
        schema
    }

    pub(crate) fn settings(&self, patient: bool) -> Settings {
        let (refresh_url, cookie_auth) = match &self.auth {
            Auth::Token(tokens) => (tokens.refresh.as_ref().map(|refresh| refresh.url.clone()), false),
            Auth::Cookie => (None, true),
        };
        Settings {
            database: self.database(),
            refresh_url,
            cookie_auth,
            relaxed: self.durability.as_deref() == Some("relaxed"),
            patient,
            tail: None,
            schema: self.schema(),
            memory_bytes: self.memory_bytes.unwrap_or(0),
            pull_bytes: 0,
            filler_bytes: limits::FILLER_BYTES,
        }
    }
}
