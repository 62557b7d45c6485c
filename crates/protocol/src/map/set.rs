//! [`Set`]: a map without values.

use super::{IntoIter, Keys, Map};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;

/// An ordered set.
#[derive(Clone)]
pub struct Set<K> {
    map: Map<K, ()>,
}

impl<K> Set<K> {
    pub const fn new() -> Self {
        Self { map: Map::new() }
    }
    pub fn len(&self) -> usize {
        self.map.len()
    }
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
    pub fn clear(&mut self) {
        self.map.clear();
    }
    pub fn iter(&self) -> Keys<'_, K, ()> {
        self.map.keys()
    }
    pub fn first(&self) -> Option<&K> {
        self.iter().next()
    }
    pub fn last(&self) -> Option<&K> {
        self.iter().next_back()
    }
}

impl<K: Ord> Set<K> {
    pub fn retain(&mut self, mut keep: impl FnMut(&K) -> bool) {
        self.map.retain(|key, ()| keep(key));
    }
    pub fn insert(&mut self, key: K) -> bool {
        self.map.insert(key, ())
    }
    pub fn contains<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.map.contains_key(key)
    }
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.map.remove(key).is_some()
    }
    pub fn pop_first(&mut self) -> Option<K> {
        self.map.pop_first().map(|(key, ())| key)
    }
    pub fn pop_last(&mut self) -> Option<K> {
        self.map.pop_last().map(|(key, ())| key)
    }
}

/// Owned keys in order.
pub struct IntoKeys<K>(IntoIter<K, ()>);

impl<K> Iterator for IntoKeys<K> {
    type Item = K;
    fn next(&mut self) -> Option<K> {
        self.0.next().map(|(key, ())| key)
    }
}
impl<K> DoubleEndedIterator for IntoKeys<K> {
    fn next_back(&mut self) -> Option<K> {
        self.0.next_back().map(|(key, ())| key)
    }
}

impl<K> IntoIterator for Set<K> {
    type Item = K;
    type IntoIter = IntoKeys<K>;
    fn into_iter(self) -> IntoKeys<K> {
        IntoKeys(self.map.into_iter())
    }
}
impl<'a, K> IntoIterator for &'a Set<K> {
    type Item = &'a K;
    type IntoIter = Keys<'a, K, ()>;
    fn into_iter(self) -> Keys<'a, K, ()> {
        self.iter()
    }
}
impl<K> Default for Set<K> {
    fn default() -> Self {
        Self::new()
    }
}
impl<K: Ord> Extend<K> for Set<K> {
    fn extend<I: IntoIterator<Item = K>>(&mut self, keys: I) {
        keys.into_iter().for_each(|key| _ = self.insert(key));
    }
}
impl<'a, K: Ord + Copy + 'a> Extend<&'a K> for Set<K> {
    fn extend<I: IntoIterator<Item = &'a K>>(&mut self, keys: I) {
        self.extend(keys.into_iter().copied());
    }
}
impl<K: Ord> FromIterator<K> for Set<K> {
    fn from_iter<I: IntoIterator<Item = K>>(keys: I) -> Self {
        let mut set = Self::new();
        set.extend(keys);
        set
    }
}
impl<K: Ord, const N: usize> From<[K; N]> for Set<K> {
    fn from(keys: [K; N]) -> Self {
        keys.into_iter().collect()
    }
}
impl<K: PartialEq> PartialEq for Set<K> {
    fn eq(&self, other: &Self) -> bool {
        self.map == other.map
    }
}
impl<K: Eq> Eq for Set<K> {}
impl<K: fmt::Debug> fmt::Debug for Set<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self).finish()
    }
}
impl<K: Serialize> Serialize for Set<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}
impl<'de, K: Ord + Deserialize<'de>> Deserialize<'de> for Set<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<K>(PhantomData<K>);
        impl<'de, K: Ord + Deserialize<'de>> Visitor<'de> for Read<K> {
            type Value = Set<K>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Set<K>, A::Error> {
                let mut set = Set::new();
                while let Some(key) = access.next_element()? {
                    set.insert(key);
                }
                Ok(set)
            }
        }
        deserializer.deserialize_seq(Read(PhantomData))
    }
}
