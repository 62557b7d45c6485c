//! The base against a plain map: pulls, cold starts, compaction, crashes and two contexts, in random order.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

mod base;

use base::{Context, Disk, Model, Random, Truth, check, check_no_waste, page, pair, record, schema};
use landfall_protocol::codec::{from_json, to_json};
use landfall_protocol::{Map, Pair, UnixMillis, Value};
use landfall_storage::ingest::{Ingest, MISMATCH_MS, plan_cold, plan_declare, plan_resync};
use landfall_storage::query::{Cursor, Query};
use landfall_storage::search::Search;
use landfall_storage::{Manifest, RowId, compact};

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
