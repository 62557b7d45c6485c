//! Damage to the outbox against the real authority.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

use landfall_protocol::{CollectionName, Json, RecordId, RecordKey};
use landfall_replica::{WriteKind, WriteOp};
use landfall_sim::server::CrashAt;
use landfall_sim::world::{Setup, World};
use landfall_storage::StoreName;
use landfall_storage::faulty::flip_byte;
use std::rc::Rc;

fn go(world: &Rc<World>, ms: u64) {
    assert!(world.exec.run_until(world.exec.now_ms() + ms), "something never rests");
}

fn put(world: &Rc<World>, id: &str) {
    let replica = world.replica(0, 0).unwrap();
    let op = WriteOp {
        op: WriteKind::Put,
        collection: CollectionName::from("notes"),
        scope: None,
        id: Some(RecordId::from(id)),
        fields: Json::parse(r#"{"a":1}"#).ok(),
    };
    let world_too = Rc::clone(world);
    world.exec.spawn(0, 0, async move {
        let written = replica.write(vec![op], false).await.unwrap();
        let mut model = world_too.model.borrow_mut();
        written.iter().filter_map(|written| written.entry).for_each(|entry| model.acknowledged(0, entry.get()));
    });
}

#[test]
fn s1_a_batch_whose_row_is_damaged_after_it_was_applied_has_one_effect() {
    let setup = Setup {
        seed: 3,
        users: 1,
        profiles: vec![0],
        slots: 1,
        page_limit: 100,
        batch_count: 100,
        attempts_max: 3,
        pokes: true,
        ..Setup::default()
    };
    let world = World::new(&setup, true);
    world.open(0, 0);
    go(&world, 2_000);
    // Applied, and the answer is lost with the server.
    world.server.borrow_mut().crash = Some((CrashAt::AfterCommit, world.exec.now_ms() + 5_000));
    put(&world, "r1");
    go(&world, 2_000);
    let key = RecordKey::new("user:u0", "notes", "r1");
    assert_eq!(world.model.borrow().truth.states_of(&key).len(), 1, "it was applied");

    world.kill_all(0);
    let disk = world.profile(0).disk.clone();
    let snapshot = disk.snapshot();
    let (at, row) = snapshot.rows(StoreName::Meta).find(|(key, _)| key.to_string().starts_with("desc/")).unwrap();
    let mut row = row.to_owned();
    flip_byte(&mut row);
    disk.tamper(StoreName::Meta, at.clone(), Some(row));
    world.model.borrow_mut().profiles[0].is_torn = true;
    world.open(0, 0);
    go(&world, 60_000);

    let replica = world.replica(0, 0).unwrap();
    let trace = world.trace.borrow().clone().unwrap().join("\n");
    assert_eq!(world.model.borrow_mut().violation.take(), None, "{trace}");
    assert!(replica.db.borrow().state.entries.is_empty(), "{trace}");
    assert_eq!(world.model.borrow().truth.states_of(&key).len(), 1, "one effect\n{trace}");
    assert!(!trace.contains("superseded") && !trace.contains("rejected"), "{trace}");
    assert_eq!(replica.status().storage.quarantined, 1);
    world.end();
}
