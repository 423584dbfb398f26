//! SQLite: one file, one connection that writes and two that read.
//!
//! The file is in WAL mode, with every commit on the disk. A lock file beside it keeps a second
//! service out; tools that read, or make one short change for an operator, need no lock. `file` opens the file and explains its errors,
//! `schema` creates the tables, `write` has the changes, `rows` the way back, `reader` the reading
//! side, with the queries for parked events in `parked` and for all entries in `list`. All of it blocks: the writer runs in a [`thread`](super::thread) of its own.

mod file;
mod list;
mod parked;
mod reader;
mod rows;
mod schema;
mod write;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, Params};
use serde::Serialize;
use tokio::time::Instant;

use self::file::{
    FileIdentity, ensure_file, explain, foreign, identity, is_foreign, lock, newer, open_read_only,
    open_writable, replaced, unreleased,
};
pub(super) use self::file::{LOG_LIMIT_BYTES, log_of};
pub(super) use self::reader::SqliteReader;
use self::schema::Schema;
use super::database::{
    BatchWrite, Database, Decide, PRUNE_ROWS, RowChange, RowRequest, RowWrite, StoredRow,
};
use crate::domain::ledger_entry::WakeSession;

/// Writes the file's mark ("hand"): fails where nothing can be written.
const WRITE_MARK: &str = "PRAGMA application_id = 0x68616e64";

/// Moves the write-ahead log into the file, so that a copy of the file alone is the ledger.
const CHECKPOINT: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// Without the records, which no command needs.
const ROWS: &str = r#"SELECT key, session_id, topic, partition, "offset", recorded_us, state, owner, version,
  first_seen_us, deadline_us, claimed_at_us, from_ledger, parked_until_us, waits_for,
  settled_at_us, published_at_us, published_to, NULL AS record, snapshot, channel, answer_key, answer_value, answer_headers,
  history, settled_by, label, published_by
FROM handoff_ledger WHERE key IN (SELECT value FROM json_each(?))"#;

const PRUNABLE: &str = "SELECT event, published_at_us FROM handoff_published
WHERE published_at_us < ? ORDER BY published_at_us LIMIT ?";

const PRUNE: [&str; 3] = [
    "DELETE FROM handoff_published WHERE event = ?",
    "DELETE FROM handoff_answers WHERE event = ?",
    "DELETE FROM handoff_events WHERE event = ?",
];

/// A pruning step ends after this time: each row may need several pages of a cold disk, and commands
/// wait.
const PRUNE_TIME: Duration = Duration::from_millis(100);

const NOTE_PRUNED: &str = "INSERT INTO handoff_pruned VALUES (1, ?) ON CONFLICT (id) DO UPDATE
SET published_until_us = max(published_until_us, excluded.published_until_us)";

/// How to end a transaction.
enum End {
    Commit,
    /// Nothing was written: a commit would cost an fsync.
    Rollback,
}

impl End {
    fn commit_if(changed: bool) -> Self {
        if changed { Self::Commit } else { Self::Rollback }
    }
}

/// The writing side, with the lock of the file.
pub(super) struct SqliteDatabase {
    file: PathBuf,
    /// The file that `connection` was opened for; a later one of this name is another ledger.
    identity: Option<FileIdentity>,
    /// Taken out during each use, so that a connection that failed is not used again.
    connection: Option<Connection>,
    /// `None`: for an operator, beside the service.
    _lock: Option<File>,
}

impl SqliteDatabase {
    /// Creates or opens the file, takes its lock and applies the migrations.
    pub(super) fn open(file: &Path) -> anyhow::Result<Self> {
        ensure_file(file)?;
        // Another program's database is recognized before anything in it changes. Every other error
        // shows again below, where the file is opened for writing.
        match open_read_only(file).and_then(|connection| schema::inspect(&connection)) {
            Ok(Schema::Foreign) => bail!(foreign(file)),
            Ok(Schema::Unreleased) => bail!(unreleased(file)),
            Err(error) if is_foreign(&error) => return Err(explain(file, error)),
            _ => {}
        }
        let lock = lock(file)?;
        let explain = |error| explain(file, error);
        let mut connection = open_writable(file, OpenFlags::SQLITE_OPEN_CREATE).map_err(explain)?;
        if let Schema::Newer = schema::migrate(&mut connection).map_err(explain)? {
            bail!(newer(file));
        }
        // Detects a read-only file now, and not at the first event.
        connection.execute_batch(WRITE_MARK).map_err(explain)?;
        Ok(Self {
            file: file.to_owned(),
            identity: identity(file),
            connection: Some(connection),
            _lock: Some(lock),
        })
    }

    /// For an operator, also while the service has the file open: each change takes milliseconds, and
    /// SQLite makes the service wait for it.
    pub(super) fn beside(file: &Path) -> Self {
        Self { file: file.to_owned(), identity: None, connection: None, _lock: None }
    }

    fn transaction<T>(
        &mut self,
        run: impl FnOnce(&Connection, &Path) -> anyhow::Result<(T, End)>,
    ) -> anyhow::Result<T> {
        let file = self.file.as_path();
        // SQLite would go on writing to a file that has no name any more, and the next start would
        // know none of it.
        if self.identity.is_some() && identity(file) != self.identity {
            bail!(replaced(file));
        }
        let explain = |error| explain(file, error);
        let connection = match self.connection.take() {
            Some(connection) => connection,
            // Without CREATE: a file that was deleted must not be replaced by an empty ledger, which
            // would forget every event.
            None => open_writable(file, OpenFlags::empty()).map_err(explain)?,
        };
        // Prepared once, unlike rusqlite's own transactions. A failed transaction ends with its
        // connection, which is dropped.
        let execute = |sql| connection.prepare_cached(sql)?.execute(());
        execute("BEGIN IMMEDIATE").map_err(explain)?;
        let (result, end) = run(&connection, file)?;
        let end = match end {
            End::Commit => "COMMIT",
            End::Rollback => "ROLLBACK",
        };
        execute(end).map_err(explain)?;
        self.connection = Some(connection);
        Ok(result)
    }
}

impl Database for SqliteDatabase {
    async fn write(&mut self, changes: &[RowChange], now: Timestamp) -> anyhow::Result<BatchWrite> {
        self.transaction(|connection, file| {
            Ok((write_all(connection, file, changes, now)?, End::Commit))
        })
    }

    async fn read_and_write(
        &mut self,
        requests: &[RowRequest<'_>],
        decide: Decide<'_>,
        now: Timestamp,
    ) -> anyhow::Result<BatchWrite> {
        // The view has the answers anyway: reading them conditionally would be no cheaper here.
        let keys = json(&requests.iter().map(|request| request.key).collect::<Vec<_>>());
        self.transaction(|connection, file| {
            let changes = decide(read(connection, file, ROWS, [keys])?);
            let end = End::commit_if(!changes.is_empty());
            Ok((write_all(connection, file, &changes, now)?, end))
        })
    }

    async fn wake(&mut self, wakes: &[WakeSession], now: Timestamp) -> anyhow::Result<Vec<bool>> {
        self.transaction(|connection, file| {
            let mut woken = wakes.iter().map(|wake| write::wake(connection, wake, now));
            woken.try_for_each(|woken| woken).map_err(|error| explain(file, error))?;
            Ok((vec![true; wakes.len()], End::Commit))
        })
    }

    async fn prune(&mut self, before: Timestamp) -> anyhow::Result<u64> {
        self.transaction(|connection, file| {
            let rows = prune(connection, before).map_err(|error| explain(file, error))?;
            Ok((rows, End::commit_if(rows > 0)))
        })
    }

    async fn ping(&mut self) -> anyhow::Result<()> {
        self.transaction(|connection, file| {
            connection.execute_batch(WRITE_MARK).map_err(|error| explain(file, error))?;
            Ok(((), End::Commit))
        })
    }

    async fn close(self) {
        let Some(connection) = self.connection else { return };
        // Closing does this too, but not while a reader is still open.
        let checkpoint = connection.query_row(CHECKPOINT, (), |row| row.get::<_, i64>(0));
        if matches!(checkpoint, Ok(busy) if busy != 0) {
            tracing::warn!("ledger is being read: keep its log (-wal) beside the file");
        }
        let closed = connection.close().map_err(|(_, error)| error);
        if let Err(error) = checkpoint.map(drop).and(closed) {
            tracing::warn!(error = %error, "ledger not closed cleanly");
        }
    }
}

/// Deletes the entries that were published first, for [`PRUNE_TIME`]; returns how many.
fn prune(connection: &Connection, before: Timestamp) -> rusqlite::Result<u64> {
    let started = Instant::now();
    let limits = (before.as_microsecond(), PRUNE_ROWS);
    let mut prunable = connection.prepare_cached(PRUNABLE)?;
    let found = prunable.query_map(limits, |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (mut rows, mut until_us) = (0, None);
    for (event, published_at_us) in found.collect::<rusqlite::Result<Vec<(i64, i64)>>>()? {
        for sql in PRUNE {
            connection.prepare_cached(sql)?.execute([event])?;
        }
        (rows, until_us) = (rows + 1, Some(published_at_us));
        if started.elapsed() >= PRUNE_TIME {
            break;
        }
    }
    if let Some(until_us) = until_us {
        connection.execute(NOTE_PRUNED, [until_us])?;
    }
    Ok(rows)
}

fn write_all(
    connection: &Connection,
    file: &Path,
    changes: &[RowChange],
    now: Timestamp,
) -> anyhow::Result<BatchWrite> {
    let write = || -> rusqlite::Result<_> {
        let written = changes.iter().map(|change| write::write(connection, change));
        let written = written.collect::<rusqlite::Result<Vec<_>>>()?;
        // After all writes: an event that was parked before the answer of this batch is found.
        for (change, _) in changes.iter().zip(&written).filter(|(_, written)| **written) {
            if let Some(wake) = &change.wake {
                write::wake(connection, wake, now)?;
            }
        }
        let row = |written| if written { RowWrite::Written } else { RowWrite::Outdated };
        // Another process locks the whole file, never a row.
        let rows = written.into_iter().map(row).collect();
        Ok(BatchWrite { rows, locked_wakes: Vec::new() })
    };
    write().map_err(|error| explain(file, error))
}

fn read(
    connection: &Connection,
    file: &Path,
    sql: &str,
    parameters: impl Params,
) -> anyhow::Result<Vec<StoredRow>> {
    let explain = |error| explain(file, error);
    let mut query = connection.prepare_cached(sql).map_err(explain)?;
    let mut rows = query.query(parameters).map_err(explain)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(explain)? {
        found.push(rows::stored_row(row)?);
    }
    Ok(found)
}

fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("texts and numbers are always JSON")
}
