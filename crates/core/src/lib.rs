//! The rules of sync, sans-IO: without clock, randomness or effects. Equal inputs give equal outputs.
//!
//! Two halves share this crate. The **authority** is the server's verdict on a mutation. The **engine** is the client:
//! [`State`] is the outbox as rows tell it, the `plan_…` functions turn state and input into one transaction to
//! commit, and [`schedule::Schedule`] says when to do what. The replica crate carries plans out, in a browser or in the
//! simulator; it decides nothing.
//!
//! Shape of every step: plan (pure) → one storage transaction → effect. Persist before send; settle before delete.

pub mod authority;
pub mod batch;
pub mod by_record;
pub mod derive;
pub mod fixup;
pub mod lane_index;
pub mod lanes;
pub mod order;
pub mod overruled;
pub mod plan;
pub mod plant;
pub mod policy;
pub mod recover;
pub mod retry;
pub mod review;
pub mod rows;
pub mod schedule;
pub mod settle;
pub mod state;
pub mod time;
pub mod view;
mod wire;

pub use state::{Base, BaseRecord, CollectionConfig, Config, State};
