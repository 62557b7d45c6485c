//! What writes cost without a browser: time and memory of new records, stored in memory.
//!
//! `cargo run --profile fast -p landfall-replica --example writes`. Figures to look at, not a test.

#[path = "../tests/alone/mod.rs"]
mod alone;

use alone::Alone;
use landfall_protocol::Json;
use landfall_replica::{SyncError, WriteAnswer, WriteKind, WriteOp};
use landfall_storage::memory::MemoryRowStore;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const RECORDS: usize = 1_000;
const ROUNDS: usize = 20;

/// Bytes that are allocated, to say what an entry costs.
struct Counting;
static HELD: AtomicUsize = AtomicUsize::new(0);

#[allow(unsafe_code)] // The only way to count allocations; hands everything on to the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn record(number: usize) -> String {
    format!(
        "{{\"facility\":\"f{}\",\"title\":\"Record number {number}\",\"note\":\"{}\",\"done\":false,\"count\":{number},\
         \"tags\":[\"a\",\"b\"],\"at\":\"2025-06-15T12:00:00Z\",\"by\":{{\"name\":\"Ada\",\"id\":17}}}}",
        number % 7,
        "some words of a person ".repeat(6)
    )
}

fn ops(kind: WriteKind, round: usize) -> Vec<Result<WriteOp, SyncError>> {
    let op = |number: usize| {
        let fields = Json::parse(&record(number)).ok();
        let id = (kind != WriteKind::Create).then(|| format!("r{number:06}").as_str().into());
        Ok(WriteOp { op: kind, collection: "notes".into(), scope: None, id, fields })
    };
    (round * RECORDS..(round + 1) * RECORDS).map(op).collect()
}

fn main() {
    for (name, kind) in [("creates, id made", WriteKind::Create), ("puts of new records", WriteKind::Put)] {
        let rows = MemoryRowStore::default();
        let alone = Alone::open(rows.clone());
        let before = HELD.load(Ordering::Relaxed);
        let mut times = Vec::new();
        for round in 0..ROUNDS {
            let ops = ops(kind, round);
            let start = Instant::now();
            let answers = alone.run(alone.replica.write_each(ops));
            times.push(start.elapsed().as_nanos() as f64 / 1_000.0 / RECORDS as f64);
            assert!(answers.iter().all(|answer| matches!(answer, WriteAnswer::Done(_))));
        }
        // What is left is the replica's own.
        rows.clear();
        let held = (HELD.load(Ordering::Relaxed) - before) as f64 / (ROUNDS * RECORDS) as f64;
        times.sort_by(f64::total_cmp);
        let text = record(0).len();
        println!(
            "{name} ({text} bytes of JSON): {:.2} µs each with the commit in memory (best {:.2}); {:.0} bytes held each",
            times[ROUNDS / 2],
            times[0],
            held
        );
    }
}
