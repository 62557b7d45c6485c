//! kill -9 under load: what was answered is there once, and what was not is there whole or not at all.
//!
//! `LANDFALL_KILL_ROUNDS` (5) and `LANDFALL_KILL_SEED` (1); `--nocapture` shows what the rounds came to.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::process::Process;
use support::{Device, ask};

const DEVICES: usize = 6;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// SplitMix64: the number that belongs to `seed`.
fn random(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// One device of a round, and the ledger it keeps: the results of each push that was answered. One more may have been sent.
struct Pusher {
    device: Device,
    answered: Vec<Value>,
}

impl Pusher {
    fn new(process: &Process, round: u64, number: usize) -> Self {
        let device = Device::new(process.address, &format!("user-{round}"), &format!("c{number}"));
        Self { device, answered: Vec::new() }
    }

    /// How many records the push with this number makes.
    fn record_count(&self, push: u64) -> u64 {
        random(push * 31 + u64::from(self.device.client_id.as_bytes()[1])) % 4
    }
    /// Mutations of the pushes before this one.
    fn seq_before(&self, push: u64) -> u64 {
        (0..push).map(|push| 1 + self.record_count(push)).sum()
    }
    fn id(&self, name: impl std::fmt::Display) -> String {
        format!("{}-{name}", self.device.client_id)
    }

    /// A change of the device's own record, which counts the effects, and some new records.
    fn mutations(&self, push: u64) -> Vec<String> {
        let (device, set) = (&self.device, json!({"n": push}));
        let seq = self.seq_before(push) + 1;
        let own = self.id("own");
        let first = if push == 0 { device.create(seq, &own, &set) } else { device.update(seq, &own, &set, push) };
        let records = 0..self.record_count(push);
        let rest = records.map(|n| device.create(seq + 1 + n, &self.id(format_args!("{push}-{n}")), &set));
        std::iter::once(first).chain(rest).collect()
    }

    /// Pushes until the server is gone.
    async fn push_on(mut self, answered: Arc<AtomicU64>) -> Self {
        loop {
            let push = self.answered.len() as u64;
            self.device.first_push = push == 0;
            let Ok(answer) = self.device.try_push(&self.mutations(push)).await else { return self };
            assert_eq!(answer.status, 200, "{}", answer.json());
            self.answered.push(answer.json()["results"].clone());
            answered.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// What is there when this many pushes had an effect: versions by id.
    fn versions(&self, pushes: u64) -> BTreeMap<String, u64> {
        let records = (0..pushes).flat_map(|push| (0..self.record_count(push)).map(move |n| (push, n)));
        let mut versions: BTreeMap<_, _> = records.map(|(push, n)| (self.id(format_args!("{push}-{n}")), 1)).collect();
        if pushes > 0 {
            versions.insert(self.id("own"), pushes);
        }
        versions
    }

    /// Every push that was sent, once more, with the same bytes.
    async fn repeat(&mut self, process: &Process) {
        self.device.address = process.address;
        for push in 0..=self.answered.len() as u64 {
            self.device.first_push = push == 0;
            let results = self.device.results(&self.mutations(push)).await;
            assert!(results.iter().all(|result| result["status"] == "applied"), "{results:?}");
            match self.answered.get(push as usize) {
                Some(first) => assert_eq!(*first, json!(results), "a repeat was answered otherwise"),
                None => {
                    assert_eq!(push, self.answered.len() as u64);
                    self.answered.push(json!(results));
                    return;
                }
            }
        }
    }
}

async fn versions(process: &Process, user: &str) -> BTreeMap<String, u64> {
    let rows = Device::new(process.address, user, "reader").stored().await;
    rows.iter().map(|row| (row["id"].as_str().unwrap().to_owned(), row["version"].as_u64().unwrap())).collect()
}

/// The seqs of a client that have an outcome, and those that have an audit row.
fn seqs(ledger: &Value, client: &str) -> [Vec<u64>; 2] {
    let number = |row: &Value| row["seq"].as_u64().unwrap();
    let found = ledger["clients"].as_array().unwrap().iter().find(|row| row["client_id"] == client);
    let outcomes = found.map_or(Vec::new(), |row| row["outcomes"].as_array().unwrap().iter().map(number).collect());
    let audit = ledger["audit"].as_array().unwrap().iter().filter(|row| row["client_id"] == client);
    [outcomes, audit.map(number).collect()]
}

/// Checks what is there of a round; how many of its pushes had an effect, by device.
async fn check(process: &Process, round: u64, pushers: &[Pusher]) -> Vec<u64> {
    let user = format!("user-{round}");
    let there = versions(process, &user).await;
    let ledger = ask(process.address, "GET", &format!("/dev/ledger?user={user}"), &[], b"").await.json();
    let (mut expected, mut effects) = (BTreeMap::new(), Vec::new());
    for pusher in pushers {
        let (answered, landed) = (pusher.answered.len() as u64, there.get(&pusher.id("own")).copied().unwrap_or(0));
        assert!(landed == answered || landed == answered + 1, "{answered} pushes were answered, {landed} are there");
        expected.extend(pusher.versions(landed));
        let every: Vec<u64> = (1..=pusher.seq_before(landed)).collect();
        assert_eq!(seqs(&ledger, &pusher.device.client_id), [every.clone(), every], "outcomes and audit");
        effects.push(landed);
    }
    assert_eq!(there, expected, "a push is there in part, or something twice");
    effects
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
            .map(|number| tokio::spawn(Pusher::new(&process, round, number).push_on(Arc::clone(&answered))))
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
        let landed = check(&process, round, &pushers).await;
        for (pusher, landed) in pushers.iter().zip(landed) {
            answered_count += pusher.answered.len() as u64;
            landed_unanswered += landed - pusher.answered.len() as u64;
        }
        for pusher in &mut pushers {
            pusher.repeat(&process).await;
            changes += pusher.seq_before(pusher.answered.len() as u64);
        }
        check(&process, round, &pushers).await;
        let reader = Device::new(process.address, "reader", "reader");
        assert_eq!(reader.count("changes").await, changes, "the log has one change for each effect");
        kept.push(versions(&process, &format!("user-{round}")).await);
    }
    // What later rounds did to the process did nothing to earlier ones.
    for (round, kept) in kept.iter().enumerate() {
        assert_eq!(versions(&process, &format!("user-{round}")).await, *kept);
    }
    process.kill();
    println!(
        "seed {seed}: {rounds} kills, {answered_count} pushes answered before them, {landed_unanswered} of {} in doubt were there",
        rounds * DEVICES as u64
    );
}
