//! The readers of the outbox's rows, of the token and of notices under spoiled texts. The fuzzer begins with rows as real
//! histories leave them on their disks.

#[path = "../../protocol/tests/mutate/mod.rs"]
mod mutate;

use landfall_core::rows::{ClientRow, ConflictRow, Descriptor, LogRow, ParkedRow, SettledRow};
use landfall_protocol::codec::{FromJson, ToJson, from_json};
use landfall_replica::{Notice, Token, WriteOp};
use landfall_sim::world::World;
use landfall_sim::{History, run_in};
use landfall_storage::faulty::{Call, Fault};
use landfall_storage::page::Page;
use landfall_storage::row::{self, encode_text};
use landfall_storage::run::Run;
use landfall_storage::segment::Block;
use landfall_storage::{Manifest, RowKind, RowOp, Txn, decode, encode};
use mutate::{Was, fuzz};
use std::cell::RefCell;
use std::rc::Rc;

/// Rows of one kind to begin with, at most.
const ROWS_MAX: usize = 60;

/// Rows of a kind that histories wrote.
fn rows(kind: RowKind) -> Vec<String> {
    let all: Rc<RefCell<Vec<String>>> = Rc::default();
    for seed in 0..40 {
        run_in(&History::generate(seed), None, false, &|world: &Rc<World>| {
            for index in 0..world.profile_count() {
                let all = Rc::clone(&all);
                world.profile(index).plan.decide_by(move |_, call| {
                    if let Call::Commit(txn) = call {
                        take(txn, kind, &mut all.borrow_mut());
                    }
                    Fault::None
                });
            }
        });
        if all.borrow().len() >= ROWS_MAX {
            break;
        }
    }
    let mut all = all.take();
    all.sort();
    all.dedup();
    all
}

fn take(txn: &Txn, kind: RowKind, all: &mut Vec<String>) {
    for op in &txn.ops {
        let row = match op {
            RowOp::Append { row } | RowOp::Put { row, .. } => row,
            RowOp::Delete { .. } | RowOp::DeleteRange { .. } => continue,
        };
        // What was damaged is written too: set aside.
        if all.len() < ROWS_MAX && row::open(kind, row).is_ok() {
            all.push(row.clone());
        }
    }
}

/// Fuzzes rows of a kind as they are, and their bodies under a checksum that is right.
fn fuzz_kind<T: FromJson + ToJson + PartialEq + std::fmt::Debug>(kind: RowKind) {
    let rows = rows(kind);
    let read = |text: &str| {
        let Ok(value) = decode::<T>(kind, text) else { return Was::Refused };
        let written = encode(kind, &value);
        assert_eq!(decode::<T>(kind, &written).as_ref(), Ok(&value), "{written}");
        Was::Read
    };
    fuzz(&format!("{kind:?}"), &rows, &read);
    let bodies: Vec<String> =
        rows.iter().filter_map(|text| row::open(kind, text).ok()).map(|row| row.body.to_owned()).collect();
    fuzz(&format!("{kind:?}, checksum put right"), &bodies, &|body| read(&encode_text(kind, body)));
}

#[test]
fn i3_log_rows_are_read_or_refused_whatever_they_are() {
    fuzz_kind::<LogRow>(RowKind::Log);
}

#[test]
fn i3_client_rows_are_read_or_refused_whatever_they_are() {
    fuzz_kind::<ClientRow>(RowKind::Client);
}

#[test]
fn i3_descriptors_and_settled_rows_are_read_or_refused_whatever_they_are() {
    fuzz_kind::<Descriptor>(RowKind::Descriptor);
    fuzz_kind::<SettledRow>(RowKind::Acked);
}

#[test]
fn i3_parked_rows_and_conflicts_are_read_or_refused_whatever_they_are() {
    fuzz_kind::<ParkedRow>(RowKind::Parked);
    fuzz_kind::<ConflictRow>(RowKind::Conflict);
}

#[test]
fn i3_tokens_and_the_rows_of_a_real_base_are_read_or_refused_whatever_they_are() {
    fuzz_kind::<Token>(RowKind::Token);
    fuzz_kind::<Manifest>(RowKind::Manifest);
    fuzz_kind::<Run>(RowKind::Run);
}

#[test]
fn i3_rows_of_another_kind_are_never_taken_for_the_one_asked_for() {
    let rows = rows(RowKind::Segment);
    fuzz("segment for a page", &rows, &|text| {
        assert!(Page::decode(text.to_owned()).is_err(), "a segment is read as a page");
        if Block::decode(text.to_owned()).is_ok() { Was::Read } else { Was::Refused }
    });
}

#[test]
fn notices_and_writes_are_read_or_refused_whatever_they_are() {
    let notices = [
        Notice::Log { key: u64::MAX >> 11 },
        Notice::Outbox { rev: 7 },
        Notice::Base { rev: 0 },
        Notice::Token,
        Notice::Wiped,
    ];
    fuzz("notice", &notices.map(|notice| notice.to_text()), &|text| {
        let Some(notice) = Notice::parse(text) else { return Was::Refused };
        assert_eq!(Notice::parse(&notice.to_text()).as_ref(), Some(&notice));
        Was::Read
    });
    let write = "{\"op\":\"put\",\"collection\":\"a\",\"scope\":\"s\",\"id\":\"é\",\"fields\":{\"a\":[1]}}".to_owned();
    fuzz("write", &[write], &|text| if from_json::<WriteOp>(text).is_some() { Was::Read } else { Was::Refused });
}
