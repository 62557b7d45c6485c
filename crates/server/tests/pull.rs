//! Pages: no hole, no half transaction, a cold start that flips at one position, resets instead of partial answers.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

mod support;

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use support::{Device, Replica, TestServer, ask, claims, mutation, token};

/// What a replica should hold: the server's live records of one collection, as (version, fields).
async fn truth(device: &Device, collection: &str) -> BTreeMap<String, (Value, Value)> {
    let rows = device.stored().await;
    let live = rows.iter().filter(|row| row["collection"] == collection && row["deleted"] == false);
    live.map(|row| (row["id"].as_str().unwrap().to_owned(), (row["version"].clone(), row["fields"].clone()))).collect()
}

fn held(replica: &Replica, scope: &str, collection: &str) -> BTreeMap<String, (Value, Value)> {
    let rows = replica.records(scope, collection);
    rows.into_iter().map(|(id, row)| (id, (row["version"].clone(), row["fields"].clone()))).collect()
}

fn checksum(rows: &BTreeMap<String, (Value, Value)>) -> String {
    let mut sum = landfall_protocol::RecordSum::default();
    for (id, (version, _)) in rows {
        let version = landfall_protocol::Version(version.as_u64().unwrap());
        sum.add(&landfall_protocol::RecordId::new(id.clone()), version);
    }
    format!("{:016x}", sum.0)
}

/// Pulls to head; the last page.
async fn catch_up(device: &Device, replica: &mut Replica, collections: &[&str], limit: u32) -> Value {
    loop {
        let answer = device.pull(replica.cursor.as_deref(), collections, limit).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        let page = answer.json();
        if !replica.apply(&page) {
            return page;
        }
    }
}

#[tokio::test]
async fn r1_a_cold_start_and_an_incremental_one_end_at_the_servers_state_and_checksum() {
    let server = TestServer::start().await;
    let device = server.device("ada", "c1");
    let creates: Vec<String> =
        (1..=250).map(|seq| device.create(seq, &format!("m{seq:04}"), &json!({"n": seq}))).collect();
    device.results(&creates).await;
    let mut cold = Replica::default();
    let first = device.pull(None, &["movies", "nonsense"], 100).await.json();
    assert_eq!(first["access"]["added"], json!([["user:ada", "movies"]]));
    assert_eq!(first["covered"], json!({}));
    assert_eq!((&first["has_more"], first.get("checksums")), (&json!(true), None));
    let last = catch_up(&device, &mut cold, &["movies", "nonsense"], 100).await;
    let expected = truth(&device, "movies").await;
    assert_eq!(held(&cold, "user:ada", "movies"), expected);
    assert_eq!(last["checksums"]["user:ada"]["movies"], checksum(&expected));
    // Deleted, changed and new ones, one by one.
    device.results(&[device.delete(251, "m0001", 1), device.update(252, "m0002", &json!({"n": 0}), 1)]).await;
    device.results(&[device.create(253, "m0000", &json!({"n": -1}))]).await;
    let last = catch_up(&device, &mut cold, &["movies", "nonsense"], 1).await;
    let expected = truth(&device, "movies").await;
    assert_eq!((expected.len(), held(&cold, "user:ada", "movies")), (250, expected.clone()));
    assert_eq!(last["checksums"]["user:ada"]["movies"], checksum(&expected));
    assert_eq!(last["covered"]["user:ada"]["movies"], 3);
    // At head there is nothing more to say.
    let idle = device.pull(cold.cursor.as_deref(), &["movies"], 10).await.json();
    assert_eq!((&idle["changes"], &idle["has_more"]), (&json!({}), &json!(false)));
}

#[tokio::test]
async fn r2_positions_have_no_holes_under_eight_pushers_and_a_puller_misses_nothing() {
    const PUSHERS: u64 = 8;
    const PUSHES: u64 = 40;
    let server = TestServer::start().await;
    let pushers: Vec<_> = (0..PUSHERS)
        .map(|pusher| {
            let mut device = server.device("ada", &format!("p{pusher}"));
            tokio::spawn(async move {
                let mut positions = Vec::new();
                for push in 0..PUSHES {
                    let seq = push * 3 + 1;
                    let id = |n: u64| format!("p{pusher}-{push}-{n}");
                    let mutations: Vec<String> =
                        (0..3).map(|n| device.create(seq + n, &id(n), &json!({"push": push}))).collect();
                    let results = device.results(&mutations).await;
                    let at: BTreeSet<u64> = results.iter().map(|result| result["position"].as_u64().unwrap()).collect();
                    assert_eq!(at.len(), 1, "one position for one transaction");
                    positions.extend(at);
                    device.first_push = false;
                    device.acked_through = seq + 2;
                }
                positions
            })
        })
        .collect();
    let device = server.device("ada", "puller");
    let mut replica = Replica::default();
    let mut seen = 0;
    while seen < PUSHERS * PUSHES {
        let page = device.pull(replica.cursor.as_deref(), &["movies"], 7).await.json();
        replica.apply(&page);
        let at = page["covered"]["user:ada"]["movies"].as_u64();
        let Some(at) = at else { continue };
        seen = at;
        // Everything at or below the covered position is here, whole transactions of three.
        let rows = replica.records("user:ada", "movies");
        let mut by_position: BTreeMap<u64, u64> = BTreeMap::new();
        for row in rows.values() {
            *by_position.entry(row["position"].as_u64().unwrap()).or_default() += 1;
        }
        assert!(by_position.keys().copied().eq(1..=at), "a hole below {at}");
        assert!(by_position.values().all(|count| *count == 3));
    }
    let mut positions = Vec::new();
    for pusher in pushers {
        positions.extend(pusher.await.unwrap());
    }
    positions.sort_unstable();
    assert!(positions.iter().copied().eq(1..=PUSHERS * PUSHES));
    assert_eq!(held(&replica, "user:ada", "movies"), truth(&device, "movies").await);
}

#[tokio::test]
async fn r2_a_cold_start_flips_consistently_while_others_write() {
    let server = TestServer::start().await;
    let writer = server.device("ada", "writer");
    let creates: Vec<String> =
        (1..=120).map(|seq| writer.create(seq, &format!("m{seq:03}"), &json!({"n": 0}))).collect();
    writer.results(&creates).await;
    let reader = server.device("ada", "reader");
    let mut replica = Replica::default();
    let mut seq = 120;
    let mut pages = 0;
    let mut flipped_at = None;
    loop {
        let page = reader.pull(replica.cursor.as_deref(), &["movies"], 10).await.json();
        pages += 1;
        let more = replica.apply(&page);
        if flipped_at.is_none() && !page["covered"].as_object().unwrap().is_empty() {
            flipped_at = Some(pages);
        }
        if let Some(at) = page["covered"]["user:ada"]["movies"].as_u64() {
            let rows = replica.records("user:ada", "movies");
            assert!(rows.values().all(|row| row["position"].as_u64().unwrap() <= at), "a row from beyond {at}");
        }
        if pages <= 30 {
            // Behind and ahead of the scan: an update, a delete, a create, a delete followed by a create.
            let (low, high) = (format!("m{:03}", pages), format!("m{:03}", 121 - pages));
            let version = |id: &str| {
                let rows = writer.clone();
                let id = id.to_owned();
                async move {
                    let row = rows.stored().await.into_iter().find(|row| row["id"] == id.as_str());
                    row.map_or(0, |row| row["version"].as_u64().unwrap())
                }
            };
            let low_version = version(&low).await;
            let high_version = version(&high).await;
            let fresh = format!("k{pages:03}");
            writer.results(&[writer.update(seq + 1, &low, &json!({"n": pages}), low_version)]).await;
            writer
                .results(&[writer.delete(seq + 2, &high, high_version), writer.create(seq + 3, &fresh, &json!({}))])
                .await;
            if pages % 3 == 0 {
                let base = json!({"base": high_version + 1});
                let again = mutation(seq + 4, "user:ada", "movies", &high, "create", &json!({"again": pages}), &base);
                assert_eq!(writer.results(&[again]).await[0]["status"], "applied");
            }
            seq += 4;
        } else if !more {
            break;
        }
    }
    assert!(flipped_at.is_some_and(|page| page > 5), "{flipped_at:?}");
    assert_eq!(held(&replica, "user:ada", "movies"), truth(&reader, "movies").await);
}

#[tokio::test]
async fn r2_live_pairs_keep_flowing_while_a_new_pair_is_cold_and_join_at_one_position() {
    let server = TestServer::start().await;
    let device = server.device("ada", "c1");
    let movies: Vec<String> = (1..=100).map(|seq| device.create(seq, &format!("m{seq:03}"), &json!({}))).collect();
    device.results(&movies).await;
    let note = |seq: u64| {
        let set = json!({"title": format!("t{seq}")});
        mutation(seq, "user:ada", "notes", &format!("n{seq}"), "create", &set, &json!({"base": 0}))
    };
    device.results(&[note(101)]).await;
    let mut replica = Replica::default();
    catch_up(&device, &mut replica, &["notes"], 1000).await;
    device.results(&[note(102)]).await;
    let page = device.pull(replica.cursor.as_deref(), &["movies", "notes"], 10).await.json();
    assert_eq!(page["access"]["added"], json!([["user:ada", "movies"]]));
    assert_eq!(page["covered"], json!({"user:ada": {"notes": 3}}));
    assert_eq!(page["changes"]["notes"][0]["id"], "n102");
    assert!(!page["changes"]["movies"].as_array().unwrap().is_empty());
    replica.apply(&page);
    let mut seq = 103;
    loop {
        device.results(&[note(seq), device.update(seq + 1, "m001", &json!({"n": seq}), (seq - 103) / 2 + 1)]).await;
        seq += 2;
        let page = device.pull(replica.cursor.as_deref(), &["movies", "notes"], 30).await.json();
        replica.apply(&page);
        let covered = page["covered"]["user:ada"].clone();
        assert!(covered["notes"].is_u64());
        if covered["movies"].is_u64() {
            assert_eq!(covered["movies"], covered["notes"]);
            break;
        }
        assert_eq!(page["has_more"], true);
    }
    catch_up(&device, &mut replica, &["movies", "notes"], 1000).await;
    for collection in ["movies", "notes"] {
        assert_eq!(held(&replica, "user:ada", collection), truth(&device, collection).await);
    }
    // A pair that is asked for no more is removed; asked for again it starts cold.
    let page = device.pull(replica.cursor.as_deref(), &["notes"], 10).await.json();
    assert_eq!(page["access"]["removed"], json!([["user:ada", "movies"]]));
    let page = device.pull(page["cursor"].as_str(), &["movies", "notes"], 10).await.json();
    assert_eq!(page["access"]["added"], json!([["user:ada", "movies"]]));
    assert!(page["covered"]["user:ada"].get("movies").is_none());
}

#[tokio::test]
async fn s5_a_page_ends_only_where_a_transaction_ends() {
    let server = TestServer::start().await;
    let device = server.device("ada", "c1");
    let mut replica = Replica::default();
    catch_up(&device, &mut replica, &["movies"], 100).await;
    for push in 0..5 {
        let create = |n: u64| device.create(push * 20 + n + 1, &format!("p{push}-{n}"), &json!({}));
        let mutations: Vec<String> = (0..20).map(create).collect();
        device.results(&mutations).await;
    }
    for position in 1..=5_u64 {
        let page = device.pull(replica.cursor.as_deref(), &["movies"], 3).await.json();
        assert_eq!(page["changes"]["movies"].as_array().unwrap().len(), 20);
        assert_eq!(page["covered"]["user:ada"]["movies"], position);
        assert_eq!(page["has_more"], position < 5);
        replica.apply(&page);
    }
}

#[tokio::test]
async fn r5_one_page_tells_the_newest_state_of_a_record_once() {
    let server = TestServer::start().await;
    let device = server.device("ada", "c1");
    let mut replica = Replica::default();
    catch_up(&device, &mut replica, &["movies"], 100).await;
    device.results(&[device.create(1, "a", &json!({"n": 1}))]).await;
    device.results(&[device.update(2, "a", &json!({"n": 2}), 1)]).await;
    device.results(&[device.create(3, "b", &json!({}))]).await;
    device.results(&[device.delete(4, "b", 1)]).await;
    let page = device.pull(replica.cursor.as_deref(), &["movies"], 100).await.json();
    let changes = page["changes"]["movies"].as_array().unwrap();
    assert_eq!((changes.len(), &changes[0]["fields"]), (1, &json!({"n": 2})));
    let gone = &page["tombstones"]["movies"][0];
    assert_eq!((&gone["id"], &gone["version"], &gone["position"]), (&json!("b"), &json!(2), &json!(4)));
}

#[tokio::test]
async fn r6_a_cursor_below_the_floor_or_of_another_epoch_or_not_ours_gets_no_partial_answer() {
    let server = TestServer::start().await;
    let device = server.device("ada", "c1");
    device.results(&[device.create(1, "a", &json!({})), device.create(2, "b", &json!({}))]).await;
    let mut replica = Replica::default();
    catch_up(&device, &mut replica, &["movies"], 100).await;
    let old = replica.cursor.clone();
    device.results(&[device.delete(3, "a", 1)]).await;
    device.results(&[device.create(4, "c", &json!({}))]).await;
    catch_up(&device, &mut replica, &["movies"], 100).await;
    // Nothing is kept longer than now: the log and the tombstone go, the versions of the deleted stay used.
    ask(server.address, "POST", "/dev/prune", &[], br#"{"change_log_ms":0}"#).await;
    let counted = device.count("changes").await;
    if counted > 0 {
        // A change of this very millisecond is kept; the next clean-up takes it.
        let body = br#"{"change_log_ms":0}"#;
        while device.count("changes").await > 0 {
            ask(server.address, "POST", "/dev/prune", &[], body).await;
        }
    }
    let answer = device.pull(old.as_deref(), &["movies"], 100).await;
    assert_eq!((answer.status, answer.code().as_str()), (409, "reset_required"));
    assert_eq!(device.pull(replica.cursor.as_deref(), &["movies"], 100).await.status, 200);
    assert_eq!(device.stored().await.len(), 2);
    let again = device.results(&[device.create(5, "a", &json!({}))]).await;
    assert_eq!((&again[0]["status"], &again[0]["version"]), (&json!("applied"), &json!(3)));
    let mut fresh = Replica::default();
    catch_up(&device, &mut fresh, &["movies"], 100).await;
    assert_eq!(held(&fresh, "user:ada", "movies"), truth(&device, "movies").await);
    let epoch = ask(server.address, "POST", "/dev/epoch", &[], b"").await.json()["epoch"].clone();
    let answer = device.pull(fresh.cursor.as_deref(), &["movies"], 100).await;
    assert_eq!((answer.status, answer.code().as_str()), (409, "reset_required"));
    assert_eq!(answer.json()["error"]["epoch"], epoch);
    let mut broken = fresh.cursor.clone().unwrap();
    broken.replace_range(20..21, if &broken[20..21] == "A" { "B" } else { "A" });
    for cursor in [broken.as_str(), "", "junk"] {
        let answer = device.pull(Some(cursor), &["movies"], 100).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "malformed"), "{cursor}");
    }
}

#[tokio::test]
async fn a_resynced_pair_starts_cold_again_and_a_revoked_scope_is_removed() {
    let server = TestServer::start().await;
    let mut device = server.device("ada", "c1");
    let facility = |seq: u64| {
        let set = json!({"facility_id": "main", "name": format!("F{seq}")});
        mutation(seq, "facility:main", "facilities", &format!("f{seq}"), "create", &set, &json!({"base": 0}))
    };
    device.results(&[device.create(1, "a", &json!({})), facility(2)]).await;
    let mut replica = Replica::default();
    let collections = ["facilities", "movies"];
    catch_up(&device, &mut replica, &collections, 100).await;
    let pair = ("user:ada".to_owned(), "movies".to_owned());
    replica.stage_again(&pair);
    let answer = device.pull_with(replica.cursor.as_deref(), &collections, 100, json!([pair])).await.json();
    assert_eq!(answer["changes"]["movies"].as_array().unwrap().len(), 1);
    assert_eq!(answer["access"], json!({"added": [], "removed": []}));
    assert!(!replica.apply(&answer));
    assert_eq!(held(&replica, "user:ada", "movies"), truth(&device, "movies").await);
    device.token = token(&claims("ada", &[], support::FAR_FUTURE_SECONDS));
    let page = device.pull(replica.cursor.as_deref(), &collections, 100).await.json();
    assert_eq!(page["access"]["removed"], json!([["facility:main", "facilities"]]));
    assert!(page["covered"].get("facility:main").is_none());
}

#[tokio::test]
async fn i1_a_pull_shows_one_users_scopes_only_and_refuses_anothers_name() {
    let server = TestServer::start().await;
    let (ada, grace) = (server.device("ada", "c1"), server.device("grace", "c2"));
    ada.results(&[ada.create(1, "secret", &json!({"s": 1}))]).await;
    let page = grace.pull(None, &["movies"], 100).await.json();
    assert_eq!((&page["changes"], &page["covered"]), (&json!({}), &json!({"user:grace": {"movies": 0}})));
    let mut disguised = grace.clone();
    disguised.user = "ada".to_owned();
    let answer = disguised.pull(None, &["movies"], 100).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "wrong_user"));
    let bearer = format!("Bearer {}", grace.token);
    let headers = [("authorization", bearer.as_str())];
    let status = ask(server.address, "GET", "/v1/sync/status", &headers, b"").await.json();
    assert_eq!(status["scopes"], json!({"facility:main": 0, "user:grace": 0}));
    assert_eq!(status["devices"], json!([]));
}

#[tokio::test]
async fn the_status_announces_the_limits_that_the_server_keeps_to() {
    let server = TestServer::start().await;
    let ada = server.device("ada", "c1");
    let bearer = format!("Bearer {}", ada.token);
    let status = ask(server.address, "GET", "/v1/sync/status", &[("authorization", bearer.as_str())], b"").await.json();
    let count = status["limits"]["batch_count"].as_u64().unwrap();
    let creates: Vec<_> = (1..=count + 1).map(|seq| ada.create(seq, &format!("m{seq}"), &json!({"n": seq}))).collect();
    let refused = ada.push(&creates).await;
    assert_eq!((refused.status, refused.code().as_str()), (413, "too_large"), "one more than announced");
    assert_eq!(ada.results(&creates[..creates.len() - 1]).await.len() as u64, count, "as many as announced");
}
