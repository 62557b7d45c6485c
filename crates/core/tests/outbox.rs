//! The client's rules by behaviour: lanes, batches, settling, fix-up, recovery.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.
#![allow(clippy::type_complexity)] // A table reads best as one literal.

mod lab;

use lab::{Lab, NOW, applied, fields, key, rejected, superseded};
use landfall_core::fixup::{plan_discard, plan_retry};
use landfall_core::recover::{plan_fork, plan_no_access, plan_reset};
use landfall_core::retry::{plan_counted, plan_too_large};
use landfall_core::rows::{Descriptor, InFlight};
use landfall_core::settle::Event;
use landfall_core::view::{RecordState, record_state};
use landfall_protocol::{ClientId, Epoch, Ledger, Op, RejectCode, Seq, Stamp, Version};

#[test]
fn coalescing_keeps_what_the_entries_mean_together() {
    // (first, second, third) → what is sent
    let cases: &[(&[(Op, &str)], Option<(Op, &str)>)] = &[
        (&[(Op::Create, r#"{"a":1}"#), (Op::Update, r#"{"a":2,"b":3}"#)], Some((Op::Create, r#"{"a":2,"b":3}"#))),
        (&[(Op::Update, r#"{"a":2}"#), (Op::Update, r#"{"b":3}"#)], Some((Op::Update, r#"{"a":2,"b":3}"#))),
        (&[(Op::Update, r#"{"a":2}"#), (Op::Delete, "{}")], Some((Op::Delete, "{}"))),
        (&[(Op::Create, r#"{"a":1}"#), (Op::Delete, "{}")], None),
        (&[(Op::Create, r#"{"a":1}"#), (Op::Update, r#"{"a":2}"#), (Op::Delete, "{}")], None),
    ];
    for (writes, expected) in cases {
        let mut lab = Lab::new();
        if writes[0].0 != Op::Create {
            lab.pulled("r", 4, r#"{"a":1}"#);
        }
        for (op, set) in *writes {
            lab.write(*op, "r", set);
        }
        lab.build();
        let sent = lab.mutations();
        match expected {
            Some((op, set)) => {
                assert_eq!(sent.len(), 1, "{writes:?}");
                assert_eq!((sent[0].op, &sent[0].set), (*op, &fields(set)), "{writes:?}");
            }
            None => {
                assert!(sent.is_empty(), "{writes:?}");
                assert!(lab.state.entries.is_empty(), "cancelled entries have left the outbox");
                assert_eq!(lab.state.client.next_seq, Seq(1), "nothing was sent, no seq was given");
            }
        }
    }
}

#[test]
fn l5_a_later_edit_stands_on_the_outcome_of_the_earlier_one_even_if_its_writer_did_not_know_it() {
    let mut lab = Lab::new();
    lab.pulled("r", 4, r#"{"a":1}"#);
    lab.write(Op::Update, "r", r#"{"a":2}"#);
    // Another tab writes on its old view (version 4), while the first edit is in flight.
    let blind = lab.entry(Op::Update, "r", r#"{"a":3}"#);
    lab.build();
    lab.log(vec![blind]);
    lab.settle(vec![applied(1, 5)]);
    lab.build();
    assert_eq!(lab.mutations()[0].base, Some(Version(5)));
}

#[test]
fn l5_a_follower_in_the_same_batch_goes_after_its_predecessor() {
    let mut lab = Lab::new();
    lab.pulled("r", 4, r#"{"a":1}"#);
    lab.write(Op::Update, "r", r#"{"a":2}"#);
    lab.group("g", &[(Op::Update, "r", r#"{"a":3}"#), (Op::Create, "s", "{}")]);
    lab.build();
    let sent = lab.mutations();
    assert_eq!(sent.len(), 3);
    assert_eq!((sent[0].base, sent[0].after), (Some(Version(4)), None));
    assert_eq!((sent[1].base, sent[1].after), (None, Some(Seq(1))));
}

#[test]
fn l5_the_own_write_stays_visible_from_settle_until_the_pull_that_holds_it() {
    let mut lab = Lab::new();
    lab.pulled("r", 4, r#"{"a":1}"#);
    lab.write(Op::Update, "r", r#"{"a":2}"#);
    assert_eq!(record_state(&lab.state, &lab.base, &key("r")), RecordState::Pending);
    lab.build();
    assert_eq!(record_state(&lab.state, &lab.base, &key("r")), RecordState::Sending);
    lab.settle(vec![applied(1, 5)]);
    assert_eq!(lab.seen("r").unwrap(), r#"{"a":2}"#, "an overlay, until the cursor covers it");
    assert_eq!(record_state(&lab.state, &lab.base, &key("r")), RecordState::Settled);
    lab.pulled("r", 5, r#"{"a":2}"#);
    assert_eq!(record_state(&lab.state, &lab.base, &key("r")), RecordState::Synced);
}

#[test]
fn l4_a_log_row_goes_with_its_last_entry_and_not_before() {
    let mut lab = Lab::new();
    let (first, second) = (lab.entry(Op::Create, "a", "{}"), lab.entry(Op::Create, "b", "{}"));
    lab.log(vec![first, second]);
    lab.config.batch_count = 1;
    lab.build();
    lab.settle(vec![applied(1, 1)]);
    assert_eq!(lab.state.log_rows.len(), 1, "b is undecided");
    lab.build();
    lab.settle(vec![applied(2, 1)]);
    assert!(lab.state.log_rows.is_empty());
    let gone: Vec<&(u64, String)> = lab.state.settled.values().flat_map(|row| &row.gone).collect();
    assert_eq!(gone, [&(1, "commit1".to_owned())], "its commit id can still be found after an unknown fate");
}

#[test]
fn s1_a_retry_sends_the_stored_bytes() {
    let mut lab = Lab::new();
    lab.write(Op::Create, "a", r#"{"x":1}"#);
    let first = lab.build();
    lab.write(Op::Update, "a", r#"{"x":2}"#);
    lab.config.schema_version = 9;
    assert_eq!(lab.sending(), first);
    assert_eq!(lab.state.client.acked_through, Seq(0), "nothing is acknowledged while its outcome is open");
}

#[test]
fn s2_acked_through_stops_below_the_first_open_seq() {
    let mut lab = Lab::new();
    for id in ["a", "b", "c", "d"] {
        lab.write(Op::Create, id, "{}");
    }
    lab.build();
    let row_key = lab.state.descriptors.keys().next().unwrap().clone();
    for _ in 0..3 {
        let txn = plan_counted(&lab.state, &lab.base, &lab.config, &row_key, NOW);
        lab.apply(txn);
    }
    // First half failed as well: the second half is sent, and answered.
    let txn = plan_counted(&lab.state, &lab.base, &lab.config, &row_key, NOW);
    lab.apply(txn);
    assert_eq!(lab.sending().iter().map(|sent| sent.seq.get()).collect::<Vec<_>>(), [3, 4]);
    lab.settle(vec![applied(3, 1), applied(4, 1)]);
    assert_eq!(lab.state.client.acked_through, Seq(0));
    lab.settle(vec![applied(1, 1), applied(2, 1)]);
    assert_eq!(lab.state.client.acked_through, Seq(4));
}

/// A batch that was too large is cut between a change and what follows it.
#[test]
fn c1_an_outcome_is_not_acknowledged_while_what_follows_it_is_still_to_be_sent() {
    let mut lab = Lab::new();
    lab.write(Op::Create, "a", r#"{"after":9}"#);
    lab.group("g", &[(Op::Update, "a", r#"{"x":2}"#), (Op::Create, "b", r#"{"x":2}"#)]);
    let sent = lab.build();
    assert_eq!(lab.mutations()[1].after, Some(Seq(1)));
    let row_key = lab.state.descriptors.keys().next().unwrap().clone();
    let txn = plan_too_large(&lab.state, &lab.base, &row_key, &sent, NOW).unwrap();
    lab.apply(txn);
    assert_eq!(lab.sending(), sent[..1]);
    lab.settle(vec![applied(1, 1)]);
    // The server forgets what is acknowledged, and with it which version that left.
    assert_eq!(lab.state.client.acked_through, Seq(0));
    lab.settle(vec![applied(2, 2), applied(3, 1)]);
    assert_eq!(lab.state.client.acked_through, Seq(3));
}

/// The seqs of each stored batch.
fn stored(lab: &Lab) -> Vec<Vec<u64>> {
    let seqs = |batch: &Descriptor| batch.mutations.iter().map(|sent| sent.seq.get()).collect();
    lab.state.descriptors.values().map(seqs).collect()
}

#[test]
fn l4_one_transaction_settles_a_batch_and_stores_the_next_one_ahead_of_time_only_if_it_is_full() {
    let mut lab = Lab::new();
    (lab.config.batch_count, lab.goes_on) = (2, true);
    for id in ["a", "b", "c", "d", "e", "f", "g"] {
        lab.write(Op::Create, id, "{}");
    }
    lab.build();
    assert_eq!(stored(&lab), [[1, 2], [3, 4]], "one to send, and the one behind it");
    lab.settle(vec![applied(1, 1), applied(2, 1)]);
    assert_eq!(stored(&lab), [[3, 4], [5, 6]]);
    assert_eq!((lab.state.client.acked_through, lab.state.client.next_seq), (Seq(2), Seq(7)));
    lab.settle(vec![applied(3, 1), applied(4, 1)]);
    assert_eq!(stored(&lab), [[5, 6]], "more may still come, and join what waits");
    lab.write(Op::Update, "g", r#"{"late":1}"#);
    lab.settle(vec![applied(5, 1), applied(6, 1)]);
    assert_eq!(stored(&lab), [[7]]);
    assert_eq!(lab.mutations()[0].set, fields(r#"{"late":1}"#));
    lab.settle(vec![applied(7, 1)]);
    assert!(stored(&lab).is_empty() && lab.state.entries.is_empty());
    assert_eq!(lab.state.client.acked_through, Seq(7));
}

#[test]
fn l5_a_batch_stored_ahead_holds_nothing_of_a_lane_whose_outcome_is_open() {
    let mut lab = Lab::new();
    (lab.config.batch_count, lab.goes_on) = (1, true);
    lab.pulled("r", 4, r#"{"a":1}"#);
    lab.write(Op::Update, "r", r#"{"a":2}"#);
    let blind = lab.entry(Op::Update, "r", r#"{"a":3}"#);
    lab.build();
    lab.log(vec![blind]);
    lab.write(Op::Create, "s", "{}");
    assert!(lab.build().is_empty(), "it would have to say `after`");
    assert_eq!(stored(&lab), [[1]]);
    lab.settle(vec![applied(1, 5)]);
    assert!(stored(&lab).is_empty(), "nor in the transaction that settles it: its base is that outcome");
    lab.build();
    assert_eq!(stored(&lab), [[2], [3]]);
    assert_eq!(lab.mutations()[0].base, Some(Version(5)));
}

#[test]
fn c3_a_refused_mutation_is_stored_before_anything_that_follows_it() {
    let mut lab = Lab::new();
    (lab.config.batch_count, lab.goes_on) = (1, true);
    for id in ["a", "b", "c"] {
        lab.write(Op::Create, id, "{}");
    }
    lab.build();
    lab.settle(vec![rejected(1, RejectCode::VALIDATION)]);
    assert_eq!((stored(&lab), lab.state.parked.len()), (vec![vec![2]], 1), "what was stored goes on, nothing is added");
    lab.settle(vec![applied(2, 1)]);
    assert_eq!(stored(&lab), [[3]]);
}

#[test]
fn s5_a_group_is_never_cut_by_the_size_of_a_batch() {
    let mut lab = Lab::new();
    lab.config.batch_count = 3;
    lab.write(Op::Create, "a", "{}");
    lab.write(Op::Create, "b", "{}");
    lab.group("g", &[(Op::Create, "c", "{}"), (Op::Create, "d", "{}")]);
    assert_eq!(lab.build().len(), 2, "the group waits for the next batch");
    lab.settle(vec![applied(1, 1), applied(2, 1)]);
    let sent = lab.build();
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|sent| sent.mutation().unwrap().group.is_some()));
}

#[test]
fn s5_a_refused_group_is_parked_retried_and_discarded_as_one() {
    let mut lab = Lab::new();
    let ids = lab.group("g", &[(Op::Create, "a", r#"{"n":1}"#), (Op::Create, "b", r#"{"n":2}"#)]);
    lab.build();
    let events = lab.settle(vec![rejected(1, RejectCode::GROUP_REFUSED), rejected(2, RejectCode::VALIDATION)]);
    assert!(matches!(&events[..], [Event::Parked { .. }]), "{events:?}");
    assert_eq!((lab.seen("a"), lab.seen("b")), (None, None), "rolled back whole");
    let row = lab.state.parked.values().next().unwrap();
    assert_eq!((row.changes.len(), row.reason.code.as_str()), (2, RejectCode::VALIDATION));
    let stamp = || Stamp::new(2_000_000, 0, "c1");
    let txn = plan_retry(&lab.state, &lab.base, ids[1], Some(&fields(r#"{"n":3}"#)), &mut { stamp }, NOW).unwrap();
    lab.apply(txn);
    let sent = lab.build();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[1].mutation().unwrap().set, fields(r#"{"n":3}"#), "the edit goes to the member it names");
    assert_eq!(sent[0].mutation().unwrap().group, sent[1].mutation().unwrap().group);
}

#[test]
fn c3_a_rejected_edit_rolls_back_to_the_server_and_the_later_entries() {
    let mut lab = Lab::new();
    lab.pulled("r", 4, r#"{"a":1,"b":1}"#);
    lab.write(Op::Update, "r", r#"{"a":2}"#);
    lab.build();
    lab.write(Op::Update, "r", r#"{"b":2}"#);
    lab.settle(vec![rejected(1, RejectCode::VALIDATION)]);
    assert_eq!(lab.seen("r").unwrap(), r#"{"a":1,"b":2}"#);
    assert_eq!(record_state(&lab.state, &lab.base, &key("r")), RecordState::Rejected);
    lab.build();
    assert_eq!(lab.mutations()[0].base, Some(Version(4)), "the follower goes on, on its predecessor's base");
}

#[test]
fn what_stands_on_a_refused_create_parks_behind_it_and_goes_again_behind_it() {
    let mut lab = Lab::new();
    let create = lab.write(Op::Create, "r", r#"{"a":1}"#);
    lab.build();
    let update = lab.write(Op::Update, "r", r#"{"b":2}"#);
    lab.write(Op::Create, "other", "{}");
    lab.settle(vec![rejected(1, RejectCode::VALIDATION)]);
    let reasons: Vec<(u64, &str)> =
        lab.state.parked.values().map(|row| (row.id.get(), row.reason.code.as_str())).collect();
    assert_eq!(reasons, [(create.get(), RejectCode::VALIDATION), (update.get(), RejectCode::BLOCKED)]);
    assert_eq!(lab.state.entries.len(), 1, "the other record flows on");
    let stamp = || Stamp::new(2_000_000, 0, "c1");
    let txn = plan_retry(&lab.state, &lab.base, create, Some(&fields(r#"{"a":7}"#)), &mut { stamp }, NOW).unwrap();
    lab.apply(txn);
    assert!(lab.state.parked.is_empty());
    assert_eq!(lab.seen("r").unwrap(), r#"{"a":7,"b":2}"#);
}

#[test]
fn l1_a_retry_with_hundreds_of_followers_fills_several_rows() {
    let mut lab = Lab::new();
    let create = lab.write(Op::Create, "r", r#"{"a":1}"#);
    lab.build();
    for n in 0..300 {
        lab.write(Op::Update, "r", &format!(r#"{{"n":{n}}}"#));
    }
    lab.settle(vec![rejected(1, RejectCode::VALIDATION)]);
    let stamp = || Stamp::new(2_000_000, 0, "c1");
    let txn = plan_retry(&lab.state, &lab.base, create, None, &mut { stamp }, NOW).unwrap();
    assert!(txn.append.iter().all(|row| row.len() <= 150), "an entry id has room for 256 entries a row");
    lab.apply(txn);
    assert_eq!(lab.state.entries.len(), 301);
    assert_eq!(lab.seen("r").unwrap(), r#"{"a":1,"n":299}"#);
}

#[test]
fn discarding_a_refused_create_says_how_many_entries_end_with_it() {
    let mut lab = Lab::new();
    let create = lab.write(Op::Create, "r", r#"{"a":1}"#);
    lab.build();
    lab.write(Op::Update, "r", r#"{"b":2}"#);
    lab.settle(vec![rejected(1, RejectCode::VALIDATION)]);
    let (txn, count) = plan_discard(&lab.state, &lab.base, create, NOW).unwrap();
    assert_eq!(count, 2);
    lab.apply(txn);
    assert!(lab.state.parked.is_empty() && lab.state.entries.is_empty() && lab.state.log_rows.is_empty());
}

#[test]
fn c2_a_value_that_lost_is_kept_and_told() {
    let mut lab = Lab::new();
    lab.pulled("r", 4, r#"{"a":1}"#);
    lab.write(Op::Update, "r", r#"{"a":2}"#);
    lab.build();
    let events = lab.settle(vec![superseded(1, 6, r#"{"a":9}"#)]);
    assert!(matches!(&events[..], [Event::Conflict { .. }]));
    let kept = lab.conflicts.values().next().unwrap();
    assert_eq!((&kept.set, kept.outcome.record.as_ref()), (&fields(r#"{"a":2}"#), Some(&fields(r#"{"a":9}"#))));
    assert_eq!(lab.seen("r").unwrap(), r#"{"a":9}"#, "the server's value shows at once");
}

#[test]
fn s7_the_unit_at_fault_is_found_and_the_others_arrive() {
    let mut lab = Lab::new();
    lab.config.attempts_max = 4;
    for id in ["a", "b", "poison", "d", "e"] {
        lab.write(Op::Create, id, "{}");
    }
    lab.build();
    let row_key = lab.state.descriptors.keys().next().unwrap().clone();
    let mut version = 0;
    for _ in 0..60 {
        let sending = lab.sending();
        if sending.is_empty() {
            break;
        }
        let poisoned = |sent: &InFlight| !sent.void && sent.mutation().unwrap().id.as_str() == "poison";
        if sending.iter().any(poisoned) {
            let txn = plan_counted(&lab.state, &lab.base, &lab.config, &row_key, NOW);
            lab.apply(txn);
            continue;
        }
        let answer = |sent: &InFlight| {
            if sent.void { rejected(sent.seq.get(), RejectCode::VOID) } else { applied(sent.seq.get(), 1) }
        };
        version += 1;
        lab.settle(sending.iter().map(answer).collect());
    }
    assert!(version > 0 && lab.state.descriptors.is_empty(), "everything found an outcome");
    assert!(lab.state.entries.is_empty());
    let failed: Vec<_> = lab.state.parked.values().collect();
    assert_eq!(failed.len(), 1);
    assert!(failed[0].failed && failed[0].changes[0].entry.id.as_str() == "poison");
    assert_eq!(lab.state.client.acked_through, Seq(5), "its seq has an outcome too: the void's");
}

#[test]
fn s1_a_void_that_came_too_late_takes_the_outcome_that_was_there() {
    let mut lab = Lab::new();
    lab.config.attempts_max = 1;
    lab.write(Op::Create, "a", r#"{"x":1}"#);
    lab.build();
    let row_key = lab.state.descriptors.keys().next().unwrap().clone();
    let txn = plan_counted(&lab.state, &lab.base, &lab.config, &row_key, NOW);
    lab.apply(txn);
    assert_eq!(lab.sending()[0].wire().text(), r#"{"seq":1,"void":true}"#);
    lab.settle(vec![applied(1, 3)]);
    assert!(lab.state.parked.is_empty() && lab.state.entries.is_empty());
    assert_eq!(lab.seen("a").unwrap(), r#"{"x":1}"#, "it had its effect after all, and shows it");
}

#[test]
fn r6_a_fork_keeps_every_undecided_entry_under_a_new_client() {
    let mut lab = Lab::new();
    lab.write(Op::Create, "a", "{}");
    lab.build();
    lab.write(Op::Create, "b", "{}");
    let (txn, events) = plan_fork(&lab.state, &lab.base, ClientId::from("c2"), NOW);
    lab.apply(txn);
    assert_eq!(events, [Event::ClientFork]);
    assert_eq!(lab.state.entries.len(), 2);
    assert!(lab.state.client.first_push && lab.state.client.pull_first);
    assert_eq!(lab.build().iter().map(|sent| sent.seq.get()).collect::<Vec<_>>(), [1, 2]);
}

/// A fork counts its batches anew, so a context that was away may hear of the new batch before it hears that the old one, of
/// a higher key, is gone.
#[test]
fn s1_what_travels_in_a_forks_batch_is_under_way_though_its_former_batch_is_heard_to_be_gone_later() {
    let mut lab = Lab::new();
    lab.write(Op::Create, "n1", r#"{"a":1}"#);
    lab.build();
    let (former, batch) = lab.state.descriptors.first_key_value().map(|(key, row)| (key.clone(), row.clone())).unwrap();
    lab.state.set_descriptor("desc/0000000000000000", Some(batch));
    lab.state.set_descriptor(&former, None);
    assert_eq!((lab.state.unsent_count(), lab.build().is_empty()), (0, true));
}

#[test]
fn r6_a_restored_server_gets_the_acknowledged_writes_that_it_lost_in_their_old_order() {
    let mut lab = Lab::new();
    lab.base.epoch = Some(Epoch::from("e1"));
    lab.write(Op::Create, "a", r#"{"n":1}"#);
    lab.build();
    lab.settle(vec![applied(1, 1)]);
    lab.write(Op::Update, "a", r#"{"n":2}"#);
    lab.build();
    lab.settle(vec![applied(2, 2)]);
    lab.write(Op::Update, "a", r#"{"n":3}"#);
    let ledger = Ledger { known: true, acked_through: Seq(1), entries: Vec::new() };
    let epoch = Epoch::from("e2");
    let (txn, events) = plan_reset(&lab.state, &lab.base, &ledger, &epoch, ClientId::from("c9"), NOW);
    assert_eq!(events, [Event::Requeued { count: 1 }]);
    lab.apply(txn);
    lab.base.epoch = Some(epoch.clone());
    lab.state.client.pull_first = false;
    lab.build();
    let sent = lab.mutations();
    let values: Vec<_> = sent.iter().map(|mutation| mutation.set.get("n")).collect();
    assert_eq!(values, [Some("2"), Some("3")], "the lost one goes first, the newer one behind it");
    let (again, events) = plan_reset(&lab.state, &lab.base, &ledger, &epoch, ClientId::from("c9"), NOW);
    assert!(events.is_empty() && again.append.is_empty(), "a reset that is repeated queues nothing twice");
}

#[test]
fn a_pair_that_was_taken_away_parks_what_waits_for_it_with_local_values_only() {
    let mut lab = Lab::new();
    lab.pulled("r", 4, r#"{"secret":1}"#);
    lab.write(Op::Update, "r", r#"{"a":2}"#);
    let (txn, _) = plan_no_access(&lab.state, &lab.base, &[key("r").pair()], NOW).unwrap();
    lab.apply(txn);
    let row = lab.state.parked.values().next().unwrap();
    assert_eq!(row.reason.code, RejectCode::NO_ACCESS);
    assert!(row.changes[0].base.is_none() && row.changes[0].server.is_none());
    assert!(lab.build().is_empty(), "nothing of it is sent");
}

#[test]
fn higher_priority_goes_first_and_lifts_what_it_stands_on() {
    let mut lab = Lab::new();
    let urgent = landfall_core::CollectionConfig { priority: 5, ..Default::default() };
    lab.config.collections.insert("urgent".into(), urgent);
    lab.write(Op::Create, "plain", "{}");
    lab.write(Op::Create, "under", "{}");
    let mut first = lab.entry(Op::Update, "under", r#"{"x":1}"#);
    let mut second = lab.entry(Op::Create, "u", "{}");
    second.collection = "urgent".into();
    first.group = Some("g".into());
    second.group = Some("g".into());
    lab.log(vec![first, second]);
    lab.build();
    let ids: Vec<String> = lab.mutations().iter().map(|mutation| mutation.id.0.clone()).collect();
    assert_eq!(ids, ["under", "under", "u", "plain"]);
}
