//! The port of the ledger: what delivery and recovery need of it.
//!
//! Every call waits while the database is unavailable, and its effect is durable when it returns.
//! A caller that loses its partition drops the future. The commands and their rules are in
//! [`ledger_entry`](crate::domain::ledger_entry), the databases in `adapters::ledger`.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::ledger_entry::{
    Claim, ClaimResult, Park, RecoveredEntry, RoomName, Settle, StoredIdentities, WaitsFor,
    WakeSession, WriteResult,
};
use crate::domain::record::Position;

/// The store of events that survives the process.
pub trait Ledger: Send + Sync + 'static {
    /// Whether the last access failed: consuming more records is pointless then.
    fn is_unavailable(&self) -> bool;

    /// Claims an event before its first call. A crash after this leaves the event in doubt, because
    /// a call may be in flight.
    fn claim(&self, claim: Claim) -> impl Future<Output = ClaimResult> + Send;

    /// Stores an event until its next attempt.
    fn park(&self, key: Arc<str>, park: Park) -> impl Future<Output = WriteResult> + Send;

    /// Stores the final answer before it is published (outbox). The first answer wins.
    fn settle(&self, key: Arc<str>, settle: Settle) -> impl Future<Output = WriteResult> + Send;

    /// Makes the first parked event of a session due, where no answer does.
    fn wake_session(&self, wake: WakeSession) -> impl Future<Output = ()> + Send;

    /// Whether an event of this session is parked whose record is ahead of this one in its partition, or
    /// was read in the ledger and claimed, and nobody here works on it: an instance that had lost the
    /// partition has claimed it, or this one did so in an earlier assignment. It is taken over later.
    /// `in_memory` are the offsets of the session's events that this process works on. Events that were
    /// released do not count: Kafka delivers them in their order.
    fn is_session_parked(
        &self,
        session_id: Arc<str>,
        before: Position,
        in_memory: Vec<i64>,
    ) -> impl Future<Output = bool> + Send;

    /// Whether an event of this session is answered and not published whose record is ahead of this one in
    /// its partition, and not ahead of the offset `from`.
    fn is_behind_unpublished(
        &self,
        session_id: Arc<str>,
        position: Position,
        from: i64,
    ) -> impl Future<Output = bool> + Send;

    /// Whether an event of this key may have been answered and forgotten: it has no entry, and
    /// entries as old as its record, which was recorded then, were pruned.
    fn forgot(&self, key: Arc<str>, recorded: Timestamp) -> impl Future<Output = bool> + Send;

    /// What was claimed with these records, finished events too.
    fn identities(&self, range: RecordRange) -> impl Future<Output = StoredIdentities> + Send;

    /// Stores that the broker acknowledged the answer, with its position where that is known.
    fn mark_published(
        &self,
        key: Arc<str>,
        position: Option<Position>,
    ) -> impl Future<Output = ()> + Send;

    /// Reads what previous owners of these partitions left: see [`Recovered`]. The partitions wait for
    /// it, so it takes no longer because a million events are parked.
    fn recover(
        &self,
        topic: Arc<str>,
        partitions: Vec<i32>,
    ) -> impl Future<Output = Recovered> + Send;

    /// Counts the parked events of [`Recovered::parked`]. This may take minutes; no event may wait for
    /// it. Events that are claimed or parked again meanwhile may be counted or not.
    fn count_parked(&self, query: CountQuery) -> impl Future<Output = Vec<ParkedCount>> + Send;

    /// Reads the entries of [`Recovered::entries`] again: one that nobody works on was claimed by an
    /// instance that had lost the partition.
    fn unfinished(
        &self,
        topic: Arc<str>,
        partitions: Vec<i32>,
    ) -> impl Future<Output = StoredEntries> + Send;

    /// Reads [`Recovered::parked`] again: an instance that had lost a partition may have parked events
    /// since, and nobody here knows of their waiting rooms.
    fn parked_groups(
        &self,
        topic: Arc<str>,
        partitions: Vec<i32>,
    ) -> impl Future<Output = Vec<ParkedGroup>> + Send;

    /// Reads the parked events of these partitions that are due.
    fn due(&self, query: DueQuery) -> impl Future<Output = DueEntries> + Send;

    /// Reads the events of a waiting room, the first seen first.
    fn waiting(&self, query: WaitingQuery) -> impl Future<Output = StoredEntries> + Send;
}

/// Some records of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordRange {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Their offsets.
    pub offsets: Range<i64>,
}

/// What previous owners left.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The events that are claimed or settled, not published, and whose record Kafka may not deliver
    /// again; in the order of the records.
    pub entries: Vec<RecoveredEntry>,
    /// Partitions that have an unreadable one of them. `entries` has nothing of them, because
    /// starting some of their events would break the order within a session; the caller asks again.
    pub blocked_partitions: Vec<i32>,
    /// The parked events, which stay in the ledger, in groups.
    pub parked: Vec<ParkedGroup>,
    /// The partitions that have parked events, also those that have only unreadable ones: the events
    /// behind them in their sessions have to wait as well.
    pub parked_partitions: Vec<i32>,
}

/// The parked events of one partition that wait for the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedGroup {
    /// The partition.
    pub partition: i32,
    /// What they wait for; never [`WaitsFor::Redelivery`].
    pub waits_for: WaitsFor,
    /// When the first of them was first seen.
    pub oldest: Timestamp,
    /// When that one is due by itself. In a waiting room it is the one that was tried last, so this is
    /// the time of the room's next probe.
    pub oldest_until: Timestamp,
}

/// Which parked events to count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountQuery {
    /// The topic.
    pub topic: Arc<str>,
    /// The partitions.
    pub partitions: Vec<i32>,
    /// Only those that were first seen before this time.
    pub seen_before: Timestamp,
}

/// The number of parked events of one partition that wait for the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedCount {
    /// The partition.
    pub partition: i32,
    /// What they wait for; never [`WaitsFor::Redelivery`].
    pub waits_for: WaitsFor,
    /// How many they are.
    pub events: u64,
}

/// Which due events to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueQuery {
    /// The topic.
    pub topic: Arc<str>,
    /// The partitions.
    pub partitions: Vec<DuePartition>,
    /// The current time.
    pub now: Timestamp,
    /// The most events past their deadline.
    pub overdue_limit: usize,
    /// The most other events.
    pub due_limit: usize,
}

/// A partition of which due events are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DuePartition {
    /// The partition.
    pub partition: i32,
    /// An event whose session was woken is wanted only up to this offset: ahead of a later one Kafka may
    /// still deliver events of its session.
    pub woken_up_to: i64,
}

/// Parked events that are due.
#[derive(Debug, Default)]
pub struct DueEntries {
    /// Past their deadline, whatever they waited for; the longest past first.
    pub overdue: StoredEntries,
    /// Their time has come, or their session was woken; the longest due first.
    pub due: StoredEntries,
    /// The earliest deadline after `now`; `None`: there is none.
    pub next_deadline: Option<Timestamp>,
    /// The earliest time after `now` at which an event that waits for its time is due.
    pub next_due: Option<Timestamp>,
    /// There are woken events beyond [`DuePartition::woken_up_to`].
    pub has_early: bool,
}

/// Which events of a waiting room to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingQuery {
    /// The topic.
    pub topic: Arc<str>,
    /// The partitions.
    pub partitions: Vec<i32>,
    /// The room.
    pub room: RoomName,
    /// The most events.
    pub limit: usize,
}

/// Entries that were read.
#[derive(Debug, Default)]
pub struct StoredEntries {
    /// Those that can be read.
    pub entries: Vec<RecoveredEntry>,
    /// Those that cannot be read. Their events wait, and so do the events behind them in their
    /// sessions.
    pub unreadable: Vec<UnreadableEntry>,
}

/// A parked event whose entry cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableEntry {
    /// Its key.
    pub key: Arc<str>,
    /// What an operator has to repair.
    pub why: String,
}
