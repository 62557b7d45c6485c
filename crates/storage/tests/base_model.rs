//! The base against a plain map: pulls, cold starts, compaction, crashes and two contexts, in random order.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

use landfall_protocol::codec::{from_json, to_json};
use landfall_protocol::{
    Access, Change, CollectionName, Epoch, Json, Map, Pair, Position, PullResponse, RecordId, RecordSum, Scope, Set,
    Tombstone, UnixMillis, Value, Version,
};
use landfall_storage::ingest::{Ingest, MISMATCH_MS, Page, plan_cold, plan_declare, plan_resync};
use landfall_storage::manifest::Declared;
use landfall_storage::query::key::key_of;
use landfall_storage::query::{Cursor, Query};
use landfall_storage::search::Search;
use landfall_storage::{
    BaseTxn, Key, Manifest, Missing, Records, RowId, RowKind, Schema, StoreName, compact, decode, encode,
};

/// xorshift64*: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }
}

type Disk = Map<(StoreName, Key), String>;

const MANIFEST: &str = "manifest";

fn place() -> (StoreName, Key) {
    (StoreName::Meta, Key::text(MANIFEST))
}

/// A context: what it knows of the disk.
struct Context {
    records: Records,
    schema: Schema,
}

impl Context {
    fn open(disk: &Disk, schema: &Schema, budget: usize) -> Self {
        let mut context = Self { records: Records::default(), schema: schema.clone() };
        context.records.budget = budget;
        context.refresh(disk);
        context
    }

    fn refresh(&mut self, disk: &Disk) {
        if let Some(text) = disk.get(&place()) {
            self.records.manifest = decode(RowKind::Manifest, text).unwrap();
        }
    }

    /// Runs a computation until it misses nothing.
    fn run<T>(&self, disk: &Disk, mut work: impl FnMut(&Records) -> Result<T, Missing>) -> T {
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
    fn commit(&mut self, disk: &mut Disk, txn: BaseTxn) -> bool {
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
struct Truth {
    version: u64,
    fields: Option<String>,
}

type Model = Map<Pair, Map<String, Truth>>;

fn pair(n: u64) -> Pair {
    match n {
        0 => Pair(Scope::new("user:ada"), CollectionName::new("notes")),
        1 => Pair(Scope::new("user:ada"), CollectionName::new("items")),
        _ => Pair(Scope::new("store:1"), CollectionName::new("items")),
    }
}

/// `along`: the records lie in the order of an index.
fn schema(late: bool, along: bool) -> Schema {
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

fn record(random: &mut Random) -> String {
    let filler = "x".repeat(random.below(600) as usize);
    format!("{{\"supplier\":\"s{}\",\"n\":{},\"filler\":\"{filler}\"}}", random.below(9), random.below(1000))
}

fn page(changes: Vec<(Pair, String, Truth)>, covered: &Model, position: u64, has_more: bool) -> Page {
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
fn check(context: &Context, disk: &Disk, model: &Model) {
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
            for fence in &run.fences {
                let block = context.run(disk, |records| records.block(fence.row)).unwrap();
                for slot in (0..block.len()).filter(|slot| !fence.dead.has(*slot)) {
                    assert!(seen.insert(block.id(slot).into_owned()), "{} twice", block.id(slot));
                }
            }
        }
        assert_eq!(seen.len(), truths.len(), "{pair:?}");
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

/// Any question has the answer that looking at every record has.
fn ask(context: &Context, disk: &Disk, model: &Model, random: &mut Random) {
    let mut parts: Vec<String> = Vec::new();
    let kind = ["notes", "items"][random.below(2) as usize];
    if random.below(2) == 0 {
        let text = match random.below(4) {
            0 => format!("\"s{}\"", random.below(9)),
            1 => format!("{{\"in\":[\"s{}\",\"s{}\",7]}}", random.below(9), random.below(9)),
            2 => format!("{{\"gte\":\"s{}\"}}", random.below(9)),
            _ => "{\"prefix\":\"s\"}".to_owned(),
        };
        parts.push(format!("\"supplier\":{text}"));
    }
    if random.below(2) == 0 {
        parts.push(format!("\"n\":{{\"gt\":{},\"lte\":{}}}", random.below(500), 400 + random.below(600)));
    }
    if random.below(9) == 0 {
        parts.push(format!(
            "\"id\":{{\"in\":[\"r{:05}\",\"r{:05}\",\"r{:05}\"]}}",
            random.below(3_000),
            random.below(3_000),
            random.below(3_000)
        ));
    }
    let order = [
        "[]",
        "\"n\"",
        "[[\"n\",\"desc\"]]",
        "[[\"supplier\",\"asc\"],[\"n\",\"asc\"]]",
        "[[\"supplier\",\"desc\"],[\"n\",\"desc\"]]",
        "[[\"n\",\"asc\"],[\"supplier\",\"desc\"]]",
        "\"id\"",
    ];
    let order = order[random.below(order.len() as u64) as usize];
    let limit = if random.below(3) == 0 { String::new() } else { format!(",\"limit\":{}", random.below(60)) };
    let offset = if random.below(4) == 0 { format!(",\"offset\":{}", random.below(20)) } else { String::new() };
    let text =
        format!("{{\"collection\":\"{kind}\",\"where\":{{{}}},\"orderBy\":{order}{limit}{offset}}}", parts.join(","));
    let query = Query::parse(&text).unwrap();
    let is_over = |_: &Pair, id: &str| id.ends_with('7');
    // By hand.
    let mut wanted: Vec<Cursor> = Vec::new();
    for (pair, truths) in model.iter().filter(|(pair, _)| pair.1 == query.collection) {
        for (id, truth) in truths {
            let Some(fields) = truth.fields.as_ref().filter(|_| !is_over(pair, id)) else { continue };
            let value = |name: &str| match name {
                "id" => Value::String(id.clone()),
                _ => match Value::of(fields) {
                    Value::Object(fields) => fields.get(name).cloned().unwrap_or(Value::Null),
                    _ => Value::Null,
                },
            };
            if query.conditions.iter().all(|(name, condition)| condition.holds(&value(name))) {
                wanted.push(Cursor::of(&query.order, pair.0.as_str(), id, fields));
            }
        }
    }
    wanted.sort_by(|a, b| a.compare(b, &query.order));
    let all = wanted.len();
    let first = random.below(3) == 0 && query.offset < all;
    let mut asked = query.clone();
    if first {
        // The page after some record.
        asked.after = Some(wanted[query.offset].clone());
        wanted.drain(..=query.offset);
        asked.offset = 0;
    }
    wanted.truncate(asked.limit.map_or(usize::MAX, |limit| limit + asked.offset));
    let mut search = Search::new(asked, &context.records, &context.schema);
    context.run(disk, |records| search.step(records, &context.schema, &is_over));
    let got: Vec<Cursor> = search.found.iter().map(|hit| hit.place.clone()).collect();
    assert!(got == wanted, "{text} after {first}: {} and {} records", got.len(), wanted.len());
    let count = Query { count: true, limit: None, offset: 0, ..query };
    let mut search = Search::new(count, &context.records, &context.schema);
    context.run(disk, |records| search.step(records, &context.schema, &is_over));
    assert_eq!(search.count as usize, all, "count of {text}");
}

/// Every row of the disk is named by something.
fn check_no_waste(context: &Context, disk: &Disk) {
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

fn history(seed: u64, operations: u64) -> u64 {
    let mut random = Random(seed * 2 + 1);
    let mut disk = Disk::new();
    let budget = if seed.is_multiple_of(2) { 200 * 1024 } else { 8 * 1024 * 1024 };
    let along = !seed.is_multiple_of(3);
    let mut contexts = [(); 2].map(|()| Context::open(&disk, &schema(false, along), budget));
    let mut model: Model = (0..3).map(|n| (pair(n), Map::new())).collect();
    let (mut position, mut done, mut now) = (0, 0, 1_000_000);
    // Everything starts cold: an empty page that covers all makes it live.
    while done < operations {
        now += random.below(60_000);
        let at = random.below(2) as usize;
        contexts[at].refresh(&disk);
        let context = &mut contexts[at];
        match random.below(100) {
            0..50 => {
                position += 1;
                let count = if random.below(20) == 0 { random.below(700) } else { random.below(12) };
                let mut changes = Vec::new();
                let mut next = model.clone();
                for _ in 0..count {
                    let pair = pair(random.below(3));
                    let id = format!("r{:05}", random.below(3_000));
                    let truths = next.get_mut(&pair).unwrap();
                    let version = truths.get(&id).map_or(1, |truth| truth.version + 1);
                    let fields = (random.below(8) > 0).then(|| record(&mut random));
                    let truth = Truth { version, fields };
                    truths.insert(id.clone(), truth.clone());
                    changes.push((pair, id, truth));
                }
                let mut ingest = Ingest::new(vec![page(changes, &model, position, false)]);
                let schema = context.schema.clone();
                let txn = context.run(&disk, |records| ingest.plan(records, &schema, &|_, _| None, UnixMillis(now)));
                // A crash before the commit changes nothing.
                if random.below(10) > 0 {
                    assert!(context.commit(&mut disk, txn));
                    model = next;
                }
                done += count + 1;
            }
            50..90 => {
                let schema = context.schema.clone();
                for _ in 0..1 + random.below(6) {
                    let Some(txn) = context.run(&disk, |records| compact::plan_step(records, &schema, UnixMillis(now)))
                    else {
                        break;
                    };
                    assert!(txn.put.len() < 400, "a step writes {} rows", txn.put.len());
                    if random.below(10) > 0 {
                        assert!(context.commit(&mut disk, txn));
                    }
                    done += 1;
                }
            }
            90..93 => {
                // A plan that is out of date writes nothing.
                let schema = context.schema.clone();
                let stale = context.run(&disk, |records| compact::plan_step(records, &schema, UnixMillis(now)));
                let other = &mut contexts[1 - at];
                other.refresh(&disk);
                position += 1;
                let mut ingest = Ingest::new(vec![page(Vec::new(), &model, position, false)]);
                let txn = other.run(&disk, |records| ingest.plan(records, &schema, &|_, _| None, UnixMillis(now)));
                assert!(other.commit(&mut disk, txn));
                if let Some(stale) = stale {
                    assert!(!contexts[at].commit(&mut disk, stale));
                }
                done += 2;
            }
            93..95 => {
                let is_late = now % 2 == 0 || done > operations / 2;
                *context = Context::open(&disk, &schema(is_late, along), budget);
            }
            95..97 => {
                if let Some(txn) = plan_declare(&context.records, &context.schema, UnixMillis(now)) {
                    assert!(context.commit(&mut disk, txn));
                }
                done += 1;
            }
            97..99 => {
                // A cold start in pages: what is visible stays until the last one.
                let schema = context.schema.clone();
                let txn = match random.below(2) {
                    0 => plan_cold(&context.records, &schema, None, UnixMillis(now)),
                    _ => match plan_resync(
                        &context.records,
                        &schema,
                        &pair(random.below(3)),
                        MISMATCH_MS,
                        UnixMillis(now),
                    ) {
                        Some(txn) => txn,
                        None => continue,
                    },
                };
                assert!(context.commit(&mut disk, txn));
                let cold: Vec<Pair> = context.records.manifest.resync.clone();
                let is_cold = |pair: &Pair| cold.is_empty() || cold.contains(pair);
                let mut all: Vec<(Pair, String, Truth)> = Vec::new();
                for (pair, truths) in model.iter().filter(|(pair, _)| is_cold(pair)) {
                    let live = truths.iter().filter(|(_, truth)| truth.fields.is_some());
                    all.extend(live.map(|(id, truth)| (pair.clone(), id.clone(), truth.clone())));
                }
                // Tombstones are not pulled again.
                for pair in (0..3).map(pair).filter(is_cold) {
                    model.get_mut(&pair).unwrap().retain(|_, truth| truth.fields.is_some());
                }
                position += 1;
                let parts: Vec<Vec<(Pair, String, Truth)>> = all.chunks(500).map(<[_]>::to_vec).collect();
                let last = parts.len();
                for (n, part) in parts.into_iter().chain([Vec::new()]).enumerate() {
                    let mut ingest = Ingest::new(vec![page(part, &model, position, n < last)]);
                    let txn =
                        context.run(&disk, |records| ingest.plan(records, &schema, &|_, _| None, UnixMillis(now)));
                    assert!(context.commit(&mut disk, txn));
                    done += 500;
                }
            }
            _ => {
                for _ in 0..20 {
                    ask(context, &disk, &model, &mut random);
                }
            }
        }
        if random.below(150) == 0 {
            check(&contexts[at], &disk, &model);
        }
    }
    let context = &mut contexts[0];
    context.refresh(&disk);
    check(context, &disk, &model);
    let schema = context.schema.clone();
    let mut steps = 0;
    while let Some(txn) = context.run(&disk, |records| compact::plan_step(records, &schema, UnixMillis(now))) {
        assert!(context.commit(&mut disk, txn));
        steps += 1;
        assert!(steps < 20_000, "compaction never ends");
    }
    assert_eq!(compact::debt(&context.records), 0);
    check(context, &disk, &model);
    check_no_waste(context, &disk);
    let text = to_json(&context.records.manifest);
    assert_eq!(from_json::<Manifest>(&text).as_ref(), Some(&context.records.manifest));
    done
}

#[test]
fn r2_r3_every_record_is_there_once_whatever_is_pulled_moved_and_interrupted() {
    let done: u64 = (1..=8).map(|seed| history(seed, 8_000)).sum();
    assert!(done >= 50_000, "{done} operations");
}

#[test]
fn a_query_along_the_order_of_the_records_reads_their_segments_and_no_page() {
    let schema = schema(false, true);
    let mut disk = Disk::new();
    let mut context = Context::open(&disk, &schema, 8 * 1024 * 1024);
    let model: Model = (0..3).map(|n| (pair(n), Map::new())).collect();
    for run in 0..3 {
        let record = |n: u64| {
            let fields = format!("{{\"supplier\":\"s{}\",\"n\":{n},\"filler\":\"{}\"}}", n % 100, "x".repeat(200));
            (pair(1), format!("r{run}{n:05}"), Truth { version: 1, fields: Some(fields) })
        };
        let page = page((0..2_000).map(record).collect(), &model, run + 1, run < 2);
        let mut ingest = Ingest::new(vec![page]);
        let txn = context.run(&disk, |records| ingest.plan(records, &schema, &|_, _| None, UnixMillis(1)));
        assert!(context.commit(&mut disk, txn));
    }
    let reads = |count: bool| {
        let context = Context::open(&disk, &schema, 8 * 1024 * 1024);
        let text = r#"{"collection":"items","where":{"supplier":"s42"},"orderBy":"n","limit":60}"#;
        let query = Query { count, ..Query::parse(text).unwrap() };
        let mut search = Search::new(query, &context.records, &schema);
        let (mut pages, mut segments, mut rounds) = (0, 0, 0);
        while search.step(&context.records, &schema, &|_, _| false).is_err() {
            rounds += 1;
            for id in context.records.missing() {
                pages += usize::from(matches!(id, RowId::Page(_)));
                segments += usize::from(matches!(id, RowId::Segment(_)));
                assert_eq!(context.records.give(id, disk.get(&id.place()).cloned()), Ok(true));
            }
        }
        (if count { search.count as usize } else { search.found.len() }, pages, segments, rounds)
    };
    // Of 20 records in each of three runs, in one segment or at the end of one and the beginning of the next.
    let (found, pages, segments, rounds) = reads(false);
    assert_eq!((found, pages, rounds), (60, 0, 2));
    assert!((3..=6).contains(&segments), "{segments} segments");
    let (found, pages, segments, _) = reads(true);
    assert_eq!((found, segments), (60, 0));
    assert!(pages >= 3, "{pages} pages");
}
