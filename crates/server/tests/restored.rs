//! A real backup of a running server, taken, overtaken and put back: devices send again what it lacks, and end as one.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use support::process::Process;
use support::{Answer, Device, Replica};

const STRIDE: u64 = 1 << 32;

/// What a device keeps: its acknowledged mutations, the epoch and its replica.
struct Client {
    device: Device,
    held: BTreeMap<u64, Value>,
    replica: Replica,
}

impl Client {
    fn new(process: &Process, client_id: &str) -> Self {
        let device = Device::new(process.address, "ada", client_id);
        Self { device, held: BTreeMap::new(), replica: Replica::default() }
    }

    /// Pushes these as its next mutations, all of which must be applied.
    async fn push(&mut self, mutations: Vec<Value>) {
        let mut texts = Vec::new();
        for mut mutation in mutations {
            let seq = self.held.last_key_value().map_or(0, |(seq, _)| *seq) + 1;
            mutation["seq"] = json!(seq);
            texts.push(mutation.to_string());
            self.held.insert(seq, mutation);
        }
        let answer = self.device.push(&texts).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        for result in answer.json()["results"].as_array().unwrap() {
            assert_eq!(result["status"], "applied", "{result}");
        }
        self.device.first_push = false;
        self.device.epoch = answer.json()["epoch"].as_str().map(str::to_owned);
    }

    async fn pull(&mut self) -> Answer {
        loop {
            let answer = self.device.pull(self.replica.cursor.as_deref(), &["movies"], 100).await;
            if answer.status != 200 || !self.replica.apply(&answer.json()) {
                return answer;
            }
        }
    }

    /// The live records: their values, without the server's numbers.
    fn values(&self) -> BTreeMap<String, Value> {
        let rows = self.replica.records("user:ada", "movies");
        rows.into_iter().map(|(id, row)| (id, row["fields"].clone())).collect()
    }

    /// What docs/protocol.md, *Epoch and ledger*, asks of a client. The seqs that it sent again.
    async fn recover(&mut self, process: &Process) -> Vec<u64> {
        self.device.address = process.address;
        assert_eq!(self.pull().await.code(), "reset_required", "a cursor of the old epoch");
        let last = self.held.values().last().unwrap().to_string();
        let refused = self.device.push(&[last]).await;
        assert_eq!((refused.status, refused.code().as_str()), (409, "reset_required"));
        let error = refused.json()["error"].clone();
        let ledger = &error["ledger"];
        let acked_through = ledger["acked_through"].as_u64().unwrap();
        let entries = ledger["entries"].as_array().unwrap();
        let is_known = |seq: &u64| *seq <= acked_through || entries.iter().any(|entry| entry["seq"] == *seq);
        let lost: BTreeMap<u64, Value> =
            self.held.iter().filter(|(seq, _)| !is_known(seq)).map(|(seq, sent)| (*seq, sent.clone())).collect();
        self.device.epoch = error["epoch"].as_str().map(str::to_owned);
        self.replica = Replica::default();
        if ledger["known"] == false {
            self.device.client_id.push_str("-again");
            self.device.first_push = true;
            self.held.clear();
        }
        self.push(lost.values().cloned().collect()).await;
        lost.into_keys().collect()
    }
}

fn put(op: &str, id: &str, base: u64, n: u64) -> Value {
    let mut value = json!({"scope": "user:ada", "collection": "movies", "id": id, "op": op, "base": base,
        "stamp": support::STAMP});
    if op != "delete" {
        value["set"] = json!({"n": n});
    }
    value
}

/// As docs/operations.md says, while the server runs.
fn back_up(data: &Path, file: &Path) {
    let connection = rusqlite::Connection::open(data.join("landfall.db")).unwrap();
    connection.execute("VACUUM INTO ?1", [file.to_str().unwrap()]).unwrap();
}

fn put_back(data: &Path, file: &Path) {
    for name in ["landfall.db-wal", "landfall.db-shm"] {
        drop(std::fs::remove_file(data.join(name)));
    }
    std::fs::rename(file, data.join("landfall.db")).unwrap();
}

#[tokio::test]
async fn r6_after_a_restored_backup_devices_send_again_what_it_lacks_and_end_as_one() {
    let data = tempfile::tempdir().unwrap();
    let mut process = Process::start(data.path());
    let (mut phone, mut desk) = (Client::new(&process, "phone"), Client::new(&process, "desk"));
    phone.push(vec![put("create", "a", 0, 1), put("create", "b", 0, 1), put("update", "a", 1, 2)]).await;
    desk.push(vec![put("create", "d", 0, 1)]).await;
    phone.pull().await;
    let backup = data.path().join("backup.db");
    back_up(data.path(), &backup);
    // What the backup lacks: changes, a delete, and a device that it never saw.
    let mut tablet = Client::new(&process, "tablet");
    phone.push(vec![put("update", "b", 1, 2), put("create", "e", 0, 1)]).await;
    desk.push(vec![put("update", "d", 1, 2), put("delete", "a", 2, 0)]).await;
    tablet.push(vec![put("create", "f", 0, 1)]).await;
    for client in [&mut phone, &mut desk, &mut tablet] {
        assert_eq!(client.pull().await.status, 200);
    }
    let before = phone.values();
    assert_eq!(before, [("b", 2), ("d", 2), ("e", 1), ("f", 1)].map(|(id, n)| (id.to_owned(), json!({"n": n}))).into());
    process.kill();
    put_back(data.path(), &backup);
    let process = Process::start_with(data.path(), &["--restored"]);
    assert_eq!(phone.recover(&process).await, [4, 5]);
    assert_eq!(desk.recover(&process).await, [2, 3]);
    assert_eq!(tablet.recover(&process).await, [1]);
    for client in [&mut phone, &mut desk, &mut tablet] {
        assert_eq!(client.pull().await.status, 200);
        assert_eq!(client.values(), before, "nothing that was acknowledged is lost");
    }
    let rows = phone.replica.records("user:ada", "movies");
    assert!(rows.values().all(|row| row["version"].as_u64() > Some(STRIDE)), "a number of the old epoch is used again");
    // What the backup had is there once, also when it is sent once more.
    let answer = phone.device.push(&[phone.held[&1].to_string(), phone.held[&3].to_string()]).await;
    let results = answer.json()["results"].clone();
    assert_eq!((&results[0]["version"], &results[1]["version"]), (&json!(1), &json!(2)), "the outcomes of then");
    phone.pull().await;
    assert_eq!(phone.values(), before);
}

#[tokio::test]
async fn s1_s4_a_late_double_of_a_first_push_does_nothing_at_a_restored_server() {
    let data = tempfile::tempdir().unwrap();
    let mut process = Process::start(data.path());
    let mut phone = Client::new(&process, "phone");
    let backup = data.path().join("backup.db");
    back_up(data.path(), &backup);
    let double = phone.device.push_body(&[first_of(put("create", "a", 0, 1))]);
    phone.push(vec![put("create", "a", 0, 1), put("create", "b", 0, 1)]).await;
    assert_eq!(phone.pull().await.status, 200);
    let before = phone.values();
    process.kill();
    put_back(data.path(), &backup);
    let process = Process::start_with(data.path(), &["--restored"]);
    phone.device.address = process.address;
    let refused = phone.device.post("/v1/sync/push", &double).await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "reset_required"));
    // Else its `a` would be there before the one that the phone sends again, which would meet it as a stranger's.
    assert_eq!(phone.recover(&process).await, [1, 2]);
    assert_eq!(phone.pull().await.status, 200);
    assert_eq!(phone.values(), before);
    // A device that is new asks once more, with the epoch that it was told.
    let mut new = Client::new(&process, "new");
    let told = new.device.push(&[first_of(put("create", "c", 0, 1))]).await.json()["error"].clone();
    assert_eq!((&told["code"], &told["ledger"]["known"]), (&json!("reset_required"), &json!(false)));
    new.device.epoch = told["epoch"].as_str().map(str::to_owned);
    new.push(vec![put("create", "c", 0, 1)]).await;
}

fn first_of(mut mutation: Value) -> String {
    mutation["seq"] = json!(1);
    mutation.to_string()
}
