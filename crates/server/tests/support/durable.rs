//! What a power cut leaves of SQLite's files: what was synced, and of the rest any sectors.
//!
//! SQLite's functions for writing, truncating, syncing and deleting a file are replaced by ones that also keep account, right
//! above the system calls: a write counts as kept once a sync of its file came back. At a call that is counted down to, the
//! files are written down as the disk might hold them, while no other call goes on. Nothing is taken from the running server.
#![allow(unsafe_code, reason = "SQLite's table of file functions is reached through its C interface only")]

use crate::support::ledger::random;
use rusqlite::ffi;
use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// What a disk writes whole.
const SECTOR_BYTES: usize = 512;

enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate { bytes: usize },
}

#[derive(Default)]
struct File {
    /// As of the last sync.
    synced: Vec<u8>,
    /// Its name is on the disk.
    is_named: bool,
    /// It was deleted, and its directory was not synced since.
    is_deleted: bool,
    /// Since the last sync.
    changes: Vec<Change>,
}

/// What a cut is to find, and what it found.
pub struct Cut {
    calls_left: u64,
    seed: u64,
    at_the_moment: Box<dyn Fn() + Send>,
    image: Option<BTreeMap<PathBuf, Vec<u8>>>,
}

#[derive(Default)]
struct Disk {
    files: BTreeMap<PathBuf, File>,
    names: BTreeMap<usize, PathBuf>,
    /// Files whose syncs do nothing, by how their names end: a disk that lies.
    lies_of: Option<&'static str>,
    cut: Option<Cut>,
}

static DISK: Mutex<Option<Disk>> = Mutex::new(None);

fn with<T>(work: impl FnOnce(&mut Disk) -> T) -> T {
    let mut disk: MutexGuard<'_, Option<Disk>> = DISK.lock().unwrap_or_else(PoisonError::into_inner);
    work(disk.get_or_insert_default())
}

/// Puts our functions in the place of SQLite's. No file may be open then.
pub fn install() {
    VFS.get_or_init(|| {
        // SAFETY: the default VFS lives as long as the process, and no file has been opened through it yet.
        unsafe {
            let vfs = ffi::sqlite3_vfs_find(std::ptr::null());
            OPEN.get_or_init(|| (*vfs).xOpen.replace(open).unwrap());
            DELETE.get_or_init(|| (*vfs).xDelete.replace(delete).unwrap());
        }
    });
}

/// Syncs of files whose name ends so do nothing from now on; `None`: all of them hold what they say.
pub fn lie(of: Option<&'static str>) {
    with(|disk| disk.lies_of = of);
}

/// Cuts the power before that many more calls went through. `at_the_moment` is run then.
pub fn arm(calls: u64, seed: u64, at_the_moment: impl Fn() + Send + 'static) {
    let cut = Cut { calls_left: calls, seed, at_the_moment: Box::new(at_the_moment), image: None };
    with(|disk| disk.cut = Some(cut));
}

pub fn is_cut() -> bool {
    with(|disk| disk.cut.as_ref().is_some_and(|cut| cut.image.is_some()))
}

/// Writes what the cut left of the files of `from` into `to`, and what else there is as it is. False: it did not come to that.
pub fn restore(from: &Path, to: &Path) -> bool {
    let Some(image) = with(|disk| disk.cut.take()).and_then(|cut| cut.image) else { return false };
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().as_bytes().starts_with(b"landfall.db") {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
    for (path, bytes) in image.iter().filter(|(path, _)| path.parent() == Some(from)) {
        std::fs::write(to.join(path.file_name().unwrap()), bytes).unwrap();
    }
    // Those of earlier cuts are gone with their directories, and each image would hold them all.
    with(|disk| disk.files.retain(|path, _| path.parent().is_some_and(Path::exists)));
    true
}

impl Disk {
    /// One call more; at the one that is counted down to the power is gone.
    fn call(&mut self) {
        let Some(cut) = &mut self.cut else { return };
        if cut.image.is_some() {
            return;
        }
        if cut.calls_left > 0 {
            cut.calls_left -= 1;
            return;
        }
        (cut.at_the_moment)();
        let (seed, mut draws) = (cut.seed, 0);
        let mut chance = |of: u64| {
            draws += 1;
            random(seed.wrapping_add(draws)) % of
        };
        let mut image = BTreeMap::new();
        for (path, file) in &self.files {
            // A name that no sync of its directory stands for is there, or not.
            if (file.is_deleted || !file.is_named) && chance(2) == 0 {
                continue;
            }
            image.insert(path.clone(), file.after_cut(&mut chance));
        }
        if let Some(cut) = &mut self.cut {
            cut.image = Some(image);
        }
    }

    /// A sync that came back. The first one of a file that SQLite made syncs its directory too, with all that was deleted there.
    fn sync(&mut self, file: *mut ffi::sqlite3_file) {
        let Some(path) = self.names.get(&(file as usize)).cloned() else { return };
        let Some(file) = self.files.get_mut(&path) else { return };
        file.sync();
        if !std::mem::replace(&mut file.is_named, true) {
            self.files.retain(|other, file| !file.is_deleted || other.parent() != path.parent());
        }
    }

    fn file(&mut self, file: *mut ffi::sqlite3_file) -> Option<&mut File> {
        let name = self.names.get(&(file as usize))?;
        self.files.get_mut(name)
    }
}

impl File {
    /// What was synced, with any sectors of what was not: all of them, none, or each by its own chance.
    fn after_cut(&self, chance: &mut impl FnMut(u64) -> u64) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        let of = match chance(3) {
            0 => 1,
            1 => u64::MAX,
            _ => 2,
        };
        for change in &self.changes {
            match change {
                Change::Truncate { bytes: length } if chance(of) == 0 => bytes.truncate(*length),
                Change::Truncate { .. } => {}
                Change::Write { at, bytes: written } => {
                    let mut from = 0;
                    while from < written.len() {
                        // Up to the next edge of a sector of the disk.
                        let to = written.len().min(from + SECTOR_BYTES - (at + from) % SECTOR_BYTES);
                        if chance(of) == 0 {
                            let end = at + to;
                            bytes.resize(bytes.len().max(end), 0);
                            bytes[at + from..end].copy_from_slice(&written[from..to]);
                        }
                        from = to;
                    }
                }
            }
        }
        bytes
    }

    fn sync(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            match change {
                Change::Truncate { bytes } => self.synced.truncate(bytes),
                Change::Write { at, bytes } => {
                    let end = at + bytes.len();
                    self.synced.resize(self.synced.len().max(end), 0);
                    self.synced[at..end].copy_from_slice(&bytes);
                }
            }
        }
    }
}

type Open = unsafe extern "C" fn(
    *mut ffi::sqlite3_vfs,
    ffi::sqlite3_filename,
    *mut ffi::sqlite3_file,
    c_int,
    *mut c_int,
) -> c_int;
type Delete = unsafe extern "C" fn(*mut ffi::sqlite3_vfs, *const c_char, c_int) -> c_int;
type Write = unsafe extern "C" fn(*mut ffi::sqlite3_file, *const c_void, c_int, i64) -> c_int;
type Truncate = unsafe extern "C" fn(*mut ffi::sqlite3_file, i64) -> c_int;
type Sync = unsafe extern "C" fn(*mut ffi::sqlite3_file, c_int) -> c_int;

static VFS: OnceLock<()> = OnceLock::new();
static OPEN: OnceLock<Open> = OnceLock::new();
static DELETE: OnceLock<Delete> = OnceLock::new();
static WRITE: OnceLock<Write> = OnceLock::new();
static TRUNCATE: OnceLock<Truncate> = OnceLock::new();
static SYNC: OnceLock<Sync> = OnceLock::new();
/// The tables with our functions, by the address of the table that each stands for.
static TABLES: Mutex<BTreeMap<usize, &'static ffi::sqlite3_io_methods>> = Mutex::new(BTreeMap::new());

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: called by SQLite with what the real function expects; a file that was opened has a table of functions.
    unsafe {
        let path = (!name.is_null()).then(|| PathBuf::from(OsStr::from_bytes(CStr::from_ptr(name).to_bytes())));
        let was_there = path.as_ref().is_some_and(|path| path.exists());
        let code = OPEN.get().unwrap()(vfs, name, file, flags, out);
        let (Some(path), true) = (path, code == ffi::SQLITE_OK && !(*file).pMethods.is_null()) else {
            // Another file may have been known by this address.
            with(|disk| disk.names.remove(&(file as usize)));
            return code;
        };
        let real = (*file).pMethods;
        let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = tables.entry(real as usize).or_insert_with(|| {
            // These are the same functions in every table of the default VFS; `xClose`, say, is not.
            WRITE.get_or_init(|| (*real).xWrite.unwrap());
            TRUNCATE.get_or_init(|| (*real).xTruncate.unwrap());
            SYNC.get_or_init(|| (*real).xSync.unwrap());
            Box::leak(Box::new(ffi::sqlite3_io_methods {
                xWrite: Some(write),
                xTruncate: Some(truncate),
                xSync: Some(sync),
                ..*real
            }))
        });
        (*file).pMethods = *ours;
        with(|disk| {
            disk.names.insert(file as usize, path.clone());
            let known = disk.files.get(&path).is_some_and(|known| !known.is_deleted);
            if !known {
                let synced = if was_there { std::fs::read(&path).unwrap() } else { Vec::new() };
                disk.files.insert(path, File { synced, is_named: was_there, ..File::default() });
            }
        });
        code
    }
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, syncs_directory: c_int) -> c_int {
    with(|disk| {
        disk.call();
        // SAFETY: as SQLite called it.
        let (code, path) =
            unsafe { (DELETE.get().unwrap()(vfs, name, syncs_directory), CStr::from_ptr(name).to_bytes().to_vec()) };
        if code == ffi::SQLITE_OK {
            let path = PathBuf::from(OsStr::from_bytes(&path));
            if syncs_directory != 0 {
                disk.files.remove(&path);
            } else if let Some(file) = disk.files.get_mut(&path) {
                file.is_deleted = true;
            }
        }
        code
    })
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, bytes: *const c_void, count: c_int, at: i64) -> c_int {
    with(|disk| {
        // SAFETY: as SQLite called it: `count` bytes are there.
        let (code, written) = unsafe {
            let written = std::slice::from_raw_parts(bytes.cast::<u8>(), count as usize).to_vec();
            (WRITE.get().unwrap()(file, bytes, count, at), written)
        };
        if code == ffi::SQLITE_OK
            && let Some(file) = disk.file(file)
        {
            file.changes.push(Change::Write { at: at as usize, bytes: written });
        }
        disk.call();
        code
    })
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, bytes: i64) -> c_int {
    with(|disk| {
        // SAFETY: as SQLite called it.
        let code = unsafe { TRUNCATE.get().unwrap()(file, bytes) };
        if code == ffi::SQLITE_OK
            && let Some(file) = disk.file(file)
        {
            file.changes.push(Change::Truncate { bytes: bytes as usize });
        }
        disk.call();
        code
    })
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    with(|disk| {
        disk.call();
        // SAFETY: as SQLite called it.
        let code = unsafe { SYNC.get().unwrap()(file, flags) };
        let name =
            disk.names.get(&(file as usize)).map(|path| path.as_os_str().as_bytes().to_vec()).unwrap_or_default();
        let is_lie = disk.lies_of.is_some_and(|end| name.ends_with(end.as_bytes()));
        if code == ffi::SQLITE_OK && !is_lie {
            disk.sync(file);
        }
        disk.call();
        code
    })
}
