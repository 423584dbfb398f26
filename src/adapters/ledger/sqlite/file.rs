//! The database file: opening it, its lock, and errors that say what to repair.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use rusqlite::{Connection, OpenFlags};

/// How long SQLite waits for another program's lock before it reports an error.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// More prepared statements than there are.
const STATEMENT_CACHE: usize = 32;

/// Unless a reader holds it open, the write-ahead log is truncated to this size: the
/// `journal_size_limit` below.
pub(in super::super) const LOG_LIMIT_BYTES: u64 = 67_108_864;

/// With FULL, each commit is on the disk before it is acknowledged.
const DURABLE: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
PRAGMA journal_size_limit = 67108864";

/// One thread at a time uses a connection, so SQLite needs no mutex of its own.
const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_NO_MUTEX;

/// SQLITE_READONLY_ROLLBACK: a rollback journal lies beside the file.
const READONLY_ROLLBACK: i32 = 776;
/// SQLITE_NOTADB.
const NOT_A_DATABASE: i32 = 26;

/// The device and the inode of a file: another file of the same name has others.
pub(super) type FileIdentity = (u64, u64);

/// `None`: there is no such file.
pub(super) fn identity(file: &Path) -> Option<FileIdentity> {
    file.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Opens the file for reading. A file that nobody has open is read as one that does not change:
/// otherwise SQLite would have to write `-wal` and `-shm` beside it, and would leave them there.
///
/// Such a connection sees nothing of a service that starts later: use it at once. The service's own
/// reader never is one, because its writer has the file open.
pub(super) fn open_read_only(file: &Path) -> rusqlite::Result<Connection> {
    let flags = FLAGS | OpenFlags::SQLITE_OPEN_READ_ONLY;
    let is_in_use = ["-wal", "-journal"].iter().any(|suffix| beside(file, suffix).exists());
    configure(if is_in_use {
        Connection::open_with_flags(file, flags)?
    } else {
        Connection::open_with_flags(unchanging(file), flags | OpenFlags::SQLITE_OPEN_URI)?
    })
}

fn unchanging(file: &Path) -> String {
    let mut uri = String::from("file:");
    for byte in file.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri + "?immutable=1"
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The write-ahead log of this file.
pub(in super::super) fn log_of(file: &Path) -> PathBuf {
    beside(file, "-wal")
}

pub(super) fn open_writable(file: &Path, more: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = FLAGS | OpenFlags::SQLITE_OPEN_READ_WRITE | more;
    let connection = configure(Connection::open_with_flags(file, flags)?)?;
    connection.execute_batch(DURABLE)?;
    Ok(connection)
}

fn configure(connection: Connection) -> rusqlite::Result<Connection> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(connection)
}

/// Locks `FILE.lock`, so that a second service on the same file is refused.
pub(super) fn lock(file: &Path) -> anyhow::Result<File> {
    let name = beside(file, ".lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&name);
    let lock = lock.with_context(|| {
        format!("cannot write {name:?}: the folder must exist and be writable for the ledger")
    })?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => bail!(
            "the ledger {file:?} is in use by another handoff (it holds {name:?}); SQLite serves \
             one instance; for several, give all of them the same postgres:// URL"
        ),
        Err(TryLockError::Error(error)) => {
            Err(anyhow!(error).context(format!("cannot lock {name:?}")))
        }
    }
}

/// Refuses a folder or a device. SQLite would report it less clearly, and opening a FIFO blocks.
pub(super) fn ensure_file(file: &Path) -> anyhow::Result<()> {
    let is_other = file.metadata().is_ok_and(|metadata| !metadata.is_file());
    ensure!(
        !is_other,
        "the ledger {file:?} is not a file but a folder or a device: name a file in \
         ledger.url"
    );
    Ok(())
}

pub(super) fn newer(file: &Path) -> String {
    format!("the ledger {file:?} was written by a newer handoff; start that one, or a newer one")
}

pub(super) fn replaced(file: &Path) -> String {
    format!(
        "the ledger {file:?} was removed, moved or replaced while handoff has it open: move the same \
         file back, or restore a backup and restart handoff"
    )
}

pub(super) fn foreign(file: &Path) -> String {
    format!("{file:?} is another program's database, not a ledger: name another file in ledger.url")
}

pub(super) fn unreleased(file: &Path) -> String {
    format!(
        "the ledger {file:?} was written by a development build of handoff: move it away, or name \
         another file in ledger.url"
    )
}

/// Whether the file is certainly not ours: no database at all, or with an unfinished transaction of
/// another program, which opening the file for writing would roll back.
pub(super) fn is_foreign(error: &rusqlite::Error) -> bool {
    [Some(READONLY_ROLLBACK), Some(NOT_A_DATABASE)].contains(&extended_code(error))
}

fn extended_code(error: &rusqlite::Error) -> Option<i32> {
    error.sqlite_error().map(|error| error.extended_code)
}

/// Adds to an error of SQLite what an operator has to repair.
pub(super) fn explain(file: &Path, error: rusqlite::Error) -> anyhow::Error {
    let code = extended_code(&error);
    let what = match code.map(|code| code & 0xff) {
        _ if code == Some(READONLY_ROLLBACK) => {
            "has an unfinished change beside it (-journal), which a ledger never has: name another \
             file in ledger.url, or open it once with the program that wrote it"
        }
        Some(5 | 6) => "is locked by another program",
        Some(8) => "cannot be written: the file or its folder is read-only",
        Some(10) => "cannot be read or written: the disk reports an error",
        Some(11 | 26) => {
            "is damaged, or not a ledger: restore it, or move it away to start an empty one"
        }
        Some(13) => "cannot grow: the disk is full",
        Some(14) => "cannot be opened: see that the folder exists and who may read and write there",
        _ => "failed",
    };
    anyhow!(error).context(format!("the ledger {file:?} {what}"))
}
