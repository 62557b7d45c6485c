//! Where a record of a compatible endpoint belongs: scope and id.
//!
//! The documents name no scopes. A record is in the scope that its fields say; where they leave that open, in the only one
//! that its author holds, or where the record already is. What its author may not reach answers as what is not there.

use super::Sent;
use crate::auth::Identity;
use crate::collections::{Collection, Collections};
use crate::error::ServerError;
use crate::store::{RecordRow, Transaction};
use landfall_protocol::{Outcome, RecordId, RecordKey, RejectCode, Scope, Seq};
use serde_json::{Map as Object, Value};

/// A record's key, what is there, and the fields with those that the scope fixes.
pub struct Place {
    pub key: RecordKey,
    pub stored: Option<RecordRow>,
    pub fields: Object<String, Value>,
}

/// Finds a record's place, or says why it has none.
pub fn find(
    db: &dyn Transaction,
    collections: &Collections,
    identity: &Identity,
    sent: &Sent,
) -> Result<Result<Place, Box<Outcome>>, ServerError> {
    let refuse = |code: &str, message: &str| Ok(Err(Box::new(Outcome::rejected(Seq::ZERO, code, message))));
    let Some(collection) = collections.get(&sent.collection) else {
        return refuse(RejectCode::UNKNOWN_COLLECTION, "The server does not know this table.");
    };
    let mut candidates = scopes(collection, identity, sent);
    let mut places = Vec::new();
    for scope in &candidates {
        let Some(id) = id_of(collection, scope, sent) else {
            return refuse(RejectCode::MALFORMED, "The record has no id, and not the fields that one is made from.");
        };
        let key = RecordKey { scope: scope.clone(), collection: sent.collection.clone(), id };
        let stored = db.record(&key)?;
        places.push((key, stored));
    }
    if candidates.len() > 1 {
        places.retain(|(_, stored)| stored.is_some());
        candidates.retain(|scope| places.iter().any(|(key, _)| key.scope == *scope));
    }
    match (places.pop(), candidates.len()) {
        (Some((key, stored)), 1) => {
            let mut fields = sent.fields.clone();
            for (name, value) in collection.template.values(&key.scope).unwrap_or_default() {
                if collection.template.fields().any(|field| field == name) {
                    fields.insert(name.to_owned(), Value::String(value));
                }
            }
            Ok(Ok(Place { key, stored, fields }))
        }
        // The same words as for a scope that is not held: which of them it is, is nobody's business.
        _ => refuse(RejectCode::FORBIDDEN, "You have no access to this."),
    }
}

/// Scopes of the collection's kind that the author holds and the record's fields do not speak against.
fn scopes(collection: &Collection, identity: &Identity, sent: &Sent) -> Vec<Scope> {
    let own = Scope(format!("user:{}", identity.sub));
    let template = &collection.template;
    if template.fields().next().is_none() {
        // Of what belongs to a person, only one's own.
        return if template.fits(&own) { vec![own] } else { identity_scopes(collection, identity).collect() };
    }
    identity_scopes(collection, identity)
        .filter(|scope| {
            let values = template.values(scope).unwrap_or_default();
            values.iter().all(|(name, value)| sent.fields.get(*name).is_none_or(|said| said.as_str() == Some(value)))
        })
        .collect()
}

fn identity_scopes<'a>(collection: &'a Collection, identity: &'a Identity) -> impl Iterator<Item = Scope> + 'a {
    identity.scopes.iter().filter(|scope| collection.template.fits(scope)).cloned()
}

fn id_of(collection: &Collection, scope: &Scope, sent: &Sent) -> Option<RecordId> {
    match &sent.id {
        Some(id) => Some(RecordId(id.clone())),
        None => super::natural_key::derived(collection, scope, sent),
    }
}
