//! What a context knows of the outbox follows from its rows: whoever has seen each change, and whoever reads them now, in
//! whatever order, knows the same.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod lab;

use lab::{Dice, Lab, NOW, applied, fields, key, rejected, superseded};
use landfall_core::fixup::{plan_discard, plan_retry};
use landfall_core::recover::{plan_fork, plan_reset};
use landfall_core::state::{CollectionConfig, Config, State};
use landfall_core::view::record_state;
use landfall_protocol::{ClientId, EntryId, Epoch, Ledger, Op, RecordKey, RejectCode, Seq, Stamp};
use std::collections::{BTreeMap, BTreeSet};

/// All that is known of an outbox, in words.
fn know(state: &State) -> String {
    let lanes: BTreeMap<&RecordKey, &Vec<EntryId>> =
        state.lanes.keys().map(|key| (key, state.lanes.get(key).unwrap())).collect();
    let decided: Vec<&EntryId> = state.decided.iter().filter(|id| state.log_rows.contains_key(&id.log_key())).collect();
    let of_keys: Vec<_> = state.settled_by_key.keys().map(|key| state.settled_of(key).collect::<Vec<_>>()).collect();
    format!(
        "{:?}",
        (
            (&state.entries, lanes, state.placed, decided, &state.log_rows),
            (&state.descriptors, &state.sent, state.unsent_count()),
            (&state.settled, of_keys, &state.parked, &state.parked_by_key),
        )
    )
}

/// The records with something of this client's over their base.
fn over(state: &State) -> usize {
    state.lanes.keys().chain(state.settled_by_key.keys()).collect::<BTreeSet<_>>().len()
}

/// As a context knows it that reads the rows now.
fn read(lab: &Lab, backwards: bool) -> State {
    let mut state = State::new(lab.state.client.clone());
    let mut log: Vec<_> = lab.log_rows.iter().collect();
    let mut settled: Vec<_> = lab.state.settled.iter().collect();
    if backwards {
        log.reverse();
        settled.reverse();
    }
    let add = |state: &mut State| {
        for (log_key, (commit_id, entries)) in &log {
            state.add_log_row(**log_key, commit_id, entries.clone(), &mut |_| {});
        }
    };
    if !backwards {
        add(&mut state);
    }
    for (row_key, row) in settled {
        state.set_settled(row_key, Some(row.clone()));
    }
    if backwards {
        add(&mut state);
    }
    for (row_key, row) in &lab.state.descriptors {
        state.set_descriptor(row_key, Some(row.clone()));
    }
    for (row_key, row) in &lab.state.parked {
        state.set_parked(row_key, Some(row.clone()));
    }
    state
}

fn step(lab: &mut Lab, dice: &mut Dice) {
    let id = ["a", "b", "c", "d"][dice.below(4) as usize];
    let write = |lab: &Lab, dice: &mut Dice, id: &str| match lab.seen(id) {
        None => Op::Create,
        Some(_) if dice.below(3) == 0 => Op::Delete,
        Some(_) => Op::Update,
    };
    let stamp = || Stamp::new(2_000_000, 0, "c1");
    match dice.below(12) {
        0..4 => {
            let op = write(lab, dice, id);
            lab.write(op, id, if op == Op::Delete { "{}" } else { r#"{"n":1}"# });
        }
        4 => {
            let op = write(lab, dice, id);
            lab.group(&format!("g{}", lab.state.hlc.stamp("c1").0), &[(op, id, "{}"), (Op::Create, "e", "{}")]);
        }
        5..7 => {
            lab.state.client.pull_first = false;
            lab.build();
        }
        7..9 if !lab.state.descriptors.is_empty() => {
            let outcomes = lab.sending().into_iter().map(|sent| match (sent.seq.get(), dice.below(6)) {
                (seq, 0) => rejected(seq, RejectCode::VALIDATION),
                (seq, 1) => rejected(seq, RejectCode::BLOCKED),
                (seq, 2) => superseded(seq, seq, r#"{"n":9}"#),
                (seq, _) => applied(seq, seq),
            });
            let outcomes = outcomes.collect();
            lab.settle(outcomes);
        }
        9 => {
            let Some(id) = lab.state.parked.values().next().map(|row| row.id) else { return };
            let txn = if dice.below(2) == 0 {
                plan_retry(&lab.state, &lab.base, id, None, &mut { stamp }, NOW).unwrap()
            } else {
                plan_discard(&lab.state, &lab.base, id, NOW).unwrap().0
            };
            lab.apply(txn);
        }
        10 => {
            // Of an old row that no log row needs another context may say that it was trimmed.
            let is_free = |row: &landfall_core::rows::SettledRow| {
                row.mutations.iter().flat_map(|it| &it.entries).all(|id| !lab.log_rows.contains_key(&id.log_key()))
            };
            let Some((row_key, _)) = lab.state.settled.first_key_value().filter(|(_, row)| is_free(row)) else {
                return;
            };
            let row_key = row_key.clone();
            lab.state.set_settled(&row_key, None);
        }
        11 if dice.below(3) == 0 => {
            let ledger = Ledger { known: true, acked_through: Seq(dice.below(3)), entries: Vec::new() };
            let epoch = Epoch::from(["e2", "e3"][dice.below(2) as usize]);
            let (txn, _) = match dice.below(3) {
                0 => plan_fork(&lab.state, &lab.base, ClientId::from("c2"), NOW),
                _ => plan_reset(&lab.state, &lab.base, &ledger, &epoch, ClientId::from("c9"), NOW),
            };
            lab.apply(txn);
        }
        _ => {}
    }
}

#[test]
fn l5_who_reads_the_rows_now_knows_what_a_context_knows_that_has_seen_each_change() {
    let mut placed = 0;
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let mut lab = Lab::new();
        lab.config.batch_count = 1 + dice.below(4) as usize;
        for at in 0..60 {
            step(&mut lab, &mut dice);
            placed += lab.state.placed;
            for backwards in [false, true] {
                let state = read(&lab, backwards);
                assert_eq!(know(&lab.state), know(&state), "seed {seed}, step {at}, backwards {backwards}");
                assert_eq!(state.over.came - state.over.left, over(&state) as u64, "seed {seed}, step {at}");
            }
            let counted = lab.state.over.came - lab.state.over.left;
            assert_eq!(counted, over(&lab.state) as u64, "seed {seed}, step {at}");
        }
    }
    assert!(placed > 0, "restored servers were among it");
}

#[test]
fn l1_who_hears_late_that_a_log_row_went_forgets_that_row_and_not_a_later_one_under_its_key() {
    let mut lab = Lab::new();
    lab.write(Op::Create, "a", "{}");
    lab.build();
    let mut other = lab.state.clone();
    lab.settle(vec![applied(1, 1)]);
    let (row_key, row) = lab.state.settled.first_key_value().unwrap();
    other.set_settled(row_key, Some(row.clone()));
    assert!(other.log_rows.is_empty() && other.entries.is_empty());
    // A disk that was rolled back has given its key to another row.
    let mut rolled_back = Lab::new();
    let entry = rolled_back.entry(Op::Create, "b", "{}");
    rolled_back.state.add_log_row(1, "another", vec![entry], &mut |_| {});
    rolled_back.state.set_settled(row_key, Some(row.clone()));
    assert!(rolled_back.state.log_rows.contains_key(&1));
}

#[test]
fn s4_while_an_entry_under_way_cannot_be_read_nothing_further_is_sent() {
    let mut lab = Lab::new();
    lab.config.batch_count = 1;
    lab.write(Op::Create, "a", "{}");
    lab.build();
    lab.write(Op::Create, "b", "{}");
    // Of an entry that is not known the lane is not, either: this one may stand behind it.
    lab.state.drop_log_row(1);
    assert_eq!(lab.state.over.came - lab.state.over.left, over(&lab.state) as u64, "it is over its record no more");
    assert!(lab.build().is_empty());
    lab.settle(vec![applied(1, 1)]);
    assert_eq!(lab.build().len(), 1);
}

#[test]
fn i1_a_record_lies_in_the_scope_that_its_collection_says() {
    let mut config = Config::new("u1");
    for (name, scope) in [("plain", "shared"), ("own", "user:{user}"), ("team", "team:{team}/{user}"), ("n", "{n}")] {
        config.collections.insert(name.into(), CollectionConfig { scope: scope.to_owned(), ..Default::default() });
    }
    let scope = |collection: &str, json: &str| config.scope_of(&collection.into(), &fields(json)).map(|it| it.0);
    assert_eq!(scope("plain", "{}").unwrap(), "shared");
    assert_eq!(scope("own", r#"{"user":"u2"}"#).unwrap(), "user:u1", "nobody writes in another user's name");
    assert_eq!(scope("team", r#"{"team":"t\n1"}"#).unwrap(), "team:t\n1/u1");
    assert_eq!(scope("team", "{}"), None);
    assert_eq!(scope("n", r#"{"n":17}"#).unwrap(), "17");
    assert_eq!(scope("undeclared", "{}").unwrap(), "user:u1");
}

#[test]
fn a_record_says_how_far_it_has_come_and_the_worst_of_it_first() {
    let mut lab = Lab::new();
    let mut said = Vec::new();
    let mut say = |lab: &Lab| said.push(record_state(&lab.state, &lab.base, &key("r")).as_str());
    say(&lab);
    lab.pulled("r", 1, "{}");
    lab.write(Op::Update, "r", r#"{"n":1}"#);
    say(&lab);
    lab.build();
    say(&lab);
    lab.write(Op::Update, "r", r#"{"n":2}"#);
    lab.settle(vec![applied(1, 2)]);
    lab.build();
    lab.settle(vec![applied(2, 3)]);
    say(&lab);
    for code in [RejectCode::VOID, RejectCode::VALIDATION] {
        for row in lab.state.parked.keys().cloned().collect::<Vec<_>>() {
            lab.state.set_parked(&row, None);
        }
        lab.write(Op::Update, "r", r#"{"n":3}"#);
        lab.build();
        let seq = lab.sending()[0].seq.get();
        lab.settle(vec![rejected(seq, code)]);
        say(&lab);
    }
    assert_eq!(said, ["synced", "pending", "sending", "settled", "failed", "rejected"]);
}
