//! Thousands of random operations on a running server, over HTTP, against a plain model of what docs/protocol.md says.
//!
//! The model shares no rule with the server: a map of records, a list of changes, a table of answers. `LANDFALL_MODEL_STEPS`
//! (1,200 pushes and pulls, of a few mutations each) and `LANDFALL_MODEL_SEED` (1).
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

mod plain;
#[path = "../support/mod.rs"]
mod support;

use plain::{CLIENTS, COLLECTIONS, Expected, Fields, Model, Policy, RECORDS, SCOPES, Wanted};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use support::ledger::random;
use support::{Device, Replica, TestServer};

/// Draws what happens.
struct Chance {
    seed: u64,
    draws: u64,
}

impl Chance {
    fn below(&mut self, of: u64) -> u64 {
        self.draws += 1;
        random(self.seed.wrapping_mul(0x1000_0000_01b3).wrapping_add(self.draws)) % of
    }
    fn in_hundred(&mut self, count: u64) -> bool {
        self.below(100) < count
    }
    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize].clone()
    }
}

fn wanted(chance: &mut Chance, model: &Model, client: usize, seq: u64, scope: &str) -> Wanted {
    let collection = if chance.in_hundred(3) { "nowhere" } else { chance.of(&COLLECTIONS).0 };
    let key = (scope.to_owned(), collection.to_owned(), format!("r{}", chance.below(RECORDS)));
    let op = chance.of(&["create", "update", "update", "update", "delete"]);
    let mut set = Fields::new();
    if op != "delete" {
        for name in ["n", "m"].into_iter().filter(|_| chance.in_hundred(70)).collect::<Vec<_>>() {
            set.insert(name.to_owned(), if chance.in_hundred(6) { json!("no number") } else { json!(chance.below(4)) });
        }
        if op == "create" || chance.in_hundred(8) {
            let site = if chance.in_hundred(if op == "create" { 5 } else { 50 }) {
                "9"
            } else {
                scope.trim_start_matches("s:")
            };
            set.insert("site".to_owned(), json!(site));
        }
        if set.is_empty() {
            set.insert("n".to_owned(), json!(1));
        }
    }
    let unset = if op == "update" && chance.in_hundred(15) { vec!["x".to_owned()] } else { Vec::new() };
    let version = model.records.get(&key).map_or(0, |record| record.version);
    let base = match chance.below(10) {
        0..=5 => version,
        6 | 7 => version.saturating_sub(1 + chance.below(2)),
        _ => 0,
    };
    let after = (seq > 1 && chance.in_hundred(20)).then(|| seq - 1 - chance.below(3.min(seq - 1)));
    // An outcome that was acknowledged is gone: nobody stands on it any more.
    let after = after.filter(|after| *after > model.acked_through[client]);
    Wanted { seq, key, op, set, unset, base: after.is_none().then_some(base), after, group: None, is_void: false }
}

fn word(result: &Value) -> String {
    let status = result["status"].as_str().unwrap();
    result["code"].as_str().map_or_else(|| status.to_owned(), |code| format!("{status}({code})"))
}

fn assert_answer(result: &Value, expected: &Expected, model: &mut Model, client: usize, sent: &str) {
    match expected {
        Expected::Settled => assert_eq!(result["status"], "already_settled", "{sent}"),
        Expected::Reused => assert_eq!(result["status"], "key_reused", "{sent}"),
        Expected::Repeat(seq) => assert_eq!(*result, model.answered[&(client, *seq)].result, "{sent}"),
        Expected::New { seq, verdict, position, record } => {
            assert_eq!(word(result), verdict.word, "{sent} {result}");
            if verdict.took_effect() || verdict.word == "superseded" {
                assert_eq!(result["version"].as_u64(), verdict.version, "{sent} {result}");
                assert_eq!(result["position"], *position, "{sent} {result}");
            }
            if verdict.word == "superseded" {
                assert_eq!(result["record"].as_object(), record.as_ref(), "{sent} {result}");
            }
            model.answered.get_mut(&(client, *seq)).unwrap().result = result.clone();
        }
    }
}

struct Client {
    device: Device,
    replica: Replica,
    next_seq: u64,
    sent: Vec<Wanted>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_s1_s2_s3_s5_r2_thousands_of_random_operations_are_answered_as_a_plain_model_says() {
    let setting = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (steps, seed) = (setting("LANDFALL_MODEL_STEPS", 1_200), setting("LANDFALL_MODEL_SEED", 1));
    let policy = |policy| match policy {
        Policy::ServerWins => "server-wins",
        Policy::ClientWins => "client-wins",
        Policy::Reapply => "reapply",
    };
    let declared: Fields = COLLECTIONS
        .iter()
        .map(|(name, of)| {
            let schema = json!({"properties": {"n": {"type": "integer"}}});
            ((*name).to_owned(), json!({"scope": "s:{site}", "policy": policy(*of), "schema": schema}))
        })
        .collect();
    let server =
        TestServer::start_with(tempfile::tempdir().unwrap(), &json!({"version": 1, "collections": declared})).await;
    let mut clients: Vec<Client> = (0..CLIENTS)
        .map(|number| {
            let mut device = server.writer(["ada", "grace"][number % 2], &["staff"]);
            device.client_id = format!("c{number}");
            Client { device, replica: Replica::default(), next_seq: 1, sent: Vec::new() }
        })
        .collect();
    let mut chance = Chance { seed, draws: 0 };
    let mut model = Model::default();
    let mut words: BTreeMap<String, u64> = BTreeMap::new();
    let mut operations = 0;
    for _ in 0..steps {
        let number = chance.below(CLIENTS as u64) as usize;
        if chance.in_hundred(30) {
            pull(&mut clients[number], &model, 1 + chance.below(5) as u32, 1 + chance.below(3)).await;
            operations += 1;
            continue;
        }
        let elements = draw(&mut chance, &model, number, &mut clients[number]);
        let texts: Vec<String> = elements.iter().map(Wanted::text).collect();
        let client = &mut clients[number];
        client.device.first_push = model.answered.keys().all(|(of, _)| *of != number);
        if chance.in_hundred(10) {
            let decided = (1..client.next_seq).take_while(|seq| model.answered.contains_key(&(number, *seq))).count();
            model.acked_through[number] = model.acked_through[number].max(chance.below(decided as u64 + 1));
            client.device.acked_through = model.acked_through[number];
        }
        let expected = model.push(number, &elements);
        let results = client.device.results(&texts).await;
        assert_eq!(results.len(), expected.len());
        for ((result, expected), text) in results.iter().zip(&expected).zip(&texts) {
            assert_answer(result, expected, &mut model, number, text);
            *words.entry(word(result)).or_default() += 1;
        }
        operations += results.len();
    }
    for client in &mut clients {
        client.replica = Replica::default();
        pull(client, &model, 3, u64::MAX).await;
    }
    println!("seed {seed}: {operations} operations, {words:?}");
    // Every verdict was met, or the test says less than it claims.
    let met: BTreeSet<&str> = words.keys().map(String::as_str).collect();
    let all = ["already_settled", "applied", "key_reused", "recreated", "rejected(blocked)", "rejected(forbidden)"];
    let more = ["rejected(gone)", "rejected(group_refused)", "rejected(immutable)", "rejected(stale)"];
    let rest = ["rejected(unknown_collection)", "rejected(validation)", "rejected(void)", "superseded"];
    let missing: Vec<_> = all.iter().chain(&more).chain(&rest).filter(|word| !met.contains(*word)).collect();
    assert!(missing.is_empty(), "never met: {missing:?}");
}

/// New mutations, groups of them, and what was sent before: the same bytes, others under the same seq, a void of it.
fn draw(chance: &mut Chance, model: &Model, number: usize, client: &mut Client) -> Vec<Wanted> {
    let mut elements: Vec<Wanted> = Vec::new();
    for unit in 0..1 + chance.below(4) {
        let scope = if chance.in_hundred(4) { "s:3" } else { chance.of(&SCOPES) };
        if !client.sent.is_empty() && chance.in_hundred(20) {
            let mut again = chance.of(&client.sent);
            let is_grouped = again.group.is_some();
            match chance.below(3) {
                0 if !is_grouped => again.set = Fields::from_iter([("n".to_owned(), json!(77))]),
                1 => again = Wanted { is_void: true, group: None, ..again },
                _ => {}
            }
            // A group is repeated whole elsewhere: a part of one is another story.
            if !elements.iter().any(|it| it.seq == again.seq) && (!is_grouped || again.is_void) {
                elements.push(again);
            }
            continue;
        }
        let count = if chance.in_hundred(25) { 2 + chance.below(2) } else { 1 };
        for _ in 0..count {
            let seq = client.next_seq;
            client.next_seq += 1;
            let mut new = wanted(chance, model, number, seq, scope);
            new.group = (count > 1).then(|| format!("g{seq}-{unit}"));
            new.is_void = count == 1 && chance.in_hundred(3);
            if let Some(first) = elements.last().filter(|last| count > 1 && last.seq + 1 == seq && last.group.is_some())
            {
                let is_same_unit = first.group.as_ref().is_some_and(|group| group.ends_with(&format!("-{unit}")));
                new.group = if is_same_unit { first.group.clone() } else { new.group };
            }
            elements.push(new.clone());
            client.sent.push(new);
        }
    }
    if elements.is_empty() {
        let seq = client.next_seq;
        client.next_seq += 1;
        let new = wanted(chance, model, number, seq, SCOPES[0]);
        client.sent.push(new.clone());
        elements.push(new);
    }
    elements
}

/// Some pages; after each the replica is the server as of the position that is covered.
async fn pull(client: &mut Client, model: &Model, limit: u32, pages: u64) {
    let names: Vec<&str> = COLLECTIONS.iter().map(|(name, _)| *name).collect();
    for _ in 0..pages {
        let page = client.device.pull(client.replica.cursor.as_deref(), &names, limit).await.json();
        let has_more = client.replica.apply(&page);
        for ((scope, collection), position) in client.replica.covered.clone() {
            let held = client.replica.records(&scope, &collection);
            let held: BTreeMap<String, (u64, Fields)> = held
                .iter()
                .map(|(id, row)| {
                    (id.clone(), (row["version"].as_u64().unwrap(), row["fields"].as_object().unwrap().clone()))
                })
                .collect();
            assert_eq!(held, model.at(&scope, &collection, position), "{collection} of {scope} at {position}");
        }
        if !has_more {
            for scope in SCOPES {
                for name in &names {
                    let covered = client.replica.covered.get(&(scope.to_owned(), (*name).to_owned()));
                    assert_eq!(covered, Some(&model.head(scope)), "everything was pulled");
                }
            }
            return;
        }
    }
}
