//! What every store must do, as one suite: a store is right when it passes [`check_all`].

use super::{
    ClientRow, RecordWrite, Retention, ScopeRow, SqliteStore, Store, StoreError, StoreResult, StoredOutcome,
    Transaction, Walk, prune,
};
use landfall_core::authority::Stored;
use landfall_core::policy::{Mark, Marks};
use landfall_protocol::{
    ClientId, Epoch, Fields, Pair, Position, RecordKey, RecordSum, Scope, Seq, Stamp, UnixMillis, Version,
};
use std::sync::{Arc, Mutex};

const SUB: &str = "ada";

fn client() -> ClientId {
    ClientId::from("c1")
}
fn scope() -> Scope {
    Scope::from("user:ada")
}
fn key(id: &str) -> RecordKey {
    RecordKey::new("user:ada", "notes", id)
}
fn pair() -> Pair {
    key("").pair()
}

fn marks() -> Option<Marks> {
    let mark = Mark { version: Version(1), writer: "ada c1".to_owned(), ..Mark::default() };
    Some(Marks { floor: Version(3), by_name: [("title".to_owned(), mark)].into_iter().collect() })
}

/// Writes a record the way a push does, at a position of its own.
fn put(db: &dyn Transaction, id: &str, deleted: bool, at: UnixMillis) -> StoreResult<Position> {
    let row = db.lock_scope(&scope())?;
    let before = db.record(&key(id))?.map(|row| row.stored);
    let version = before.as_ref().map_or(row.version_floor, |stored| stored.version.max(row.version_floor)).next();
    let fields: Fields = serde_json::from_str(r#"{"title":"t"}"#).map_err(|_| StoreError::Corrupt("fields"))?;
    let stamp = Stamp::new(at.get(), 0, "c1");
    let stored = Stored {
        version,
        fields,
        deleted,
        stamp,
        client: client(),
        seq: Seq(1),
        role: "staff".to_owned(),
        marks: marks(),
    };
    let position = row.position.next();
    db.write_record(&RecordWrite { key: &key(id), position, part: 1, sub: SUB, stored: &stored, at })?;
    let (mut sum, mut live_count) = (RecordSum::default(), 0);
    if let Some(before) = before.filter(|before| !before.deleted) {
        sum.remove(&key(id).id, before.version);
        live_count -= 1;
    }
    if !deleted {
        sum.add(&key(id).id, version);
        live_count += 1;
    }
    db.add_sum(&pair(), sum, live_count)?;
    db.set_position(&scope(), position)?;
    Ok(position)
}

async fn put_one<S: Store>(store: &S, id: &'static str, deleted: bool, at: u64) -> Position {
    store.write::<_, StoreError, _>(move |db| put(db, id, deleted, UnixMillis(at))).await.unwrap()
}

async fn scope_row<S: Store>(store: &S) -> ScopeRow {
    store.read::<_, StoreError, _>(|db| db.scope(&scope())).await.unwrap()
}

async fn live_ids<S: Store>(store: &S, after: &'static str) -> Vec<String> {
    let read = store.read::<_, StoreError, _>(move |db| {
        let mut ids = Vec::new();
        db.records(&pair(), after, &mut |row| {
            ids.push(row.id.0);
            Walk::On
        })?;
        Ok(ids)
    });
    read.await.unwrap()
}

/// Runs the suite; each check gets a store of its own.
pub(super) async fn check_all<S: Store>(mut open: impl FnMut() -> S) {
    a_failed_job_leaves_nothing_and_its_neighbours_alone(&open()).await;
    a_panicking_job_leaves_the_store_usable(&open()).await;
    savepoints_nest(&open()).await;
    s1_a_seq_has_one_outcome_and_s2_it_keeps_its_bytes(&open()).await;
    an_acknowledgement_never_goes_back(&open()).await;
    positions_only_rise_and_the_log_is_walked_in_their_order(&open()).await;
    r1_the_running_sum_is_the_sum_over_live_records(&open()).await;
    r6_pruning_raises_the_floors_it_needs(&open()).await;
    r6_a_new_epoch_starts_above_everything(&open()).await;
    a_refresh_token_ends_by_time_or_by_logout(&open()).await;
    a_closed_store_takes_no_job(&open()).await;
}

async fn a_failed_job_leaves_nothing_and_its_neighbours_alone<S: Store>(store: &S) {
    let jobs = (0..50_u64).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            store
                .write(move |db| {
                    let seq = Seq(n + 1);
                    let outcome = StoredOutcome { hash: vec![1], text: "{}".to_owned(), base: Version(n) };
                    db.put_outcome(SUB, &client(), seq, &outcome, UnixMillis(1))?;
                    if n % 3 == 0 { Err(StoreError::Corrupt("asked for")) } else { Ok(()) }
                })
                .await
        })
    });
    for (n, job) in jobs.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(job.await.unwrap().is_err(), n % 3 == 0);
    }
    let ledger = store.read::<_, StoreError, _>(|db| db.ledger(SUB, &client())).await.unwrap();
    let kept: Vec<u64> = ledger.iter().map(|entry| entry.seq.get() - 1).collect();
    assert_eq!(kept, (0..50).filter(|n| n % 3 != 0).collect::<Vec<_>>());
}

async fn a_panicking_job_leaves_the_store_usable<S: Store>(store: &S) {
    let write = store.write::<(), StoreError, _>(|db| {
        put(db, "a", false, UnixMillis(1))?;
        panic!("asked for")
    });
    assert!(matches!(write.await, Err(StoreError::Panicked)));
    let read = store.read::<(), StoreError, _>(|_| panic!("asked for"));
    assert!(matches!(read.await, Err(StoreError::Panicked)));
    assert_eq!(scope_row(store).await, ScopeRow::default());
    assert_eq!(put_one(store, "a", false, 1).await, Position(1));
}

async fn savepoints_nest<S: Store>(store: &S) {
    let write = store.write::<_, StoreError, _>(|db| {
        put(db, "kept", false, UnixMillis(1))?;
        db.savepoint()?;
        put(db, "undone", false, UnixMillis(1))?;
        db.savepoint()?;
        put(db, "undone-too", false, UnixMillis(1))?;
        db.release()?;
        db.rollback()?;
        put(db, "last", false, UnixMillis(1))
    });
    assert_eq!(write.await.unwrap(), Position(2));
    assert_eq!(live_ids(store, "").await, ["kept", "last"]);
}

async fn s1_a_seq_has_one_outcome_and_s2_it_keeps_its_bytes<S: Store>(store: &S) {
    let put_outcome = |text: &'static str| {
        store.write::<_, StoreError, _>(move |db| {
            let outcome = StoredOutcome { hash: vec![7; 32], text: text.to_owned(), base: Version(5) };
            db.put_outcome(SUB, &client(), Seq(3), &outcome, UnixMillis(1))
        })
    };
    put_outcome(r#"{ "odd" : 1.0 }"#).await.unwrap();
    assert!(put_outcome("{}").await.is_err());
    let read = || store.read::<_, StoreError, _>(|db| db.outcome(SUB, &client(), Seq(3)));
    let found = read().await.unwrap().unwrap();
    assert_eq!((found.text.as_str(), found.hash), (r#"{ "odd" : 1.0 }"#, vec![7; 32]));
    store.write::<_, StoreError, _>(|db| db.prune_outcomes(SUB, &client(), Seq(3))).await.unwrap();
    assert_eq!(read().await.unwrap(), None);
}

async fn an_acknowledgement_never_goes_back<S: Store>(store: &S) {
    for (acked, seen) in [(5, 20), (3, 10)] {
        let row = ClientRow { acked_through: Seq(acked), last_seen: UnixMillis(seen), ..ClientRow::default() };
        store.write::<_, StoreError, _>(move |db| db.put_client(SUB, &client(), &row)).await.unwrap();
    }
    let row = store.read::<_, StoreError, _>(|db| db.client(SUB, &client())).await.unwrap().unwrap();
    assert_eq!((row.acked_through, row.last_seen), (Seq(5), UnixMillis(20)));
    let strangers = store.read::<_, StoreError, _>(|db| db.client("grace", &client())).await.unwrap();
    assert_eq!(strangers, None);
}

async fn positions_only_rise_and_the_log_is_walked_in_their_order<S: Store>(store: &S) {
    for id in ["b", "a", "ü", "B"] {
        put_one(store, id, false, 1).await;
    }
    put_one(store, "a", true, 1).await;
    let back = store.write::<_, StoreError, _>(|db| db.set_position(&scope(), Position(5)));
    assert!(back.await.is_err());
    let walk = store.read::<_, StoreError, _>(|db| {
        let mut seen = Vec::new();
        db.changes(&scope(), Position(1), &mut |row| {
            seen.push((row.position.get(), row.id.0, row.deleted));
            if row.position == Position(5) { Walk::End } else { Walk::On }
        })?;
        Ok(seen)
    });
    let seen = walk.await.unwrap();
    let expected = [(2, "a", false), (3, "ü", false), (4, "B", false), (5, "a", true)];
    assert_eq!(seen, expected.map(|(position, id, deleted)| (position, id.to_owned(), deleted)));
    // Live ones only, in the order of their bytes.
    assert_eq!(live_ids(store, "").await, ["B", "b", "ü"]);
    assert_eq!(live_ids(store, "b").await, ["ü"]);
}

async fn r1_the_running_sum_is_the_sum_over_live_records<S: Store>(store: &S) {
    for (id, deleted) in
        [("a", false), ("b", false), ("a", false), ("b", true), ("c", false), ("b", false), ("c", true)]
    {
        put_one(store, id, deleted, 1).await;
    }
    let read = store.read::<_, StoreError, _>(|db| {
        let mut sum = RecordSum::default();
        db.records(&pair(), "", &mut |row| {
            sum.add(&row.id, row.version);
            Walk::On
        })?;
        Ok((sum, db.sum(&pair())?))
    });
    let (counted, kept) = read.await.unwrap();
    assert_eq!(counted, kept);
    assert_ne!(kept, RecordSum::default());
}

async fn r6_pruning_raises_the_floors_it_needs<S: Store>(store: &S) {
    put_one(store, "a", false, 100).await;
    put_one(store, "a", true, 200).await;
    put_one(store, "b", false, 300).await;
    let idle = ClientRow { last_seen: UnixMillis(100), ..ClientRow::default() };
    store.write::<_, StoreError, _>(move |db| db.put_client(SUB, &client(), &idle)).await.unwrap();
    let retention = Retention { change_log_ms: 50, client_idle_ms: 50, ..Retention::default() };
    // What was declared for this scope counts more than what holds for all, and no other scope's does.
    for (kept_scope, kept_ms) in [("user:ada", 300), ("user:grace", 50)] {
        let by_scope: super::retention::KeptByScope =
            Arc::new(move |scope| (scope.as_str() == kept_scope).then_some(kept_ms));
        let kept = Retention { by_scope: Some(by_scope), ..Retention::default() };
        prune(store, kept, UnixMillis(300)).await.unwrap();
        assert_eq!(scope_row(store).await.pruned_through, Position::ZERO);
    }
    let only_this: super::retention::KeptByScope = Arc::new(|scope| (scope.as_str() == "user:ada").then_some(150));
    prune(store, Retention { by_scope: Some(only_this), ..Retention::default() }, UnixMillis(300)).await.unwrap();
    assert_eq!(scope_row(store).await.pruned_through, Position(1));
    prune(store, retention, UnixMillis(300)).await.unwrap();
    let row = scope_row(store).await;
    let floors = ScopeRow { position: Position(3), version_floor: Version(2), pruned_through: Position(2) };
    assert_eq!(row, floors);
    assert_eq!(store.read::<_, StoreError, _>(|db| db.record(&key("a"))).await.unwrap(), None);
    assert_eq!(live_ids(store, "").await, ["b"]);
    assert_eq!(store.read::<_, StoreError, _>(|db| db.client(SUB, &client())).await.unwrap(), None);
    // By count: only the newest change stays, however young the others are.
    put_one(store, "c", false, 300).await;
    prune(store, Retention { change_log_count_max: 1, ..Retention::default() }, UnixMillis(300)).await.unwrap();
    assert_eq!(scope_row(store).await.pruned_through, Position(3));
    // A version is never used twice.
    put_one(store, "a", false, 300).await;
    let record = store.read::<_, StoreError, _>(|db| db.record(&key("a"))).await.unwrap().unwrap();
    assert_eq!(record.stored.version, Version(3));
    assert_eq!((record.stored.role.as_str(), record.stored.marks), ("staff", marks()));
}

async fn r6_a_new_epoch_starts_above_everything<S: Store>(store: &S) {
    put_one(store, "a", false, 1).await;
    assert!(!store.read::<_, StoreError, _>(|db| db.was_restored()).await.unwrap());
    let epoch = Epoch::from("restored");
    let renewed = epoch.clone();
    store.write::<_, StoreError, _>(move |db| db.renew_epoch(&renewed)).await.unwrap();
    assert_eq!(store.read::<_, StoreError, _>(|db| db.epoch()).await.unwrap(), epoch);
    assert!(store.read::<_, StoreError, _>(|db| db.was_restored()).await.unwrap());
    assert_eq!(put_one(store, "a", false, 1).await, Position((1 << 32) + 2));
    let record = store.read::<_, StoreError, _>(|db| db.record(&key("a"))).await.unwrap().unwrap();
    assert_eq!(record.stored.version, Version((1 << 32) + 1));
    // A scope that the backup did not know may have been used, too.
    let other = Scope::from("user:new");
    let row = store.write::<_, StoreError, _>(move |db| db.lock_scope(&other)).await.unwrap();
    assert_eq!((row.position, row.version_floor), (Position(1 << 32), Version(1 << 32)));
}

async fn a_refresh_token_ends_by_time_or_by_logout<S: Store>(store: &S) {
    let hash = [9; 32];
    store.write::<_, StoreError, _>(move |db| db.put_refresh_token(&hash, SUB, UnixMillis(100))).await.unwrap();
    let user = |at: u64| store.read::<_, StoreError, _>(move |db| db.refresh_token(&hash, UnixMillis(at)));
    assert_eq!(user(99).await.unwrap().as_deref(), Some(SUB));
    assert_eq!(user(100).await.unwrap(), None);
    store.write::<_, StoreError, _>(move |db| db.revoke_refresh_token(&hash)).await.unwrap();
    assert_eq!(user(99).await.unwrap(), None);
}

async fn a_closed_store_takes_no_job<S: Store>(store: &S) {
    store.close().await;
    let write = store.write::<(), StoreError, _>(|_| Ok(()));
    assert!(matches!(write.await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn the_embedded_store_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let mut number = 0;
    let open = || {
        number += 1;
        SqliteStore::open(&directory.path().join(format!("{number}.db")), "e1", Arc::new(|_| ())).unwrap()
    };
    check_all(open).await;
}

#[tokio::test]
async fn s6_a_commit_is_told_once_it_is_there_and_survives_a_new_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("landfall.db");
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&told);
    let on_commit: super::OnCommit = Arc::new(move |commit| listener.lock().unwrap().push(commit.heads.clone()));
    let store = SqliteStore::open(&file, "e1", on_commit).unwrap();
    put_one(&store, "a", false, 1).await;
    let refused = store.write(|db| {
        put(db, "b", false, UnixMillis(1))?;
        Err::<(), _>(StoreError::Corrupt("asked for"))
    });
    assert!(refused.await.is_err());
    // The refused job was in a commit of its own, which changed nothing.
    assert_eq!(*told.lock().unwrap(), [super::Heads::from([(scope(), Position(1))]), super::Heads::new()]);
    drop(store);
    let store = SqliteStore::open(&file, "another", Arc::new(|_| ())).unwrap();
    assert_eq!(live_ids(&store, "").await, ["a"]);
    assert_eq!(store.read::<_, StoreError, _>(|db| db.epoch()).await.unwrap(), Epoch::from("e1"));
}
