//! What its author is told when somebody undid a change of theirs without having seen it (C2).
//!
//! The server says it with the page that brings the change. Kept like what lost at settle: listed, and to be written again.

use crate::plan::OutboxTxn;
use crate::plant::{Plant, planted};
use crate::rows::ConflictRow;
use crate::settle::Event;
use crate::state::{Base, State};
use landfall_protocol::codec::padded;
use landfall_protocol::{
    EntryId, Json, Map, Object, Outcome, Overruled, RecordId, RecordKey, ResultStatus, Seq, UnixMillis, Version,
    record_hash,
};

/// Keeps what is new of it. `None`: nothing is. A page that comes again says the same under the same keys.
pub fn plan_overruled(
    state: &State,
    base: &dyn Base,
    kept: &Map<String, ConflictRow>,
    losses: &[Overruled<Json>],
    now: UnixMillis,
) -> Option<(OutboxTxn, Vec<Event>)> {
    let mut txn = OutboxTxn::new("overruled", state);
    let mut events = Vec::new();
    for loss in losses {
        let Overruled { scope, collection, id, position, .. } = loss;
        let row = ["conflict/~", &padded(position.get(), 16), "/", &scope.0, "/", &collection.0, "/", &id.0].concat();
        let Some(set) = Object::from_json(loss.fields.clone()) else { continue };
        if kept.contains_key(&row) || planted(Plant::OverruledNotTold) {
            continue;
        }
        let mut outcome = Outcome::new(Seq::ZERO, ResultStatus::Superseded);
        outcome.code = Some(loss.code.clone());
        outcome.record = loss.record.clone().and_then(Object::from_json);
        outcome.deleted = outcome.record.is_none();
        // An id that no entry of the log has, and the same in every context.
        let hash = record_hash(&RecordId(row.clone()), Version::ZERO);
        let conflict = ConflictRow {
            seq: Seq::ZERO,
            entry: EntryId((hash >> 12) | (1 << 52)),
            at: loss.at,
            key: RecordKey { scope: scope.clone(), collection: collection.clone(), id: id.clone() },
            op: loss.op,
            set,
            unset: Vec::new(),
            outcome,
        };
        txn.conflicts.insert(row.clone(), Some(conflict));
        events.push(Event::Conflict { row });
    }
    (!events.is_empty()).then(|| (txn.finish(state, base, now), events))
}
