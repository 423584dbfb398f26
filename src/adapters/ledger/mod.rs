//! The ledger in SQL: SQLite (embedded, one instance) or PostgreSQL (many instances).
//!
//! [`SqlLedger`] queues commands for the `writer`, which groups them into few transactions and, for
//! a database that blocks, runs in a `thread` of its own. `batch` decides about rows that have to
//! be read first, `row_cache` keeps those that need not be. `sqlite` and `postgres` hold all the SQL
//! of their database behind the trait in `database`; `columns` converts values to columns and back,
//! `read` rows to what recovery and parked events need. `file_watch` measures the files of SQLite.
//! `listing` reads all entries page by page; `operator` makes an operator's change beside the service.
//! What a command does to an entry is [`apply`](crate::domain::ledger_entry::apply), the same for
//! every database.
//!
//! Invariant: a command gets its result only after the database has stored its effect durably.

mod availability;
mod batch;
mod columns;
mod database;
mod file_watch;
mod listing;
mod operator;
mod parked_waits;
mod postgres;
mod read;
mod reader;
mod row_cache;
mod sqlite;
mod thread;
mod url;
mod writer;

use std::sync::Arc;

use jiff::Timestamp;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

pub use self::availability::LedgerOutage;
use self::availability::{Availability, WriteWatch};
use self::batch::PendingCommand;
pub use self::database::NO_TABLES;
use self::database::PRUNE_PAUSE;
pub use self::file_watch::watch_files;
pub use self::listing::{ListQuery, ListedEntry, ListedState, Listing};
pub use self::operator::{LedgerOperator, Operation};
pub use self::parked_waits::ParkedWait;
use self::postgres::{PostgresDatabase, PostgresPruner};
pub use self::reader::LedgerReader;
use self::sqlite::SqliteDatabase;
pub use self::thread::LedgerTask;
pub use self::url::LedgerUrl;
use self::writer::{Writer, WriterRequest};
use crate::clock::Clock;
use crate::domain::ledger_entry::{
    Claim, ClaimResult, CommandResult, LedgerCommand, Park, Settle, StoredIdentities, WakeSession,
    WriteResult,
};
use crate::domain::record::Position;
use crate::ledger::{
    CountQuery, DueEntries, DueQuery, Ledger, ParkedCount, ParkedGroup, RecordRange, Recovered,
    StoredEntries, WaitingQuery,
};

/// What the service needs to open a ledger.
#[derive(Clone)]
pub struct LedgerSettings {
    /// Where the ledger is.
    pub url: LedgerUrl,
    /// Identifies this incarnation of this instance: unique among all that ever used the ledger.
    pub owner: Arc<str>,
    /// The clock.
    pub clock: Clock,
    /// Observes how long each batch takes to be stored, in seconds.
    pub write_duration: Histogram,
}

/// The ledger of the service; clones share it.
#[derive(Clone)]
pub struct SqlLedger {
    requests: mpsc::UnboundedSender<WriterRequest>,
    reader: LedgerReader,
    /// `None`: the writer does it, because SQLite has only one.
    pruner: Option<Arc<PostgresPruner>>,
    availability: Arc<Availability>,
    /// Of reads of parked events.
    parked_events: Arc<Availability>,
}

/// Opens the ledger for the service: creates it where it is absent, and applies the migrations. For
/// SQLite it also takes the file's lock. Nothing is written until the returned task runs.
pub async fn open(settings: &LedgerSettings) -> anyhow::Result<(SqlLedger, LedgerTask)> {
    let LedgerSettings { url, owner, clock, write_duration } = settings.clone();
    let (requests, received) = mpsc::unbounded_channel();
    let availability = Arc::new(Availability::of_writes());
    let watched = WriteWatch { availability: availability.clone(), duration: write_duration };
    let mut pruner = None;
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
            pruner = Some(Arc::new(PostgresPruner::new(server)?));
            let reader = LedgerReader::open(&url).await?;
            (reader, Box::pin(Writer::new(database, owner, clock, watched, received).run()))
        }
    };
    let parked_events = Arc::new(Availability::of_parked_events(&availability));
    Ok((SqlLedger { requests, reader, pruner, availability, parked_events }, task))
}

impl SqlLedger {
    /// Why the ledger cannot be used: written, or read for parked events. A failed recovery does not
    /// count, because the partitions that wait for it are reported as blocked.
    pub fn outage(&self) -> Option<LedgerOutage> {
        self.availability.outage().or_else(|| self.parked_events.outage())
    }

    /// Deletes entries that were published before this time, a few at a time; returns how many. Fails
    /// where the database does: what is left is deleted the next time.
    pub async fn prune(&self, before: Timestamp) -> anyhow::Result<u64> {
        if let Some(pruner) = &self.pruner {
            return pruner.prune(before).await;
        }
        let mut pruned = 0;
        loop {
            let (reply, result) = oneshot::channel();
            let rows = self.request(WriterRequest::Prune { before, reply }, result).await?;
            if rows == 0 {
                return Ok(pruned);
            }
            pruned += rows;
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
        // Events that need no read go on while only reads fail.
        self.availability.problem().is_some()
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

    async fn settle(&self, key: Arc<str>, settle: Settle) -> WriteResult {
        self.write(key, LedgerCommand::Settle(settle)).await
    }

    async fn wake_session(&self, wake: WakeSession) {
        let (reply, result) = oneshot::channel();
        self.request(WriterRequest::Wake { wake, reply }, result).await;
    }

    async fn is_session_parked(
        &self,
        session_id: Arc<str>,
        before: Position,
        in_memory: Vec<i64>,
    ) -> bool {
        let read = || self.reader.is_session_parked(&session_id, &before, &in_memory);
        read::until_available(&self.parked_events, read).await
    }

    async fn is_behind_unpublished(
        &self,
        session_id: Arc<str>,
        position: Position,
        from: i64,
    ) -> bool {
        let read = || self.reader.is_behind_unpublished(&session_id, &position, from);
        read::until_available(&self.parked_events, read).await
    }

    async fn forgot(&self, key: Arc<str>, recorded: Timestamp) -> bool {
        let (reader, available) = (&self.reader, &self.parked_events);
        read::until_available(available, || reader.forgot(&key, recorded)).await
    }

    async fn identities(&self, range: RecordRange) -> StoredIdentities {
        let read = || self.reader.identities(&range);
        read::identities(read::until_available(&self.parked_events, read).await)
    }

    async fn mark_published(&self, key: Arc<str>, position: Option<Position>) {
        // Refused where another instance has stored it already.
        self.write(key, LedgerCommand::Publish { position }).await;
    }

    async fn recover(&self, topic: Arc<str>, partitions: Vec<i32>) -> Recovered {
        let available = Availability::of_recovery(&partitions, &self.availability);
        let read = async || {
            let rows = self.reader.unfinished(&topic, &partitions).await?;
            Ok((rows, self.reader.groups(&topic, &partitions).await?))
        };
        let (rows, groups) = read::until_available(&available, read).await;
        read::recovered(rows, groups)
    }

    async fn count_parked(&self, query: CountQuery) -> Vec<ParkedCount> {
        let read = || self.reader.count_parked(&query);
        read::counts(read::until_available(&self.parked_events, read).await)
    }

    async fn unfinished(&self, topic: Arc<str>, partitions: Vec<i32>) -> StoredEntries {
        let read = || self.reader.unfinished(&topic, &partitions);
        read::stored(read::until_available(&self.parked_events, read).await)
    }

    async fn parked_groups(&self, topic: Arc<str>, partitions: Vec<i32>) -> Vec<ParkedGroup> {
        let read = || self.reader.groups(&topic, &partitions);
        read::groups(&read::until_available(&self.parked_events, read).await)
    }

    async fn due(&self, query: DueQuery) -> DueEntries {
        let read = || self.reader.due(&query);
        read::due(read::until_available(&self.parked_events, read).await)
    }

    async fn waiting(&self, query: WaitingQuery) -> StoredEntries {
        let read = || self.reader.waiting(&query);
        read::stored(read::until_available(&self.parked_events, read).await)
    }
}
