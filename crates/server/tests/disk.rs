//! A disk that is full, one whose fsync fails and one that fails now and then: nothing that was answered is lost, and the
//! server goes on when the disk does.
//!
//! SQLite's functions for reading, writing and syncing a file are replaced by ones that fail on demand, just above the system
//! calls, so this needs neither root nor a disk of its own. A full disk takes the first half of what is written.
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]
#![allow(unsafe_code, reason = "SQLite's table of file functions is reached through its C interface only")]

mod support;

use rusqlite::ffi;
use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use support::patient::{PUSHES, assert_there_once, assert_whole, bodies, device, push_all};
use support::{TestServer, ask};

const WELL: u8 = 0;
const FULL: u8 = 1;
const NO_SYNC: u8 = 2;
/// Of a hundred writes one fails, of five syncs one, of fifty reads one.
const FLAKY: u8 = 3;

/// No disk of these tests fails whenever it is read.
const NEVER: u8 = u8::MAX;

/// How the disk is now, for every server of this process.
static DISK: AtomicU8 = AtomicU8::new(WELL);
/// How often it failed.
static FAULTS: AtomicU64 = AtomicU64::new(0);
/// Tests of one process share the disk.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

type Open = unsafe extern "C" fn(
    *mut ffi::sqlite3_vfs,
    ffi::sqlite3_filename,
    *mut ffi::sqlite3_file,
    c_int,
    *mut c_int,
) -> c_int;
type Read = unsafe extern "C" fn(*mut ffi::sqlite3_file, *mut c_void, c_int, i64) -> c_int;
type Write = unsafe extern "C" fn(*mut ffi::sqlite3_file, *const c_void, c_int, i64) -> c_int;
type Sync = unsafe extern "C" fn(*mut ffi::sqlite3_file, c_int) -> c_int;

/// SQLite's own functions.
static OPEN: OnceLock<Open> = OnceLock::new();
static READ: OnceLock<Read> = OnceLock::new();
static WRITE: OnceLock<Write> = OnceLock::new();
static SYNC: OnceLock<Sync> = OnceLock::new();
/// The tables with our functions, by the address of the table that each stands for.
static TABLES: Mutex<BTreeMap<usize, &'static ffi::sqlite3_io_methods>> = Mutex::new(BTreeMap::new());

/// Sets the disk; the first call puts our functions in the place of SQLite's. No file may be open then.
fn set_disk(state: u8) {
    OPEN.get_or_init(|| {
        // SAFETY: the default VFS lives as long as the process, and no file has been opened through it yet.
        unsafe {
            let vfs = ffi::sqlite3_vfs_find(std::ptr::null());
            (*vfs).xOpen.replace(open).unwrap()
        }
    });
    DISK.store(state, Ordering::SeqCst);
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: called by SQLite with what the real function expects; a file that was opened has a table of functions.
    unsafe {
        let code = OPEN.get().unwrap()(vfs, name, file, flags, out);
        if code == ffi::SQLITE_OK && !(*file).pMethods.is_null() {
            let real = (*file).pMethods;
            let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
            let ours = tables.entry(real as usize).or_insert_with(|| {
                // These are the same functions in every table of the default VFS.
                READ.get_or_init(|| (*real).xRead.unwrap());
                WRITE.get_or_init(|| (*real).xWrite.unwrap());
                SYNC.get_or_init(|| (*real).xSync.unwrap());
                Box::leak(Box::new(ffi::sqlite3_io_methods {
                    xRead: Some(read),
                    xWrite: Some(write),
                    xSync: Some(sync),
                    ..*real
                }))
            });
            (*file).pMethods = *ours;
        }
        code
    }
}

/// True if a call is to fail on a disk that fails in `state`, or now and then one of `of`.
fn fails(state: u8, of: u64) -> bool {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let disk = DISK.load(Ordering::SeqCst);
    let flaky = || CALLS.fetch_add(1, Ordering::SeqCst).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    let fails = disk == state || (disk == FLAKY && flaky() % of == 0);
    FAULTS.fetch_add(u64::from(fails), Ordering::SeqCst);
    fails
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, bytes: *mut c_void, count: c_int, at: i64) -> c_int {
    if fails(NEVER, 50) {
        return ffi::SQLITE_IOERR_READ;
    }
    // SAFETY: as SQLite called it.
    unsafe { READ.get().unwrap()(file, bytes, count, at) }
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, bytes: *const c_void, count: c_int, at: i64) -> c_int {
    let real = WRITE.get().unwrap();
    if fails(FULL, 100) {
        // SAFETY: fewer bytes of the same buffer.
        unsafe { real(file, bytes, count / 2, at) };
        return ffi::SQLITE_FULL;
    }
    // SAFETY: as SQLite called it.
    unsafe { real(file, bytes, count, at) }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    if fails(NO_SYNC, 5) {
        return ffi::SQLITE_IOERR_FSYNC;
    }
    // SAFETY: as SQLite called it.
    unsafe { SYNC.get().unwrap()(file, flags) }
}

/// The disk gets bad under load and well again.
async fn survives(state: u8) {
    let _alone = ALONE.lock().await;
    set_disk(WELL);
    let server = TestServer::start().await;
    for pusher in push_all(server.address, 0..PUSHES) {
        assert_eq!(pusher.await.unwrap(), 0, "a good disk refuses nothing");
    }
    assert_there_once(server.address, PUSHES).await;
    let before = FAULTS.load(Ordering::SeqCst);
    set_disk(state);
    let pushers = push_all(server.address, PUSHES..PUSHES * 2);
    // Every device has met it, and more than once.
    while FAULTS.load(Ordering::SeqCst) < before + 20 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(server.address, "GET", "/healthz", &[], b"").await.status, 200);
    assert_there_once(server.address, PUSHES).await;
    set_disk(WELL);
    let mut refused = 0;
    for pusher in pushers {
        refused += pusher.await.unwrap();
    }
    assert!(refused > 0, "nobody met the bad disk");
    assert_there_once(server.address, PUSHES * 2).await;
    let data = server.stop().await;
    assert_whole(data.path());
    let server = TestServer::start_in(data, &[]).await;
    assert_there_once(server.address, PUSHES * 2).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s6_s7_a_full_disk_is_answered_503_and_loses_nothing_and_there_is_room_again() {
    survives(FULL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s6_s7_a_sync_that_fails_is_answered_503_and_its_repeat_has_one_effect() {
    survives(NO_SYNC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s6_s1_on_a_disk_that_fails_now_and_then_every_push_has_one_effect_in_the_end() {
    let _alone = ALONE.lock().await;
    set_disk(WELL);
    let server = TestServer::start().await;
    set_disk(FLAKY);
    let pushers = push_all(server.address, 0..PUSHES * 3);
    while !pushers.iter().all(tokio::task::JoinHandle::is_finished) {
        let answer = device(server.address, 0).pull(None, &["movies"], 100).await;
        assert!([200, 503].contains(&answer.status), "{}", answer.json());
    }
    let mut refused = 0;
    for pusher in pushers {
        refused += pusher.await.unwrap();
    }
    set_disk(WELL);
    assert!(refused > 0, "nobody met the bad disk");
    assert_there_once(server.address, PUSHES * 3).await;
    let data = server.stop().await;
    assert_whole(data.path());
    let server = TestServer::start_in(data, &[]).await;
    assert_there_once(server.address, PUSHES * 3).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s6_s7_a_stop_and_a_start_on_a_full_disk_keep_what_was_answered_and_pulls_go_on() {
    let _alone = ALONE.lock().await;
    set_disk(WELL);
    let server = TestServer::start().await;
    for pusher in push_all(server.address, 0..PUSHES) {
        pusher.await.unwrap();
    }
    set_disk(FULL);
    let data = server.stop().await;
    let server = TestServer::start_in(data, &[]).await;
    assert_there_once(server.address, PUSHES).await;
    let mut late = device(server.address, 0);
    late.first_push = false;
    assert_eq!(late.push(&bodies(&late, PUSHES)).await.status, 503);
    set_disk(WELL);
    assert_eq!(late.results(&bodies(&late, PUSHES)).await[0]["version"], PUSHES + 1);
    let data = server.stop().await;
    assert_whole(data.path());
}
