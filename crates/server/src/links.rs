//! What records say about each other: unique keys, references, and what a delete takes along.
//!
//! A record's links are kept beside it, in the transaction that writes it: one for each further unique key and one for each
//! reference. They follow from the record and the declaration, so a changed declaration makes them anew at start.

use crate::auth::Identity;
use crate::collections::{Collection, Collections, OnDelete};
use crate::store::{StoreError, StoreResult, Transaction};
use landfall_core::authority::Stored;
use landfall_core::derive::{KeyField, derived_id, key_text};
use landfall_protocol::limits::CASCADE_COUNT_MAX;
use landfall_protocol::{
    CollectionName, Fields, Json, Mutation, Op, Outcome, Pair, RecordId, RecordKey, RejectCode, Scope,
};
use std::collections::BTreeSet;
use unicode_normalization::UnicodeNormalization;

/// What a live record is found by.
pub fn links(key: &RecordKey, collection: &Collection, fields: &Fields) -> Vec<String> {
    let further = collection.unique.iter().skip(1).filter_map(|unique| {
        let text = text_of(&key.scope, &key.collection, unique, fields).ok()?;
        Some(unique_link(unique, &text))
    });
    let references = collection.references.iter().filter_map(|reference| {
        let id = fields.get(&reference.field)?.as_string()?;
        Some(reference_link(&reference.field, &reference.collection, &id))
    });
    further.chain(references).collect()
}

fn text_of<'a>(
    scope: &Scope,
    collection: &CollectionName,
    key: &'a [KeyField],
    fields: &Fields,
) -> Result<String, &'a str> {
    key_text(scope, collection, key, fields, &|text| text.nfc().collect())
}

fn unique_link(key: &[KeyField], text: &str) -> String {
    let names: Vec<&str> = key.iter().map(|field| field.name.as_str()).collect();
    format!("unique {} {text}", names.join(","))
}

fn reference_link(field: &str, parent: &CollectionName, id: &str) -> String {
    format!("parent {field} {parent} {id}")
}

/// What is wrong with a record that is to be stored, beside its own values.
pub fn refusal(
    db: &dyn Transaction,
    identity: &Identity,
    collections: &Collections,
    mutation: &Mutation,
    before: Option<&Stored>,
    fields: &Fields,
) -> StoreResult<Option<Outcome>> {
    let Some(collection) = collections.get(&mutation.collection) else { return Ok(None) };
    let before = before.filter(|stored| !stored.deleted);
    for (at, unique) in collection.unique.iter().enumerate() {
        if let Some(outcome) = key_refusal(db, mutation, before, fields, unique, at == 0)? {
            return Ok(Some(outcome));
        }
    }
    for reference in &collection.references {
        let now = fields.get(&reference.field).filter(|value| **value != Json::null());
        if now.is_none() || before.is_some_and(|stored| stored.fields.get(&reference.field) == now) {
            continue;
        }
        let id = now.and_then(Json::as_string);
        let parent = collections.get(&reference.collection);
        let is_there = match (&id, parent) {
            (Some(id), Some(parent)) => {
                let pair = (&reference.collection, parent);
                let parent = RecordId(id.clone());
                (mutation.collection == reference.collection && mutation.id == parent)
                    || resolves(db, identity, &mutation.scope, pair, &parent)?
            }
            (None, _) | (_, None) => false,
        };
        if !is_there {
            let mut outcome =
                refused(mutation, RejectCode::MISSING_PARENT, "It belongs to a record that is not there.");
            outcome.fields.insert(reference.field.clone(), "names a record that is not there".to_owned());
            return Ok(Some(outcome));
        }
    }
    Ok(None)
}

fn refused(mutation: &Mutation, code: &str, message: &str) -> Outcome {
    Outcome::rejected(mutation.seq, code, message)
}

fn key_refusal(
    db: &dyn Transaction,
    mutation: &Mutation,
    before: Option<&Stored>,
    fields: &Fields,
    unique: &[KeyField],
    gives_id: bool,
) -> StoreResult<Option<Outcome>> {
    let now = text_of(&mutation.scope, &mutation.collection, unique, fields);
    let was = before.map(|stored| text_of(&mutation.scope, &mutation.collection, unique, &stored.fields));
    if was.as_ref().is_some_and(|was| *was == now) {
        return Ok(None);
    }
    let words = |code: &str, message: &str, text: &str| {
        let mut outcome = refused(mutation, code, message);
        for field in unique {
            outcome.fields.insert(field.name.clone(), text.to_owned());
        }
        Some(outcome)
    };
    let text = match now {
        Ok(text) => text,
        Err(missing) => {
            let mut outcome = refused(mutation, RejectCode::VALIDATION, "Some values are not valid.");
            outcome.fields.insert(missing.to_owned(), "is needed to tell this record from others".to_owned());
            return Ok(Some(outcome));
        }
    };
    if matches!(was, Some(Ok(_))) {
        let message = "These values tell this record from others and cannot change.";
        return Ok(words(RejectCode::IMMUTABLE, message, "cannot change"));
    }
    if gives_id {
        let id = derived_id(&text);
        let fits = mutation.op != Op::Create || id == mutation.id;
        let message = format!("By its values the id of this record is {id}.");
        return Ok(if fits { None } else { Some(refused(mutation, RejectCode::ID_MISMATCH, &message)) });
    }
    let pair = Pair(mutation.scope.clone(), mutation.collection.clone());
    let mut others = db.linked(&pair, &unique_link(unique, &text), 2)?;
    others.retain(|id| *id != mutation.id);
    let Some(other) = others.into_iter().next() else { return Ok(None) };
    let mut outcome = words(RejectCode::DUPLICATE, "There is such a record already.", "is taken");
    if let Some(outcome) = &mut outcome {
        outcome.fields.insert("existing_id".to_owned(), other.0);
    }
    Ok(outcome)
}

/// A reference resolves in every scope that its writer may read.
fn resolves(
    db: &dyn Transaction,
    identity: &Identity,
    own: &Scope,
    (name, parent): (&CollectionName, &Collection),
    id: &RecordId,
) -> StoreResult<bool> {
    let is_there = |scope: &Scope| -> StoreResult<bool> {
        let key = RecordKey { scope: scope.clone(), collection: name.clone(), id: id.clone() };
        Ok(parent.template.fits(scope) && db.record(&key)?.is_some_and(|row| !row.stored.deleted))
    };
    if is_there(own)? {
        return Ok(true);
    }
    if parent.may_read(&identity.roles) {
        for scope in identity.scopes.iter().filter(|scope| *scope != own) {
            if is_there(scope)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The records that go with a deleted one, or why it can't be deleted: parents before their children.
pub fn cascade(
    db: &dyn Transaction,
    collections: &Collections,
    mutation: &Mutation,
) -> StoreResult<Result<Vec<RecordKey>, Box<Outcome>>> {
    let first = mutation.key();
    let mut seen = BTreeSet::from([first.clone()]);
    let mut found = vec![first];
    let mut at = 0;
    let refuse = |text: &str| Ok(Err(Box::new(refused(mutation, RejectCode::HAS_CHILDREN, text))));
    while let Some(parent) = found.get(at).cloned() {
        at += 1;
        for (name, collection) in collections.iter() {
            for reference in collection.references.iter().filter(|reference| reference.collection == parent.collection)
            {
                let link = reference_link(&reference.field, &parent.collection, parent.id.as_str());
                let pair = Pair(parent.scope.clone(), name.clone());
                for id in db.linked(&pair, &link, CASCADE_COUNT_MAX + 1)? {
                    let child = RecordKey { scope: pair.0.clone(), collection: name.clone(), id };
                    if !seen.insert(child.clone()) {
                        continue;
                    }
                    match reference.on_delete {
                        OnDelete::Refuse => return refuse("Other records belong to this one."),
                        OnDelete::Cascade if found.len() > CASCADE_COUNT_MAX => {
                            return refuse("More records belong to this one than can be deleted at once.");
                        }
                        OnDelete::Cascade => found.push(child),
                    }
                }
            }
        }
    }
    found.remove(0);
    Ok(Ok(found))
}

/// True when some collection refers to this one.
pub fn is_parent(collections: &Collections, name: &CollectionName) -> bool {
    collections.iter().any(|(_, other)| other.references.iter().any(|reference| reference.collection == *name))
}

/// What the links are made of, as text: other declarations need other links.
fn declared(collections: &Collections) -> String {
    let mut text = String::new();
    for (name, collection) in collections.iter() {
        let further = collection.unique.get(1..).unwrap_or_default();
        let targets: Vec<_> =
            collection.references.iter().map(|reference| (&reference.field, &reference.collection)).collect();
        if !further.is_empty() || !targets.is_empty() {
            text.push_str(&format!("{name} {further:?} {targets:?}\n"));
        }
    }
    text
}

/// Makes all links anew where the declaration is not the one that they were made by.
pub fn relink(db: &dyn Transaction, collections: &Collections) -> StoreResult<()> {
    let declared = declared(collections);
    if db.links_declared()? == declared {
        return Ok(());
    }
    db.clear_links()?;
    for (name, collection) in collections.iter() {
        if collection.unique.len() < 2 && collection.references.is_empty() {
            continue;
        }
        let mut wrong = None;
        db.each_record(name, &mut |scope, id, text| {
            let key = RecordKey { scope, collection: name.clone(), id };
            let fields = serde_json::from_str(text).map_err(|_| StoreError::Corrupt("a record is no JSON"));
            let put = fields.and_then(|fields| db.put_links(&key, &links(&key, collection, &fields)));
            wrong = wrong.take().or(put.err());
        })?;
        if let Some(error) = wrong {
            return Err(error);
        }
    }
    db.set_links_declared(&declared)
}
