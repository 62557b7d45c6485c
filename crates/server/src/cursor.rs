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

    #[test]
    fn a_cursor_of_a_quarter_of_a_megabyte_is_read_and_a_longer_one_is_nobodys() {
        let cursor = |bytes: usize| {
            let mut cursor = Cursor::new(Epoch::from("e1"));
            cursor.scopes.insert(Scope::from("s".repeat(bytes).as_str()), ScopeCursor::default());
            cursor
        };
        // Three bytes are four letters.
        let beside = serde_json::to_string(&cursor(0)).unwrap().len() + CHECKSUM_BYTES;
        let most = 256 * 1024 / 4 * 3 - beside;
        let (longest, longer) = (cursor(most), cursor(most + 1));
        assert_eq!((longest.encode().len(), longer.encode().len()), (256 * 1024, 256 * 1024 + 2));
        assert_eq!(Cursor::decode(&longest.encode()), Some(longest));
        assert_eq!(Cursor::decode(&longer.encode()), None);
        // A whole one that is far over it, so that it is no matter of the last letters.
        assert_eq!(Cursor::decode(&cursor(2 * most).encode()), None);
    }

    #[test]
    fn r4_the_walk_gives_a_pair_what_its_scan_has_not_seen_and_nothing_that_it_has() {
        let row = |position: u64, id: &str| ChangeRow {
            position: Position(position),
            collection: CollectionName::from("notes"),
            id: RecordId::from(id),
            version: landfall_protocol::Version(1),
            deleted: false,
            fields: "{}".to_owned(),
            stamp: landfall_protocol::Stamp::default(),
        };
        let cold = Stage::Cold { snapshot: Position(5), after_id: RecordId::from("m") };
        let replay = Stage::Replay { snapshot: Position(5), until: Position(9) };
        // Position and id of a change; whether a pair that is live, cold up to "m", and cold to its end gets it.
        let cases = [
            // The scan began when this had happened.
            (5, "a", [true, false, false]),
            (5, "z", [true, false, false]),
            // Happened behind the place that the scan has come to, or before it.
            (6, "a", [true, true, true]),
            (6, "m", [true, true, true]),
            (6, "n", [true, false, true]),
            (4, "a", [true, false, false]),
        ];
        for (position, id, expected) in cases {
            let row = row(position, id);
            let wanted = [&Stage::Live, &cold, &replay].map(|stage| stage.wants(&row));
            assert_eq!(wanted, expected, "{id} at {position}");
        }
    }
}
