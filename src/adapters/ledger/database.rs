//! The port between the ledger and its databases: rows, and the trait [`Database`].
//!
//! SQLite implements it in `sqlite`, PostgreSQL in `postgres`; the `writer` drives it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::ledger_entry::{LedgerEntry, WakeSession};

/// Part of the error for a database without the ledger's tables; `handoff check` recognizes it.
pub const NO_TABLES: &str = "no tables of handoff there: it is another database, or the \
                             service has not started on it yet";

/// Rows that one pruning step deletes at most.
pub(super) const PRUNE_ROWS: i64 = 500;

/// Between two pruning steps, so that others use the disk in between.
pub(super) const PRUNE_PAUSE: Duration = Duration::from_millis(50);

/// A row that is needed for a decision.
pub(super) struct RowRequest<'a> {
    pub(super) key: &'a str,
    /// Whether a stored answer is needed too. Only a claim needs it, and answers are large.
    pub(super) with_answer: bool,
}

/// A row as it is in the database.
pub(super) struct StoredRow {
    pub(super) key: Arc<str>,
    /// The partition of the record.
    pub(super) partition: i32,
    /// The entry, or why the row cannot be read.
    pub(super) entry: anyhow::Result<LedgerEntry>,
}

/// What a row says of the identity of its event, or of its dead letter.
#[derive(Debug)]
pub(super) struct IdentityRow {
    pub(super) offset: i64,
    pub(super) recorded_us: Option<i64>,
    pub(super) key: Arc<str>,
    /// `None`: a dead letter.
    pub(super) session_id: Option<Arc<str>>,
    pub(super) first_seen_us: i64,
    pub(super) deadline_us: Option<i64>,
    pub(super) is_answered: bool,
}

/// The parked rows of one partition that wait for the same; see
/// [`ParkedGroup`](crate::ledger::ParkedGroup).
#[derive(Debug)]
pub(super) struct ParkedRows {
    pub(super) partition: i32,
    pub(super) waits_for: String,
    pub(super) oldest_us: i64,
    pub(super) oldest_until_us: i64,
}

/// Their number; see [`ParkedCount`](crate::ledger::ParkedCount).
#[derive(Debug)]
pub(super) struct CountedRows {
    pub(super) partition: i32,
    pub(super) waits_for: String,
    pub(super) events: i64,
}

/// Parked rows of one partition that wait for the same on one route; see
/// [`ParkedWait`](super::ParkedWait).
#[derive(Debug)]
pub(super) struct WaitRows {
    pub(super) partition: i32,
    pub(super) waits_for: String,
    pub(super) route: Option<String>,
    pub(super) is_in_doubt: bool,
    pub(super) found_nobody: bool,
    pub(super) events: i64,
    pub(super) oldest_us: i64,
}

/// The rows that are due; see [`DueEntries`](crate::ledger::DueEntries).
#[derive(Default)]
pub(super) struct DueRows {
    pub(super) overdue: Vec<StoredRow>,
    pub(super) due: Vec<StoredRow>,
    pub(super) next_deadline_us: Option<i64>,
    pub(super) next_due_us: Option<i64>,
    pub(super) has_early: bool,
}

/// A row as it is to be written.
#[derive(Debug)]
pub(super) struct RowChange {
    pub(super) key: Arc<str>,
    pub(super) next: LedgerEntry,
    /// The session whose next parked event this change makes due. It belongs to the same
    /// transaction, and to neither the version nor the history of the event that it makes due.
    pub(super) wake: Option<WakeSession>,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowWrite {
    /// It is stored.
    Written,
    /// Not written: another instance has changed the row since it was read.
    Outdated,
    /// Not written: another session has locked the row, for example with an open transaction.
    Locked,
}

/// What became of a batch.
pub(super) struct BatchWrite {
    /// For each change.
    pub(super) rows: Vec<RowWrite>,
    /// The sessions that are still to be woken, because their next parked event is locked.
    pub(super) locked_wakes: Vec<WakeSession>,
}

/// Decides which rows to write, from the rows that were read.
pub(super) type Decide<'a> = &'a mut (dyn FnMut(Vec<StoredRow>) -> Arc<[RowChange]> + Send + 'a);

/// A database, as the writer needs it. Each write is durable when its future completes.
pub(super) trait Database: Send + 'static {
    /// Writes without reading, each row only over the version before it. The sessions of the rows
    /// that were written are woken after all of them, as of `now`. A row that another session has
    /// locked delays the others by no more than a fraction of a second.
    fn write(
        &mut self,
        changes: &[RowChange],
        now: Timestamp,
    ) -> impl Future<Output = anyhow::Result<BatchWrite>> + Send;

    /// Reads, decides and writes. A row that another instance changed between the reading and the
    /// writing is not written.
    fn read_and_write(
        &mut self,
        requests: &[RowRequest<'_>],
        decide: Decide<'_>,
        now: Timestamp,
    ) -> impl Future<Output = anyhow::Result<BatchWrite>> + Send;

    /// Makes the first parked event of each session due, where it waits for its session. Commands wait
    /// behind it, so it skips such an event where another session has locked it; returns which
    /// wakes are done.
    fn wake(
        &mut self,
        wakes: &[WakeSession],
        now: Timestamp,
    ) -> impl Future<Output = anyhow::Result<Vec<bool>>> + Send;

    /// Deletes some of the entries that were published before this time; returns how many. Commands wait
    /// behind it, so it takes no longer than a fraction of a second. A database that many connections
    /// can write has nothing to do here: it is pruned on another one.
    fn prune(&mut self, before: Timestamp) -> impl Future<Output = anyhow::Result<u64>> + Send;

    /// Checks that the database accepts writes.
    fn ping(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Closes the connection.
    fn close(self) -> impl Future<Output = ()> + Send;
}
