//! Newtypes of the protocol: a bare string or number never crosses a public signature.

use crate::codec::{FromJson, FromKey, Reader, ToJson, ToKey, fill_pair, whole};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;

macro_rules! transparent {
    ($name:ident) => {
        impl ToJson for $name {
            fn write(&self, out: &mut String) {
                self.0.write(out);
            }
            fn is_blank(&self) -> bool {
                self.0.is_blank()
            }
        }
        impl FromJson for $name {
            fn blank() -> Self {
                Self(FromJson::blank())
            }
            fn fill(&mut self, from: &mut Reader<'_>) -> bool {
                self.0.fill(from)
            }
        }
    };
}
pub(crate) use transparent;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        transparent!($name);
        impl FromKey for $name {
            fn from_key(text: &str) -> Option<Self> {
                Some(Self(text.to_owned()))
            }
        }
        impl ToKey for $name {
            fn write_key(&self, out: &mut String) {
                self.0.write(out);
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            pub const ZERO: Self = Self(0);
            pub fn get(self) -> u64 {
                self.0
            }
            /// The next number. Numbers stay within 2^53−1, which JSON readers hold exactly.
            #[must_use]
            pub fn next(self) -> Self {
                assert!(self.0 < crate::limits::NUMBER_MAX, "BUG: number past 2^53-1");
                Self(self.0 + 1)
            }
        }
        transparent!($name);
        impl FromKey for $name {
            fn from_key(text: &str) -> Option<Self> {
                whole(text).map(Self)
            }
        }
        impl ToKey for $name {
            fn write_key(&self, out: &mut String) {
                out.push('"');
                self.0.write(out);
                out.push('"');
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

text_id!(
    /// The unit of sharing, order and permission, e.g. `user:ada` or `facility:7`.
    Scope
);
text_id!(
    /// A collection of records, as declared in the schema.
    CollectionName
);
text_id!(
    /// The id of a record inside its scope and collection; at most [`crate::limits::ID_BYTES_MAX`] bytes.
    RecordId
);
text_id!(
    /// One user's database in one browser profile. Together with the user it keys the ledger.
    ClientId
);
text_id!(
    /// One `transaction()` of the client.
    GroupId
);
text_id!(
    /// The life of one server database: changes when a backup is restored.
    Epoch
);
number_id!(
    /// The client's wire number: dense, given at first send; (client, seq) is the exactly-once key.
    Seq
);
number_id!(
    /// Server-assigned version of a record; 0 means "did not exist".
    Version
);
number_id!(
    /// The scope's counter: total order of its changes on the server.
    Position
);
number_id!(
    /// Public id of a log entry: its position in the log (`log key × 256 + index in the row`).
    EntryId
);
number_id!(
    /// Milliseconds since 1970-01-01T00:00:00Z by the clock of the machine that says it.
    UnixMillis
);

impl EntryId {
    /// Entries per log row that the numbering leaves room for.
    pub const PER_ROW: u64 = 256;
    pub fn at(log_key: u64, index: usize) -> Self {
        Self(log_key * Self::PER_ROW + index as u64)
    }
    pub fn log_key(self) -> u64 {
        self.0 / Self::PER_ROW
    }
    pub fn index(self) -> usize {
        (self.0 % Self::PER_ROW) as usize
    }
}

/// The full identity of a record on both ends.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RecordKey {
    pub scope: Scope,
    pub collection: CollectionName,
    pub id: RecordId,
}

impl Ord for RecordKey {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.scope.0, &other.scope.0)
            .then_with(|| compare(&self.collection.0, &other.collection.0))
            .then_with(|| compare(&self.id.0, &other.id.0))
    }
}
impl PartialOrd for RecordKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The order of the bytes, eight at a time: in wasm the standard library looks at one after the other, and an outbox is
/// searched by keys that begin alike.
#[inline(never)]
pub fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while let (Some((first, rest)), Some((other, other_rest))) = (a.split_first_chunk(), b.split_first_chunk()) {
        match u64::from_be_bytes(*first).cmp(&u64::from_be_bytes(*other)) {
            Ordering::Equal => (a, b) = (rest, other_rest),
            differ => return differ,
        }
    }
    a.cmp(b)
}

impl RecordKey {
    pub fn new(scope: impl Into<String>, collection: impl Into<String>, id: impl Into<String>) -> Self {
        Self { scope: Scope::new(scope), collection: CollectionName::new(collection), id: RecordId::new(id) }
    }
    pub fn pair(&self) -> Pair {
        Pair(self.scope.clone(), self.collection.clone())
    }
}

/// What reading is granted by and what starts cold: one collection in one scope. JSON: `["scope","collection"]`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pair(pub Scope, pub CollectionName);

crate::wire!(RecordKey { scope: Need, collection: Need, id: Need });

impl ToJson for Pair {
    fn write(&self, out: &mut String) {
        (&self.0, &self.1).write(out);
    }
}
impl FromJson for Pair {
    fn blank() -> Self {
        Self(FromJson::blank(), FromJson::blank())
    }
    fn fill(&mut self, from: &mut Reader<'_>) -> bool {
        fill_pair(from, &mut self.0, &mut self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::compare;

    #[test]
    fn keys_have_the_order_of_their_bytes_wherever_they_differ() {
        let texts = [
            "",
            "a",
            "aaaaaaaa",
            "aaaaaaaab",
            "aaaaaaab",
            "b",
            "é",
            "aaaaaaaaaaaaaaaa",
            "aaaaaaaaaaaaaaaé",
            "aaaaaaa\u{0}",
        ];
        for a in texts {
            for b in texts {
                assert_eq!(compare(a, b), a.cmp(b), "{a:?} {b:?}");
            }
        }
    }
}
