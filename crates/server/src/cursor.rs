//! Where a client's pull stands: opaque to it, JSON with a checksum to us.
//!
//! One position per scope: the change log was walked up to there. Beside it, how far each pair has come:
//!
//! ```text
//! cold(after id) ──scan ended at head h──▶ replay(until h) ──position ≥ h──▶ live
//! ```
//! A cold pair's records are read in key order, in whatever state they are then; the walk of the log delivers the changes
//! above `snapshot` meanwhile. At a position ≥ `until` every change that the scan may have seen early or missed has
//! been walked, so the pair is exactly at the scope's position and flips.

use crate::store::ChangeRow;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use landfall_protocol::{CollectionName, Epoch, Position, RecordId, Scope, hash_text};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const CHECKSUM_BYTES: usize = 8;
/// 256 scopes with a few collections each stay far below.
const CURSOR_BYTES_MAX: usize = 256 * 1024;

/// How far a pair has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    Live,
    Cold { snapshot: Position, after_id: RecordId },
    Replay { snapshot: Position, until: Position },
}

impl Stage {
    /// True when the walk must deliver this change to the pair.
    pub fn wants(&self, row: &ChangeRow) -> bool {
        match self {
            Self::Live => true,
            // What the scan has not come to yet it will read as it is then.
            Self::Cold { snapshot, after_id } => row.position > *snapshot && row.id <= *after_id,
            Self::Replay { snapshot, .. } => row.position > *snapshot,
        }
    }
}

/// A scope of a cursor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeCursor {
    pub position: Position,
    pub pairs: BTreeMap<CollectionName, Stage>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub epoch: Epoch,
    pub scopes: BTreeMap<Scope, ScopeCursor>,
    /// The scope that the next page begins with, so that a busy one does not starve the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<Scope>,
}

impl Cursor {
    pub fn new(epoch: Epoch) -> Self {
        Self { epoch, scopes: BTreeMap::new(), turn: None }
    }

    pub fn encode(&self) -> String {
        // A cursor of maps and numbers always serializes.
        let text = serde_json::to_string(self).unwrap_or_default();
        let mut bytes = hash_text(&text)[..CHECKSUM_BYTES].to_vec();
        bytes.extend_from_slice(text.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// `None` for text that [`Cursor::encode`] did not make.
    pub fn decode(text: &str) -> Option<Self> {
        if text.len() > CURSOR_BYTES_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (checksum, json) = bytes.split_at_checked(CHECKSUM_BYTES)?;
        let json = std::str::from_utf8(json).ok()?;
        if hash_text(json)[..CHECKSUM_BYTES] != *checksum {
            return None;
        }
        serde_json::from_str(json).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i3_a_cursor_comes_back_whole_or_not_at_all() {
        let mut cursor = Cursor::new(Epoch::from("e1"));
        let mut pairs = BTreeMap::new();
        pairs.insert(CollectionName::from("notes"), Stage::Live);
        pairs.insert(
            CollectionName::from("movies"),
            Stage::Cold { snapshot: Position(3), after_id: RecordId::from("ü") },
        );
        cursor.scopes.insert(Scope::from("user:ada"), ScopeCursor { position: Position(7), pairs });
        let text = cursor.encode();
        assert_eq!(Cursor::decode(&text), Some(cursor));
        for at in [0, 5, text.len() / 2, text.len() - 2] {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(Cursor::decode(&String::from_utf8(bytes).unwrap()), None, "byte {at}");
        }
        assert_eq!(Cursor::decode(""), None);
        assert_eq!(Cursor::decode("not base64!"), None);
    }
}
