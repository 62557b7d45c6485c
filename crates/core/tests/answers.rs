//! Answers to a push: which of them count, what they end, and how a batch at fault is cut until the unit at fault is found.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;

use lab::{Lab, NOW, applied, fields, json, rejected, superseded};
use landfall_core::recover::{plan_fork, plan_reset};
use landfall_core::retry::plan_counted;
use landfall_core::rows::{InFlight, Window};
use landfall_core::settle::{SettlePlan, plan_settle};
use landfall_protocol::{ClientId, EntryId, Epoch, Ledger, Op, Outcome, RejectCode, ResultStatus, Seq, Version};

fn plan(lab: &Lab, sent: &[InFlight], results: &[Outcome]) -> SettlePlan {
    let row = lab.state.descriptors.keys().next().unwrap();
    plan_settle(&lab.state, &lab.base, row, sent, results, &Epoch::from("e1"), None, NOW)
}

fn seqs(sending: &[InFlight]) -> Vec<u64> {
    sending.iter().map(|sent| sent.seq.get()).collect()
}

/// The entries that a step ends.
fn ended(plan: SettlePlan) -> Vec<EntryId> {
    let SettlePlan::Commit { txn, .. } = plan else { panic!("{plan:?}") };
    txn.settled.values().flatten().flat_map(|row| &row.mutations).flat_map(|it| it.entries.clone()).collect()
}

/// Notes of these names under way, in one batch.
fn under_way(ids: &[&str]) -> Lab {
    let mut lab = Lab::new();
    for id in ids {
        lab.write(Op::Create, id, "{}");
    }
    lab.build();
    lab
}

#[test]
fn l4_an_answer_that_does_not_fit_its_request_ends_nothing() {
    let lab = under_way(&["a", "b"]);
    let sent = lab.sending();
    let malformed = [
        vec![],
        vec![applied(1, 1)],
        vec![applied(1, 1), applied(2, 2), applied(3, 3)],
        vec![applied(2, 2), applied(1, 1)],
        vec![applied(1, 1), applied(1, 1)],
    ];
    for results in malformed {
        assert_eq!(plan(&lab, &sent, &results), SettlePlan::Malformed, "{results:?}");
    }
}

/// Two copies of a profile give the same seqs to different mutations.
#[test]
fn s1_an_answer_to_other_bytes_under_a_seq_ends_nothing_of_it() {
    let lab = under_way(&["a", "b", "c"]);
    let mut sent = lab.sending();
    sent[0].text = json(r#"{"seq":1,"of":"another client"}"#);
    let results: Vec<Outcome> = (1..=3).map(|seq| applied(seq, seq)).collect();
    assert_eq!(ended(plan(&lab, &sent, &results)), [EntryId::at(2, 0), EntryId::at(3, 0)]);
    // Nor does an answer end what its request did not hold.
    assert_eq!(ended(plan(&lab, &lab.sending()[1..2], &[applied(2, 2)])), [EntryId::at(2, 0)]);
}

#[test]
fn s1_a_server_that_knows_an_open_seq_otherwise_makes_this_client_another_one() {
    for status in [ResultStatus::AlreadySettled, ResultStatus::KeyReused] {
        let mut lab = under_way(&["a", "b"]);
        let sent = lab.sending();
        let other = |seq| Outcome::new(Seq(seq), status);
        assert_eq!(plan(&lab, &sent, &[other(1), other(2)]), SettlePlan::Fork, "{status:?}");
        // What has an outcome is the same in both copies, and would be applied twice under another id.
        let mut first = under_way(&["a", "b"]);
        first.settle(vec![applied(1, 1), other(2)]);
        let left = first.sending();
        assert_eq!(left, sent[1..]);
        assert_eq!(plan(&first, &left, &[other(2)]), SettlePlan::Fork, "{status:?}");
        // Of one that another tab has settled meanwhile it is no news.
        let row = lab.state.descriptors.keys().next().unwrap().clone();
        lab.state.descriptors.get_mut(&row).unwrap().mutations.remove(1);
        assert_eq!(ended(plan(&lab, &sent, &[applied(1, 1), other(2)])), [EntryId::at(1, 0)], "{status:?}");
    }
}

fn count(lab: &mut Lab) {
    let row = lab.state.descriptors.keys().next().unwrap().clone();
    let txn = plan_counted(&lab.state, &lab.base, &lab.config, &row, NOW);
    lab.apply(txn);
}

#[test]
fn s7_a_lone_unit_is_given_up_after_so_many_answers_and_once() {
    let mut lab = under_way(&["a"]);
    lab.config.attempts_max = 3;
    let mut states = Vec::new();
    for _ in 0..5 {
        count(&mut lab);
        let descriptor = lab.state.descriptors.values().next().unwrap();
        states.push((descriptor.attempts, descriptor.mutations[0].void));
    }
    assert_eq!(states, [(1, false), (2, false), (0, true), (1, true), (2, true)]);
    count(&mut lab);
    assert_eq!(lab.state.descriptors.values().next().unwrap().attempts, 3, "its void is not given up in turn");
}

/// When the good half has gone, one more answer is enough to cut the other; a unit alone has all its attempts.
#[test]
fn s7_what_is_left_of_a_batch_that_was_cut_stays_under_suspicion_and_a_unit_alone_starts_anew() {
    for (ids, sent, attempts) in [(&["a", "b", "c", "d", "e"][..], 3, 2), (&["a", "b", "c"], 2, 0)] {
        let mut lab = under_way(ids);
        for _ in 0..3 {
            count(&mut lab);
        }
        assert_eq!(lab.sending().len(), sent);
        lab.settle((1..=sent as u64).map(|seq| applied(seq, seq)).collect());
        let left = lab.state.descriptors.values().next().unwrap();
        assert_eq!((left.attempts, left.window), (attempts, None), "{ids:?}");
    }
    // Without a cut nothing is suspected: another tab was told of a part.
    let mut lab = under_way(&["a", "b", "c"]);
    let SettlePlan::Commit { txn, .. } = plan(&lab, &lab.sending()[..1], &[applied(1, 1)]) else { panic!() };
    lab.apply(*txn);
    assert_eq!(lab.state.descriptors.values().next().unwrap().attempts, 0);
}

#[test]
fn s7_a_first_half_that_all_others_stand_on_is_halved_again() {
    let mut lab = Lab::new();
    for n in 0..6 {
        lab.group(&format!("g{n}"), &[(Op::Create, &format!("a{n}"), "{}")]);
    }
    lab.group("h", &[(Op::Update, "a0", r#"{"n":1}"#)]);
    for n in 0..4 {
        lab.write(Op::Create, &format!("b{n}"), "{}");
    }
    lab.build();
    for _ in 0..3 {
        count(&mut lab);
    }
    assert_eq!(seqs(&lab.sending()), [1, 2, 3, 4, 5, 6]);
    count(&mut lab);
    let window = lab.state.descriptors.values().next().unwrap().window;
    assert_eq!(window, Some(Window { from: 0, to: 3, sibling_failed: false }));
}

#[test]
fn l4_what_travels_is_not_parked_behind_a_refused_create_and_a_record_that_is_there_holds_nobody_back() {
    let mut lab = Lab::new();
    lab.write(Op::Create, "r", "{}");
    lab.group("g", &[(Op::Update, "r", r#"{"n":1}"#), (Op::Create, "s", "{}")]);
    lab.build();
    for _ in 0..3 {
        count(&mut lab);
    }
    assert_eq!(seqs(&lab.sending()), [1]);
    lab.settle(vec![rejected(1, RejectCode::VALIDATION)]);
    assert_eq!((seqs(&lab.sending()), lab.state.entries.len()), (vec![2, 3], 2), "its own answer decides it");
    assert_eq!(lab.state.parked.len(), 1);

    let mut lab = under_way(&["r"]);
    lab.write(Op::Update, "r", r#"{"n":1}"#);
    lab.pulled("r", 3, r#"{"z":1}"#);
    lab.settle(vec![rejected(1, RejectCode::VALIDATION)]);
    assert_eq!((lab.state.parked.len(), lab.build().len()), (1, 1), "somebody else made it: the edit has a record");
}

#[test]
fn c2_values_that_lost_are_kept_beside_each_other_and_what_took_effect_is_no_loss() {
    let mut lab = Lab::new();
    for id in ["a", "b"] {
        lab.pulled(id, 4, r#"{"n":1}"#);
        lab.write(Op::Update, id, r#"{"n":2}"#);
    }
    lab.build();
    lab.settle(vec![superseded(1, 6, r#"{"n":9}"#), superseded(2, 7, r#"{"n":9}"#)]);
    // Another client of the same profile counts its seqs from one again.
    let (txn, _) = plan_fork(&lab.state, &lab.base, ClientId::from("c2"), NOW);
    lab.apply(txn);
    lab.state.client.pull_first = false;
    lab.write(Op::Update, "a", r#"{"n":3}"#);
    lab.build();
    lab.settle(vec![superseded(1, 8, r#"{"n":9}"#)]);
    let kept: Vec<String> = lab.conflicts.values().map(|row| format!("{} {:?}", row.key.id, row.set)).collect();
    assert_eq!(kept.len(), 3, "{kept:?}");
    // The server takes another spelling of a value for the same.
    let mut lab = Lab::new();
    lab.write(Op::Create, "a", r#"{"n":2}"#);
    lab.build();
    let mut same = applied(1, 1);
    same.record = Some(fields(r#"{"n":2.0}"#));
    lab.settle(vec![same]);
    assert!(lab.conflicts.is_empty());
}

/// Epochs of a client that has pushed and never pulled are not compared: the places in the lane have to do.
#[test]
fn r6_a_lost_write_goes_again_on_its_old_base_and_what_was_written_after_it_stands_on_its_new_outcome() {
    let mut lab = Lab::new();
    lab.config.batch_count = 1;
    lab.write(Op::Create, "a", r#"{"n":1}"#);
    lab.build();
    lab.settle(vec![applied(1, 5)]);
    lab.write(Op::Update, "a", r#"{"n":2}"#);
    let ledger = Ledger { known: true, acked_through: Seq(0), entries: Vec::new() };
    let (txn, _) = plan_reset(&lab.state, &lab.base, &ledger, &Epoch::from("e2"), ClientId::from("c9"), NOW);
    lab.apply(txn);
    lab.state.client.pull_first = false;
    assert_eq!(lab.state.placed, 1);
    lab.build();
    let again = lab.mutations().remove(0);
    assert_eq!((again.op, again.base), (Op::Create, Some(Version(0))), "not on its own former outcome");
    lab.settle(vec![applied(2, 9)]);
    assert_eq!(lab.state.placed, 0);
    lab.build();
    let next = lab.mutations().remove(0);
    assert_eq!((next.set, next.base), (fields(r#"{"n":2}"#), Some(Version(9))));
}

#[test]
fn r6_neither_an_outcome_of_another_epoch_nor_one_of_a_later_write_is_a_base() {
    let mut lab = Lab::new();
    lab.base.epoch = Some(Epoch::from("e1"));
    lab.write(Op::Create, "a", r#"{"n":1}"#);
    lab.build();
    lab.settle(vec![applied(1, 7)]);
    lab.base.epoch = Some(Epoch::from("e2"));
    lab.pulled("a", 3, r#"{"n":0}"#);
    lab.write(Op::Update, "a", r#"{"n":2}"#);
    lab.build();
    assert_eq!(lab.mutations()[0].base, Some(Version(3)));
    // An edit that goes again where it first stood does not know what was written after it.
    lab.settle(vec![applied(2, 4)]);
    let mut late = lab.entry(Op::Update, "a", r#"{"n":1}"#);
    (late.place, late.on) = (Some(EntryId::at(1, 0)), Version(2));
    lab.base.epoch = Some(Epoch::from("e1"));
    lab.log(vec![late]);
    lab.build();
    assert_eq!(lab.mutations()[0].base, Some(Version(2)));
}

/// The server knows nothing of what a former client sent; what it acknowledged since it came back it has.
#[test]
fn s1_a_reset_queues_nothing_of_a_former_client_and_nothing_of_the_new_epoch() {
    let ledger = Ledger { known: true, acked_through: Seq(0), entries: Vec::new() };
    let lost = |lab: &Lab, epoch: &str| {
        let (txn, _) = plan_reset(&lab.state, &lab.base, &ledger, &Epoch::from(epoch), ClientId::from("c9"), NOW);
        txn.append.iter().flatten().count()
    };
    let mut lab = under_way(&["a"]);
    lab.settle(vec![applied(1, 5)]);
    assert_eq!((lost(&lab, "e2"), lost(&lab, "e1")), (1, 0));
    let (txn, _) = plan_fork(&lab.state, &lab.base, ClientId::from("c2"), NOW);
    lab.apply(txn);
    assert_eq!(lost(&lab, "e2"), 0);
}
