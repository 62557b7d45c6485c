//! The lanes by record: a table that finds a record's lane, or that it has none, without comparing key after key.
//!
//! An outbox of 100,000 entries is asked for lanes all the time, mostly of records that have none. Its order says nothing:
//! whoever shows records puts them in order.

use landfall_protocol::{CollectionName, EntryId, RecordKey, Scope};

/// The undecided entries of each record, in lane order.
#[derive(Clone, Debug, Default)]
pub struct Lanes {
    lanes: Vec<(RecordKey, Vec<EntryId>)>,
    /// Hash (the upper half) and number of a lane, counted from 1, at the place that the hash gives or the next free one;
    /// at most half of the places are taken.
    cells: Vec<u64>,
    /// Lanes of each scope.
    scopes: Vec<(Scope, usize)>,
}

impl Lanes {
    pub fn len(&self) -> usize {
        self.lanes.len()
    }
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }
    pub fn keys(&self) -> impl Iterator<Item = &RecordKey> {
        self.lanes.iter().map(|(key, _)| key)
    }
    /// The scopes with a lane.
    pub fn scopes(&self) -> impl Iterator<Item = &Scope> {
        self.scopes.iter().map(|(scope, _)| scope)
    }

    pub fn get(&self, key: &RecordKey) -> Option<&Vec<EntryId>> {
        let at = self.find(&key.scope, &key.collection, key.id.as_str()).ok()?;
        Some(&self.lanes[at].1)
    }
    pub fn contains_key(&self, key: &RecordKey) -> bool {
        self.has(&key.scope, &key.collection, key.id.as_str())
    }
    /// True if the record has a lane.
    pub fn has(&self, scope: &Scope, collection: &CollectionName, id: &str) -> bool {
        self.find(scope, collection, id).is_ok()
    }

    /// The lane of a record, begun if there is none; and whether it was.
    pub(crate) fn begin(&mut self, key: RecordKey) -> (&mut Vec<EntryId>, bool) {
        if (self.lanes.len() + 1) * 2 > self.cells.len() {
            self.grow();
        }
        let (at, is_new) = match self.find(&key.scope, &key.collection, key.id.as_str()) {
            Ok(at) => (at, false),
            Err(cell) => {
                match self.scopes.iter_mut().find(|(scope, _)| *scope == key.scope) {
                    Some((_, count)) => *count += 1,
                    None => self.scopes.push((key.scope.clone(), 1)),
                }
                let hash = hash(&key.scope, &key.collection, key.id.as_str());
                // Most lanes have one entry.
                self.lanes.push((key, Vec::with_capacity(1)));
                self.cells[cell] = hash | self.lanes.len() as u64;
                (self.lanes.len() - 1, true)
            }
        };
        (&mut self.lanes[at].1, is_new)
    }

    /// Takes an entry out. True: it was the last one of its lane.
    pub(crate) fn leave(&mut self, key: &RecordKey, id: EntryId) -> bool {
        let Ok(at) = self.find(&key.scope, &key.collection, key.id.as_str()) else { return false };
        let lane = &mut self.lanes[at].1;
        lane.retain(|other| *other != id);
        if !lane.is_empty() {
            return false;
        }
        self.free(self.cell_of(key, at));
        self.lanes.swap_remove(at);
        if let Some((moved, _)) = self.lanes.get(at) {
            // The last one has this number now.
            let cell = self.cell_of(moved, self.lanes.len());
            self.cells[cell] = (self.cells[cell] & HASH) | (at as u64 + 1);
        }
        if let Some(of) = self.scopes.iter().position(|(scope, _)| *scope == key.scope) {
            self.scopes[of].1 -= 1;
            if self.scopes[of].1 == 0 {
                self.scopes.swap_remove(of);
            }
        }
        true
    }

    /// The number of a lane, or the cell that is free for it.
    fn find(&self, scope: &Scope, collection: &CollectionName, id: &str) -> Result<usize, usize> {
        let hash = hash(scope, collection, id);
        self.probe(hash, &|at| {
            let key = &self.lanes[at].0;
            key.id.as_str() == id && key.scope == *scope && key.collection == *collection
        })
        .map(|cell| number(self.cells[cell]))
    }

    /// The cell of the lane with this number.
    fn cell_of(&self, key: &RecordKey, number: usize) -> usize {
        let hash = hash(&key.scope, &key.collection, key.id.as_str());
        self.probe(hash, &|at| at == number).unwrap_or_default()
    }

    /// The cell with this hash whose lane is the one, or the free one where the search ends.
    fn probe(&self, hash: u64, is_it: &dyn Fn(usize) -> bool) -> Result<usize, usize> {
        let mut at = self.home(hash);
        loop {
            match self.cells.get(at) {
                None | Some(0) => return Err(at),
                Some(cell) if cell & HASH == hash && is_it(number(*cell)) => return Ok(at),
                Some(_) => at = (at + 1) & self.mask(),
            }
        }
    }

    fn mask(&self) -> usize {
        self.cells.len().wrapping_sub(1)
    }
    fn home(&self, hash: u64) -> usize {
        (hash >> 32) as usize & self.mask()
    }

    fn grow(&mut self) {
        let size = (self.cells.len() * 2).max(16);
        for cell in std::mem::replace(&mut self.cells, vec![0; size]) {
            if cell > 0 {
                let at = self.probe(cell & HASH, &|_| false).unwrap_or_else(|free| free);
                self.cells[at] = cell;
            }
        }
    }

    /// Empties a cell; those behind it that it kept from their places move up.
    fn free(&mut self, mut hole: usize) {
        let mut at = hole;
        loop {
            at = (at + 1) & self.mask();
            let cell = self.cells[at];
            if cell == 0 {
                break;
            }
            let from_home = at.wrapping_sub(self.home(cell)) & self.mask();
            if from_home >= at.wrapping_sub(hole) & self.mask() {
                self.cells[hole] = cell;
                hole = at;
            }
        }
        self.cells[hole] = 0;
    }
}

/// The hash in a cell.
const HASH: u64 = !0 << 32;

/// The number of the lane that a cell names.
fn number(cell: u64) -> usize {
    cell as u32 as usize - 1
}

/// Eight bytes a step, as the Rust compiler hashes its own tables. The keys are this client's own.
fn hash(scope: &Scope, collection: &CollectionName, id: &str) -> u64 {
    let mut hash = 0_u64;
    for text in [id, collection.as_str(), scope.as_str()] {
        for bytes in text.as_bytes().chunks(8) {
            let word = bytes.iter().fold(1_u64, |word, byte| (word << 8) | u64::from(*byte));
            hash = (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        hash = hash.rotate_left(1);
    }
    hash & HASH
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_protocol::{Map, Set};

    /// SplitMix64.
    fn next(seed: &mut u64) -> u64 {
        *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 27)
    }

    #[test]
    fn lanes_come_and_go_as_in_an_ordered_map() {
        let mut seed = 7;
        let (mut lanes, mut model) = (Lanes::default(), Map::<RecordKey, Vec<EntryId>>::new());
        for step in 0..40_000 {
            // Grows, shrinks to nothing, grows again.
            let records = if step % 20_000 < 12_000 { 3_000 } else { 40 };
            let record = next(&mut seed) % records;
            let key =
                RecordKey::new(format!("s{}", record % 3), ["a", "bb"][record as usize % 2], format!("{record:09}"));
            let lane = model.get(&key).cloned().unwrap_or_default();
            assert_eq!(lanes.get(&key).cloned().unwrap_or_default(), lane);
            if step % 20_000 >= 12_000 || next(&mut seed).is_multiple_of(3) {
                let key = model.keys().nth(next(&mut seed) as usize % model.len().max(1)).unwrap_or(&key).clone();
                let id = model.get(&key).and_then(|lane| lane.first()).copied().unwrap_or_default();
                let mut left = model.remove(&key).unwrap_or_default();
                let was_there = !left.is_empty();
                left.retain(|other| *other != id);
                assert_eq!(lanes.leave(&key, id), was_there && left.is_empty());
                if !left.is_empty() {
                    model.insert(key, left);
                }
            } else {
                let (lane, is_new) = lanes.begin(key.clone());
                assert_eq!(is_new, !model.contains_key(&key));
                lane.push(EntryId(step));
                model.entry(key).or_default().push(EntryId(step));
            }
            assert_eq!((lanes.len(), lanes.is_empty()), (model.len(), model.is_empty()));
        }
        let mut keys: Vec<RecordKey> = lanes.keys().cloned().collect();
        keys.sort();
        assert_eq!(keys, model.keys().cloned().collect::<Vec<_>>());
        let scopes: Set<Scope> = keys.into_iter().map(|key| key.scope).collect();
        assert_eq!(lanes.scopes().cloned().collect::<Set<_>>(), scopes);
        assert_eq!(lanes.scopes().count(), scopes.len());
    }

    #[test]
    fn l5_records_whose_hashes_are_the_same_have_lanes_of_their_own() {
        let mut seen = std::collections::BTreeMap::new();
        // Of some 80,000 hashes of 32 bits two are the same.
        let (one, other) = (0..)
            .find_map(|n| {
                let key = RecordKey::new("s", "notes", format!("r{n}"));
                let hash = hash(&key.scope, &key.collection, key.id.as_str());
                seen.insert(hash, key.clone()).map(|before| (before, key))
            })
            .unwrap();
        let mut lanes = Lanes::default();
        for (at, key) in [(1, &one), (2, &other)] {
            lanes.begin(key.clone()).0.push(EntryId(at));
        }
        assert_eq!((lanes.get(&one), lanes.get(&other)), (Some(&vec![EntryId(1)]), Some(&vec![EntryId(2)])));
        assert!(lanes.leave(&one, EntryId(1)));
        assert_eq!((lanes.get(&one), lanes.get(&other)), (None, Some(&vec![EntryId(2)])));
    }
}
