//! What this server knows of a client, as a reset tells it.

use crate::store::{ClientRow, Snapshot, StoreError};
use landfall_protocol::{ClientId, Ledger, Seq};

/// What this server knows of a client.
pub fn ledger(
    db: &(impl Snapshot + ?Sized),
    sub: &str,
    client: &ClientId,
    known: Option<&ClientRow>,
) -> Result<Ledger, StoreError> {
    Ok(Ledger {
        known: known.is_some(),
        acked_through: known.map_or(Seq::ZERO, |row| row.acked_through),
        entries: db.ledger(sub, client)?,
    })
}
