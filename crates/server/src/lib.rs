//! The sync server of Landfall: HTTP API, live channel and the web app's files over an embedded SQLite store.
//!
//! `routes` and `session` speak HTTP; `service` knows what a push, a pull and a status are; `push` and `pull` hold their
//! rules, run inside one transaction of the `store`. The verdict on a mutation is `landfall_core::authority`'s.

mod admin;
mod auth;
mod body;
mod collections;
mod compat;
mod config;
mod cursor;
mod decide;
mod dev;
mod devices;
mod error;
mod group;
mod ledger;
mod links;
mod live;
mod lone;
mod metrics;
mod mutation;
mod openapi;
mod process;
mod pull;
mod push;
mod rate;
mod review;
mod routes;
mod rules;
mod run;
mod service;
mod session;
mod site;
mod store;

pub use config::{Config, ConfigError};
pub use process::Server;
pub use rules::{BusinessRules, Write};
