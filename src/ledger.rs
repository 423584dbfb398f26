//! The port of the ledger: what is remembered of every event, as the walk needs it.
//!
//! Calls are named by the question they answer. Each of them waits as long as the database is
//! away, and is durable when it returns; the caller drops the future when its partition goes.
//! This file never names a database.

use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::ledger_entry::{Claim, ClaimResult, Parking, RecoveredEntry};
use crate::domain::record::Position;
use crate::domain::wire::outcome::Message;

/// What outlives the process.
pub trait Ledger: Send + Sync + 'static {
    /// It did not answer when it was asked last: nothing new is worth taking in.
    fn is_unavailable(&self) -> bool;

    /// Is this record's event ours to work on, and what is known of it? From its return on, a
    /// call may be out.
    fn claim(&self, claim: Claim) -> impl Future<Output = ClaimResult> + Send;

    /// Put it away. False: it is not ours any more, settled or claimed by somebody else.
    fn park(&self, key: Arc<str>, parking: Parking) -> impl Future<Output = bool> + Send;

    /// Its final answer: the first one wins, and only the owner's. False: it changed nothing.
    fn settle(
        &self,
        key: Arc<str>,
        answer: Arc<Message>,
        at: Timestamp,
    ) -> impl Future<Output = bool> + Send;

    /// The broker has acknowledged its answer, at this place where that is known.
    fn published(&self, key: Arc<str>, place: Option<Position>) -> impl Future<Output = ()> + Send;

    /// What of these partitions is not published and not delivered by Kafka again, in the order of
    /// the records: for their new owner.
    fn recover(
        &self,
        topic: Arc<str>,
        partitions: Vec<i32>,
    ) -> impl Future<Output = Recovered> + Send;
}

/// What an earlier owner left.
#[derive(Debug, Default)]
pub struct Recovered {
    /// In the order of the records.
    pub rows: Vec<RecoveredEntry>,
    /// Partitions of which something cannot be read: nothing of them is in `rows`; ask again.
    pub unread: Vec<i32>,
}
