//! The server as a process whose system calls fail: `pwrite` with `ENOSPC`, `fsync` and `fdatasync` with `EIO`.
//!
//! What `disk` does inside of SQLite, one layer lower and with the shipped program: a library that is loaded before libc answers
//! for the calls on the database's files. It is compiled here, with the C compiler that SQLite is built with.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

mod support;

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::ask;
use support::patient::{PUSHES, assert_there_once, assert_whole, push_all};
use support::process::Process;

/// The disk of one server: its state, and how often it failed, in memory that both share.
struct Disk {
    file: std::fs::File,
    path: PathBuf,
    library: PathBuf,
}

impl Disk {
    fn new(directory: &Path) -> Self {
        let (path, library) = (directory.join("faults"), directory.join("faults.so"));
        std::fs::write(&path, [b'w'; 4096]).unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/faults.c");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let built = Command::new(&compiler)
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl")
            .output();
        let built = built.unwrap_or_else(|error| panic!("{compiler}, which SQLite is built with too: {error}"));
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        Self { file, path, library }
    }

    fn set(&mut self, how: u8) {
        self.file.seek(SeekFrom::Start(0)).unwrap();
        self.file.write_all(&[how]).unwrap();
    }

    fn faults(&mut self) -> u64 {
        let mut text = [0; 20];
        self.file.seek(SeekFrom::Start(8)).unwrap();
        self.file.read_exact(&mut text).unwrap();
        std::str::from_utf8(&text).unwrap().parse().unwrap_or(0)
    }

    fn start(&self, data: &Path) -> Process {
        Process::start_among(data, &[], &[("LD_PRELOAD", &self.library), ("LANDFALL_FAULTS", &self.path)])
    }
}

/// Calls fail under load and then do not; what was answered is there once, also after the process was killed.
async fn survives(how: u8) {
    let directory = tempfile::tempdir().unwrap();
    let data = tempfile::tempdir().unwrap();
    let mut disk = Disk::new(directory.path());
    let mut process = disk.start(data.path());
    for pusher in push_all(process.address, 0..PUSHES) {
        assert_eq!(pusher.await.unwrap(), 0, "a good disk refuses nothing");
    }
    disk.set(how);
    let pushers = push_all(process.address, PUSHES..PUSHES * 2);
    while disk.faults() < 20 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(process.address, "GET", "/healthz", &[], b"").await.status, 200);
    assert_there_once(process.address, PUSHES).await;
    disk.set(b'w');
    let mut refused = 0;
    for pusher in pushers {
        refused += pusher.await.unwrap();
    }
    assert!(refused > 0, "nobody met the bad disk");
    assert_there_once(process.address, PUSHES * 2).await;
    process.kill();
    let mut process = disk.start(data.path());
    assert_there_once(process.address, PUSHES * 2).await;
    process.kill();
    assert_whole(data.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s6_s7_writes_that_fail_with_enospc_are_answered_503_and_lose_nothing() {
    survives(b'f').await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s6_s7_syncs_that_fail_with_eio_are_answered_503_and_lose_nothing() {
    survives(b's').await;
}
