//! Ordered maps and sets for the client: [`Map`] and [`Set`], in the words of the standard library's, in less code.
//!
//! `BTreeMap` costs some 7 KB of wasm for every pair of key and value types. Here the order lives apart from the
//! entries, as slot numbers in sorted chunks, so all types share the code that searches, splits and walks it; each type
//! adds a comparison and a vector of slots. A chunk holds at most [`CHUNK_MAX`] numbers, which keeps inserts and
//! removals cheap anywhere among a million entries.
//!
//! JSON and order are those of `BTreeMap` and `BTreeSet`.

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeFrom;

const CHUNK_MAX: usize = 128;

/// Slot numbers in the order of their keys, in chunks none of which is empty.
#[derive(Clone, Default)]
struct Order {
    chunks: Vec<Vec<u32>>,
}

/// A position in an [`Order`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    chunk: usize,
    at: usize,
}

impl Order {
    fn insert(&mut self, place: Place, slot: u32) {
        let Place { mut chunk, mut at } = place;
        let count = self.chunks.len();
        match self.chunks.get_mut(chunk) {
            Some(slots) if slots.len() < CHUNK_MAX => {}
            // Keys that come in order fill their chunks.
            Some(slots) if at == slots.len() && chunk + 1 == count => {
                self.chunks.push(Vec::new());
                (chunk, at) = (chunk + 1, 0);
            }
            Some(slots) => {
                let half = slots.split_off(CHUNK_MAX / 2);
                self.chunks.insert(chunk + 1, half);
                if at > CHUNK_MAX / 2 {
                    (chunk, at) = (chunk + 1, at - CHUNK_MAX / 2);
                }
            }
            None => self.chunks.push(Vec::new()),
        }
        self.chunks[chunk].insert(at, slot);
    }

    fn remove(&mut self, place: Place) {
        let Some(slots) = self.chunks.get_mut(place.chunk) else { return };
        slots.remove(place.at);
        if slots.is_empty() {
            self.chunks.remove(place.chunk);
        }
    }

    /// The key at this place is now in another slot.
    fn set(&mut self, place: Place, slot: u32) {
        if let Some(old) = self.chunks.get_mut(place.chunk).and_then(|slots| slots.get_mut(place.at)) {
            *old = slot;
        }
    }

    fn end(&self) -> Place {
        match self.chunks.last() {
            Some(last) => Place { chunk: self.chunks.len() - 1, at: last.len() },
            None => Place { chunk: 0, at: 0 },
        }
    }
}

/// A binary search for a key: asks slot by slot how the key there stands to the wanted one, so that only comparing is
/// left to each type's own code.
struct Search<'a> {
    chunks: &'a [Vec<u32>],
    /// The slots that are searched; before that: the first slot of each chunk is.
    slots: Option<&'a [u32]>,
    chunk: usize,
    low: usize,
    high: usize,
    middle: usize,
    /// The slot that was asked about; the found one in the end.
    slot: u32,
    is_found: bool,
    /// The last slot of all, until it has been asked about: what comes in order belongs behind it.
    last: Option<u32>,
    is_behind: bool,
}

impl<'a> Search<'a> {
    fn new(order: &'a Order) -> Self {
        let chunks = &order.chunks;
        let last = chunks.last().and_then(|slots| slots.last()).copied();
        let high = chunks.len();
        Self {
            chunks,
            slots: None,
            chunk: 0,
            low: 0,
            high,
            middle: 0,
            slot: 0,
            is_found: false,
            last,
            is_behind: last.is_some(),
        }
    }

    /// The slot whose key is to be compared next.
    fn next(&mut self) -> Option<u32> {
        if self.is_found {
            return None;
        }
        if let Some(last) = self.last.take() {
            self.slot = last;
            return Some(last);
        }
        if self.low == self.high && self.slots.is_none() {
            // It belongs in the last chunk that does not start behind it.
            self.chunk = self.low.saturating_sub(1);
            let slots = self.chunks.get(self.chunk)?.as_slice();
            (self.slots, self.low, self.high) = (Some(slots), 0, slots.len());
        }
        self.middle = (self.low + self.high) / 2;
        self.slot = match self.slots {
            _ if self.low == self.high => return None,
            Some(slots) => *slots.get(self.middle)?,
            None => *self.chunks.get(self.middle)?.first()?,
        };
        Some(self.slot)
    }

    /// How the key in that slot stands to the wanted one.
    fn told(&mut self, key: Ordering) {
        if std::mem::take(&mut self.is_behind) {
            if key.is_le() {
                let slots = self.chunks.last().map_or(&[][..], Vec::as_slice);
                self.is_found = key.is_eq();
                self.chunk = self.chunks.len() - 1;
                (self.slots, self.low) = (Some(slots), slots.len() - usize::from(self.is_found));
                self.high = self.low;
            }
            return;
        }
        match key {
            Ordering::Less => self.low = self.middle + 1,
            Ordering::Greater => self.high = self.middle,
            Ordering::Equal => {
                self.is_found = true;
                let in_chunk = self.slots.is_some();
                (self.chunk, self.low) = if in_chunk { (self.chunk, self.middle) } else { (self.middle, 0) };
            }
        }
    }

    /// Where the key is or would be, and its slot.
    fn place(&self) -> (Place, Option<u32>) {
        (Place { chunk: self.chunk, at: self.low }, self.is_found.then_some(self.slot))
    }
}

/// What is left of a walk from `front` to `back`.
struct Walk {
    front: Place,
    back: Place,
}

impl Walk {
    fn all(order: &Order) -> Self {
        Self { front: Place { chunk: 0, at: 0 }, back: order.end() }
    }

    fn from(order: &Order, mut front: Place) -> Self {
        let back = order.end();
        if front < back && order.chunks.get(front.chunk).is_some_and(|slots| front.at == slots.len()) {
            front = Place { chunk: front.chunk + 1, at: 0 };
        }
        Self { front, back }
    }

    fn next(&mut self, order: &Order) -> Option<u32> {
        if self.front >= self.back {
            return None;
        }
        let slots = order.chunks.get(self.front.chunk)?;
        let slot = slots.get(self.front.at).copied();
        self.front.at += 1;
        if self.front.at == slots.len() && self.front.chunk < self.back.chunk {
            self.front = Place { chunk: self.front.chunk + 1, at: 0 };
        }
        slot
    }

    fn next_back(&mut self, order: &Order) -> Option<u32> {
        if self.front >= self.back {
            return None;
        }
        if self.back.at == 0 {
            self.back.chunk -= 1;
            self.back.at = order.chunks.get(self.back.chunk)?.len();
        }
        self.back.at -= 1;
        order.chunks.get(self.back.chunk)?.get(self.back.at).copied()
    }
}

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

/// Sorts by the code that keeps maps in order; equal items stay as they were.
///
/// The standard library's sorts are faster, and 4 KB of wasm for every type and comparison.
pub fn sort<T>(items: &mut [T], compare: &dyn Fn(&T, &T) -> Ordering) {
    let order = order_of(items.len(), &|one, other| match (items.get(one), items.get(other)) {
        (Some(one), Some(other)) => compare(one, other),
        _ => Ordering::Equal,
    });
    arrange(order, &mut |one, other| items.swap(one, other));
}

/// The numbers up to `count` in the order of what they stand for.
fn order_of(count: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<u32> {
    let mut order = Order::default();
    for new in 0..count {
        // The one that came first is the lesser of two equals.
        let before = |slot: u32| compare(slot as usize, new).then(Ordering::Less);
        // What is in order already, as most of it is, needs no search.
        let last = order.chunks.last().and_then(|slots| slots.last());
        let place = if last.is_none_or(|last| before(*last).is_lt()) {
            order.end()
        } else {
            let mut search = Search::new(&order);
            while let Some(slot) = search.next() {
                search.told(before(slot));
            }
            search.place().0
        };
        order.insert(place, new as u32);
    }
    order.chunks.concat()
}

/// Puts at each place what `order` names for it, by swaps along the circles in which things move.
fn arrange(mut order: Vec<u32>, swap: &mut dyn FnMut(usize, usize)) {
    for start in 0..order.len() {
        let mut at = start;
        while let Some(slot) = order.get_mut(at) {
            let from = std::mem::replace(slot, at as u32) as usize;
            if from == start {
                break;
            }
            swap(at, from);
            at = from;
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn next(seed: &mut u64) -> u64 {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *seed >> 33
    }

    fn same(map: &Map<u64, u64>, model: &BTreeMap<u64, u64>, around: u64) {
        assert_eq!(map.len(), model.len());
        assert!(map.iter().eq(model));
        assert!(map.iter().rev().eq(model.iter().rev()));
        assert!(map.range(around..).eq(model.range(around..)));
        assert!(map.range(around..).rev().eq(model.range(around..).rev()));
        let (mut both, mut want) = (map.iter(), model.iter());
        while let Some(front) = both.next() {
            assert_eq!(Some(front), want.next());
            assert_eq!(both.next_back(), want.next_back());
        }
        assert_eq!(want.next(), None);
        assert_eq!(map.first_key_value(), model.first_key_value());
        assert_eq!(map.last_key_value(), model.last_key_value());
        assert!(map.clone().into_iter().eq(model.clone()));
        assert!(map.order.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK_MAX));
    }

    #[test]
    fn a_map_is_a_btree_map_under_any_mix_of_calls() {
        for round in 0..60 {
            let mut seed = round;
            let (mut map, mut model) = (Map::new(), BTreeMap::new());
            let keys = [5, 40, 300, 3_000][round as usize % 4];
            for _ in 0..1_500 {
                let key = next(&mut seed) % keys;
                let value = next(&mut seed);
                match next(&mut seed) % 12 {
                    0..3 => assert_eq!(map.replace(key, value), model.insert(key, value)),
                    3..5 => assert_eq!(map.insert(key, value), model.insert(key, value).is_none()),
                    5..7 => assert_eq!(map.remove(&key), model.remove(&key)),
                    7 => {
                        *map.entry(key).or_insert(7) += 1;
                        *model.entry(key).or_insert(7) += 1;
                    }
                    8 => {
                        assert_eq!(map.pop_first(), model.pop_first());
                        assert_eq!(map.get(&key).is_some(), model.contains_key(&key));
                    }
                    9 if value.is_multiple_of(40) => {
                        map.retain(|key, _| key % 3 != 0);
                        model.retain(|key, _| key % 3 != 0);
                    }
                    _ => {
                        if let (Some(a), Some(b)) = (map.get_mut(&key), model.get_mut(&key)) {
                            (*a, *b) = (value, value);
                        }
                    }
                }
            }
            same(&map, &model, next(&mut seed) % keys);
            assert_eq!(map, model.clone().into_iter().collect());
            assert_eq!(format!("{map:?}"), format!("{model:?}"));
        }
    }

    #[test]
    fn keys_in_order_and_out_of_order_and_removals_from_the_front_keep_the_chunks_right() {
        for step in [1_u64, 7_919] {
            let (mut map, mut model) = (Map::new(), BTreeMap::new());
            for index in 0..20_000 {
                let key = index * step % 20_011;
                assert_eq!(map.replace(key, index), model.insert(key, index));
            }
            same(&map, &model, 10_000);
            for _ in 0..15_000 {
                let first = *model.keys().next().unwrap();
                assert_eq!(map.remove(&first), model.remove(&first));
            }
            same(&map, &model, 16_000);
        }
    }

    #[test]
    fn a_set_is_a_btree_set() {
        let mut seed = 9;
        let (mut set, mut model) = (Set::new(), BTreeSet::new());
        for _ in 0..5_000 {
            let key = next(&mut seed) % 700;
            if next(&mut seed).is_multiple_of(3) {
                assert_eq!(set.remove(&key), model.remove(&key));
            } else {
                assert_eq!(set.insert(key), model.insert(key));
            }
            if key == 3 {
                assert_eq!(set.pop_last(), model.pop_last());
            }
        }
        assert!(set.iter().eq(&model));
        assert_eq!((set.first(), set.last()), (model.first(), model.last()));
        assert_eq!(set.contains(&5), model.contains(&5));
    }

    #[test]
    fn sorting_is_stable() {
        let mut seed = 3;
        for count in [0, 1, 2, 300, 5_000] {
            let mut items: Vec<(u64, u64)> = (0..count).map(|index| (next(&mut seed) % 300, index)).collect();
            let mut model = items.clone();
            model.sort_by_key(|(key, _)| *key);
            sort(&mut items, &|a, b| a.0.cmp(&b.0));
            assert_eq!(items, model);
        }
    }

    #[test]
    fn the_json_is_that_of_the_standard_map() {
        let model: BTreeMap<String, Vec<u64>> = BTreeMap::from([("b\"".into(), vec![1]), ("a".into(), vec![])]);
        let text = serde_json::to_string(&model).unwrap();
        let map: Map<String, Vec<u64>> = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&map).unwrap(), text);
        let set: Set<u64> = serde_json::from_str("[3,1,3]").unwrap();
        assert_eq!(serde_json::to_string(&set).unwrap(), "[1,3]");
        assert_eq!(serde_json::from_str::<Map<String, u64>>("{\"a\":1,\"a\":2}").unwrap()["a"], 2);
    }

    /// Not a promise but a number to look at: `cargo test --release -p landfall-protocol -- --nocapture how_fast`.
    #[test]
    fn how_fast_it_is_beside_the_standard_map() {
        const COUNT: u64 = 100_000;
        for (name, step) in [("in order", 1_u64), ("mixed", 70_921)] {
            let start = std::time::Instant::now();
            let mut model = BTreeMap::new();
            (0..COUNT).for_each(|index| _ = model.insert(index * step % 100_003, [index; 20]));
            let model_in = start.elapsed();
            (0..100_003).for_each(|key| _ = model.remove(&key));
            let model_all = start.elapsed();
            let start = std::time::Instant::now();
            let mut map = Map::new();
            (0..COUNT).for_each(|index| _ = map.insert(index * step % 100_003, [index; 20]));
            let map_in = start.elapsed();
            (0..100_003).for_each(|key| _ = map.remove(&key));
            let map_all = start.elapsed();
            println!("{name}: std in {model_in:?} all {model_all:?}; here in {map_in:?} all {map_all:?}");
            assert!(map.is_empty() && model.is_empty());
        }
    }
}
