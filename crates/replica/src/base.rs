//! The base for the outbox's rules: server state by key, read from the rows that are in memory.

use landfall_core::{Base, BaseRecord};
use landfall_protocol::{Epoch, Object, Pair, Position, RecordKey, Version};
use landfall_storage::Records;
use landfall_storage::segment::Block;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// [`Records`], as the rules ask for them. An answer that misses rows is "nothing", and the miss is noted: whoever ran
/// the rule reads what was missed and runs it again (`Replica::fetch_missed`).
#[derive(Clone, Debug, Default)]
pub struct PagedBase(pub Records);

impl Deref for PagedBase {
    type Target = Records;
    fn deref(&self) -> &Records {
        &self.0
    }
}
impl DerefMut for PagedBase {
    fn deref_mut(&mut self) -> &mut Records {
        &mut self.0
    }
}

impl PagedBase {
    /// The segment and slot of a record or tombstone.
    pub fn held(&self, key: &RecordKey) -> Option<(Rc<Block>, usize)> {
        let row = self.0.manifest.pair(&key.pair())?;
        let (at, block) = self.0.find(row, false, key.id.as_str()).ok()??;
        Some((block, at.slot as usize))
    }
    pub fn version(&self, key: &RecordKey) -> Option<Version> {
        self.held(key).map(|(block, slot)| block.version(slot))
    }
}

impl Base for PagedBase {
    fn base(&self, key: &RecordKey) -> Option<BaseRecord> {
        let (block, slot) = self.held(key)?;
        let text = block.fields(slot);
        let fields = text.map(Object::stored).unwrap_or_default();
        Some(BaseRecord { version: block.version(slot), deleted: text.is_none(), fields })
    }
    fn covered(&self, pair: &Pair) -> Option<Position> {
        self.0.manifest.pair(pair)?.covered
    }
    fn epoch(&self) -> Option<&Epoch> {
        self.0.manifest.epoch.as_ref()
    }
}
