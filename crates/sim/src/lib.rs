//! A whole world on one seed: real replicas in several contexts on faulty disks and links, a server with the real
//! authority, and the promises of docs/promises.md as checks.
//!
//! Invariant: one seed gives one trace, natively and on wasm32. No clock, no threads, no hash maps, no floats.

pub mod arena;
pub mod checks;
pub mod classes;
pub mod disk;
pub mod equality;
pub mod exec;
pub mod export;
pub mod history;
pub mod host;
pub mod isolation;
pub mod live;
pub mod maker;
pub mod model;
pub mod net;
pub mod people;
pub mod plants;
mod plots;
pub mod policy;
pub mod rng;
pub mod rows;
pub mod run;
pub mod server;
pub mod shrink;
pub mod swarm;
pub mod world;

pub use history::History;
pub use run::{Ended, run, run_in};
