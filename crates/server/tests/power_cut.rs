//! A power cut under load: what was not synced is gone, or there in part, and what was answered is there once.
//!
//! `LANDFALL_CUTS` (24) and `LANDFALL_CUT_SEED` (1); `--nocapture` shows what the cuts came to.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

#[path = "support/durable.rs"]
mod durable;
mod support;

use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use support::TestServer;
use support::ledger::{Pusher, check, random};

const DEVICES: usize = 6;
/// Calls of some pushes and of a stop: cuts fall into both.
const CALLS_MOST: u64 = 220;

/// Tests of one process share the disk.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// What was answered, by device.
type Ledger = Arc<Mutex<Vec<Vec<Value>>>>;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Pushes until the power is gone or enough is pushed, and writes down each answer as it comes.
async fn push_until_cut(mut pusher: Pusher, number: usize, ledger: Ledger, pushes: u64) {
    for push in 0..pushes {
        if durable::is_cut() {
            return;
        }
        pusher.device.first_push = push == 0;
        let results = pusher.device.results(&pusher.mutations(push)).await;
        lock(&ledger)[number].push(Value::from(results));
    }
}

/// What a round came to: pushes answered before the cut, and those in doubt that were there.
struct Came {
    answered: u64,
    landed: u64,
}

/// One cut at a moment of its own; `None`: all was over before it came to that. `Err` says what is not as it must be.
async fn cut(round: u64, seed: u64) -> Result<Option<Came>, String> {
    let chance = random(seed.wrapping_mul(1_000_003).wrapping_add(round));
    let server = TestServer::start().await;
    let ledger: Ledger = Arc::new(Mutex::new(vec![Vec::new(); DEVICES]));
    let at_the_cut: Ledger = Arc::default();
    let (known, then) = (Arc::clone(&ledger), Arc::clone(&at_the_cut));
    // Whoever was answered before this moment has its answer in the ledger; no file changes while it is copied.
    durable::arm(1 + chance % CALLS_MOST, chance, move || lock(&then).clone_from(&lock(&known)));
    let pushers: Vec<_> = (0..DEVICES)
        .map(|number| {
            let pusher = Pusher::new(server.address, round, number);
            tokio::spawn(push_until_cut(pusher, number, Arc::clone(&ledger), 1 + chance % 7))
        })
        .collect();
    for pusher in pushers {
        pusher.await.unwrap();
    }
    let before = server.stop().await;
    let after = tempfile::tempdir().unwrap();
    if !durable::restore(before.path(), after.path()) {
        return Ok(None);
    }
    let word = integrity(after.path());
    if word != "ok" {
        return Err(format!("the database is damaged: {word}"));
    }
    let server = TestServer::start_in(after, &[]).await;
    let mut devices: Vec<Pusher> = (0..DEVICES).map(|number| Pusher::new(server.address, round, number)).collect();
    for (device, answered) in devices.iter_mut().zip(lock(&at_the_cut).iter()) {
        device.answered.clone_from(answered);
    }
    let answered: u64 = devices.iter().map(|device| device.answered.len() as u64).sum();
    let landed: u64 = check(server.address, round, &devices).await?.iter().sum();
    for device in &mut devices {
        device.repeat(server.address).await;
    }
    check(server.address, round, &devices).await?;
    server.stop().await;
    Ok(Some(Came { answered, landed: landed - answered }))
}

/// SQLite's own word on what a cut left, in a copy: to ask is to recover.
fn integrity(data: &std::path::Path) -> String {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(data).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let asked = rusqlite::Connection::open(copy.path().join("landfall.db"))
        .and_then(|connection| connection.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)));
    asked.unwrap_or_else(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s6_s1_what_was_answered_is_there_once_after_a_power_cut_and_the_rest_is_whole_or_not_there() {
    let _alone = ALONE.lock().await;
    durable::install();
    durable::lie(None);
    let (cuts, seed) = (setting("LANDFALL_CUTS", 24), setting("LANDFALL_CUT_SEED", 1));
    let (mut count, mut answered, mut landed) = (0, 0, 0);
    for round in 0.. {
        match cut(round, seed).await {
            Ok(Some(came)) => (count, answered, landed) = (count + 1, answered + came.answered, landed + came.landed),
            Ok(None) => assert!(round < cuts * 10, "hardly any cut comes to pass"),
            Err(what) => panic!("seed {seed}, cut {round}: {what}"),
        }
        if count == cuts {
            break;
        }
    }
    println!("seed {seed}: {count} cuts, {answered} pushes answered before them, {landed} in doubt were there");
    assert!(answered > cuts, "the cuts came before anything was answered");
}

/// A sync of the log that holds nothing is what `synchronous = NORMAL` does at a commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s6_an_answer_before_the_log_is_synced_is_found_out() {
    let _alone = ALONE.lock().await;
    durable::install();
    durable::lie(Some("-wal"));
    let mut found = None;
    for round in 0..24 {
        if let Err(what) = cut(round, 1).await {
            found = Some(what);
            break;
        }
    }
    durable::lie(None);
    assert!(found.is_some(), "no cut noticed that answers came before they were kept");
}
