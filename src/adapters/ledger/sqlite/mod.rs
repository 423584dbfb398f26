//! SQLite: its file, its connections, and what is read of it.
//!
//! One connection writes, in the WAL mode with every commit on the disk; another one reads. A
//! lock file beside the database keeps a second service out; tools that only read need no lock.
//! `write` holds the changes, `rows` what a row means, `schema` the form of the file. It blocks: see `thread`.
//! This file never decides what is written: `writer` does.

mod rows;
mod schema;
mod write;

use parking_lot::Mutex;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, Params};
use serde::Serialize;
use tokio::task::spawn_blocking;

use self::schema::Form;
use super::writer::{Change, Decide, Found, PRUNE_ROWS, Store as StorePort, Wanted};

const BUSY: Duration = Duration::from_secs(5);

/// Statements that stay prepared: more than there are.
const STATEMENTS: usize = 32;

/// Every commit is on the disk before it is acknowledged.
const DURABLE: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
PRAGMA journal_size_limit = 67108864";

/// Writes the file's mark ("hand"), so it fails where nothing can be written.
const WRITABLE: &str = "PRAGMA application_id = 0x68616e64";

/// Moves what is in the write-ahead log into the file, so that the file alone is the ledger.
const CHECKPOINT: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// Without the records: nobody who writes needs one.
const ROWS: &str = r#"SELECT key, session_id, topic, partition, "offset", state, owner, version,
  first_seen_us, deadline_us, claimed_at_us, parked_until_us, settled_at_us, published_at_us,
  published_to, NULL AS record, memory, channel, answer_key, answer_value, answer_headers, history,
  settled_by, title, published_by
FROM handoff_ledger WHERE key IN (SELECT value FROM json_each(?))"#;

const OLD: &str = "SELECT json_group_array(event) FROM (SELECT event FROM handoff_published
  WHERE published_at_us < ? ORDER BY published_at_us LIMIT ?)";

const PRUNE: [&str; 3] = [
    "DELETE FROM handoff_published WHERE event IN (SELECT value FROM json_each(?))",
    "DELETE FROM handoff_answers WHERE event IN (SELECT value FROM json_each(?))",
    "DELETE FROM handoff_events WHERE event IN (SELECT value FROM json_each(?))",
];

const STORY: &str = "SELECT * FROM handoff_ledger WHERE key = ?";

const UNFINISHED: &str = r#"SELECT * FROM handoff_ledger
WHERE state <> 'published' AND record IS NOT NULL
  AND topic = ? AND partition IN (SELECT value FROM json_each(?))
ORDER BY partition, "offset""#;

const STAGES: &str = "SELECT state, count(*) FROM handoff_ledger
WHERE state <> 'published' AND topic = ? AND partition IN (SELECT value FROM json_each(?))
GROUP BY state ORDER BY state";

/// The writing side, and the right to be it.
pub(super) struct Store {
    file: PathBuf,
    /// Taken out while it is in use: one that failed is not used again.
    connection: Option<Connection>,
    _lock: File,
}

impl Store {
    /// Create or open the file, take its lock and bring it up to date.
    pub(super) fn open(file: &Path) -> anyhow::Result<Self> {
        ensure_file(file)?;
        // Before anything is changed there; what else is wrong with it is told below.
        match read_only(file).and_then(|it| schema::look(&it)) {
            Ok(Form::Foreign) => bail!(foreign(file)),
            // Whoever opens it for writing takes that change back.
            Err(error) if code(&error) == Some(UNFINISHED_CHANGE) => {
                return Err(explain(file, error));
            }
            _ => {}
        }
        let lock = lock(file)?;
        let explain = |error| explain(file, error);
        let mut connection = writable(file, OpenFlags::SQLITE_OPEN_CREATE).map_err(explain)?;
        if let Form::Newer = schema::migrate(&mut connection).map_err(explain)? {
            bail!(newer(file));
        }
        // A file that can only be read is found out here and not at the first event.
        connection.execute_batch(WRITABLE).map_err(explain)?;
        Ok(Self { file: file.to_owned(), connection: Some(connection), _lock: lock })
    }

    /// Do it in one transaction; `false`: nothing is to be written.
    fn change<T>(
        &mut self,
        deeds: impl FnOnce(&Connection, &Path) -> anyhow::Result<(T, bool)>,
    ) -> anyhow::Result<T> {
        let file = self.file.as_path();
        let explain = |error| explain(file, error);
        let connection = match self.connection.take() {
            Some(connection) => connection,
            // A file that has gone is not made anew: it would remember nothing.
            None => writable(file, OpenFlags::empty()).map_err(explain)?,
        };
        // Prepared once, unlike the library's own transactions. One that fails ends with the
        // connection.
        let run = |sql| connection.prepare_cached(sql)?.execute(());
        run("BEGIN IMMEDIATE").map_err(explain)?;
        let (done, changed) = deeds(&connection, file)?;
        run(if changed { "COMMIT" } else { "ROLLBACK" }).map_err(explain)?;
        self.connection = Some(connection);
        Ok(done)
    }
}

impl StorePort for Store {
    async fn advance(&mut self, changes: &[Change]) -> anyhow::Result<Vec<bool>> {
        self.change(|connection, file| Ok((write_all(connection, file, changes)?, true)))
    }

    async fn exchange(
        &mut self,
        wanted: &[Wanted<'_>],
        decide: Decide<'_>,
    ) -> anyhow::Result<Vec<bool>> {
        let keys = json(&wanted.iter().map(|wanted| wanted.key).collect::<Vec<_>>());
        self.change(|connection, file| {
            let changes = decide(read(connection, file, (ROWS, [keys]))?);
            Ok((write_all(connection, file, &changes)?, !changes.is_empty()))
        })
    }

    async fn prune(&mut self, before: Timestamp) -> anyhow::Result<u64> {
        let prune = |connection: &Connection| {
            let old = (before.as_microsecond(), PRUNE_ROWS);
            let old: String = connection.query_row(OLD, old, |row| row.get(0))?;
            let delete = |sql: &&str| connection.execute(sql, [&old]);
            PRUNE.iter().map(delete).collect::<rusqlite::Result<Vec<_>>>()
        };
        self.change(|connection, file| {
            let rows = prune(connection).map_err(|error| explain(file, error))?[0];
            Ok((rows as u64, rows > 0))
        })
    }

    async fn ping(&mut self) -> anyhow::Result<()> {
        self.change(|connection, file| {
            let marked = connection.execute_batch(WRITABLE);
            Ok((marked.map_err(|error| explain(file, error))?, true))
        })
    }

    async fn close(self) {
        let Some(connection) = self.connection else { return };
        // Closing does this too, but not while a reader is still there.
        let folded = connection.query_row(CHECKPOINT, (), |row| row.get::<_, i64>(0));
        if matches!(folded, Ok(busy) if busy != 0) {
            tracing::warn!("somebody reads the ledger: its log (-wal) stays beside it, keep both");
        }
        let closed = connection.close().map_err(|(_, error)| error);
        if let Err(error) = folded.map(drop).and(closed) {
            tracing::warn!("the ledger was not closed in good order: {error}");
        }
    }
}

fn write_all(
    connection: &Connection,
    file: &Path,
    changes: &[Change],
) -> anyhow::Result<Vec<bool>> {
    let written = changes.iter().map(|change| write::write(connection, change));
    written.collect::<rusqlite::Result<_>>().map_err(|error| explain(file, error))
}

fn read(
    connection: &Connection,
    file: &Path,
    (sql, parameters): (&str, impl Params),
) -> anyhow::Result<Vec<Found>> {
    let explain = |error| explain(file, error);
    let mut query = connection.prepare_cached(sql).map_err(explain)?;
    let mut rows = query.query(parameters).map_err(explain)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(explain)? {
        found.push(rows::found(row)?);
    }
    Ok(found)
}

/// The reading side.
pub struct Reader {
    file: PathBuf,
    connection: Arc<Mutex<Connection>>,
}

impl Reader {
    pub(super) async fn open(file: &Path) -> anyhow::Result<Self> {
        ensure_file(file)?;
        let connection = read_only(file).map_err(|error| match file.exists() {
            true => explain(file, error),
            false => anyhow!(
                "the ledger {file:?} is not there (yet): the service makes it at its first start; \
                 see that ledger.url names it"
            ),
        })?;
        let connection = Arc::new(Mutex::new(connection));
        let reader = Self { file: file.to_owned(), connection };
        reader.check_form().await?;
        Ok(reader)
    }

    pub(super) async fn story(&self, key: &str) -> anyhow::Result<Option<Found>> {
        let key = key.to_owned();
        let found = self.ask(move |connection, file| read(connection, file, (STORY, [key])));
        Ok(found.await?.pop())
    }

    pub(super) async fn recover(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> anyhow::Result<Vec<Found>> {
        let which = (topic.to_owned(), json(partitions));
        self.ask(move |connection, file| read(connection, file, (UNFINISHED, which))).await
    }

    pub(super) async fn stages(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> anyhow::Result<Vec<(String, i64)>> {
        let which = (topic.to_owned(), json(partitions));
        self.ask(move |connection, file| {
            let stages = || -> rusqlite::Result<_> {
                let mut query = connection.prepare_cached(STAGES)?;
                query.query_map(which, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            };
            stages().map_err(|error| explain(file, error))
        })
        .await
    }

    /// It has the tables this program knows.
    async fn check_form(&self) -> anyhow::Result<()> {
        self.ask(|connection, file| match schema::look(connection) {
            Ok(Form::Ours) => Ok(()),
            Ok(Form::None) => bail!(anyhow!("{file:?} has no such tables").context(super::NOT_YET)),
            Ok(Form::Older) => bail!(
                "the ledger {file:?} was written by an older handoff; start the service once, it \
                 brings it up to date"
            ),
            Ok(Form::Newer) => bail!(newer(file)),
            Ok(Form::Foreign) => bail!(foreign(file)),
            Err(error) => Err(explain(file, error)),
        })
        .await
    }

    /// Ask where blocking harms nobody.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection, &Path) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let (connection, file) = (self.connection.clone(), self.file.clone());
        let ask = move || {
            let connection = connection.lock();
            question(&connection, &file)
        };
        spawn_blocking(ask).await?
    }
}

/// Each connection is used by one thread at a time.
const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_NO_MUTEX;

fn read_only(file: &Path) -> rusqlite::Result<Connection> {
    prepared(Connection::open_with_flags(file, FLAGS | OpenFlags::SQLITE_OPEN_READ_ONLY)?)
}

fn writable(file: &Path, more: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = FLAGS | OpenFlags::SQLITE_OPEN_READ_WRITE | more;
    let connection = prepared(Connection::open_with_flags(file, flags)?)?;
    connection.execute_batch(DURABLE)?;
    Ok(connection)
}

fn prepared(connection: Connection) -> rusqlite::Result<Connection> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
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

fn foreign(file: &Path) -> String {
    format!("{file:?} is another program's database, not a ledger: name another file in ledger.url")
}

/// What is there is a file: others may block whoever opens them.
fn ensure_file(file: &Path) -> anyhow::Result<()> {
    let is_else = file.metadata().is_ok_and(|there| !there.is_file());
    ensure!(!is_else, "the ledger {file:?} is no file: name one in ledger.url");
    Ok(())
}

/// SQLITE_READONLY_ROLLBACK
const UNFINISHED_CHANGE: i32 = 776;

fn code(error: &rusqlite::Error) -> Option<i32> {
    error.sqlite_error().map(|error| error.extended_code)
}

/// What SQLite means, in words that say what to repair.
fn explain(file: &Path, error: rusqlite::Error) -> anyhow::Error {
    let code = code(&error);
    let what = match code.map(|code| code & 0xff) {
        _ if code == Some(UNFINISHED_CHANGE) => {
            "has an unfinished change beside it (-journal), which a ledger never has: name another \
             file in ledger.url, or open it once with the program that wrote it"
        }
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

fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("texts and numbers are always JSON")
}
