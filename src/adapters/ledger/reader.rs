//! A ledger that is only read, also while the service has it open.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::ListedEntry;
use super::columns::parse_position;
use super::database::{CountedRows, DueRows, IdentityRow, ParkedRows, StoredRow};
use super::parked_waits::{self, ParkedWait};
use super::postgres::PostgresReader;
use super::sqlite::SqliteReader;
use super::url::LedgerUrl;
use crate::domain::ledger_entry::{LedgerEntry, key};
use crate::domain::record::Position;
use crate::ledger::{CountQuery, DuePartition, DueQuery, RecordRange, WaitingQuery};

/// How far the clocks of publishers and workers may differ.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(300);

/// A ledger, open for reading; clones share it.
#[derive(Clone)]
pub enum LedgerReader {
    /// In a file.
    Sqlite(Arc<SqliteReader>),
    /// In a server.
    Postgres(Arc<PostgresReader>),
}

impl LedgerReader {
    /// Opens it; fails where it does not exist or has another schema than this program's.
    pub async fn open(url: &LedgerUrl) -> anyhow::Result<Self> {
        Ok(match url {
            LedgerUrl::Sqlite(file) => Self::Sqlite(Arc::new(SqliteReader::open(file).await?)),
            LedgerUrl::Postgres(url) => Self::Postgres(Arc::new(PostgresReader::open(url).await?)),
        })
    }

    /// The entry of one event, with record, answer and history.
    pub async fn entry(&self, key: &str) -> anyhow::Result<Option<LedgerEntry>> {
        let row = match self {
            Self::Sqlite(reader) => reader.row(key).await?,
            Self::Postgres(reader) => reader.row(key).await?,
        };
        row.map(|row| row.entry).transpose()
    }

    /// The number of unpublished entries of these partitions, by the word for their state.
    pub async fn unpublished_by_state(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> anyhow::Result<Vec<(String, i64)>> {
        match self {
            Self::Sqlite(reader) => reader.unpublished_by_state(topic, partitions).await,
            Self::Postgres(reader) => reader.unpublished_by_state(topic, partitions).await,
        }
    }

    /// The unfinished entries of these partitions whose record is stored, in the order of the
    /// records, without the parked ones.
    pub(super) async fn unfinished(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> anyhow::Result<Vec<StoredRow>> {
        match self {
            Self::Sqlite(reader) => reader.unfinished(topic, partitions).await,
            Self::Postgres(reader) => reader.unfinished(topic, partitions).await,
        }
    }

    /// The entries with this id, and those of the records at this position, the first seen last:
    /// a position occurs again when its topic is created again.
    pub async fn entries(&self, name: &str) -> anyhow::Result<Vec<(Arc<str>, LedgerEntry)>> {
        let names = key::of_name(name);
        let mut keys = match self {
            Self::Sqlite(reader) => reader.keys(names).await?,
            Self::Postgres(reader) => reader.keys(names).await?,
        };
        // The key of an event with an id of its own does not name its record.
        if let Ok(Position { topic, partition, offset }) = parse_position(name) {
            let offsets = offset..offset.saturating_add(1);
            let rows = self.identities(&RecordRange { topic, partition, offsets }).await?;
            keys.extend(rows.into_iter().map(|row| row.key));
            keys.sort_unstable();
            keys.dedup();
        }
        let mut entries = Vec::new();
        for key in keys {
            // One that was pruned since is gone.
            if let Some(entry) = self.entry(&key).await? {
                entries.push((key, entry));
            }
        }
        entries.sort_by_key(|(_, entry)| Reverse(entry.first_seen));
        Ok(entries)
    }

    /// Whether the entry of this key may have been pruned.
    pub(super) async fn forgot(&self, key: &Arc<str>, recorded: Timestamp) -> anyhow::Result<bool> {
        let recorded = recorded.saturating_sub(MAX_CLOCK_SKEW).unwrap_or(Timestamp::MIN);
        match self {
            Self::Sqlite(reader) => reader.forgot(key, recorded.as_microsecond()).await,
            Self::Postgres(reader) => reader.forgot(key, recorded.as_microsecond()).await,
        }
    }

    /// What the entries of these records say of the identity of their events.
    pub(super) async fn identities(&self, range: &RecordRange) -> anyhow::Result<Vec<IdentityRow>> {
        match self {
            Self::Sqlite(reader) => reader.identities(range).await,
            Self::Postgres(reader) => reader.identities(range).await,
        }
    }

    /// The parked entries of these partitions in groups.
    pub(super) async fn groups(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> anyhow::Result<Vec<ParkedRows>> {
        match self {
            Self::Sqlite(reader) => reader.groups(topic, partitions).await,
            Self::Postgres(reader) => reader.groups(topic, partitions).await,
        }
    }

    /// The number of parked entries per group; several rows of one group add up.
    pub(super) async fn count_parked(
        &self,
        query: &CountQuery,
    ) -> anyhow::Result<Vec<CountedRows>> {
        match self {
            Self::Sqlite(reader) => reader.count_parked(query).await,
            Self::Postgres(reader) => reader.count_parked(query).await,
        }
    }

    /// The parked entries that are due.
    pub(super) async fn due(&self, query: &DueQuery) -> anyhow::Result<DueRows> {
        match self {
            Self::Sqlite(reader) => reader.due(query).await,
            Self::Postgres(reader) => reader.due(query).await,
        }
    }

    /// The parked entries of these partitions with the earliest deadlines, at most `limit`.
    pub async fn most_urgent(
        &self,
        topic: &Arc<str>,
        partitions: &[i32],
        limit: usize,
    ) -> anyhow::Result<Vec<ListedEntry>> {
        // Every entry is past its deadline at the end of time.
        let partitions =
            partitions.iter().map(|&partition| DuePartition { partition, woken_up_to: -1 });
        let query = DueQuery {
            topic: topic.clone(),
            partitions: partitions.collect(),
            now: Timestamp::MAX,
            overdue_limit: limit,
            due_limit: 0,
        };
        let rows = self.due(&query).await?.overdue;
        let listed = |StoredRow { key, entry, .. }| ListedEntry { key, entry };
        Ok(rows.into_iter().map(listed).collect())
    }

    /// All parked entries of these partitions, added up. It reads each of them, in steps that hold up no
    /// other read: a million take many seconds.
    pub async fn parked_waits(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> anyhow::Result<Vec<ParkedWait>> {
        let rows = match self {
            Self::Sqlite(reader) => reader.parked_waits(topic, partitions).await?,
            Self::Postgres(reader) => reader.parked_waits(topic, partitions).await?,
        };
        Ok(parked_waits::add_up(rows))
    }

    /// The entries of a waiting room.
    pub(super) async fn waiting(&self, query: &WaitingQuery) -> anyhow::Result<Vec<StoredRow>> {
        match self {
            Self::Sqlite(reader) => reader.waiting(query).await,
            Self::Postgres(reader) => reader.waiting(query).await,
        }
    }

    /// See [`Ledger::is_behind_unpublished`](crate::ledger::Ledger::is_behind_unpublished).
    pub(super) async fn is_behind_unpublished(
        &self,
        session_id: &Arc<str>,
        position: &Position,
        from: i64,
    ) -> anyhow::Result<bool> {
        match self {
            Self::Sqlite(reader) => reader.is_behind_unpublished(session_id, position, from).await,
            Self::Postgres(reader) => {
                reader.is_behind_unpublished(session_id, position, from).await
            }
        }
    }

    /// See [`Ledger::is_session_parked`](crate::ledger::Ledger::is_session_parked).
    pub(super) async fn is_session_parked(
        &self,
        session_id: &Arc<str>,
        before: &Position,
        in_memory: &[i64],
    ) -> anyhow::Result<bool> {
        match self {
            Self::Sqlite(reader) => reader.is_session_parked(session_id, before, in_memory).await,
            Self::Postgres(reader) => reader.is_session_parked(session_id, before, in_memory).await,
        }
    }
}
