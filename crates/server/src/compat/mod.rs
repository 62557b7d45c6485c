//! The endpoints of three systems that were there before: grades, insight, attendance, with their own shapes of JSON.
//!
//! They have no keys, bases or seqs. Each record of a request becomes one ungrouped mutation of the client
//! `compat:{sub}:{device_id}` and is judged by the same authority as any other, in one transaction for the request. That a
//! record sent twice has one effect comes from the rule that equal fields are `applied` before any version is
//! looked at. docs/protocol.md says what these endpoints do not promise.

pub mod attendance;
pub mod grades;
pub mod insight;
mod natural_key;
mod place;
mod time;

use crate::auth::Identity;
use crate::collections::Collections;
use crate::error::ServerError;
use crate::lone::{self, Speaker};
use crate::routes::Shared;
use crate::store::{RecordRow, StoreError, Transaction};
use axum::Router;
use landfall_protocol::limits::BATCH_COUNT_MAX;
use landfall_protocol::{
    ClientId, CollectionName, Op, Outcome, RecordId, RecordKey, RejectCode, ResultStatus, Stamp, UnixMillis, Version,
    hash_text,
};
use place::Place;
use serde_json::{Map as Object, Value, json};

/// How the clients of these endpoints are called.
const CLIENT_PREFIX: &str = "compat:";
/// A client's name, bytes.
const CLIENT_BYTES_MAX: usize = 64;

pub fn router() -> Router<Shared> {
    Router::new().merge(attendance::router()).merge(grades::router()).merge(insight::router())
}

/// The client that a device of an older system is.
fn client_of(sub: &str, device: &str) -> ClientId {
    named(sub, device, "")
}

/// The client that sends a device's late copies. Between mutations of one client the authority goes by their seqs, and these
/// endpoints give seqs in the order of arrival: a copy that comes late must not count as a client's newest word.
fn late_client_of(sub: &str, device: &str) -> ClientId {
    named(sub, device, ":late")
}

fn named(sub: &str, device: &str, part: &str) -> ClientId {
    let name = format!("{CLIENT_PREFIX}{sub}:{device}{part}");
    if name.len() <= CLIENT_BYTES_MAX {
        return ClientId(name);
    }
    let hash = hash_text(&format!("{sub}\n{device}\n{part}"));
    ClientId(hash[..16].iter().fold(CLIENT_PREFIX.to_owned(), |name, byte| format!("{name}{byte:02x}")))
}

/// A record as a request has it, in the names of the collection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sent {
    pub collection: CollectionName,
    /// None: made from the natural key.
    pub id: Option<String>,
    pub fields: Object<String, Value>,
    pub deleted: bool,
    /// When its author changed it last, by the author's clock.
    pub changed_at: Option<UnixMillis>,
    /// The version that its author says it stands on, in a system that knows versions.
    pub seen: Option<Version>,
}

/// What became of a record.
#[derive(Debug)]
pub struct Judged {
    pub outcome: Outcome,
    /// The record after it, where its author may see it.
    pub after: Option<RecordRow>,
    pub id: Option<RecordId>,
    /// There was no record before.
    pub is_new: bool,
}

impl Judged {
    /// Of a record that never came to be judged.
    fn refused(outcome: Outcome) -> Self {
        Self { outcome, after: None, id: None, is_new: false }
    }
}

/// How the documents sort what became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Synced,
    Conflict,
    Error,
}

impl Judged {
    pub fn class(&self) -> Class {
        match self.outcome.status {
            ResultStatus::Applied | ResultStatus::Merged | ResultStatus::Recreated => Class::Synced,
            ResultStatus::Superseded | ResultStatus::Conflict => Class::Conflict,
            ResultStatus::Rejected if self.outcome.code.as_deref() == Some(RejectCode::STALE) => Class::Conflict,
            ResultStatus::Rejected | ResultStatus::AlreadySettled | ResultStatus::KeyReused => Class::Error,
        }
    }

    /// Why a record was refused, in the fields that all three systems get.
    pub fn error(&self) -> Object<String, Value> {
        let outcome = &self.outcome;
        let mut error = Object::new();
        error.insert("code".to_owned(), json!(outcome.code));
        error.insert("message".to_owned(), json!(outcome.message));
        if !outcome.fields.is_empty() {
            error.insert("fields".to_owned(), json!(outcome.fields));
        }
        error
    }

    /// The record after it as the documents show records: `id`, the fields, and the server's `updated_at`.
    pub fn server_record(&self) -> Option<Object<String, Value>> {
        let row = self.after.as_ref()?;
        let fields = row.stored.fields.iter().map(|(name, value)| (name.clone(), value.value()));
        let id = self.id.as_ref().map(RecordId::as_str).unwrap_or_default();
        Some(shown(id, fields.collect(), row.stored.deleted, &row.stored.stamp))
    }
}

/// A record as the documents show it. `updated_at` is the server's: the stamp that the newest change was given.
fn shown(id: &str, mut fields: Object<String, Value>, deleted: bool, stamp: &Stamp) -> Object<String, Value> {
    let updated_at = Value::String(time::format(UnixMillis(stamp.millis().unwrap_or(0))));
    if deleted {
        fields.clear();
        fields.insert("deleted_at".to_owned(), updated_at.clone());
    }
    fields.insert("id".to_owned(), id.into());
    fields.insert("updated_at".to_owned(), updated_at);
    fields
}

/// A device that sends records, at a time.
pub struct Sender {
    pub identity: Identity,
    pub device: String,
    pub now: UnixMillis,
}

/// Which version of a record its author has seen: what the record's own is compared with.
pub trait Bases {
    /// `None`: not the one that is there. Only asked of a record that is there, or was.
    fn seen(&self, db: &dyn Transaction, there: &There<'_>, sent: &Sent) -> Result<Option<Version>, StoreError>;
}

/// A record that is there, or was.
pub struct There<'a> {
    pub key: &'a RecordKey,
    pub row: &'a RecordRow,
    /// The client that its next writer is.
    pub client: &'a ClientId,
    pub sub: &'a str,
}

impl There<'_> {
    /// The device that sends it wrote it last.
    fn is_own(&self) -> bool {
        self.row.sub == self.sub && self.row.stored.client == *self.client
    }
}

impl Sender {
    pub fn client(&self) -> ClientId {
        client_of(&self.identity.sub, &self.device)
    }

    /// Judges a record and writes what it does.
    pub fn send(
        &self,
        db: &dyn Transaction,
        collections: &Collections,
        sent: &Sent,
        bases: &dyn Bases,
    ) -> Result<Judged, ServerError> {
        let Place { key, stored, fields } = match place::find(db, collections, &self.identity, sent)? {
            Ok(place) => place,
            Err(outcome) => return Ok(Judged::refused(*outcome)),
        };
        let (sub, client) = (self.identity.sub.as_str(), self.client());
        let base = match &stored {
            None => Version::ZERO,
            // Any version but the record's says that its author has not seen it.
            Some(row) => {
                let there = There { key: &key, row, client: &client, sub };
                bases.seen(db, &there, sent)?.unwrap_or(Version::ZERO)
            }
        };
        let is_late = stored.as_ref().is_some_and(|row| {
            let is_own = row.sub == sub && row.stored.client == client;
            is_own && sent.changed_at.is_some_and(|at| Some(at.get()) < row.stored.stamp.millis())
        });
        let client = if is_late { late_client_of(sub, &self.device) } else { client };
        let is_live = stored.as_ref().is_some_and(|row| !row.stored.deleted);
        let op = match (sent.deleted, is_live) {
            (true, _) => Op::Delete,
            (false, true) => Op::Update,
            (false, false) => Op::Create,
        };
        let changed_ms = sent.changed_at.unwrap_or(self.now).get().min(MILLIS_MAX);
        let mut mutation = json!({
            "scope": key.scope, "collection": key.collection, "id": key.id, "op": op, "base": base,
            "stamp": Stamp::new(changed_ms, 0, client.as_str()),
        });
        if op != Op::Delete {
            mutation["set"] = Value::Object(fields);
        }
        let speaker = Speaker { identity: &self.identity, client, device: &self.device, now: self.now };
        let outcome = lone::send(db, collections, speaker, mutation)?;
        // What was refused must not show what its author may not see.
        let after = if outcome.status == ResultStatus::Rejected { None } else { db.record(&key)? };
        Ok(Judged { outcome, after, id: Some(key.id), is_new: stored.is_none() })
    }
}

/// Twelve hex digits of a stamp.
const MILLIS_MAX: u64 = (1 << 48) - 1;

/// Records of a request: a bounded number.
fn check_count(count: usize) -> Result<(), ServerError> {
    if count > BATCH_COUNT_MAX {
        return Err(ServerError::TooLarge(format!("a request has at most {BATCH_COUNT_MAX} records")));
    }
    Ok(())
}

/// A device's name: 1 to 128 bytes.
fn check_device(device: &str) -> Result<(), ServerError> {
    if (1..=128).contains(&device.len()) {
        Ok(())
    } else {
        Err(ServerError::Malformed("a device_id has between 1 and 128 bytes".to_owned()))
    }
}

/// Takes a record of a request apart: what all systems say of a record in the same words.
fn sent(collection: &str, record: Value) -> Result<Sent, ServerError> {
    let Value::Object(mut fields) = record else {
        return Err(ServerError::Malformed("a record is an object".to_owned()));
    };
    let id = match fields.remove("id") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => Some(id),
        Some(_) => return Err(ServerError::Malformed("an id is a text".to_owned())),
    };
    let deleted = fields.remove("deleted_at").is_some_and(|at| !at.is_null());
    // The server's own words; what a client sends of them are its copies.
    fields.remove("synced_at");
    let changed_at = fields.remove("updated_at").as_ref().and_then(Value::as_str).and_then(time::parse);
    Ok(Sent { collection: CollectionName::from(collection), id, fields, deleted, changed_at, seen: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_one_client_however_long_its_name_is() {
        assert_eq!(client_of("ada", "phone").as_str(), "compat:ada:phone");
        let long = client_of("ada", &"x".repeat(128));
        assert_eq!(long.as_str().len(), CLIENT_PREFIX.len() + 32);
        assert_ne!(long, client_of("ad", &format!("a{}", "x".repeat(128))));
        assert_eq!(long, client_of("ada", &"x".repeat(128)));
    }

    #[test]
    fn what_a_record_says_of_itself_is_taken_apart_from_its_values() {
        let record = json!({"id": "r", "score": 7, "updated_at": "1970-01-01T00:00:01Z", "deleted_at": null});
        let sent = sent("scores", record).unwrap();
        assert_eq!((sent.id.as_deref(), sent.changed_at, sent.deleted), (Some("r"), Some(UnixMillis(1000)), false));
        assert_eq!(Value::Object(sent.fields), json!({"score": 7}));
    }
}
