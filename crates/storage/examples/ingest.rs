//! How long pulled pages take on their way into the base, part by part:
//! `cargo run --profile fast -p landfall-storage --example ingest`.
#![allow(clippy::unwrap_used, reason = "a measurement ends where its set-up fails")]

use landfall_protocol::codec::from_json;
use landfall_protocol::{CollectionName, Map, UnixMillis};
use landfall_storage::ingest::{Ingest, Page};
use landfall_storage::manifest::Declared;
use landfall_storage::query::Query;
use landfall_storage::search::Search;
use landfall_storage::{Missing, Records, Schema, compact};
use std::fmt::Write;
use std::time::Instant;

const RECORDS: u64 = 100_000;
const PAGE: u64 = 1_000;

fn page(first: u64) -> String {
    let mut text = String::from("{\"server_time\":1,\"epoch\":\"e1\",\"changes\":{\"items\":[");
    for n in first..first + PAGE {
        // In key order, as a server sends a cold start.
        let id = n * (u64::MAX / RECORDS);
        let comma = if n > first { "," } else { "" };
        write!(
            text,
            "{comma}{{\"scope\":\"user:ada\",\"id\":\"{id:016x}-0000-4000-8000-{n:012x}\",\"version\":1,\"position\":{n},\"fields\":{{\"supplier_id\":\"s{:04}\",\"date\":\"2026-{:02}-{:02}\",\"status\":\"open\",\"amount\":{},\"text\":\"{}\"}},\"stamp\":\"0190f0a1b2c3-0001-c_1\"}}",
            id % 1000,
            id % 12 + 1,
            id % 28 + 1,
            id % 10_000,
            "x".repeat(170)
        )
        .unwrap();
    }
    let more = first + PAGE < RECORDS;
    write!(
        text,
        "]}},\"tombstones\":{{}},\"cursor\":\"c{first}\",\"covered\":{},\"has_more\":{more}}}",
        if more { "{}".to_owned() } else { format!("{{\"user:ada\":{{\"items\":{RECORDS}}}}}") }
    )
    .unwrap();
    text
}

fn main() {
    let texts: Vec<String> = (0..RECORDS / PAGE).map(|n| page(n * PAGE)).collect();
    let fields = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    let declared =
        Declared { indexes: vec![fields(&["supplier_id", "date"])], cluster: fields(&["supplier_id", "date"]) };
    let schema: Schema = Map::from([(CollectionName::new("items"), declared)]);
    let mut disk: Map<(landfall_storage::StoreName, landfall_storage::Key), String> = Map::new();
    let mut records = Records::default();
    let (mut parse, mut plan, mut store, mut reads) = (0.0, 0.0, 0.0, 0);
    for batch in texts.chunks(12) {
        let begun = Instant::now();
        let pages: Vec<Page> = batch.iter().map(|text| from_json(text).unwrap()).collect();
        parse += begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let mut ingest = Ingest::new(pages);
        let txn = loop {
            match ingest.plan(&records, &schema, &|_, _| None, UnixMillis(1)) {
                Ok(txn) => break txn,
                Err(Missing) => {
                    for id in records.missing() {
                        reads += 1;
                        records.give(id, disk.get(&id.place()).cloned()).unwrap();
                    }
                }
            }
        };
        plan += begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        records.adopt(&txn);
        for (store, key, row) in txn.put {
            disk.insert((store, key), row);
        }
        store += begun.elapsed().as_secs_f64();
    }
    println!("parse {:.0} ms, plan {:.0} ms, store {:.0} ms, {reads} rows read", parse * 1e3, plan * 1e3, store * 1e3);
    let begun = Instant::now();
    let (mut steps, mut written) = (0, 0);
    loop {
        match compact::plan_step(&records, &schema, UnixMillis(2)) {
            Ok(Some(txn)) => {
                steps += 1;
                records.adopt(&txn);
                for (store, key) in &txn.delete {
                    disk.remove(&(*store, key.clone()));
                }
                for (store, key, row) in txn.put {
                    written += row.len();
                    disk.insert((store, key), row);
                }
            }
            Ok(None) => break,
            Err(Missing) => {
                for id in records.missing() {
                    records.give(id, disk.get(&id.place()).cloned()).unwrap();
                }
            }
        }
    }
    println!(
        "compaction: {steps} steps, {} MB written, {:.0} ms",
        written / 1_000_000,
        begun.elapsed().as_secs_f64() * 1e3
    );

    let text = |supplier: u64| {
        format!(
            "{{\"collection\":\"items\",\"where\":{{\"supplier_id\":\"s{supplier:04}\"}},\"orderBy\":\"date\",\"limit\":100}}"
        )
    };
    for what in ["first", "warm"] {
        let begun = Instant::now();
        let mut hits = 0;
        for n in 0..200 {
            let mut search = Search::new(Query::parse(&text(n * 5)).unwrap(), &records, &schema);
            while search.step(&records, &schema, &|_, _| false).is_err() {
                for id in records.missing() {
                    records.give(id, disk.get(&id.place()).cloned()).unwrap();
                }
            }
            hits += search.found.len();
        }
        println!("query, {what}: {:.3} ms, {} records each", begun.elapsed().as_secs_f64() * 5.0, hits / 200);
    }
}
