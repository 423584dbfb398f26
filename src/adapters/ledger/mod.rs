//! The ledger: what is known of each event, in SQLite (embedded, one instance) or PostgreSQL (several).
//!
//! `writer` groups what is asked for into few transactions, in a `thread` of its own where the
//! database blocks; `round` decides what has to be read first, `known` has what need not be;
//! `sqlite` and `postgres` hold all the SQL of their database; `texts` is what stands in the
//! columns; `health` says whether the database answers.
//! What a command does to a row is `domain::ledger_entry::apply`, the same for every database.
//! This folder never decides anything about an escalation, and never says done before it is
//! durable.

mod health;
mod known;
mod postgres;
mod round;
mod sqlite;
mod texts;
mod thread;
mod writer;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::error;

use self::health::Health;
use self::writer::{Found, Job, Order, PRUNE_ROWS, Writer};
use crate::clock::Clock;
use crate::domain::ledger_entry::{
    Claim, ClaimResult, CommandResult, LedgerCommand, LedgerEntry, Parking, RecoveredEntry,
};
use crate::domain::record::Position;
use crate::domain::wire::outcome::Message;
use crate::ledger::Recovered;

/// What is said of a database without our tables.
pub const NOT_YET: &str = "it is not a ledger, or not one yet";

const RETRY: Duration = Duration::from_secs(1);
/// Between two history of pruning others have their turn.
const PRUNE_PAUSE: Duration = Duration::from_millis(50);

/// The task of the ledger: it works as long as anybody holds the ledger, and then ends.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Which database, and who we are.
#[derive(Clone)]
pub struct Settings {
    /// Where the ledger is.
    pub place: LedgerUrl,
    /// This process among all, those before and after it too: never used twice.
    pub owner: Arc<str>,
    /// The time.
    pub clock: Clock,
}

/// Where a ledger is.
#[derive(Clone)]
pub enum LedgerUrl {
    /// In a file.
    Sqlite(PathBuf),
    /// In a server, at this URL.
    Postgres(SecretString),
}

impl LedgerUrl {
    /// `sqlite://FILE` or `postgres://USER:PASSWORD@HOST/DATABASE?sslmode=..`; the error is a
    /// fragment that never quotes the URL.
    pub fn parse(url: &str) -> Result<Self, String> {
        if let Some(file) = url.strip_prefix("sqlite:") {
            let file = file.strip_prefix("//").unwrap_or(file);
            return match file {
                "" => Err("names no file: sqlite://handoff.db".into()),
                ":memory:" => Err("must be a file: what is in memory is lost in a crash".into()),
                file if file.contains(['?', '#']) => {
                    Err("takes no parameters for SQLite: sqlite://handoff.db".into())
                }
                file => Ok(Self::Sqlite(file.into())),
            };
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            postgres::options(url)?;
            return Ok(Self::Postgres(url.to_owned().into()));
        }
        Err("must begin with sqlite:// or postgres://".into())
    }
}

impl fmt::Display for LedgerUrl {
    /// Without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(file) => write!(f, "sqlite://{}", file.display()),
            Self::Postgres(url) => f.write_str(&postgres::describe(url.expose_secret())),
        }
    }
}

impl fmt::Debug for LedgerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The ledger; clones share it.
#[derive(Clone)]
pub struct Ledger {
    orders: mpsc::UnboundedSender<Order>,
    reader: Reader,
    writing: Arc<Health>,
}

/// Open the ledger for the service: created where it is absent, brought up to date, and ours.
pub async fn open(settings: &Settings) -> anyhow::Result<(Ledger, Work)> {
    let (orders, received) = mpsc::unbounded_channel();
    let writing = Arc::new(Health::of_writing());
    let parts = (received, writing.clone());
    let (reader, work): (Reader, Work) = match &settings.place {
        LedgerUrl::Sqlite(file) => {
            let file = file.clone();
            let store = spawn_blocking(move || sqlite::Store::open(&file)).await??;
            let reader = Reader::open(&settings.place).await?;
            (reader, thread::run(Writer::new(store, settings, parts).run())?)
        }
        LedgerUrl::Postgres(url) => {
            let store = postgres::Store::open(url).await?;
            let reader = Reader::open(&settings.place).await?;
            (reader, Box::pin(Writer::new(store, settings, parts).run()))
        }
    };
    Ok((Ledger { orders, reader, writing }, work))
}

impl Ledger {
    /// Why nothing goes on, if nothing does. Who only cannot look up holds up nobody else.
    pub fn problem(&self) -> Option<String> {
        self.writing.problem()
    }

    /// Forget what was published before then, a few rows at a time; how many it were.
    pub async fn prune(&self, before: Timestamp) -> u64 {
        let mut pruned = 0;
        loop {
            let (reply, answer) = oneshot::channel();
            let rows = self.order(Order::Prune(before, reply), answer).await;
            pruned += rows;
            if i64::try_from(rows).is_ok_and(|rows| rows < PRUNE_ROWS) {
                return pruned;
            }
            sleep(PRUNE_PAUSE).await;
        }
    }

    /// The same ledger, for reading.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    async fn ask(&self, key: Arc<str>, command: LedgerCommand) -> CommandResult {
        let (reply, answer) = oneshot::channel();
        self.order(Order::Do(Job { key, command, reply }), answer).await
    }

    async fn done(&self, key: Arc<str>, command: LedgerCommand) -> bool {
        self.ask(key, command).await == CommandResult::Done(true)
    }

    async fn order<T>(&self, order: Order, answer: oneshot::Receiver<T>) -> T {
        // A refused order drops its sender, and so does a writer that ended.
        drop(self.orders.send(order));
        match answer.await {
            Ok(answer) => answer,
            // The writer ends before its users only when the process does.
            Err(_) => std::future::pending().await,
        }
    }
}

impl crate::ledger::Ledger for Ledger {
    fn is_unavailable(&self) -> bool {
        self.problem().is_some()
    }

    async fn claim(&self, claim: Claim) -> ClaimResult {
        match self.ask(claim.key.clone(), LedgerCommand::Claim(Box::new(claim))).await {
            CommandResult::Claimed(claimed) => claimed,
            CommandResult::Done(_) => unreachable!("a claim is answered by what was claimed"),
        }
    }

    async fn park(&self, key: Arc<str>, parking: Parking) -> bool {
        self.done(key, LedgerCommand::Park(parking)).await
    }

    async fn settle(&self, key: Arc<str>, answer: Arc<Message>, at: Timestamp) -> bool {
        self.done(key, LedgerCommand::Settle { answer, at }).await
    }

    async fn published(&self, key: Arc<str>, place: Option<Position>) {
        self.done(key, LedgerCommand::Publish { place }).await;
    }

    async fn recover(&self, topic: Arc<str>, partitions: Vec<i32>) -> Recovered {
        let health = Health::of_looking_up(&partitions);
        loop {
            match self.reader.recover(&topic, &partitions).await {
                Ok(rows) => {
                    health.well();
                    return recover(rows);
                }
                Err(error) => health.ill(&error),
            }
            sleep(RETRY).await;
        }
    }
}

/// A ledger for reading only, also while the service has it: for the tools.
#[derive(Clone)]
pub enum Reader {
    /// A file.
    Sqlite(Arc<sqlite::Reader>),
    /// A server.
    Postgres(Arc<postgres::Reader>),
}

impl Reader {
    /// Open it; it must be there and of this program's form.
    pub async fn open(place: &LedgerUrl) -> anyhow::Result<Self> {
        Ok(match place {
            LedgerUrl::Sqlite(file) => Self::Sqlite(Arc::new(sqlite::Reader::open(file).await?)),
            LedgerUrl::Postgres(url) => {
                Self::Postgres(Arc::new(postgres::Reader::open(url).await?))
            }
        })
    }

    /// Everything that is known of one event.
    pub async fn story(&self, key: &str) -> anyhow::Result<Option<LedgerEntry>> {
        let found = match self {
            Self::Sqlite(reader) => reader.story(key).await?,
            Self::Postgres(reader) => reader.story(key).await?,
        };
        found.map(|found| found.entry).transpose()
    }

    /// How many of these partitions are not settled and published, by their state.
    pub async fn stages(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> anyhow::Result<Vec<(String, i64)>> {
        match self {
            Self::Sqlite(reader) => reader.stages(topic, partitions).await,
            Self::Postgres(reader) => reader.stages(topic, partitions).await,
        }
    }

    /// What of these partitions is not published and was put away, in the order of the records; each
    /// with its partition, if it can be read.
    pub async fn recover(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> anyhow::Result<Vec<(i32, anyhow::Result<RecoveredEntry>)>> {
        let found = match self {
            Self::Sqlite(reader) => reader.recover(topic, partitions).await?,
            Self::Postgres(reader) => reader.recover(topic, partitions).await?,
        };
        let row = |Found { key, partition, entry }| {
            let lost = anyhow!("the ledger is damaged: {key:?} is not finished and has no record");
            (partition, entry.and_then(|entry: LedgerEntry| entry.recover(key).ok_or(lost)))
        };
        Ok(found.into_iter().map(row).collect())
    }
}

/// What can be read of the partitions of which all can be.
fn recover(found: Vec<(i32, anyhow::Result<RecoveredEntry>)>) -> Recovered {
    let (mut rows, mut unread) = (Vec::new(), Vec::new());
    for (partition, row) in found {
        match row {
            Ok(row) => rows.push(row),
            Err(error) => {
                error!("partition {partition} waits for the ledger: {error:#}");
                unread.push(partition);
            }
        }
    }
    rows.retain(|row| !unread.contains(&row.record.position.partition));
    unread.dedup();
    Recovered { rows, unread }
}
