//! One mutation of a client that the server itself speaks for: a device of an older system, or somebody who decides.
//!
//! Such a client has no seqs of its own: the next one is given here, in the transaction that judges. What was given before is
//! acknowledged at once, because nobody will ask for it again.

use crate::auth::Identity;
use crate::collections::Collections;
use crate::error::ServerError;
use crate::mutation::Element;
use crate::push::{self, Push};
use crate::store::{StoreError, Transaction};
use landfall_protocol::{ClientId, Json, Outcome, PROTOCOL, PushRequest, Seq, UnixMillis};
use serde_json::Value;

/// Native clients may not be called so.
pub const PREFIXES: [&str; 2] = ["compat:", "review:"];

/// Who speaks.
pub struct Speaker<'a> {
    pub identity: &'a Identity,
    pub client: ClientId,
    /// Its name for people.
    pub device: &'a str,
    pub now: UnixMillis,
}

/// Judges a mutation, an object without `seq`, and writes what it does.
pub fn send(
    db: &dyn Transaction,
    collections: &Collections,
    speaker: Speaker<'_>,
    mut mutation: Value,
) -> Result<Outcome, ServerError> {
    let Speaker { identity, client, device, now } = speaker;
    let known = db.client(&identity.sub, &client)?;
    let last_seq = known.as_ref().map_or(Seq::ZERO, |row| row.last_seq);
    mutation["seq"] = Value::from(last_seq.next().get());
    let text = Json::parse(&mutation.to_string()).map_err(|_| StoreError::Corrupt("BUG: a mutation is no JSON"))?;
    let elements = vec![Element::read(&text)?];
    let request = PushRequest {
        protocol: PROTOCOL,
        user: identity.sub.clone(),
        client_id: client,
        first_push: known.is_none(),
        epoch: Some(db.epoch()?),
        device: device.to_owned(),
        schema_version: 0,
        acked_through: last_seq,
        pending_count: 0,
        failed_count: 0,
        mutations: vec![text],
    };
    let push = Push { identity: identity.clone(), request, elements, device_key: String::new(), now };
    let answer = push::apply(db, &push, collections)?;
    let result = answer.results.first().map(Json::text).unwrap_or_default();
    Ok(serde_json::from_str(result).map_err(|_| StoreError::Corrupt("an outcome is no JSON"))?)
}
