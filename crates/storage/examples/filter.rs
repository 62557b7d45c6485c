//! Times the filter and the index keys over 100,000 records of about 300 bytes with 8 fields:
//! `cargo run --profile fast -p landfall-storage --example filter`.

use landfall_protocol::Value;
use landfall_storage::query::key::key_of;
use landfall_storage::query::{Condition, Filter};
use std::time::Instant;

const RECORDS: usize = 100_000;

fn record(at: usize) -> (String, String) {
    let fields = format!(
        r#"{{"supplier_id":"supplier-{:06}","date":"2026-{:02}-{:02}","amount":{}.{:02},"currency":"EUR","status":"{}","paid":{},"note":"{}","tags":["alpha","beta",{}]}}"#,
        at % 997,
        at % 12 + 1,
        at % 28 + 1,
        at * 7 % 10_000,
        at % 100,
        ["open", "sent", "paid"][at % 3],
        at.is_multiple_of(2),
        "a remark of the kind that people write beside a payment: what it was for, who asked for it, and when it has to be there at the latest, in words",
        at % 10,
    );
    (format!("0190{at:012}"), fields)
}

/// The best of some runs, in milliseconds.
fn best(mut run: impl FnMut() -> usize) -> (f64, usize) {
    let mut best = (f64::INFINITY, 0);
    for _ in 0..15 {
        let start = Instant::now();
        let count = run();
        best = (best.0.min(start.elapsed().as_secs_f64() * 1e3), count);
    }
    best
}

fn main() {
    let records: Vec<(String, String)> = (0..RECORDS).map(record).collect();
    let bytes: usize = records.iter().map(|(_, fields)| fields.len()).sum();
    println!("{RECORDS} records of {} bytes", bytes / RECORDS);
    let text = |text: &str| Some(Value::String(text.to_owned()));
    let equal = |value: &str| Condition { equal: text(value), ..Condition::default() };
    let range = Condition { gte: Some(Value::Number(9_000.0)), ..Condition::default() };
    let questions = [
        ("first field, eq", vec![("supplier_id", equal("supplier-000500"))]),
        ("third field, range of numbers", vec![("amount", range.clone())]),
        ("fifth field, eq", vec![("status", equal("paid"))]),
        ("two fields", vec![("status", equal("paid")), ("amount", range)]),
        ("a field that is missing", vec![("gone", equal("x"))]),
    ];
    for (name, question) in questions {
        let question: Vec<(String, Condition)> =
            question.into_iter().map(|(field, condition)| (field.to_owned(), condition)).collect();
        let mut filter = Filter::new(&question);
        let (ms, found) = best(|| records.iter().filter(|(id, fields)| filter.matches(id, fields)).count());
        println!("{name}: {ms:.1} ms, {found} found");
    }
    let names = ["supplier_id", "date"].map(String::from);
    let mut key = String::new();
    let (ms, bytes) = best(|| {
        let mut bytes = 0;
        for (id, fields) in &records {
            key.clear();
            key_of(id, fields, &names, &mut key);
            bytes += key.len();
        }
        bytes
    });
    println!("keys of two fields: {ms:.1} ms, {} bytes each", bytes / RECORDS);
}
