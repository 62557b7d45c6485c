//! What compaction promises: few runs of each level, nothing dead for long, tombstones as long as they are needed and no
//! longer, and work that is said beforehand and done in bounded steps.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

mod base;

use base::store::Store;
use base::{check_no_waste, pair, schema};
use landfall_protocol::{UnixMillis, limits};
use landfall_storage::RowId;
use landfall_storage::compact::{FAN_IN, plan_repair};
use landfall_storage::ingest::{DAMAGE_MS, plan_declare, plan_resync};
use landfall_storage::run::{Fence, RUN_ROWS_MAX, RunRef};

/// Runs of one level that overlap, at most.
fn widest(runs: &[RunRef]) -> usize {
    let beside = |run: &RunRef| {
        let with = |other: &&RunRef| other.level == run.level && other.first <= run.last && run.first <= other.last;
        runs.iter().filter(with).count()
    };
    runs.iter().map(beside).max().unwrap_or(0)
}

#[test]
fn of_each_level_there_are_fewer_runs_than_make_one_of_the_next() {
    let mut store = Store::new();
    for n in 0..FAN_IN as u64 * 10 {
        store.pull((0..5).map(|at| at * 100 + n), false);
        store.compact();
        let row = store.row();
        assert!(widest(&row.live) < FAN_IN, "{n}: {:?}", row.live);
        for index in &row.indexes {
            let most = index.live.iter().map(|run| index.live.iter().filter(|it| it.level == run.level).count()).max();
            assert!(most.unwrap_or(0) < FAN_IN, "{n}: {}", index.name);
        }
    }
    assert!(store.runs().iter().any(|run| run.level >= 2), "{:?}", store.runs());
    store.check();
}

#[test]
fn runs_that_no_other_one_overlaps_stay_as_they_are_and_what_comes_behind_them_joins_the_last() {
    let mut store = Store::new();
    for n in (0..FAN_IN as u64 * 2).rev() {
        store.pull(n * 10..n * 10 + 5, false);
    }
    let before = store.runs();
    assert_eq!(before.len(), FAN_IN * 2);
    store.compact();
    assert_eq!(store.runs(), before);
    store.check();
    let mut store = Store::new();
    for n in 0..FAN_IN as u64 * 2 {
        store.pull(n * 10..n * 10 + 5, false);
    }
    assert_eq!(store.runs().len(), 1);
    store.check();
}

#[test]
fn r3_long_runs_are_merged_in_slices_and_each_record_stays_where_it_is_looked_for() {
    let mut store = Store::new();
    store.filler = 10;
    // Dense and thin by turns: what fits into the first slice ends at another key in each of them.
    for n in 0..FAN_IN as u64 {
        let step = if n % 2 == 0 { 1 } else { 5 };
        store.pull((0..5_000).map(|at| at * step * 8 + n), false);
    }
    let least = |runs: &[RunRef]| runs.iter().map(|run| run.rows).min().unwrap();
    let row = store.row();
    let index = &row.indexes[0];
    assert!(least(&store.runs()) > 8 && least(&index.live) > 8, "one slice is enough: {index:?}");
    // What was deleted before that has no entry in what it becomes.
    store.pull((0..40_000).step_by(80), true);
    let mut names = Vec::new();
    while let Some(txn) = store.step() {
        names.push(txn.name);
        store.commit(txn);
    }
    for name in ["compaction", "index"] {
        assert!(names.iter().filter(|it| **it == name).count() > 2, "{names:?}");
    }
    let truths = store.model.get(&pair(0)).unwrap().values().filter(|truth| truth.fields.is_some()).count();
    let row = store.row();
    let index = &row.indexes[0];
    assert_eq!(index.live.iter().map(|run| run.live).sum::<u64>(), truths as u64);
    store.check();
}

#[test]
fn an_index_that_lost_a_page_is_built_again_from_the_records() {
    let mut store = Store::new();
    for n in 0..3 {
        store.pull((0..100).map(|at| at * 3 + n), false);
    }
    let row = store.row();
    let at = row.indexes.iter().position(|index| index.name == "n").unwrap();
    let page = store.context.run(&store.disk, |records| records.run(&row.indexes[at].live[0])).fences[0].row;
    let (schema, now) = (store.context.schema.clone(), UnixMillis(store.now));
    let txn = plan_repair(&store.context.records, &schema, RowId::Page(page), now).unwrap();
    store.commit(txn);
    let is_ready = |store: &Store| store.row().indexes[at].is_ready();
    assert!(!is_ready(&store), "nobody asks it meanwhile");
    store.compact();
    assert!(is_ready(&store));
    store.check();
}

#[test]
fn what_is_more_dead_than_live_is_written_anew() {
    let mut store = Store::new();
    store.pull(0..400, false);
    store.pull((0..400).filter(|n| n % 3 > 0), false);
    let first = store.runs()[0].clone();
    assert!(first.rows > 1 && first.dead > first.live, "{first:?}");
    assert!(store.compact() > 0);
    let wasteful = |run: &&RunRef| run.rows > 1 && run.dead > run.live;
    assert_eq!(store.runs().iter().find(wasteful), None);
    store.check();
    // What lies in one segment is let be, however much of it is dead.
    let mut store = Store::new();
    store.filler = 10;
    store.pull(0..100, false);
    store.pull(0..60, false);
    let first = store.runs()[0].clone();
    assert!(first.rows == 1 && first.dead > first.live, "{first:?}");
    assert_eq!(store.compact(), 0);
    // As much dead as live is let be.
    let mut store = Store::new();
    store.pull(0..400, false);
    store.pull((0..400).step_by(2), false);
    assert_eq!(store.compact(), 0);
}

#[test]
fn r5_a_tombstone_stays_as_long_as_a_change_may_still_be_pulled_and_goes_then() {
    for (age, stays) in [(limits::CHANGE_LOG_MS, true), (limits::CHANGE_LOG_MS + 1, false)] {
        let mut store = Store::new();
        store.pull((0..200).step_by(10), false);
        store.pull((0..200).step_by(10), true);
        store.now += age;
        // So many runs that they are merged, with what was deleted.
        for n in 1..FAN_IN as u64 {
            store.pull((n..200).step_by(10), false);
        }
        store.compact();
        let row = store.row();
        let found = store.context.run(&store.disk, |records| records.find(&row, false, "r00050"));
        assert_eq!(found.is_some(), stays, "{age}");
    }
}

#[test]
fn an_index_that_is_declared_late_is_built_in_steps_over_all_that_was_there_and_what_comes_meanwhile() {
    let mut store = Store::new();
    for n in 0..10 {
        store.pull(n * 700..(n + 1) * 700, false);
    }
    let segments: u32 = store.runs().iter().map(|run| run.rows).sum();
    assert!(segments > 128, "{segments} segments are built in two steps");
    store.context.schema = schema(true, false);
    let (schema, now) = (store.context.schema.clone(), UnixMillis(store.now));
    let txn = plan_declare(&store.context.records, &schema, now).unwrap();
    store.commit(txn);
    let is_ready = |store: &Store| {
        let row = store.row();
        row.indexes.iter().find(|index| index.name == "supplier").unwrap().is_ready()
    };
    let mut steps = 0;
    while !is_ready(&store) {
        if steps < 2 {
            store.pull((0..7_000).skip(steps).step_by(500), steps == 1);
        }
        let txn = store.step().unwrap();
        store.commit(txn);
        steps += 1;
    }
    assert!((3..20).contains(&steps), "{steps}");
    store.check();
    store.compact();
    store.check();
}

/// Eight long runs of an index whose records nothing moves: each joins the ones before, and is all over the index.
fn behind_each_other() -> Store {
    let mut store = Store::new();
    store.filler = 10;
    // One of them has small values only, so a slice ends at one.
    store.n = |number| if number < 5_000 { number * 2 } else { number * 7_919 % 40_009 };
    for run in 0..FAN_IN as u64 {
        store.pull(run * 5_000..(run + 1) * 5_000, false);
    }
    let index = &store.row().indexes[0];
    assert!(index.live.len() == FAN_IN && index.live.iter().all(|run| run.rows > 8), "one slice is enough: {index:?}");
    store
}

#[test]
fn r3_entries_that_stay_true_are_merged_in_slices_into_one_run_and_each_is_in_it_once() {
    let mut store = behind_each_other();
    let data = store.runs();
    let steps = store.compact();
    assert!(steps > 4, "{steps} slices and sweeps");
    assert_eq!(store.runs(), data, "no record was moved");
    let index = store.row().indexes[0].clone();
    assert_eq!((index.live.len(), index.live[0].level, index.live[0].live), (1, 1, 40_000));
    store.check();
}

#[test]
fn of_fewer_runs_than_make_one_of_the_next_level_nothing_becomes_whatever_lies_on_that_level() {
    let mut store = Store::new();
    for run in 0..FAN_IN as u64 * 2 - 1 {
        store.pull(run * 10..run * 10 + 5, false);
        let is_due = run == FAN_IN as u64 - 1;
        assert_eq!(store.compact() > 0, is_due, "after run {run}");
    }
    let levels: Vec<u32> = store.row().indexes[0].live.iter().map(|run| run.level).collect();
    assert_eq!(levels.iter().filter(|level| **level == 0).count(), FAN_IN - 1, "{levels:?}");
    assert_eq!(levels.iter().filter(|level| **level == 1).count(), 1, "{levels:?}");
    store.check();
}

#[test]
fn what_becomes_of_an_index_while_it_is_merged_leaves_nothing_behind() {
    let mut whole = behind_each_other();
    // Nothing is left of what the first slice looks at, so its run has no row yet.
    let lowest = (0..40_000).filter(|number| (whole.n)(*number) < 12_000).collect::<Vec<u64>>();
    whole.pull(lowest.into_iter(), true);
    // It is built again; its pair is taken away; its pair starts cold, and everything was deleted meanwhile.
    for (slices, what) in [(1, "built"), (2, "built"), (1, "taken"), (2, "taken"), (2, "cold")] {
        let mut store = whole.again();
        for _ in 0..slices {
            let txn = store.step().unwrap();
            assert_eq!(txn.name, "index");
            store.commit(txn);
        }
        let row = store.row();
        let merging = row.indexes[0].merging.as_ref().unwrap();
        assert_eq!(merging.output.rows == 0, slices == 1, "{slices}: {merging:?}");
        if what == "taken" {
            store.lose();
            store.compact();
            check_no_waste(&store.context, &store.disk);
            continue;
        }
        if what == "cold" {
            let (records, schema) = (&store.context.records, &store.context.schema);
            let cold = plan_resync(records, schema, &pair(0), DAMAGE_MS, UnixMillis(store.now)).unwrap();
            store.commit(cold);
            store.model.get_mut(&pair(0)).unwrap().clear();
            store.take(Vec::new());
            store.compact();
            assert_eq!(store.row().indexes[0].live, [], "nothing is left to be found");
            store.check();
            continue;
        }
        let page = store.context.run(&store.disk, |records| records.run(&row.indexes[0].live[0])).fences[0].row;
        let (schema, now) = (store.context.schema.clone(), UnixMillis(store.now));
        let txn = plan_repair(&store.context.records, &schema, RowId::Page(page), now).unwrap();
        store.commit(txn);
        store.compact();
        assert!(store.row().indexes[0].is_ready());
        store.check();
    }
}

/// Each record fills a segment.
fn thick() -> Store {
    Store { filler: 11 * 1024, ..Store::new() }
}

#[test]
fn i6_records_move_into_as_few_runs_as_can_name_their_segments() {
    let mut store = thick();
    let (runs, rows) = (FAN_IN as u64, 90);
    for run in 0..runs {
        store.pull((0..rows).map(|at| at * runs + run), false);
    }
    assert!(store.runs().iter().all(|run| run.rows == rows as u32));
    store.compact();
    let moved: Vec<usize> = store.runs().iter().map(|run| run.rows as usize).collect();
    assert_eq!((moved.len(), moved.iter().sum::<usize>()), (2, 720), "{moved:?}");
    // One slice of all that is merged may still have fitted: up to eight rows of each.
    assert!((RUN_ROWS_MAX - 64..=RUN_ROWS_MAX).contains(&moved[0]), "{moved:?}");
    assert!(store.runs().iter().all(|run| run.level == 1), "{:?}", store.runs());
    store.check();
}

#[test]
fn i6_what_comes_behind_a_run_joins_it_until_it_is_full_to_the_last_row() {
    let mut store = thick();
    for page in 0..15 {
        store.pull(page * 50..(page + 1) * 50, false);
    }
    let rows: Vec<usize> = store.runs().iter().map(|run| run.rows as usize).collect();
    assert_eq!(rows, [RUN_ROWS_MAX, 15 * 50 - RUN_ROWS_MAX]);
    store.check();
}

#[test]
fn an_index_that_is_declared_late_is_ready_with_the_step_that_comes_to_the_last_segment() {
    for (segments, steps) in [(64, 1), (65, 2), (129, 3)] {
        let mut store = thick();
        store.pull(0..segments, false);
        store.context.schema = schema(true, false);
        let txn = plan_declare(&store.context.records, &store.context.schema, UnixMillis(store.now)).unwrap();
        store.commit(txn);
        assert_eq!(store.compact(), steps, "{segments} segments");
        assert!(store.row().index("supplier").unwrap().is_ready());
        store.check();
    }
}

#[test]
fn i6_runs_in_memory_are_counted_with_all_that_they_say_of_their_segments() {
    let mut store = thick();
    store.pull(0..100, false);
    let cold = base::Context::open(&store.disk, &store.context.schema, 8 * 1024 * 1024);
    cold.run(&store.disk, |records| records.run(&store.runs()[0]));
    let fences = 100 * (size_of::<Fence>() + "r00000".len());
    assert!((fences..2 * fences).contains(&cold.records.bytes()), "{} bytes", cold.records.bytes());
}

#[test]
fn i6_a_record_is_looked_for_in_no_run_that_cannot_have_it() {
    let mut store = Store::new();
    for run in (0..5).rev() {
        store.pull(run * 100..run * 100 + 50, false);
    }
    let cold = base::Context::open(&store.disk, &store.context.schema, 8 * 1024 * 1024);
    let row = store.row();
    for (id, segments) in [("r00120", 1), ("r00175", 0), ("r00000", 1), ("a", 0), ("z", 0)] {
        let mut read = 0;
        while cold.records.find(&row, false, id).is_err() {
            for missing in cold.records.missing() {
                read += usize::from(matches!(missing, RowId::Segment(_)));
                assert_eq!(cold.records.give(missing, store.disk.get(&missing.place()).cloned()), Ok(true));
            }
        }
        assert_eq!(read, segments, "{id}");
    }
}

#[test]
fn r2_records_of_a_damaged_index_by_id_are_pulled_again_for_nothing_else_finds_them() {
    for (name, is_pulled) in [("id", true), ("supplier,n", false)] {
        let mut store = Store::new();
        let truth = base::Truth { version: 1, fields: Some(r#"{"supplier":"s1","n":1}"#.to_owned()) };
        store.take(vec![(pair(1), "a".to_owned(), truth)]);
        let row = store.context.records.manifest.pair(&pair(1)).unwrap().clone();
        let index = row.index(name).unwrap();
        // Along the order of the records there are no pages to be damaged, but a run that may come is named all the same.
        let damaged = RowId::Run(index.live[0].id, index.live[0].rev);
        let (schema, now) = (store.context.schema.clone(), UnixMillis(store.now));
        let txn = plan_repair(&store.context.records, &schema, damaged, now).unwrap();
        assert_eq!(txn.manifest.resync == [pair(1)], is_pulled, "{name}");
        assert_eq!(txn.manifest.pair(&pair(1)).unwrap().index(name).unwrap().is_ready(), is_pulled, "{name}");
    }
}
