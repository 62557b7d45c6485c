//! kill -9 under load: what was answered is there once, and what was not is there whole or not at all.
//!
//! `LANDFALL_KILL_ROUNDS` (5) and `LANDFALL_KILL_SEED` (1); `--nocapture` shows what the rounds came to.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::Device;
use support::ledger::{Pusher, check, random, versions};
use support::process::Process;

const DEVICES: usize = 6;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s6_s1_what_was_answered_is_there_once_after_kill_9_and_the_rest_is_whole_or_not_there() {
    let (rounds, seed) = (setting("LANDFALL_KILL_ROUNDS", 5), setting("LANDFALL_KILL_SEED", 1));
    let data = tempfile::tempdir().unwrap();
    let mut process = Process::start(data.path());
    let (mut changes, mut answered_count, mut landed_unanswered) = (0, 0, 0);
    let mut kept = Vec::new();
    for round in 0..rounds {
        let chance = random(seed.wrapping_mul(1_000_003).wrapping_add(round));
        let answered = Arc::new(AtomicU64::new(0));
        let running: Vec<_> = (0..DEVICES)
            .map(|number| tokio::spawn(Pusher::new(process.address, round, number).push_on(Arc::clone(&answered))))
            .collect();
        // Some answers, and then any moment of the next ones.
        while answered.load(Ordering::SeqCst) < 1 + chance % 90 {
            tokio::task::yield_now().await;
        }
        let moment = Instant::now() + Duration::from_micros((chance >> 20) % 12_000);
        while Instant::now() < moment {
            tokio::task::yield_now().await;
        }
        process.kill();
        let mut pushers = Vec::new();
        for running in running {
            pushers.push(running.await.unwrap());
        }
        process = Process::start(data.path());
        let landed = check(process.address, round, &pushers).await.unwrap();
        for (pusher, landed) in pushers.iter().zip(landed) {
            answered_count += pusher.answered.len() as u64;
            landed_unanswered += landed - pusher.answered.len() as u64;
        }
        for pusher in &mut pushers {
            pusher.repeat(process.address).await;
            changes += pusher.seq_before(pusher.answered.len() as u64);
        }
        check(process.address, round, &pushers).await.unwrap();
        let reader = Device::new(process.address, "reader", "reader");
        assert_eq!(reader.count("changes").await, changes, "the log has one change for each effect");
        kept.push(versions(process.address, &format!("user-{round}")).await);
    }
    // What later rounds did to the process did nothing to earlier ones.
    for (round, kept) in kept.iter().enumerate() {
        assert_eq!(versions(process.address, &format!("user-{round}")).await, *kept);
    }
    process.kill();
    println!(
        "seed {seed}: {rounds} kills, {answered_count} pushes answered before them, {landed_unanswered} of {} in doubt were there",
        rounds * DEVICES as u64
    );
}
