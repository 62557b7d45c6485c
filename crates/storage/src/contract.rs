//! What every row store must do, as one suite: memory, faulty disk and IndexedDB are held to the same words.
//!
//! Each check is a function named by the sentence it proves and uses a database of its own. `open` opens the database
//! of a name, and again when called again.

use crate::rowstore::{CommitError, Committed, Durability, Key, KeyedRows, Read, RowOp, RowStore, StoreName, Txn};

/// What a check says when the store breaks its word.
pub type Broken = String;

macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err(format!($($why)+));
        }
    };
}

macro_rules! ensure_eq {
    ($left:expr, $right:expr) => {
        match (&$left, &$right) {
            (left, right) => ensure!(left == right, "{} is {left:?}, not {right:?}", stringify!($left)),
        }
    };
}

/// Runs every check.
///
/// # Panics
/// With the name of the first check that fails and what it saw.
pub async fn all<R: RowStore>(open: impl AsyncFn(&str) -> R) {
    macro_rules! run {
        ($($check:ident),+ $(,)?) => {
            $(if let Err(why) = $check(&open).await { panic!("{}: {why}", stringify!($check)) })+
        };
    }
    run!(
        a_row_reads_back_as_it_was_written_and_a_missing_row_is_none,
        reads_of_several_stores_are_answered_in_the_order_asked_for,
        several_reads_of_one_call_see_one_state_while_another_context_commits,
        text_keys_are_in_code_unit_order,
        number_keys_are_in_numeric_order_also_beyond_2_to_the_32,
        a_range_includes_its_bounds_and_stops_at_its_limit,
        a_range_with_bounds_the_wrong_way_round_is_empty,
        appended_keys_grow_and_are_never_reused_after_deletes_and_a_reopening,
        a_thousand_appends_in_one_transaction_return_their_keys_in_order,
        operations_take_effect_in_the_order_given,
        a_transaction_whose_expectation_is_stale_writes_nothing,
        expectations_tell_present_absent_and_changed_rows_apart,
        a_transaction_of_expectations_only_compares_and_writes_nothing,
        a_range_delete_takes_its_bounds_and_nothing_else,
        rows_of_any_text_come_back_unchanged,
        a_row_that_fails_its_checksum_stays_readable_as_text,
        two_handles_on_one_database_see_each_others_commits,
        of_two_transactions_on_the_same_expectation_one_wins,
        a_strict_commit_is_there_after_a_reopening,
        an_empty_transaction_succeeds,
        databases_of_different_names_share_nothing,
    );
}

pub async fn a_row_reads_back_as_it_was_written_and_a_missing_row_is_none<R: RowStore>(
    open: &impl AsyncFn(&str) -> R,
) -> Result<(), Broken> {
    let store = open("contract-get").await;
    put(&store, StoreName::Meta, "a", "1").await?;
    ensure_eq!(get(&store, StoreName::Meta, "a").await?.as_deref(), Some("1"));
    ensure_eq!(get(&store, StoreName::Meta, "b").await?, None);
    ensure_eq!(get(&store, StoreName::Idx, "a").await?, None);
    put(&store, StoreName::Meta, "a", "2").await?;
    ensure_eq!(get(&store, StoreName::Meta, "a").await?.as_deref(), Some("2"));
    let mut txn = txn();
    txn.delete(StoreName::Meta, Key::text("a"));
    txn.delete(StoreName::Meta, Key::text("never there"));
    commit(&store, txn).await?;
    ensure_eq!(get(&store, StoreName::Meta, "a").await?, None);
    Ok(())
}

pub async fn reads_of_several_stores_are_answered_in_the_order_asked_for<R: RowStore>(
    open: &impl AsyncFn(&str) -> R,
) -> Result<(), Broken> {
    let store = open("contract-read").await;
    let mut txn = append(&["entry", "second", "third"]);
    txn.put(StoreName::Meta, Key::text("m"), "meta".to_owned());
    txn.put(StoreName::Meta, Key::text("m/1"), "below".to_owned());
    txn.put(StoreName::Seg, Key::Number(7), "segment".to_owned());
    commit(&store, txn).await?;
    let log =
        |from, to, limit| Read::Range { store: StoreName::Log, from: Key::Number(from), to: Key::Number(to), limit };
    let asked = [
        Read::one(StoreName::Seg, Key::Number(7)),
        log(3, 1, 9),
        Read::one(StoreName::Meta, Key::text("missing")),
        log(0, u64::MAX, 2),
        Read::prefix(StoreName::Meta, "m/", 9),
        log(1, 3, 0),
        Read::one(StoreName::Log, Key::Number(1)),
        log(4, 9, 9),
        Read::prefix(StoreName::Idx, "", 9),
        Read::one(StoreName::Seg, Key::Number(7)),
        log(3, 3, usize::MAX),
    ];
    let found = read_all(&store, &asked).await?;
    let found: Vec<String> = found.iter().map(rows_text).collect();
    ensure_eq!(
        found,
        ["7=segment", "", "", "1=entry 2=second", "m/1=below", "", "1=entry", "", "", "7=segment", "3=third"]
    );
    let nothing = read_all(&store, &[]).await?;
    ensure!(nothing.is_empty(), "no reads gave {nothing:?}");
    let empty = read_all(&store, &[log(2, 1, 9), log(1, 2, 0)]).await?;
    ensure_eq!(empty, [KeyedRows::new(), KeyedRows::new()]);
    Ok(())
}

pub async fn several_reads_of_one_call_see_one_state_while_another_context_commits<R: RowStore>(
    open: &impl AsyncFn(&str) -> R,
) -> Result<(), Broken> {
    let reader = open("contract-state").await;
    let writer = open("contract-state").await;
    let round_rows = |round: u64| {
        let mut txn = txn();
        for (store, key) in [(StoreName::Meta, Key::text("a")), (StoreName::Meta, Key::text("b"))] {
            txn.put(store, key, round.to_string());
        }
        txn.put(StoreName::Idx, Key::text("a"), round.to_string());
        txn.put(StoreName::Seg, Key::Number(1), round.to_string());
        txn
    };
    commit(&writer, round_rows(0)).await?;
    let asked = [
        Read::one(StoreName::Meta, Key::text("a")),
        Read::prefix(StoreName::Idx, "", 9),
        Read::one(StoreName::Seg, Key::Number(1)),
        Read::Range { store: StoreName::Meta, from: Key::text("b"), to: Key::text("c"), limit: 9 },
    ];
    for round in 1..=20_u64 {
        // Both ways round: the commit asked for while the read runs, and the read while the commit runs.
        let (found, written) = if round % 2 == 0 {
            both(read_all(&reader, &asked), commit(&writer, round_rows(round))).await
        } else {
            let (written, found) = both(commit(&writer, round_rows(round)), read_all(&reader, &asked)).await;
            (found, written)
        };
        written?;
        let found: Vec<String> = found?.into_iter().flatten().map(|(_, row)| row).collect();
        let state = found.first().cloned().unwrap_or_default();
        ensure!(found.len() == 4 && found.iter().all(|row| *row == state), "round {round} saw {found:?}");
        ensure!(state == round.to_string() || state == (round - 1).to_string(), "round {round} saw {state}");
    }
    Ok(())
}

pub async fn text_keys_are_in_code_unit_order<R: RowStore>(open: &impl AsyncFn(&str) -> R) -> Result<(), Broken> {
    let store = open("contract-text-order").await;
    let mut txn = txn();
    for key in ["page:b", "page:a", "page", "Page", "page:10", "page:9", "", "pagf", "page:a:1", "~"] {
        txn.put(StoreName::Idx, Key::text(key), key.to_owned());
    }
    commit(&store, txn).await?;
    let all = range(&store, StoreName::Idx, Key::text(""), Key::after_prefix("~"), 100).await?;
    let all: Vec<String> = all.iter().map(|(key, _)| key.to_string()).collect();
    ensure_eq!(all, ["", "Page", "page", "page:10", "page:9", "page:a", "page:a:1", "page:b", "pagf", "~"]);
    let pages = range(&store, StoreName::Idx, Key::text("page:"), Key::after_prefix("page:"), 100).await?;
    ensure_eq!(pages.len(), 5);
    ensure!(pages.iter().all(|(key, row)| key.to_string() == *row), "rows are not under their keys: {pages:?}");
    Ok(())
}

pub async fn number_keys_are_in_numeric_order_also_beyond_2_to_the_32<R: RowStore>(
    open: &impl AsyncFn(&str) -> R,
) -> Result<(), Broken> {
    let store = open("contract-number-order").await;
    let keys = [1, 9, 10, 100, (1 << 32) - 1, 1 << 32, (1 << 32) + 1, 5_000_000_000, (1 << 53) - 2];
    let mut txn = txn();
    for key in keys.iter().rev() {
        txn.put(StoreName::Seg, Key::Number(*key), key.to_string());
    }
    commit(&store, txn).await?;
    let all = range(&store, StoreName::Seg, Key::Number(0), Key::Number(u64::MAX), 100).await?;
    let expected: Vec<(Key, String)> = keys.iter().map(|key| (Key::Number(*key), key.to_string())).collect();
    ensure_eq!(all, expected);
    let beyond = range(&store, StoreName::Seg, Key::Number(1 << 32), Key::Number((1 << 32) + 1), 100).await?;
    ensure_eq!(beyond.len(), 2);
    Ok(())
}

pub async fn a_range_includes_its_bounds_and_stops_at_its_limit<R: RowStore>(
    open: &impl AsyncFn(&str) -> R,
) -> Result<(), Broken> {
    let store = open("contract-range").await;
    commit(&store, append(&["1", "2", "3", "4", "5"])).await?;
    let rows = async |from, to, limit| -> Result<Vec<String>, Broken> {
        let rows = range(&store, StoreName::Log, Key::Number(from), Key::Number(to), limit).await?;
        Ok(rows.into_iter().map(|(_, row)| row).collect())
    };
    ensure_eq!(rows(2, 4, 100).await?, ["2", "3", "4"]);
    ensure_eq!(rows(2, 5, 2).await?, ["2", "3"]);
    ensure_eq!(rows(3, 3, 1).await?, ["3"]);
    ensure_eq!(rows(0, u64::MAX, usize::MAX).await?, ["1", "2", "3", "4", "5"]);
    ensure!(rows(1, 5, 0).await?.is_empty(), "limit 0 gave rows");
    ensure!(rows(6, 9, 100).await?.is_empty(), "past the end there are rows");
    Ok(())
}

pub async fn a_range_with_bounds_the_wrong_way_round_is_empty<R: RowStore>(
    open: &impl AsyncFn(&str) -> R,
) -> Result<(), Broken> {
    let store = open("contract-inverted").await;
    commit(&store, append(&["1", "2", "3"])).await?;
    let rows = range(&store, StoreName::Log, Key::Number(3), Key::Number(1), 100).await?;
    ensure!(rows.is_empty(), "it has {rows:?}");
    let mut txn = txn();
    txn.ops.push(RowOp::DeleteRange { store: StoreName::Log, from: Key::Number(3), to: Key::Number(1) });
    commit(&store, txn).await?;
    ensure_eq!(range(&store, StoreName::Log, Key::Number(0), Key::Number(9), 100).await?.len(), 3);
    Ok(())
}

pub async fn appended_keys_grow_and_are_never_reused_after_deletes_and_a_reopening<R: RowStore>(
    open: &impl AsyncFn(&str) -> R,
) -> Result<(), Broken> {
    let store = open("contract-append").await;
    ensure_eq!(commit(&store, append(&["a"])).await?.log_keys, [1]);
    ensure_eq!(commit(&store, append(&["b", "c"])).await?.log_keys, [2, 3]);
    let mut newest = txn();
    newest.delete(StoreName::Log, Key::Number(3));
    commit(&store, newest).await?;
    ensure_eq!(commit(&store, append(&["d"])).await?.log_keys, [4]);
    let mut everything = txn();
    everything.ops.push(RowOp::DeleteRange { store: StoreName::Log, from: Key::Number(0), to: Key::Number(4) });
    commit(&store, everything).await?;
    drop(store);
    let store = open("contract-append").await;
    ensure_eq!(commit(&store, append(&["e"])).await?.log_keys, [5]);
    let rows = range(&store, StoreName::Log, Key::Number(0), Key::Number(u64::MAX), 100).await?;
    ensure_eq!(rows, [(Key::Number(5), "e".to_owned())]);
    Ok(())
}

pub async fn a_thousand_appends_in_one_transaction_return_their_keys_in_order<R: RowStore>(
    open: &impl AsyncFn(&str) -> R,
) -> Result<(), Broken> {
    let store = open("contract-thousand").await;
    let rows: Vec<String> = (1..=1000_u64).map(|row| row.to_string()).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let keys = commit(&store, append(&rows)).await?.log_keys;
    ensure!(keys.iter().copied().eq(1..=1000), "the keys are {keys:?}");
    let stored = range(&store, StoreName::Log, Key::Number(0), Key::Number(u64::MAX), 2000).await?;
    ensure_eq!(stored.len(), 1000);
    ensure!(stored.iter().all(|(key, row)| key.to_string() == *row), "a row is not under its own key");
    Ok(())
}

pub async fn operations_take_effect_in_the_order_given<R: RowStore>(
    open: &impl AsyncFn(&str) -> R,
) -> Result<(), Broken> {
    let store = open("contract-order").await;
    let mut txn = txn();
    txn.put(StoreName::Meta, Key::text("a"), "1".to_owned());
    txn.delete(StoreName::Meta, Key::text("a"));
    txn.put(StoreName::Meta, Key::text("a"), "2".to_owned());
    txn.put(StoreName::Meta, Key::text("b"), "1".to_owned());
    txn.ops.push(RowOp::DeleteRange { store: StoreName::Meta, from: Key::text("b"), to: Key::text("c") });
    txn.put(StoreName::Meta, Key::text("c"), "1".to_owned());
    commit(&store, txn).await?;
    let rows = range(&store, StoreName::Meta, Key::text(""), Key::after_prefix("z"), 100).await?;
    ensure_eq!(rows, [(Key::text("a"), "2".to_owned()), (Key::text("c"), "1".to_owned())]);
    Ok(())
}

pub async fn a_transaction_whose_expectation_is_stale_writes_nothing<R: RowStore>(
    open: &impl AsyncFn(&str) -> R,
) -> Result<(), Broken> {
    let store = open("contract-stale").await;
    put(&store, StoreName::Meta, "cursor", "1").await?;
    put(&store, StoreName::Meta, "kept", "1").await?;
    let mut txn = append(&["never"]);
    txn.expect(StoreName::Meta, Key::text("kept"), Some("1".to_owned()));
    txn.expect(StoreName::Meta, Key::text("cursor"), Some("0".to_owned()));
    txn.put(StoreName::Meta, Key::text("cursor"), "2".to_owned());
    txn.put(StoreName::Seg, Key::Number(1), "never".to_owned());
    txn.delete(StoreName::Meta, Key::text("kept"));
    let result = store.commit(txn).await;
    let stale = CommitError::Stale { store: StoreName::Meta, key: Key::text("cursor") };
    ensure_eq!(result, Err(stale));
    ensure_eq!(get(&store, StoreName::Meta, "cursor").await?.as_deref(), Some("1"));
    ensure_eq!(get(&store, StoreName::Meta, "kept").await?.as_deref(), Some("1"));
    for name in [StoreName::Log, StoreName::Seg] {
        let rows = range(&store, name, Key::Number(0), Key::Number(u64::MAX), 100).await?;
        ensure!(rows.is_empty(), "{} has {rows:?}", name.as_str());
    }
    Ok(())
}

pub async fn expectations_tell_present_absent_and_changed_rows_apart<R: RowStore>(
    open: &impl AsyncFn(&str) -> R,
) -> Result<(), Broken> {
    let store = open("contract-expect").await;
    put(&store, StoreName::Meta, "empty", "").await?;
    put(&store, StoreName::Meta, "full", "x").await?;
    let cases = [
        ("none", None, true),
        ("none", Some(""), false),
        ("empty", None, false),
        ("empty", Some(""), true),
        ("empty", Some("x"), false),
        ("full", None, false),
        ("full", Some("x"), true),
        ("full", Some("x "), false),
        ("full", Some("X"), false),
    ];
    for (key, row, holds) in cases {
        let mut txn = txn();
        txn.expect(StoreName::Meta, Key::text(key), row.map(str::to_owned));
        txn.put(StoreName::Idx, Key::text("touched"), key.to_owned());
        let result = store.commit(txn).await;
        ensure!(result.is_ok() == holds, "expecting {row:?} under {key:?} gave {result:?}");
    }
    Ok(())
}

pub async fn a_transaction_of_expectations_only_compares_and_writes_nothing<R: RowStore>(
    open: &impl AsyncFn(&str) -> R,
) -> Result<(), Broken> {
    let store = open("contract-expect-only").await;
    put(&store, StoreName::Meta, "a", "1").await?;
    let mut holds = txn();
    holds.expect(StoreName::Meta, Key::text("a"), Some("1".to_owned()));
    ensure_eq!(store.commit(holds).await, Ok(Committed::default()));
    let mut fails = txn();
    fails.expect(StoreName::Meta, Key::text("a"), None);
    ensure_eq!(store.commit(fails).await, Err(CommitError::Stale { store: StoreName::Meta, key: Key::text("a") }));
    Ok(())
}

pub async fn a_range_delete_takes_its_bounds_and_nothing_else<R: RowStore>(
    open: &impl AsyncFn(&str) -> R,
) -> Result<(), Broken> {
    let store = open("contract-delete-range").await;
    let mut first = append(&["1", "2", "3", "4", "5"]);
    for key in ["a", "b:1", "b:2", "c"] {
        first.put(StoreName::Meta, Key::text(key), key.to_owned());
    }
    commit(&store, first).await?;
    let mut txn = txn();
    txn.ops.push(RowOp::DeleteRange { store: StoreName::Log, from: Key::Number(2), to: Key::Number(4) });
    txn.ops.push(RowOp::DeleteRange { store: StoreName::Meta, from: Key::text("b:"), to: Key::after_prefix("b:") });
    commit(&store, txn).await?;
    let log = range(&store, StoreName::Log, Key::Number(0), Key::Number(u64::MAX), 100).await?;
    ensure_eq!(log, [(Key::Number(1), "1".to_owned()), (Key::Number(5), "5".to_owned())]);
    let meta = range(&store, StoreName::Meta, Key::text(""), Key::after_prefix("z"), 100).await?;
    ensure_eq!(meta, [(Key::text("a"), "a".to_owned()), (Key::text("c"), "c".to_owned())]);
    Ok(())
}

pub async fn rows_of_any_text_come_back_unchanged<R: RowStore>(open: &impl AsyncFn(&str) -> R) -> Result<(), Broken> {
    let store = open("contract-text").await;
    let large = "Überweisung 💶 über 12 €; ".repeat(300_000 / 30);
    let rows = [
        "",
        " ",
        "\0",
        "\u{7f}\u{80}\u{7ff}\u{800}",
        "👩🏽‍🌾🇺🇬𝄞",
        "\u{feff}text after a mark",
        "\u{ffff}\u{10ffff}",
        &large,
    ];
    let keys = commit(&store, append(&rows)).await?.log_keys;
    drop(store);
    let store = open("contract-text").await;
    for (key, row) in keys.iter().zip(rows) {
        let found = read(&store, StoreName::Log, &Key::Number(*key)).await?;
        ensure!(found.as_deref() == Some(row), "row {key} of {} bytes came back changed", row.len());
        let mut txn = txn();
        txn.expect(StoreName::Log, Key::Number(*key), Some(row.to_owned()));
        commit(&store, txn).await?;
    }
    Ok(())
}

pub async fn a_row_that_fails_its_checksum_stays_readable_as_text<R: RowStore>(
    open: &impl AsyncFn(&str) -> R,
) -> Result<(), Broken> {
    let store = open("contract-corrupt").await;
    let torn = crate::row::encode(crate::RowKind::Cursor, &17_u64).replace("17", "71");
    put(&store, StoreName::Meta, "cursor", &torn).await?;
    let found = get(&store, StoreName::Meta, "cursor").await?;
    ensure_eq!(found.as_deref(), Some(torn.as_str()));
    ensure_eq!(crate::decode::<u32>(crate::RowKind::Cursor, &torn), Err(crate::RowError::Checksum));
    Ok(())
}

pub async fn two_handles_on_one_database_see_each_others_commits<R: RowStore>(
    open: &impl AsyncFn(&str) -> R,
) -> Result<(), Broken> {
    let one = open("contract-two").await;
    let two = open("contract-two").await;
    for round in 0..3_u64 {
        ensure_eq!(commit(&one, append(&["one"])).await?.log_keys, [round * 2 + 1]);
        let key = Key::Number(round * 2 + 1);
        ensure_eq!(read(&two, StoreName::Log, &key).await?.as_deref(), Some("one"));
        ensure_eq!(commit(&two, append(&["two"])).await?.log_keys, [round * 2 + 2]);
        let rows = range(&one, StoreName::Log, key, Key::Number(u64::MAX), 100).await?;
        ensure_eq!(rows.len(), 2);
    }
    Ok(())
}

pub async fn of_two_transactions_on_the_same_expectation_one_wins<R: RowStore>(
    open: &impl AsyncFn(&str) -> R,
) -> Result<(), Broken> {
    let one = open("contract-race").await;
    let two = open("contract-race").await;
    let flush = |by: &str| {
        let mut txn = append(&[by]);
        txn.expect(StoreName::Meta, Key::text("descriptor"), None);
        txn.put(StoreName::Meta, Key::text("descriptor"), by.to_owned());
        txn
    };
    let (first, second) = both(one.commit(flush("one")), two.commit(flush("two"))).await;
    let stale = Err(CommitError::Stale { store: StoreName::Meta, key: Key::text("descriptor") });
    let winner = match (first.is_ok(), second.is_ok()) {
        (true, false) => ("one", second),
        (false, true) => ("two", first),
        outcome => return Err(format!("wins: {outcome:?}")),
    };
    ensure_eq!(winner.1, stale);
    ensure_eq!(get(&one, StoreName::Meta, "descriptor").await?.as_deref(), Some(winner.0));
    ensure_eq!(range(&two, StoreName::Log, Key::Number(0), Key::Number(u64::MAX), 9).await?.len(), 1);
    Ok(())
}

pub async fn a_strict_commit_is_there_after_a_reopening<R: RowStore>(
    open: &impl AsyncFn(&str) -> R,
) -> Result<(), Broken> {
    let store = open("contract-reopen").await;
    let mut relaxed = Txn::new("contract", Durability::Relaxed);
    relaxed.put(StoreName::Seg, Key::Number(1), "relaxed".to_owned());
    commit(&store, relaxed).await?;
    put(&store, StoreName::Meta, "a", "strict").await?;
    drop(store);
    let store = open("contract-reopen").await;
    ensure_eq!(get(&store, StoreName::Meta, "a").await?.as_deref(), Some("strict"));
    ensure_eq!(read(&store, StoreName::Seg, &Key::Number(1)).await?.as_deref(), Some("relaxed"));
    Ok(())
}

pub async fn an_empty_transaction_succeeds<R: RowStore>(open: &impl AsyncFn(&str) -> R) -> Result<(), Broken> {
    let store = open("contract-empty").await;
    ensure_eq!(store.commit(txn()).await, Ok(Committed::default()));
    Ok(())
}

pub async fn databases_of_different_names_share_nothing<R: RowStore>(
    open: &impl AsyncFn(&str) -> R,
) -> Result<(), Broken> {
    let one = open("contract-user-one").await;
    let two = open("contract-user-two").await;
    put(&one, StoreName::Meta, "a", "1").await?;
    ensure_eq!(commit(&one, append(&["a"])).await?.log_keys, [1]);
    ensure_eq!(get(&two, StoreName::Meta, "a").await?, None);
    ensure_eq!(commit(&two, append(&["b"])).await?.log_keys, [1]);
    Ok(())
}

fn txn() -> Txn {
    Txn::new("contract", Durability::Strict)
}

fn append(rows: &[&str]) -> Txn {
    let mut txn = txn();
    txn.ops.extend(rows.iter().map(|row| RowOp::Append { row: (*row).to_owned() }));
    txn
}

async fn commit<R: RowStore>(store: &R, txn: Txn) -> Result<Committed, Broken> {
    store.commit(txn).await.map_err(|error| format!("a commit failed: {error:?}"))
}

async fn put<R: RowStore>(store: &R, name: StoreName, key: &str, row: &str) -> Result<(), Broken> {
    let mut txn = txn();
    txn.put(name, Key::text(key), row.to_owned());
    commit(store, txn).await.map(drop)
}

async fn get<R: RowStore>(store: &R, name: StoreName, key: &str) -> Result<Option<String>, Broken> {
    read(store, name, &Key::text(key)).await
}

async fn read<R: RowStore>(store: &R, name: StoreName, key: &Key) -> Result<Option<String>, Broken> {
    store.get(name, key).await.map_err(|error| format!("a read failed: {error:?}"))
}

async fn read_all<R: RowStore>(store: &R, reads: &[Read]) -> Result<Vec<KeyedRows>, Broken> {
    store.read(reads).await.map_err(|error| format!("a read failed: {error:?}"))
}

fn rows_text(rows: &KeyedRows) -> String {
    let rows: Vec<String> = rows.iter().map(|(key, row)| format!("{key}={row}")).collect();
    rows.join(" ")
}

async fn range<R: RowStore>(
    store: &R,
    name: StoreName,
    from: Key,
    to: Key,
    limit: usize,
) -> Result<Vec<(Key, String)>, Broken> {
    store.range(name, &from, &to, limit).await.map_err(|error| format!("a range failed: {error:?}"))
}

/// Polls two futures together, the first one first.
async fn both<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    let (mut first, mut second) = (std::pin::pin!(first), std::pin::pin!(second));
    let (mut one, mut two) = (None, None);
    std::future::poll_fn(|context| {
        use std::task::Poll;
        if one.is_none()
            && let Poll::Ready(value) = first.as_mut().poll(context)
        {
            one = Some(value);
        }
        if two.is_none()
            && let Poll::Ready(value) = second.as_mut().poll(context)
        {
            two = Some(value);
        }
        match (one.take(), two.take()) {
            (Some(one), Some(two)) => Poll::Ready((one, two)),
            (left, right) => {
                (one, two) = (left, right);
                Poll::Pending
            }
        }
    })
    .await
}
