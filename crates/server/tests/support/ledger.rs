//! Devices that push under load, and the ledger of what was answered: what must be there once when the server comes back.

use super::{Device, ask};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// SplitMix64: the number that belongs to `seed`.
pub fn random(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// One device of a round, and the ledger it keeps: the results of each push that was answered. One more may have been sent.
pub struct Pusher {
    pub device: Device,
    pub answered: Vec<Value>,
}

impl Pusher {
    pub fn new(address: SocketAddr, round: u64, number: usize) -> Self {
        let device = Device::new(address, &format!("user-{round}"), &format!("c{number}"));
        Self { device, answered: Vec::new() }
    }

    /// How many records the push with this number makes.
    fn record_count(&self, push: u64) -> u64 {
        random(push * 31 + u64::from(self.device.client_id.as_bytes()[1])) % 4
    }
    /// Mutations of the pushes before this one.
    pub fn seq_before(&self, push: u64) -> u64 {
        (0..push).map(|push| 1 + self.record_count(push)).sum()
    }
    pub fn id(&self, name: impl std::fmt::Display) -> String {
        format!("{}-{name}", self.device.client_id)
    }

    /// A change of the device's own record, which counts the effects, and some new records.
    pub fn mutations(&self, push: u64) -> Vec<String> {
        let (device, set) = (&self.device, json!({"n": push}));
        let seq = self.seq_before(push) + 1;
        let own = self.id("own");
        let first = if push == 0 { device.create(seq, &own, &set) } else { device.update(seq, &own, &set, push) };
        let records = 0..self.record_count(push);
        let rest = records.map(|n| device.create(seq + 1 + n, &self.id(format_args!("{push}-{n}")), &set));
        std::iter::once(first).chain(rest).collect()
    }

    /// Pushes until the server is gone.
    pub async fn push_on(mut self, answered: Arc<AtomicU64>) -> Self {
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
    pub async fn repeat(&mut self, address: SocketAddr) {
        self.device.address = address;
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

pub async fn versions(address: SocketAddr, user: &str) -> BTreeMap<String, u64> {
    let rows = Device::new(address, user, "reader").stored().await;
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

/// Checks what is there of a round: how many of its pushes had an effect, by device, or what is wrong.
pub async fn check(address: SocketAddr, round: u64, pushers: &[Pusher]) -> Result<Vec<u64>, String> {
    let user = format!("user-{round}");
    let there = versions(address, &user).await;
    let ledger = ask(address, "GET", &format!("/dev/ledger?user={user}"), &[], b"").await.json();
    let (mut expected, mut effects) = (BTreeMap::new(), Vec::new());
    for pusher in pushers {
        let (answered, landed) = (pusher.answered.len() as u64, there.get(&pusher.id("own")).copied().unwrap_or(0));
        if landed != answered && landed != answered + 1 {
            return Err(format!("{answered} pushes were answered, {landed} are there"));
        }
        expected.extend(pusher.versions(landed));
        let every: Vec<u64> = (1..=pusher.seq_before(landed)).collect();
        let found = seqs(&ledger, &pusher.device.client_id);
        if found != [every.clone(), every] {
            return Err(format!("outcomes and audit of {landed} pushes are {found:?}"));
        }
        effects.push(landed);
    }
    if there == expected { Ok(effects) } else { Err(format!("in part, or twice: {there:?}, not {expected:?}")) }
}
