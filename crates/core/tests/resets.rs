//! What goes again to a server that was put back to a backup: groups whole, in their order, and nothing behind what is missing;
//! and what is seen of a record meanwhile.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;

use lab::{Lab, NOW, applied, key};
use landfall_core::plan::OutboxTxn;
use landfall_core::recover::{must_fork, plan_reset};
use landfall_protocol::{ClientId, Epoch, Ledger, Op, Position, Seq};

fn reset(lab: &Lab, acked_through: u64) -> OutboxTxn {
    let ledger = Ledger { known: true, acked_through: Seq(acked_through), entries: Vec::new() };
    plan_reset(&lab.state, &lab.base, &ledger, &Epoch::from("e2"), ClientId::from("c9"), NOW).0
}

fn rows(txn: &OutboxTxn) -> Vec<Vec<String>> {
    txn.append.iter().map(|row| row.iter().map(|entry| entry.id.as_str().to_owned()).collect()).collect()
}

#[test]
fn s5_groups_that_a_restored_server_lost_go_again_each_in_one_row() {
    let mut lab = Lab::new();
    lab.base.epoch = Some(Epoch::from("e1"));
    lab.group("g", &[(Op::Create, "a", "{}"), (Op::Create, "b", "{}")]);
    lab.group("h", &[(Op::Create, "c", "{}"), (Op::Create, "d", "{}")]);
    lab.write(Op::Create, "e", "{}");
    lab.write(Op::Create, "f", "{}");
    lab.group("i", &[(Op::Create, "k", "{}"), (Op::Create, "l", "{}")]);
    lab.build();
    lab.settle((1..=8).map(|seq| applied(seq, seq)).collect());
    assert_eq!(rows(&reset(&lab, 0)), [vec!["a", "b"], vec!["c", "d"], vec!["e", "f"], vec!["k", "l"]]);
    assert_eq!(rows(&reset(&lab, 2)), [vec!["c", "d"], vec!["e", "f"], vec!["k", "l"]], "what the backup has does not");
    assert!(rows(&reset(&lab, 8)).is_empty());
}

#[test]
fn l1_hundreds_of_lost_writes_go_again_in_rows_of_a_hundred() {
    let mut lab = Lab::new();
    lab.base.epoch = Some(Epoch::from("e1"));
    for batch in 0..3_u64 {
        for n in 0..70 {
            lab.write(Op::Create, &format!("r{batch}-{n}"), "{}");
        }
        lab.build();
        lab.settle((1..=70).map(|seq| applied(batch * 70 + seq, batch * 70 + seq)).collect());
    }
    let again = reset(&lab, 0);
    assert_eq!(again.append.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 10]);
}

#[test]
fn s4_what_is_in_flight_behind_a_lost_write_is_taken_back_with_its_group_and_the_rest_goes_on() {
    let mut lab = Lab::new();
    lab.base.epoch = Some(Epoch::from("e1"));
    lab.write(Op::Create, "a", r#"{"n":1}"#);
    lab.build();
    lab.settle(vec![applied(1, 1)]);
    lab.group("g", &[(Op::Update, "a", r#"{"n":2}"#), (Op::Create, "b", "{}")]);
    lab.group("h", &[(Op::Create, "c", "{}"), (Op::Create, "d", "{}")]);
    lab.write(Op::Create, "e", "{}");
    lab.build();
    let txn = reset(&lab, 0);
    assert_eq!(rows(&txn), [vec!["a"]]);
    lab.apply(txn);
    let descriptor = lab.state.descriptors.values().next().unwrap();
    let taken: Vec<(u64, bool, bool)> =
        descriptor.mutations.iter().map(|sent| (sent.seq.get(), sent.void, sent.again)).collect();
    let expected = [(2, true, true), (3, true, true), (4, false, false), (5, false, false), (6, false, false)];
    assert_eq!(taken, expected);
    // Said a second time it changes nothing more.
    assert!(reset(&lab, 0).descriptors.is_empty());
    // Nothing is lost: the same bytes are simply sent again.
    let mut lab = Lab::new();
    lab.base.epoch = Some(Epoch::from("e1"));
    lab.write(Op::Create, "a", "{}");
    lab.build();
    assert!(reset(&lab, 0).descriptors.is_empty());
}

#[test]
fn s1_a_client_that_misses_rows_goes_on_as_another_one_where_something_could_be_sent_twice() {
    let mut lab = Lab::new();
    let decisions = ["acked/0000000000000001".to_owned()];
    assert!(!must_fork(&lab.state, &[]) && !must_fork(&lab.state, &decisions), "nothing waits");
    assert!(must_fork(&lab.state, &["desc/0000000000000001".to_owned()]), "its seqs would never get an outcome");
    lab.write(Op::Create, "a", "{}");
    assert!(must_fork(&lab.state, &decisions), "what waits may have ended");
    lab.build();
    assert!(!must_fork(&lab.state, &decisions), "what is under way has its seq");
}

#[test]
fn l5_an_overlay_lasts_until_the_pull_that_covers_it_or_brings_something_newer() {
    let seen = |version: u64, covered: u64, deleted: bool| {
        let mut lab = Lab::new();
        lab.pulled("r", 4, r#"{"a":1}"#);
        lab.write(Op::Update, "r", r#"{"b":2}"#);
        lab.build();
        lab.settle(vec![applied(1, 5)]);
        lab.pulled("r", version, r#"{"c":3}"#);
        lab.base.covered.insert(key("r").pair(), Position(covered));
        lab.base.records.get_mut(&key("r")).unwrap().deleted = deleted;
        lab.seen("r")
    };
    assert_eq!(seen(4, 4, false).unwrap(), r#"{"b":2,"c":3}"#);
    assert_eq!(seen(5, 4, false).unwrap(), r#"{"b":2,"c":3}"#, "its own state");
    assert_eq!(seen(4, 5, false).unwrap(), r#"{"c":3}"#, "covered");
    assert_eq!(seen(6, 4, false).unwrap(), r#"{"c":3}"#, "newer");
    assert_eq!(seen(4, 4, true).unwrap(), r#"{"b":2}"#, "of what was deleted nothing is left");
    assert_eq!(seen(6, 4, true), None);
}

#[test]
fn c3_entries_over_a_record_end_its_former_life_with_a_delete_and_begin_with_a_create() {
    let seen = |deleted: bool, writes: &[(Op, &str)]| {
        let mut lab = Lab::new();
        lab.pulled("r", 4, r#"{"a":1}"#);
        lab.base.records.get_mut(&key("r")).unwrap().deleted = deleted;
        for (op, set) in writes {
            lab.write(*op, "r", set);
        }
        lab.seen("r").unwrap_or_default()
    };
    let (update, create, delete) = (Op::Update, Op::Create, Op::Delete);
    assert_eq!(seen(false, &[(update, r#"{"b":2}"#)]), r#"{"a":1,"b":2}"#);
    assert_eq!(seen(false, &[(create, r#"{"b":2}"#)]), r#"{"b":2}"#);
    assert_eq!(seen(false, &[(delete, "{}"), (create, r#"{"c":3}"#), (update, r#"{"d":4}"#)]), r#"{"c":3,"d":4}"#);
    assert_eq!(seen(false, &[(update, r#"{"b":2}"#), (delete, "{}"), (create, r#"{"c":3}"#)]), r#"{"c":3}"#);
    assert_eq!(seen(false, &[(update, r#"{"b":2}"#), (delete, "{}")]), "");
    assert_eq!(seen(false, &[(delete, "{}"), (update, r#"{"b":2}"#), (update, r#"{"c":3}"#)]), "");
    assert_eq!(seen(true, &[(update, r#"{"b":2}"#)]), "");
    assert_eq!(seen(true, &[(update, r#"{"b":2}"#), (update, r#"{"e":5}"#), (create, r#"{"c":3}"#)]), r#"{"c":3}"#);
    assert_eq!(seen(true, &[(create, r#"{"c":3}"#), (update, r#"{"d":4}"#)]), r#"{"c":3,"d":4}"#);
}
