//! The database file: opening it, its lock, and errors that say what to repair.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use rusqlite::{Connection, OpenFlags};

/// How long SQLite waits for another program's lock before it reports an error.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// More prepared statements than there are.
const STATEMENT_CACHE: usize = 32;

/// With FULL, each commit is on the disk before it is acknowledged.
const DURABLE: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
PRAGMA journal_size_limit = 67108864";

/// One thread at a time uses a connection, so SQLite needs no mutex of its own.
const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_NO_MUTEX;

/// SQLITE_READONLY_ROLLBACK: a rollback journal lies beside the file.
const READONLY_ROLLBACK: i32 = 776;

pub(super) fn open_read_only(file: &Path) -> rusqlite::Result<Connection> {
    configure(Connection::open_with_flags(file, FLAGS | OpenFlags::SQLITE_OPEN_READ_ONLY)?)
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
    let mut name = file.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
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
    ensure!(!is_other, "the ledger {file:?} is no file: name one in ledger.url");
    Ok(())
}

pub(super) fn newer(file: &Path) -> String {
    format!("the ledger {file:?} was written by a newer handoff; start that one, or a newer one")
}

pub(super) fn foreign(file: &Path) -> String {
    format!("{file:?} is another program's database, not a ledger: name another file in ledger.url")
}

/// Whether another program left an unfinished transaction. Opening the file for writing would roll
/// it back.
pub(super) fn has_foreign_journal(error: &rusqlite::Error) -> bool {
    extended_code(error) == Some(READONLY_ROLLBACK)
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
