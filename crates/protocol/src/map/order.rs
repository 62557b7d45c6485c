//! The order of keys, apart from the keys: slot numbers in sorted chunks, and the search among them.

use std::cmp::Ordering;

pub(super) const CHUNK_MAX: usize = 128;

/// Slot numbers in the order of their keys, in chunks none of which is empty.
#[derive(Clone, Default)]
pub(super) struct Order {
    pub(super) chunks: Vec<Vec<u32>>,
}

/// A position in an [`Order`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) chunk: usize,
    pub(super) at: usize,
}

impl Order {
    pub(super) fn insert(&mut self, place: Place, slot: u32) {
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

    pub(super) fn remove(&mut self, place: Place) {
        let Some(slots) = self.chunks.get_mut(place.chunk) else { return };
        slots.remove(place.at);
        if slots.is_empty() {
            self.chunks.remove(place.chunk);
        }
    }

    /// The key at this place is now in another slot.
    pub(super) fn set(&mut self, place: Place, slot: u32) {
        if let Some(old) = self.chunks.get_mut(place.chunk).and_then(|slots| slots.get_mut(place.at)) {
            *old = slot;
        }
    }

    pub(super) fn end(&self) -> Place {
        match self.chunks.last() {
            Some(last) => Place { chunk: self.chunks.len() - 1, at: last.len() },
            None => Place { chunk: 0, at: 0 },
        }
    }
}

/// A binary search for a key: asks slot by slot how the key there stands to the wanted one, so that only comparing is
/// left to each type's own code.
pub(super) struct Search<'a> {
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
    pub(super) fn new(order: &'a Order) -> Self {
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
    pub(super) fn next(&mut self) -> Option<u32> {
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
    pub(super) fn told(&mut self, key: Ordering) {
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
    pub(super) fn place(&self) -> (Place, Option<u32>) {
        (Place { chunk: self.chunk, at: self.low }, self.is_found.then_some(self.slot))
    }
}

/// What is left of a walk from `front` to `back`.
pub(super) struct Walk {
    front: Place,
    back: Place,
}

impl Walk {
    pub(super) fn all(order: &Order) -> Self {
        Self { front: Place { chunk: 0, at: 0 }, back: order.end() }
    }

    pub(super) fn from(order: &Order, mut front: Place) -> Self {
        let back = order.end();
        if front < back && order.chunks.get(front.chunk).is_some_and(|slots| front.at == slots.len()) {
            front = Place { chunk: front.chunk + 1, at: 0 };
        }
        Self { front, back }
    }

    pub(super) fn next(&mut self, order: &Order) -> Option<u32> {
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

    pub(super) fn next_back(&mut self, order: &Order) -> Option<u32> {
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
