//! The readers of the outbox's rows, of the token and of notices under spoiled texts. The fuzzer begins with rows as real
//! histories leave them on their disks.

#[path = "../../protocol/tests/mutate/mod.rs"]
mod mutate;

use landfall_core::lane_index::{LaneIndex, LanePage};
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
use mutate::{Check, Was, check, fuzz};
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

/// Rows of a kind as they are, and their bodies under a checksum that is right.
fn checks_of<T: FromJson + ToJson + PartialEq + std::fmt::Debug>(kind: RowKind) -> [Check<'static>; 2] {
    let rows = rows(kind);
    let read = move |text: &str| {
        let Ok(value) = decode::<T>(kind, text) else { return Was::Refused };
        let written = encode(kind, &value);
        assert_eq!(decode::<T>(kind, &written).as_ref(), Ok(&value), "{written}");
        Was::Read
    };
    let bodies: Vec<String> =
        rows.iter().filter_map(|text| row::open(kind, text).ok()).map(|row| row.body.to_owned()).collect();
    [
        check(&format!("{kind:?}"), &rows, read),
        check(&format!("{kind:?}, checksum put right"), &bodies, move |body| read(&encode_text(kind, body))),
    ]
}

#[test]
fn i3_log_rows_and_writes_are_read_or_refused_whatever_they_are() {
    let write = "{\"op\":\"put\",\"collection\":\"a\",\"scope\":\"s\",\"id\":\"é\",\"fields\":{\"a\":[1]}}".to_owned();
    let [as_it_is, put_right] = checks_of::<LogRow>(RowKind::Log);
    let read = |text: &str| if from_json::<WriteOp>(text).is_some() { Was::Read } else { Was::Refused };
    fuzz(&[as_it_is, put_right, check("write", &[write], read)]);
}

#[test]
fn i3_descriptors_and_settled_rows_are_read_or_refused_whatever_they_are() {
    let [descriptors, settled] =
        [checks_of::<Descriptor>(RowKind::Descriptor), checks_of::<SettledRow>(RowKind::Acked)];
    fuzz(&[descriptors, settled].into_iter().flatten().collect::<Vec<_>>());
}

#[test]
fn i3_client_rows_parked_rows_and_conflicts_are_read_or_refused_whatever_they_are() {
    let parked = checks_of::<ParkedRow>(RowKind::Parked);
    let conflicts = checks_of::<ConflictRow>(RowKind::Conflict);
    let clients = checks_of::<ClientRow>(RowKind::Client);
    fuzz(&[clients, parked, conflicts].into_iter().flatten().collect::<Vec<_>>());
}

#[test]
fn i3_the_rows_of_the_lane_index_are_read_or_refused_whatever_they_are() {
    let [indexes, pages] = [checks_of::<LaneIndex>(RowKind::Lanes), checks_of::<LanePage>(RowKind::LanePage)];
    fuzz(&[indexes, pages].into_iter().flatten().collect::<Vec<_>>());
}

#[test]
fn i3_tokens_notices_and_the_rows_of_a_real_base_are_read_or_refused_whatever_they_are() {
    let notices = [
        Notice::Log { key: u64::MAX >> 11 },
        Notice::Outbox { rev: 7 },
        Notice::Base { rev: 0 },
        Notice::Token,
        Notice::Wiped,
    ];
    let notice = |text: &str| {
        let Some(notice) = Notice::parse(text) else { return Was::Refused };
        assert_eq!(Notice::parse(&notice.to_text()).as_ref(), Some(&notice));
        Was::Read
    };
    let segment = |text: &str| {
        assert!(Page::decode(text.to_owned()).is_err(), "a segment is read as a page");
        if Block::decode(text.to_owned()).is_ok() { Was::Read } else { Was::Refused }
    };
    let small = [
        check("notice", &notices.map(|notice| notice.to_text()), notice),
        check("segment for a page", &rows(RowKind::Segment), segment),
    ];
    let manifests = checks_of::<Manifest>(RowKind::Manifest);
    let (tokens, runs) = (checks_of::<Token>(RowKind::Token), checks_of::<Run>(RowKind::Run));
    fuzz(&tokens.into_iter().chain(manifests).chain(runs).chain(small).collect::<Vec<_>>());
}
