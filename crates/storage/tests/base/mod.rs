//! A base on a map as its disk, and the model that it is compared with.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

pub mod store;

use landfall_protocol::{
    Access, Change, CollectionName, Epoch, Json, Map, Pair, Position, PullResponse, RecordId, RecordSum, Scope, Set,
    Tombstone, UnixMillis, Version,
};
use landfall_storage::ingest::Page;
use landfall_storage::manifest::Declared;
use landfall_storage::query::key::key_of;
use landfall_storage::{BaseTxn, Key, Manifest, Missing, Records, RowId, RowKind, Schema, StoreName, decode, encode};

/// xorshift64*: the same numbers everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }
}

pub type Disk = Map<(StoreName, Key), String>;

pub const MANIFEST: &str = "manifest";

pub fn place() -> (StoreName, Key) {
    (StoreName::Meta, Key::text(MANIFEST))
}

/// A context: what it knows of the disk.
pub struct Context {
    pub records: Records,
    pub schema: Schema,
}

impl Context {
    pub fn open(disk: &Disk, schema: &Schema, budget: usize) -> Self {
        let mut context = Self { records: Records::default(), schema: schema.clone() };
        context.records.budget = budget;
        context.refresh(disk);
        context
    }

    pub fn refresh(&mut self, disk: &Disk) {
        if let Some(text) = disk.get(&place()) {
            self.records.manifest = decode(RowKind::Manifest, text).unwrap();
        }
    }

    /// Runs a computation until it misses nothing.
    pub fn run<T>(&self, disk: &Disk, mut work: impl FnMut(&Records) -> Result<T, Missing>) -> T {
        for _ in 0..10_000 {
            match work(&self.records) {
                Ok(result) => return result,
                Err(Missing) => {
                    let missing = self.records.missing();
                    assert!(!missing.is_empty(), "nothing is missing and yet it is not done");
                    for id in missing {
                        let text = disk.get(&id.place()).cloned();
                        assert_eq!(self.records.give(id, text), Ok(true), "{id:?} is not there");
                    }
                }
            }
        }
        panic!("reads for ever");
    }

    /// False: another context was faster.
    pub fn commit(&mut self, disk: &mut Disk, txn: BaseTxn) -> bool {
        let stored: Option<Manifest> = disk.get(&place()).map(|text| decode(RowKind::Manifest, text).unwrap());
        if stored.map_or(0, |manifest| manifest.rev) + 1 != txn.manifest.rev {
            self.refresh(disk);
            return false;
        }
        for (store, key) in &txn.delete {
            assert!(disk.remove(&(*store, key.clone())).is_some(), "{}: deletes {key:?}, which is not there", txn.name);
        }
        for (store, key, row) in &txn.put {
            if *store == StoreName::Seg {
                assert!(row.len() < 64 * 1024, "a segment of {} bytes", row.len());
            }
            disk.insert((*store, key.clone()), row.clone());
        }
        disk.insert(place(), encode(RowKind::Manifest, &txn.manifest));
        self.records.adopt(&txn);
        true
    }
}

/// One record as the server has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    pub version: u64,
    pub fields: Option<String>,
}

pub type Model = Map<Pair, Map<String, Truth>>;

pub fn pair(n: u64) -> Pair {
    match n {
        0 => Pair(Scope::new("user:ada"), CollectionName::new("notes")),
        1 => Pair(Scope::new("user:ada"), CollectionName::new("items")),
        _ => Pair(Scope::new("store:1"), CollectionName::new("items")),
    }
}

/// `along`: the records lie in the order of an index.
pub fn schema(late: bool, along: bool) -> Schema {
    let fields = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    let cluster = if along { fields(&["supplier", "n"]) } else { fields(&["supplier"]) };
    let mut items = Declared { indexes: vec![fields(&["supplier", "n"])], cluster };
    if late {
        items.indexes.push(fields(&["n"]));
        // Records that lie in one order are joined by others in another one.
        items.cluster = fields(&["n", "supplier"]);
    }
    let mut notes = Declared { indexes: vec![fields(&["n"])], cluster: Vec::new() };
    if late {
        notes.indexes.push(fields(&["supplier"]));
    }
    Map::from([(CollectionName::new("items"), items), (CollectionName::new("notes"), notes)])
}

pub fn record(random: &mut Random) -> String {
    let filler = "x".repeat(random.below(600) as usize);
    format!("{{\"supplier\":\"s{}\",\"n\":{},\"filler\":\"{filler}\"}}", random.below(9), random.below(1000))
}

pub fn page(changes: Vec<(Pair, String, Truth)>, covered: &Model, position: u64, has_more: bool) -> Page {
    let mut page: Page = PullResponse {
        overruled: Vec::new(),
        server_time: UnixMillis(0),
        epoch: Epoch::new("e1"),
        changes: Map::new(),
        tombstones: Map::new(),
        cursor: format!("c{position}"),
        covered: Map::new(),
        access: Access::default(),
        has_more,
        checksums: Map::new(),
    };
    for (Pair(scope, collection), id, truth) in changes {
        let (id, version, position) = (RecordId(id), Version(truth.version), Position(position));
        match truth.fields {
            Some(fields) => page.changes.entry(collection).or_default().push(Change {
                scope,
                id,
                version,
                position,
                fields: Json::parse(&fields).unwrap(),
                stamp: None,
            }),
            None => page.tombstones.entry(collection).or_default().push(Tombstone {
                scope,
                id,
                version,
                position,
                stamp: None,
            }),
        }
    }
    if !has_more {
        for Pair(scope, collection) in covered.keys() {
            page.covered.entry(scope.clone()).or_default().insert(collection.clone(), Position(position));
        }
    }
    page
}

/// Every record once, with its place in the index right.
pub fn check(context: &Context, disk: &Disk, model: &Model) {
    for (pair, truths) in model {
        let Some(row) = context.records.manifest.pair(pair).cloned() else {
            assert!(truths.is_empty());
            continue;
        };
        let mut sum = RecordSum::default();
        for (id, truth) in truths {
            if truth.fields.is_some() {
                sum.add(&RecordId(id.clone()), Version(truth.version));
            }
            let found = context.run(disk, |records| records.find(&row, false, id));
            let (at, block) = found.unwrap_or_else(|| panic!("{id} of {pair:?} is lost"));
            let slot = at.slot as usize;
            let seen = Truth { version: block.version(slot).get(), fields: block.fields(slot).map(str::to_owned) };
            assert_eq!(seen, *truth, "{id}");
        }
        assert_eq!(row.sum, sum, "sum of {pair:?}");
        assert!(context.run(disk, |records| records.find(&row, false, "nobody")).is_none());
        let mut seen = Set::new();
        for reference in &row.live {
            let run = context.run(disk, |records| records.run(reference));
            let live: usize = run.fences.iter().map(|fence| fence.live()).sum();
            let all: usize = run.fences.iter().map(|fence| fence.count as usize).sum();
            assert_eq!((live, all - live), (reference.live as usize, reference.dead as usize), "counts of a run");
            let bytes: u64 = run.fences.iter().map(|fence| u64::from(fence.bytes)).sum();
            assert_eq!((reference.rows as usize, reference.bytes), (run.fences.len(), bytes), "size of a run");
            for fence in &run.fences {
                let block = context.run(disk, |records| records.block(fence.row)).unwrap();
                for slot in (0..block.len()).filter(|slot| !fence.dead.has(*slot)) {
                    assert!(seen.insert(block.id(slot).into_owned()), "{} twice", block.id(slot));
                }
            }
        }
        assert_eq!(seen.len(), truths.len(), "{pair:?}");
        // By id only records are found that their runs are not sorted by, each once, tombstones too.
        if let Some(index) = row.index("id") {
            let mut got = Set::new();
            for reference in &index.live {
                for fence in &context.run(disk, |records| records.run(reference)).fences {
                    let page = context.run(disk, |records| records.page(fence.row)).unwrap();
                    for at in 0..page.len() {
                        let entry = page.entry(at);
                        if context.run(disk, |records| records.is_live(&row.live, entry.at)) {
                            assert!(truths.contains_key(&entry.key), "{:?} is no record", entry.key);
                            assert!(got.insert(entry.key), "an id twice");
                        }
                    }
                }
            }
        }
        for index in row.indexes.iter().filter(|index| index.is_ready() && index.name != "id") {
            let fields: Vec<String> = index.fields().map(str::to_owned).collect();
            let mut wanted = Set::new();
            for (id, truth) in truths {
                if let Some(text) = &truth.fields {
                    let mut key = String::new();
                    key_of(id, text, &fields, &mut key);
                    wanted.insert((key, id.clone()));
                }
            }
            let mut got = Set::new();
            for reference in &index.live {
                let run = context.run(disk, |records| records.run(reference));
                let mut last = (String::new(), String::new());
                for fence in &run.fences {
                    let page = context.run(disk, |records| records.page(fence.row)).unwrap();
                    assert_eq!(page.key(0), fence.first);
                    for at in 0..page.len() {
                        let entry = page.entry(at);
                        let key = (entry.key, entry.id);
                        assert!(last <= key, "an index out of order");
                        last.clone_from(&key);
                        if context.run(disk, |records| records.is_live(&row.live, entry.at)) {
                            assert!(got.insert(key), "an entry twice");
                        }
                    }
                }
                assert!(last.0 <= reference.last);
            }
            assert_eq!(got, wanted, "index {}", index.name);
        }
    }
}

/// Every row of the disk is named by something.
pub fn check_no_waste(context: &Context, disk: &Disk) {
    let mut named: Set<(StoreName, Key)> = Set::new();
    named.insert(place());
    let manifest = &context.records.manifest;
    for row in &manifest.pairs {
        for reference in row.live.iter().chain(&row.staged) {
            named.insert(RowId::Run(reference.id, 0).place());
            for fence in &context.run(disk, |records| records.run(reference)).fences {
                named.insert(RowId::Segment(fence.row).place());
            }
        }
        for index in &row.indexes {
            for reference in index
                .live
                .iter()
                .chain(&index.staged)
                .chain(index.merging.iter().map(|it| &it.output).filter(|run| run.rows > 0))
            {
                named.insert(RowId::Run(reference.id, 0).place());
                for fence in &context.run(disk, |records| records.run(reference)).fences {
                    named.insert(RowId::Page(fence.row).place());
                }
            }
        }
    }
    for place in disk.keys() {
        assert!(named.contains(place), "{place:?} is nobody's");
    }
}
