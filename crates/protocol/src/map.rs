//! Ordered maps and sets for the client: [`Map`] and [`Set`], in the words of the standard library's, in less code.
//!
//! `BTreeMap` costs some 7 KB of wasm for every pair of key and value types. Here the order lives apart from the
//! entries, as slot numbers in sorted chunks, so all types share the code that searches, splits and walks it; each type
//! adds a comparison and a vector of slots. A chunk holds at most [`CHUNK_MAX`] numbers, which keeps inserts and
//! removals cheap anywhere among a million entries.
//!
//! JSON and order are those of `BTreeMap` and `BTreeSet`.

mod order;
mod set;

use order::{Order, Place, Search, Walk};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeFrom;

pub use order::sort;
pub use set::{IntoKeys, Set};

/// An entry behind a pointer: what moves slots about is then the same code for all types, and a map that grows does not
/// copy what it holds. `None` only while an entry is taken out.
type Slot<K, V> = Option<Box<Pair<K, V>>>;

/// The key comes first, whatever the value: what only looks at keys is the same code for all values.
#[derive(Clone)]
#[repr(C)]
struct Pair<K, V> {
    key: K,
    value: V,
}

/// An ordered map.
#[derive(Clone)]
pub struct Map<K, V> {
    /// Entries, in no order.
    slots: Vec<Slot<K, V>>,
    order: Order,
}

impl<K, V> Map<K, V> {
    pub const fn new() -> Self {
        Self { slots: Vec::new(), order: Order { chunks: Vec::new() } }
    }
    pub fn len(&self) -> usize {
        self.slots.len()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter { slots: &self.slots, order: &self.order, walk: Walk::all(&self.order) }
    }
    pub fn keys(&self) -> Keys<'_, K, V> {
        Keys(self.iter())
    }
    pub fn values(&self) -> Values<'_, K, V> {
        Values(self.iter())
    }
    pub fn into_values(self) -> impl DoubleEndedIterator<Item = V> {
        self.into_iter().map(|(_, value)| value)
    }
    pub fn into_keys(self) -> impl DoubleEndedIterator<Item = K> {
        self.into_iter().map(|(key, _)| key)
    }
    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }
    pub fn last_key_value(&self) -> Option<(&K, &V)> {
        self.iter().next_back()
    }

    fn value_mut(&mut self, slot: u32) -> Option<&mut V> {
        self.slots.get_mut(slot as usize)?.as_deref_mut().map(|pair| &mut pair.value)
    }
    fn at(&self, slot: u32) -> Option<&Pair<K, V>> {
        self.slots.get(slot as usize)?.as_deref()
    }

    #[inline(never)]
    fn put(&mut self, place: Place, entry: Box<Pair<K, V>>) -> u32 {
        let slot = self.slots.len() as u32;
        self.slots.push(Some(entry));
        self.order.insert(place, slot);
        slot
    }
}

impl<K: Ord, V> Map<K, V> {
    #[inline(never)]
    fn find<Q: Ord + ?Sized>(&self, wanted: &Q) -> (Place, Option<u32>)
    where
        K: Borrow<Q>,
    {
        let mut search = Search::new(&self.order);
        while let Some(Pair { key, .. }) = search.next().and_then(|slot| self.at(slot)) {
            search.told(key.borrow().cmp(wanted));
        }
        search.place()
    }

    /// Takes an entry out; the last one moves into its slot.
    #[inline(never)]
    fn take(&mut self, place: Place, slot: u32) -> Slot<K, V> {
        let last = self.slots.len() as u32 - 1;
        if slot != last
            && let Some(Pair { key, .. }) = self.at(last)
        {
            let (of_last, _) = self.find(key);
            self.order.set(of_last, slot);
        }
        self.order.remove(place);
        self.slots.swap_remove(slot as usize)
    }

    /// Keeps the entries for which `keep` holds; asks in no order.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        for slot in (0..self.slots.len()).rev() {
            let Some(Some(entry)) = self.slots.get_mut(slot) else { continue };
            let Pair { key, value } = &mut **entry;
            if !keep(key, value)
                && let Some(Pair { key, .. }) = self.at(slot as u32)
            {
                let (place, _) = self.find(key);
                self.take(place, slot as u32);
            }
        }
    }

    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let slot = self.find(key).1?;
        self.at(slot).map(|pair| &pair.value)
    }
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let slot = self.find(key).1?;
        self.value_mut(slot)
    }
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).1.is_some()
    }
    /// Whether the key is new. Nobody moves the old value out, to drop it.
    pub fn insert(&mut self, key: K, value: V) -> bool {
        self.set(Box::new(Pair { key, value })).is_none()
    }
    /// As [`Self::insert`], and gives back the old value.
    pub fn replace(&mut self, key: K, value: V) -> Option<V> {
        self.set(Box::new(Pair { key, value })).map(|old| old.value)
    }
    /// Puts an entry where its key belongs. Returns the one that was there.
    #[inline(never)]
    fn set(&mut self, entry: Box<Pair<K, V>>) -> Slot<K, V> {
        let (place, slot) = self.find(&entry.key);
        match slot.and_then(|slot| self.slots.get_mut(slot as usize)) {
            Some(slot) => slot.replace(entry),
            None => {
                self.put(place, entry);
                None
            }
        }
    }
    #[inline(never)]
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (place, slot) = self.find(key);
        self.take(place, slot?).map(|entry| entry.value)
    }
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        let slot = *self.order.chunks.first()?.first()?;
        self.take(Place { chunk: 0, at: 0 }, slot).map(|entry| (entry.key, entry.value))
    }
    pub fn pop_last(&mut self) -> Option<(K, V)> {
        let place = self.order.end();
        let place = Place { at: place.at.checked_sub(1)?, ..place };
        let slot = *self.order.chunks.get(place.chunk)?.get(place.at)?;
        self.take(place, slot).map(|entry| (entry.key, entry.value))
    }
    pub fn entry(&mut self, key: K) -> Entry<'_, K, V> {
        let (place, slot) = self.find(&key);
        Entry { map: self, key, place, slot }
    }
    /// From this key on.
    pub fn range(&self, range: RangeFrom<K>) -> Iter<'_, K, V> {
        let (place, _) = self.find(&range.start);
        Iter { slots: &self.slots, order: &self.order, walk: Walk::from(&self.order, place) }
    }
}

/// A key's place in a map, taken or not.
pub struct Entry<'a, K, V> {
    map: &'a mut Map<K, V>,
    key: K,
    place: Place,
    slot: Option<u32>,
}

impl<'a, K: Ord, V> Entry<'a, K, V> {
    pub fn or_insert_with(self, value: impl FnOnce() -> V) -> &'a mut V {
        let slot = match self.slot {
            Some(slot) => slot,
            None => self.map.put(self.place, Box::new(Pair { key: self.key, value: value() })),
        };
        match self.map.value_mut(slot) {
            Some(value) => value,
            None => unreachable!("BUG: an entry that is there is not there"),
        }
    }
    pub fn or_insert(self, value: V) -> &'a mut V {
        self.or_insert_with(|| value)
    }
    pub fn or_default(self) -> &'a mut V
    where
        V: Default,
    {
        self.or_insert_with(V::default)
    }
}

/// Entries in order.
pub struct Iter<'a, K, V> {
    slots: &'a [Slot<K, V>],
    order: &'a Order,
    walk: Walk,
}

impl<'a, K, V> Iter<'a, K, V> {
    fn entry(&self, slot: u32) -> Option<(&'a K, &'a V)> {
        self.slots.get(slot as usize)?.as_deref().map(|pair| (&pair.key, &pair.value))
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);
    fn next(&mut self) -> Option<Self::Item> {
        let slot = self.walk.next(self.order)?;
        self.entry(slot)
    }
}
impl<K, V> DoubleEndedIterator for Iter<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let slot = self.walk.next_back(self.order)?;
        self.entry(slot)
    }
}

/// Keys in order.
pub struct Keys<'a, K, V>(Iter<'a, K, V>);

impl<'a, K, V> Iterator for Keys<'a, K, V> {
    type Item = &'a K;
    fn next(&mut self) -> Option<&'a K> {
        self.0.next().map(|(key, _)| key)
    }
}
impl<K, V> DoubleEndedIterator for Keys<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(key, _)| key)
    }
}

/// Values in the order of their keys.
pub struct Values<'a, K, V>(Iter<'a, K, V>);

impl<'a, K, V> Iterator for Values<'a, K, V> {
    type Item = &'a V;
    fn next(&mut self) -> Option<&'a V> {
        self.0.next().map(|(_, value)| value)
    }
}
impl<K, V> DoubleEndedIterator for Values<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(_, value)| value)
    }
}

/// Owned entries in order.
pub struct IntoIter<K, V> {
    slots: Vec<Slot<K, V>>,
    order: Order,
    walk: Walk,
}

impl<K, V> Iterator for IntoIter<K, V> {
    type Item = (K, V);
    fn next(&mut self) -> Option<(K, V)> {
        let slot = self.walk.next(&self.order)?;
        self.slots.get_mut(slot as usize)?.take().map(|entry| (entry.key, entry.value))
    }
}
impl<K, V> DoubleEndedIterator for IntoIter<K, V> {
    fn next_back(&mut self) -> Option<(K, V)> {
        let slot = self.walk.next_back(&self.order)?;
        self.slots.get_mut(slot as usize)?.take().map(|entry| (entry.key, entry.value))
    }
}

impl<K, V> IntoIterator for Map<K, V> {
    type Item = (K, V);
    type IntoIter = IntoIter<K, V>;
    fn into_iter(self) -> IntoIter<K, V> {
        IntoIter { walk: Walk::all(&self.order), slots: self.slots, order: self.order }
    }
}
impl<'a, K, V> IntoIterator for &'a Map<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;
    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self::new()
    }
}
impl<K: Ord, V> Extend<(K, V)> for Map<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        entries.into_iter().for_each(|(key, value)| _ = self.insert(key, value));
    }
}
impl<K: Ord, V> FromIterator<(K, V)> for Map<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map
    }
}
impl<K: Ord, V, const N: usize> From<[(K, V); N]> for Map<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}
impl<K: PartialEq, V: PartialEq> PartialEq for Map<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other)
    }
}
impl<K: Eq, V: Eq> Eq for Map<K, V> {}
impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Map<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}
impl<K: Ord + Borrow<Q>, Q: Ord + ?Sized, V> std::ops::Index<&Q> for Map<K, V> {
    type Output = V;
    fn index(&self, key: &Q) -> &V {
        match self.get(key) {
            Some(value) => value,
            None => unreachable!("BUG: no entry found for key"),
        }
    }
}
impl<K: Serialize, V: Serialize> Serialize for Map<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}
impl<'de, K: Ord + Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Map<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<K, V>(PhantomData<(K, V)>);
        impl<'de, K: Ord + Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for Read<K, V> {
            type Value = Map<K, V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Map<K, V>, A::Error> {
                let mut map = Map::new();
                while let Some((key, value)) = access.next_entry()? {
                    map.insert(key, value);
                }
                Ok(map)
            }
        }
        deserializer.deserialize_map(Read(PhantomData))
    }
}

#[cfg(test)]
mod tests;
