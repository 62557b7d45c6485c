//! Consecutive mutations of one scope: one transaction of the protocol, at one position.

use crate::store::{RecordWrite, ScopeRow, StoreError, Transaction};
use landfall_core::authority::Stored;
use landfall_protocol::{CollectionName, Map, Pair, Position, RecordKey, RecordSum, Scope, UnixMillis, Version};

/// The scope that is being written, with its counter locked. A copy taken at a savepoint undoes it in memory.
#[derive(Clone)]
pub struct Run {
    pub scope: Scope,
    row: ScopeRow,
    /// Taken by the first effect, so that no position is burned.
    position: Option<Position>,
    part: u32,
    /// What the checksums and counts of live records gain, by collection.
    sums: Map<CollectionName, (RecordSum, i64)>,
}

impl Run {
    pub fn start(db: &dyn Transaction, scope: &Scope) -> Result<Self, StoreError> {
        let row = db.lock_scope(scope)?;
        Ok(Self { scope: scope.clone(), row, position: None, part: 0, sums: Map::new() })
    }

    pub fn version_floor(&self) -> Version {
        self.row.version_floor
    }
    /// Where the counter stands.
    pub fn current(&self) -> Position {
        self.position.unwrap_or(self.row.position)
    }
    /// Where the next effect is written.
    pub fn next(&self) -> Position {
        self.position.unwrap_or_else(|| self.row.position.next())
    }

    /// Writes an effect. `live_before` is the version of the record that it replaces.
    pub fn write(
        &mut self,
        db: &dyn Transaction,
        key: &RecordKey,
        stored: &Stored,
        live_before: Option<Version>,
        sub: &str,
        at: UnixMillis,
    ) -> Result<(), StoreError> {
        let position = self.next();
        self.position = Some(position);
        self.part += 1;
        let (sum, live_count) = self.sums.entry(key.collection.clone()).or_default();
        if let Some(version) = live_before {
            sum.remove(&key.id, version);
            *live_count -= 1;
        }
        if !stored.deleted {
            sum.add(&key.id, stored.version);
            *live_count += 1;
        }
        db.write_record(&RecordWrite { key, position, part: self.part, sub, stored, at })
    }

    /// Moves the counter if anything was written; where it stands.
    pub fn end(self, db: &dyn Transaction) -> Result<Position, StoreError> {
        if let Some(position) = self.position {
            db.set_position(&self.scope, position)?;
            for (name, (sum, live_count)) in &self.sums {
                db.add_sum(&Pair(self.scope.clone(), name.clone()), *sum, *live_count)?;
            }
        }
        Ok(self.current())
    }
}
