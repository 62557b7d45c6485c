//! Policies, keys and references as a collections file declares them, over HTTP.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod support;

use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use support::{Device, Replica, TestServer, ask, mutation};

fn file(collections: &Value) -> Value {
    let mut collections = collections.clone();
    for declaration in collections.as_object_mut().unwrap().values_mut() {
        declaration["scope"] = json!("s:{site}");
        if declaration.get("schema").is_none() {
            declaration["schema"] = json!({});
        }
    }
    json!({"version": 1, "collections": collections})
}

async fn serve(collections: Value) -> TestServer {
    TestServer::start_with(tempfile::tempdir().unwrap(), &file(&collections)).await
}

fn site(mut set: Value) -> Value {
    set["site"] = json!("1");
    set
}

/// One mutation of a device; numbers its seqs itself.
struct Hand {
    device: Device,
    seq: u64,
}

impl Hand {
    fn new(server: &TestServer, user: &str, roles: &[&str]) -> Self {
        Self { device: server.writer(user, roles), seq: 0 }
    }
    async fn push(&mut self, collection: &str, id: &str, op: &str, set: Value, base: u64) -> Value {
        self.push_with(collection, id, op, set, &json!({"base": base})).await
    }
    async fn push_with(&mut self, collection: &str, id: &str, op: &str, set: Value, more: &Value) -> Value {
        self.seq += 1;
        let set = if op == "create" { site(set) } else { set };
        let text = mutation(self.seq, "s:1", collection, id, op, &set, more);
        self.device.first_push = self.seq == 1;
        self.device.results(&[text]).await.remove(0)
    }
    async fn records(&self, collections: &[&str]) -> Value {
        self.device.pull(None, collections, 100).await.json()["changes"].clone()
    }
}

fn word(result: &Value) -> String {
    let status = result["status"].as_str().unwrap();
    match (result["code"].as_str(), result["to"].as_str()) {
        (Some(code), _) => format!("{status}({code})"),
        (None, Some(to)) => format!("{status}({to})"),
        (None, None) => status.to_owned(),
    }
}

#[tokio::test]
async fn c1_each_collection_has_the_policy_that_its_declaration_names() {
    let server = serve(json!({
        "standard": {}, "client": {"policy": "client-wins"}, "last": {"policy": "last-write-wins"},
        "merge": {"policy": "merge"}, "again": {"policy": "reapply"}, "author": {"policy": {"manual": {"by": "author"}}},
        "boss": {"policy": {"wins": "manager"}},
    }))
    .await;
    let (mut ada, mut grace) = (Hand::new(&server, "ada", &["staff"]), Hand::new(&server, "grace", &["manager"]));
    let newer = json!({"base": 1, "stamp": "0190f0a1b2ff-0000-c"});
    for (name, expected) in [
        ("standard", "superseded"),
        ("client", "applied"),
        ("last", "applied"),
        ("merge", "merged"),
        ("again", "rejected(stale)"),
        ("author", "conflict(author)"),
        ("boss", "superseded"),
    ] {
        grace.push(name, "r", "create", json!({"a": 1, "b": 1}), 0).await;
        grace.push(name, "r", "update", json!({"a": 2}), 1).await;
        let result = ada.push_with(name, "r", "update", json!({"a": 3, "b": 3}), &newer).await;
        assert_eq!(word(&result), expected, "{name}");
        assert!(result["record"].is_object(), "{name} says what the record is");
    }
    let merged = &ada.records(&["merge"]).await["merge"][0]["fields"];
    assert_eq!(merged, &site(json!({"a": 2, "b": 3})));
    // The manager's word stands against the staff's, however late the stamp.
    ada.push_with("boss", "s", "create", json!({"a": 1}), &json!({"base": 0})).await;
    ada.push_with("boss", "s", "update", json!({"a": 2}), &json!({"base": 1, "stamp": "0190f0a1b2ff-0000-c"})).await;
    assert_eq!(word(&grace.push("boss", "s", "update", json!({"a": 9}), 1).await), "applied");
    // C2: five mutations lost or waited, and what four overwrote is there, too.
    assert!(ada.device.count("conflicts").await >= 7);
}

#[tokio::test]
async fn i4_a_time_in_the_future_is_refused_by_name_only_where_that_is_declared() {
    let times = json!({"properties": {"at": {"type": "string", "format": "date-time"}, "free": {"type": "string"}}});
    let server = serve(json!({"shifts": {"schema": times, "not_future": ["at"]}})).await;
    let mut ada = Hand::new(&server, "ada", &[]);
    let at = |ahead_seconds: u64| {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + ahead_seconds;
        landfall_core::time::utc_text(i128::from(seconds) * 1_000_000_000).unwrap()
    };
    let result = ada.push("shifts", "a", "create", json!({"at": at(3_600)}), 0).await;
    assert_eq!(
        (word(&result).as_str(), &result["fields"]["at"]),
        ("rejected(not_future)", &json!("lies in the future"))
    );
    let near = ada.push("shifts", "b", "create", json!({"at": at(240), "free": at(999_999)}), 0).await;
    assert_eq!(word(&near), "applied");
    let wild = json!({"base": 0, "stamp": "ffffffffffff-0000-c"});
    assert_eq!(word(&ada.push_with("shifts", "c", "create", json!({"at": at(0)}), &wild).await), "applied");
}

#[tokio::test]
async fn a_unique_key_gives_a_record_its_id_and_further_keys_refuse_a_second_one() {
    let schema = json!({"properties": {"device": {"type": "string"}, "at": {"type": "string", "format": "date-time"},
        "mail": {"type": "string"}}});
    let unique = json!([["device", "at"], ["mail"]]);
    let server = serve(json!({"shifts": {"schema": schema, "unique": unique}})).await;
    let mut ada = Hand::new(&server, "ada", &[]);
    let shift = |at: &str, mail: &str| json!({"device": "d1", "at": at, "mail": mail});
    let morning = "2026-01-31T08:00:00Z";
    let refused = ada.push("shifts", "mine", "create", shift(morning, "a@x"), 0).await;
    assert_eq!(word(&refused), "rejected(id_mismatch)");
    let id = |result: &Value| {
        let message = result["message"].as_str().unwrap().to_owned();
        message.trim_end_matches('.').rsplit(' ').next().unwrap().to_owned()
    };
    let first = id(&refused);
    assert_eq!(word(&ada.push("shifts", &first, "create", shift(morning, "a@x"), 0).await), "applied");
    // The same point in time is the same record: a second device meets the first one's.
    let mut grace = Hand::new(&server, "grace", &[]);
    let same = grace.push("shifts", &first, "create", shift("2026-01-31T10:00:00.000+02:00", "b@x"), 0).await;
    assert_eq!(word(&same), "superseded");
    let evening = id(&ada.push("shifts", "x", "create", shift("2026-01-31T20:00:00Z", "a@x"), 0).await);
    let twice = ada.push("shifts", &evening, "create", shift("2026-01-31T20:00:00Z", "a@x"), 0).await;
    assert_eq!((word(&twice).as_str(), &twice["fields"]["existing_id"]), ("rejected(duplicate)", &json!(first)));
    assert_eq!(word(&ada.push("shifts", &first, "update", json!({"mail": "c@x"}), 1).await), "rejected(immutable)");
    let missing = ada.push("shifts", &evening, "create", json!({"device": "d1", "mail": "c@x"}), 0).await;
    assert!(missing["fields"]["at"].is_string(), "{missing}");
    // What was deleted holds its key no longer.
    ada.push("shifts", &first, "delete", json!({}), 1).await;
    assert_eq!(word(&ada.push("shifts", &evening, "create", shift("2026-01-31T20:00:00Z", "a@x"), 0).await), "applied");
}

#[tokio::test]
async fn a_reference_needs_its_parent_and_a_parent_keeps_or_takes_its_children() {
    let collections = json!({
        "suppliers": {}, "notes": {"references": {"supplier": {"collection": "suppliers", "on_delete": "cascade"}}},
        "lines": {"references": {"note": {"collection": "notes", "on_delete": "cascade"}}},
        "payments": {"references": {"supplier": "suppliers"}},
    });
    let server = serve(collections).await;
    let mut ada = Hand::new(&server, "ada", &[]);
    let orphan = ada.push("notes", "n", "create", json!({"supplier": "s"}), 0).await;
    assert_eq!(word(&orphan), "rejected(missing_parent)");
    // What its author is told, and at which field.
    assert_eq!(orphan["message"], "It belongs to a record that is not there.");
    assert_eq!(orphan["fields"], json!({"supplier": "names a record that is not there"}));
    for (name, id, set) in [
        ("suppliers", "s", json!({})),
        ("notes", "n", json!({"supplier": "s"})),
        ("notes", "free", json!({"supplier": null})),
        ("lines", "l", json!({"note": "n"})),
        ("payments", "p", json!({"supplier": "s"})),
    ] {
        assert_eq!(word(&ada.push(name, id, "create", set, 0).await), "applied", "{name}/{id}");
    }
    assert_eq!(word(&ada.push("suppliers", "s", "delete", json!({}), 1).await), "rejected(has_children)");
    assert_eq!(word(&ada.push("payments", "p", "delete", json!({}), 1).await), "applied");
    let deleted = ada.push("suppliers", "s", "delete", json!({}), 1).await;
    assert_eq!(word(&deleted), "applied");
    let page = ada.device.pull(None, &["suppliers", "notes", "lines", "payments"], 100).await.json();
    let live: Vec<&str> =
        page["changes"]["notes"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!((live, page["changes"].get("lines"), page["changes"].get("suppliers")), (vec!["free"], None, None));
    // The checksums speak of what is left, so nothing was deleted behind their back.
    assert_eq!(page["checksums"]["s:1"]["lines"], json!("0000000000000000"));
}

#[tokio::test]
async fn a_reference_declared_later_holds_for_what_was_there_before() {
    let server = serve(json!({"suppliers": {}, "payments": {}})).await;
    let mut ada = Hand::new(&server, "ada", &[]);
    ada.push("suppliers", "s", "create", json!({}), 0).await;
    ada.push("payments", "p", "create", json!({"supplier": "s"}), 0).await;
    let data = server.stop().await;
    let later = file(&json!({"suppliers": {}, "payments": {"references": {"supplier": "suppliers"}}}));
    let server = TestServer::start_with(data, &later).await;
    ada.device.address = server.address;
    assert_eq!(word(&ada.push("suppliers", "s", "delete", json!({}), 1).await), "rejected(has_children)");
}

#[tokio::test]
async fn c2_what_waits_for_a_role_is_decided_once_and_by_that_role() {
    let server = serve(json!({"shifts": {"policy": {"manual": {"by": "manager"}}}})).await;
    let (mut ada, mut grace) = (Hand::new(&server, "ada", &["staff"]), Hand::new(&server, "grace", &["staff"]));
    let mut boss = Hand::new(&server, "boss", &["manager"]);
    let mut other = Hand::new(&server, "other", &["manager"]);
    grace.push("shifts", "r", "create", json!({"a": 1, "b": 1}), 0).await;
    grace.push("shifts", "r", "update", json!({"a": 2}), 1).await;
    let lost = ada.push("shifts", "r", "update", json!({"a": 3}), 1).await;
    assert_eq!((word(&lost).as_str(), &lost["record"]["a"]), ("conflict(review)", &json!(2)));
    // Only the role sees it.
    assert!(ada.records(&["_conflicts"]).await.get("_conflicts").is_none());
    let rows = boss.records(&["_conflicts", "shifts"]).await;
    let row = &rows["_conflicts"][0];
    assert_eq!(row["fields"]["set"], json!({"a": 3}));
    assert_eq!((&row["fields"]["status"], &row["fields"]["author"]), (&json!("pending"), &json!("ada")));
    assert_eq!(rows["shifts"][0]["fields"]["a"], json!(2), "nothing is written before the decision");
    let id = row["id"].as_str().unwrap();
    let version = row["version"].as_u64().unwrap();
    let local = json!({"decision": "local"});
    assert_eq!(word(&ada.push("_conflicts", id, "update", local.clone(), version).await), "rejected(forbidden)");
    assert_eq!(word(&boss.push("_conflicts", id, "delete", json!({}), version).await), "rejected(forbidden)");
    let vague = boss.push("_conflicts", id, "update", json!({"decision": "maybe"}), version).await;
    assert_eq!(word(&vague), "rejected(validation)");
    assert_eq!(word(&boss.push("_conflicts", id, "update", local, version).await), "applied");
    let second = other.push("_conflicts", id, "update", json!({"decision": "server"}), version).await;
    assert_eq!(word(&second), "rejected(already_decided)");
    let rows = boss.records(&["_conflicts", "shifts"]).await;
    assert_eq!(rows["shifts"][0]["fields"], site(json!({"a": 3, "b": 1})));
    let row = &rows["_conflicts"][0]["fields"];
    assert_eq!(
        (&row["status"], &row["decided_by"], &row["replaced"]["a"]),
        (&json!("decided"), &json!("boss"), &json!(2))
    );
}

#[tokio::test]
async fn c2_a_decided_conflict_ends_for_everybody_after_the_retention_and_one_that_waits_stays() {
    let server = serve(json!({"shifts": {"policy": {"manual": {"by": "manager"}}}})).await;
    let (mut ada, mut boss) = (Hand::new(&server, "ada", &["staff"]), Hand::new(&server, "boss", &["manager"]));
    for id in ["decided", "waits"] {
        boss.push("shifts", id, "create", json!({"a": 1}), 0).await;
        boss.push("shifts", id, "update", json!({"a": 2}), 1).await;
        assert_eq!(word(&ada.push("shifts", id, "update", json!({"a": 3}), 1).await), "conflict(review)");
    }
    let rows = boss.records(&["_conflicts"]).await["_conflicts"].clone();
    let of = |record: &str| {
        rows.as_array().unwrap().iter().find(|row| row["fields"]["record_id"] == record).unwrap().clone()
    };
    let (row, waits) = (of("decided"), of("waits"));
    let (id, version) = (row["id"].as_str().unwrap(), row["version"].as_u64().unwrap());
    let decided = boss.push("_conflicts", id, "update", json!({"decision": "server"}), version).await;
    assert_eq!(word(&decided), "applied");
    let mut replica = Replica::default();
    let pull = async |replica: &mut Replica| {
        let page = boss.device.pull(replica.cursor.as_deref(), &["_conflicts", "shifts"], 100).await;
        assert_eq!(page.status, 200, "{}", page.json());
        assert!(!replica.apply(&page.json()));
        replica.records("s:1", "_conflicts").into_keys().collect::<Vec<_>>()
    };
    let clean = |change_log_ms: u64, audit_ms: u64| {
        let body = json!({"change_log_ms": change_log_ms, "audit_ms": audit_ms}).to_string();
        async move { ask(server.address, "POST", "/dev/prune", &[], body.as_bytes()).await.status }
    };
    assert_eq!(pull(&mut replica).await.len(), 2);
    assert_eq!(clean(3_600_000, 3_600_000).await, 200);
    assert_eq!(pull(&mut replica).await.len(), 2, "it was decided less than an hour ago");
    // The next millisecond: what is decided now is older than a retention of none.
    let decided_at = decided["record"]["decided_at"].as_u64().unwrap();
    while SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() <= u128::from(decided_at) {
        tokio::task::yield_now().await;
    }
    assert_eq!(clean(0, 3_600_000).await, 200);
    assert_eq!(pull(&mut replica).await.len(), 2, "values that lost are kept as long as the audit");
    assert_eq!(clean(0, 0).await, 200);
    assert_eq!(pull(&mut replica).await, [waits["id"].as_str().unwrap()]);
    assert_eq!(replica.records("s:1", "shifts").len(), 2, "the records stay");
    let again = boss.push("_conflicts", id, "update", json!({"decision": "local"}), version + 1).await;
    assert_eq!(word(&again), "rejected(gone)");
    let late = boss.push("_conflicts", waits["id"].as_str().unwrap(), "update", json!({"decision": "local"}), 1).await;
    assert_eq!(word(&late), "applied", "what waited can still be decided");
}

#[tokio::test]
async fn c2_whoever_is_overruled_is_told_by_the_page_that_brings_it_and_by_no_other() {
    let server = serve(json!({"shifts": {"policy": "client-wins"}, "hidden": {"policy": "client-wins"}})).await;
    let (mut ada, mut grace) = (Hand::new(&server, "ada", &[]), Hand::new(&server, "grace", &[]));
    let second = Device { client_id: "phone".to_owned(), ..server.writer("grace", &[]) };
    for collection in ["shifts", "hidden"] {
        ada.push(collection, "r", "create", json!({"a": 1, "b": 1}), 0).await;
    }
    let names = ["shifts"];
    let before = grace.device.pull(None, &names, 100).await.json();
    assert_eq!(before["overruled"], Value::Null, "{before}");
    for collection in ["shifts", "hidden"] {
        grace.push(collection, "r", "update", json!({"a": 2}), 1).await;
        assert_eq!(word(&ada.push(collection, "r", "update", json!({"a": 3, "b": 3}), 1).await), "applied");
    }
    let page = grace.device.pull(before["cursor"].as_str(), &names, 100).await.json();
    let told = &page["overruled"];
    assert_eq!(told.as_array().unwrap().len(), 1, "only of what is asked for: {told}");
    let told = &told[0];
    assert_eq!((&told["id"], &told["op"], &told["code"]), (&json!("r"), &json!("update"), &json!("overruled")));
    assert_eq!((&told["fields"], &told["record"]), (&json!({"a": 2}), &site(json!({"a": 3, "b": 3}))));
    assert_eq!(told["position"], page["changes"]["shifts"][0]["position"]);
    let after = grace.device.pull(page["cursor"].as_str(), &names, 100).await.json();
    assert_eq!(after["overruled"], Value::Null, "once");
    // The other device of the same person, and one that starts anew, hear of it too; the one who did it does not.
    assert_eq!(second.pull(None, &names, 100).await.json()["overruled"][0]["fields"], json!({"a": 2}));
    assert_eq!(ada.device.pull(None, &names, 100).await.json()["overruled"], Value::Null);
    assert_eq!(grace.device.count("overruled").await, 2);
    // Who runs the server sees what was written and what was there.
    let root = server.writer("root", &["admin"]);
    let headers = [("authorization", format!("Bearer {}", root.token))];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let shown = ask(server.address, "GET", "/v1/admin/conflicts", &headers, b"").await.json();
    let shown = &shown["lost"]["rows"][0];
    assert_eq!((&shown["mutation"]["set"]["a"], &shown["overwritten"]["a"]), (&json!(3), &json!(2)));
    // It goes with the audit.
    let told_at = told["at"].as_u64().unwrap();
    while SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() <= u128::from(told_at) {
        tokio::task::yield_now().await;
    }
    let body = json!({"change_log_ms": 3_600_000, "audit_ms": 0}).to_string();
    assert_eq!(ask(server.address, "POST", "/dev/prune", &[], body.as_bytes()).await.status, 200);
    assert_eq!(grace.device.count("overruled").await, 0);
}

#[tokio::test]
async fn c2_of_many_losses_in_one_page_each_is_told() {
    let server = serve(json!({"shifts": {"policy": "client-wins"}})).await;
    let (mut ada, mut grace) = (server.writer("ada", &[]), server.writer("grace", &[]));
    let push = async |device: &mut Device, first_seq: u64, op: &str, base: u64| {
        for part in 0..3 {
            let mutations: Vec<String> = (0..100)
                .map(|at| {
                    let (seq, id) = (first_seq + part * 100 + at, format!("r{}", part * 100 + at));
                    let set = site(json!({"a": seq + 1_000 * base}));
                    mutation(seq, "s:1", "shifts", &id, op, &set, &json!({"base": base}))
                })
                .collect();
            assert!(device.results(&mutations).await.iter().all(|result| result["status"] == "applied"));
            device.first_push = false;
        }
    };
    push(&mut ada, 1, "create", 0).await;
    let before = grace.pull(None, &["shifts"], 1_000).await.json();
    push(&mut grace, 1, "update", 1).await;
    push(&mut ada, 301, "update", 1).await;
    let page = grace.pull(before["cursor"].as_str(), &["shifts"], 1_000).await.json();
    assert_eq!((page["has_more"].as_bool(), page["overruled"].as_array().unwrap().len()), (Some(false), 300));
}

#[tokio::test]
async fn c2_a_decision_is_told_to_those_who_lose_by_it() {
    let server = serve(json!({"shifts": {"policy": {"manual": {"by": "manager"}}}})).await;
    let (mut ada, mut grace) = (Hand::new(&server, "ada", &["staff"]), Hand::new(&server, "grace", &["staff"]));
    let mut boss = Hand::new(&server, "boss", &["manager"]);
    for (id, decision) in [
        ("local", json!({"decision": "local"})),
        ("server", json!({"decision": "server"})),
        ("merged", json!({"decision": "merged", "merged": {"a": 3, "b": 7}})),
    ] {
        grace.push("shifts", id, "create", json!({"a": 1, "b": 1}), 0).await;
        grace.push("shifts", id, "update", json!({"a": 2}), 1).await;
        assert_eq!(word(&ada.push("shifts", id, "update", json!({"a": 3, "b": 3}), 1).await), "conflict(review)");
        let rows = boss.records(&["_conflicts"]).await["_conflicts"].clone();
        let row = rows.as_array().unwrap().iter().find(|row| row["fields"]["record_id"] == id).unwrap().clone();
        let version = row["version"].as_u64().unwrap();
        let decided = boss.push("_conflicts", row["id"].as_str().unwrap(), "update", decision, version).await;
        assert_eq!(word(&decided), "applied");
    }
    let told = async |hand: &Hand| {
        let page = hand.device.pull(None, &["shifts"], 100).await.json();
        let told = page["overruled"].as_array().cloned().unwrap_or_default();
        told.iter().map(|it| (it["id"].clone(), it["code"].clone(), it["fields"].clone())).collect::<Vec<_>>()
    };
    let reviewed = |id: &str, fields: Value| (json!(id), json!("reviewed"), fields);
    // Of the merge Ada got what she wanted in one field.
    assert_eq!(told(&ada).await, [reviewed("server", json!({"a": 3, "b": 3})), reviewed("merged", json!({"b": 3}))]);
    let both = json!({"a": 2, "b": 1});
    assert_eq!(told(&grace).await, [reviewed("local", both.clone()), reviewed("merged", both)]);
    assert!(told(&boss).await.is_empty());
}

#[tokio::test]
async fn c1_a_decision_that_makes_an_invalid_record_leaves_row_and_record_as_they_are() {
    let schema = json!({"properties": {"a": {"type": "integer"}}});
    let server = serve(json!({"shifts": {"schema": schema, "policy": {"manual": {"by": "manager"}}}})).await;
    let (mut ada, mut boss) = (Hand::new(&server, "ada", &[]), Hand::new(&server, "boss", &["manager"]));
    boss.push("shifts", "r", "create", json!({"a": 1}), 0).await;
    boss.push("shifts", "r", "delete", json!({}), 1).await;
    assert_eq!(word(&ada.push("shifts", "r", "update", json!({"a": 3}), 1).await), "conflict(review)");
    let row = boss.records(&["_conflicts"]).await["_conflicts"][0].clone();
    let (id, version) = (row["id"].as_str().unwrap(), row["version"].as_u64().unwrap());
    let merged = |a: Value| json!({"decision": "merged", "merged": {"a": a}});
    let wrong = boss.push("_conflicts", id, "update", merged(json!("x")), version).await;
    assert_eq!(word(&wrong), "rejected(validation)");
    assert_eq!(boss.records(&["_conflicts"]).await["_conflicts"][0], row);
    assert_eq!(word(&boss.push("_conflicts", id, "update", merged(json!(7)), version).await), "applied");
    // The decision brings the record back: its last values and the decision's over them.
    assert_eq!(boss.records(&["shifts"]).await["shifts"][0]["fields"], site(json!({"a": 7})));
}

#[tokio::test]
async fn s5_a_group_that_is_undone_speaks_of_the_record_and_the_position_without_itself() {
    // Found by the simulator (seed 1257 of its first run with policies).
    let server = serve(json!({"notes": {"policy": "reapply"}})).await;
    let mut ada = Hand::new(&server, "ada", &[]);
    ada.push("notes", "r", "create", json!({"a": 1}), 0).await;
    ada.push("notes", "r", "update", json!({"a": 2}), 1).await;
    let own = |seq: u64, op: &str, base: u64, id: &str| {
        let set = if op == "create" { site(json!({})) } else { json!({"a": seq}) };
        mutation(seq, "s:1", "notes", id, op, &set, &json!({"base": base, "group": "g"}))
    };
    ada.device.first_push = false;
    let group = [own(3, "create", 0, "s"), own(4, "update", 2, "r"), own(5, "update", 2, "r")];
    let results = ada.device.results(&group).await;
    let words: Vec<String> = results.iter().map(word).collect();
    assert_eq!(words, ["rejected(group_refused)", "rejected(group_refused)", "rejected(stale)"]);
    assert_eq!((&results[2]["position"], &results[2]["version"]), (&json!(2), &json!(2)));
    assert_eq!(results[2]["record"]["a"], json!(2));
}

#[tokio::test]
async fn l5_c1_what_follows_a_group_that_was_undone_stands_where_that_group_stood_wherever_the_batch_is_cut() {
    // Found by the simulator (seed 201211, and 11319 for the cut).
    for cut in [4, 3, 1] {
        let server = serve(json!({"notes": {"policy": "merge"}})).await;
        let (mut ada, mut grace) = (Hand::new(&server, "ada", &[]), Hand::new(&server, "grace", &[]));
        grace.push("notes", "r", "create", json!({"b": 1}), 0).await;
        grace.push("notes", "t", "create", json!({"b": 1}), 0).await;
        grace.push("notes", "t", "update", json!({"b": 2}), 1).await;
        let own =
            |seq: u64, id: &str, op: &str, set: &Value, more: &Value| mutation(seq, "s:1", "notes", id, op, set, more);
        // A merge that answers with `b`; a group on it that loses as a whole; an edit of `b` after both.
        let batch = [
            own(1, "r", "create", &site(json!({"b": 9, "c": 9})), &json!({"base": 0})),
            own(2, "r", "update", &json!({"c": 3}), &json!({"after": 1, "group": "g"})),
            own(3, "t", "update", &json!({"b": 9}), &json!({"base": 1, "group": "g"})),
            own(4, "r", "update", &json!({"b": 5}), &json!({"after": 2})),
        ];
        let mut words: Vec<String> = Vec::new();
        for part in batch.split_at(cut).0.chunks(cut).chain(batch[cut..].chunks(4)) {
            ada.device.first_push = words.is_empty();
            words.extend(ada.device.results(part).await.iter().map(word));
        }
        assert_eq!(words, ["merged", "superseded", "superseded", "merged"], "cut after {cut}");
    }
}
