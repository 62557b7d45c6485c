//! Rules of a business that no declaration can say: a function of whoever runs the server as a library.

use landfall_protocol::{CollectionName, Fields, RecordId, Scope};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A record as it would be stored, valid by its declaration, and who writes it.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// From the verified token, as the roles are (C4).
    pub user: &'a str,
    pub roles: &'a BTreeSet<String>,
    pub scope: &'a Scope,
    pub collection: &'a CollectionName,
    pub id: &'a RecordId,
    pub fields: &'a Fields,
}

/// What is wrong, by field, in words for the person who typed it; empty: nothing is. Called in the transaction that would
/// store the record: it must be quick and depend on nothing else, or a repeat could be judged otherwise.
pub type BusinessRules = Arc<dyn Fn(&Write<'_>) -> BTreeMap<String, String> + Send + Sync>;

/// None of them.
pub fn none() -> BusinessRules {
    Arc::new(|_| BTreeMap::new())
}
