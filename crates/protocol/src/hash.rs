//! The two hashes of the protocol: SHA-256 of a mutation's bytes (S3) and the running sum over a pair's records.

use crate::codec::{FromJson, Reader, ToJson, write_hex};
use crate::{RecordId, Version};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use xxhash_rust::xxh64::xxh64;

/// SHA-256 of a mutation's exact bytes, 32 bytes. Two sends of one seq are the same iff these are equal.
pub fn hash_text(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// 64-bit hash of one live record at one version.
pub fn record_hash(id: &RecordId, version: Version) -> u64 {
    // In one piece: a hash that takes its input bit by bit is another routine.
    let mut bytes = Vec::with_capacity(id.as_str().len() + 9);
    bytes.extend_from_slice(id.as_str().as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(&version.get().to_be_bytes());
    xxh64(&bytes, 0)
}

/// Where the client's index of undecided entries looks for a record of any scope. Part of the format of stored rows.
pub fn lane_hash(collection: &str, id: &str) -> u32 {
    (xxh64(id.as_bytes(), xxh64(collection.as_bytes(), 0)) >> 32) as u32
}

/// Wrapping sum of [`record_hash`] over the live records of one (scope, collection). JSON: 16 hex digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordSum(pub u64);

impl RecordSum {
    pub fn add(&mut self, id: &RecordId, version: Version) {
        self.0 = self.0.wrapping_add(record_hash(id, version));
    }
    pub fn remove(&mut self, id: &RecordId, version: Version) {
        self.0 = self.0.wrapping_sub(record_hash(id, version));
    }
}

impl ToJson for RecordSum {
    fn write(&self, out: &mut String) {
        out.push('"');
        write_hex(out, self.0, 16);
        out.push('"');
    }
}
impl FromJson for RecordSum {
    fn blank() -> Self {
        Self(0)
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        let sum = from.string().and_then(|text| u64::from_str_radix(&text, 16).ok());
        sum.map(|sum| self.0 = sum).is_some()
    }
}
impl Serialize for RecordSum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{:016x}", self.0))
    }
}
impl<'de> Deserialize<'de> for RecordSum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(Self).map_err(|_| serde::de::Error::custom("checksum"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r1_the_sum_does_not_depend_on_the_order_of_changes() {
        let (a, b) = (RecordId::from("a"), RecordId::from("b"));
        let mut x = RecordSum::default();
        x.add(&a, Version(1));
        x.add(&b, Version(1));
        x.remove(&a, Version(1));
        x.add(&a, Version(2));
        let mut y = RecordSum::default();
        y.add(&a, Version(2));
        y.add(&b, Version(1));
        assert_eq!(x, y);
        assert_ne!(record_hash(&a, Version(1)), record_hash(&b, Version(1)));
    }

    #[test]
    fn the_hash_of_a_lane_stays_as_it_was_stored() {
        assert_eq!(lane_hash("notes", "n1"), 0xcfde_9513);
        assert_ne!(lane_hash("notes", "n1"), lane_hash("tasks", "n1"));
    }
}
