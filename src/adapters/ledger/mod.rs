//! The ledger in SQL: SQLite (embedded, one instance) or PostgreSQL (many instances).
//!
//! [`SqlLedger`] queues commands for the `writer`, which groups them into few transactions and, for
//! a database that blocks, runs in a `thread` of its own. `batch` decides about rows that have to
//! be read first, `row_cache` keeps those that need not be. `sqlite` and `postgres` hold all the SQL
//! of their database behind the trait in `database`; `columns` converts values to columns and back.
//! What a command does to an entry is [`apply`](crate::domain::ledger_entry::apply), the same for
//! every database.
//!
//! Invariant: a command gets its result only after the database has stored its effect durably.

mod availability;
mod batch;
mod columns;
mod database;
mod postgres;
mod reader;
mod row_cache;
mod sqlite;
mod thread;
mod url;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::error;

use self::availability::Availability;
use self::batch::PendingCommand;
use self::database::PRUNE_ROWS;
pub use self::database::{NO_TABLES, StoredRow};
use self::postgres::PostgresDatabase;
pub use self::reader::LedgerReader;
use self::sqlite::SqliteDatabase;
pub use self::thread::LedgerTask;
pub use self::url::LedgerUrl;
use self::writer::{Writer, WriterRequest};
use crate::clock::Clock;
use crate::domain::ledger_entry::{
    Claim, ClaimResult, CommandResult, LedgerCommand, Park, WriteResult,
};
use crate::domain::record::Position;
use crate::domain::wire::Message;
use crate::ledger::{Ledger, Recovered};

/// Between two attempts to read what previous owners left.
const RECOVERY_RETRY: Duration = Duration::from_secs(1);
/// Between two pruning steps, so that commands are written in between.
const PRUNE_PAUSE: Duration = Duration::from_millis(50);

/// What the service needs to open a ledger.
#[derive(Clone)]
pub struct LedgerSettings {
    /// Where the ledger is.
    pub url: LedgerUrl,
    /// Identifies this incarnation of this instance: unique among all that ever used the ledger.
    pub owner: Arc<str>,
    /// The clock.
    pub clock: Clock,
}

/// The ledger of the service; clones share it.
#[derive(Clone)]
pub struct SqlLedger {
    requests: mpsc::UnboundedSender<WriterRequest>,
    reader: LedgerReader,
    availability: Arc<Availability>,
}

/// Opens the ledger for the service: creates it where it is absent, and applies the migrations. For
/// SQLite it also takes the file's lock. Nothing is written until the returned task runs.
pub async fn open(settings: &LedgerSettings) -> anyhow::Result<(SqlLedger, LedgerTask)> {
    let LedgerSettings { url, owner, clock } = settings.clone();
    let (requests, received) = mpsc::unbounded_channel();
    let availability = Arc::new(Availability::of_writes());
    let watched = availability.clone();
    let (reader, task): (LedgerReader, LedgerTask) = match &url {
        LedgerUrl::Sqlite(file) => {
            let file = file.clone();
            let database = spawn_blocking(move || SqliteDatabase::open(&file)).await??;
            // The tables exist only now.
            let reader = LedgerReader::open(&url).await?;
            (reader, thread::run(Writer::new(database, owner, clock, watched, received).run())?)
        }
        LedgerUrl::Postgres(server) => {
            let database = PostgresDatabase::open(server).await?;
            let reader = LedgerReader::open(&url).await?;
            (reader, Box::pin(Writer::new(database, owner, clock, watched, received).run()))
        }
    };
    Ok((SqlLedger { requests, reader, availability }, task))
}

impl SqlLedger {
    /// Why the ledger cannot be written; `None` while it can. A failed recovery does not count,
    /// because only its own partitions wait for it.
    pub fn problem(&self) -> Option<String> {
        self.availability.problem()
    }

    /// Deletes entries that were published before this time, a few at a time; returns how many.
    pub async fn prune(&self, before: Timestamp) -> u64 {
        let mut pruned = 0;
        loop {
            let (reply, result) = oneshot::channel();
            let rows = self.request(WriterRequest::Prune { before, reply }, result).await;
            pruned += rows;
            if i64::try_from(rows).is_ok_and(|rows| rows < PRUNE_ROWS) {
                return pruned;
            }
            sleep(PRUNE_PAUSE).await;
        }
    }

    /// The same ledger, for reading.
    pub fn reader(&self) -> &LedgerReader {
        &self.reader
    }

    async fn perform(&self, key: Arc<str>, command: LedgerCommand) -> CommandResult {
        let (reply, result) = oneshot::channel();
        let pending = PendingCommand { key, command, reply };
        self.request(WriterRequest::Perform(pending), result).await
    }

    async fn write(&self, key: Arc<str>, command: LedgerCommand) -> WriteResult {
        match self.perform(key, command).await {
            CommandResult::Write(result) => result,
            CommandResult::Claim(_) => unreachable!("only a claim has a claim result"),
        }
    }

    async fn request<T>(&self, request: WriterRequest, result: oneshot::Receiver<T>) -> T {
        // A writer that ended has dropped its receiver, and the request with its sender.
        drop(self.requests.send(request));
        match result.await {
            Ok(result) => result,
            // The writer ends before its users only when the whole process does.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Ledger for SqlLedger {
    fn is_unavailable(&self) -> bool {
        self.problem().is_some()
    }

    async fn claim(&self, claim: Claim) -> ClaimResult {
        match self.perform(claim.key.clone(), LedgerCommand::Claim(Box::new(claim))).await {
            CommandResult::Claim(result) => result,
            CommandResult::Write(_) => unreachable!("a claim has a claim result"),
        }
    }

    async fn park(&self, key: Arc<str>, park: Park) -> WriteResult {
        self.write(key, LedgerCommand::Park(park)).await
    }

    async fn settle(&self, key: Arc<str>, answer: Arc<Message>, at: Timestamp) -> WriteResult {
        self.write(key, LedgerCommand::Settle { answer, at }).await
    }

    async fn mark_published(&self, key: Arc<str>, position: Option<Position>) {
        // Refused where another instance has stored it already.
        self.write(key, LedgerCommand::Publish { position }).await;
    }

    async fn recover(&self, topic: Arc<str>, partitions: Vec<i32>) -> Recovered {
        let availability = Availability::of_recovery(&partitions);
        loop {
            match self.reader.unfinished(&topic, &partitions).await {
                Ok(rows) => {
                    availability.succeeded();
                    return recovered(rows);
                }
                Err(error) => availability.failed(&error),
            }
            sleep(RECOVERY_RETRY).await;
        }
    }
}

/// Leaves out every partition that has an unreadable row.
fn recovered(rows: Vec<StoredRow>) -> Recovered {
    let (mut entries, mut blocked_partitions) = (Vec::new(), Vec::new());
    for StoredRow { key, partition, entry } in rows {
        let damaged = || anyhow!("the ledger is damaged: {key:?} is unfinished without a record");
        match entry.and_then(|entry| entry.recover().ok_or_else(damaged)) {
            Ok(entry) => entries.push(entry),
            Err(error) => {
                let error = format!("{error:#}");
                error!(kafka.partition = partition, error, "partition blocked: unreadable entry");
                blocked_partitions.push(partition);
            }
        }
    }
    entries.retain(|entry| !blocked_partitions.contains(&entry.record.position.partition));
    blocked_partitions.dedup();
    Recovered { entries, blocked_partitions }
}
