//! The port of the ledger: what delivery and recovery need of it.
//!
//! Every call waits while the database is unavailable, and its effect is durable when it returns.
//! A caller that loses its partition drops the future. The commands and their rules are in
//! [`ledger_entry`](crate::domain::ledger_entry), the databases in `adapters::ledger`.

use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::ledger_entry::{Claim, ClaimResult, Park, RecoveredEntry, WriteResult};
use crate::domain::record::Position;
use crate::domain::wire::Message;

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
    fn settle(
        &self,
        key: Arc<str>,
        answer: Arc<Message>,
        at: Timestamp,
    ) -> impl Future<Output = WriteResult> + Send;

    /// Stores that the broker acknowledged the answer, with its position where that is known.
    fn mark_published(
        &self,
        key: Arc<str>,
        position: Option<Position>,
    ) -> impl Future<Output = ()> + Send;

    /// Reads the unfinished events of these partitions that Kafka does not deliver again.
    fn recover(
        &self,
        topic: Arc<str>,
        partitions: Vec<i32>,
    ) -> impl Future<Output = Recovered> + Send;
}

/// What previous owners left unfinished.
#[derive(Debug, Default)]
pub struct Recovered {
    /// In the order of the records.
    pub entries: Vec<RecoveredEntry>,
    /// Partitions that have an unreadable entry. `entries` has nothing of them, because starting
    /// some of their events would break the order within a session; the caller asks again.
    pub blocked_partitions: Vec<i32>,
}
