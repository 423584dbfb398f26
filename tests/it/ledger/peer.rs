//! Ledgers for the suite, and the values that the tests store in them.
//!
//! A [`TestLedger`] is an empty ledger; its peers are the instances that share it. SQLite serves one
//! instance, so there a second peer replaces the first, as after a restart.

use std::{sync::Arc, sync::Mutex, time::Duration};

use handoff::clock::Clock;
use handoff::{
    adapters::ledger::{self, LedgerSettings, LedgerUrl, SqlLedger},
    domain::{
        ledger_entry::{
            Claim, ClaimResult, LedgerEntry, Park, RecordOrigin, RecoveredEntry, Settle,
            StoredIdentities, WaitsFor, WakeSession,
        },
        record::{Position, Record},
        wire::{Channel, Message},
    },
    ledger::{
        CountQuery, DueEntries, DuePartition, DueQuery, Ledger as _, ParkedCount, ParkedGroup,
        RecordRange, Recovered, StoredEntries, WaitingQuery,
    },
    sim::ledger::MemoryLedger,
};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::support::{pgbouncer::PgBouncer, postgres};

/// A ledger under test.
pub(super) enum TestLedger {
    Memory(MemoryLedger),
    Sqlite(TempDir, Mutex<Option<Peer>>),
    Postgres(String),
    /// Behind PgBouncer in transaction mode.
    Pooled {
        url: String,
        _bouncer: PgBouncer,
    },
}

/// The ledger as one owner sees it.
#[derive(Clone)]
pub(super) enum Peer {
    Memory(MemoryLedger),
    Database(SqlLedger, Arc<WriterTask>),
}

/// The writer; it ends when every clone of its ledger is dropped.
pub(super) struct WriterTask(Mutex<Option<JoinHandle<()>>>);

impl TestLedger {
    pub(super) fn memory() -> Self {
        Self::Memory(MemoryLedger::new("nobody", Clock::from_fn(now)))
    }

    pub(super) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap(), Mutex::default())
    }

    pub(super) async fn postgres() -> Self {
        Self::Postgres(postgres::schema().await)
    }

    pub(super) async fn pooled() -> Self {
        let bouncer = PgBouncer::start().await;
        let url = bouncer.database().await;
        Self::Pooled { url, _bouncer: bouncer }
    }

    /// The ledger as this owner sees it. With SQLite earlier peers are gone afterwards.
    pub(super) async fn peer(&self, owner: &str) -> Peer {
        match self {
            Self::Memory(memory) => Peer::Memory(memory.as_owner(owner)),
            Self::Sqlite(folder, current) => {
                let before = current.lock().unwrap().take();
                if let Some(before) = before {
                    before.abort().await;
                }
                let peer = open_when_free(&sqlite_url(folder), owner).await;
                *current.lock().unwrap() = Some(peer.clone());
                peer
            }
            Self::Postgres(url) | Self::Pooled { url, .. } => open(url, owner).await,
        }
    }

    /// For another process; `None`: it is in memory.
    pub(super) fn url(&self) -> Option<String> {
        match self {
            Self::Memory(_) => None,
            Self::Sqlite(folder, _) => Some(sqlite_url(folder)),
            Self::Postgres(url) | Self::Pooled { url, .. } => Some(url.clone()),
        }
    }

    /// Several owners can have it at once.
    pub(super) fn is_shared(&self) -> bool {
        !matches!(self, Self::Sqlite(..))
    }
}

pub(super) fn sqlite_url(folder: &TempDir) -> String {
    format!("sqlite://{}", folder.path().join("ledger.db").display())
}

pub(super) fn settings(url: &str, owner: &str) -> LedgerSettings {
    LedgerSettings {
        url: LedgerUrl::parse(url).unwrap(),
        owner: owner.into(),
        clock: Clock::from_fn(now),
        write_duration: handoff::telemetry::Metrics::new().ledger_write,
    }
}

pub(super) async fn open(url: &str, owner: &str) -> Peer {
    try_open(url, owner).await.unwrap_or_else(|error| panic!("{error:#}"))
}

/// Waits for the lock, because the thread of the previous writer ends a moment later.
async fn open_when_free(url: &str, owner: &str) -> Peer {
    for _ in 0..500 {
        match try_open(url, owner).await {
            Err(error) if format!("{error:#}").contains("in use by another") => {
                sleep(Duration::from_millis(10)).await;
            }
            opened => return opened.unwrap_or_else(|error| panic!("{error:#}")),
        }
    }
    panic!("the ledger stays in use")
}

pub(super) async fn try_open(url: &str, owner: &str) -> anyhow::Result<Peer> {
    let (ledger, work) = ledger::open(&settings(url, owner)).await?;
    #[expect(clippy::disallowed_methods, reason = "`Peer::end` awaits it")]
    let task = tokio::spawn(work);
    Ok(Peer::Database(ledger, Arc::new(WriterTask(Mutex::new(Some(task))))))
}

/// The error of an attempt to open it, as a person reads it.
pub(super) async fn refusal(url: &str) -> String {
    match try_open(url, "refused").await {
        Ok(_) => panic!("it opens"),
        Err(error) => format!("{error:#}"),
    }
}

/// The clock of the ledgers: it stands.
pub(super) fn now() -> Timestamp {
    at(1_000)
}

pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

pub(super) fn position(partition: i32, offset: i64) -> Position {
    Position { topic: "escalations".into(), partition, offset }
}

/// A claim of session `s`, whose record stands at partition 0 and this offset.
pub(super) fn claim(key: &str, offset: i64) -> Claim {
    let source = position(0, offset);
    let recorded_at = Some(at(offset));
    let (first_seen, deadline) = (at(0), Some(at(600)));
    let (session_id, origin) = (Some("s".into()), RecordOrigin::Ledger);
    let (key, at, expected_version) = (key.into(), at(1), None);
    Claim {
        key,
        session_id,
        source,
        recorded_at,
        first_seen,
        deadline,
        at,
        origin,
        expected_version,
    }
}

/// The record of a claim; its only header names the entry's key.
pub(super) fn record(claim: &Claim) -> Record {
    let value = Some(format!("{{\"id\":\"{}\"}}", claim.key).into_bytes());
    let (position, timestamp) = (claim.source.clone(), Some(at(-5)));
    let headers = vec![("key".into(), Some(claim.key.as_bytes().to_vec()))];
    Record { position, timestamp, key: Some(b"s".to_vec()), value, headers }
}

/// The key of the entry that holds this record.
pub(super) fn key_of(recovered: &RecoveredEntry) -> String {
    let key = recovered.record.headers[0].1.clone().expect("every record here names its key");
    String::from_utf8(key).unwrap()
}

pub(super) fn answer(text: &str) -> Arc<Message> {
    Arc::new(Message {
        channel: Channel::Outcomes,
        key: Some(b"s".to_vec()),
        value: Some(text.as_bytes().to_vec()),
        headers: vec![("handoff-status".into(), Some(b"queued".to_vec()))],
    })
}

/// Parks without the record: Kafka delivers it again.
pub(super) fn park_event(second: i64, snapshot: &str) -> Park {
    let (snapshot, note) = (snapshot.into(), "4 calls, last 60008".into());
    Park { until: at(second), waits_for: WaitsFor::Redelivery, snapshot, note, record: None }
}

/// Parks with the record, so that its offset may be committed.
pub(super) fn park_with_record(second: i64, claim: &Claim) -> Park {
    let (record, waits_for) = (Some(record(claim)), WaitsFor::Time);
    Park { record, waits_for, ..park_event(second, "[1]") }
}

/// Wakes the session of `claim`.
pub(super) fn wake_of(claim: &Claim) -> WakeSession {
    let Position { topic, partition, .. } = claim.source.clone();
    let session_id = claim.session_id.clone().expect("only an event of a session is parked");
    WakeSession { session_id, topic, partition, before_offset: None }
}

/// The due events of some partitions of the topic, with limits that no test reaches.
pub(super) fn due_query(partitions: &[i32], now: Timestamp) -> DueQuery {
    let all = |partition: &i32| DuePartition { partition: *partition, woken_up_to: i64::MAX };
    let (topic, partitions) = ("escalations".into(), partitions.iter().map(all).collect());
    DueQuery { topic, partitions, now, overdue_limit: 100, due_limit: 100 }
}

/// The parked events of some partitions of the topic.
pub(super) fn count_query(partitions: &[i32], seen_before: Timestamp) -> CountQuery {
    CountQuery { topic: "escalations".into(), partitions: partitions.to_vec(), seen_before }
}

impl Peer {
    pub(super) async fn claim(&self, claim: Claim) -> ClaimResult {
        match self {
            Self::Memory(ledger) => ledger.claim(claim).await,
            Self::Database(ledger, _) => ledger.claim(claim).await,
        }
    }

    pub(super) async fn park(&self, key: &str, park: Park) -> bool {
        let result = match self {
            Self::Memory(ledger) => ledger.park(key.into(), park).await,
            Self::Database(ledger, _) => ledger.park(key.into(), park).await,
        };
        result.is_done()
    }

    pub(super) async fn settle(&self, key: &str, answer: Arc<Message>) -> bool {
        self.settle_and_wake(key, answer, None).await
    }

    pub(super) async fn settle_and_wake(
        &self,
        key: &str,
        answer: Arc<Message>,
        wake: Option<WakeSession>,
    ) -> bool {
        let settle = Settle { answer, at: at(2), wake };
        let result = match self {
            Self::Memory(ledger) => ledger.settle(key.into(), settle).await,
            Self::Database(ledger, _) => ledger.settle(key.into(), settle).await,
        };
        result.is_done()
    }

    pub(super) async fn wake_session(&self, wake: WakeSession) {
        match self {
            Self::Memory(ledger) => ledger.wake_session(wake).await,
            Self::Database(ledger, _) => ledger.wake_session(wake).await,
        }
    }

    /// While it works on none of the session's events.
    pub(super) async fn is_session_parked(&self, session_id: &str, before: Position) -> bool {
        self.is_session_parked_beside(session_id, before, &[]).await
    }

    /// While it works on the session's events with these offsets.
    pub(super) async fn is_session_parked_beside(
        &self,
        session_id: &str,
        before: Position,
        in_memory: &[i64],
    ) -> bool {
        let (session_id, in_memory) = (session_id.into(), in_memory.to_vec());
        match self {
            Self::Memory(ledger) => ledger.is_session_parked(session_id, before, in_memory).await,
            Self::Database(ledger, _) => {
                ledger.is_session_parked(session_id, before, in_memory).await
            }
        }
    }

    pub(super) async fn is_behind_unpublished(
        &self,
        session_id: &str,
        position: Position,
        from: i64,
    ) -> bool {
        match self {
            Self::Memory(ledger) => {
                ledger.is_behind_unpublished(session_id.into(), position, from).await
            }
            Self::Database(ledger, _) => {
                ledger.is_behind_unpublished(session_id.into(), position, from).await
            }
        }
    }

    pub(super) async fn due(&self, query: DueQuery) -> DueEntries {
        match self {
            Self::Memory(ledger) => ledger.due(query).await,
            Self::Database(ledger, _) => ledger.due(query).await,
        }
    }

    pub(super) async fn unfinished(&self, partitions: &[i32]) -> StoredEntries {
        let (topic, partitions) = ("escalations".into(), partitions.to_vec());
        match self {
            Self::Memory(ledger) => ledger.unfinished(topic, partitions).await,
            Self::Database(ledger, _) => ledger.unfinished(topic, partitions).await,
        }
    }

    pub(super) async fn waiting(&self, query: WaitingQuery) -> StoredEntries {
        match self {
            Self::Memory(ledger) => ledger.waiting(query).await,
            Self::Database(ledger, _) => ledger.waiting(query).await,
        }
    }

    pub(super) async fn mark_published(&self, key: &str, position: Option<Position>) {
        match self {
            Self::Memory(ledger) => ledger.mark_published(key.into(), position).await,
            Self::Database(ledger, _) => ledger.mark_published(key.into(), position).await,
        }
    }

    pub(super) async fn recover(&self, topic: &str, partitions: &[i32]) -> Vec<RecoveredEntry> {
        self.recovered(topic, partitions).await.entries
    }

    pub(super) async fn recovered(&self, topic: &str, partitions: &[i32]) -> Recovered {
        let partitions = partitions.to_vec();
        match self {
            Self::Memory(ledger) => ledger.recover(topic.into(), partitions).await,
            Self::Database(ledger, _) => ledger.recover(topic.into(), partitions).await,
        }
    }

    pub(super) async fn parked_groups(&self, partitions: &[i32]) -> Vec<ParkedGroup> {
        let (topic, partitions) = ("escalations".into(), partitions.to_vec());
        match self {
            Self::Memory(ledger) => ledger.parked_groups(topic, partitions).await,
            Self::Database(ledger, _) => ledger.parked_groups(topic, partitions).await,
        }
    }

    pub(super) async fn count_parked(&self, query: CountQuery) -> Vec<ParkedCount> {
        let mut counts = match self {
            Self::Memory(ledger) => ledger.count_parked(query).await,
            Self::Database(ledger, _) => ledger.count_parked(query).await,
        };
        counts.sort_by_key(|count| (count.partition, count.waits_for.to_string()));
        counts
    }

    pub(super) async fn entry(&self, key: &str) -> Option<LedgerEntry> {
        match self {
            Self::Memory(ledger) => ledger.entry(key),
            Self::Database(ledger, _) => ledger.reader().entry(key).await.unwrap(),
        }
    }

    pub(super) async fn identities(&self, range: RecordRange) -> StoredIdentities {
        match self {
            Self::Memory(ledger) => ledger.identities(range).await,
            Self::Database(ledger, _) => ledger.identities(range).await,
        }
    }

    pub(super) async fn forgot(&self, key: &str, recorded: Timestamp) -> bool {
        match self {
            Self::Memory(ledger) => ledger.forgot(key.into(), recorded).await,
            Self::Database(ledger, _) => ledger.forgot(key.into(), recorded).await,
        }
    }

    pub(super) async fn prune(&self, before: Timestamp) -> u64 {
        self.try_prune(before).await.unwrap()
    }

    pub(super) async fn try_prune(&self, before: Timestamp) -> anyhow::Result<u64> {
        match self {
            Self::Memory(ledger) => Ok(ledger.prune(before)),
            Self::Database(ledger, _) => ledger.prune(before).await,
        }
    }

    /// Why the ledger is unavailable, if it is.
    pub(super) fn problem(&self) -> Option<String> {
        match self {
            Self::Memory(_) => None,
            Self::Database(ledger, _) => ledger.outage().map(|outage| outage.error),
        }
    }

    /// Ends the instance as `kill -9` does; commands in progress never complete.
    async fn abort(self) {
        if let Self::Database(_, task) = self {
            let work = task.0.lock().unwrap().take().expect("it ends once");
            work.abort();
            assert!(work.await.unwrap_err().is_cancelled());
        }
    }

    /// The instance stops; its ledger is closed when this returns.
    pub(super) async fn end(self) {
        if let Self::Database(ledger, task) = self {
            drop(ledger);
            let work = task.0.lock().unwrap().take().expect("it ends once");
            let ended = tokio::time::timeout(Duration::from_secs(10), work).await;
            ended.expect("nobody else holds the ledger").unwrap();
        }
    }
}
