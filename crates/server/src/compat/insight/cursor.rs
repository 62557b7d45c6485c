//! What a cursor of insight stands for: the changes above it, and what its device has seen.

use super::ByTable;
use crate::auth::Identity;
use crate::collections::Collections;
use crate::compat::{Bases, Sent, There, shown};
use crate::cursor::{Cursor, Stage};
use crate::error::ServerError;
use crate::pull::{self, Pull};
use crate::service::now;
use crate::store::{Snapshot, StoreError, Transaction};
use landfall_protocol::{CollectionName, Pair, Position, PullRequest, PullResponse, RecordId, Scope, Version};
use serde_json::{Map as Object, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Records of an answer; with more, `has_more` is true and the next pull goes on.
const ANSWER_MAX: usize = 5_000;

/// What a pull answers: the newest state of each record.
pub struct Changes {
    pub records: BTreeMap<(CollectionName, Scope, RecordId), Value>,
    /// Tables that may be read, changed or not.
    pub tables: BTreeSet<String>,
    pub cursor: String,
    pub has_more: bool,
}

impl Changes {
    /// `asked.cursor` is where the device stands. Without one that can be used it gets everything; if it has been here before
    /// (`was_here`), also what was deleted meanwhile, as far as that is still known.
    pub fn read(
        db: &dyn Snapshot,
        identity: &Identity,
        mut asked: PullRequest,
        was_here: bool,
        collections: &Collections,
    ) -> Result<Self, ServerError> {
        let mut changes =
            Self { records: BTreeMap::new(), tables: BTreeSet::new(), cursor: String::new(), has_more: true };
        for scope in &identity.scopes {
            for name in asked.collections.iter().filter(|name| collections.readable(name, scope, &identity.roles)) {
                changes.tables.insert(name.as_str().to_owned());
                if was_here && asked.cursor.is_none() {
                    changes.add_tombstones(db, scope, name)?;
                }
            }
        }
        while changes.has_more && changes.records.len() < ANSWER_MAX {
            let page = Pull { identity: identity.clone(), request: asked.clone(), now: now() };
            match pull::page(db, &page, collections) {
                Ok(page) => {
                    asked.cursor = Some(page.cursor.clone());
                    changes.add(page);
                }
                // The cursor speaks of a state that is gone: everything, then.
                Err(ServerError::ResetRequired { .. }) if asked.cursor.is_some() => {
                    asked.cursor = None;
                    return Self::read(db, identity, asked, true, collections);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(changes)
    }

    fn add_tombstones(&mut self, db: &dyn Snapshot, scope: &Scope, name: &CollectionName) -> Result<(), StoreError> {
        let limit = u32::try_from(ANSWER_MAX).unwrap_or(u32::MAX);
        for (id, stamp) in db.tombstones(&Pair(scope.clone(), name.clone()), limit)? {
            let record = Value::Object(shown(id.as_str(), Object::new(), true, &stamp));
            self.records.insert((name.clone(), scope.clone(), id), record);
        }
        Ok(())
    }

    fn add(&mut self, page: PullResponse) {
        for (name, changes) in page.changes {
            for change in changes {
                let fields = change.fields.iter().map(|(name, value)| (name.clone(), value.value())).collect();
                let record = shown(change.id.as_str(), fields, false, &change.stamp.unwrap_or_default());
                self.records.insert((name.clone(), change.scope, change.id), Value::Object(record));
            }
        }
        for (name, tombstones) in page.tombstones {
            for gone in tombstones {
                let record = shown(gone.id.as_str(), Object::new(), true, &gone.stamp.unwrap_or_default());
                self.records.insert((name.clone(), gone.scope, gone.id), Value::Object(record));
            }
        }
        (self.cursor, self.has_more) = (page.cursor, page.has_more);
    }

    pub fn by_table(self) -> ByTable {
        let mut tables: ByTable = self.tables.into_iter().map(|table| (table, Vec::new())).collect();
        for ((name, _, _), record) in self.records {
            tables.entry(name.as_str().to_owned()).or_default().push(record);
        }
        tables
    }
}

/// What a cursor covers.
pub struct Covered {
    /// Absent: nothing.
    cursor: Option<Cursor>,
}

impl Covered {
    pub fn of(db: &dyn Transaction, text: Option<&str>) -> Result<Self, StoreError> {
        let epoch = db.epoch()?;
        Ok(Self { cursor: text.and_then(Cursor::decode).filter(|cursor| cursor.epoch == epoch) })
    }

    /// How far the device has seen the pair's changes.
    fn position(&self, scope: &Scope, collection: &CollectionName) -> Option<Position> {
        let scope = self.cursor.as_ref()?.scopes.get(scope)?;
        scope.pairs.get(collection).filter(|stage| **stage == Stage::Live).map(|_| scope.position)
    }
}

impl Bases for Covered {
    fn seen(&self, db: &dyn Transaction, there: &There<'_>, sent: &Sent) -> Result<Option<Version>, StoreError> {
        let version = Some(there.row.stored.version);
        // Its own last change, unless this one is older: then it is a copy that was late.
        let written_ms = there.row.stored.stamp.millis().unwrap_or(0);
        if there.is_own() && sent.changed_at.is_none_or(|at| at.get() >= written_ms) {
            return Ok(version);
        }
        let Some(covered) = self.position(&there.key.scope, &there.key.collection) else { return Ok(None) };
        let is_seen = !there.is_own() && db.record_position(there.key)? <= covered;
        Ok(version.filter(|_| is_seen))
    }
}
