//! Ids made from a record's natural key, so that whoever makes the record, and wherever, gives it the same one.
//!
//! `UUIDv5(NAMESPACE, JCS([scope, collection, k1…kn]))`, RFC 9562 section 5.5 and RFC 8785. The parts of the key come in as
//! JSON texts that are canonical already: times in UTC with three digits of a second, texts in NFC, numbers as
//! JavaScript writes them. SHA-1 names things here and protects nothing, so forty lines of it do.

use crate::codec::write_string;
use crate::{CollectionName, RecordId, Scope};

/// Ids of all Landfall servers come from here: it never changes.
pub const NAMESPACE: [u8; 16] =
    [0x8f, 0x1d, 0x3a, 0x56, 0x0c, 0x72, 0x4e, 0x9b, 0xa4, 0x5d, 0x61, 0x2e, 0xb7, 0x90, 0x33, 0xc8];

/// The id of the record that `key` names; its parts are canonical JSON texts, in the order of the declaration.
pub fn derived_id(scope: &Scope, collection: &CollectionName, key: &[&str]) -> RecordId {
    let mut name = String::from("[");
    write_string(&mut name, scope.as_str());
    name.push(',');
    write_string(&mut name, collection.as_str());
    for part in key {
        name.push(',');
        name.push_str(part);
    }
    name.push(']');
    RecordId(uuid_v5(&NAMESPACE, name.as_bytes()))
}

fn uuid_v5(namespace: &[u8; 16], name: &[u8]) -> String {
    let mut message = namespace.to_vec();
    message.extend_from_slice(name);
    let hash = sha1(message);
    let mut text = String::with_capacity(36);
    for (at, byte) in hash.into_iter().take(16).enumerate() {
        let byte = match at {
            6 => byte & 0x0f | 0x50,
            8 => byte & 0x3f | 0x80,
            _ => byte,
        };
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(digit), 16));
        }
    }
    text
}

/// FIPS 180-4, section 6.1.
fn sha1(mut message: Vec<u8>) -> [u8; 20] {
    let bits = (message.len() as u64) * 8;
    message.push(0x80);
    while message.len() % 64 != 56 {
        message.push(0);
    }
    message.extend_from_slice(&bits.to_be_bytes());
    let mut state = [0x6745_2301_u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    for block in message.chunks_exact(64) {
        let mut words = [0_u32; 80];
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
            *word = bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
        }
        for at in 16..80 {
            words[at] = (words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (round, word) in words.into_iter().enumerate() {
            let (mix, constant) = match round {
                0..20 => (b & c | !b & d, 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => (b & c | b & d | c & d, 0x8f1b_bcdc_u32),
                _ => (b ^ c ^ d, 0xca62_c1d6),
            };
            let next = a.rotate_left(5).wrapping_add(mix).wrapping_add(e).wrapping_add(constant).wrapping_add(word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (sum, word) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(word);
        }
    }
    let mut hash = [0; 20];
    for (bytes, word) in hash.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn hashes_and_names_are_those_of_the_standards() {
        assert_eq!(hex(&sha1(b"abc".to_vec())), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(hex(&sha1(Vec::new())), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        let million = hex(&sha1(vec![b'a'; 1_000_000]));
        assert_eq!(million, "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
        // RFC 9562, appendix A.4.
        let dns: [u8; 16] =
            [0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8];
        assert_eq!(uuid_v5(&dns, b"www.example.com"), "2ed6657d-e927-568b-95e1-2665a8aea6a2");
    }

    #[test]
    fn each_part_of_the_key_counts_and_the_id_is_the_same_for_ever() {
        let id = |scope: &str, collection: &str, key: &[&str]| {
            derived_id(&scope.into(), &collection.into(), key).as_str().to_owned()
        };
        let key = ["\"device_123\"", "\"2024-01-01T08:00:00.000Z\""];
        let one = id("user:ada", "attendance", &key);
        assert_eq!(one, GOLDEN);
        for other in [
            id("user:ad", "attendance", &key),
            id("user:ada", "attendances", &key),
            id("user:ada", "attendance", &key[..1]),
            id("user:ada", "attendance", &[key[1], key[0]]),
        ] {
            assert_ne!(other, one);
        }
    }

    /// Worked out by another implementation (Python's uuid5 over the same text).
    const GOLDEN: &str = "1f00ac57-b181-536b-b4cb-2cefa96d4209";
}
