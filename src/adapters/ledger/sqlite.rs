//! SQLite: all of its SQL.
//!
//! One connection writes, in the WAL mode with every commit on the disk; another one reads. A
//! lock file beside the database keeps a second service out; tools that only read need no lock.
//! Many rows go in one statement: see `write`.
//! This file never decides what is written: `writer` does.

mod write;

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use jiff::Timestamp;
use serde::Serialize;
use sqlx::error::DatabaseError;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqlSafeStr as _};
use tokio::sync::Mutex;

use self::write::write;
use super::line::{Line, perhaps, text};
use super::writer::{Decide, PRUNE_ROWS, Store as StorePort, Wanted, need_answers};

const BUSY: Duration = Duration::from_secs(5);

/// Writes the file's mark ("hand"), so it fails where nothing can be written.
const WRITABLE: &str = "PRAGMA application_id = 0x68616e64";

/// Moves what is in the write-ahead log into the file, so that the file alone is the ledger.
const CHECKPOINT: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

const ROWS: &str = r#"SELECT key, session_id, topic, partition, "offset", stage, owner, version,
  first_seen_us, deadline_us, claimed_at_us, parked_until_us, settled_at_us, published_at_us,
  published_to, NULL AS record, memory, NULL AS answer, steps
FROM handoff_events WHERE key IN (SELECT value FROM json_each(?))"#;

const ANSWERS: &str = "SELECT key, answer FROM handoff_events
WHERE key IN (SELECT value FROM json_each(?))";

const PRUNE: &str = "DELETE FROM handoff_events WHERE key IN (
  SELECT key FROM handoff_events WHERE stage = 'published' AND published_at_us < ?
  ORDER BY published_at_us LIMIT ?)";

const STORY: &str = "SELECT * FROM handoff_events WHERE key = ?";

const UNFINISHED: &str = r#"SELECT * FROM handoff_events
WHERE stage <> 'published' AND record IS NOT NULL
  AND topic = ? AND partition IN (SELECT value FROM json_each(?))
ORDER BY partition, "offset""#;

const STAGES: &str = "SELECT stage, count(*) FROM handoff_events
WHERE stage <> 'published' AND topic = ? AND partition IN (SELECT value FROM json_each(?))
GROUP BY stage ORDER BY stage";

fn migrator() -> Migrator {
    let sql = include_str!("../../../migrations/sqlite/0001_events.sql").into_sql_str();
    let first = Migration::new(1, "events".into(), MigrationType::Simple, sql, false);
    let mut migrator = Migrator::with_migrations(vec![first]);
    migrator.dangerous_set_table_name("handoff_migrations");
    migrator
}

/// The writing side, and the right to be it.
pub(super) struct Store {
    file: PathBuf,
    /// Taken out while it is in use: one that failed is not used again. After a full disk SQLite
    /// has rolled back by itself, and sqlx believes the transaction open for ever.
    connection: Option<SqliteConnection>,
    _lock: File,
}

impl Store {
    /// Create or open the file, take its lock and bring it up to date.
    pub(super) async fn open(file: &Path) -> anyhow::Result<Self> {
        let lock = lock(file)?;
        let explain = |error| explain(file, error);
        let mut connection = writable(file).connect().await.map_err(explain)?;
        match migrator().run_direct(None, &mut connection, false).await {
            Ok(()) => {}
            Err(MigrateError::VersionMissing(_)) => bail!(newer(file)),
            Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
                return Err(explain(error));
            }
            Err(error) => bail!(anyhow!(error).context(format!("failed to set up {file:?}"))),
        }
        // A file that can only be read is found out here and not at the first event.
        sqlx::query(WRITABLE).execute(&mut connection).await.map_err(explain)?;
        Ok(Self { file: file.to_owned(), connection: Some(connection), _lock: lock })
    }

    async fn take(&mut self) -> sqlx::Result<SqliteConnection> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => writable(&self.file).connect().await,
        }
    }
}

impl StorePort for Store {
    async fn advance(&mut self, lines: &[Line]) -> anyhow::Result<HashSet<Arc<str>>> {
        let file = self.file.clone();
        let explain = |error| explain(&file, error);
        let mut connection = self.take().await.map_err(explain)?;
        let written = write(&mut connection, lines).await.map_err(explain)?;
        self.connection = Some(connection);
        Ok(written)
    }

    async fn exchange(
        &mut self,
        wanted: &[Wanted<'_>],
        decide: Decide<'_>,
    ) -> anyhow::Result<HashSet<Arc<str>>> {
        let file = self.file.clone();
        let explain = |error| explain(&file, error);
        let mut connection = self.take().await.map_err(explain)?;
        let mut change = connection.begin_with("BEGIN IMMEDIATE").await.map_err(explain)?;
        let lines = decide(read(&mut change, wanted).await.map_err(explain)?)?;
        let mut written = HashSet::new();
        if lines.is_empty() {
            change.rollback().await.map_err(explain)?;
        } else {
            written = write(&mut change, &lines).await.map_err(explain)?;
            change.commit().await.map_err(explain)?;
        }
        self.connection = Some(connection);
        Ok(written)
    }

    async fn prune(&mut self, before: Timestamp) -> anyhow::Result<u64> {
        let file = self.file.clone();
        let explain = |error| explain(&file, error);
        let mut connection = self.take().await.map_err(explain)?;
        let prune = sqlx::query(PRUNE).bind(before.as_microsecond()).bind(PRUNE_ROWS);
        let done = prune.execute(&mut connection).await.map_err(explain)?;
        self.connection = Some(connection);
        Ok(done.rows_affected())
    }

    async fn ping(&mut self) -> anyhow::Result<()> {
        let file = self.file.clone();
        let explain = |error| explain(&file, error);
        let mut connection = self.take().await.map_err(explain)?;
        sqlx::query(WRITABLE).execute(&mut connection).await.map_err(explain)?;
        self.connection = Some(connection);
        Ok(())
    }

    async fn close(self) {
        let Some(mut connection) = self.connection else { return };
        // Closing does this too, but not while a reader is still there.
        let folded: sqlx::Result<i64> =
            sqlx::query_scalar(CHECKPOINT).fetch_one(&mut connection).await;
        if matches!(folded, Ok(busy) if busy != 0) {
            tracing::warn!("somebody reads the ledger: its log (-wal) stays beside it, keep both");
        }
        if let Err(error) = folded.map(drop).and(connection.close().await) {
            tracing::warn!("the ledger was not closed in good order: {error}");
        }
    }
}

/// The reading side.
pub struct Reader {
    file: PathBuf,
    connection: Mutex<SqliteConnection>,
}

impl Reader {
    pub(super) async fn open(file: &Path) -> anyhow::Result<Self> {
        let explain = |error| explain(file, error);
        let connection = options(file).read_only(true).connect().await.map_err(explain)?;
        let reader = Self { file: file.to_owned(), connection: Mutex::new(connection) };
        reader.check_form().await?;
        Ok(reader)
    }

    pub(super) async fn story(&self, key: &str) -> anyhow::Result<Option<Line>> {
        let mut connection = self.connection.lock().await;
        let row = sqlx::query(STORY).bind(key).fetch_optional(&mut *connection).await;
        let read = row.and_then(|row| row.as_ref().map(line).transpose());
        read.map_err(|error| explain(&self.file, error))
    }

    pub(super) async fn unfinished(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> anyhow::Result<Vec<Line>> {
        let mut connection = self.connection.lock().await;
        let query = sqlx::query(UNFINISHED).bind(topic).bind(json(partitions));
        let rows = query.fetch_all(&mut *connection).await;
        let read = rows.and_then(|rows| rows.iter().map(line).collect());
        read.map_err(|error| explain(&self.file, error))
    }

    pub(super) async fn stages(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> anyhow::Result<Vec<(String, i64)>> {
        let mut connection = self.connection.lock().await;
        let query = sqlx::query_as(STAGES).bind(topic).bind(serde_json::to_string(partitions)?);
        query.fetch_all(&mut *connection).await.map_err(|error| explain(&self.file, error))
    }

    /// It has the tables this program knows.
    async fn check_form(&self) -> anyhow::Result<()> {
        let newest = "SELECT max(version) FROM handoff_migrations";
        let mut connection = self.connection.lock().await;
        let version: Option<i64> = sqlx::query_scalar(newest)
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| explain(&self.file, error).context(super::NOT_YET))?;
        let known = migrator().iter().map(|migration| migration.version).max();
        if version > known {
            bail!(newer(&self.file));
        }
        Ok(())
    }
}

fn writable(file: &Path) -> SqliteConnectOptions {
    options(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", "67108864")
}

fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(file).busy_timeout(BUSY).disable_statement_logging()
}

/// One service per file, and a clear word to the second one.
fn lock(file: &Path) -> anyhow::Result<File> {
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

fn newer(file: &Path) -> String {
    format!("the ledger {file:?} was written by a newer handoff; start that one, or a newer one")
}

/// What SQLite means, in words that say what to repair.
fn explain(file: &Path, error: sqlx::Error) -> anyhow::Error {
    let code = error.as_database_error().and_then(primary_code);
    let what = match code {
        Some(5 | 6) => "is locked by another program",
        Some(8) => "cannot be written: the file or its folder is read-only",
        Some(10) => "cannot be read or written: the disk reports an error",
        Some(11 | 26) => "is damaged, or not a ledger: restore it, or move it away to begin anew",
        Some(13) => "cannot grow: the disk is full",
        Some(14) => "cannot be opened: see that the folder exists and who may read and write there",
        _ => "failed",
    };
    anyhow!(error).context(format!("the ledger {file:?} {what}"))
}

fn primary_code(error: &(dyn DatabaseError + 'static)) -> Option<i32> {
    Some(error.code()?.parse::<i32>().ok()? & 0xff)
}

async fn read(change: &mut SqliteConnection, wanted: &[Wanted<'_>]) -> sqlx::Result<Vec<Line>> {
    let keys: Vec<_> = wanted.iter().map(|wanted| wanted.key).collect();
    let rows = sqlx::query(ROWS).bind(json(&keys)).fetch_all(&mut *change).await?;
    let mut lines: Vec<_> = rows.iter().map(line).collect::<sqlx::Result<_>>()?;
    let settled = need_answers(&lines, wanted);
    if settled.is_empty() {
        return Ok(lines);
    }
    for row in sqlx::query(ANSWERS).bind(json(&settled)).fetch_all(change).await? {
        let key = text(&row, "key")?;
        if let Some(line) = lines.iter_mut().find(|line| line.key == key) {
            line.answer = perhaps(&row, "answer")?;
        }
    }
    Ok(lines)
}

fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("texts and numbers are always JSON")
}

fn line(row: &SqliteRow) -> sqlx::Result<Line> {
    Ok(Line {
        key: text(row, "key")?,
        session_id: perhaps(row, "session_id")?,
        topic: text(row, "topic")?,
        partition: row.try_get("partition")?,
        offset: row.try_get("offset")?,
        stage: row.try_get::<String, _>("stage")?.into(),
        owner: text(row, "owner")?,
        version: row.try_get("version")?,
        first_seen_us: row.try_get("first_seen_us")?,
        deadline_us: row.try_get("deadline_us")?,
        claimed_at_us: row.try_get("claimed_at_us")?,
        parked_until_us: row.try_get("parked_until_us")?,
        settled_at_us: row.try_get("settled_at_us")?,
        published_at_us: row.try_get("published_at_us")?,
        published_to: perhaps(row, "published_to")?,
        record: perhaps(row, "record")?,
        memory: perhaps(row, "memory")?,
        answer: perhaps(row, "answer")?,
        steps: text(row, "steps")?,
    })
}
